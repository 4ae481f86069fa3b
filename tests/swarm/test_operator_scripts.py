"""The operator's scripts in swarm/, on real daemons and over real ssh: from bare machines to a swarm and back.

The tests stand in the order of an operator's work, and each builds on those before it. What the scripts say about
wrong command lines, and what they do when a copy breaks off, is in tests/unit/test_swarm_scripts.py.
"""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from tests.swarm.cloud import Cloud

SWARM = Path(__file__).parents[2] / "swarm"
NODE_STATE = "{{.Status.State}} {{.Spec.Availability}}"


@pytest.fixture(scope="module", autouse=True)
def bare(cloud: Cloud) -> None:
    """The machines as they come, even if tests before these have made a swarm of them."""
    cloud.part()


def script(cloud: Cloud, name: str, *arguments: str | Path, code: int = 0) -> list[str]:
    """What the script says; standard error is empty when all goes well."""
    outcome = subprocess.run(
        ["bash", SWARM / name, *arguments],
        env=cloud.environment(),
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert outcome.returncode == code, outcome.stdout + outcome.stderr
    assert bool(outcome.stderr) == bool(code), outcome.stderr
    return [*outcome.stdout.splitlines(), *outcome.stderr.splitlines()]


def names(cloud: Cloud) -> list[str]:
    return [worker.name for worker in cloud.workers]


def node_ids(cloud: Cloud) -> list[str]:
    """The ids of the nodes that the manager knows, its own included."""
    return cloud.manager.docker("node", "ls", "-q").split()


def cells(lines: list[str], host: str) -> dict[str, str]:
    """The host's line of the table of check.sh: its cells begin where the heads of the columns begin."""
    head = next(line for line in lines if line.startswith("HOST "))
    line = next(line for line in lines if line.startswith(f"{host} "))
    starts = [head.index(name) for name in head.split()]
    ends = [*starts[1:], None]
    return {name: line[start:end].strip() for name, start, end in zip(head.split(), starts, ends, strict=True)}


@pytest.fixture
def unreachable(cloud: Cloud, tmp_path: Path) -> dict[str, str]:
    """The environment in which no ssh daemon answers at the workers' port."""
    config = tmp_path / "ssh_config"
    config.write_text(f"Host *\n  Port 1\n\n{cloud.ssh_config.read_text()}")
    return cloud.environment() | {"SSH_OPTIONS": f"-F {config}"}


def test_prepare(cloud: Cloud, tmp_path: Path) -> None:
    """The VMs of the tests share this machine's files: hence one directory for all, and not below a home."""
    folder = tmp_path / "dk of ours"
    lines = script(cloud, "prepare.sh", "--directory", folder, *names(cloud))
    assert folder.is_dir()
    for name in names(cloud):
        assert f"{name}: Docker: already there" in lines
        assert f"{name}: daemon: already runs" in lines
        assert f"{name}: no-new-privileges: already set" in lines
    again = script(cloud, "prepare.sh", "--directory", folder, *names(cloud))
    assert [line for line in again if "directory" in line] == [
        f"{name}: directory {folder}: already there" for name in names(cloud)
    ]


def test_join(cloud: Cloud) -> None:
    command = ("join.sh", "--advertise-addr", cloud.manager.address, "--database-here")
    script(cloud, *command, "--dry-run", *names(cloud))
    assert cloud.workers[0].docker("info", "-f", "{{.Swarm.LocalNodeState}}").strip() == "inactive"

    lines = script(cloud, *command, *names(cloud))
    assert lines[-2:] == [f"{name}: joined as a worker" for name in names(cloud)]
    token = cloud.manager.docker("swarm", "join-token", "-q", "worker").strip()
    assert token not in "".join(lines)
    states = cloud.manager.docker("node", "inspect", "-f", NODE_STATE, *node_ids(cloud)).splitlines()
    assert states == ["ready active"] * 3
    labels = cloud.manager.docker("node", "inspect", "-f", '{{index .Spec.Labels "database"}}', *node_ids(cloud))
    assert labels.split() == ["true"]

    again = script(cloud, *command, *names(cloud))
    assert again == [
        "manager: already a manager",
        "manager: label database=true: already there",
        *(f"{name}: already a worker" for name in names(cloud)),
    ]


def test_bring_the_image(cloud: Cloud) -> None:
    first, second = names(cloud)
    command = ("bring.sh", "--image", cloud.image)
    assert "docker save" in script(cloud, *command, "--dry-run", first)[0]
    assert cloud.workers[0].docker("images", "-q", cloud.image) == ""

    assert script(cloud, *command, first)[-1] == f"{first}: image {cloud.image}: there"
    lines = script(cloud, *command, first, second)
    assert f"{first}: image {cloud.image}: already there" in lines
    wanted = cloud.manager.docker("image", "inspect", "-f", "{{.Id}}", cloud.image)
    for worker in cloud.workers:
        assert worker.docker("image", "inspect", "-f", "{{.Id}}", cloud.image) == wanted
    assert script(cloud, *command, second) == [f"{second}: image {cloud.image}: already there"]


def test_bring_an_image_that_is_not_there(cloud: Cloud) -> None:
    lines = script(cloud, "bring.sh", "--image", "nobody-has-this:1", *names(cloud), code=1)
    assert lines == ["bring.sh: there is no image nobody-has-this:1 on this machine: build it first"]


def test_bring_code(cloud: Cloud, tmp_path: Path) -> None:
    folder = tmp_path / "it's a copy"
    script(cloud, "bring.sh", "--code", "--directory", folder, names(cloud)[0])
    script(cloud, "bring.sh", "--code", "--directory", folder, names(cloud)[0])
    assert sorted(path.name for path in folder.iterdir()) == ["download_with_boto3.py", "extractors", "operations"]
    assert (folder / "extractors" / "s2.py").read_text() == (SWARM.parent / "extractors" / "s2.py").read_text()


def test_check_finds_nothing_wrong(cloud: Cloud, tmp_path: Path) -> None:
    here = _address_towards(cloud.workers[0].address)
    database, store = tmp_path / "db.json", tmp_path / "s3.json"
    database.write_text(json.dumps({"database": {"connection": {"host": "pg_spat"}}}))
    with socket.create_server((here, 0)) as server:
        store.write_text(json.dumps({"s3": {"host": f"http://{here}:{server.getsockname()[1]}"}}))
        options = ("--db-config", database, "--s3-config", store, "--min-disk", "1")
        for _ in range(2):
            lines = script(cloud, "check.sh", "--image", cloud.image, *options, *names(cloud))
            for name in names(cloud):
                found = cells(lines, name)
                assert found.pop("DOCKER").startswith("ok ")
                assert found.pop("DATABASE") == "in the stack"
                assert found.pop("HOST") == name
                assert found == dict.fromkeys(("SSH", "SWARM", "CLOCK", "DISK", "IMAGE", "PRIVILEGES", "S3"), "ok")


def test_check_tells_what_is_wrong(cloud: Cloud, tmp_path: Path) -> None:
    """The store answers the VMs on this machine's side of their network; at the database's port there is nobody."""
    here = _address_towards(cloud.workers[0].address)
    name = names(cloud)[0]
    database, store = tmp_path / "db.json", tmp_path / "s3.json"
    with socket.create_server((here, 0)) as server, socket.socket() as nobody:
        nobody.bind((here, 0))  # taken, but nobody listens
        database.write_text(
            json.dumps({"database": {"connection": {"host": here, "port": nobody.getsockname()[1]}}}),
        )
        store.write_text(json.dumps({"s3": {"host": f"http://{here}:{server.getsockname()[1]}"}}))
        options = ("--db-config", database, "--s3-config", store, "--min-disk", "900000")
        lines = script(cloud, "check.sh", "--image", "nobody-has-this:1", *options, name, "no-such-vm", code=1)
    found = cells(lines, name)
    assert (found["IMAGE"], found["S3"]) == ("not there", "ok")
    assert found["DATABASE"] == f"no connection to {here}:{nobody_port(database)}"
    assert found["DISK"].startswith("only ")
    assert cells(lines, "no-such-vm")["SSH"] == "cannot be reached"
    assert lines[-1] == f"check.sh: failed: {name} no-such-vm"


def test_a_host_that_is_gone_does_not_stop_the_others(cloud: Cloud, tmp_path: Path) -> None:
    first, second = names(cloud)
    lines = script(cloud, "prepare.sh", "--directory", tmp_path, first, "no-such-vm", second, code=1)
    assert any(line.startswith("no-such-vm: failed: cannot be reached (") for line in lines)
    assert lines[-1] == "prepare.sh: failed: no-such-vm"
    assert any(line.startswith(f"{second}: directory ") for line in lines)


def test_remove_and_join_again(cloud: Cloud) -> None:
    first, second = names(cloud)
    before = node_ids(cloud)
    assert "would run" in script(cloud, "remove.sh", "--dry-run", first)[0]
    lines = script(cloud, "remove.sh", first)
    assert lines[0] == f"{first}: drained"
    assert lines[-2:] == [f"{first}: left the swarm", f"{first}: removed"]
    assert len(node_ids(cloud)) == len(before) - 1
    assert cloud.workers[0].docker("info", "-f", "{{.Swarm.LocalNodeState}}").strip() == "inactive"
    assert script(cloud, "remove.sh", first) == [f"{first}: not in this swarm"]
    checked = script(cloud, "check.sh", "--image", cloud.image, "--min-disk", "1", first, second, code=1)
    assert (cells(checked, first)["SWARM"], cells(checked, second)["SWARM"]) == ("in no swarm", "ok")

    assert script(cloud, "join.sh", first, second)[1:] == [
        f"{first}: joined as a worker",
        f"{second}: already a worker",
    ]
    assert len(node_ids(cloud)) == len(before)


def test_the_manager_is_not_removed(cloud: Cloud) -> None:
    lines = script(cloud, "remove.sh", cloud.manager.name, code=1)
    assert lines[0] == f"{cloud.manager.name}: failed: is a manager of the swarm, not a worker"


def test_remove_a_vm_that_is_gone(cloud: Cloud, unreachable: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ssh fails here, so the VM's daemon must be told by hand that it is in no swarm any more."""
    worker = cloud.workers[0]
    before = node_ids(cloud)
    own = worker.docker("info", "-f", "{{.Swarm.NodeID}}").strip()
    with monkeypatch.context() as patch:
        patch.setattr(type(cloud), "environment", lambda _: unreachable)
        refused = script(cloud, "remove.sh", worker.name, code=1)
        assert "--force removes its node all the same" in refused[0]
        assert node_ids(cloud) == before
        script(cloud, "remove.sh", "--force", worker.name)
        assert sorted(node_ids(cloud)) == sorted(set(before) - {own})
        assert (
            script(cloud, "remove.sh", "--force", "--node", own, worker.name)[-1] == f"{worker.name}: not in this swarm"
        )
    refused = script(cloud, "join.sh", worker.name, code=1)
    assert any(line.startswith(f"{worker.name}: failed: is in another swarm, or was removed") for line in refused)
    worker.docker("swarm", "leave")
    assert script(cloud, "join.sh", worker.name)[-1] == f"{worker.name}: joined as a worker"


def nobody_port(database: Path) -> int:
    port = json.loads(database.read_text())["database"]["connection"]["port"]
    assert isinstance(port, int)
    return port


def _address_towards(address: str) -> str:
    """This machine's address in the network of the VMs."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        here = probe.getsockname()[0]
    assert isinstance(here, str)
    return here
