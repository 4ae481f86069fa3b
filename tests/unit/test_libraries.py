"""GDAL and PROJ as the environment has them: asked in processes of their own, since both look only once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import ROOT, environment

ASK = """
import sys
from extractors.errors import ConfigurationError
from extractors.raster.libraries import check_driver, check_proj

try:
    check_proj()
    check_driver(sys.argv[1])
except ConfigurationError as error:
    print(error)
else:
    print("works")
"""


def ask(driver: str, variables: dict[str, str]) -> str:
    """What the check says with these variables; one line."""
    command = [sys.executable, "-c", ASK, driver]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment(**variables))
    (line,) = done.stdout.splitlines()
    assert "Traceback" not in done.stderr
    return line


@pytest.mark.parametrize("driver", ["JP2OpenJPEG", "ENVI", "GTiff"])
def test_it_works_here(driver: str) -> None:
    assert ask(driver, {}) == "works"


def old_database(folder: Path) -> str:
    """A folder with a PROJ database that is none, as another version's is."""
    (folder / "proj.db").write_bytes(b"SQLite format 3\0" + bytes(4080))
    return str(folder)


@pytest.mark.parametrize("name", ["PROJ_LIB", "PROJ_DATA"])
@pytest.mark.parametrize("kind", ["empty", "no such folder", "another installation's"])
def test_proj_looks_elsewhere(name: str, kind: str, tmp_path: Path) -> None:
    value = {"empty": "", "no such folder": "/nowhere", "another installation's": old_database(tmp_path)}[kind]
    line = ask("GTiff", {name: value})
    assert line.startswith("PROJ cannot look up EPSG codes (")
    assert line.endswith(f"; unset {name}={value!r}, which points to another installation")


def test_both_are_named() -> None:
    said = ask("ENVI", {"PROJ_LIB": "/a", "PROJ_DATA": "/b"})
    assert "; unset PROJ_LIB='/a' and PROJ_DATA='/b'," in said


def test_a_driver_is_left_out() -> None:
    """A sibling: set for another program, it takes the CARD's own driver away; the others still work."""
    skipped = {"GDAL_SKIP": "JP2OpenJPEG,ENVI"}
    assert ask("ENVI", skipped).endswith(
        "has no driver ENVI, which the scenes' files need; unset GDAL_SKIP='JP2OpenJPEG,ENVI'"
    )
    assert ask("GTiff", skipped) == "works"


def test_a_driver_that_is_not_there() -> None:
    assert "has no driver JP2ECW" in ask("JP2ECW", {})


@pytest.mark.parametrize("variables", [{"GDAL_DATA": "/nowhere"}, {"GDAL_DRIVER_PATH": "/nowhere"}])
def test_what_does_no_harm(variables: dict[str, str]) -> None:
    """A sibling: variables that are wrong and matter to nothing that is read here."""
    for driver in ("JP2OpenJPEG", "ENVI", "GTiff"):
        assert ask(driver, variables) == "works"
