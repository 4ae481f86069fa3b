"""The disk that products are brought to."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from extractors.errors import BROKEN_DISK, NO_ROOM, DiskError, DiskFullError, SceneError, one_line

# Room that must stay on the disk beyond the files themselves.
SPARE_BYTES = 1_000_000


def check_room(folders: set[Path], needed: int) -> None:
    """Raise DiskFullError if `needed` bytes, and some more, do not fit into one of the folders."""
    needed += SPARE_BYTES
    for folder in folders:
        with disk_errors(folder):
            free = shutil.disk_usage(folder).free
        if free < needed:
            raise DiskFullError(
                f"no room in {folder}: {free / 1e6:,.3f} MB are free, {needed / 1e6:,.3f} MB are needed; make room, or "
                "name another directory"
            )


@contextmanager
def disk_errors(path: Path, doing: str = "") -> Iterator[None]:
    """A block in which an error of the system is one of the disk that holds `path`: an outage. doing: what for."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFullError(f"no room in {path.parent}{doing}; make some") from error
        raise DiskError(f"{path.parent} cannot be written{doing} ({one_line(error)}); see the disk") from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """A block in which an error of the system is one of the file at `path`; whose fault, its source can tell."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM | BROKEN_DISK:
            raise
        raise SceneError(f"{path.name} cannot be read ({one_line(error)}); see what the store holds there") from error


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write to an unbuffered file, which may take less than it is given."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
