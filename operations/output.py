"""The file that `--out` names: it gets its name once all of it is on the disk; until then, what was there stays."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from extractors.errors import NO_ROOM, ConfigurationError, DiskFullError, one_line


def check_out(file: Path) -> None:
    """Raise ConfigurationError if the file could not be written, before anything is read. A device or a pipe cannot:
    it would be replaced by a file."""
    if not file.resolve().parent.is_dir() or (file.exists() and not file.is_file()):
        raise ConfigurationError(f"--out: {file} cannot be written; name a regular file, in a folder that is there")


@contextmanager
def whole_file(file: Path, private: bool = False) -> Iterator[IO[bytes]]:
    """What is written in the block becomes the file, or nothing does. private: only its owner may read it. Raises
    ConfigurationError, DiskFullError."""
    check_out(file)
    target = file.resolve()
    try:
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as part:
            try:
                yield part
                part.flush()
                os.fsync(part.fileno())
                if not private:  # as any new file
                    mask = os.umask(0)
                    os.umask(mask)
                    Path(part.name).chmod(0o666 & ~mask)
                Path(part.name).replace(target)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFullError(
                f"--out: no room for {file}: the disk is full; make some, or write elsewhere"
            ) from error
        raise ConfigurationError(f"--out: {file} cannot be written ({one_line(error)}); write it elsewhere") from error
