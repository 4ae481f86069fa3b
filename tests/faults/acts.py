"""What several tests of database and network do to a worker: stop it at a fail point, find and end its session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.season import Season
from tests.support.running import Running, wait_until
from tests.support.workspace import Workspace

LOCKS = 1128418561
"""The class of the workers' advisory locks."""
APPLICATION = "parcel-extraction"


class Gate:
    """Fail points at which a worker waits until the test lets it go on."""

    def __init__(self, folder: Path, *points: str, name: str = "gate") -> None:
        self.points = points
        self._file = folder / name

    @property
    def env(self) -> Mapping[str, str]:
        """The environment for the worker."""
        return {
            "EXTRACTION_FAILPOINT": ",".join(f"{point}=touch" for point in self.points),
            "EXTRACTION_FAILPOINT_FILE": str(self._file),
        }

    def arrived(self) -> bool:
        return self._file.exists()

    def wait(self, worker: Running, seconds: float = 60) -> None:
        """Wait until the worker stands at one of the points."""
        wait_until(lambda: self.arrived() or has_ended(worker), "the worker at a fail point", seconds)
        if not self.arrived():
            pytest.fail(f"ended before any of {self.points}:\n{worker.wait().output}")

    def open(self) -> None:
        """Let it go on, to the next of its points if there is one."""
        self._file.unlink()


def has_ended(worker: Running) -> bool:
    return worker.process.poll() is not None


def holder(workspace: Workspace, scene: int) -> int | None:
    """The server process that holds the claim on a scene."""
    rows = workspace.query(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        LOCKS,
        scene,
    )
    assert len(rows) < 2, "two sessions hold one claim"
    return rows[0][0] if rows else None


def claimed(season: Season) -> int:
    """The one scene of ours that is claimed now."""
    (scene,) = (scene for scene, status in season.statuses().items() if status == "inprogress")
    return scene


def terminate(workspace: Workspace) -> int:
    """End all sessions of workers, from the server's side; how many there were."""
    pids = [
        pid
        for (pid,) in workspace.query(
            "WITH workers AS MATERIALIZED (SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = %s)"
            " SELECT pid FROM workers WHERE pg_terminate_backend(pid)",
            APPLICATION,
        )
    ]
    wait_until(
        lambda: not workspace.one("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", pids),
        "the sessions' end",
        20,
    )
    return len(pids)


def this_scene(season: Season, scene: int) -> tuple[str, str]:
    """The options that choose it."""
    return "--scene", season.products[scene].reference
