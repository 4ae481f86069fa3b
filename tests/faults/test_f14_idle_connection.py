"""F14: something on the way forgets connections that are idle: a firewall, a load balancer, a swarm's virtual address.

Injected: a router that forgets connections after four idle seconds and drops without a word what still comes on them;
the worker computes for ten. Asserted: with keepalives the scene is extracted on the same session; without them it is
not, which shows that the router does what it should.
"""

from __future__ import annotations

import time

from tests.faults.acts import Gate, claimed, has_ended, holder, terminate
from tests.faults.far import Far
from tests.support.running import Outcome, wait_until

FORGOTTEN_SECONDS = 4
"""More than a busy machine takes between two queries of a worker."""
COMPUTING_SECONDS = 10


def compute_for_long(far: Far) -> tuple[Outcome, bool]:
    """One scene whose statistics take long; how it ended, and whether its session was the same from claim to commit."""
    season, workspace = far.season, far.season.workspace
    gate = Gate(workspace.folder, "chunk_computed", "before_commit")
    far.network.forget_idle(FORGOTTEN_SECONDS)
    worker = far.start("bs", env=gate.env)
    gate.wait(worker)
    session = holder(workspace, claimed(season))
    assert session is not None
    time.sleep(COMPUTING_SECONDS)  # the fault itself: nothing happens
    gate.open()
    wait_until(lambda: gate.arrived() or has_ended(worker), "the end of the scene", 60)
    same = gate.arrived() and holder(workspace, claimed(season)) == session
    if gate.arrived():
        gate.open()
    return worker.wait(30), same


def test_f14_with_keepalives(far: Far) -> None:
    """A computing worker keeps its session alive.

    Without: keepalives
    """
    season = far.season
    season.short()
    connection = season.workspace.db_config["database"]["connection"]
    connection.update({"keepalives_idle": 1, "keepalives_interval": 1})
    outcome, same_session = compute_for_long(far)
    assert outcome.code == 0, outcome.output
    assert same_session
    assert season.outcomes() == ["extracted"]
    season.check(lost=0)


def test_f14_control_without_keepalives(far: Far) -> None:
    """The same without keepalives on either end: the worker finds its session gone and writes nothing.

    Without: none
    """
    season, workspace = far.season, far.season.workspace
    season.short(database_wait_seconds=1)
    connection = workspace.db_config["database"]["connection"]
    # Not `keepalives: 0`: libpq then leaves out the time-out for unanswered data as well, and waits for a quarter hour.
    connection.update({"keepalives_idle": 7200, "tcp_user_timeout": 3000, "connect_timeout": 2})
    workspace.extraction["server_settings"].update({"tcp_keepalives_idle": "7200", "tcp_user_timeout": "0"})
    outcome, same_session = compute_for_long(far)
    assert outcome.code == 75, outcome.output
    assert not same_session
    assert workspace.rows() == 0
    terminate(workspace)  # the server still believes in that session
    season.check(extracted=set(), lost=None)
