"""The image, and one scene with it: `docker run`, a directory with two files, no swarm."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.servers import S3Server
from tests.faults.network import TcpProxy
from tests.faults.own_postgis import own_postgis
from tests.faults.season import Products, Season
from tests.support.environment import ROOT
from tests.swarm import images
from tests.swarm.cloud import Cloud
from tests.swarm.stack import PASSWORD, SECRET_KEY, configure
from tests.unit.test_stack_files import CONFINED

SOMEBODY = 1234
LARGEST_BYTES = 700_000_000
COMMAND = "python -m extractors.s2"


@dataclass
class Directory:
    """A working directory with the two configuration files, and the scenes that they lead to."""

    cloud: Cloud
    path: Path
    season: Season

    def run(self, command: str, options: str = "") -> subprocess.CompletedProcess[str]:
        """The README's command, on a terminal."""
        line = f'docker run -it --rm {CONFINED} {options} -v "$PWD":/usr/src/app:ro {self.cloud.image} {command}'
        return self.cloud.manager.run("script", "-qec", line, "/dev/null", folder=self.path)

    def files(self) -> dict[str, tuple[int, int]]:
        """Name -> owner and group, of everything in it."""
        return {
            str(path.relative_to(self.path)): (path.stat().st_uid, path.stat().st_gid) for path in self.path.rglob("*")
        }


@pytest.fixture
def directory(
    cloud: Cloud, season_products: Products, store: S3Server, far_store: TcpProxy, tmp_path: Path
) -> Iterator[Directory]:
    name = f"t{uuid.uuid4().hex[:12]}"
    with own_postgis(cloud.here) as server:
        path = tmp_path / "working directory"
        store_address = f"http://{far_store.host}:{far_store.port}"
        configure(path, server.connection_config(name), store_address, name)
        path.chmod(0o755)
        season = Season(season_products, server, store, tmp_path / "season", {"s2": 2}, name)
        yield Directory(cloud, path, season)
        season.close()


@pytest.mark.parametrize("owner", [0, SOMEBODY])
def test_one_scene(directory: Directory, owner: int) -> None:
    """In root's directory and in another user's: one scene, no file that was not there before."""
    for path in (directory.path, *directory.path.iterdir()):
        os.chown(path, owner, owner)
    before = directory.files()
    done = directory.run(COMMAND)
    assert done.returncode == 0, done.stdout
    assert "signatures written" in done.stdout
    assert sorted(directory.season.statuses().values()) == ["extracted", "ingested"]
    assert directory.files() == before
    assert {name for name, _ in before.items()} == {"db_config.json", "s3_config.json"}
    for secret in (SECRET_KEY, directory.season.workspace.postgis.password):
        assert secret not in done.stdout


def test_files_for_their_owner_only(directory: Directory) -> None:
    """The container's user may not read them, and is told so; as their owner it may."""
    for path in directory.path.iterdir():
        path.chmod(0o600)
        os.chown(path, SOMEBODY, SOMEBODY)
    os.chown(directory.path, SOMEBODY, SOMEBODY)
    refused = directory.run(COMMAND)
    assert refused.returncode == 2
    assert "db_config.json: cannot be read" in refused.stdout
    assert "--user" in refused.stdout
    assert set(directory.season.statuses().values()) == {"ingested"}
    done = directory.run(f"{COMMAND} --all", f"--user {SOMEBODY}:{SOMEBODY}")
    assert done.returncode == 0, done.stdout
    directory.season.check()
    assert set(directory.files()) == {"db_config.json", "s3_config.json"}


def test_code_in_the_directory_comes_first(directory: Directory) -> None:
    shutil.copytree(ROOT / "extractors", directory.path / "extractors", ignore=shutil.ignore_patterns("__pycache__"))
    where = shlex.quote("import extractors, extractors.worker; print(extractors.worker.__file__)")
    assert "/usr/src/app/extractors/worker.py" in directory.run(f"python -c {where}").stdout
    assert directory.run(COMMAND).returncode == 0
    assert not list(directory.path.rglob("__pycache__"))


def test_started_before_the_database(directory: Directory) -> None:
    """In a stack, the database's name means nothing before its container runs: it is waited for, and said once."""
    path = directory.path / "db_config.json"
    config = json.loads(path.read_text())
    config["database"]["connection"]["host"] = "pg_spat"
    config["extraction"]["database_wait_seconds"] = 2
    path.write_text(json.dumps(config))
    done = directory.run(COMMAND)
    assert done.returncode == 75, done.stdout
    assert done.stdout.count("waiting up to 2 s for the database at pg_spat:") == 1
    assert "ERROR no database at pg_spat:" in done.stdout


@pytest.mark.parametrize(("limit", "cores"), [("1", 1), ("0.3", 1), ("1.5", 2)])
def test_cores_of_a_container(cloud: Cloud, limit: str, cores: int) -> None:
    """As many as its limit gives it, whatever the machine has (two at least)."""
    program = "from extractors.runtime.cores import usable_cores; print(usable_cores())"
    assert cloud.manager.docker("run", "--rm", "--cpus", limit, cloud.image, "python", "-c", program) == str(cores)


def test_image(cloud: Cloud) -> None:
    """Small, not root's, without tools or caches; nothing secret in a layer."""
    (made,) = json.loads(cloud.manager.docker("inspect", cloud.image))
    (base,) = json.loads(cloud.manager.docker("inspect", images.BASE))
    assert made["Size"] - base["Size"] < LARGEST_BYTES
    assert made["Config"]["User"] == "10001:10001"
    assert made["Config"]["Healthcheck"]["Test"] == ["CMD", "python", "-m", "extractors.health"]
    history = cloud.manager.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", cloud.image)
    for secret in (PASSWORD, SECRET_KEY, "db_config.json", "s3_config.json"):
        assert secret not in history + json.dumps(made)
    programs = cloud.manager.docker(
        "run", "--rm", "--user", "0", cloud.image, "find", "/", "-xdev", "-perm", "/6000", "-type", "f"
    )
    assert programs == "", "programs that make their user somebody else"
    script = (
        "for tool in gcc cc make pip pip3 git curl; do if command -v $tool; then exit 1; fi; done; "
        'test -z "$(ls -A /var/lib/apt/lists)"; test ! -e /root/.cache; test -z "$(ls -A /usr/src/app)"'
    )
    cloud.manager.docker("run", "--rm", "--read-only", "--user", "0", cloud.image, "sh", "-ec", script)
