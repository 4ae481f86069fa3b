"""The code blocks of README.md and docs/operating.md, word by word and in their order, on the manager and two VMs."""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from demo.servers import S3Server
from tests.faults.network import TcpProxy
from tests.faults.own_postgis import own_postgis
from tests.faults.season import Products, Season
from tests.support.environment import ROOT
from tests.support.running import NOTHING_LEFT, wait_until
from tests.swarm.cloud import Cloud
from tests.swarm.stack import STACK_CONNECTION, USER, Stack, configure, database_of

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "demo_output", "data")
WORKERS = 3
CONFIGURATION = ("db_config.json", "s3_config.json")


def blocks(file: str, section: str) -> list[str]:
    """The shell commands of a section of a page."""
    text = (ROOT / file).read_text()
    (body,) = re.findall(rf"^##+ {re.escape(section)}\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    found: list[str] = re.findall(r"^```bash\n(.*?)^```", body, re.DOTALL | re.MULTILINE)
    return found


class Operator:
    """Somebody with a terminal on the manager, in a copy of the project."""

    def __init__(self, cloud: Cloud, project: Path) -> None:
        self.cloud, self.project = cloud, project
        shutil.copytree(ROOT, project, ignore=LEFT_OUT)
        # No registry can be reached here, and images that are imported have no digest.
        lock = project / "images.lock"
        lock.write_text(re.sub("@sha256:.*", "", lock.read_text()))

    def types(self, block: str, folder: Path | None = None) -> str:
        """What the terminal shows after these commands, all of which have to succeed."""
        script = folder or self.project
        typed = ("script", "-qec", f"bash -euc {_quoted(block)}", "/dev/null")
        # In this shell REPLICAS is set: eight workers, as without, are for tests/swarm/test_stack.py.
        done = self.cloud.manager.run("env", f"REPLICAS={WORKERS}", *typed, folder=script)
        assert done.returncode == 0, f"{block}\n{done.stdout}"
        return done.stdout

    def configures(self, connection: dict[str, str | int], store: str, bucket: str, made: Path) -> None:
        """The two files in the project's directory."""
        configure(made, connection, store, bucket)
        for name in CONFIGURATION:
            shutil.copy(made / name, self.project / name)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture
def operator(cloud: Cloud, tmp_path: Path) -> Operator:
    return Operator(cloud, tmp_path / "project")


def test_docker_swarm_and_vms(
    operator: Operator, season_products: Products, store: S3Server, far_store: TcpProxy, tmp_path: Path
) -> None:
    cloud = operator.cloud
    store_address = f"http://{far_store.host}:{far_store.port}"
    name = f"t{uuid.uuid4().hex[:12]}"
    build, single = blocks("README.md", "One scene, with Docker")
    set_up, database, rights, workers, again, end = blocks("README.md", "A whole period, on a swarm")
    (on_a_vm,) = blocks("README.md", "On VMs without a swarm")
    (another_card,) = blocks("docs/operating.md", "CARDs beside each other")

    operator.types(build)
    with own_postgis(cloud.here) as server:
        season = Season(season_products, server, store, tmp_path / "single", {"s2": 4}, name)
        operator.configures(server.connection_config(name), store_address, name, tmp_path / "elsewhere")
        (tmp_path / "empty").mkdir()
        for file in CONFIGURATION:
            shutil.copy(operator.project / file, tmp_path / "empty" / file)
        assert "signatures written" in operator.types(single, tmp_path / "empty")
        assert sorted(season.statuses().values()).count("extracted") == 1
        operator.types(set_up.replace("bash swarm/check.sh", "#"))
        assert NOTHING_LEFT in operator.types(on_a_vm)
        season.check()
        season.close()

    stack, radar = Stack(cloud, "s2", operator.project), Stack(cloud, "bs", operator.project)
    bucket = f"t{uuid.uuid4().hex[:12]}"
    operator.configures(STACK_CONNECTION, store_address, bucket, tmp_path / "stack")
    operator.types(set_up)  # again, with all checks
    operator.types(database)
    try:
        inside: Any = database_of(stack)
        season = Season(season_products, inside, store, tmp_path / "season", {"s2": 4, "bs": 2}, bucket)
        for name, ours in (("extraction", USER), ("parcels_2018", "parcels"), ("roi_2018_s2_signatures", "signatures")):
            rights = rights.replace(f"={name}", f"={ours}")
        operator.types(rights)
        assert "s2swarm_vector_extractor" in operator.types(workers)
        stack.wait_for_end()
        season.check(extracted=season.scenes["s2"])
        assert stack.column("Replicas") == f"0/{WORKERS}"
        season.add_again("s2", 3)
        operator.types(again)
        wait_until(lambda: {season.statuses()[n] for n in season.scenes["s2"]} == {"extracted"}, "the second burst")

        there = STACK_CONNECTION | {"host": cloud.manager.address}
        operator.configures(there, store_address, bucket, tmp_path / "beside")
        operator.types(another_card)
        radar.wait_for_end()
        season.check()
        season.close()
        radar.remove()
        operator.types(end)
        stack.wait_until_gone()
    except BaseException:
        for one in (radar, stack):
            one.remove()
        raise
