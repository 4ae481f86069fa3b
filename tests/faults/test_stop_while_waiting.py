"""SIGTERM while the worker waits for the database: for a lock that somebody holds, or for a query that takes long.

Python looks for signals only between its own instructions, so a worker that waits in libpq would not hear of it for up
to half an hour. Asserted: the query is cancelled, the scene given back, and the worker is gone soon.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.acts import APPLICATION, Gate, claimed, has_ended
from tests.faults.conftest import MakeSeason
from tests.faults.season import Season
from tests.support.running import Running, wait_until
from tests.support.workspace import Workspace

SOON_SECONDS = 5


def stop(worker: Running, season: Season, number: signal.Signals = signal.SIGTERM) -> None:
    """Ask it to stop; it does, soon, and gives its scene back."""
    scene = claimed(season)
    asked = time.monotonic()
    worker.send(number)
    wait_until(lambda: has_ended(worker), "the worker's end", 20)
    assert time.monotonic() - asked < SOON_SECONDS
    outcome = worker.wait()
    assert outcome.code == 128 + number, outcome.output
    assert season.statuses()[scene] == "ingested"
    assert season.outcomes() == ["given_back"]


def waits(workspace: Workspace, condition: str) -> bool:
    """Whether a worker's session is in such a state."""
    return bool(
        workspace.one(
            f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
            f" AND {condition}",
            APPLICATION,
        )
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_while_waiting_for_the_parcels(make_season: MakeSeason, number: signal.Signals) -> None:
    """Somebody holds a lock on the parcels for a minute.

    Without: cancel
    """
    season = make_season(bs=1)
    season.short(server_settings={"lock_timeout": "60s"})
    stop_while_locked(season, "parcels", "claim_committed", number)


def test_stop_while_waiting_for_the_results(make_season: MakeSeason) -> None:
    """Somebody holds a lock on the results. Publishing is not interrupted, so the lock's time-out counts.

    Without: keepalives
    """
    season = make_season(bs=1)
    season.short()
    # A worker makes the results table, even if there is no scene for it.
    assert season.run("bs", "--scene", "none of this name").code == 0
    stop_while_locked(season, "signatures", "publish_begin", signal.SIGTERM)


def stop_while_locked(season: Season, table: str, point: str, number: signal.Signals) -> None:
    """Lock the table when the worker is at that point; when it waits for the lock, ask it to stop."""
    workspace = season.workspace
    gate = Gate(workspace.folder, point)
    worker = season.start("bs", env=gate.env)
    gate.wait(worker)
    other = workspace.connect()
    try:
        with other.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        gate.open()
        wait_until(lambda: waits(workspace, "wait_event_type = 'Lock'"), "the worker to wait for the lock", 30)
        stop(worker, season, number)
    finally:
        other.close()
    assert season.run("bs").code == 0
    season.check(lost=0)


def test_stop_during_a_long_query(make_season: MakeSeason) -> None:
    """The parcels have become a view in which every row takes a minute.

    Without: cancel
    """
    season = make_season(bs=1)
    season.short()
    workspace = season.workspace
    gate = Gate(workspace.folder, "claim_committed")
    worker = season.start("bs", env=gate.env)
    gate.wait(worker)
    workspace.query("ALTER TABLE parcels RENAME TO all_parcels")
    workspace.query(
        "CREATE VIEW parcels AS SELECT * FROM all_parcels WHERE (SELECT true FROM pg_sleep(60) WHERE ogc_fid > 0)"
    )
    gate.open()
    wait_until(lambda: waits(workspace, "wait_event = 'PgSleep'"), "the long query", 30)
    stop(worker, season)
    season.check(extracted=set(), lost=0)
