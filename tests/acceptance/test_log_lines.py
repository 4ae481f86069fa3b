"""--log-format json: every line of a worker is one JSON object, whatever becomes of its scenes."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.faulty_s3 import FaultyS3
from tests.support.ground import squares
from tests.support.running import NOTHING_LEFT, Outcome
from tests.support.workspace import Workspace

JSON = {"LOG_FORMAT": "json"}


def lines(outcome: Outcome) -> list[dict[str, Any]]:
    """All that was said; nothing is on stdout."""
    assert outcome.stdout == ""
    return [json.loads(line) for line in outcome.stderr.splitlines()]


def test_every_line_is_an_object(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    done, broken = (workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2))
    workspace.write(broken.keys["B04"], b"no image")
    outcome = workspace.run("s2", "--all", env=JSON)
    assert outcome.code == 1
    found = lines(outcome)
    assert {line["card"] for line in found} == {"s2"}
    worker = workspace.one("SELECT DISTINCT worker FROM extraction_log")
    assert {line["worker"] for line in found} == {worker}
    assert all(line["time"].endswith("Z") for line in found)
    assert found[-1]["message"] == NOTHING_LEFT
    assert "scene" not in found[-1]
    assert {(line["scene"], line["reference"]) for line in found[:-1]} == {
        (scene.id, scene.reference) for scene in (done, broken)
    }
    assert [line["message"].split(":")[0] for line in found if line["level"] == "ERROR"] == ["failed"]
    assert not any(line["message"].startswith("[scene") for line in found)


def test_a_traceback_is_in_its_line(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.write(scene.keys["B04"], b"no image")
    outcome = workspace.run("s2", "-v", "--log-format", "json", env={"LOG_FORMAT": "text"})
    (line,) = (line for line in lines(outcome) if line["level"] == "ERROR")
    assert line["traceback"].startswith("Traceback")
    assert line["scene"] == scene.id


def test_an_outage_names_its_scene(workspace: Workspace, proxy: FaultyS3) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.s3.update(host=proxy.endpoint, retry_seconds=0)
    proxy.spoil("S2A_MSIL2A", "503")
    outcome = workspace.run("s2", env=JSON)
    assert outcome.code == 75
    (line,) = (line for line in lines(outcome) if line["level"] == "ERROR")
    assert (line["scene"], line["reference"]) == (scene.id, scene.reference)
    assert line["message"] == workspace.log(scene)[0]["detail"]


def test_an_error_of_the_configuration(workspace: Workspace) -> None:
    del workspace.db_config["database"]["args"]
    outcome = workspace.run("s2", env=JSON)
    assert outcome.code == 2
    (line,) = lines(outcome)
    assert (line["level"], line["message"]) == (
        "ERROR",
        'db_config.json: database.args is missing; add it, for example "args": an object {...}',
    )


@pytest.mark.parametrize("options", [(), ("--scene", "S2A_nowhere")])
def test_nothing_to_do(workspace: Workspace, options: tuple[str, ...]) -> None:
    workspace.add_parcels(squares(3))
    outcome = workspace.run("s2", *options, env=JSON)
    assert outcome.code == 0
    assert lines(outcome)[-1]["message"] == NOTHING_LEFT


def test_a_dead_worker_s_scene(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    killed = workspace.start("s2", env={"EXTRACTION_FAILPOINT": "chunk_computed=kill"}).wait()
    assert killed.code == -signal.SIGKILL
    workspace.extraction["max_attempts"] = 2
    (line,) = (line for line in lines(workspace.run("s2", env=JSON)) if "its worker died" in line["message"])
    assert (line["scene"], line["level"]) == (scene.id, "WARNING")
