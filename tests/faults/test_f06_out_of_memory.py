"""F6: a scene that needs more memory than there is.

Injected: an image far larger than the others, and a limit on the worker's memory below what it needs. Asserted: the
attempts count; when they are used up the scene is `failed`; the others are extracted.
"""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np

from demo import products
from tests.faults.acts import Gate
from tests.faults.conftest import MakeSeason
from tests.faults.season import Season
from tests.support.ground import GRID
from tests.support.running import Running

SIDE = 12_000
NEEDED = 2 * SIDE * SIDE * 2
"""Bytes of its two bands in memory."""
ROOM = 300_000_000
"""What the worker may take beyond what it has: ample for the other scenes."""


def make_large(season: Season, scene: int) -> None:
    """Replace the two large bands of a scene by images with one value."""
    product = season.products[scene]
    root = season.workspace.folder / "large"
    keys = products.write_s2(root, product.reference, {"B04": np.full((SIDE, SIDE), 7, np.uint16)}, GRID)
    body = (root / keys["B04"]).read_bytes()
    for band in ("B04", "B08"):
        season.workspace.write(product.keys[band], body)


def limit_memory(worker: Running, more: int) -> None:
    """From now on the worker's address space may grow by so many bytes only."""
    pid = worker.process.pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def test_f06_a_scene_that_needs_too_much_memory(make_season: MakeSeason) -> None:
    """One scene too large for the machine does not stop the others.

    Without: attempts
    """
    assert NEEDED > 1.5 * ROOM
    season = make_season(s2=4)
    season.short(max_attempts=2)
    _, large, *_ = season.scenes["s2"]
    make_large(season, large)
    gate = Gate(season.workspace.folder, "claim_committed:2")  # all libraries are loaded by then
    worker = season.start("s2", "--all", env=gate.env)
    gate.wait(worker)
    limit_memory(worker, ROOM)
    gate.open()
    outcome = worker.wait(40)
    assert outcome.code == 1, outcome.output
    season.check(extracted=set(season.all) - {large})
    assert season.statuses()[large] == "failed"
    attempts = season.attempts(large)
    assert [attempt["outcome"] for attempt in attempts] == ["error", "failed"]
    assert [attempt["attempt"] for attempt in attempts] == [1, 2]
    assert all("memory" in attempt["detail"].lower() for attempt in attempts), attempts
