"""F1: eight workers on two hundred scenes, and no other fault.

Asserted: two hundred attempts, each scene once. With the claim of the established system (select, then update) the same
test fails: many scenes are extracted several times.
"""

from __future__ import annotations

from collections import Counter

from tests.faults.conftest import MakeSeason
from tests.support.running import NOTHING_LEFT

WORKERS = 8
SCENES = 200


def test_f01_eight_workers_share_two_hundred_scenes(make_season: MakeSeason) -> None:
    """Every scene is claimed once and extracted once.

    Without: skip_locked_claim
    """
    season = make_season(c6=4)
    season.workspace.extraction.update(chunk_size=100, verified_parcels=0)  # little work, many claims
    season.add_again("c6", SCENES - 4)
    workers = [season.start("c6", "--all") for _ in range(WORKERS)]
    outcomes = [worker.wait(300) for worker in workers]

    taken = Counter(attempt["obsid"] for attempt in season.attempts() if attempt["outcome"] != "error")
    several = {scene: number for scene, number in taken.items() if number > 1}
    assert several == {}, f"{len(several)} of {SCENES} scenes were taken more than once: {taken.total()} attempts"
    for outcome in outcomes:
        assert (outcome.code, outcome.errors) == (0, []), outcome.errors
        assert NOTHING_LEFT in outcome.stdout
    assert len(season.attempts()) == SCENES
    assert sum("extracted: " in outcome.stderr for outcome in outcomes) == WORKERS, "a worker had nothing to do"
    season.check(lost=0)
