"""F8: the server ends a worker's session, by `pg_terminate_backend`, an administrator's or a crash's doing.

Injected: at every fail point, one after the other, and at random moments. Asserted: the worker goes on by itself with a
new session and a new attempt, never with the old claim; all scenes are extracted, each once, and no attempt is counted
as an error of the scene.
"""

from __future__ import annotations

import random
import time

from extractors.failpoints import POINTS
from tests.faults.acts import Gate, has_ended, terminate
from tests.faults.conftest import MakeSeason
from tests.faults.points import OF_DUPLICATES
from tests.support.running import wait_until


def test_f08_at_every_point(make_season: MakeSeason) -> None:
    """One worker, whose session is ended at each point in turn: it starts again and gets one point further.

    Without: failure_classes
    """
    season = make_season(c6=2)  # of one file: others are downloaded side by side, and would stand at two points at once
    season.short(outage_pause_seconds=0, outages_in_a_row=1000)
    # At the start there is no session yet; and the first session is only for looking whether all is as it should be.
    points = [point for point in POINTS if point not in ("start", "connected", *OF_DUPLICATES)] + [
        "connected:2",
        "connected:3",
    ]
    gate = Gate(season.workspace.folder, *points)
    worker = season.start("c6", "--all", env=gate.env)
    arrivals = 0
    while not has_ended(worker):
        if gate.arrived():
            arrivals += 1
            terminate(season.workspace)
            gate.open()
        time.sleep(0.005)
    outcome = worker.wait()
    assert outcome.code == 0, outcome.output
    assert arrivals == len(points), outcome.output
    season.check()


def test_f08_claim_lost_is_not_taken_up_again(make_season: MakeSeason) -> None:
    """A worker whose session ended during a scene says so, and publishes nothing with another one.

    Without: failure_classes
    """
    season = make_season(bs=1)
    season.short()
    gate = Gate(season.workspace.folder, "publish_begin")
    worker = season.start("bs", env=gate.env)
    gate.wait(worker)
    terminate(season.workspace)
    gate.open()
    outcome = worker.wait(40)
    assert outcome.code == 75, outcome.output
    assert len(outcome.errors) == 1, outcome.output
    assert season.workspace.rows() == 0
    assert season.outcomes() == ["given_back"]
    season.check(extracted=set(), lost=0)


def test_f08_at_random(make_season: MakeSeason) -> None:
    """Two workers, whose sessions are ended every 100 to 500 ms for six seconds.

    Without: failure_classes
    """
    season = make_season(bs=4)
    # The worker that is back first finds the other one's attempt without a session and counts it as lost.
    season.short(outage_pause_seconds=0, outages_in_a_row=1000, max_attempts=1000)
    chance = random.Random(8)
    workers = [season.start("bs", "--all"), season.start("bs", "--all")]
    # While a worker still looks whether all tables are there, a broken session ends it.
    wait_until(lambda: all(" claimed for " in worker.stderr for worker in workers), "both to begin", 30)
    ended = 0
    end = time.monotonic() + 6
    while time.monotonic() < end and not all(has_ended(worker) for worker in workers):
        time.sleep(chance.uniform(0.1, 0.5))
        ended += terminate(season.workspace)
    assert ended > 2
    for worker in workers:
        outcome = worker.wait(60)
        assert outcome.code == 0, outcome.output
    season.check()
