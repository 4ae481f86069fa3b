"""One bad thing stops nobody: a row of the catalogue that cannot be used, an object that the store refuses.

Injected: among good scenes one that is poisoned, in front of them. Asserted: the good ones are extracted, the poisoned
one ends by itself, with its reason in the log; and nothing of that touches what is promised for outages of the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from demo.servers import S3Server
from tests.faults.spoilt_store import SpoiltStore
from tests.support.ground import squares
from tests.support.poisons import OBJECTS, ROWS, comb, crossing, footprint
from tests.support.running import wait_until
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace

LONGEST_SECONDS = 60
HIGH = 2**31


@pytest.fixture
def spoilt(store: S3Server) -> Iterator[SpoiltStore]:
    """A way to the store that can be spoilt."""
    with SpoiltStore(store) as server:
        yield server


@pytest.fixture
def ground(workspace: Workspace, spoilt: SpoiltStore) -> Workspace:
    """A workspace whose catalogue takes whatever it is given, and whose workers come to the store by `spoilt`."""
    workspace.query("ALTER TABLE dias_catalogue ALTER footprint TYPE geometry, ALTER reference DROP NOT NULL")
    workspace.query("ALTER TABLE dias_catalogue ALTER id TYPE bigint")
    workspace.add_parcels(squares(5))
    workspace.extraction.update(max_attempts=2, retry_pause_seconds=0.1, outage_pause_seconds=0.1, outages_in_a_row=3)
    spoilt.serve(workspace, retry_seconds=0)
    return workspace


def add(workspace: Workspace, day: int) -> Scene:
    return workspace.add_s2(f"2020-04-{day:02}T10:00:31")


def day_of(day: int) -> str:
    return f"202004{day:02}"


def ended(workspace: Workspace, scene: Scene) -> tuple[str, str]:
    """The scene's status, and the reason of its last attempt."""
    return workspace.status(scene), (workspace.log(scene) or [{"detail": ""}])[-1]["detail"]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_catalogue(ground: Workspace, name: str) -> None:
    poisoned, *good = (add(ground, day) for day in (1, 2, 3))
    poison, word = ROWS[name]
    poison(ground, poisoned)
    outcome = ground.start("s2", "--all").wait(LONGEST_SECONDS)
    assert (outcome.code, len(outcome.errors)) == (1, 1), outcome.stderr
    assert [ground.status(scene) for scene in good] == ["extracted"] * 2
    status, reason = ended(ground, poisoned)
    assert status == "failed"
    assert word in reason
    assert len(ground.log(poisoned)) == 1


def test_numbers_that_cannot_be_written(ground: Workspace) -> None:
    poisoned, good = add(ground, 1), add(ground, 2)
    ground.query("UPDATE dias_catalogue SET id = %s WHERE id = %s", HIGH, poisoned.id)
    outcome = ground.start("s2", "--all").wait(LONGEST_SECONDS)
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    assert str(HIGH) in outcome.stderr
    assert ground.status(good) == "extracted"
    assert ground.status(HIGH) == "ingested"


def test_an_area_that_crosses_itself_everywhere(ground: Workspace) -> None:
    """What is configured is not put right by something else: its hull is another area."""
    scene = add(ground, 1)
    ground.query("UPDATE aois SET wkb_geometry = ST_GeomFromText(%s, 4326)", crossing(800))
    for options in ((), ("--check",)):
        outcome = ground.start("s2", *options).wait(LONGEST_SECONDS)
        assert outcome.code == 2, outcome.stderr
        assert "801" in outcome.output
    assert (ground.status(scene), ground.log(scene)) == ("ingested", [])


def test_an_area_that_crosses_itself_here_and_there(ground: Workspace) -> None:
    scene = add(ground, 1)
    ground.query("UPDATE aois SET wkb_geometry = ST_GeomFromText(%s, 4326)", crossing(150))
    assert ground.start("s2").wait(LONGEST_SECONDS).code == 0
    assert ground.status(scene) == "extracted"


def test_a_row_of_another_area(ground: Workspace) -> None:
    """It has no SRID, and comes first."""
    scene = add(ground, 1)
    ground.query("ALTER TABLE aois ALTER wkb_geometry TYPE geometry")
    ground.query("CREATE TABLE before AS SELECT * FROM aois")
    ground.query("DELETE FROM aois")
    ground.query("INSERT INTO aois VALUES ('other', ST_GeomFromText('POLYGON((0 0, 1 0, 1 1, 0 0))', 0))")
    ground.query("INSERT INTO aois SELECT * FROM before")
    outcome = ground.start("s2").wait(LONGEST_SECONDS)
    assert (outcome.code, ground.status(scene)) == (0, "extracted"), outcome.stderr


def test_a_valid_footprint_whose_edges_are_all_long(ground: Workspace) -> None:
    """Densified for its transformation, it would have millions of vertices."""
    scene = add(ground, 1)
    footprint(comb(3000))(ground, scene)
    assert ground.start("s2").wait(LONGEST_SECONDS).code == 0
    assert ground.status(scene) == "extracted"


@pytest.mark.parametrize("first", [True, False], ids=["alone at first", "after a good one"])
@pytest.mark.parametrize("name", OBJECTS)
def test_an_object(ground: Workspace, spoilt: SpoiltStore, name: str, first: bool) -> None:
    """Whether or not the worker has been given anything before."""
    day = 1 if first else 2
    scenes = {one: add(ground, one) for one in (1, 2, 3)}
    OBJECTS[name](spoilt, day_of(day))
    outcome = ground.start("s2", "--all").wait(LONGEST_SECONDS)
    assert outcome.code == 1, outcome.stderr
    assert [ground.status(scenes[one]) for one in scenes if one != day] == ["extracted"] * 2
    assert ground.status(scenes[day]) == "failed"
    attempts = ground.log(scenes[day])
    assert [attempt["outcome"] for attempt in attempts] == ["error", "failed"]


def test_a_body_that_is_always_cut(ground: Workspace, spoilt: SpoiltStore) -> None:
    """What a network does never counts against a scene; the others come first all the same."""
    scenes = [add(ground, day) for day in (1, 2, 3)]
    ground.extraction["retry_pause_seconds"] = 2
    spoilt.cut(f"{day_of(1)}.*_B08_10m", lambda size: size // 2)
    outcome = ground.start("s2", "--all").wait(LONGEST_SECONDS)
    assert outcome.code == 75, outcome.stderr
    assert [ground.status(scene) for scene in scenes] == ["ingested", "extracted", "extracted"]
    attempts = ground.log(scenes[0])
    assert {attempt["outcome"] for attempt in attempts} == {"given_back"}
    assert all(attempt["retry_after"] for attempt in attempts)


@pytest.mark.parametrize(
    ("status", "code", "ends_with"),
    [(403, "AccessDenied", 75), (500, "InternalError", 75), (400, "Odd", 75), (403, "InvalidAccessKeyId", 2)],
)
@pytest.mark.parametrize("key", ["", "jp2$"], ids=["everything", "objects"])
def test_all_objects_are_refused(
    ground: Workspace, spoilt: SpoiltStore, key: str, status: int, code: str, ends_with: int
) -> None:
    """Keys have expired while a fleet works: no scene is to blame."""
    scenes = [add(ground, day) for day in (1, 2, 3, 4)]
    ground.extraction["max_attempts"] = 1
    ground.run("s2")
    spoilt.error(key or ".", status, code)
    workers = [ground.start("s2", "--all") for _ in range(2)]
    outcomes = [worker.wait(LONGEST_SECONDS) for worker in workers]
    assert [outcome.code for outcome in outcomes] == [ends_with] * 2
    assert [ground.status(scene) for scene in scenes] == ["extracted"] + ["ingested"] * 3
    assert {attempt["outcome"] for scene in scenes[1:] for attempt in ground.log(scene)} <= {"given_back"}


def test_a_store_that_has_too_much_to_do(ground: Workspace, spoilt: SpoiltStore) -> None:
    """It may refuse large requests and serve small ones: that is no scene's fault."""
    scenes = [add(ground, day) for day in (1, 2)]
    ground.extraction["retry_pause_seconds"] = 2
    spoilt.error(f"{day_of(1)}.*_B08_10m", 503, "SlowDown")
    assert ground.start("s2", "--all").wait(LONGEST_SECONDS).code == 75
    assert [ground.status(scene) for scene in scenes] == ["ingested", "extracted"]


def test_keys_that_expire_in_the_middle(ground: Workspace, spoilt: SpoiltStore) -> None:
    """The worker has been served, and is refused from now on: what was given before is not given any more."""
    scenes = [add(ground, day) for day in (1, 2, 3)]
    ground.extraction.update(max_attempts=1, outages_in_a_row=2)
    spoilt.hold_seconds = 0.3
    worker = ground.start("s2", "--all")
    wait_until(lambda: ground.status(scenes[0]) == "extracted", "the first scene is extracted")
    spoilt.error("jp2$", 403, "AccessDenied")
    assert worker.wait(LONGEST_SECONDS).code == 75
    assert "failed" not in [ground.status(scene) for scene in scenes]


def test_one_of_each_kind_among_twelve(ground: Workspace, spoilt: SpoiltStore) -> None:
    poisoned: dict[str, Scene] = {}
    for day, name in enumerate((*ROWS, *OBJECTS), start=1):
        poisoned[name] = ground.add_s2(f"2020-03-{day:02}T10:00:31")
        if name in ROWS:
            ROWS[name][0](ground, poisoned[name])
        else:
            OBJECTS[name](spoilt, f"202003{day:02}")
    large = ground.add_s2("2020-02-01T10:00:31")
    ground.query("UPDATE dias_catalogue SET id = %s WHERE id = %s", HIGH, large.id)
    good = [add(ground, day) for day in range(1, 13)]
    workers = [ground.start("s2", "--all") for _ in range(3)]
    outcomes = [worker.wait(2 * LONGEST_SECONDS) for worker in workers]
    assert {outcome.code for outcome in outcomes} <= {0, 1}, [outcome.errors for outcome in outcomes]
    assert {name: ground.status(scene) for name, scene in poisoned.items()} == dict.fromkeys(poisoned, "failed")
    assert [ground.status(scene) for scene in good] == ["extracted"] * 12
    assert ground.status(HIGH) == "ingested"
    parcels = dict(enumerate(squares(5), start=1))
    for scene in good:
        assert_same(ground.signatures(scene), scene.expected(parcels))
    kinds: list[dict[str, Any]] = [attempt for scene in poisoned.values() for attempt in ground.log(scene)]
    assert {attempt["outcome"] for attempt in kinds} <= {"error", "failed", "given_back"}
    assert ground.files() == []
