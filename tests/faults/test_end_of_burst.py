"""The end of a burst: a worker with --all that finds nothing to claim while another one is at the last scene.

Injected: that one is killed, its session is ended, or it is stopped; it finishes, or it is told to stop. Asserted: the
worker that waits takes the scene, if it comes free, and ends when nothing is under way any more; what is older than
the deadline it does not wait for.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.acts import Gate, claimed, has_ended, terminate
from tests.faults.conftest import MakeSeason
from tests.faults.season import Season
from tests.support.running import NOTHING_LEFT, Running, wait_until

WAITING = "1 scenes are still being worked on by other workers; waiting in case one is given back"
Fault = Callable[[Season, Running], object]


def stop_and_terminate(season: Season, worker: Running) -> None:
    worker.send(signal.SIGSTOP)
    terminate(season.workspace)


# What befalls the first worker, and what the log then says of its attempt.
FAULTS: dict[str, tuple[Fault, str]] = {
    "killed": (lambda _, worker: worker.send(signal.SIGKILL), "lost"),
    "told to stop": (lambda _, worker: worker.send(signal.SIGTERM), "given_back"),
    "session ended while it is stopped": (stop_and_terminate, "lost"),
}


def last_scene(season: Season) -> tuple[Running, Gate]:
    """A worker with --all that computes the one scene, and stays there."""
    gate = Gate(season.workspace.folder, "chunk_spooled")
    worker = season.start("bs", "--all", env=gate.env)
    gate.wait(worker)
    return worker, gate


def waiting_worker(season: Season) -> Running:
    """Another one, that has found nothing to claim."""
    worker = season.start("bs", "--all")
    wait_until(lambda: WAITING in worker.stderr or has_ended(worker), "a worker that waits for the others", 20)
    return worker


@pytest.mark.parametrize("fault", FAULTS)
def test_end_of_burst_scene_comes_free(make_season: MakeSeason, fault: str) -> None:
    """The last scene's worker is lost after the others have found nothing left: one of them finishes it.

    Without: wait_for_others
    """
    season = make_season(bs=1)
    season.short()
    first, gate = last_scene(season)
    scene = claimed(season)
    second = waiting_worker(season)
    assert not has_ended(second)

    act, outcome = FAULTS[fault]
    act(season, first)
    gate.open()
    ended = second.wait(30)
    assert (ended.code, ended.errors) == (0, []), ended.output
    assert ended.stderr.count(WAITING) == 1
    assert ended.stdout.splitlines() == [NOTHING_LEFT]
    assert season.outcomes(scene) == [outcome, "extracted"]
    first.kill()
    season.finish()  # a stopped process keeps its files, and nobody has looked since
    season.check(lost=int(outcome == "lost"))


def test_end_of_burst_finished_by_the_first(make_season: MakeSeason) -> None:
    """Nothing comes free: both end, soon and well.

    Without: wait_for_others
    """
    season = make_season(bs=1)
    first, gate = last_scene(season)
    second = waiting_worker(season)
    time.sleep(3)
    assert not has_ended(second)
    assert NOTHING_LEFT not in second.stdout
    gate.open()
    for worker in (first, second):
        outcome = worker.wait(20)
        assert (outcome.code, outcome.errors) == (0, [])
        assert outcome.stdout.splitlines() == [NOTHING_LEFT]
    season.check(lost=0)


def test_end_of_burst_told_to_stop(make_season: MakeSeason) -> None:
    """Waiting, a worker heeds signals.

    Without: wait_for_others
    """
    season = make_season(bs=1)
    _, gate = last_scene(season)
    second = waiting_worker(season)
    second.send(signal.SIGTERM)
    assert second.wait(5).code == 128 + signal.SIGTERM
    gate.open()


def test_end_of_burst_is_bounded(make_season: MakeSeason) -> None:
    """A worker that is stopped for longer than a scene may take is not waited for, and not robbed.

    Without: bounded_wait
    """
    season = make_season(bs=1)
    season.short(deadline_seconds=20)
    first, _ = last_scene(season)
    first.send(signal.SIGSTOP)
    season.workspace.query("UPDATE extraction_log SET started_at = now() - interval '46 seconds'")
    second = waiting_worker(season)
    outcome = second.wait(20)
    assert (outcome.code, outcome.stdout.splitlines()) == (0, [NOTHING_LEFT])
    assert WAITING in outcome.stderr
    assert season.outcomes() == [None]


@pytest.mark.parametrize("options", [(), ("--watch", "0.2"), ("--all", "--scene", "S1A_of_nobody_CARD_BS")])
def test_end_of_burst_only(make_season: MakeSeason, options: tuple[str, ...]) -> None:
    """Who is to do one scene, a certain one, or to go on for ever, waits for nobody.

    Without: only_bursts
    """
    season = make_season(bs=1)
    first, _ = last_scene(season)
    other = season.start("bs", *options)
    wait_until(lambda: NOTHING_LEFT in other.stdout or WAITING in other.stderr, "a worker that finds nothing", 20)
    assert WAITING not in other.stderr
    for worker in (first, other):
        worker.kill()
