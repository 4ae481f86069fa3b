"""What a worker makes of a scene that failed while it was at it, and what it keeps of that."""

from __future__ import annotations

import datetime as dt
import gc
import os
import signal
import weakref
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extractors import worker
from extractors.config import Extraction
from extractors.database.catalogue import GIVEN_BACK, Ending, Prospects, Scene
from extractors.endings import ending_of
from extractors.errors import DatabaseUnavailableError, SceneError
from extractors.runtime.options import read_options
from extractors.runtime.signals import Stopped, Stopping

SCENE = Scene(7, "S2A_x", dt.datetime(2020, 4, 1), 1)


def session(folder: Path, endings: list[Ending], *scenes: Scene | None) -> Any:
    waiting = list(scenes)

    def release(_: Scene, ending: Ending, __: object) -> bool:
        endings.append(ending)
        return True

    return SimpleNamespace(
        labels={},
        options=read_options("s2", ["--data-dir", str(folder), "--all"]),
        config=SimpleNamespace(extraction=Extraction(outage_pause_seconds=0.001, retry_pause_seconds=0)),
        connection=None,
        catalogue=SimpleNamespace(prospects=lambda *_: Prospects()),
        claim=lambda: waiting.pop(0) if waiting else None,
        look_for_foreign=lambda: None,
        cancel=lambda: None,
        release=release,
        unlock=lambda: None,
    )


def test_an_unexpected_error_after_a_signal_is_the_signals(
    stopping: Stopping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal raised amid a lock of Python's comes out as `cannot release un-acquired lock`."""

    def process(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("cannot release un-acquired lock")

    monkeypatch.setattr(worker, "process", process)
    endings: list[Ending] = []
    with pytest.raises(Stopped):
        worker.extract(session(tmp_path, endings), SCENE, stopping)
    assert [(ending.outcome, ending.reason) for ending in endings] == [(GIVEN_BACK, "stopped by SIGTERM")]


@pytest.mark.parametrize("error", [SceneError("unreadable"), RuntimeError("unexpected")], ids=["known", "unexpected"])
def test_without_a_signal_it_counts(
    error: Exception, stopping: Stopping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def process(*_: object) -> None:
        raise error

    monkeypatch.setattr(worker, "process", process)
    endings: list[Ending] = []
    assert not worker.extract(session(tmp_path, endings), SCENE, stopping)
    assert [ending.outcome for ending in endings] == ["error"]


def test_what_is_known_of_the_scene_counts_even_after_a_signal(stopping: Stopping) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    assert ending_of(SceneError("unreadable"), SCENE, Extraction()).outcome == "error"
    assert isinstance(stopping.behind(RuntimeError("unexpected")), Stopped)


class Image:
    """Stands in for what a scene holds in memory."""


@pytest.mark.parametrize("kind", [SceneError, DatabaseUnavailableError])
def test_nothing_of_a_failed_scene_stays_in_memory(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[weakref.ref[Image]] = []

    def process(*_: object) -> None:
        image = Image()
        images.append(weakref.ref(image))
        image.itself = image  # type: ignore[attr-defined]
        raise kind("it failed")

    endings: list[Ending] = []
    made = session(tmp_path, endings, SCENE, SCENE)
    claim = made.claim
    alive: list[int] = []

    def claim_and_look() -> Scene | None:
        alive.append(sum(image() is not None for image in images))
        scene: Scene | None = claim()
        return scene

    made.claim = claim_and_look

    def wait_out_and_look(*arguments: Any) -> None:
        alive.append(sum(image() is not None for image in images))
        wait_out(*arguments)

    wait_out = worker.__dict__["wait_out"]
    monkeypatch.setattr(worker, "wait_out", wait_out_and_look)
    monkeypatch.setattr(worker, "process", process)
    monkeypatch.setattr(worker, "Session", lambda *_: made)
    quiet: Any = SimpleNamespace(
        check=lambda: None, behind=lambda error: error, cancel_with=lambda _: None,
        interruptible=nullcontext, cancellable=nullcontext,
    )  # fmt: skip
    gc.disable()
    try:
        worker.run(SimpleNamespace(), made.options, quiet)  # type: ignore[arg-type]
    finally:
        gc.enable()
    assert len(images) == 2
    assert alive == [0] * len(alive)
