"""What a worker that has found nothing to claim waits for."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any, cast

import pytest

from extractors.database.catalogue import Prospects, Scene
from extractors.patience import FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS, pause_for
from extractors.resources import Session
from extractors.runtime.options import Options, read_options
from extractors.worker import take

SCENE = Scene(7, "S2A_x", dt.datetime(2020, 4, 1), 1)
ALL = read_options("s2", ["--all"])
OTHERS = {
    "one scene": read_options("s2", []),
    "watch": read_options("s2", ["--watch", "5"]),
    "scene": read_options("s2", ["--scene", "S2A_x"]),
    "scene, all": read_options("s2", ["--scene", "S2A_x", "--all"]),
}


def session(*claims: Scene | None, under_way: int = 0) -> Session:
    """One whose claims have these results."""
    waiting = list(claims)
    fake: Any = SimpleNamespace(
        connection=None,
        claim=lambda: waiting.pop(0),
        catalogue=SimpleNamespace(prospects=lambda *_: Prospects(under_way=under_way)),
        config=SimpleNamespace(extraction=SimpleNamespace(deadline_seconds=1)),
    )
    return cast(Session, fake)


def test_what_is_given_back_between_two_questions_is_taken() -> None:
    assert take(session(None, SCENE), ALL) == (SCENE, Prospects())
    assert take(session(None, None), ALL) == (None, Prospects())
    assert take(session(None, under_way=1), ALL) == (None, Prospects(under_way=1))


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_nobody_else_asks_twice(options: Options) -> None:
    assert take(session(None), options) == (None, Prospects())


def test_looking_again_soon_then_seldom() -> None:
    pauses = [pause_for(Prospects(under_way=1), looks, ALL) or 0.0 for looks in range(2000)]
    assert 0 < pauses[0] <= FIRST_LOOK_SECONDS
    assert all(LONGEST_LOOK_SECONDS / 2 <= pause <= LONGEST_LOOK_SECONDS for pause in pauses[4:])
    assert len(set(pauses)) > 1900


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_only_a_burst_waits_for_others(options: Options) -> None:
    assert pause_for(Prospects(under_way=1), 0, options) is None


def test_scenes_that_wait_for_their_next_attempt() -> None:
    assert 20 < (pause_for(Prospects(1, 20.0, 1), 0, ALL) or 0) < 21
    assert pause_for(Prospects(1, 20.0), 0, OTHERS["watch"]) is None
    assert pause_for(Prospects(), 0, ALL) is None
