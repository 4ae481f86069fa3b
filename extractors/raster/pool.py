"""A pool of threads for two kinds of work: statistics, and decoding the tiles that they need.

Nobody ever waits for a tile while there is something else to do: work begins when all it needs is there, and until
then the threads decode, first what the oldest work lacks. Decoding leaves Python's lock all the time, statistics only
part of it. So while tiles are still to be decoded, some threads keep at that, and the others compute: all at
statistics together would leave cores idle.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

Result = TypeVar("Result")
Task = Callable[[], None]


class Preparation(Hashable, Protocol):
    """Something to be done once, before the work that needs it; equal ones are the same."""

    def __call__(self) -> None:
        """Do it."""


@dataclass(frozen=True)
class _Work:
    """Work that is waited for, and what has to be done before."""

    task: Task
    needs: tuple[Preparation, ...]


class Pool:
    """`threads` threads, started with the block and ended with it; what has not begun by then is dropped."""

    def __init__(self, threads: int) -> None:
        self._ahead: deque[Preparation] = deque()
        self._wanted: deque[_Work] = deque()
        self._begun: set[Preparation] = set()
        self._done: set[Preparation] = set()
        self._at_work = 0
        self._computing = 0
        self._most_computing = max(1, threads // 2)
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"pool-{n}", daemon=True) for n in range(threads)]

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                self._at_work += 1
                thread.start()
        except BaseException:  # the system has no more threads, say
            self._at_work = sum(thread.is_alive() for thread in self._threads)
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            # A signal may have interrupted that, anywhere; but what the threads use is taken away next.
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            # Not by joining the threads: until Python 3.13, one whose join was interrupted counts as ended. Below 0 if
            # a start was interrupted: that thread is not counted, but sees that all is over.
            self._changed.wait_for(lambda: self._at_work <= 0)

    def prepare(self, preparations: Iterable[Preparation]) -> None:
        """Have something done ahead, when there is time; errors are left to the work that needs it."""
        with self._changed:
            self._ahead.extend(preparations)
            self._changed.notify_all()

    def submit(self, work: Callable[..., Result], *arguments: Any, needs: Iterable[Preparation] = ()) -> Future[Result]:
        """Have something computed that is waited for, after what it needs."""
        future: Future[Result] = Future()

        def task() -> None:
            try:
                future.set_result(work(*arguments))
            except BaseException as error:
                future.set_exception(error)

        with self._changed:
            self._wanted.append(_Work(task, tuple(needs)))
            self._changed.notify_all()
        return future

    def _work(self) -> None:
        try:
            self._work_until_closed()
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def _work_until_closed(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (chosen := self._choose()) is None:
                    self._changed.wait()
                if self._closed or chosen is None:
                    return
            try:
                if isinstance(chosen, _Work):
                    chosen.task()
                else:
                    with suppress(Exception):
                        chosen()
            finally:
                with self._changed:
                    if isinstance(chosen, _Work):
                        self._computing -= 1
                    else:
                        self._done.add(chosen)
                    self._changed.notify_all()

    def _choose(self) -> "_Work | Preparation | None":
        """What to do next, None if there is nothing; it is taken."""
        ready = next((work for work in self._wanted if self._done.issuperset(work.needs)), None)
        if ready is None or self._computing >= self._most_computing:
            preparation = self._next_preparation()
            if preparation is not None:
                self._begun.add(preparation)
                return preparation
        if ready is not None:
            self._wanted.remove(ready)
            self._computing += 1
        return ready

    def _next_preparation(self) -> Preparation | None:
        """One that nobody has begun: what the oldest work lacks, else what is to be done ahead."""
        for work in self._wanted:
            for need in work.needs:
                if need not in self._begun:
                    return need
        while self._ahead:
            preparation = self._ahead.popleft()
            if preparation not in self._begun:
                return preparation
        return None
