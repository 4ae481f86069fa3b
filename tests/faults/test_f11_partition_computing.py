"""F11: the network between a worker and the database is cut while the worker computes, and heals later.

Injected: the worker lives in a network namespace; its router drops all packets of both directions. Asserted: the server
notices within the time-outs of the session, and another worker, which looks for work all the time, has the scene 15 s
after the cut (with the time-outs of the tests; about two minutes with the defaults); when the network is back, the
first one writes nothing.
"""

from __future__ import annotations

import signal

from tests.faults.acts import Gate, claimed
from tests.faults.far import Far
from tests.support.running import NOTHING_LEFT, wait_until


def test_f11_partition(far: Far) -> None:
    """The scene of a worker that is cut off is extracted by another one; the first one cannot disturb it.

    Without: keepalives
    """
    season, workspace = far.season, far.season.workspace
    season.short()
    gate = Gate(workspace.folder, "chunk_spooled")
    worker = far.start("bs", env=gate.env)
    gate.wait(worker)
    scene = claimed(season)
    second = far.start_here("bs", "--watch", "0.1")
    wait_until(lambda: NOTHING_LEFT in second.stdout, "the second worker to be there", 30)
    far.network.cut()
    # Idle for 5 s, then three probes 2 s apart, and the moment until the next look at the catalogue.
    wait_until(lambda: len(season.attempts()) == 2, "the second worker to take the scene", 15)
    wait_until(lambda: season.statuses()[scene] == "extracted", "the second worker to extract the scene", 30)
    second.send(signal.SIGTERM)
    assert second.wait().code == 128 + signal.SIGTERM
    rows = workspace.rows(scene)
    assert rows > 0

    far.network.heal()
    gate.open()
    outcome = worker.wait(40)
    assert outcome.code == 75, outcome.output
    assert len(outcome.errors) == 1, outcome.output
    assert workspace.rows(scene) == rows
    # Taken for a dead worker's at first; the worker, alive, has put that right.
    assert season.outcomes() == ["given_back", "extracted"]
    season.check(lost=0)
