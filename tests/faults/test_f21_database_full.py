"""F21: the disk of the database is full.

Injected: the results table lies in a tablespace on a small memory disk that is full. Asserted: the scene is given back
and not counted against it, no row is visible, the worker gives up with exit code 75 after the configured number of
outages in a row; with room on the disk the scene is extracted.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import MakeSeason
from tests.support.environment import skip_unless


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A memory disk of 1 MB with a folder of the database server in it; not below pytest's own folder, which the
    server's user may not enter."""
    skip_unless("" if os.geteuid() == 0 and shutil.which("mount") else "mounting a memory disk needs root")
    disk = Path(tempfile.mkdtemp(prefix="small-disk-"))
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0755", "none", disk], check=True)
        try:
            folder = disk / "tablespace"
            folder.mkdir(mode=0o700)
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            disk.chmod(0o755)
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)
    finally:
        disk.rmdir()


def test_f21_disk_full(make_season: MakeSeason, small_disk: Path) -> None:
    """A full disk is the world's fault, not the scene's; it is over when there is room.

    Without: failure_classes
    """
    season = make_season(bs=1)
    season.short(outages_in_a_row=3, outage_pause_seconds=0.05, max_attempts=2)
    world = season.workspace
    tablespace = world.database
    # A worker makes the results table, even if there is no scene for it.
    assert season.run("bs", "--scene", "none of this name").code == 0
    world.query(f"CREATE TABLESPACE {tablespace} LOCATION '{small_disk}'")
    try:
        world.query(f"ALTER TABLE signatures SET TABLESPACE {tablespace}")
        fill(small_disk.parent / "filler")

        outcome = season.run("bs", "--all")
        assert outcome.code == 75, outcome.output
        assert "disk is full" in outcome.stderr
        assert world.rows() == 0
        assert season.outcomes() == ["given_back"] * 3
        assert [*season.statuses().values()] == ["ingested"]

        subprocess.run(["mount", "-o", "remount,size=20m", small_disk.parent], check=True)
        assert season.run("bs", "--all").code == 0
        season.check(lost=0)
        assert season.outcomes() == ["given_back"] * 3 + ["extracted"]
    finally:
        world.query("ALTER TABLE signatures SET TABLESPACE pg_default")
        world.query("CHECKPOINT")
        world.query(f"DROP TABLESPACE {tablespace}")


def fill(file: Path) -> None:
    """Write until there is no room."""
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            return
