"""Where products lie, whether in an S3 store or in a directory: what both have in common."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

from extractors.backoff import Backoff
from extractors.errors import ConfigurationError, ExtractionError, ObjectNotFoundError, SceneError, UnusableSceneError
from extractors.model import StoredObject

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# A product holds a few hundred objects.
MOST_OBJECTS_OF_A_PRODUCT = 10_000
# An answer other than an object's content, boto3's own attempts and pauses included.
LONGEST_ANSWER_SECONDS = 300.0
PAUSES = Backoff(first=1.0, longest=60.0, least=0.0)
# A refusal that lasts longer, while others are served, is not waited for by a worker.
PATIENCE_SECONDS = 30.0


class TooSlowError(Exception):
    """An answer that comes so slowly that it does not count as one."""


class Source(ABC):
    """Objects under keys, which can be listed and brought here.

    Errors: ObjectNotFoundError, ConfigurationError, StoreUnavailableError (after retrying for `retry_seconds`),
    DiskError, SceneError (content that is not what was announced).

    name: how errors call it. setting: which setting says where it is.
    """

    def __init__(self, name: str, setting: str, retry_seconds: float) -> None:
        self.name = name
        self.setting = setting
        self._retry_seconds = retry_seconds

    @abstractmethod
    def list_objects(self, prefix: str, most: int | None = None) -> list[StoredObject]:
        """All objects whose keys start with `prefix`, in the order of their keys; folder placeholders left out.
        UnusableSceneError if there are more than `most`."""

    @abstractmethod
    def holds(self, prefix: str) -> bool:
        """Whether there is any object whose key starts with `prefix`."""

    @abstractmethod
    def list_folders(self, prefix: str) -> list[str]:
        """Names of the folders right below `prefix`, which ends with a slash, in their order."""

    @abstractmethod
    def read(self, item: StoredObject, start: int, length: int) -> bytes:
        """A piece of an object, which is shorter where the object ends."""

    @abstractmethod
    def download(
        self,
        objects: Mapping[Path, StoredObject],
        description: str = "download",
        arrived: Callable[[Path], object] = lambda _: None,
        seconds: float | None = None,
    ) -> None:
        """Bring objects here, small ones first, each to its path, which exists afterwards only if it is whole.

        arrived: called for each path that is there, while others are still on their way; what it raises ends the
        download. seconds: waiting longer than that for the source is an outage.
        """

    @abstractmethod
    def is_exact(self, item: StoredObject) -> bool:
        """Whether what was downloaded is for certain what lies there: then, downloading it again changes nothing."""

    @abstractmethod
    def confirm(self, objects: Sequence[StoredObject]) -> None:
        """To be called when a file that was brought here cannot be used: raises StoreUnavailableError if that may be
        the source's fault."""

    def serves_others(self, folder: str) -> bool:
        """Whether this source gives some other object just now: what it has given before, or else anything under the
        prefix `folder`. Never, where a refusal cannot concern one object only."""
        return False

    @abstractmethod
    def _failure(self, error: Exception, doing: str) -> tuple[ExtractionError, bool] | None:
        """Our error for one that came up, and whether asking again can help; None: it has nothing to do with us."""

    def check(self, folder: str) -> None:
        """Raise ConfigurationError if there is nothing under a prefix that must hold something (`Sentinel-2/`; "" for
        anything at all)."""
        if not self.holds(folder):
            where = f" under {folder}" if folder else ""
            raise ConfigurationError(
                f"{self.setting}: {self.name} holds nothing{where}; see whether it is the right one"
            )

    def list_product(self, prefix: str) -> list[StoredObject]:
        """All objects of one product."""
        return self.list_objects(prefix, MOST_OBJECTS_OF_A_PRODUCT)

    def find_all(self, keys: Sequence[str], prefix: str) -> tuple[StoredObject, ...]:
        """The objects with these keys, all of which start with `prefix`; ObjectNotFoundError names those missing."""
        listed = {item.key: item for item in self.list_product(prefix)}
        missing = [key for key in keys if key not in listed]
        if missing:
            names = ", ".join(key.removeprefix(prefix) or key for key in missing)
            raise ObjectNotFoundError(
                f"{self.name} has no {names} under {prefix}" if listed else f"{self.name} has nothing under {prefix}"
            )
        return tuple(listed[key] for key in keys)

    def find_named(self, names: Sequence[str], prefix: str) -> tuple[StoredObject, ...]:
        """The objects with these file names, wherever they lie below `prefix`; ObjectNotFoundError names those missing,
        SceneError those that are there twice."""
        listed = self.list_product(prefix)
        found = {name: [item for item in listed if item.file_name == name] for name in names}
        missing = [name for name, items in found.items() if not items]
        if missing:
            raise ObjectNotFoundError(
                f"{self.name} has no {', '.join(missing)} under {prefix}"
                if listed
                else f"{self.name} has nothing under {prefix}"
            )
        for name, items in found.items():
            if len(items) > 1:
                raise SceneError(f"there are {len(items)} files {name} under {prefix}: that is not one product")
        return tuple(found[name][0] for name in names)

    def _ask(self, doing: str, request: Callable[[], Result]) -> Result:
        """Ask for something short, until there is an answer; one that trickles in is none."""
        return self._retrying(doing, lambda: _in_time(request), threading.Event())

    def _retrying(self, doing: str, request: Callable[[], Result], stopping: threading.Event) -> Result:
        """Ask until that succeeds, fails for good, or `retry_seconds` are over; of what is refused while other objects
        are served, the rest of these is its error's `pause`. stopping: nobody wants it any more."""
        begun = time.monotonic()
        give_up = begun + self._retry_seconds
        failures = 0
        while True:
            try:
                return request()
            except Exception as error:
                found = self._failure(error, doing)
                if found is None:
                    raise
                failure, retryable = found
                remaining = give_up - time.monotonic()
                if not retryable or remaining <= 0 or stopping.is_set():
                    raise failure from error
                if failure.answered and time.monotonic() - begun > PATIENCE_SECONDS and self.serves_others(""):
                    failure.pause = remaining
                    raise failure from error
            log.warning("%s; trying again", failure)
            failures += 1
            if stopping.wait(min(PAUSES.pause(failures), remaining)):
                raise failure


def too_many(prefix: str, most: int) -> UnusableSceneError:
    """The error for a listing that does not end."""
    return UnusableSceneError(f"there are more than {most:,} objects under {prefix}: that is not one product")


def _in_time(request: Callable[[], Result]) -> Result:
    """The answer to a request; TooSlowError if it takes too long. (Time limits of sockets are for each packet.)"""
    answers: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put((request(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=ask, name="question", daemon=True).start()
    try:
        answer, error = answers.get(timeout=LONGEST_ANSWER_SECONDS)
    except Empty:
        raise TooSlowError(f"no answer within {LONGEST_ANSWER_SECONDS:g} s") from None
    if error is not None:
        raise error
    return cast(Result, answer)
