"""The file of `--out`: whole or not at all, and nothing but a file is ever replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from extractors.errors import ConfigurationError, DiskFullError
from operations.output import check_out, whole_file
from tests.support.small_disk import SmallDisk


def write(file: Path, content: bytes, private: bool = False) -> None:
    with whole_file(file, private) as part:
        part.write(content)


def test_a_new_file_and_one_that_is_there(tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    for content in (b"one", b"two"):
        write(file, content)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]
    plain = tmp_path / "plain"
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode
    write(file, b"secret", private=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "a.html"
    file.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(file) as part:
        part.write(b"half")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_pipes_and_devices_are_not_replaced(tmp_path: Path) -> None:
    """Not even by root, nor by way of a link: /dev/null would become a file."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for file in (pipe, link, tmp_path, tmp_path / "no" / "folder", Path("/dev/null")):
        with pytest.raises(ConfigurationError, match=r"^--out: "):
            check_out(file)
    for file in (pipe, link):
        with pytest.raises(ConfigurationError, match=r"^--out: "):
            write(file, b"content")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert link.is_symlink()


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link, file = tmp_path / "latest.html", tmp_path / "folder" / "a.html"
    link.symlink_to(file)
    for content in (b"one", b"two"):
        write(link, content)
        assert file.read_bytes() == content
        assert link.is_symlink()


def test_a_full_disk_is_an_outage(disk: SmallDisk) -> None:
    disk.fill(but=4096)
    with pytest.raises(DiskFullError, match=r"^--out: "):
        write(disk.folder / "a.html", bytes(1_000_000))
    assert disk.files == []
