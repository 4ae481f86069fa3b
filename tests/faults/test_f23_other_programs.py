"""F23: other programs, and people, in the same catalogue.

Injected: rows that come, change and go while workers run; the scene that is worked on is set back, taken over or
deleted; locks that others hold for longer than a worker waits. Asserted: a worker whose claim others have ended writes
nothing; rows of others stay as they are; nobody waits for a worker, and a worker does not wait for ever.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg2.extensions
import pytest

from demo import tables
from tests.faults.acts import APPLICATION, Gate, this_scene
from tests.faults.conftest import MakeSeason
from tests.faults.season import WHERE, Season
from tests.support.running import NOTHING_LEFT, Running, wait_until


def set_status(season: Season, scene: int, status: str) -> None:
    season.workspace.query("UPDATE dias_catalogue SET status = %s WHERE id = %s", status, scene)


# Its own scene is changed under the worker


@pytest.mark.parametrize(
    ("place", "status"),
    [("files_verified", "Obsolete"), ("chunk_computed", "extracted"), ("publish_begin", "ingested")],
)
def test_f23_status_set_by_somebody_else(make_season: MakeSeason, place: str, status: str) -> None:
    """What a person has decided about the scene holds; the worker's rows are not written.

    Without: fence
    """
    season = make_season(c6=1)
    (scene,) = season.scenes["c6"]
    gate = Gate(season.workspace.folder, place)
    worker = season.start("c6", env=gate.env)
    gate.wait(worker)
    set_status(season, scene, status)
    gate.open()
    outcome = worker.wait()
    assert outcome.code == 1, outcome.stderr
    assert "somebody else" in outcome.stderr
    assert season.workspace.status(scene) == status
    assert season.workspace.rows(scene) == 0
    assert all(attempt["finished_at"] is not None for attempt in season.attempts())
    assert season.outcomes() == ["claim_lost"]
    set_status(season, scene, "ingested")
    season.finish()
    season.check(lost=0)


def test_f23_deleted_while_computed(make_season: MakeSeason) -> None:
    """No row without its scene; the next scene is taken as if nothing had happened.

    Without: fence
    """
    season = make_season(c6=2)
    scene, _ = season.scenes["c6"]
    gate = Gate(season.workspace.folder, "chunk_computed")
    worker = season.start("c6", "--all", env=gate.env)
    gate.wait(worker)
    season.workspace.query("DELETE FROM dias_catalogue WHERE id = %s", scene)
    season.forget(scene)
    gate.open()
    outcome = worker.wait()
    assert outcome.code == 1, outcome.stderr
    assert "somebody else" in outcome.stderr
    assert season.outcomes(scene) == ["claim_lost"]
    assert season.workspace.rows(scene) == 0
    season.check(lost=0)


def test_f23_set_back_while_its_worker_lives(make_season: MakeSeason) -> None:
    """Nobody else takes the scene until its worker has ended, though its status says `ingested`.

    Without: advisory_lock
    """
    season = make_season(c6=1)
    (scene,) = season.scenes["c6"]
    gate = Gate(season.workspace.folder, "publish_begin")
    first = season.start("c6", env=gate.env)
    gate.wait(first)
    set_status(season, scene, "ingested")
    second = season.run("c6", "--all")
    assert (second.code, NOTHING_LEFT in second.stdout) == (0, True)
    assert season.outcomes() == [None]
    gate.open()
    assert first.wait().code == 1
    assert season.outcomes() == ["claim_lost"]
    assert season.workspace.rows() == 0
    season.finish()
    season.check(lost=0)


def test_f23_taken_over_by_an_old_program(make_season: MakeSeason) -> None:
    """The established system's workers set `inprogress` and leave no other trace: what they do is theirs.

    Without: rescue
    """
    season = make_season(c6=3)
    theirs, dead, _ = season.scenes["c6"]
    killed = season.start("c6", *this_scene(season, dead), env={"EXTRACTION_FAILPOINT": "chunk_computed=kill"}).wait()
    assert killed.code == -signal.SIGKILL
    set_status(season, theirs, "inprogress")
    outcome = season.run("c6", "--all")
    assert outcome.code == 0
    (line,) = (line for line in outcome.stderr.splitlines() if "not by this program" in line)
    assert f" ({theirs})" in line
    assert season.workspace.status(theirs) == "inprogress"
    season.check(extracted=set(season.all) - {theirs}, lost=1)
    # Their program is gone for good, says the person who starts this one.
    assert season.run("c6", "--all", "--adopt-foreign").code == 0
    season.check(lost=1)


# Others beside it


def test_f23_rows_that_come_and_change_meanwhile(season: Season) -> None:
    """Whatever others insert or change while workers run stays as they made it.

    Without: skip_locked_claim
    """
    workspace = season.workspace
    done = threading.Event()
    inserted: dict[int, str] = {}
    problems: list[Exception] = []

    def insert() -> None:
        connection = workspace.connect()
        try:
            number = 0
            while not done.is_set():
                # Scenes of another year, and ones that another program does itself.
                status = ("ingested", "extracted", "failed")[number % 3]
                moment = datetime(2019 if status == "ingested" else 2020, 5, 1) + timedelta(minutes=number)
                scene = tables.add_scene(connection, f"S2 row {number} of others", moment, "s2", WHERE, status=status)
                with connection, connection.cursor() as cursor:
                    cursor.execute("UPDATE dias_catalogue SET status = upper(status) WHERE id = %s", (scene,))
                inserted[scene] = status.upper()
                number += 1
                time.sleep(0.01)
        except Exception as error:
            problems.append(error)
        finally:
            connection.close()

    inserter = threading.Thread(target=insert)
    inserter.start()
    try:
        season.finish()
    finally:
        done.set()
        inserter.join()
    assert problems == []
    assert len(inserted) > 20
    found = dict(workspace.query("SELECT id, status FROM dias_catalogue WHERE id = ANY (%s)", list(inserted)))
    assert found == inserted
    season.check(lost=0)


def test_f23_others_never_wait_for_a_worker(make_season: MakeSeason) -> None:
    """A row that refers to the scene, a new scene, and a change to another one go through wherever the worker is.

    Without: no_key_update
    """
    season = make_season(c6=2)
    scene, other = season.scenes["c6"]
    season.workspace.query("CREATE TABLE orders (scene integer REFERENCES dias_catalogue (id))")
    season.workspace.query("SET lock_timeout = '1s'")
    places = ("claim_updated", "claim_locked", "chunk_computed", "copied", "status_updated", "before_commit")
    gate = Gate(season.workspace.folder, *places)
    worker = season.start("c6", env=gate.env)
    for place in places:
        gate.wait(worker)
        season.workspace.query("INSERT INTO orders VALUES (%s), (%s)", scene, other)
        season.workspace.add_row(f"S2 inserted at {place}", "2019-01-01T10:00:00")
        season.workspace.query("UPDATE dias_catalogue SET status = 'Obsolete' WHERE id = %s", other)
        gate.open()
    assert worker.wait().code == 0
    season.workspace.ingest(other)
    season.finish()
    season.check(lost=0)


# What a worker holds


def transactions(season: Season) -> list[tuple[Any, ...]]:
    """Of every worker's session: its state, and whether it has a transaction and holds back the removal of old rows."""
    return season.workspace.query(
        "SELECT state, xact_start IS NOT NULL, coalesce(backend_xid, backend_xmin) IS NOT NULL"
        " FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
        APPLICATION,
    )


def test_f23_an_idle_worker_holds_nothing(make_season: MakeSeason) -> None:
    """While there is nothing to do, its session is open, and that is all.

    Without: short_transactions
    """
    season = make_season(c6=1)
    worker = season.start("c6", "--watch", "60")
    wait_until(lambda: NOTHING_LEFT in worker.stdout, "nothing more to do")
    assert transactions(season) == [("idle", False, False)]
    worker.kill()
    season.check(lost=0)


def test_f23_a_working_worker_holds_no_transaction(make_season: MakeSeason) -> None:
    """Downloading and computing may take half an hour: no transaction is open meanwhile.

    Without: short_transactions
    """
    season = make_season(s2=1)
    places = ("claim_committed", "files_verified", "parcels_selected", "chunk_computed", "chunk_computed:3")
    gate = Gate(season.workspace.folder, *places)
    worker = season.start("s2", env=gate.env)
    for place in places:
        gate.wait(worker)
        assert transactions(season) == [("idle", False, False)], place
        gate.open()
    assert worker.wait().code == 0
    season.check(lost=0)


# Locks that others hold


@contextmanager
def held(season: Season, statement: str) -> Iterator[psycopg2.extensions.connection]:
    """Another program's open transaction in which this has been done."""
    connection = season.workspace.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
        yield connection
    finally:
        connection.close()


def pauses(worker: Running) -> bool:
    """Whether it has said that something is missing, and that it goes on later."""
    return (
        re.search(r"while (claiming a scene|writing the signatures|looking for).*\(outage 1 in a row\)", worker.stderr)
        is not None
    )


def test_f23_the_whole_catalogue_locked(make_season: MakeSeason) -> None:
    """A worker that cannot claim says so after `lock_timeout`, and comes back.

    Without: keepalives
    """
    season = make_season(c6=2)
    season.short(outages_in_a_row=50)
    first, _ = season.scenes["c6"]
    assert season.run("c6", *this_scene(season, first)).code == 0
    gate = Gate(season.workspace.folder, "unlocked")
    set_status(season, first, "extracted")
    worker = season.start("c6", "--watch", "0.2", env=gate.env)
    gate.wait(worker)
    with held(season, "LOCK TABLE dias_catalogue IN ACCESS EXCLUSIVE MODE"):
        gate.open()
        wait_until(lambda: pauses(worker), "the worker's saying that it cannot get a lock", 20)
    wait_until(lambda: NOTHING_LEFT in worker.stdout, "the worker's coming back")
    worker.kill()
    season.check(lost=0)


def test_f23_the_scene_s_row_locked_while_it_is_published(make_season: MakeSeason) -> None:
    """The worker does not wait for ever; the attempt does not count, and the scene is extracted afterwards.

    Without: keepalives
    """
    season = make_season(c6=1)
    season.short(outages_in_a_row=50)
    (scene,) = season.scenes["c6"]
    gate = Gate(season.workspace.folder, "publish_begin")
    worker = season.start("c6", "--all", env=gate.env)
    gate.wait(worker)
    with held(season, f"SELECT FROM dias_catalogue WHERE id = {scene} FOR UPDATE"):
        gate.open()
        wait_until(lambda: pauses(worker), "the worker's saying that it cannot get a lock", 20)
    outcome = worker.wait()
    assert outcome.code == 0, outcome.stderr
    season.check(lost=0)
    assert season.attempts()[-1]["attempt"] == 1
