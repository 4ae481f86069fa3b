"""The demonstration, as README's first command runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from demo.__main__ import OUTPUT
from tests.support.environment import ROOT, environment

VERBS = ["setup", "setup --aoi parcels", "ingest --from store", "status", "report"]
# Of s2, four bands and indices, three of them of clear pixels as well; of bs and c6 two bands; 12 scenes of each.
ACCOUNTS = 12 * (4 + 3 + 2 + 2)


def test_from_nothing_to_a_page() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    commands = re.findall(r"\] operations (.+)", done.stdout)
    assert [command.startswith(verb) for command, verb in zip(commands, VERBS, strict=True)] == [True] * len(VERBS)
    assert f"in all {ACCOUNTS} accounts" in done.stdout
    assert len(done.stdout.splitlines()) < 50, "more than a screen"
    named = [Path(line.strip()) for line in done.stdout.splitlines()[-2:]]
    assert named == [OUTPUT / "season.html", OUTPUT / "s2.png"]
    assert named[0].read_text().count("Index NDV of each pixel") >= len("12345")
    assert named[1].read_bytes().startswith(b"\x89PNG")
