"""F4: SIGTERM at every fail point.

Injected: a worker that sends itself the signal there and goes on, each time with a scene of its own. Asserted: it ends
at once, with 143; its scene is `ingested` or `extracted`, never between; the attempt does not count; its files are gone
when it has ended.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

import pytest

from tests.faults.conftest import MakeSeason
from tests.faults.points import BEFORE_CLAIM, PLACES, PUBLISHED, RELEASED, Aftermath, come_to_grief, make_scenes
from tests.faults.season import Season

STOPPED = 128 + signal.SIGTERM
IN_PUBLISHING = ("publish_begin", "copied", "copied:2", "status_updated", "journal_updated", "before_commit")
"""A publication that has begun may be finished: it takes seconds."""


@dataclass(frozen=True)
class StoppedWorkers:
    """The season when all workers had been stopped, and when clean ones have done what was left."""

    season: Season
    aftermaths: dict[str, Aftermath]
    before: dict[str, list[str | None]]
    after: dict[str, list[str | None]]


@pytest.fixture(scope="module")
def stopped(make_shared_season: MakeSeason) -> StoppedWorkers:
    season = make_shared_season(s2=1)
    season.short()
    scenes = make_scenes(season)
    aftermaths = come_to_grief(season, scenes, "term", "--all", own_folders=True)
    before = {place: season.outcomes(scene) for place, scene in scenes.items()}
    season.finish()
    return StoppedWorkers(
        season, aftermaths, before, {place: season.outcomes(scene) for place, scene in scenes.items()}
    )


@pytest.mark.parametrize("place", PLACES)
def test_f04_stopped_at(stopped: StoppedWorkers, place: str) -> None:
    """The scene is whole or free, and nothing is left.

    Without: stopping
    """
    aftermath, before = stopped.aftermaths[place], stopped.before[place]
    assert aftermath.outcome.code == STOPPED, aftermath.outcome.stderr
    # Only where the attempt fails by itself there is an error to tell of.
    assert len(aftermath.outcome.errors) == (place == RELEASED), aftermath.outcome.stderr
    assert aftermath.files == []
    if aftermath.status == "extracted":
        assert place in (*IN_PUBLISHING, *PUBLISHED)
        assert before == ["extracted"]
    else:
        assert aftermath.status == "ingested"
        assert place not in PUBLISHED
        if place in BEFORE_CLAIM:
            assert before in ([], ["given_back"])
        else:
            assert before == (["error"] if place == RELEASED else ["given_back"])
    assert stopped.after[place] == (before if "extracted" in before else [*before, "extracted"])


def test_f04_all_scenes_whole(stopped: StoppedWorkers) -> None:
    """Everything is extracted once, and no attempt that was stopped counts.

    Without: stopping
    """
    stopped.season.check(lost=0)
    extractions = [row for row in stopped.season.attempts() if row["outcome"] == "extracted"]
    failed_before = stopped.aftermaths[RELEASED].scene
    assert {row["obsid"]: row["attempt"] for row in extractions} == {
        scene: 2 if scene == failed_before else 1 for scene in stopped.season.all
    }
