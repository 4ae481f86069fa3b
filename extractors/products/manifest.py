"""The checksums that a product's manifest holds of its files.

What the store announces says only that an object is as it was put there.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from extractors.errors import ConfigurationError, OutageError, SceneError, one_line
from extractors.model import StoredObject
from extractors.products.disk import readable
from extractors.products.layouts import MANIFEST
from extractors.products.source import Source

log = logging.getLogger(__name__)

# Characters of the entry for one file.
LONGEST_ENTRY = 5_000
# By the number of hexadecimal digits: some manifests call SHA3 MD5.
ALGORITHMS = {32: "md5", 64: "sha3_256"}


# Size and checksum of each file, by its name.
Checksums = Mapping[str, tuple[int, str]]


def fetch(store: Source, item: StoredObject, folder: Path) -> Checksums:
    """What a product's manifest says, which is brought into `folder`. Nothing if it cannot be had or read while the
    store gives answers: no number depends on it, so no scene fails because of it."""
    path = folder / item.file_name
    try:
        store.download({path: item}, f"{item.file_name} of the product")
        return checksums(path.read_bytes().decode("utf-8", "replace"))
    except (OutageError, ConfigurationError) as error:
        if not error.answered:
            raise
        reason = str(error)
    except (SceneError, OSError) as error:
        reason = one_line(error)
    log.warning("files are not compared with the product's %s, which cannot be had: %s", item.file_name, reason)
    return {}


def checksums(text: str) -> Checksums:
    """Those of a manifest. By names and not by paths, which differ from place to place."""
    found = {}
    for rest in text.split("<byteStream")[1:]:
        entry = rest.partition("</byteStream>")[0][:LONGEST_ENTRY]
        size, place = re.search(r'\bsize="(\d{1,15})"', entry), re.search(r'\bhref="([^"]+)"', entry)
        checksum = re.search(r">\s*([0-9A-Fa-f]{32,64})\s*</checksum>", entry)
        if size and place and checksum:
            found[place[1].rpartition("/")[2]] = int(size[1]), checksum[1].lower()
    return found


def check(path: Path, known: Checksums) -> None:
    """Raise SceneError if a file has the size, but not the content, that its manifest says, or cannot be read. Some
    manifests have made-up sizes: these are not of the files that are there."""
    size, checksum = known.get(path.name, (-1, ""))
    algorithm = ALGORITHMS.get(len(checksum))
    with readable(path):
        if algorithm is None or path.stat().st_size != size:
            return
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, algorithm).hexdigest()
    if digest != checksum:
        raise SceneError(
            f"{path.name} is not what the product's {MANIFEST} says: its {algorithm} is {digest}, not {checksum}; "
            "replace the object"
        )
