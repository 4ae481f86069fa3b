"""How soon the scene of a killed worker is taken by another one, which looks for work all the time: within a second.

That of a worker whose network is cut is within 15 s, with the time-outs of the tests: see F11.
"""

from __future__ import annotations

import signal

import pytest

from tests.faults.acts import Gate
from tests.faults.conftest import MakeSeason
from tests.support.running import NOTHING_LEFT, wait_until


@pytest.mark.parametrize("point", ["claim_committed", "chunk_spooled", "before_commit"])
def test_claimable_after_kill(make_season: MakeSeason, point: str) -> None:
    """Downloading, computing or writing: the death of a process frees its scene.

    Without: rescue
    """
    season = make_season(bs=1)
    season.short()
    gate = Gate(season.workspace.folder, point)
    worker = season.start("bs", env=gate.env)
    gate.wait(worker)
    second = season.start("bs", "--watch", "0.1")
    wait_until(lambda: NOTHING_LEFT in second.stdout, "the second worker to be there", 30)

    worker.send(signal.SIGKILL)
    wait_until(lambda: len(season.attempts()) == 2, "the second worker to take the scene", 1)
    wait_until(lambda: [*season.statuses().values()] == ["extracted"], "the second worker's work", 30)
    second.send(signal.SIGTERM)
    assert second.wait().code == 128 + signal.SIGTERM
    assert season.outcomes() == ["lost", "extracted"]
    season.check(lost=1)
