"""Download slots: shared by all workers of a database, and given back whatever happens."""

from __future__ import annotations

import pytest

from extractors.database.slots import download_slot
from extractors.database.sql import statement
from tests.integration.conftest import Ground

TAKEN = "SELECT objid::int FROM pg_locks WHERE locktype = 'advisory' AND classid = 1128418562 ORDER BY 1"


def test_each_worker_has_a_slot_of_its_own(ground: Ground) -> None:
    with download_slot(ground.database(), 2):
        assert len(ground.query(TAKEN)) == 1
        with download_slot(ground.database(), 2):
            assert ground.query(TAKEN) == [(0,), (1,)]
    assert ground.query(TAKEN) == []


def test_a_worker_waits_for_a_free_slot(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    worker = ground.database()
    with worker.transaction("being at a scene") as cursor:
        cursor.execute(statement("queue.lock"), {"obsid": 1})
    first = download_slot(worker, 1)
    first.__enter__()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            first.__exit__(None, None, None)

    monkeypatch.setattr("extractors.database.slots.time.sleep", pause)
    with download_slot(ground.database(), 1):
        assert ground.query(TAKEN) == [(0,)]
    assert len(pauses) == 2
    assert all(0.5 <= seconds <= 1 for seconds in pauses)
    assert caplog.messages == ["waiting for one of 1 download slots"]


def test_a_download_that_fails_gives_its_slot_back(ground: Ground) -> None:
    with pytest.raises(ZeroDivisionError), download_slot(ground.database(), 1):
        _ = 1 / 0
    assert ground.query(TAKEN) == []


def test_a_session_that_has_ended_has_given_its_slot_back(ground: Ground) -> None:
    database = ground.database()
    with download_slot(database, 1):
        ground.query("SELECT pg_terminate_backend(%s, 5000)", database._connection.info.backend_pid)
        assert ground.query(TAKEN) == []
    assert database.closed


def test_without_a_limit_nothing_is_taken(ground: Ground) -> None:
    with download_slot(ground.database(), None):
        assert ground.query(TAKEN) == []
