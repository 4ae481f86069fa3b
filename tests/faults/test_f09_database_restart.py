"""F9: the database server restarts or crashes.

Injected: a fast shutdown, an immediate one, kill -9 of the worker's server process (the others are ended by the server,
which recovers by itself) and kill -9 of the postmaster; each while a scene is computed, and again while its rows are
copied. Asserted: no row of the scene until it is extracted anew, by the same worker, which waits for the server; all
invariants afterwards.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.servers import S3Server
from tests.faults.acts import Gate, claimed, holder
from tests.faults.own_postgis import OwnPostgis, kill_backend, own_postgis
from tests.faults.season import Products, Season


@pytest.fixture
def server() -> Iterator[OwnPostgis]:
    with own_postgis() as server:
        yield server


@pytest.fixture
def season(season_products: Products, server: OwnPostgis, store: S3Server, tmp_path: Path) -> Iterator[Season]:
    season = Season(season_products, server, store, tmp_path / "season", {"bs": 2})
    yield season
    season.close()


def fast(server: OwnPostgis, _: int) -> None:
    server.shut_down(signal.SIGINT)
    server.come_back()


def immediate(server: OwnPostgis, _: int) -> None:
    server.shut_down(signal.SIGQUIT)
    server.come_back()


def backend_killed(server: OwnPostgis, backend: int) -> None:
    kill_backend(server, backend)


def postmaster_killed(server: OwnPostgis, _: int) -> None:
    server.crash()
    server.come_back()


@pytest.mark.parametrize("act", [fast, immediate, backend_killed, postmaster_killed], ids=lambda act: act.__name__)
def test_f09_restart(season: Season, server: OwnPostgis, act: Callable[[OwnPostgis, int], None]) -> None:
    """The worker outlives the server's restart, twice.

    Without: failure_classes
    """
    workspace = season.workspace
    season.short(database_wait_seconds=30, outage_pause_seconds=0.05, outages_in_a_row=10)
    gate = Gate(workspace.folder, "chunk_spooled:2", "copied")
    worker = season.start("bs", "--all", env=gate.env)
    for _ in gate.points:
        gate.wait(worker)
        scene = claimed(season)
        backend = holder(workspace, scene)
        assert backend is not None
        workspace.connection.close()
        act(server, backend)
        workspace.reconnect()
        assert workspace.rows(scene) == 0
        gate.open()
    outcome = worker.wait(90)
    assert outcome.code == 0, outcome.output
    season.check()
    assert len(season.outcomes(min(season.all))) == 3
