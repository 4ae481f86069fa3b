"""Ending a claim: in the caller's transaction with the rows, or on its own when nothing was written."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from extractors.errors import DatabaseUnavailableError
from extractors.model import Outcome, ParcelCounts, Scene
from tests.integration.conftest import Ground, Worker

GIVEN_BACK = Outcome("given_back", "ingested", "the disk is full")


@pytest.fixture
def number(ground: Ground) -> int:
    return ground.add_scene()


@pytest.fixture
def scene(worker: Worker, number: int) -> Scene:
    claimed = worker.queue.claim()
    assert claimed is not None
    assert claimed.id == number
    return claimed


def finish(worker: Worker, scene: Scene, status: str = "extracted") -> bool:
    with worker.database.transaction("testing") as cursor:
        return worker.attempts.finish(cursor, scene, Outcome(status, status, "in words"), ParcelCounts(bands=("B4",)))


def test_status_and_log_end_together(ground: Ground, worker: Worker, scene: Scene) -> None:
    counts = ParcelCounts(
        bands=("B4", "SC"),
        parcels_selected=3,
        rows_written=Counter({"B4": 2}),
        parcels_without_row={"B4": Counter(nodata=1), "SC": Counter(outside=3)},
        null_geometries=2,
        empty_geometries=1,
        seconds={"download": 0.25},
        versions={"gdal": "3.10"},
    )
    with worker.database.transaction("testing") as cursor:
        assert worker.attempts.finish(cursor, scene, Outcome("extracted", "extracted", "all's well"), counts)
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


def test_finishing_is_part_of_the_caller_s_transaction(ground: Ground, worker: Worker, scene: Scene) -> None:
    with pytest.raises(ZeroDivisionError), worker.database.transaction("testing") as cursor:
        assert worker.attempts.finish(cursor, scene, Outcome("extracted", "extracted", ""), ParcelCounts())
        assert ground.status(scene.id) == "inprogress"
        _ = 1 / 0
    assert ground.status(scene.id) == "inprogress"
    assert ground.log(scene.id)[0]["outcome"] is None


@pytest.mark.parametrize("status", ["ingested", "extracted", "failed", "Obsolete"])
def test_finishing_does_not_touch_a_status_that_others_have_set(
    status: str, ground: Ground, worker: Worker, scene: Scene
) -> None:
    ground.set_status(scene.id, status)
    assert not finish(worker, scene, "no_parcels")
    assert ground.status(scene.id) == status


def test_finishing_a_scene_that_is_gone(ground: Ground, worker: Worker, scene: Scene) -> None:
    ground.query("DELETE FROM dias_catalogue")
    assert not finish(worker, scene)


def test_an_attempt_ends_once(ground: Ground, worker: Worker, scene: Scene) -> None:
    assert finish(worker, scene)
    before = ground.log(scene.id)
    ground.set_status(scene.id, "inprogress")
    assert not finish(worker, scene, "failed")
    assert ground.status(scene.id) == "inprogress"
    assert ground.log(scene.id) == before


def test_an_attempt_that_others_have_ended_is_over(ground: Ground, worker: Worker, scene: Scene) -> None:
    ground.query(
        "UPDATE extraction_log SET finished_at = now(), outcome = 'given_back' WHERE run_id = %s", scene.run_id
    )
    assert not finish(worker, scene)
    assert ground.status(scene.id) == "inprogress"
    assert ground.log(scene.id)[0]["outcome"] == "given_back"


def test_giving_back(ground: Ground, worker: Worker, scene: Scene) -> None:
    counts = ParcelCounts(bands=("B4",), parcels_selected=5, rows_written=Counter(B4=5))
    assert worker.queue.give_back(scene, GIVEN_BACK, counts)
    # Nothing was written, and the log says so.
    assert ground.log(scene.id)[0]["rows_written"] == {"B4": 0}
    assert ground.log(scene.id)[0]["parcels_selected"] == 0
    assert ground.status(scene.id) == "ingested"
    assert worker.idle
    again = worker.queue.claim()
    assert again is not None
    assert again.id == scene.id
    assert again.run_id > scene.run_id
    assert [(row["outcome"], row["detail"]) for row in ground.log(scene.id)] == [
        ("given_back", "the disk is full"),
        (None, None),
    ]


def test_failing(ground: Ground, worker: Worker, scene: Scene) -> None:
    worker.queue.give_back(scene, Outcome("failed", "failed", "the image is cut short"), ParcelCounts())
    assert ground.status(scene.id) == "failed"
    assert worker.queue.claim() is None


def test_releasing_leaves_a_status_that_others_have_set_and_ends_the_attempt(
    ground: Ground, worker: Worker, scene: Scene
) -> None:
    ground.set_status(scene.id, "Obsolete")
    assert not worker.queue.give_back(scene, GIVEN_BACK, ParcelCounts())
    assert ground.status(scene.id) == "Obsolete"
    (attempt,) = ground.log(scene.id)
    assert (attempt["outcome"], attempt["finished_at"] is not None) == ("given_back", True)
    assert worker.idle


def test_giving_back_over_a_broken_session(ground: Ground, worker: Worker, scene: Scene) -> None:
    ground.query("SELECT pg_terminate_backend(%s)", worker.session.info.backend_pid)
    with pytest.raises(DatabaseUnavailableError, match="the database connection broke while setting the status"):
        worker.attempts.release(scene, GIVEN_BACK, ParcelCounts())
    assert worker.database.closed
    assert worker.queue.give_back(scene, GIVEN_BACK, ParcelCounts())
    assert ground.status(scene.id) == "ingested"


def test_giving_back_over_a_session_that_breaks_just_then(ground: Ground, worker: Worker, scene: Scene) -> None:
    ground.query("SELECT pg_terminate_backend(%s)", worker.session.info.backend_pid)
    assert worker.queue.give_back(scene, GIVEN_BACK, ParcelCounts())
    assert ground.status(scene.id) == "ingested"


def test_giving_back_is_tried_again_if_it_was_cancelled(ground: Ground, worker: Worker, scene: Scene) -> None:
    """By a signal that came a moment too late."""
    other = ground.connect()
    other.cursor().execute("SELECT FROM dias_catalogue FOR UPDATE")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"

    def cancel() -> None:
        while not ground.one(waits, worker.session.info.backend_pid):
            pass
        worker.database.cancel()
        other.rollback()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert worker.queue.give_back(scene, GIVEN_BACK, ParcelCounts())
    thread.join()
    assert ground.status(scene.id) == "ingested"


def test_giving_back_amid_a_transaction(ground: Ground, worker: Worker, scene: Scene) -> None:
    """What a signal has left open is undone."""
    worker.session.cursor().execute("UPDATE dias_catalogue SET status = 'half done'")
    assert worker.queue.give_back(scene, GIVEN_BACK, ParcelCounts())
    assert ground.status(scene.id) == "ingested"


def test_what_could_not_be_written_is_written_before_the_next_claim(
    ground: Ground, worker: Worker, scene: Scene
) -> None:
    worker.queue.settle_later(scene, Outcome("failed", "failed", "the image is cut short"), ParcelCounts())
    worker.queue.unlock()
    # Still ours: nobody takes the worker for dead.
    assert ground.worker().queue.claim() is None
    assert ground.status(scene.id) == "inprogress"
    assert worker.queue.claim() is None
    assert ground.status(scene.id) == "failed"
    assert [row["outcome"] for row in ground.log(scene.id)] == ["failed"]


def test_a_living_worker_that_was_taken_for_dead_says_how_it_really_ended(
    ground: Ground, worker: Worker, scene: Scene
) -> None:
    """Its session had ended, so another worker set the scene free, at the last attempt as failed."""
    ground.query("UPDATE extraction_log SET attempt = 5")
    worker.database.close()
    assert ground.worker().queue.claim() is None
    assert (ground.status(scene.id), ground.log(scene.id)[0]["outcome"]) == ("failed", "lost")
    assert not worker.queue.give_back(scene, GIVEN_BACK, ParcelCounts())
    assert (ground.status(scene.id), ground.log(scene.id)[0]["outcome"]) == ("ingested", "given_back")


def test_a_narrow_status_column_takes_every_status(ground: Ground, worker: Worker, scene: Scene) -> None:
    for status in ("inprogress", "ingested", "extracted", "no_parcels", "notfound", "failed"):
        ground.set_status(scene.id, status)
    assert ground.one("SELECT max(length(status)) FROM dias_catalogue") <= 12
    assert worker.queue.claim() is None


def test_whether_a_scene_was_extracted_before(ground: Ground, worker: Worker, scene: Scene) -> None:
    def before() -> bool:
        with worker.database.transaction("testing") as cursor:
            return worker.attempts.extracted_before(cursor, scene.id)

    def earlier(obsid: int, outcome: str) -> None:
        """An attempt before the one that is under way: the numbers of attempts made by hand are below zero."""
        ground.query(
            "INSERT INTO extraction_log (run_id, obsid, reference, card, aoi, results, worker, outcome) "
            "OVERRIDING SYSTEM VALUE "
            "SELECT least(min(run_id), 0) - 1, %s, '', 's2', 'be', 'public.other_table', '', %s FROM extraction_log",
            obsid,
            outcome,
        )

    earlier(ground.add_scene(status="extracted"), "extracted")
    earlier(scene.id, "no_parcels")
    earlier(scene.id, "given_back")
    assert not before()
    earlier(scene.id, "extracted")  # wherever the rows went: that table may have this one's name by now
    assert before()


def test_an_attempt_with_the_same_number_at_another_scene_is_not_ours(
    ground: Ground, worker: Worker, scene: Scene
) -> None:
    """A server that has lost its last commits, the claim of a scene among them, gives the number again."""
    other = ground.add_scene(status="inprogress")
    of_the_past = Scene(other, scene.reference, scene.obstime, scene.run_id)
    assert not worker.queue.give_back(of_the_past, GIVEN_BACK, ParcelCounts())
    (attempt,) = ground.log(scene.id)
    assert attempt["finished_at"] is None
    assert finish(worker, scene)
    assert ground.status(scene.id) == "extracted"
