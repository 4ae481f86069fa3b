"""A pool of threads for two kinds of work: statistics, and decoding the tiles that they need.

No thread waits for a tile while there is other work. A task starts when all jobs that it needs are done; until then the
threads decode, first what the oldest task lacks. Decoding runs entirely outside Python's lock, statistics only in part:
with all threads at statistics, cores would be idle. So while tiles remain to be decoded, at most half of the threads
compute.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

Result = TypeVar("Result")


class Job(Hashable, Protocol):
    """A hashable job that tasks need; equal jobs run once."""

    def __call__(self) -> None:
        """Run it."""


@dataclass(frozen=True, eq=False)
class _Task:
    """Something that is waited for, and the jobs that must be done first."""

    run: Callable[[], None]
    needs: tuple[Job, ...]


class Pool:
    """`threads` threads, started and ended with the block; what has not begun by then is dropped."""

    def __init__(self, threads: int) -> None:
        self._ahead: deque[Job] = deque()
        self._tasks: deque[_Task] = deque()
        self._begun: set[Job] = set()
        # What each job that has ended raised.
        self._ended: dict[Job, BaseException | None] = {}
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
        except BaseException:  # for example, the system has no more threads
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
            # A signal may have interrupted that anywhere, and the files that the threads read are closed next.
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            # Not by joining the threads: until Python 3.13, one whose join was interrupted counts as ended. The count
            # is below 0 if a start was interrupted: that thread was not counted, but will find the pool closed.
            self._changed.wait_for(lambda: self._at_work <= 0)

    def prepare(self, jobs: Iterable[Job]) -> None:
        """Run jobs ahead, when there is time; an error is reported to the tasks that need the job."""
        with self._changed:
            self._ahead.extend(jobs)
            self._changed.notify_all()

    def submit(self, task: Callable[..., Result], *arguments: Any, needs: Iterable[Job] = ()) -> Future[Result]:
        """Run a task after the jobs that it needs; if one of them has failed, its error is the task's."""
        future: Future[Result] = Future()
        jobs = tuple(needs)

        def run() -> None:
            failures = [failure for job in jobs if (failure := self._ended[job]) is not None]
            if failures:
                future.set_exception(failures[0])
                return
            try:
                future.set_result(task(*arguments))
            except BaseException as error:
                future.set_exception(error)

        with self._changed:
            self._tasks.append(_Task(run, jobs))
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
            failure = None
            try:
                if isinstance(chosen, _Task):
                    chosen.run()
                else:
                    chosen()
            except BaseException as error:
                failure = error
            with self._changed:
                if isinstance(chosen, _Task):
                    self._computing -= 1
                else:
                    self._ended[chosen] = failure
                self._changed.notify_all()

    def _choose(self) -> "_Task | Job | None":
        """What to do next, None if there is nothing; it is taken."""
        ready = next((task for task in self._tasks if all(job in self._ended for job in task.needs)), None)
        if ready is None or self._computing >= self._most_computing:
            job = self._next_job()
            if job is not None:
                self._begun.add(job)
                return job
        if ready is not None:
            self._tasks.remove(ready)
            self._computing += 1
        return ready

    def _next_job(self) -> Job | None:
        """One that no thread has begun: what the oldest task lacks, else what is to be done ahead."""
        for task in self._tasks:
            for job in task.needs:
                if job not in self._begun:
                    return job
        while self._ahead:
            job = self._ahead.popleft()
            if job not in self._begun:
                return job
        return None
