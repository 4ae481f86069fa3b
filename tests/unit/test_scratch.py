"""The folder of one attempt."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from extractors.runtime.scratch import scratch, sweep


def test_gone_when_the_block_ends_also_with_an_error(tmp_path: Path) -> None:
    with suppress(KeyError), scratch(tmp_path, 17) as folder:
        (folder / "image").mkdir()
        (folder / "image" / "data").write_bytes(b"x")
        assert folder.name.startswith("17_")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_gone_although_a_transfer_still_writes(tmp_path: Path) -> None:
    """A transfer that has outlived the attempt puts file after file into the folder while that is removed."""
    ended = threading.Event()
    written = threading.Event()

    def transfer(folder: Path) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            with suppress(OSError):
                (folder / f"{number}.part").write_bytes(b"x")
                (folder / f"{number}.part").rename(folder / f"{number}")
            if number > 100:
                written.set()

    for _ in range(20):
        ended.clear()
        written.clear()
        with scratch(tmp_path, 17) as folder:
            thread = threading.Thread(target=transfer, args=(folder,))
            thread.start()
            written.wait(10)
        ended.set()
        thread.join()
        assert list(tmp_path.iterdir()) == []


def test_swept_unless_its_owner_lives(tmp_path: Path) -> None:
    with scratch(tmp_path, 17) as folder:
        sweep(tmp_path)
        assert folder.is_dir()
        abandoned = tmp_path / "18_abcdefgh"
        abandoned.mkdir()
        (abandoned / "lock").touch()
        sweep(tmp_path)
        assert not abandoned.exists()


def test_a_removal_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    """Its worker was killed while it removed the folder, before or after the lock was gone."""
    for name in (".removing_abcdefgh", ".removing_ijklmnop"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "image").write_bytes(b"x")
    (tmp_path / ".removing_abcdefgh" / "lock").touch()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
