"""What may still come when there is nothing to claim: scenes that wait for an attempt, and those of other workers."""

from __future__ import annotations

import datetime as dt
import json

import pytest
import shapely
from psycopg2 import sql

from extractors.database.queue import Queue
from extractors.database.sql import statement
from extractors.model import Outcome, ParcelCounts, Pending
from tests.integration.conftest import MORNING, Ground, Worker

LONGEST = 100.0


@pytest.fixture
def queue(worker: Worker) -> Queue:
    return worker.queue


def claim(ground: Ground, scene: int, card: str = "s2") -> None:
    """Another worker takes the one scene that there is."""
    claimed = ground.worker(card).queue.claim()
    assert claimed is not None
    assert claimed.id == scene


def test_nothing_at_all(queue: Queue) -> None:
    assert queue.pending(LONGEST) == Pending(0, 0.0, 0)


def test_scenes_of_other_workers(ground: Ground, queue: Queue) -> None:
    for number in (1, 2, 3):
        claim(ground, ground.add_scene())
        assert queue.pending(LONGEST) == Pending(under_way=number)


@pytest.mark.parametrize("outcome", ["extracted", "given_back"])
def test_an_attempt_that_has_ended(outcome: str, ground: Ground, queue: Queue) -> None:
    ground.add_scene()
    other = ground.worker().queue
    scene = other.claim()
    assert scene is not None
    status = "ingested" if outcome == "given_back" else outcome
    assert other.give_back(scene, Outcome(outcome, status, "in words"), ParcelCounts())
    assert queue.pending(LONGEST) == Pending()


def test_a_scene_that_waits_for_its_next_attempt(ground: Ground, queue: Queue) -> None:
    ground.add_scene()
    other = ground.worker().queue
    scene = other.claim()
    assert scene is not None
    assert other.give_back(scene, Outcome("error", "ingested", "in words", retry_after=50), ParcelCounts())
    found = queue.pending(LONGEST)
    assert (found.waiting, found.under_way) == (1, 0)
    assert 30 < found.seconds <= 60  # 50, spread by a fifth, some of which is over


def test_an_attempt_that_began_too_long_ago(ground: Ground, queue: Queue) -> None:
    claim(ground, ground.add_scene())
    for seconds, number in ((LONGEST - 20, 1), (LONGEST + 1, 0)):
        ground.query("UPDATE extraction_log SET started_at = now() - %s * interval '1 second'", seconds)
        assert queue.pending(LONGEST).under_way == number


@pytest.mark.parametrize("status", ["ingested", "extracted", "failed"])
def test_a_scene_whose_status_others_have_set(status: str, ground: Ground, queue: Queue) -> None:
    scene = ground.add_scene()
    claim(ground, scene)
    ground.set_status(scene, status)
    assert queue.pending(LONGEST).under_way == 0


def test_a_scene_of_another_program(ground: Ground, queue: Queue) -> None:
    ground.add_scene(status="inprogress")
    assert queue.pending(LONGEST).under_way == 0


def test_a_scene_that_another_program_has_taken_after_us(ground: Ground, queue: Queue) -> None:
    scene = ground.add_scene()
    claim(ground, scene)
    ground.query("UPDATE extraction_log SET finished_at = now()")
    ground.set_status(scene, "inprogress")
    assert queue.pending(LONGEST).under_way == 0


def test_a_scene_of_another_card(ground: Ground, queue: Queue) -> None:
    claim(ground, ground.add_scene(card="bs"), "bs")
    assert queue.pending(LONGEST).under_way == 0
    assert ground.worker("bs").queue.pending(LONGEST).under_way == 1


@pytest.mark.parametrize(
    "args",
    [{"startdate": "2020-05-01"}, {"enddate": "2020-03-01"}, {"name": "elsewhere"}],
    ids=["start", "end", "area"],
)
def test_a_scene_of_another_selection(args: dict[str, str], ground: Ground) -> None:
    claim(ground, ground.add_scene())
    ground.add_aoi(shapely.box(30, 45, 31, 46), name="elsewhere")
    ground.config["database"]["args"] |= args
    assert ground.worker().queue.pending(LONGEST).under_way == 0


def test_a_long_log_is_not_read_for_it(ground: Ground, worker: Worker) -> None:
    """Only the attempts that are open, by their index, and their scenes."""
    first = ground.add_scene(MORNING - dt.timedelta(days=1))
    claim(ground, first)
    ground.query(
        "INSERT INTO dias_catalogue (obstime, reference, sensor, card, status, footprint)"
        " SELECT obstime, reference || n, sensor, card, 'extracted', footprint"
        " FROM dias_catalogue, generate_series(1, 5000) n"
    )
    ground.query(
        "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, finished_at, outcome, status)"
        " SELECT id, reference, card, 'nl', 'signatures', 'here:1', now(), 'extracted', 'extracted'"
        " FROM dias_catalogue WHERE id <> %s",
        first,
    )
    ground.query("ANALYZE")
    queue = worker.queue
    explained = sql.SQL("EXPLAIN (FORMAT JSON) ") + statement("queue.under_way", **queue._names)
    with worker.database.transaction("testing") as cursor:
        cursor.execute(explained, queue._conditions() | {"longest": LONGEST})
        ((plan,),) = cursor.fetchall()
    text = json.dumps(plan)
    assert "extraction_log_open" in text
    assert "Seq Scan" not in text
    assert queue.pending(LONGEST).under_way == 1
