"""The memory that a scene may take: some is kept until its end, some is used for a while and given back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from extractors.errors import UnusableSceneError
from extractors.model import Limits

# Part of the memory that is never kept: without it, nothing could be computed.
RESERVE = 4


class Budget:
    """The memory of one scene, shared by its threads; sizes are estimates in bytes."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._kept = 0
        self._used = 0
        self._changed = threading.Condition()

    @property
    def work(self) -> int:
        """What may be used beside what is kept."""
        return self.limits.memory - self._kept

    def keep(self, size: int, what: str) -> None:
        """Count memory that is kept until the scene's end; raises UnusableSceneError, with `what` needs it, if that is
        too much."""
        with self._changed:
            most = self.limits.memory - self.limits.memory // RESERVE
            if self._kept + size > most:
                raise UnusableSceneError(
                    f"{what} takes {size / 1e6:,.0f} MB of memory, and {max(0, most - self._kept) / 1e6:,.0f} MB are "
                    "left for it; raise extraction.memory_megabytes, or replace the object"
                )
            self._kept += size

    @contextmanager
    def using(self, size: int) -> Iterator[None]:
        """A block that takes memory: waits until others have given back enough. Blocks must not be nested. One that is
        alone never waits."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self.work)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()
