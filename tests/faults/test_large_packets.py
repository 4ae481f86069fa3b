"""Small packets pass between a worker and the database, and large ones do not: an overlay network on another network
whose MTU is smaller.

Injected: a router that drops what is longer than 1,000 bytes, without a word. Asserted: the worker's line says what
that looks like, and it ends with 75; with the network in order the scene is done, as after any cut (F12).
"""

from __future__ import annotations

from tests.faults.acts import APPLICATION, Gate
from tests.faults.far import Far
from tests.support.running import wait_until


def test_large_packets_are_dropped(far: Far) -> None:
    """As a scene is written.

    Without: none
    """
    season, workspace = far.season, far.season.workspace
    season.short(database_wait_seconds=1)
    workspace.db_config["database"]["connection"].update({"tcp_user_timeout": 3000, "connect_timeout": 5})
    workspace.extraction["server_settings"].update({"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1"})
    gate = Gate(workspace.folder, "publish_begin")
    worker = far.start("bs", env=gate.env)
    gate.wait(worker)
    far.network.drop_large(1000)
    gate.open()
    outcome = worker.wait(60)
    assert outcome.code == 75, outcome.output
    assert "MTU" in outcome.errors[-1]
    far.network.heal()
    # Of two sessions: the second one was to give the scene back.
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    wait_until(lambda: workspace.one(sessions, APPLICATION) == 0, "the server to notice", 15)

    assert far.run_here("bs").code == 0
    season.check(lost=1)  # to give it back takes a large packet as well
