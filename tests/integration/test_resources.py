"""What a worker holds: opened once, and given back whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from extractors.errors import ConfigurationError
from extractors.resources import Resources
from extractors.runtime.options import read_options
from extractors.s2 import CARD
from tests.support.ground import squares
from tests.support.running import wait_until
from tests.support.workspace import Workspace


def options_of(workspace: Workspace) -> list[str]:
    workspace.write_config()
    names = ("db_config", "s3_config")
    files = [f"--{name.replace('_', '-')}={workspace.cwd / name}.json" for name in names]
    return [*files, f"--data-dir={workspace.data}"]


def sessions(workspace: Workspace) -> int:
    """How many sessions of workers the database has."""
    return int(
        workspace.one(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'parcel-extraction'"
        )
    )


def test_reading_changes_nothing(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    with Resources.for_reading(CARD, read_options("s2", options_of(workspace))) as resources:
        assert resources.tables.log.absent
        assert resources.tables.results.absent
        assert sessions(workspace) == 1
    assert workspace.one("SELECT to_regclass('extraction_log') IS NULL AND to_regclass('signatures') IS NULL")
    assert not workspace.data.exists()


def test_opening_makes_what_is_absent(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    with Resources.open(CARD, read_options("s2", options_of(workspace))) as resources:
        assert not resources.tables.log.absent
    assert workspace.one("SELECT to_regclass('extraction_log') IS NOT NULL AND to_regclass('signatures') IS NOT NULL")
    assert workspace.data.is_dir()


def test_a_session_is_closed_if_the_tables_cannot_be_used(workspace: Workspace) -> None:
    workspace.tables["parcel_table"] = "nowhere"
    options = read_options("s2", options_of(workspace))
    with pytest.raises(ConfigurationError) as caught:
        Resources.open(CARD, options)
    assert "nowhere" in str(caught.value)
    wait_until(lambda: sessions(workspace) == 0, "the session's end")  # the server takes a moment


@pytest.mark.parametrize("name", ["db_config.json", "s3_config.json"])
def test_files_are_read_before_anything_is_made(workspace: Workspace, name: str) -> None:
    options = read_options("s2", options_of(workspace))
    (Path(workspace.cwd) / name).unlink()
    with pytest.raises(ConfigurationError):
        Resources.open(CARD, options)
    assert not workspace.data.exists()
