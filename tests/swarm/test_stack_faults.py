"""A burst that loses a node, the network, or the database: all scenes, each once, and nobody has to do anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg2

from tests.support.running import wait_until
from tests.swarm.cloud import Cloud, Node
from tests.swarm.conftest import MakeBurst
from tests.swarm.stack import Burst

RECOVERY_SECONDS = 90
"""From the loss of a node to the end of the burst. The swarm notices after about 20 s, the database (with these tests'
settings) after 11 s."""


def test_node_lost(swarm: Cloud, make_burst: MakeBurst) -> None:
    """A worker node loses its power: its connections do not end, and all that it ran is gone."""
    lost = swarm.workers[1]
    burst = at_work(make_burst, lost)

    def lose() -> None:
        swarm.cut(lost)
        lost.kill()

    def find() -> None:
        swarm.heal(lost)
        lost.start()

    with lost_meanwhile(swarm, lost, lose, find):
        end_without(burst, lost)
    assert "lost" in burst.season.outcomes()
    burst.check()


def test_daemon_killed(swarm: Cloud, make_burst: MakeBurst) -> None:
    """Only the daemon is killed: its workers go on, and the swarm starts others in their place."""
    lost = swarm.workers[1]
    burst = at_work(make_burst, lost)
    with lost_meanwhile(swarm, lost, lost.kill_daemon, lost.start):
        end_without(burst, lost)
    burst.check()


def test_node_cut_off(swarm: Cloud, make_burst: MakeBurst) -> None:
    """The network of a node is cut: its workers cannot publish any more, others do their scenes."""
    lost = swarm.workers[1]
    burst = at_work(make_burst, lost)

    def find() -> None:
        swarm.heal(lost)
        # By itself, it would try to reach the manager at longer and longer intervals.
        lost.stop()
        lost.start()

    with lost_meanwhile(swarm, lost, lambda: swarm.cut(lost), find):
        end_without(burst, lost)
        burst.season.check(quiet=False)
    burst.check()


def test_database_killed(swarm: Cloud, make_burst: MakeBurst) -> None:
    """kill -9 of the database's container: the swarm starts it again, the workers wait for it."""
    burst = at_work(make_burst, swarm.workers[1], inside=True)
    (container,) = swarm.manager.docker("ps", "-q", "--filter", f"name={burst.stack.name}_pg_spat").split()
    burst.season.workspace.connection.close()
    swarm.manager.docker("kill", "--signal", "KILL", container)
    wait_until(lambda: reconnects(burst), "the database's return", 60)
    burst.store.delay_seconds = 0
    burst.stack.wait_for_end(RECOVERY_SECONDS)
    burst.check()


def at_work(make_burst: MakeBurst, node: Node, *, inside: bool = False) -> Burst:
    """A burst some way on, with a slow store: workers are busy, on this node too, and scenes are left."""
    burst = make_burst("s2", 24, inside=inside, WORKER_CPUS_RESERVED="0.2")
    burst.store.delay_seconds = 0.15
    burst.start()
    wait_until(lambda: burst.done() >= 3 and burst.at(node), "the first scenes")
    return burst


def end_without(burst: Burst, lost: Node) -> None:
    """The burst's end, once the node is lost: within the stated time, all scenes are extracted."""
    begin = time.monotonic()
    burst.store.delay_seconds = 0
    wait_until(lambda: burst.done() == len(burst.season.all), "the end of the burst", RECOVERY_SECONDS)
    print(f"all scenes extracted {time.monotonic() - begin:.0f} s after {lost.name} was lost")
    burst.stack.wait_for_end(RECOVERY_SECONDS)


@contextmanager
def lost_meanwhile(cloud: Cloud, node: Node, lose: Callable[[], None], find: Callable[[], None]) -> Iterator[None]:
    """Lose a node for the block, and have it back in the swarm afterwards."""
    lose()
    try:
        yield
    finally:
        find()
        wait_until(lambda: is_ready(cloud, node), f"the return of {node.name}", 90)


def is_ready(cloud: Cloud, node: Node) -> bool:
    return cloud.manager.docker("node", "inspect", "-f", "{{.Status.State}}", node.name) == "ready"


def reconnects(burst: Burst) -> bool:
    """The test's own connection to the database, made anew."""
    try:
        burst.season.workspace.reconnect()
    except psycopg2.OperationalError:
        return False
    return True
