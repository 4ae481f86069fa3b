"""What may still come when there is nothing to claim: scenes that wait for an attempt, and those of other workers."""

from __future__ import annotations

import datetime as dt
import json

import pytest
import shapely
from psycopg2 import sql

from extractors.database.catalogue import Catalogue, Ending, Prospects
from extractors.database.sql import statement
from extractors.model import Account
from tests.integration.conftest import MORNING, Ground, Session

LONGEST = 100.0


@pytest.fixture
def catalogue(ground: Ground, session: Session) -> Catalogue:
    return ground.open_catalogue(session)


def claim(ground: Ground, scene: int, card: str = "s2") -> tuple[Catalogue, Session]:
    """Another worker takes the one scene that there is."""
    other = ground.connect()
    catalogue = ground.open_catalogue(other, card)
    claimed = catalogue.claim(other)
    assert claimed is not None
    assert claimed.id == scene
    return catalogue, other


def test_nothing_at_all(catalogue: Catalogue, session: Session) -> None:
    assert catalogue.prospects(session, LONGEST) == Prospects(0, 0.0, 0)


def test_scenes_of_other_workers(ground: Ground, catalogue: Catalogue, session: Session) -> None:
    for number in (1, 2, 3):
        claim(ground, ground.add_scene())
        assert catalogue.prospects(session, LONGEST) == Prospects(under_way=number)


@pytest.mark.parametrize("outcome", ["extracted", "given_back"])
def test_an_attempt_that_has_ended(outcome: str, ground: Ground, catalogue: Catalogue, session: Session) -> None:
    ground.add_scene()
    other = ground.connect()
    scene = catalogue.claim(other)
    assert scene is not None
    status = "ingested" if outcome == "given_back" else outcome
    assert catalogue.release(other, scene, Ending(status, outcome, "in words"), Account())
    assert catalogue.prospects(session, LONGEST) == Prospects()


def test_a_scene_that_waits_for_its_next_attempt(ground: Ground, catalogue: Catalogue, session: Session) -> None:
    ground.add_scene()
    other = ground.connect()
    scene = catalogue.claim(other)
    assert scene is not None
    assert catalogue.release(other, scene, Ending("ingested", "error", "in words", pause=50), Account())
    found = catalogue.prospects(session, LONGEST)
    assert (found.waiting, found.under_way) == (1, 0)
    assert 40 < found.seconds <= 50


def test_an_attempt_that_began_too_long_ago(ground: Ground, catalogue: Catalogue, session: Session) -> None:
    claim(ground, ground.add_scene())
    for seconds, number in ((LONGEST - 20, 1), (LONGEST + 1, 0)):
        ground.query("UPDATE extraction_log SET started_at = now() - %s * interval '1 second'", seconds)
        assert catalogue.prospects(session, LONGEST).under_way == number


@pytest.mark.parametrize("status", ["ingested", "extracted", "failed"])
def test_a_scene_whose_status_others_have_set(
    status: str, ground: Ground, catalogue: Catalogue, session: Session
) -> None:
    scene = ground.add_scene()
    claim(ground, scene)
    ground.set_status(scene, status)
    assert catalogue.prospects(session, LONGEST).under_way == 0


def test_a_scene_of_another_program(ground: Ground, catalogue: Catalogue, session: Session) -> None:
    ground.add_scene(status="inprogress")
    assert catalogue.prospects(session, LONGEST).under_way == 0


def test_a_scene_that_another_program_has_taken_after_us(
    ground: Ground, catalogue: Catalogue, session: Session
) -> None:
    scene = ground.add_scene()
    claim(ground, scene)
    ground.query("UPDATE extraction_log SET finished_at = now()")
    ground.set_status(scene, "inprogress")
    assert catalogue.prospects(session, LONGEST).under_way == 0


def test_a_scene_of_another_card(ground: Ground, catalogue: Catalogue, session: Session) -> None:
    claim(ground, ground.add_scene(card="bs"), "bs")
    assert catalogue.prospects(session, LONGEST).under_way == 0
    assert ground.open_catalogue(session, "bs").prospects(session, LONGEST).under_way == 1


@pytest.mark.parametrize(
    "args",
    [{"startdate": "2020-05-01"}, {"enddate": "2020-03-01"}, {"name": "elsewhere"}],
    ids=["start", "end", "area"],
)
def test_a_scene_of_another_selection(args: dict[str, str], ground: Ground, session: Session) -> None:
    claim(ground, ground.add_scene())
    ground.add_aoi(shapely.box(30, 45, 31, 46), name="elsewhere")
    ground.config["database"]["args"] |= args
    assert ground.open_catalogue(session).prospects(session, LONGEST).under_way == 0


def test_a_long_log_is_not_read_for_it(ground: Ground, catalogue: Catalogue, session: Session) -> None:
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
    explained = sql.SQL("EXPLAIN (FORMAT JSON) ") + statement(
        "catalogue.under_way", catalogue=catalogue.table.identifier, log=catalogue.log.identifier
    )
    with session, session.cursor() as cursor:
        cursor.execute(explained, catalogue._conditions(None) | {"longest": LONGEST})
        ((plan,),) = cursor.fetchall()
    text = json.dumps(plan)
    assert "extraction_log_open" in text
    assert "Seq Scan" not in text
    assert catalogue.prospects(session, LONGEST).under_way == 1
