"""Ending a claim: in the caller's transaction with the rows, or on its own when nothing was written."""

from __future__ import annotations

from collections import Counter

import psycopg2.extensions
import pytest

from extractors.database.catalogue import Catalogue, Ending, Scene
from extractors.errors import DatabaseUnavailableError
from extractors.model import Account
from tests.integration.conftest import Ground, Session

IDLE = psycopg2.extensions.TRANSACTION_STATUS_IDLE


@pytest.fixture
def number(ground: Ground) -> int:
    return ground.add_scene()


@pytest.fixture
def catalogue(ground: Ground, session: Session) -> Catalogue:
    return ground.open_catalogue(session)


@pytest.fixture
def scene(catalogue: Catalogue, session: Session, number: int) -> Scene:
    claimed = catalogue.claim(session)
    assert claimed is not None
    assert claimed.id == number
    return claimed


def finish(catalogue: Catalogue, session: Session, scene: Scene, status: str = "extracted") -> bool:
    with session, session.cursor() as cursor:
        return catalogue.finish(cursor, scene, Ending(status, status, "in words"), Account(bands=("B4",)))


def test_status_and_log_end_together(ground: Ground, catalogue: Catalogue, session: Session, scene: Scene) -> None:
    account = Account(
        bands=("B4", "SC"),
        parcels_selected=3,
        rows_written=Counter({"B4": 2}),
        parcels_without_row={"B4": Counter(nodata=1), "SC": Counter(outside=3)},
        null_geometries=2,
        empty_geometries=1,
        seconds={"download": 0.25},
        versions={"gdal": "3.10"},
    )
    with session, session.cursor() as cursor:
        assert catalogue.finish(cursor, scene, Ending("extracted", "extracted", "all's well"), account)
    assert ground.status(scene.id) == "extracted"
    (attempt,) = ground.log(scene.id)
    assert attempt["finished_at"] >= attempt["started_at"]
    wanted = {
        "run_id": scene.run_id,
        "outcome": "extracted",
        "detail": "all's well",
        "parcels_selected": 3,
        "rows_written": {"B4": 2, "SC": 0},
        "parcels_without_row": {"B4": {"nodata": 1}, "SC": {"outside": 3}},
        "parcels_without_geometry": {"null": 2, "empty": 1},
        "seconds": {"download": 0.25},
    }
    assert {name: attempt[name] for name in wanted} == wanted
    # What the claim wrote is still there.
    assert attempt["versions"].keys() == {"package", "gdal"}


def test_finishing_is_part_of_the_caller_s_transaction(
    ground: Ground, catalogue: Catalogue, session: Session, scene: Scene
) -> None:
    with session.cursor() as cursor:
        assert catalogue.finish(cursor, scene, Ending("extracted", "extracted", ""), Account())
    assert ground.status(scene.id) == "inprogress"
    session.rollback()
    assert ground.status(scene.id) == "inprogress"
    assert ground.log(scene.id)[0]["outcome"] is None


@pytest.mark.parametrize("status", ["ingested", "extracted", "failed", "Obsolete"])
def test_finishing_does_not_touch_a_status_that_others_have_set(
    status: str, ground: Ground, catalogue: Catalogue, session: Session, scene: Scene
) -> None:
    ground.set_status(scene.id, status)
    assert not finish(catalogue, session, scene, "no_parcels")
    assert ground.status(scene.id) == status


def test_finishing_a_scene_that_is_gone(ground: Ground, catalogue: Catalogue, session: Session, scene: Scene) -> None:
    ground.query("DELETE FROM dias_catalogue")
    assert not finish(catalogue, session, scene)


def test_an_attempt_ends_once(ground: Ground, catalogue: Catalogue, session: Session, scene: Scene) -> None:
    assert finish(catalogue, session, scene)
    before = ground.log(scene.id)
    ground.set_status(scene.id, "inprogress")
    assert not finish(catalogue, session, scene, "failed")
    assert ground.status(scene.id) == "inprogress"
    assert ground.log(scene.id) == before


def test_an_attempt_that_others_have_ended_is_over(
    ground: Ground, catalogue: Catalogue, session: Session, scene: Scene
) -> None:
    ground.query(
        "UPDATE extraction_log SET finished_at = now(), outcome = 'given_back' WHERE run_id = %s", scene.run_id
    )
    assert not finish(catalogue, session, scene)
    assert ground.status(scene.id) == "inprogress"
    assert ground.log(scene.id)[0]["outcome"] == "given_back"


def test_giving_back(ground: Ground, catalogue: Catalogue, session: Session, scene: Scene) -> None:
    account = Account(bands=("B4",), parcels_selected=5, rows_written=Counter(B4=5))
    assert catalogue.release(session, scene, Ending("ingested", "given_back", "the disk is full"), account)
    # Nothing was written, and the log says so.
    assert ground.log(scene.id)[0]["rows_written"] == {"B4": 0}
    assert ground.log(scene.id)[0]["parcels_selected"] == 0
    assert ground.status(scene.id) == "ingested"
    assert session.info.transaction_status == IDLE
    again = catalogue.claim(session)
    assert again is not None
    assert again.id == scene.id
    assert again.run_id > scene.run_id
    assert [(row["outcome"], row["detail"]) for row in ground.log(scene.id)] == [
        ("given_back", "the disk is full"),
        (None, None),
    ]


def test_failing(ground: Ground, catalogue: Catalogue, session: Session, scene: Scene) -> None:
    catalogue.release(session, scene, Ending("failed", "failed", "the image is cut short"), Account())
    assert ground.status(scene.id) == "failed"
    assert catalogue.claim(session) is None


def test_releasing_leaves_a_status_that_others_have_set_and_ends_the_attempt(
    ground: Ground, catalogue: Catalogue, session: Session, scene: Scene
) -> None:
    ground.set_status(scene.id, "Obsolete")
    assert not catalogue.release(session, scene, Ending("ingested", "given_back", "stopped"), Account())
    assert ground.status(scene.id) == "Obsolete"
    (attempt,) = ground.log(scene.id)
    assert (attempt["outcome"], attempt["finished_at"] is not None) == ("given_back", True)
    assert session.info.transaction_status == IDLE


def test_releasing_over_a_broken_session(ground: Ground, catalogue: Catalogue, session: Session, scene: Scene) -> None:
    ground.query("SELECT pg_terminate_backend(%s)", session.info.backend_pid)
    with pytest.raises(DatabaseUnavailableError, match="the database connection broke while setting the status"):
        catalogue.release(session, scene, Ending("ingested", "given_back", ""), Account())
    assert session.closed
    catalogue.release(ground.connect(), scene, Ending("ingested", "given_back", ""), Account())
    assert ground.status(scene.id) == "ingested"


def test_a_narrow_status_column_takes_every_status(
    ground: Ground, catalogue: Catalogue, session: Session, scene: Scene
) -> None:
    for status in ("inprogress", "ingested", "extracted", "no_parcels", "notfound", "failed"):
        ground.set_status(scene.id, status)
    assert ground.one("SELECT max(length(status)) FROM dias_catalogue") <= 12
    assert catalogue.claim(session) is None


def test_for_which_areas_a_scene_was_extracted_before(
    ground: Ground, catalogue: Catalogue, session: Session, scene: Scene
) -> None:
    def before() -> set[tuple[str, str]]:
        with session, session.cursor() as cursor:
            return catalogue.extracted_before(cursor, scene)

    def earlier(obsid: int, aoi: str, results: str, outcome: str) -> None:
        """An attempt before the one that is under way: the numbers of attempts made by hand are below zero."""
        ground.query(
            "INSERT INTO extraction_log (run_id, obsid, reference, card, aoi, results, worker, outcome) "
            "OVERRIDING SYSTEM VALUE "
            "SELECT least(min(run_id), 0) - 1, %s, '', 's2', %s, %s, '', %s FROM extraction_log",
            obsid,
            aoi,
            results,
            outcome,
        )

    earlier(ground.add_scene(status="extracted"), "nl", "public.signatures", "extracted")
    earlier(scene.id, "nl", "public.signatures", "no_parcels")
    earlier(scene.id, "nl", "public.signatures", "given_back")
    assert before() == set()
    earlier(scene.id, "nl", "public.other_table", "extracted")
    earlier(scene.id, "be", "public.signatures", "extracted")
    earlier(scene.id, "be", "public.signatures", "extracted")
    assert before() == {("nl", "public.other_table"), ("be", "public.signatures")}
    assert finish(catalogue, session, scene)
    assert before() == {("nl", "public.other_table"), ("be", "public.signatures"), ("nl", "public.signatures")}


def test_an_attempt_with_the_same_number_at_another_scene_is_not_ours(
    ground: Ground, catalogue: Catalogue, session: Session, scene: Scene
) -> None:
    """A server that has lost its last commits, the claim of a scene among them, gives the number again."""
    other = ground.add_scene(status="inprogress")
    of_the_past = Scene(other, scene.reference, scene.obstime, scene.run_id)
    assert not catalogue.release(
        session, of_the_past, Ending("ingested", "given_back", "the server crashed"), Account()
    )
    (attempt,) = ground.log(scene.id)
    assert attempt["finished_at"] is None
    assert finish(catalogue, session, scene)
    assert ground.status(scene.id) == "extracted"
