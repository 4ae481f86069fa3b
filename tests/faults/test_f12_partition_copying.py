"""F12: the network between a worker and the database is cut while the worker writes.

Injected: as F11, at the first block of rows, and just before the COMMIT. Asserted: the worker notices within its
`tcp_user_timeout`, not after the quarter of an hour that the kernel would take; no row is visible; the server gives the
scene free; all invariants after the next attempt.
"""

from __future__ import annotations

from tests.faults.acts import Gate, claimed, has_ended, holder
from tests.faults.far import Far
from tests.support.running import wait_until


def test_f12_partition(far: Far) -> None:
    """Cut off while it writes, the worker ends, and leaves nothing half done.

    Without: keepalives
    """
    season, workspace = far.season, far.season.workspace
    season.short(database_wait_seconds=1)
    workspace.db_config["database"]["connection"].update({"tcp_user_timeout": 4000, "connect_timeout": 2})
    workspace.extraction["server_settings"].update({"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1"})
    gate = Gate(workspace.folder, "copied")
    worker = far.start("bs", env=gate.env)
    gate.wait(worker)
    scene = claimed(season)
    far.network.cut()
    gate.open()
    # 4 s until the connection is given up, 2 s for a new one that does not come either, and a busy machine.
    wait_until(lambda: has_ended(worker), "the worker to notice the cut", 10)
    outcome = worker.wait()
    assert outcome.code == 75, outcome.output
    assert len(outcome.errors) == 1, outcome.output
    assert workspace.rows(scene) == 0
    wait_until(lambda: holder(workspace, scene) is None, "the server to notice the cut", 15)

    far.network.heal()
    assert far.run_here("bs").code == 0
    season.check(lost=1)


def test_f12_partition_before_commit(far: Far) -> None:
    """The network heals when the worker has given the connection up, but the server has not: its end of the old session
    still holds locks on the scene's row and on the log's. The same worker gets over that.

    Without: failure_classes
    """
    season, workspace = far.season, far.season.workspace
    season.short(database_wait_seconds=20, outage_pause_seconds=0.5, outages_in_a_row=10)
    workspace.db_config["database"]["connection"].update({"tcp_user_timeout": 3000, "connect_timeout": 2})
    gate = Gate(workspace.folder, "before_commit")
    worker = far.start("bs", "--all", env=gate.env)
    gate.wait(worker)
    session = holder(workspace, claimed(season))
    far.network.cut()
    gate.open()
    wait_until(lambda: "waiting up to" in worker.stderr, "the worker to notice the cut", 10)
    assert holder(workspace, claimed(season)) == session
    far.network.heal()
    outcome = worker.wait(40)
    assert outcome.code == 0, outcome.output
    season.check()
    assert season.outcomes()[-1] == "extracted"
    assert len(season.outcomes()) == 2
