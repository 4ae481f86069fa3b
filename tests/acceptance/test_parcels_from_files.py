"""The commands of docs/configuration.md that import parcels, word by word: what comes of them can be used as it is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import geopandas
import pytest
from shapely.geometry.base import BaseGeometry

from tests.support.environment import ROOT, environment, skip_unless
from tests.support.ground import GRID, squares
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

DRIVERS = {"shp": "ESRI Shapefile", "gpkg": "GPKG", "geojson": "GeoJSON", "gdb": "OpenFileGDB"}
CONNECTION = '"PG:dbname=sentinel"'


def commands() -> dict[str, str]:
    """File extension -> the command that imports it."""
    page = (ROOT / "docs/configuration.md").read_text()
    (section,) = re.findall(r"^## Parcels from a file\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    (block,) = re.findall(r"^```bash\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    found = {}
    for line in block.splitlines():
        match = re.search(r" parcels\.(\w+) ", line)
        assert match is not None, line
        assert CONNECTION in line
        found[match[1]] = line
    return found


def write(folder: Path, extension: str, shapes: list[BaseGeometry]) -> None:
    """A file as a GIS writes it, with an attribute and a CRS."""
    epsg = 4326 if extension == "geojson" else GRID.epsg
    frame = geopandas.GeoDataFrame({"crop": ["wheat"] * len(shapes)}, geometry=shapes, crs=GRID.epsg).to_crs(epsg)
    frame.to_file(folder / f"parcels.{extension}", driver=DRIVERS[extension], engine="pyogrio")


def import_file(workspace: Workspace, command: str) -> None:
    """Run it, with the test's database in place of the documented one."""
    skip_unless("" if shutil.which("ogr2ogr") else "there is no ogr2ogr (Debian: gdal-bin)")
    there = workspace.postgis.connection_config(workspace.database)
    target = f"PG:host={there['host']} port={there['port']} dbname={there['dbname']} user={there['dbuser']}"
    done = subprocess.run(
        command.replace(CONNECTION, shlex.quote(target)),
        shell=True,
        cwd=workspace.folder,
        env=environment(PGPASSWORD=str(there["dbpasswd"])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_is_a_command_for_every_format() -> None:
    assert commands().keys() == DRIVERS.keys()


@pytest.mark.parametrize("extension", DRIVERS)
def test_an_import(extension: str, workspace: Workspace) -> None:
    """The parcels' ids are 1, 2, 3, ... in the order of the file."""
    shapes = squares(6)
    write(workspace.folder, extension, shapes)
    import_file(workspace, commands()[extension])
    workspace.tables["parcel_table"] = "parcels_2018"
    scene = workspace.add_s2()
    asked = workspace.run("s2", "--check")
    assert asked.code == 0, asked.output
    assert "unique" not in asked.output  # the import makes a key
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(dict(enumerate(shapes, 1))))


def test_a_plain_import_with_its_own_names(workspace: Workspace) -> None:
    """`ogr2ogr parcels.gpkg` and nothing else; the configuration says what the columns are called."""
    shapes = squares(4)
    write(workspace.folder, "gpkg", shapes)
    import_file(workspace, f"ogr2ogr -f PostgreSQL {CONNECTION} parcels.gpkg -nln plain")
    workspace.tables["parcel_table"] = "plain"
    scene = workspace.add_s2()
    refused = workspace.run("s2")
    assert refused.code == 2
    assert "tables.parcel_id" in refused.errors[0]
    workspace.tables.update({"parcel_id": "fid", "parcel_geometry": "geom"})
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene), scene.expected(dict(enumerate(shapes, 1))))


def test_an_id_of_ones_own(workspace: Workspace) -> None:
    shapes = squares(3)
    write(workspace.folder, "gpkg", shapes)
    import_file(workspace, commands()["gpkg"])
    workspace.query("ALTER TABLE parcels_2018 ADD COLUMN parcel_no bigint")
    workspace.query("UPDATE parcels_2018 SET parcel_no = 10000000000 + 7 * ogc_fid")
    workspace.tables.update({"parcel_table": "parcels_2018", "parcel_id": "parcel_no"})
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    numbers = {10_000_000_000 + 7 * number: shape for number, shape in enumerate(shapes, 1)}
    assert_same(workspace.signatures(scene), scene.expected(numbers))
