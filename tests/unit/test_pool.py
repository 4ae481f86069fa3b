"""The pool: a task begins when the jobs that it needs are done; no thread waits while there is other work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass

import pytest

from extractors.raster.pool import Pool
from tests.support.running import wait_until

SECONDS = 30
"""A test that waits in vain fails after that."""


class Gate:
    """Work that says when it has begun and goes on when it may."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Event()

    def __call__(self) -> None:
        self.begun.release()
        assert self.may_go_on.wait(SECONDS)

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.begun.acquire(timeout=SECONDS)


@dataclass(frozen=True)
class Numbered:
    """A job that equals others of its number; it keeps a list."""

    number: int
    book: Book

    def __call__(self) -> None:
        self.book.note(self.number)


class Book:
    """What has been done, in order; the numbers in `gates` wait there."""

    def __init__(self, *gated: int) -> None:
        self.done: list[object] = []
        self.gates = {number: Gate() for number in gated}
        self._lock = threading.Lock()

    def __hash__(self) -> int:
        return id(self)

    def note(self, what: object) -> None:
        if isinstance(what, int) and what in self.gates:
            self.gates[what]()
        with self._lock:
            self.done.append(what)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_and_errors_reach_who_waits_for_them(threads: int) -> None:
    with Pool(threads) as pool:
        results = [pool.submit(divmod, number, 7) for number in range(50)]
        broken = pool.submit(divmod, 1, 0)
        assert [future.result(SECONDS) for future in results] == [divmod(number, 7) for number in range(50)]
        with pytest.raises(ZeroDivisionError):
            broken.result(SECONDS)
        assert pool.submit(divmod, 9, 7).result(SECONDS) == (1, 2)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_jobs_are_done_ahead_and_an_error_ends_no_thread(threads: int) -> None:
    done: Future[str] = Future()
    with Pool(threads) as pool:
        pool.prepare([lambda: 1 / 0 for _ in range(threads)])  # type: ignore[misc]
        pool.prepare([lambda: done.set_result("prepared")])
        assert done.result(SECONDS) == "prepared"


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_each_job_is_done_once_and_before_the_tasks_that_need_it(threads: int) -> None:
    book = Book()
    with Pool(threads) as pool:
        pool.prepare(Numbered(number, book) for number in (0, 1, 1, 2))
        works = [
            pool.submit(book.note, f"work {number}", needs=[Numbered(need, book) for need in (number, number + 1)])
            for number in range(10)
        ]
        pool.prepare(Numbered(number, book) for number in range(20))
        for work in works:
            work.result(SECONDS)
        pool.submit(book.note, "end", needs=[Numbered(number, book) for number in range(20)]).result(SECONDS)
    numbers = [what for what in book.done if isinstance(what, int)]
    assert sorted(numbers) == list(range(20))
    for number in range(10):
        at = book.done.index(f"work {number}")
        assert {number, number + 1} <= {*book.done[:at]}


def test_a_task_waits_for_a_job_of_another_thread_while_the_next_task_is_done() -> None:
    book = Book(1)
    with Pool(2) as pool:
        pool.prepare([Numbered(1, book)])
        book.gates[1].wait_for(1)
        first = pool.submit(book.note, "first", needs=[Numbered(1, book)])
        # The other thread has nothing to wait for.
        pool.submit(book.note, "second", needs=[Numbered(2, book)]).result(SECONDS)
        assert not first.done()
        book.gates[1].may_go_on.set()
        first.result(SECONDS)
    assert book.done == [2, "second", 1, "first"]


def test_what_the_oldest_task_lacks_is_done_first() -> None:
    book = Book(0)
    with Pool(1) as pool:
        pool.prepare(Numbered(number, book) for number in range(5))
        book.gates[0].wait_for(1)
        works = [pool.submit(book.note, name, needs=[Numbered(need, book)]) for name, need in (("a", 3), ("b", 2))]
        book.gates[0].may_go_on.set()
        for work in works:
            work.result(SECONDS)
        pool.submit(book.note, "end", needs=[Numbered(number, book) for number in range(5)]).result(SECONDS)
    assert book.done == [0, 3, "a", 2, "b", 1, 4, "end"]


@dataclass(frozen=True)
class Broken:
    """A job that fails when it may; it counts how often it was begun."""

    gate: Gate
    book: Book
    error: type[BaseException] = ValueError

    def __call__(self) -> None:
        self.book.note("broken")
        self.gate()
        raise self.error("broken")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_job_that_failed_is_an_error_for_every_task_that_needs_it(error: type[BaseException]) -> None:
    gate, book = Gate(), Book()
    job = Broken(gate, book, error)
    with Pool(2) as pool:
        pool.prepare([job])
        gate.wait_for(1)
        # Some ask before it has failed, some after; one needs other jobs as well.
        before = [pool.submit(book.note, "never", needs=[job]) for _ in range(2)]
        before.append(pool.submit(book.note, "never", needs=[Numbered(1, book), job, Numbered(2, book)]))
        assert pool.submit(lambda: "not affected", needs=[Numbered(1, book)]).result(SECONDS) == "not affected"
        gate.may_go_on.set()
        for future in [*before, pool.submit(book.note, "never", needs=[job])]:
            with pytest.raises(error, match="broken"):
                future.result(SECONDS)
    assert book.done.count("broken") == 1
    assert "never" not in book.done


def test_while_jobs_remain_half_of_the_threads_keep_at_them() -> None:
    book = Book(*range(10))
    computing = Gate()
    with Pool(4) as pool:
        pool.prepare(Numbered(number, book) for number in range(10))
        for number in range(4):
            book.gates[number].wait_for(1)
        waiting = [pool.submit(computing) for _ in range(10)]
        for number in range(4):
            book.gates[number].may_go_on.set()
        # All four threads come free: two compute, two run jobs.
        computing.wait_for(2)
        for number in (4, 5):
            book.gates[number].wait_for(1)
        assert not computing.begun.acquire(blocking=False)
        assert not any(book.gates[number].begun.acquire(blocking=False) for number in range(6, 10))
        # When no job is left, all compute.
        for number in range(4, 10):
            book.gates[number].may_go_on.set()
        for number in range(6, 10):
            book.gates[number].wait_for(1)
        computing.wait_for(2)
        computing.may_go_on.set()
        for future in waiting:
            future.result(SECONDS)


def test_without_jobs_all_threads_compute() -> None:
    computing = Gate()
    with Pool(4) as pool:
        waiting = [pool.submit(computing) for _ in range(4)]
        computing.wait_for(4)
        computing.may_go_on.set()
        for future in waiting:
            future.result(SECONDS)


def test_the_end_waits_for_what_runs_and_drops_what_has_not_begun() -> None:
    running = Gate()
    book = Book()
    before = threading.active_count()
    with Pool(1) as pool:
        first = pool.submit(running)
        running.wait_for(1)
        second = pool.submit(book.note, "never")
        third = pool.submit(book.note, "never", needs=[Numbered(1, book)])
        pool.prepare([Numbered(2, book)])
        threading.Timer(0.05, running.may_go_on.set).start()
    first.result(0)
    for dropped in (second, third):
        with pytest.raises((NotYet, CancelledError)):
            dropped.result(0)
    assert book.done == []
    assert threading.active_count() <= before + 1  # the timer may still be about


class InterruptedForTestError(Exception):
    """What a signal raises."""


def test_the_end_waits_for_what_runs_even_if_a_signal_interrupts_it() -> None:
    def interrupt(*_: object) -> None:
        threading.Timer(0.05, running.may_go_on.set).start()
        raise InterruptedForTestError

    running = Gate()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(InterruptedForTestError), Pool(1) as pool:
            first = pool.submit(running)
            running.wait_for(1)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
    finally:
        signal.signal(signal.SIGALRM, before)
    first.result(0)


def test_threads_that_cannot_all_start_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    before = threading.active_count()

    def not_the_third(self: threading.Thread) -> None:
        if self.name == "pool-2":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", not_the_third)
    with pytest.raises(RuntimeError, match="can't start"), Pool(4):
        pass
    wait_until(lambda: threading.active_count() == before, "the two threads to end", SECONDS)


def test_a_signal_while_the_threads_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread runs already, but does not count as alive yet."""
    before = threading.active_count()

    def interrupted(self: threading.Thread, start: Callable[[threading.Thread], None] = threading.Thread.start) -> None:
        start(self)
        if self.name == "pool-1":
            monkeypatch.setattr(self, "is_alive", lambda: False)
            raise InterruptedForTestError

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    ended = threading.Event()

    def use() -> None:
        for _ in range(50):  # it matters only if a certain thread comes first
            with pytest.raises(InterruptedForTestError), Pool(2):
                pass
        ended.set()

    user = threading.Thread(target=use, daemon=True, name="user")
    user.start()
    assert ended.wait(SECONDS)
    monkeypatch.undo()
    wait_until(lambda: threading.active_count() == before, "the threads to end", SECONDS)
