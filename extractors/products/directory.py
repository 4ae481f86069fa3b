"""A directory as the store, such as `/eodata` where it is mounted: its files are read in place."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from extractors import failpoints
from extractors.config import Directory
from extractors.errors import (
    ConfigurationError,
    DeliveryError,
    ExtractionError,
    ObjectNotFoundError,
    StoreUnavailableError,
    one_line,
)
from extractors.model import StoredObject
from extractors.products.disk import disk_errors
from extractors.products.source import Source, TooSlowError, too_many

MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
REFUSED = {errno.EACCES, errno.EPERM}
BYTES_PER_READ = 1024**2


class DirectoryStore(Source):
    """Files below a directory, whose paths in there are their keys. Nothing in it is ever changed or removed."""

    def __init__(self, settings: Directory, config_name: str = "s3_config.json") -> None:
        super().__init__(f"directory {settings.directory}", f"{config_name}: s3.directory", settings.retry_seconds)
        self._root = Path(settings.directory)
        if not self._root.is_dir():
            raise ConfigurationError(f"{self.setting}: {self._root} is no directory; mount it, or write another one")

    def list_objects(self, prefix: str, most: int | None = None) -> list[StoredObject]:
        """All files whose paths start with `prefix`, in the order of their keys. UnusableSceneError if there are more
        than `most`."""
        limit = None if most is None else most + 1
        found = self._ask(f"listing {prefix}", lambda: [*islice(self._files(prefix), limit)])
        if most is not None and len(found) > most:
            raise too_many(prefix, most)
        return sorted(found, key=lambda item: item.key)

    def holds(self, prefix: str) -> bool:
        """Whether there is any file whose path starts with `prefix`."""
        return self._ask(f"listing {prefix}", lambda: any(True for _ in self._files(prefix)))

    def list_folders(self, prefix: str) -> list[str]:
        """Names of the folders right below `prefix`, in their order."""

        def names() -> list[str]:
            try:
                with os.scandir(self._root / prefix) as entries:
                    return sorted(entry.name for entry in entries if entry.is_dir())
            except OSError as error:
                if error.errno in MISSING:
                    return []
                raise

        return self._ask(f"listing {prefix}", names)

    def read(self, item: StoredObject, start: int, length: int) -> bytes:
        """A piece of a file, which is shorter where the file ends."""

        def piece() -> bytes:
            with (self._root / item.key).open("rb") as file:
                file.seek(start)
                return file.read(length)

        return self._ask(f"reading {item.key}", piece)

    def _files(self, prefix: str) -> Iterator[StoredObject]:
        def failed(error: OSError) -> None:
            if error.errno not in MISSING:
                raise error

        for folder, _, names in os.walk(self._root / prefix.rpartition("/")[0], onerror=failed, followlinks=True):
            for name in names:
                path = Path(folder, name)
                key = path.relative_to(self._root).as_posix()
                # Not what is no file, nor a link that leads nowhere.
                if key.startswith(prefix) and path.is_file():
                    yield StoredObject(key, path.stat().st_size, "")

    def download(
        self,
        objects: Mapping[Path, StoredObject],
        description: str = "download",
        arrived: Callable[[Path], object] = lambda _: None,
        seconds: float | None = None,
    ) -> None:
        """Put a link to each file at its path."""
        for path, item in sorted(objects.items(), key=lambda pair: pair[1].size):
            failpoints.reach("file_started")
            source = self._root.absolute() / item.key
            size = self._ask(f"looking for {item.key}", source.stat).st_size
            if size != item.size:
                raise DeliveryError(
                    f"{item.key}: {size:,} bytes now, {item.size:,} when it was listed; somebody writes it"
                )
            failpoints.reach("file_temp_written")
            with disk_errors(path):
                path.unlink(missing_ok=True)
                path.symlink_to(source)
            failpoints.reach("file_renamed")
            arrived(path)

    def is_exact(self, item: StoredObject) -> bool:
        """Never: somebody may still be writing it."""
        return False

    def confirm(self, objects: Sequence[StoredObject]) -> None:
        """Raise StoreUnavailableError if one of these files cannot be read to its end."""
        for item in objects:
            self._retrying(f"reading {item.key}", partial(_read, self._root / item.key), threading.Event())

    def _failure(self, error: Exception, doing: str) -> tuple[ExtractionError, bool] | None:
        if isinstance(error, TooSlowError):
            return StoreUnavailableError(f"{self.name} does not answer while {doing} ({one_line(error)})"), True
        if not isinstance(error, OSError):
            return None
        if error.errno in MISSING:
            return ObjectNotFoundError(f"the file is not in {self.name} (while {doing})"), False
        unavailable = StoreUnavailableError(
            f"{self.name} cannot be read while {doing} ({one_line(error)}); see whether it is mounted and who may read "
            "it"
        )
        return unavailable, error.errno not in REFUSED


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(BYTES_PER_READ):
            pass
