"""F21: the disk of the database is full.

Injected: the results table lies in a tablespace on a small memory disk that is full. Asserted: the scene is given back
and not counted against it, no row is visible, the worker gives up with exit code 75 after the configured number of
outages in a row; with room on the disk the scene is extracted.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import MakeSeason
from tests.support.small_disk import SmallDisk, small_disk

TABLESPACE = "tablespace"


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    """1 MB with a folder of the database server in it; not below pytest's own folder, which the server's user may not
    enter."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    folder.chmod(0o755)
    try:
        with small_disk(folder, "1m", in_use=True) as disk:
            owner = pwd.getpwnam("postgres")
            (folder / TABLESPACE).mkdir(mode=0o700)
            os.chown(folder / TABLESPACE, owner.pw_uid, owner.pw_gid)
            yield disk
    finally:
        folder.rmdir()


def test_f21_disk_full(make_season: MakeSeason, disk: SmallDisk) -> None:
    """A full disk is an outage and no fault of the scene's; it is over when there is room.

    Without: failure_classes
    """
    season = make_season(bs=1)
    season.short(outages_in_a_row=3, outage_pause_seconds=0.05, max_attempts=2)
    workspace = season.workspace
    tablespace = workspace.database
    # A worker makes the results table, even if there is no scene for it.
    assert season.run("bs", "--scene", "none of this name").code == 0
    workspace.query(f"CREATE TABLESPACE {tablespace} LOCATION '{disk.folder / TABLESPACE}'")
    try:
        workspace.query(f"ALTER TABLE signatures SET TABLESPACE {tablespace}")
        disk.fill()

        outcome = season.run("bs", "--all")
        assert outcome.code == 75, outcome.output
        assert "disk is full" in outcome.stderr
        assert workspace.rows() == 0
        assert season.outcomes() == ["given_back"] * 3
        assert [*season.statuses().values()] == ["ingested"]

        disk.grow("20m")
        assert season.run("bs", "--all").code == 0
        season.check(lost=0)
        assert season.outcomes() == ["given_back"] * 3 + ["extracted"]
    finally:
        workspace.query("ALTER TABLE signatures SET TABLESPACE pg_default")
        workspace.query("CHECKPOINT")
        workspace.query(f"DROP TABLESPACE {tablespace}")
