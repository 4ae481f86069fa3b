"""A product's files, held against the checksums of its manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from extractors.errors import SceneError
from extractors.products.manifest import check, checksums

CONTENT = b"pixels"
SHA3, MD5 = hashlib.sha3_256(CONTENT).hexdigest(), hashlib.md5(CONTENT).hexdigest()


def entry(
    name: str = "B04.jp2",
    size: int = len(CONTENT),
    checksum: str = SHA3,
    kind: str = "SHA3-256",
    folder: str = "./GRANULE/",
) -> str:
    return (
        f'<dataObject ID="x"><byteStream mimeType="application/octet-stream" size="{size}">'
        f'<fileLocation locatorType="URL" href="{folder}{name}"/>'
        f'<checksum checksumName="{kind}">{checksum}</checksum></byteStream></dataObject>\n'
    )


def compare(folder: Path, *entries: str) -> None:
    """Check a band by a manifest that says this."""
    (folder / "B04.jp2").write_bytes(CONTENT)
    check(folder / "B04.jp2", checksums(f'<?xml version="1.0"?><x:XFDU>{"".join(entries)}</x:XFDU>'))


@pytest.mark.parametrize(
    "said",
    [
        entry(),
        entry(checksum=MD5, kind="MD5"),
        entry(checksum=SHA3.upper()),
        entry(kind="MD5"),
        entry(folder="/mnt/local/producer/x.SAFE/"),
        entry("B08.jp2", checksum="0" * 64),
        entry(size=988, checksum="0" * 64),
        entry(checksum="0" * 40),
        "",
        "<byteStream" * 1000,
        entry()[:100],
    ],
    ids=[
        "SHA3", "MD5", "capitals", "SHA3 that is called MD5", "other paths", "another file", "a made-up size",
        "another algorithm", "nothing", "nonsense", "cut",
    ],
)  # fmt: skip
def test_nothing_is_wrong(said: str, tmp_path: Path) -> None:
    compare(tmp_path, said)


@pytest.mark.parametrize("said", [entry(checksum="0" * 64), entry(checksum="0" * 32, kind="MD5")])
def test_another_content_than_the_manifest_s(said: str, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"^B04\.jp2 is not what the product's manifest\.safe says: its "):
        compare(tmp_path, entry("SCL.jp2"), said)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"^B04\.jp2 cannot be read"):
        check(tmp_path / "B04.jp2", checksums(entry()))


def test_a_long_manifest_takes_no_time() -> None:
    """Each beginning of an entry without its end, and each beginning of a checksum."""
    assert checksums("<byteStream" * 100_000 + "<checksum " * 100_000) == {}
