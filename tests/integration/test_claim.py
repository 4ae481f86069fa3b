"""Taking a scene: which one, by whom, and what the database looks like afterwards."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import shapely
from psycopg2 import sql

from extractors.database.connection import Database
from extractors.database.queue import Queue
from extractors.database.sql import statement
from extractors.errors import ConfigurationError, DatabaseUnavailableError
from extractors.model import Outcome, ParcelCounts, Scene
from tests.integration.conftest import AOI, MORNING, Ground, Worker

DAY = dt.timedelta(days=1)
MOMENT = dt.timedelta(microseconds=1)
DONE = Outcome("extracted", "extracted", "")


def claimed(queue: Queue) -> list[int]:
    """The ids of all scenes that can be claimed, in the order in which they are."""
    found: list[int] = []
    while (scene := queue.claim()) is not None:
        assert queue.give_back(scene, DONE, ParcelCounts())
        found.append(scene.id)
    return found


# Which one


def test_the_oldest_first(ground: Ground) -> None:
    may = ground.add_scene(MORNING + 30 * DAY)
    march = ground.add_scene(MORNING - 30 * DAY)
    april = ground.add_scene(MORNING)
    assert claimed(ground.worker().queue) == [march, april, may]


def test_of_the_same_time_the_one_with_the_lowest_id(ground: Ground) -> None:
    first, second, third = (ground.add_scene(MORNING, reference=name) for name in ("S2_c", "S2_b", "S2_a"))
    # An update moves a row to the end of the table: the order on disk is second, third, first.
    ground.set_status(first, "failed")
    ground.set_status(first, "ingested")
    assert claimed(ground.worker().queue) == [first, second, third]


def test_dates_include_the_first_moment_and_not_the_last(ground: Ground) -> None:
    start, end = dt.datetime(2020, 1, 1), dt.datetime(2021, 1, 1)
    ground.add_scene(start - MOMENT)
    inside = [ground.add_scene(moment) for moment in (start, start + MOMENT, end - MOMENT)]
    ground.add_scene(end)
    assert claimed(ground.worker().queue) == inside


def test_dates_with_a_time(ground: Ground) -> None:
    ground.config["database"]["args"] |= {"startdate": "2020-04-01T10:00:31", "enddate": "2020-04-01T12:00:32+02:00"}
    ground.add_scene(MORNING - MOMENT)
    inside = ground.add_scene(MORNING)
    ground.add_scene(MORNING + dt.timedelta(seconds=1))
    assert claimed(ground.worker().queue) == [inside]


def test_only_ingested_scenes_of_the_card(ground: Ground) -> None:
    for status in ("inprogress", "extracted", "no_parcels", "notfound", "failed", "INGESTED"):
        ground.add_scene(status=status)
    for card in ("bs", "c6", "S2"):
        ground.add_scene(card=card)
    wanted = ground.add_scene()
    assert claimed(ground.worker().queue) == [wanted]


def test_the_footprint_meets_the_aoi_itself_not_only_its_bounding_box(bare_ground: Ground) -> None:
    # A triangle: the square round it reaches up to (16, 47), itself only half as far.
    bare_ground.add_aoi("POLYGON((14 45, 16 45, 14 47, 14 45))")
    bare_ground.add_scene(footprint=shapely.box(15.5, 46.5, 15.9, 46.9))
    bare_ground.add_scene(footprint=shapely.box(20, 45, 21, 46))
    inside = bare_ground.add_scene(footprint=shapely.box(14.1, 45.1, 14.2, 45.2))
    touching = bare_ground.add_scene(footprint=shapely.box(13, 45, 14, 46))
    assert claimed(bare_ground.worker().queue) == [inside, touching]


def test_the_aoi_meets_the_footprint_itself_not_only_its_bounding_box(ground: Ground) -> None:
    ground.add_scene(footprint="POLYGON((16.5 44, 18 44, 18 48, 13 48, 16.5 47.5, 16.5 44))")
    assert claimed(ground.worker().queue) == []


def test_an_aoi_of_several_rows(bare_ground: Ground) -> None:
    for west in (10, 14, 18):
        bare_ground.add_aoi(shapely.box(west, 45, west + 1, 46))
    bare_ground.add_aoi(shapely.box(30, 45, 31, 46), name="elsewhere")
    last = bare_ground.add_scene(MORNING + DAY, shapely.box(18.2, 45.2, 18.4, 45.4))
    first = bare_ground.add_scene(MORNING, shapely.box(10.2, 45.2, 10.4, 45.4))
    bare_ground.add_scene(footprint=shapely.box(12, 45, 13, 46))
    bare_ground.add_scene(footprint=shapely.box(30, 45, 31, 46))
    over_two = bare_ground.add_scene(MORNING + 2 * DAY, shapely.box(9, 44, 16, 47))
    assert claimed(bare_ground.worker().queue) == [first, last, over_two]


def test_an_invalid_aoi(bare_ground: Ground) -> None:
    # A bow-tie: its wings lie west and east of (15, 46), above and below is nothing.
    bare_ground.add_aoi("POLYGON((14 45, 16 47, 16 45, 14 47, 14 45))")
    bare_ground.add_scene(footprint=shapely.box(14.9, 46.7, 15.1, 46.9))
    west = bare_ground.add_scene(footprint=shapely.box(14.1, 45.9, 14.2, 46.1))
    east = bare_ground.add_scene(footprint=shapely.box(15.8, 45.9, 15.9, 46.1))
    assert claimed(bare_ground.worker().queue) == [west, east]


def test_an_aoi_in_another_reference_system(ground: Ground) -> None:
    ground.query("CREATE TABLE aois_utm AS SELECT name, ST_Transform(wkb_geometry, 32633) wkb_geometry FROM aois")
    ground.config["database"]["tables"]["aoi_table"] = "aois_utm"
    inside = ground.add_scene(footprint=shapely.box(15, 46, 15.1, 46.1))
    ground.add_scene(footprint=shapely.box(17, 46, 17.1, 46.1))
    assert claimed(ground.worker().queue) == [inside]


def test_an_aoi_of_the_whole_earth(bare_ground: Ground) -> None:
    bare_ground.add_aoi(shapely.box(-180, -90, 180, 90))
    numbers = [bare_ground.add_scene(footprint=shapely.box(west, 45, west + 1, 46)) for west in (-170, 0, 170)]
    assert claimed(bare_ground.worker().queue) == numbers


def test_a_scene_without_footprint_is_left(ground: Ground) -> None:
    lost = ground.add_scene()
    ground.query("UPDATE dias_catalogue SET footprint = NULL WHERE id = %s", lost)
    wanted = ground.add_scene(MORNING + DAY)
    assert claimed(ground.worker().queue) == [wanted]


BROKEN_FOOTPRINTS = {
    "bow-tie": "POLYGON((14 45, 16 47, 16 45, 14 47, 14 45))",
    "a corner that is no number": "POLYGON((15 46, 15.2 46, 15.1 46.5, 15 NaN, 15 46))",
    "beyond the pole": "POLYGON((15 46, 15 95, 16 46, 15 46))",
}


@pytest.mark.parametrize("footprint", BROKEN_FOOTPRINTS.values(), ids=BROKEN_FOOTPRINTS)
def test_one_broken_footprint_does_not_keep_the_others_waiting(footprint: str, bare_ground: Ground) -> None:
    # Not a rectangle: for those PostGIS has a short cut that looks at nothing else.
    bare_ground.add_aoi("POLYGON((14 45, 16 45, 15.9 47, 14 47, 14 45))")
    bare_ground.add_scene(MORNING, footprint)
    wanted = bare_ground.add_scene(MORNING + DAY)
    assert wanted in claimed(bare_ground.worker().queue)


@pytest.mark.parametrize("by_structure", [True, False])
def test_an_invalid_footprint_with_every_version_of_postgis(by_structure: bool, bare_ground: Ground) -> None:
    """Without the quick way of making geometries valid, its hull takes its place; an AOI is made valid all the same."""
    bow_tie = "POLYGON((14 45, 16 47, 16 45, 14 47, 14 45))"
    bare_ground.add_aoi("POLYGON((14 45, 14.5 45.3, 14.5 45, 14 45.3, 14 45))")
    across = bare_ground.add_scene(MORNING, bow_tie)
    bare_ground.add_scene(MORNING, "POLYGON((14.2 45.35, 14.3 45.36, 14.3 45.35, 14.2 45.36, 14.2 45.35))")
    worker = bare_ground.worker()
    tables = dataclasses.replace(worker.tables, fixes_by_structure=by_structure)
    queue = Queue(worker.database, tables, bare_ground.settings, "s2")
    assert claimed(queue) == [across]


def test_the_srid_that_most_footprints_have(ground: Ground) -> None:
    """The first one has another."""
    ground.query("ALTER TABLE dias_catalogue ALTER footprint TYPE geometry")
    odd, *others = (ground.add_scene(MORNING + number * DAY) for number in range(3))
    ground.query("UPDATE dias_catalogue SET footprint = ST_SetSRID(footprint, 32633) WHERE id = %s", odd)
    ground.query("UPDATE dias_catalogue SET status = status WHERE id <> %s", odd)
    queue = ground.worker().queue
    problems = {}
    while (scene := queue.claim()) is not None:
        problems[scene.id] = scene.problem
        queue.give_back(scene, DONE, ParcelCounts())
    assert problems.pop(odd) is not None
    assert problems == dict.fromkeys(others)


def test_the_one_that_was_asked_for(ground: Ground) -> None:
    ground.add_scene(MORNING - DAY)
    plain = ground.add_scene(reference="S2A_plain")
    safe = ground.add_scene(reference="S2A_safe.SAFE")
    ground.add_scene(reference="S2A_plain_longer")
    queue = ground.worker().queue
    for reference, expected in (("S2A_plain.SAFE", plain), ("S2A_safe", safe)):
        scene = queue.claim(reference)
        assert scene is not None
        assert scene.id == expected
        assert queue.claim(reference) is None
    assert queue.claim("S2A_%") is None
    assert queue.claim("nothing'; DROP TABLE aois; --") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "S2A_asked has the status 'extracted'"),
        ({"card": "bs"}, "S2A_asked is not of card s2"),
        (
            {"obstime": dt.datetime(2021, 1, 1)},
            "S2A_asked is not between startdate 2020-01-01 00:00:00 and enddate 2021-01-01 00:00:00",
        ),
        ({"footprint": shapely.box(20, 45, 21, 46)}, "S2A_asked does not meet the AOI nl"),
        ({"reference": "S2A_other"}, "S2A_asked is not in public.dias_catalogue"),
    ],
    ids=["status", "card", "dates", "AOI", "absent"],
)
def test_why_the_one_that_was_asked_for_cannot_be_taken(change: dict[str, Any], words: str, ground: Ground) -> None:
    scene: dict[str, Any] = {"status": "extracted", "reference": "S2A_asked"} | change
    ground.add_scene(**scene)
    worker = ground.worker()
    assert worker.queue.explain("S2A_asked") == words
    assert worker.idle


def test_whether_a_scene_meets_the_aoi_is_one_question(ground: Ground) -> None:
    """The AOI's upper edge is straight in its own reference system, EPSG:32633, and reaches 46.05 degrees north at 15
    degrees east. The straight line between its ends in longitude and latitude would be some 0.3 degrees further south:
    the first scene lies between these two."""
    x, y = 500_000, 5_100_000
    ground.query("DROP TABLE aois")
    ground.query("CREATE TABLE aois (name text, wkb_geometry geometry(Geometry, 32633))")
    wkt = shapely.box(x - 770_000, y - 500_000, x + 770_000, y).wkt
    ground.query("INSERT INTO aois VALUES ('nl', ST_GeomFromText(%s, 32633))", wkt)
    inside = ground.add_scene(MORNING, shapely.box(14.99, 45.9, 15.01, 45.95), reference="inside")
    outside = ground.add_scene(MORNING, shapely.box(14.99, 46.1, 15.01, 46.15), reference="outside")
    queue = ground.worker().queue
    for scene in (inside, outside):
        ground.set_status(scene, "inprogress")
    assert queue.foreign() == [(inside, "inside")]
    assert queue.explain("inside") == "inside has the status 'inprogress'"
    assert queue.explain("outside") == "outside does not meet the AOI nl"
    for scene in (inside, outside):
        ground.set_status(scene, "ingested")
        ground.query(
            "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, finished_at, retry_after) "
            "VALUES (%s, '', 's2', 'nl', '', '', now(), now() + interval '1 hour')",
            scene,
        )
    assert queue.pending(100).waiting == 1
    ground.query("DELETE FROM extraction_log")
    assert claimed(queue) == [inside]


# Scenes of other programs


def test_scenes_of_other_programs(ground: Ground, worker: Worker) -> None:
    """Those that this worker would take itself, if they were `ingested`; and that can be taken over."""
    theirs = ground.add_scene(MORNING + DAY, status="inprogress", reference="theirs")
    older = ground.add_scene(MORNING, status="inprogress", reference="older")
    ground.add_scene(status="extracted")
    ground.add_scene(status="inprogress", card="bs")
    ground.add_scene(dt.datetime(2021, 1, 1), status="inprogress")
    elsewhere = ground.add_scene(footprint=shapely.box(20, 45, 21, 46), status="inprogress")
    ground.add_scene(MORNING)
    other = ground.worker().queue
    assert other.claim() is not None
    assert worker.queue.foreign() == [(older, "older"), (theirs, "theirs")]
    assert [worker.queue.adopt(scene) for scene, _ in worker.queue.foreign()] == [True, True]
    assert worker.queue.foreign() == []
    assert [ground.status(scene) for scene in (older, theirs, elsewhere)] == ["ingested", "ingested", "inprogress"]
    assert claimed(worker.queue) == [older, theirs]
    assert worker.idle


def test_a_scene_that_cannot_be_adopted(ground: Ground, worker: Worker) -> None:
    ours = ground.add_scene()
    assert ground.worker().queue.claim() is not None
    done = ground.add_scene(status="extracted")
    locked = ground.add_scene(status="inprogress")
    other = ground.connect()
    other.cursor().execute("SELECT FROM dias_catalogue WHERE id = %s FOR UPDATE", (locked,))
    assert [worker.queue.adopt(scene) for scene in (ours, done, locked, 12345)] == [False] * 4
    other.rollback()
    assert worker.queue.adopt(locked)


# What it looks like afterwards


def test_a_claim_is_in_the_catalogue_and_in_the_log(ground: Ground, worker: Worker) -> None:
    number = ground.add_scene(reference="S2A_x")
    scene = worker.queue.claim()
    (attempt,) = ground.log(number)
    assert scene == Scene(number, "S2A_x", MORNING, attempt["run_id"])
    assert ground.status(number) == "inprogress"
    assert worker.idle
    assert attempt["started_at"] is not None
    del attempt["started_at"], attempt["run_id"]
    assert attempt.pop("versions").keys() == {"package"}
    assert {name: value for name, value in attempt.items() if value is not None} == {
        "obsid": number,
        "reference": "S2A_x",
        "card": "s2",
        "aoi": "nl",
        "results": "public.signatures",
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        "attempt": 1,
        "settings": {
            "radiometry": "raw",
            "pixel_rule": "centre",
            "inward_buffer_m": 0,
            "min_area_m2": 0,
            "min_pixels": 0,
            "sources": {"B4": "B04", "B8": "B08", "SC": "SCL"},
        },
    }


def test_nothing_to_claim_leaves_no_trace(ground: Ground, worker: Worker) -> None:
    number = ground.add_scene(status="extracted")
    assert worker.queue.claim() is None
    assert ground.log(number) == []
    assert worker.idle


def test_obstime_with_a_time_zone_reads_as_utc(ground: Ground) -> None:
    ground.query("ALTER TABLE dias_catalogue ALTER obstime TYPE timestamptz USING obstime AT TIME ZONE 'UTC'")
    worker = ground.worker()
    with worker.database.transaction("testing") as cursor:
        cursor.execute("SET timezone = 'Asia/Tokyo'")
    ground.add_scene()
    scene = worker.queue.claim()
    assert scene is not None
    assert scene.obstime == MORNING


@pytest.mark.parametrize(
    ("schema", "table", "column"),
    [("My Schema", "select; --", "Gebiet's {x}"), ('a"b', "Übersicht", "$1")],
    ids=["statements", "quotes"],
)
def test_names_may_be_anything(schema: str, table: str, column: str, bare_ground: Ground) -> None:
    names = {"schema": sql.Identifier(schema), "table": sql.Identifier(table), "column": sql.Identifier(column)}
    bare_ground.add_aoi(AOI, name="d'Oro %s {y}")
    bare_ground.add_scene()
    for text in (
        "CREATE SCHEMA {schema}",
        "ALTER TABLE dias_catalogue SET SCHEMA {schema}",
        "ALTER TABLE {schema}.dias_catalogue RENAME TO {table}",
        "ALTER TABLE aois RENAME name TO {column}",
    ):
        bare_ground.query(sql.SQL(text).format(**names))
    database = bare_ground.config["database"]
    database["tables"]["catalogue_table"] = f"{schema}.{table}"
    database["args"] |= {"aoi_field": column, "name": "d'Oro %s {y}"}
    assert bare_ground.worker().queue.claim() is not None
    asked = sql.SQL("SELECT d.status, aoi FROM {schema}.{table} d, {schema}.extraction_log").format(**names)
    assert bare_ground.query(asked) == [("inprogress", "d'Oro %s {y}")]


def test_aoi_field_may_be_the_column_name_of_the_aoi_table(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    ground.config["database"]["args"]["aoi_field"] = "nl_2020"
    number = ground.add_scene()
    assert claimed(ground.worker().queue) == [number]
    assert "table public.aois has no column nl_2020 (aoi_field): using its column name" in caplog.messages


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (
            "DELETE FROM aois",
            "database.args.name: no row of public.aois has name = 'nl'; write the name of an area in that table",
        ),
        (
            "UPDATE aois SET wkb_geometry = NULL",
            "database.args.name: the area 'nl' in public.aois has no geometry; give it one",
        ),
        (
            "ALTER TABLE aois RENAME name TO label",
            "database.args.aoi_field: table public.aois has no column name; write the name of one of its columns: "
            "label, wkb_geometry",
        ),
        (
            "DROP TABLE aois",
            "database.tables.aoi_table: there is no table aois in the database; create it or write the name of the "
            "right one",
        ),
        (
            "ALTER TABLE aois RENAME wkb_geometry TO geom",
            "database.tables.aoi_table: table public.aois has no column wkb_geometry (outline of the area); add it or "
            "write the name of the right table",
        ),
        (
            "ALTER TABLE dias_catalogue DROP status",
            "database.tables.catalogue_table: table public.dias_catalogue has no column status (state of processing); "
            "add it or write the name of the right table",
        ),
        (
            "DROP TABLE dias_catalogue",
            "database.tables.catalogue_table: there is no table dias_catalogue in the database; create it or write "
            "the name of the right one",
        ),
        (
            "ALTER TABLE aois ALTER wkb_geometry TYPE geometry USING ST_SetSRID(wkb_geometry, 0)",
            "database.tables.aoi_table: the geometries of public.aois have no SRID, so nobody knows where they are; "
            "set it with SELECT UpdateGeometrySRID('public', 'aois', 'wkb_geometry', <EPSG code>)",
        ),
    ],
)
def test_tables_that_cannot_be_used(prepare: str, message: str, ground: Ground, database: Database) -> None:
    ground.query(prepare)
    with pytest.raises(ConfigurationError) as caught:
        ground.read(database)
    assert str(caught.value) == f"db_config.json: {message}"


def test_another_program_s_extraction_log_is_not_taken_for_ours(ground: Ground, database: Database) -> None:
    ground.query("CREATE TABLE extraction_log (run_id int, text text)")
    with pytest.raises(ConfigurationError) as caught:
        ground.read(database)
    assert str(caught.value) == (
        "table public.extraction_log is not the log of this program (it lacks attempt, "
        "parcels_without_geometry, retry_after, status, versions); rename that table"
    )


# By whom


def test_a_locked_scene_is_passed_over_at_once(ground: Ground) -> None:
    oldest, next_one = ground.add_scene(MORNING), ground.add_scene(MORNING + DAY)
    queue = ground.worker(lock_timeout="1s").queue
    other = ground.connect()
    with other.cursor() as cursor:
        cursor.execute("SELECT FROM dias_catalogue WHERE id = %s FOR UPDATE", (oldest,))
    assert claimed(queue) == [next_one]
    other.rollback()
    assert claimed(queue) == [oldest]


def test_another_program_s_foreign_key_does_not_hide_a_scene(ground: Ground) -> None:
    number = ground.add_scene()
    ground.query("CREATE TABLE hist (obsid int REFERENCES dias_catalogue(id))")
    queue = ground.worker().queue
    other = ground.connect()
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO hist VALUES (%s)", (number,))
    assert claimed(queue) == [number]


def test_a_claim_does_not_keep_another_program_s_foreign_key_waiting(ground: Ground) -> None:
    number = ground.add_scene()
    ground.query("CREATE TABLE hist (obsid int REFERENCES dias_catalogue(id))")
    queue, session = (worker := ground.worker()).queue, worker.session
    with session.cursor() as cursor:  # a claim that has not been committed yet: its first statement
        cursor.execute(statement("queue.claim", **queue._names), queue._conditions() | {"skip": []})
        assert cursor.rowcount == 1
    other = ground.connect(options="-c lock_timeout=1000")
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO hist VALUES (%s)", (number,))


def test_a_lock_on_the_whole_table_is_an_outage(ground: Ground) -> None:
    ground.add_scene()
    worker = ground.worker(lock_timeout="200ms")
    other = ground.connect()
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE dias_catalogue IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(DatabaseUnavailableError, match="while claiming a scene"):
        worker.queue.claim()
    assert worker.idle


def together(number: int, work: Callable[[threading.Barrier], list[int]]) -> list[list[int]]:
    """What `number` threads return, which all wait at the barrier."""
    barrier = threading.Barrier(number, timeout=30)
    with ThreadPoolExecutor(number) as threads:
        return [done.result() for done in [threads.submit(work, barrier) for _ in range(number)]]


def test_workers_never_take_the_same_scene(ground: Ground) -> None:
    # Half of them are of one moment, so that all workers want the same one.
    scenes = [ground.add_scene(MORNING + (number % 2) * number * DAY) for number in range(60)]
    ground.worker()

    def work(barrier: threading.Barrier) -> list[int]:
        queue = ground.worker().queue
        barrier.wait()
        return claimed(queue)

    shares = together(4, work)
    assert sorted(number for share in shares for number in share) == scenes
    assert ground.query("SELECT obsid, count(*) FROM extraction_log GROUP BY obsid HAVING count(*) > 1") == []


def test_two_workers_and_one_scene_again_and_again(ground: Ground) -> None:
    number = ground.add_scene()
    queues = [ground.worker().queue, ground.worker().queue]
    for _ in range(25):
        waiting = list(queues)

        def work(barrier: threading.Barrier, waiting: list[Queue] = waiting) -> list[int]:
            queue = waiting.pop()
            barrier.wait()
            scene = queue.claim()
            return [] if scene is None else [scene.id]

        assert sorted(together(2, work)) == [[], [number]]
        # Its attempt has ended: an open one of nobody's would be rescued meanwhile, and the scene be passed over.
        ground.query("UPDATE extraction_log SET finished_at = now(), outcome = 'given_back' WHERE finished_at IS NULL")
        for queue in queues:
            queue.unlock()
        ground.set_status(number, "ingested")


# Until when


def test_a_scene_that_somebody_else_has_taken_over_is_not_ours_to_end(ground: Ground) -> None:
    """An operator frees a scene whose worker seems lost, another worker takes it; then the first comes back."""
    number = ground.add_scene()
    first, second = ground.worker(), ground.worker()
    lost = first.queue.claim()
    assert lost is not None
    ground.set_status(number, "ingested")
    assert second.queue.claim() is None  # the first one still has it
    first.queue.unlock()
    current = second.queue.claim()
    assert current is not None
    # Even if nobody had ended the first one's attempt.
    ground.query("UPDATE extraction_log SET finished_at = NULL, outcome = NULL WHERE run_id = %s", lost.run_id)
    assert not first.queue.give_back(lost, Outcome("failed", "failed", "its product is broken"), ParcelCounts())
    assert ground.status(number) == "inprogress"
    with second.database.transaction("testing") as cursor:
        assert second.attempts.finish(cursor, current, DONE, ParcelCounts())
    assert ground.status(number) == "extracted"
