"""F2: kill -9 at every fail point.

Injected: a worker that kills itself there, each time with a scene of its own; then clean workers. Asserted: every scene
is extracted once, with one `lost` attempt exactly if the worker had it and had not yet published it; nothing of the
killed attempts is left.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

import pytest

from extractors import failpoints
from tests.faults.conftest import MakeSeason
from tests.faults.points import (
    BEFORE_CLAIM,
    CLAIMED,
    OF_DUPLICATES,
    PLACES,
    PUBLISHED,
    RELEASED,
    Aftermath,
    come_to_grief,
    make_scenes,
)
from tests.faults.season import PARCELS, Season


@dataclass(frozen=True)
class Killed:
    """The season after all workers were killed, and after clean ones have done what was left."""

    season: Season
    aftermaths: dict[str, Aftermath]
    outcomes: dict[str, list[str | None]]
    most_attempts: dict[str, int]


@pytest.fixture(scope="module")
def killed(make_shared_season: MakeSeason) -> Killed:
    season = make_shared_season(s2=1)
    season.short()
    scenes = make_scenes(season)
    aftermaths = come_to_grief(season, scenes, "kill")
    season.finish()
    return Killed(
        season,
        aftermaths,
        {place: season.outcomes(scene) for place, scene in scenes.items()},
        {place: max(attempt["attempt"] for attempt in season.attempts(scene)) for place, scene in scenes.items()},
    )


def test_f02_no_fail_point_is_forgotten() -> None:
    """The list in `points.py` is the list of the package.

    Without: none
    """
    assert {place.partition(":")[0] for place in (*PLACES, *OF_DUPLICATES)} == set(failpoints.POINTS)


@pytest.mark.parametrize("place", PLACES)
def test_f02_killed_at(killed: Killed, place: str) -> None:
    """The log tells what became of the attempt.

    Without: rescue
    """
    aftermath = killed.aftermaths[place]
    assert aftermath.outcome.code == -signal.SIGKILL, aftermath.outcome.stderr
    wanted = {
        **dict.fromkeys((*BEFORE_CLAIM, *PUBLISHED), ("extracted",)),
        **dict.fromkeys(CLAIMED, ("lost", "extracted")),
        RELEASED: ("error", "extracted"),
    }[place]
    assert tuple(killed.outcomes[place]) == wanted
    assert killed.most_attempts[place] == len(wanted), "attempts are counted wrongly"
    if place in (*BEFORE_CLAIM, RELEASED):
        assert aftermath.status == "ingested"
    elif place in PUBLISHED:
        assert aftermath.status == "extracted"
    else:
        # `inprogress`, or set free by the next worker already.
        assert aftermath.status in {"inprogress", "ingested"}


def test_f02_all_scenes_whole(killed: Killed) -> None:
    """Rows, catalogue, log, locks and scratch are as if nothing had happened.

    Without: one_transaction
    """
    killed.season.check(lost=len(CLAIMED))
    # The class histograms are part of the same transaction.
    rows = killed.season.workspace.query("SELECT obsid, count(*), count(DISTINCT pid) FROM hists GROUP BY obsid")
    assert sorted(rows) == [(scene, PARCELS, PARCELS) for scene in killed.season.all]
