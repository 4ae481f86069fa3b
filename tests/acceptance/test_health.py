"""HEALTH_FILE: what the check says while a worker works, waits, and when it is gone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from demo.servers import free_port
from tests.support.environment import ROOT, environment
from tests.support.ground import squares
from tests.support.running import wait_until
from tests.support.workspace import Workspace


def check(file: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "extractors.health"],
        env=environment(HEALTH_FILE=str(file)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def beat(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "health"


def test_a_worker_at_a_scene_and_its_death(workspace: Workspace, file: Path, tmp_path: Path) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.extraction["deadline_seconds"] = 1000
    at_work = tmp_path / "at work"
    worker = workspace.start(
        "s2",
        env={
            "HEALTH_FILE": str(file),
            "EXTRACTION_FAILPOINT": "chunk_computed=touch",
            "EXTRACTION_FAILPOINT_FILE": str(at_work),
        },
    )
    wait_until(at_work.exists, "the worker at its scene")
    assert check(file) == (0, "")
    said = beat(file)
    assert (said["pid"], said["doing"]) == (worker.process.pid, f"working on scene {scene.id}")
    # The deadline of the scene, and some slack for giving it back.
    assert 1000 < said["by"] - time.monotonic() < 1500
    worker.kill()
    assert check(file) == (1, f"process {said['pid']} is gone, last seen working on scene {scene.id}\n")


def test_a_worker_that_waits(workspace: Workspace, file: Path) -> None:
    workspace.add_parcels(squares(3))
    worker = workspace.start("s2", "--watch", "5000", env={"HEALTH_FILE": str(file)})
    wait_until(lambda: file.exists() and beat(file)["doing"] == "pausing", "a worker that waits for scenes")
    assert check(file) == (0, "")
    assert 5000 < beat(file)["by"] - time.monotonic() < 5500
    worker.send(signal.SIGTERM)
    assert worker.wait().code == 128 + signal.SIGTERM
    assert check(file) == (1, f"process {worker.process.pid} is gone, last seen pausing\n")


def test_a_worker_without_a_database(workspace: Workspace, file: Path) -> None:
    workspace.db_config["database"]["connection"]["port"] = free_port()
    workspace.extraction["database_wait_seconds"] = 2000
    worker = workspace.start("s2", env={"HEALTH_FILE": str(file)})
    wait_until(lambda: "waiting up to" in worker.stderr, "a worker that waits for its database")
    assert check(file) == (0, "")
    assert beat(file)["doing"] == "waiting for the database"
    assert 1900 < beat(file)["by"] - time.monotonic() < 2500
    worker.kill()


def test_a_file_that_cannot_be_written_does_no_harm(workspace: Workspace, file: Path) -> None:
    workspace.add_parcels(squares(3))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2)]
    outcome = workspace.run("s2", "--all", env={"HEALTH_FILE": str(file / "below nothing")})
    assert (outcome.code, outcome.errors) == (0, [])
    assert [workspace.status(scene) for scene in scenes] == ["extracted"] * 2
    assert outcome.stderr.count("cannot be written") == 1
