"""F5: a worker that is alive but does not get on.

Injected: a native call that never returns (with and without Python's lock), and SIGSTOP. Asserted: the deadline ends
the process and another worker extracts the scene; a stopped worker keeps its claim, because nobody can know whether it
will go on; once its session is ended from the server's side (by an operator, or because it holds a transaction open),
another worker extracts the scene, and the first one, woken up, writes nothing.
"""

from __future__ import annotations

import signal

import pytest

from tests.faults.acts import Gate, claimed, holder, terminate
from tests.faults.conftest import MakeSeason
from tests.support.running import wait_until


# Where Python itself cannot run, a thread outside it ends the process; that one knows no other code than 1.
@pytest.mark.parametrize(("action", "code"), [("hang", 70), ("hang_gil", 1)])
def test_f05_deadline(make_season: MakeSeason, action: str, code: int) -> None:
    """A worker that hangs ends, and its scene is extracted by the next one.

    Without: deadline
    """
    season = make_season(bs=1)
    season.short(deadline_seconds=3)
    worker = season.start("bs", env={"EXTRACTION_FAILPOINT": f"chunk_computed={action}"})
    outcome = worker.wait(40)
    assert outcome.code == code, outcome.output
    assert (action == "hang") == any("deadline" in line for line in outcome.errors)
    scene = claimed(season)
    assert season.workspace.rows(scene) == 0

    season.workspace.extraction["deadline_seconds"] = 600
    assert season.run("bs").code == 0
    season.check(lost=1)
    assert season.outcomes(scene) == ["lost", "extracted"]


def test_f05_stopped_worker_is_not_robbed(make_season: MakeSeason) -> None:
    """A stopped worker keeps its scene as long as its session lives; afterwards it can no longer write.

    Without: advisory_lock
    """
    season = make_season(bs=1)
    season.short()
    workspace = season.workspace
    gate = Gate(workspace.folder, "chunk_spooled")
    worker = season.start("bs", env=gate.env)
    gate.wait(worker)
    scene = claimed(season)
    worker.send(signal.SIGSTOP)
    gate.open()

    # Others look for work, and leave this scene alone.
    assert season.run("bs").code == 0
    assert workspace.status(scene) == "inprogress"
    assert season.outcomes(scene) == [None]
    assert workspace.rows(scene) == 0

    # What an operator does about it.
    assert terminate(workspace) == 1
    assert season.run("bs").code == 0
    assert workspace.status(scene) == "extracted"
    rows = workspace.rows(scene)

    worker.send(signal.SIGCONT)
    outcome = worker.wait(40)
    assert outcome.code == 75, outcome.output
    assert len(outcome.errors) == 1, outcome.output
    assert workspace.rows(scene) == rows
    # Taken for a dead worker's at first; the worker, alive, has put that right.
    assert season.outcomes(scene) == ["given_back", "extracted"]
    season.check(lost=0)


def test_f05_stopped_while_publishing(make_season: MakeSeason) -> None:
    """A worker that is stopped with a transaction open holds locks, so the server ends its session.

    Without: keepalives
    """
    season = make_season(bs=1)
    season.short()
    workspace = season.workspace
    workspace.extraction["server_settings"]["idle_in_transaction_session_timeout"] = "1s"
    gate = Gate(workspace.folder, "status_updated")
    worker = season.start("bs", env=gate.env)
    gate.wait(worker)
    worker.send(signal.SIGSTOP)
    gate.open()
    scene = claimed(season)
    wait_until(lambda: holder(workspace, scene) is None, "the server to end the session", 10)
    assert season.run("bs").code == 0
    assert season.statuses()[scene] == "extracted"

    worker.send(signal.SIGCONT)
    outcome = worker.wait(40)
    assert outcome.code == 75, outcome.output
    # Taken for a dead worker's at first; the worker, alive, has put that right.
    assert season.outcomes() == ["given_back", "extracted"]
    season.check(lost=0)
