"""The checksums that a product's manifest holds of its files.

What the store announces says only that an object is as it was put there.
"""

import hashlib
import re
from pathlib import Path

from extractors.errors import SceneError
from extractors.products.layouts import MANIFEST

# Characters of the entry for one file.
LONGEST_ENTRY = 5_000
# By the number of hexadecimal digits: some manifests call SHA3 MD5.
ALGORITHMS = {32: "md5", 64: "sha3_256"}


class Manifest:
    """Compares files with their manifest as they arrive; the manifest may come before or after them, or not at all."""

    def __init__(self) -> None:
        self._checksums: dict[str, tuple[int, str]] | None = None
        self._waiting: list[Path] = []

    def arrived(self, path: Path) -> None:
        """Compare a file that is there; raises SceneError if it is not what the manifest says."""
        if path.name == MANIFEST:
            self._checksums = checksums(path.read_bytes().decode("utf-8", "replace"))
        else:
            self._waiting.append(path)
        if self._checksums is not None:
            while self._waiting:
                check(self._waiting.pop(), self._checksums)


def checksums(text: str) -> dict[str, tuple[int, str]]:
    """Size and checksum of each file in a manifest, by its name: where products lie, paths differ."""
    found = {}
    for rest in text.split("<byteStream")[1:]:
        entry = rest.partition("</byteStream>")[0][:LONGEST_ENTRY]
        size, place = re.search(r'\bsize="(\d{1,15})"', entry), re.search(r'\bhref="([^"]+)"', entry)
        checksum = re.search(r">\s*([0-9A-Fa-f]{32,64})\s*</checksum>", entry)
        if size and place and checksum:
            found[place[1].rpartition("/")[2]] = int(size[1]), checksum[1].lower()
    return found


def check(path: Path, known: dict[str, tuple[int, str]]) -> None:
    """Raise SceneError if a file has the size, but not the content, that its manifest says. Some manifests have made-up
    sizes: these are not of the files that are there."""
    size, checksum = known.get(path.name, (-1, ""))
    algorithm = ALGORITHMS.get(len(checksum))
    if algorithm is None or path.stat().st_size != size:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).hexdigest()
    if digest != checksum:
        raise SceneError(
            f"{path.name} is not what the product's {MANIFEST} says: its {algorithm} is {digest}, not {checksum}; "
            "replace the object"
        )
