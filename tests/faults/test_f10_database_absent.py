"""F10: the database is not there: late, away for a while, or never.

Injected: a proxy that refuses connections. Asserted: the worker waits with growing pauses (the connections are
counted: no busy loop), goes on by itself when the database comes, and gives up with exit code 75 when its time is over.
"""

from __future__ import annotations

import time

import pytest

from tests.faults.acts import Gate
from tests.faults.conftest import MakeSeason
from tests.faults.network import TcpProxy
from tests.faults.season import Season
from tests.support.running import wait_until


@pytest.fixture
def season(make_season: MakeSeason) -> Season:
    return make_season(bs=2)


def test_f10_started_too_early(season: Season, way: TcpProxy) -> None:
    """The worker is there before the database.

    Without: none
    """
    season.short(database_wait_seconds=60)
    way.refuse()
    worker = season.start("bs", "--all")
    wait_until(lambda: bool(way.connects), "the first try", 20)
    started = way.connects[0]
    wait_until(lambda: time.monotonic() > started + 4, "four seconds", 10)
    # Pauses of at least 0.25, 0.5, 1, 2, 4 s.
    assert 3 <= len(way.connects) <= 5
    way.heal()
    outcome = worker.wait(60)
    assert outcome.code == 0, outcome.output
    assert outcome.stderr.count("waiting up to") == 1
    season.check(lost=0)


def test_f10_away_for_a_while(season: Season, way: TcpProxy) -> None:
    """The database goes away while a scene is computed and comes back later.

    Without: failure_classes
    """
    season.short(database_wait_seconds=60)
    gate = Gate(season.workspace.folder, "chunk_computed")
    worker = season.start("bs", "--all", env=gate.env)
    gate.wait(worker)
    way.refuse()
    before = len(way.connects)
    gate.open()
    wait_until(lambda: len(way.connects) > before, "the worker to miss the database", 30)
    missed = time.monotonic()
    wait_until(lambda: time.monotonic() > missed + 4, "four seconds", 10)
    assert len(way.connects) - before <= 8
    way.heal()
    outcome = worker.wait(60)
    assert outcome.code == 0, outcome.output
    season.check()
    assert {*season.outcomes()} <= {"extracted", "given_back", "lost"}


def test_f10_never_comes(season: Season, way: TcpProxy) -> None:
    """After the configured time: one line, exit code 75, nothing touched.

    Without: none
    """
    season.short(database_wait_seconds=3)
    way.refuse()
    outcome = season.run("bs", "--all")
    assert outcome.code == 75, outcome.output
    assert len(outcome.errors) == 1
    assert 3 <= len(way.connects) <= 8
    assert 2.5 <= way.connects[-1] - way.connects[0] <= 20
    season.check(extracted=set(), lost=0)
