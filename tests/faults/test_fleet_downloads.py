"""The limit of the fleet: at most so many workers of a database download at the same time.

Injected: four workers of two cards at once, through a server that holds every object a while and counts how many are
under way; and a holder of the only place that is killed. Asserted: never more downloads than places, all workers come
through, and a dead worker's place is free at once.
"""

from __future__ import annotations

import re

import pytest

from tests.faults.conftest import MakeSeason
from tests.faults.season import Season
from tests.faults.spoilt_store import SpoiltStore
from tests.support.running import wait_until

SLOT_LOCKS = 1128418562
"""The first half of the key of the advisory locks that are the places."""


@pytest.fixture(autouse=True)
def _slow_downloads(spoilt: SpoiltStore) -> None:
    spoilt.hold_seconds = 0.1


def four_workers(season: Season) -> None:
    """Two workers of each card, at the same time, to their end."""
    workers = [season.start(card, "--all") for card in ("s2", "s2", "bs", "bs")]
    for worker in workers:
        outcome = worker.wait()
        assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    season.check()


@pytest.mark.parametrize("places", [1, 2])
def test_fleet_never_more_than_places(make_season: MakeSeason, spoilt: SpoiltStore, places: int) -> None:
    """Each worker has one connection, so that downloads are workers.

    Without: fleet_limit
    """
    season = make_season(s2=2, bs=2)
    season.short()
    spoilt.serve(season.workspace)
    season.workspace.s3.update({"connections": 1, "fleet_downloads": places})
    four_workers(season)
    assert spoilt.downloads.total == 2 * 3 + 2 * 4
    assert 1 <= spoilt.downloads.most <= places


def test_fleet_without_a_limit(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """The control: without the setting, the same four workers do download at the same time.

    Without: none
    """
    season = make_season(s2=2, bs=2)
    season.short()
    spoilt.serve(season.workspace)
    season.workspace.s3["connections"] = 1
    four_workers(season)
    assert spoilt.downloads.most > 1


def test_fleet_place_of_a_killed_worker(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """A worker that holds the only place is killed while it downloads; the one that waits for it goes on.

    Without: rescue
    """
    season = make_season(s2=1, bs=1)
    season.short()
    spoilt.serve(season.workspace)
    spoilt.hold_seconds = 0
    season.workspace.s3["fleet_downloads"] = 1
    (s2,), (bs,) = season.scenes["s2"], season.scenes["bs"]
    spoilt.stall(re.escape(season.products[s2].keys["B04"]), times=1)
    holder = season.start("s2", "--all")
    wait_until(spoilt.stalled.is_set, "a download that hangs")
    waiting = season.start("bs", "--all")
    wait_until(lambda: "waiting for one of 1 download slots" in waiting.stderr, "a worker that waits for its place")
    assert spoilt.asked_for("Gamma0_.*img$") == 0
    assert season.workspace.status(bs) == "inprogress"
    holder.kill()
    outcome = waiting.wait()
    spoilt.go_on.set()
    assert (outcome.code, outcome.errors) == (0, [])
    assert season.workspace.status(bs) == "extracted"
    season.finish()
    season.check(lost=1)
    held = season.workspace.query(
        "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())",
        SLOT_LOCKS,
    )
    assert held == []
