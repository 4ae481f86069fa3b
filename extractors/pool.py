"""A pool of threads for two kinds of work: statistics, and decoding tiles ahead of them.

Decoding leaves Python's lock all the time, statistics only part of it. So while tiles are still to be decoded, some
threads keep at that, and the others compute: one after the other, or all at statistics together, would leave cores
idle.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

Result = TypeVar("Result")
Task = Callable[[], None]


class Pool:
    """`threads` threads, started with the block and ended with it; what has not begun by then is dropped."""

    def __init__(self, threads: int) -> None:
        self._ahead: deque[Task] = deque()
        self._wanted: deque[Task] = deque()
        self._computing = 0
        self._most_computing = max(1, threads // 2)
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"pool-{n}", daemon=True) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def prepare(self, work: Callable[[], object]) -> None:
        """Have something done ahead, when there is time; errors are left to whoever needs it."""

        def task() -> None:
            with suppress(Exception):
                work()

        self._put(self._ahead, task)

    def submit(self, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Have something computed that is waited for."""
        future: Future[Result] = Future()

        def task() -> None:
            try:
                future.set_result(work(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self._put(self._wanted, task)
        return future

    def _put(self, tasks: deque[Task], task: Task) -> None:
        with self._changed:
            tasks.append(task)
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._ahead or self._wanted)
                if self._closed:
                    return
                compute = bool(self._wanted) and (not self._ahead or self._computing < self._most_computing)
                task = (self._wanted if compute else self._ahead).popleft()
                self._computing += compute
            try:
                task()
            finally:
                with self._changed:
                    self._computing -= compute
                    self._changed.notify()
