"""An attempt is a function that any scheduler can call: here, processes of Python's own pool, without the worker.

Each process opens its own resources and claims through the same catalogue as the command does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest

from demo.servers import Postgis, S3Server, free_port
from extractors.attempt import attempt
from extractors.model import Outcome
from extractors.resources import Resources
from extractors.runtime.options import read_options
from extractors.s2 import CARD
from tests.faults.season import Products, Season
from tests.support.environment import environment

PROCESSES = 2


@dataclass(frozen=True)
class Done:
    """What a process has done: which scene, and how that ended."""

    process: int
    scene: int
    outcome: Outcome


def attempt_one(arguments: Sequence[str]) -> Done | None:
    """Open everything, claim a scene, try it; None if there was none to claim."""
    with Resources.open(CARD, read_options(CARD.code, arguments)) as resources:
        scene = resources.queue.claim()
        return None if scene is None else Done(os.getpid(), scene.id, attempt(resources, scene))


def begin(variables: Mapping[str, str]) -> None:
    """A process of the pool begins as a command of the tests does: with nothing in its environment from outside."""
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture
def season(season_products: Products, postgis: Postgis, store: S3Server, tmp_path: Path) -> Iterator[Season]:
    """Four s2 scenes."""
    season = Season(season_products, postgis, store, tmp_path / "season", {"s2": 4})
    season.workspace.extraction["max_attempts"] = 1
    yield season
    season.close()


def in_processes(season: Season, times: int) -> list[Done | None]:
    """So many attempts, each in a process of its own."""
    workspace = season.workspace
    workspace.write_config()
    arguments = [
        *("--db-config", str(workspace.cwd / "db_config.json")),
        *("--s3-config", str(workspace.cwd / "s3_config.json")),
        *("--data-dir", str(workspace.data)),
    ]
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), begin, (environment(),), max_tasks_per_child=1) as pool:
        return list(pool.map(attempt_one, [arguments] * times))


def test_attempts_in_processes_of_a_pool(season: Season) -> None:
    """The rows are those that the command writes."""
    *done, last = in_processes(season, 5)
    assert last is None
    found = [one for one in done if one is not None]
    assert sorted(one.scene for one in found) == season.all
    assert len({one.process for one in found}) == 4
    for one in found:
        assert (one.outcome.kind, one.outcome.status, one.outcome.exit_code) == ("extracted", "extracted", 0)
    season.check(lost=0)


def test_a_scene_that_cannot_be_used_is_an_outcome(season: Season) -> None:
    """Nothing is raised: the scheduler decides what its process does next."""
    broken, *others = season.all
    season.workspace.write(season.products[broken].keys["B08"], b"no image")
    done = {one.scene: one.outcome for one in in_processes(season, 4) if one is not None}
    assert {scene: (outcome.kind, outcome.exit_code) for scene, outcome in done.items()} == {
        broken: ("failed", 1),
        **dict.fromkeys(others, ("extracted", 0)),
    }
    (row,) = season.attempts(broken)
    assert row["detail"] == done[broken].reason
    season.check(extracted=others, lost=0)


def test_an_outage_is_an_outcome(season: Season) -> None:
    season.workspace.s3.update(host=f"http://127.0.0.1:{free_port()}", retry_seconds=0)
    (done,) = in_processes(season, 1)
    assert done is not None
    assert (done.outcome.kind, done.outcome.status, done.outcome.exit_code) == ("given_back", "ingested", 75)
    assert done.outcome.counts is False
    (row,) = season.attempts()
    assert (row["outcome"], row["detail"]) == ("given_back", done.outcome.reason)
    season.check(extracted=(), lost=0)
