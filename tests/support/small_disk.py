"""A file system that is small enough to be filled."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.environment import skip_unless

BLOCK = b"x" * 4096


class SmallDisk:
    """`fill` takes what is free, `free` gives it back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, *, but: int = 0) -> None:
        """Take all the room that is left, but for so many bytes."""
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(BLOCK)
        os.truncate(self._filler, self._filler.stat().st_size - but)

    def free(self) -> None:
        self._filler.unlink()

    def grow(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.folder], check=True)

    @property
    def files(self) -> list[Path]:
        """What is there besides the filler."""
        return [path for path in self.folder.iterdir() if path != self._filler]


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "2m", *, in_use: bool = False) -> Iterator[SmallDisk]:
    """A file system of this size at a folder; the test is skipped where none can be mounted. At the end nobody may have
    a file open there, unless it is still `in_use`."""
    skip_unless("" if os.geteuid() == 0 and shutil.which("mount") else "only root can mount a small file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    skip_unless(f"a small file system cannot be mounted here: {mounted.stderr.strip()}" if mounted.returncode else "")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", *(["--lazy"] if in_use else []), folder], check=True)
