"""Folders for the files of one attempt at a scene. Each is locked by the process that works in it, which is how others
see that its owner has died; nothing in them is ever used again."""

import fcntl
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

LOCK = "lock"
NAME = re.compile(r"\d+_[a-z0-9_]{8}", re.ASCII)
# A folder without its lock has just been made, or is just being removed; older than this, its owner died between.
UNLOCKED_SECONDS = 3600


@contextmanager
def scratch(data_dir: Path, scene: int) -> Iterator[Path]:
    """A folder that no other process may enter or use, removed with all that is in it when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"{scene}_", dir=data_dir))
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(data_dir: Path) -> None:
    """Remove the folders whose owners have died."""
    for folder in data_dir.iterdir():
        if NAME.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink() and _is_abandoned(folder):
            log.info("removing %s, left by a worker that died", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    with suppress(OSError):
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return time.time() - folder.stat().st_mtime > UNLOCKED_SECONDS
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(lock)
        return True
    return False  # locked, or not ours to judge
