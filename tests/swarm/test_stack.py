"""The stack files, deployed on a manager and two workers, from the first container to the last one's end."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from tests.support.running import NOTHING_LEFT, wait_until
from tests.swarm.cloud import DockerError, Node
from tests.swarm.conftest import MakeBurst
from tests.swarm.stack import PASSWORD, SECRET_KEY, Burst, Stack, last_lines


def test_burst(make_burst: MakeBurst) -> None:
    """24 scenes, eight workers on two nodes, the stack's own database; then nothing runs any more."""
    burst = make_burst("s2", 24, inside=True)
    burst.store.delay_seconds = 0.02  # no worker is done with everything before the last one has started
    burst.start()
    burst.stack.wait_for_end()
    burst.check()
    assert burst.stack.column("Replicas") == "0/8"
    hosts = burst.hosts()
    assert hosts.keys() == {"vm_new1", "vm_new2"}, hosts
    lines = last_lines(burst.stack)
    assert len(lines) == 8, "a worker was started again"
    assert set(lines.values()) == {NOTHING_LEFT}
    for container in containers(burst.stack):
        check_container(container)
    burst.again(3)
    burst.stack.wait_for_end()
    burst.check()
    burst.stack.remove()
    assert left_in_scratch(burst) == []


def test_bursts_with_database_elsewhere(make_burst: MakeBurst) -> None:
    """The other two cards, both at once; one variable, and a stack has no database of its own."""
    bursts = [make_burst(card, 6) for card in ("bs", "c6")]
    for burst in bursts:
        burst.start(REPLICAS="3")
    for burst in bursts:
        burst.stack.wait_for_end()
        burst.check()
        assert burst.stack.tasks("pg_spat") == []


def test_watch(make_burst: MakeBurst) -> None:
    """Continuous: scenes that come later are taken; log lines as JSON; politely ended when the stack is removed."""
    burst = make_burst("bs", 4, WATCH="1", LOG_FORMAT="json")
    burst.start(REPLICAS="2")
    wait_until(lambda: burst.done() == 4, "the first scenes")
    burst.season.add_again("bs", 2)
    wait_until(lambda: burst.done() == 6, "the scenes that came later")
    wait_until(lambda: len(burst.stack.running()) == 2, "the first look at the workers' health")
    for container in containers(burst.stack):
        check_container(container)
        assert_no_secret(processes(burst.stack, container))
    assert len(healthy(burst.stack)) == 2
    records = [json.loads(line) for line in burst.stack.log().splitlines()]
    assert {record["scene"] for record in records if "scene" in record} >= set(burst.season.all), records
    stopped = containers(burst.stack)[0]
    node = node_of(burst.stack, stopped)
    node.docker("stop", "--time", "60", stopped["Id"])
    (after,) = json.loads(node.docker("inspect", stopped["Id"]))
    assert after["State"]["ExitCode"] == 143
    wait_until(lambda: len(burst.stack.running()) == 2, "another worker in its place")
    burst.check()


def containers(stack: Stack) -> list[dict[str, Any]]:
    """What `docker inspect` says of the workers' containers on all nodes."""
    found: list[dict[str, Any]] = []
    for node in stack.cloud.workers:
        for container in node.docker("ps", "-aq", "--filter", f"name={stack.workers}").split():
            with suppress(DockerError):  # it has just been removed
                found += json.loads(node.docker("inspect", container))
    assert found
    return found


def node_of(stack: Stack, container: dict[str, Any]) -> Node:
    """Where a worker's container runs."""
    (node,) = (n for n in stack.cloud.workers if n.name == container["Config"]["Hostname"].split("-")[0])
    return node


def healthy(stack: Stack) -> list[str]:
    return [c["Id"] for c in containers(stack) if c["State"].get("Health", {}).get("Status") == "healthy"]


def check_container(container: dict[str, Any]) -> None:
    """Not root, nothing to write to but the scratch directory, no secret to be seen from outside."""
    assert container["Config"]["User"] == "10001:10001"
    assert container["HostConfig"]["ReadonlyRootfs"]
    assert container["HostConfig"]["CapDrop"] == ["ALL"]
    assert container["HostConfig"]["Init"]
    assert container["HostConfig"]["Memory"] == 4 << 30
    assert container["HostConfig"]["LogConfig"]["Config"] == {"max-file": "3", "max-size": "10m"}
    assert_no_secret(json.dumps(container))


def processes(stack: Stack, container: dict[str, Any]) -> str:
    """Arguments and environment of all processes in a container, none of which may be root's."""
    script = "for p in /proc/[0-9]*; do id -u; tr '\\0' ' ' <$p/cmdline; tr '\\0' ' ' <$p/environ; stat -c %u $p; done"
    text = node_of(stack, container).docker("exec", container["Id"], "sh", "-c", script + " 2>/dev/null; true")
    owners = {line for line in text.splitlines() if line.isdigit()}
    assert owners == {"10001"}, owners
    return text


def assert_no_secret(text: str) -> None:
    assert PASSWORD not in text
    assert json.dumps(PASSWORD)[1:-1] not in text
    assert SECRET_KEY not in text


def left_in_scratch(burst: Burst) -> list[str]:
    """What is in the volumes in which scenes are kept meanwhile."""
    files = []
    for node in burst.stack.cloud.workers:
        for volume in node.docker("volume", "ls", "-q", "--filter", f"name={burst.stack.name}_scratch").split():
            place = node.docker("volume", "inspect", "-f", "{{.Mountpoint}}", volume)
            files += node.run("find", place, "-mindepth", "1").stdout.splitlines()
    return files
