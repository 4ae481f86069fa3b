"""What a worker that has found nothing to claim waits for."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from extractors.config import Options
from extractors.model import Pending, Scene
from extractors.resources import Resources
from extractors.runtime.options import read_options
from extractors.runtime.signals import Signals
from extractors.worker import LOOKS, pause_for, take

SCENE = Scene(7, "S2A_x", dt.datetime(2020, 4, 1), 1)
ALL = read_options("s2", ["--all"])
OTHERS = {
    "one scene": read_options("s2", []),
    "watch": read_options("s2", ["--watch", "5"]),
    "scene": read_options("s2", ["--scene", "S2A_x"]),
    "scene, all": read_options("s2", ["--scene", "S2A_x", "--all"]),
}


def resources(folder: Path, options: Options, *claims: Scene | None, under_way: int = 0) -> Resources:
    """Those of a worker whose claims have these results."""
    waiting = list(claims)
    fake: Any = SimpleNamespace(
        options=dataclasses.replace(options, data_dir=folder),
        proven=True,
        queue=SimpleNamespace(claim=lambda _: waiting.pop(0), pending=lambda _: Pending(under_way=under_way)),
        config=SimpleNamespace(extraction=SimpleNamespace(deadline_seconds=1)),
    )
    return cast(Resources, fake)


def test_what_is_given_back_between_two_questions_is_taken(tmp_path: Path) -> None:
    assert take(resources(tmp_path, ALL, None, SCENE), Signals()) == SCENE
    assert take(resources(tmp_path, ALL, None, None), Signals()) == Pending()
    assert take(resources(tmp_path, ALL, None, under_way=1), Signals()) == Pending(under_way=1)


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_nobody_else_asks_twice(options: Options, tmp_path: Path) -> None:
    assert take(resources(tmp_path, options, None), Signals()) == Pending()


def test_looking_again_soon_then_seldom() -> None:
    pauses = [pause_for(Pending(under_way=1), looks, ALL) or 0.0 for looks in range(2000)]
    assert 0 < pauses[0] <= LOOKS.first
    assert all(LOOKS.longest / 2 <= pause <= LOOKS.longest for pause in pauses[4:])
    assert len(set(pauses)) > 1900


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_only_a_burst_waits_for_others(options: Options) -> None:
    assert pause_for(Pending(under_way=1), 0, options) is None


def test_scenes_that_wait_for_their_next_attempt() -> None:
    assert 20 < (pause_for(Pending(1, 20.0, 1), 0, ALL) or 0) < 21
    assert pause_for(Pending(1, 20.0), 0, OTHERS["watch"]) is None
    assert pause_for(Pending(), 0, ALL) is None
