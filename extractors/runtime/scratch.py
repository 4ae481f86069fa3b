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
# What a folder is called until it is locked.
MAKING = ".making_"
# And while it is removed: nobody needs what is in it, so anybody may finish that.
REMOVING = ".removing_"
# A folder without its lock is just being made or removed; older than this, its owner died between.
UNLOCKED_SECONDS = 3600


@contextmanager
def scratch(data_dir: Path, scene: int) -> Iterator[Path]:
    """A folder that no other process may enter or use, removed with all that is in it when the block ends."""
    making = Path(tempfile.mkdtemp(prefix=MAKING, dir=data_dir))
    folder = data_dir / making.name.replace(MAKING, f"{scene}_")
    lock = os.open(making / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        # Locked before it has the name by which others look for abandoned ones.
        fcntl.flock(lock, fcntl.LOCK_EX)
        making.rename(folder)
        yield folder
    finally:
        # Under another name: a transfer that has not ended yet finds no folder that it could put its file into.
        doomed = data_dir / making.name.replace(MAKING, REMOVING)
        with suppress(OSError):
            folder.rename(doomed)
        for remains in (doomed, making, folder):
            shutil.rmtree(remains, ignore_errors=True)
        os.close(lock)


def sweep(data_dir: Path) -> None:
    """Remove the folders whose owners have died."""
    for folder in data_dir.iterdir():
        ours = NAME.fullmatch(folder.name) or folder.name.startswith((MAKING, REMOVING))
        if ours and folder.is_dir() and not folder.is_symlink() and _is_abandoned(folder):
            if not folder.name.startswith(REMOVING):
                log.info("removing %s, left by a worker that died", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    if folder.name.startswith(REMOVING):
        return True
    with suppress(OSError):
        young = time.time() - folder.stat().st_mtime < UNLOCKED_SECONDS
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return not young
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(lock)
        return not (young and folder.name.startswith(MAKING))
    return False  # locked, or not ours to judge
