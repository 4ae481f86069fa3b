"""F3: workers killed at random.

Injected: four workers on forty scenes of three cards; every now and then one that is at work gets kill -9 (fixed seed)
and is replaced. Asserted: they finish, every scene is there once and whole, and nothing is held.
"""

from __future__ import annotations

import random
import signal
import time

from tests.faults.conftest import MakeSeason
from tests.faults.nemesis import Fleet

SEED = 20201122
KILLS = 14
SCENES_MORE = 12
"""Of each card, beside the first one."""


def test_f03_killed_at_random_and_replaced(make_season: MakeSeason) -> None:
    """However often workers die, every scene is extracted once.

    Without: rescue
    """
    chance = random.Random(SEED)
    season = make_season(s2=1, bs=1, c6=1)
    for card in ("s2", "bs", "c6"):
        season.add_again(card, SCENES_MORE)
    season.short(max_attempts=KILLS + 1)
    fleet = Fleet(season, ["s2", "bs", "c6", "s2"], "--all")
    kills = 0
    end = time.monotonic() + 60
    while kills < KILLS and fleet.tend() and time.monotonic() < end:
        time.sleep(chance.uniform(0.05, 0.3))
        kills += fleet.kill_one(chance)
    assert fleet.wait(120), "they do not finish"
    assert fleet.unexpected == []
    assert fleet.codes[-signal.SIGKILL] > KILLS // 2, "too few were killed for this to be a test"
    season.check()
    assert 0 < season.outcomes().count("lost") <= kills
