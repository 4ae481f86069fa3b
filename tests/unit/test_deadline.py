"""How long a worker may take for a scene by itself: ended in time, and not for what others take.

Each case runs in a process of its own, which the deadline ends.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import ROOT, environment

BEGIN = """
import time
from extractors.logs import configure
from extractors.runtime.deadline import Deadline
configure()
deadline = Deadline("working", {seconds})
with deadline.running():
"""
ENDED = "scene took longer than"


def run(block: str, seconds: float, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a block whose time is limited; it says `done` if it gets to its end."""
    lines = "".join(f"    {line}\n" for line in block.strip().splitlines())
    script = f"{BEGIN.format(seconds=seconds)}{lines}print('done')\n"
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment(**env), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "block",
    [
        "time.sleep(50)",
        # What was counted before a pause stays counted.
        "time.sleep(0.6)\nwith deadline.paused('waiting'):\n    pass\ntime.sleep(50)",
        # Within a pause, what is made of what has come is counted.
        "with deadline.paused('waiting'):\n    with deadline.running():\n        time.sleep(50)",
        # A block that fails does not leave the watch off.
        "try:\n    with deadline.paused('waiting'):\n        raise OSError\nexcept OSError:\n    time.sleep(50)",
    ],
)
def test_it_ends_the_process(block: str) -> None:
    ended = run(block, 1)
    assert (ended.returncode, ended.stdout) == (70, "")
    assert ENDED in ended.stderr


@pytest.mark.parametrize(
    "block",
    [
        "pass",
        "with deadline.paused('waiting'):\n    time.sleep(1.5)",
        "for _ in range(2):\n    with deadline.paused('waiting'):\n        time.sleep(0.8)\n"
        "        with deadline.running():\n            pass",
    ],
)
def test_it_does_not_count_what_others_take(block: str) -> None:
    ended = run(block, 1)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_afterwards_nobody_watches() -> None:
    ended = run("pass\ntime.time()\nimport atexit\natexit.register(time.sleep, 2)", 1)
    assert (ended.returncode, ended.stdout) == (0, "done\n")


def test_the_health_file_says_what_it_is_doing(tmp_path: Path) -> None:
    file = tmp_path / "health"
    look = f"print(json.load(open({str(file)!r}))['doing'])"
    ended = run(
        f"import json\n{look}\nwith deadline.paused('waiting'):\n    {look}\n{look}", 100, HEALTH_FILE=str(file)
    )
    assert ended.stdout.splitlines() == ["working", "waiting", "working", "done"]
