"""What becomes of a scene whose attempt failed, and what a worker keeps of that in memory."""

from __future__ import annotations

import datetime as dt
import errno
import gc
import os
import signal
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest

import extractors
from extractors import attempt as attempts
from extractors import worker
from extractors.attempt import LONGEST_RETRY_PAUSE_SECONDS, attempt, next_attempt_in_words, outcome_of
from extractors.config import Extraction
from extractors.delivery import refused_alone
from extractors.errors import (
    ClaimLostError,
    ConfigurationError,
    DatabaseUnavailableError,
    DeliveryError,
    DiskFullError,
    NoDatabaseError,
    ObjectNotFoundError,
    SceneError,
    StoreUnavailableError,
    UnusableSceneError,
)
from extractors.model import GIVEN_BACK, Outcome, Pending, Scene
from extractors.runtime.options import read_options
from extractors.runtime.signals import Signals, Stopped

SCENE = Scene(7, "S2A_x", dt.datetime(2020, 4, 1), 1)
SETTINGS = Extraction(max_attempts=3, retry_pause_seconds=10)


def resources(folder: Path, outcomes: list[Outcome], *scenes: Scene | None) -> Any:
    """Those of a worker that has these scenes to claim."""
    waiting = list(scenes)

    def give_back(_: Scene, outcome: Outcome, __: object) -> bool:
        outcomes.append(outcome)
        return True

    return SimpleNamespace(
        card=SimpleNamespace(code="s2"),
        options=read_options("s2", ["--data-dir", str(folder), "--all"]),
        config=SimpleNamespace(extraction=Extraction(outage_pause_seconds=0.001, retry_pause_seconds=0)),
        request=SimpleNamespace(layers=()),
        proven=True,
        database=SimpleNamespace(cancel=lambda: None),
        queue=SimpleNamespace(
            claim=lambda _: waiting.pop(0) if waiting else None,
            pending=lambda _: Pending(),
            foreign=lambda: [],
            why_none=lambda: None,
            give_back=give_back,
            unlock=lambda: None,
        ),
    )


# One pure function decides what becomes of a failed attempt


GIVEN_BACK_75 = Outcome(GIVEN_BACK, "ingested", "x", 75)


@pytest.mark.parametrize(
    ("error", "number", "expected"),
    [
        (SceneError("x"), 1, Outcome("error", "ingested", "x", 1, retry_after=10)),
        (SceneError("x"), 2, Outcome("error", "ingested", "x", 1, retry_after=20)),
        (SceneError("x"), 3, Outcome("failed", "failed", "x", 1)),
        (SceneError("two\nlines"), 3, Outcome("failed", "failed", "two lines", 1)),
        (UnusableSceneError("x"), 1, Outcome("failed", "failed", "x", 1)),
        (DeliveryError("x"), 1, Outcome("error", "ingested", "x", 1, retry_after=10)),
        (ObjectNotFoundError("x"), 1, Outcome("notfound", "notfound", "x", 1)),
        (ClaimLostError("x"), 1, Outcome("claim_lost", "ingested", "x", 1)),
        (StoreUnavailableError("x"), 1, GIVEN_BACK_75),
        (StoreUnavailableError("x"), 99, GIVEN_BACK_75),
        (DatabaseUnavailableError("x"), 1, GIVEN_BACK_75),
        (DiskFullError("x"), 1, GIVEN_BACK_75),
        (NoDatabaseError("x"), 1, Outcome(GIVEN_BACK, "ingested", "x", 75, ends_worker=True)),
        (ConfigurationError("x"), 1, Outcome(GIVEN_BACK, "ingested", "x", 2, ends_worker=True)),
        (Stopped(15), 1, Outcome(GIVEN_BACK, "ingested", "stopped by SIGTERM", 143, ends_worker=True)),
        (Stopped(2), 1, Outcome(GIVEN_BACK, "ingested", "stopped by SIGINT", 130, ends_worker=True)),
        (
            OSError(errno.ENOSPC, "full"),
            1,
            Outcome(
                GIVEN_BACK,
                "ingested",
                "no room for the scene's files (full); make some, or name another --data-dir",
                75,
            ),
        ),
        (
            psycopg2.ProgrammingError("odd"),
            1,
            Outcome(
                GIVEN_BACK,
                "ingested",
                "the database does not do what it should while working on the scene (odd); fix its tables",
                2,
                ends_worker=True,
            ),
        ),
        (
            ZeroDivisionError("odd"),
            3,
            Outcome("failed", "failed", "unexpected ZeroDivisionError: odd; -v shows where", 1),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_becomes_of_a_failed_attempt(error: BaseException, number: int, expected: Outcome) -> None:
    assert outcome_of(error, number, SETTINGS) == expected
    assert outcome_of(error, number, SETTINGS).counts == (expected.kind != GIVEN_BACK)


def test_pauses_between_attempts_have_a_limit() -> None:
    patient = Extraction(max_attempts=10**6, retry_pause_seconds=10)
    assert outcome_of(SceneError("x"), 10**5, patient).retry_after == LONGEST_RETRY_PAUSE_SECONDS


def test_for_what_the_worker_did_not_wait_the_scene_waits() -> None:
    start: Any = SimpleNamespace(database=None, card=SimpleNamespace(first_folder="Sentinel-2/"))
    store: Any = SimpleNamespace(serves_others=lambda _: True)
    error = StoreUnavailableError("refused")
    error.answered, error.pause = True, 250.0
    with pytest.raises(SceneError) as caught, refused_alone(store, start):
        raise error
    assert outcome_of(caught.value, 1, SETTINGS).retry_after == 250
    assert outcome_of(caught.value, 1, SETTINGS.model_copy(update={"retry_pause_seconds": 600})).retry_after == 600


def test_the_next_attempt_in_words() -> None:
    again = Outcome("error", "ingested", "x", 1, retry_after=30)
    assert next_attempt_in_words(again, 1, 5) == "; attempt 1 of 5, the next one in about 30 s"
    assert next_attempt_in_words(Outcome("failed", "failed", "x", 1), 5, 5) == "; attempt 5 of 5"
    assert next_attempt_in_words(Outcome("notfound", "notfound", "x", 1), 1, 5) == ""


# Errors and signals


def heavy_code(extract_scene: Any) -> Any:
    return lambda: SimpleNamespace(scene=SimpleNamespace(extract_scene=extract_scene))


def test_an_unexpected_error_after_a_signal_is_the_signals(
    signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal raised inside a lock of Python's turns into `cannot release un-acquired lock`."""

    def extract_scene(*_: object) -> None:
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("cannot release un-acquired lock")

    monkeypatch.setattr(attempts, "heavy_code", heavy_code(extract_scene))
    outcomes: list[Outcome] = []
    outcome = attempt(resources(tmp_path, outcomes), SCENE, signals)
    assert [(given.kind, given.reason) for given in outcomes] == [(GIVEN_BACK, "stopped by SIGTERM")]
    assert (outcome.exit_code, outcome.ends_worker) == (143, True)


@pytest.mark.parametrize("error", [SceneError("unreadable"), RuntimeError("unexpected")], ids=["known", "unexpected"])
def test_without_a_signal_it_counts(
    error: Exception, signals: Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extract_scene(*_: object) -> None:
        raise error

    monkeypatch.setattr(attempts, "heavy_code", heavy_code(extract_scene))
    outcomes: list[Outcome] = []
    outcome = attempt(resources(tmp_path, outcomes), SCENE, signals)
    assert [given.kind for given in outcomes] == ["error"]
    assert (outcome.exit_code, outcome.counts) == (1, True)


def test_what_is_known_of_the_scene_counts_even_after_a_signal(signals: Signals) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    assert outcome_of(SceneError("unreadable"), 1, Extraction()).kind == "error"
    assert isinstance(signals.behind(RuntimeError("unexpected")), Stopped)


def test_a_library_that_cannot_be_loaded_is_no_scenes_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(extractors, "scene", raising=False)
    monkeypatch.setitem(sys.modules, "extractors.scene", None)
    attempts.heavy_code.cache_clear()
    outcomes: list[Outcome] = []
    outcome = attempt(resources(tmp_path, outcomes), SCENE)
    assert (outcome.kind, outcome.exit_code) == (GIVEN_BACK, 2)
    assert outcomes == [outcome]


# Memory


class Image:
    """Stands in for what a scene holds in memory."""


@pytest.mark.parametrize("kind", [SceneError, DatabaseUnavailableError])
def test_nothing_of_a_failed_scene_stays_in_memory(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[weakref.ref[Image]] = []

    def extract_scene(*_: object) -> None:
        image = Image()
        images.append(weakref.ref(image))
        image.itself = image  # type: ignore[attr-defined]
        raise kind("it failed")

    outcomes: list[Outcome] = []
    made = resources(tmp_path, outcomes, SCENE, SCENE)
    claim = made.queue.claim
    alive: list[int] = []

    def claim_and_look(reference: str | None) -> Scene | None:
        alive.append(sum(image() is not None for image in images))
        scene: Scene | None = claim(reference)
        return scene

    made.queue.claim = claim_and_look

    def sleep_and_look(*_: Any) -> None:
        alive.append(sum(image() is not None for image in images))

    monkeypatch.setattr(worker, "sleep", sleep_and_look)
    monkeypatch.setattr(attempts, "heavy_code", heavy_code(extract_scene))
    gc.disable()
    try:
        code = worker.run(made, Signals())
    finally:
        gc.enable()
    assert code == (1 if kind is SceneError else 0)
    assert len(images) == 2
    assert len(alive) >= 3
    assert alive == [0] * len(alive)
