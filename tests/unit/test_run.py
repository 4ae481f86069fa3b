"""The test run itself: every folder in one of the two lanes, none lost, and both end when they are told to.

The real script, with stand-ins for all that it calls.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import ROOT, environment
from tests.support.running import wait_until

PREPARED = ("postgis", "test_tools", "swarm_tools", "venv", "stac_server")
# Notes what it is to test, and whether it would ignore a SIGINT; waits while there is a file `hold`.
PYTHON = """#!/usr/bin/env bash
case "$*" in *pytest*) ;; *) exit 0 ;; esac
trap 'echo "$*" >>ended; exit 2' TERM
trap -p INT >>ignored
echo "$*" >>begun
while [ -e hold ]; do sleep 0.1; done
[[ "$*" != *"$FAILING"* ]]
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy of the script, where it finds stand-ins."""
    programs = tmp_path / ".venv" / "bin"
    for folder in (tmp_path / "tests", tmp_path / "scripts", programs):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "run.sh", tmp_path / "tests")
    (tmp_path / "scripts" / "prepare.sh").write_text("".join(f"prepare_{what}() {{ :; }}\n" for what in PREPARED))
    for name, text in (("ruff", "#!/bin/sh\n"), ("mypy", "#!/bin/sh\n"), ("python", PYTHON)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    yield tmp_path
    (tmp_path / "hold").unlink(missing_ok=True)


def start(project: Path, failing: str = "nothing") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["bash", "tests/run.sh"], cwd=project, env=environment(FAILING=failing), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def noted(project: Path, file: str) -> list[str]:
    """What was to be tested, without the options for all."""
    path = project / file
    return sorted(line.split("=15 ")[-1] for line in path.read_text().splitlines()) if path.exists() else []


@pytest.mark.parametrize(("failing", "code"), [("nothing", 0), ("tests/faults", 1), ("tests/operations", 1)])
def test_every_folder_is_run_once(project: Path, failing: str, code: int) -> None:
    """Also when another one fails, in whichever lane."""
    folders = {f"tests/{path.parent.name}" for path in (ROOT / "tests").glob("*/test_*.py")}
    expected = folders - {"tests/unit"} | {"tests/unit -m hypothesis", "tests/unit -m not hypothesis"}
    assert start(project, failing).wait(60) == code
    assert noted(project, "begun") == sorted(expected)


def test_a_part_that_cannot_begin_is_a_failure(project: Path) -> None:
    """Where there is no room for a folder, no part counts as begun by the other lane."""
    stand_in = project / "mkdir"
    stand_in.write_text("#!/bin/sh\nexit 1\n")
    stand_in.chmod(0o755)
    ended = subprocess.run(
        ["bash", "tests/run.sh"], cwd=project, stdin=subprocess.DEVNULL, check=False, start_new_session=True,
        env=environment(FAILING="nothing", PATH=f"{project}:{os.environ['PATH']}"),
    )  # fmt: skip
    assert ended.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_lanes_end_on_a_signal(project: Path, number: signal.Signals) -> None:
    """Each gets one SIGTERM. Ctrl-C sends the signal to all who have the keyboard."""
    (project / "hold").touch()
    run = start(project)
    wait_until(lambda: len(noted(project, "begun")) == 2, "both lanes")
    if number == signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    assert run.wait(60) == -number
    assert noted(project, "ended") == noted(project, "begun")
    assert noted(project, "ignored") == []
