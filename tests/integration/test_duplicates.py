"""Several products of one observation: which are siblings, and which is claimed, in whatever order they come."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
import shapely

from extractors.database.queue import Queue
from extractors.database.results import Rows
from extractors.errors import LockedError, OutageError
from extractors.model import Outcome, ParcelCounts, Scene
from tests.integration.conftest import AOI, MORNING, Ground

SECOND = dt.timedelta(seconds=1)
DONE = Outcome("extracted", "extracted", "")


def product(baseline: str = "N0301", generation: str = "20200401T135108", **parts: str) -> str:
    """The name of a product; all of the same datatake and tile, unless `parts` say something else."""
    own = {"unit": "S2A", "start": "20200401T100031", "orbit": "R122", "tile": "T33TWM", "end": ".SAFE"} | parts
    return f"{own['unit']}_MSIL2A_{own['start']}_{baseline}_{own['orbit']}_{own['tile']}_{generation}{own['end']}"


OLD, NEW = product("N0301"), product("N0500", "20230902T045008")


@pytest.fixture
def newest(ground: Ground) -> Ground:
    """A ground whose workers are to extract only the newest of siblings."""
    ground.config["extraction"] = {"duplicates": "newest"}
    return ground


def claim(queue: Queue, reference: str | None = None) -> int | None:
    scene = queue.claim(reference)
    return None if scene is None else scene.id


def end_all(queue: Queue, kind: str) -> list[str]:
    """Claim all that can be claimed, each of which ends in this way; their references."""
    taken = []
    while (scene := queue.claim()) is not None:
        taken.append(scene.reference)
        assert queue.give_back(scene, Outcome(kind, kind, ""), ParcelCounts())
    return taken


def taken(queue: Queue) -> Scene:
    scene = queue.claim()
    assert scene is not None
    return scene


# Which go first


AGES = [
    product("N9905", "20241214T130811"),
    product("N9999", "20240101T000000", end=""),
    product("N0205"),
    product("N0301", "20200401T135108"),
    product("N0301", "20200401T135109"),
    product("N0500", "20191231T000000"),
    product("N0510", "20240507T153036", end=""),
    product("N0512"),
]
"""From the oldest to the newest."""


@pytest.mark.parametrize("order", [1, -1, 3, -3])
def test_the_newest_is_claimed_first_whatever_the_order_in_which_they_came(newest: Ground, order: int) -> None:
    for number in range(len(AGES)):
        newest.add_scene(reference=AGES[number * order % len(AGES)])
    assert end_all(newest.worker().queue, "failed") == AGES[::-1]


def test_without_the_setting_all_in_their_order(ground: Ground) -> None:
    for name in AGES:
        ground.add_scene(reference=name)
    assert end_all(ground.worker().queue, "extracted") == AGES


def test_another_card_does_not_care(newest: Ground) -> None:
    names = [OLD, NEW]
    for name in names:
        newest.add_scene(reference=name, card="bs")
    assert end_all(newest.worker("bs").queue, "extracted") == names


@pytest.mark.parametrize("end", ["", ".SAFE", ".SAFE\r\n", " "])
@pytest.mark.parametrize(
    "apart", [-dt.timedelta(minutes=59), -SECOND / 1000, dt.timedelta(0), dt.timedelta(minutes=59)]
)
def test_names_with_and_without_safe_and_blanks_and_times_read_otherwise(
    newest: Ground, end: str, apart: dt.timedelta
) -> None:
    newest.add_scene(reference=OLD.removesuffix(".SAFE") + end)
    new = newest.add_scene(MORNING + apart, reference="  " + NEW.removesuffix(".SAFE") + end)
    queue = newest.worker().queue
    assert claim(queue) == new
    assert claim(newest.worker().queue) is None


def test_of_the_same_product_twice_the_first_counts(newest: Ground) -> None:
    first = newest.add_scene(reference=OLD)
    second = newest.add_scene(reference=OLD.removesuffix(".SAFE"))
    queue = newest.worker().queue
    scene = taken(queue)
    assert scene.id == first
    assert queue.give_back(scene, DONE, ParcelCounts())
    assert claim(queue) is None
    assert newest.status(second) == "superseded"


# Who is a sibling


@pytest.mark.parametrize("status", ["extracted", "inprogress"])
@pytest.mark.parametrize(
    ("unlike", "values"),
    [
        ("satellite", {"reference": product("N0500", unit="S2B")}),
        ("start", {"reference": product("N0500", start="20200401T100032")}),
        ("orbit", {"reference": product("N0500", orbit="R123")}),
        ("tile", {"reference": product("N0500", tile="T33TWL")}),
        ("level", {"reference": NEW.replace("MSIL2A", "MSIL1C")}),
        ("name", {"reference": "x" + NEW}),
        ("card", {"card": "bs"}),
        ("day", {"obstime": MORNING + dt.timedelta(hours=2)}),
        ("footprint", {"footprint": shapely.box(14, 45, 15, 47)}),
        ("footprint that cannot be used", {"footprint": "POLYGON EMPTY"}),
        ("footprint without area", {"footprint": "POLYGON((14 45, 15 46, 16 47, 14 45))"}),
        ("year", {"obstime": MORNING.replace(year=2019)}),
        ("place", {"footprint": shapely.box(24, 45, 26, 47)}),
    ],
)  # fmt: skip
def test_others_are_no_siblings(newest: Ground, unlike: str, values: dict[str, object], status: str) -> None:
    """None goes first, and none takes its place."""
    old = newest.add_scene(reference=OLD)
    newest.add_scene(**{"reference": NEW, "status": status} | values)  # type: ignore[arg-type]
    assert claim(newest.worker().queue) == old, unlike


@pytest.mark.parametrize(("width", "siblings"), [(1.91, True), (1.89, False)])
def test_footprints_that_overlap_by_95_hundredths(newest: Ground, width: float, siblings: bool) -> None:
    """Of the union, be it the newer one or the older one that is larger."""
    shapes = [AOI, shapely.box(14, 45, 14 + width, 47)]
    for old, new in (shapes, shapes[::-1]):
        newest.query("DELETE FROM dias_catalogue")
        older = newest.add_scene(footprint=old, reference=OLD)
        newer = newest.add_scene(footprint=new, reference=NEW)
        assert claim(newest.worker().queue) == (newer if siblings else older)


def test_two_of_two_passes(newest: Ground) -> None:
    """A datatake that was received in two parts, each there in two baselines: of each part the newest."""
    west, east = shapely.box(14, 45, 15, 47), shapely.box(15, 45, 16, 47)
    for shape, second in ((west, 0), (east, 1)):
        newest.add_scene(footprint=shape, reference=product("N0301", f"2020040{second + 1}T135108"))
        newest.add_scene(footprint=shape, reference=product("N0500", f"2023040{second + 1}T135108"))
    assert end_all(newest.worker().queue, "failed") == [
        product(*words)
        for words in (
            ("N0500", "20230401T135108"),
            ("N0301", "20200401T135108"),
            ("N0500", "20230402T135108"),
            ("N0301", "20200402T135108"),
        )
    ]


# What becomes of the older one


@pytest.mark.parametrize("status", ["notfound", "failed", "no_parcels", "superseded", "Obsolete", "B4 notfound"])
def test_the_next_one_is_free_once_the_newest_has_failed(newest: Ground, status: str) -> None:
    old = newest.add_scene(reference=OLD)
    newest.add_scene(reference=NEW, status=status)
    assert claim(newest.worker().queue) == old


def test_the_older_one_waits_while_a_worker_is_at_the_newer_one(newest: Ground) -> None:
    newest.add_scene(reference=OLD)
    new = newest.add_scene(reference=NEW)
    other = product(tile="T33TWL")
    newest.add_scene(MORNING + SECOND, reference=other)
    first, second = newest.worker().queue, newest.worker().queue
    scene = taken(first)
    assert (scene.id, end_all(second, "extracted")) == (new, [other])
    assert second.pending(3600).under_way
    assert first.give_back(scene, Outcome("error", "ingested", "", retry_after=3600), ParcelCounts())
    first.unlock()
    assert claim(second) is None
    pending = second.pending(3600)
    assert (pending.waiting, pending.under_way) == (1, 0)


def test_the_older_one_does_not_wait_for_a_product_that_is_not_there_yet(newest: Ground) -> None:
    old = newest.add_scene(reference=OLD)
    newest.add_scene(reference=NEW)
    queue = newest.worker().queue
    assert queue.give_back(taken(queue), Outcome("absent", "ingested", "", retry_after=3600), ParcelCounts())
    assert claim(queue) == old


def test_it_is_superseded_in_the_claim_and_the_next_scene_taken(newest: Ground) -> None:
    old = [newest.add_scene(reference=name) for name in AGES[:-1]]
    new = newest.add_scene(reference=AGES[-1], status="extracted")
    other = newest.add_scene(MORNING + SECOND)
    queue = newest.worker().queue
    assert claim(queue) == other
    assert {newest.status(scene) for scene in old} == {"superseded"}
    for scene in old:
        (log,) = newest.log(scene)
        assert (log["outcome"], log["status"]) == ("superseded", "superseded")
        assert log["detail"] == f"scene {new} {AGES[-1]} is a newer product of the same datatake and tile"
        assert log["finished_at"] is not None
    # Nothing but the scene that it took is locked.
    locks = "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database"
    assert newest.query(f"{locks} WHERE datname = current_database())") == [(other,)]


@pytest.mark.parametrize("stranger", [True, False])
def test_whoever_keeps_siblings_from_being_published_is_named_unless_it_is_a_worker(
    newest: Ground, tmp_path: Path, stranger: bool
) -> None:
    scene = newest.add_scene(reference=NEW)
    queue = newest.worker(lock_timeout="100ms").queue
    claimed = taken(queue)
    other = newest.connect()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1128418563, hashtext('S2A_MSIL2A_20200401T100031_R122_T33TWM'))")
        if not stranger:
            cursor.execute("SELECT pg_advisory_lock(1128418561, %s)", (scene + 1,))
    with Rows(tmp_path, 0) as rows, pytest.raises(OutageError) as caught:
        queue.publishing.publish(claimed, DONE, ParcelCounts(), rows)
    named = f"process {other.info.backend_pid})" in str(caught.value)
    assert (isinstance(caught.value, LockedError), named) == (stranger, stranger)
    other.close()
    with Rows(tmp_path, 0) as rows:
        assert queue.publishing.publish(claimed, DONE, ParcelCounts(), rows).kind == "extracted"


def test_not_while_a_worker_is_at_it(newest: Ground) -> None:
    """Somebody has set it back to `ingested` meanwhile."""
    old = newest.add_scene(reference=OLD)
    worker = newest.worker()
    assert claim(worker.queue) == old
    newest.add_scene(reference=NEW, status="extracted")
    newest.set_status(old, "ingested")
    assert claim(newest.worker().queue) is None
    assert newest.status(old) == "ingested"
    worker.queue.unlock()


def test_a_dead_workers_scene_is_free_and_goes_first_again(newest: Ground) -> None:
    newest.add_scene(reference=OLD)
    new = newest.add_scene(reference=NEW)
    first = newest.worker()
    assert claim(first.queue) == new
    first.database.close()
    assert claim(newest.worker().queue) == new


# By name


@pytest.mark.parametrize("asked", [OLD, OLD.removesuffix(".SAFE")])
def test_asked_for_by_name_while_the_newer_one_is_to_come(newest: Ground, asked: str) -> None:
    old = newest.add_scene(reference=OLD)
    new = newest.add_scene(reference=NEW)
    queue = newest.worker().queue
    assert claim(queue, asked) is None
    why = f"{asked} waits for scene {new} {NEW}, which is newer and has the status 'ingested'"
    assert queue.explain(asked) == why
    assert newest.status(old) == "ingested"
    assert claim(queue, NEW) == new


@pytest.mark.parametrize("setting", ["newest", "all"])
def test_asked_for_by_name_once_it_is_superseded(newest: Ground, setting: str) -> None:
    old = newest.add_scene(reference=OLD)
    new = newest.add_scene(reference=NEW, status="extracted")
    queue = newest.worker().queue
    assert claim(queue, OLD) is None
    assert newest.status(old) == "superseded"
    newest.config["extraction"] = {"duplicates": setting}
    queue = newest.worker().queue
    assert claim(queue, OLD) is None
    assert queue.explain(OLD) == (
        f"{OLD} is superseded: scene {new} {NEW} is a newer product of the same datatake and tile"
    )
    assert queue.why_none() is None
