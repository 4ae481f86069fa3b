"""The pool: what is waited for and what is prepared share the threads, and neither starves the other."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as NotYet

import pytest

from extractors.pool import Pool

SECONDS = 30
"""A test that waits in vain fails after that."""


class Gate:
    """Work that says when it has begun and goes on when it may."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Event()

    def __call__(self) -> str:
        self.begun.release()
        assert self.may_go_on.wait(SECONDS)
        return "done"

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.begun.acquire(timeout=SECONDS)


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
def test_what_is_prepared_is_done_and_its_errors_are_left_to_others(threads: int) -> None:
    done: Future[str] = Future()
    with Pool(threads) as pool:
        for _ in range(threads):
            pool.prepare(lambda: 1 / 0)
        pool.prepare(lambda: done.set_result("prepared"))
        assert done.result(SECONDS) == "prepared"


def test_while_there_is_something_to_prepare_half_of_the_threads_keep_at_it() -> None:
    first, later, computing = Gate(), Gate(), Gate()
    with Pool(4) as pool:
        for gate, number in ((first, 4), (later, 6)):
            for _ in range(number):
                pool.prepare(gate)
        first.wait_for(4)
        waiting = [pool.submit(computing) for _ in range(10)]
        first.may_go_on.set()
        # All four threads come free: two compute, two prepare.
        computing.wait_for(2)
        later.wait_for(2)
        assert not computing.begun.acquire(blocking=False)
        assert not later.begun.acquire(blocking=False)
        # When nothing is left to prepare, all compute.
        later.may_go_on.set()
        later.wait_for(4)
        computing.wait_for(2)
        computing.may_go_on.set()
        assert [future.result(SECONDS) for future in waiting] == ["done"] * 10


def test_with_nothing_to_prepare_all_threads_compute() -> None:
    computing = Gate()
    with Pool(4) as pool:
        waiting = [pool.submit(computing) for _ in range(4)]
        computing.wait_for(4)
        computing.may_go_on.set()
        assert [future.result(SECONDS) for future in waiting] == ["done"] * 4


def test_the_end_waits_for_what_runs_and_drops_what_has_not_begun() -> None:
    running = Gate()
    ended: list[str] = []
    before = threading.active_count()
    with Pool(1) as pool:
        first = pool.submit(running)
        running.wait_for(1)
        second = pool.submit(ended.append, "never")
        pool.prepare(lambda: ended.append("never"))
        threading.Timer(0.05, running.may_go_on.set).start()
    assert first.result(0) == "done"
    with pytest.raises((NotYet, CancelledError)):
        second.result(0)
    assert ended == []
    assert threading.active_count() <= before + 1  # the timer may still be about
