"""What the table `scene_source` may say, and what not."""

from __future__ import annotations

import datetime as dt

import pytest

from extractors.database.places import Place, Places
from extractors.errors import UnusableSceneError
from extractors.model import Scene
from tests.integration.conftest import Ground, Worker

SCENE = Scene(7, "S2A_X", dt.datetime(2020, 4, 1), 1)


@pytest.fixture
def places(worker: Worker) -> Places:
    return Places(worker.database, worker.tables.catalogue)


def say(ground: Ground, bucket: str | None, prefix: str | None) -> None:
    ground.query("CREATE TABLE IF NOT EXISTS scene_source (obsid integer PRIMARY KEY, bucket text, prefix text)")
    ground.query("INSERT INTO scene_source VALUES (%s, %s, %s)", SCENE.id, bucket, prefix)


def test_the_table_need_not_be_there_and_may_come_later(ground: Ground, places: Places) -> None:
    assert not places.any()
    assert places.of(SCENE) is None
    ground.query("CREATE TABLE scene_source (obsid integer PRIMARY KEY, bucket text, prefix text)")
    assert not places.any()
    assert places.of(SCENE) is None
    ground.query("INSERT INTO scene_source VALUES (8, 'b', 'another one')")
    assert places.any()
    assert places.of(SCENE) is None
    say(ground, None, "p")
    assert places.of(SCENE) == Place(None, "p/")


@pytest.mark.parametrize(
    ("bucket", "prefix", "place"),
    [
        ("b", "a/b", Place("b", "a/b/")),
        ("", "/a/b/", Place(None, "a/b/")),
        (" b ", " a b \n", Place("b", "a b/")),
        (None, "a/..b/ü", Place(None, "a/..b/ü/")),
        (None, "a" * 1023, Place(None, "a" * 1023 + "/")),
    ],
)
def test_a_place(ground: Ground, places: Places, bucket: str | None, prefix: str, place: Place) -> None:
    say(ground, bucket, prefix)
    assert places.of(SCENE) == place


@pytest.mark.parametrize(
    "prefix",
    [None, "", " ", "/", "//", ".", "..", "../a", "a/../../../etc", "a/./b", "a//b", "a\nb", "a\u202eb", "a" * 1024],
)
def test_what_is_no_place(ground: Ground, places: Places, prefix: str | None) -> None:
    say(ground, None, prefix)
    with pytest.raises(UnusableSceneError, match=r"public\.scene_source says that the product lies under") as caught:
        places.of(SCENE)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
