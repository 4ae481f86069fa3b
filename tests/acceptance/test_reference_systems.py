"""The same ground in other reference systems gives the same pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo import products, tables
from demo.products import Grid
from demo.servers import Postgis, S3Server
from tests.support.ground import GRID, cell, footprint, ground, optical, radar, red, squares, to_epsg
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

NORTH = GRID
SOUTH = Grid(epsg=32733, left=499980.0, top=7500000.0, pixel=10.0)

LAEA_EUROPE = 3035
"""Lambert azimuthal, used for the whole of Europe; its axes are northing, easting."""
POLAND = 2180
"""A national system whose axes are northing, easting."""
GAUSS_KRUGER = 31467
"""Germany zone 3, another datum, axes northing, easting."""


@pytest.mark.parametrize("srid", [32633, LAEA_EUROPE, POLAND, GAUSS_KRUGER, 4326])
def test_parcels_in_any_reference_system(postgis: Postgis, store: S3Server, tmp_path: Path, srid: int) -> None:
    workspace = Workspace(postgis, store, tmp_path, parcel_srid=srid)
    try:
        scene = workspace.add_s2()
        shapes = [*squares(20), cell(56, 58, 2, 2)]
        stored = workspace.add_parcels([to_epsg(shape, 32633, srid) for shape in shapes])

        outcome = workspace.run("s2")

        assert (outcome.code, outcome.errors) == (0, [])
        assert_same(workspace.signatures(scene), scene.expected(dict(zip(stored, shapes, strict=True))))
    finally:
        workspace.close()


@pytest.mark.parametrize("srid", [32733, 4326])
def test_the_southern_hemisphere(postgis: Postgis, store: S3Server, tmp_path: Path, srid: int) -> None:
    workspace = Workspace(postgis, store, tmp_path, parcel_srid=srid)
    try:
        tables.add_aoi(workspace.connection, "south", footprint(ground(1000, grid=SOUTH), SOUTH.epsg))
        workspace.args["name"] = "south"
        shapes = squares(12, grid=SOUTH)
        stored = workspace.add_parcels([to_epsg(shape, SOUTH.epsg, srid) for shape in shapes])
        parcels = dict(zip(stored, shapes, strict=True))
        scenes = [
            workspace.add_s2(grid=SOUTH),
            workspace.add_bs(grid=SOUTH),
            workspace.add_c6(grid=SOUTH),
        ]
        for scene in scenes:
            outcome = workspace.run(scene.card)
            assert (outcome.code, outcome.errors) == (0, [])
            assert_same(workspace.signatures(scene), scene.expected(parcels))
    finally:
        workspace.close()


def test_bands_in_different_reference_systems_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    elsewhere = Grid(epsg=32634, left=GRID.left, top=GRID.top, pixel=GRID.pixel)
    keys = products.write_s2(tmp_path / "other", scene.reference, optical(), elsewhere)
    workspace.write(scene.keys["B08"], (tmp_path / "other" / keys["B08"]).read_bytes())

    outcome = workspace.run("s2")

    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert workspace.status(scene) == "failed"
    (log,) = workspace.log(scene)
    assert "32634" in log["detail"]
    assert workspace.rows() == 0
    assert workspace.files() == []


def test_bands_on_different_grids_are_normal(workspace: Workspace, tmp_path: Path) -> None:
    """B08 reaches 200 m further to the west and north than B04: each band has its own transform."""
    parcels = workspace.add_parcels(squares(14))
    scene = workspace.add_s2()
    wider = Grid(epsg=GRID.epsg, left=GRID.left - 200, top=GRID.top + 200, pixel=GRID.pixel)
    bands = {"B04": red(1, (80, 80)), "B08": red(9, (80, 80)), "SCL": optical()["SCL"]}
    keys = products.write_s2(tmp_path / "wider", scene.reference, bands, wider)
    workspace.write(scene.keys["B08"], (tmp_path / "wider" / keys["B08"]).read_bytes())

    outcome = workspace.run("s2")

    assert outcome.code == 0
    wanted = {key: value for key, value in scene.expected(parcels).items() if key[1] != "B8"}
    shifted = type(scene)(scene.id, scene.reference, "s2", {"B08": bands["B08"]}, {}, wider)
    assert_same(workspace.signatures(scene), wanted | shifted.expected(parcels))


def test_long_edges_of_an_aoi_do_not_cut_corners(postgis: Postgis, store: S3Server, tmp_path: Path) -> None:
    """A rectangle of ten degrees in EPSG:4326, parcels in EPSG:3035: a parallel is a curve there.

    At 15 degrees east the parallel lies kilometres south of the straight line between the transformed corners:
    without points between them the parcel just inside the southern edge would be lost, and the one just beyond the
    northern edge taken.
    """
    workspace = Workspace(postgis, store, tmp_path, parcel_srid=LAEA_EUROPE)
    try:
        inside, beyond = cell(4, 50), cell(4, 4)
        south = to_epsg(inside, 32633, 4326).bounds[1] - 0.0002  # some 20 m south of the parcel
        north = to_epsg(beyond, 32633, 4326).bounds[1] - 0.0002
        # Two AOIs: one ends just south of `inside`, the other just south of `beyond`.
        wide = "POLYGON((10 {0}, 20 {0}, 20 {1}, 10 {1}, 10 {0}))"
        tables.add_aoi(workspace.connection, "southern edge", wide.format(south, 47))
        tables.add_aoi(workspace.connection, "northern edge", wide.format(44, north))
        pids = list(workspace.add_parcels([to_epsg(shape, 32633, LAEA_EUROPE) for shape in (inside, beyond)]))
        scene = workspace.add_s2(bands={**optical(), "B04": red()})

        for aoi, selected in (("southern edge", set(pids)), ("northern edge", {pids[0]})):
            workspace.ingest(scene)
            workspace.args["name"] = workspace.tables["results_table"] = aoi
            assert workspace.run("s2").code == 0
            assert {pid for pid, _ in workspace.signatures(scene, table=aoi)} == selected
    finally:
        workspace.close()


def test_radar_and_optical_scenes_of_neighbouring_zones(workspace: Workspace) -> None:
    """A scene comes in the zone of its own file, whatever zone the parcels are stored in."""
    west = Grid(epsg=32632, left=960000.0, top=5110020.0, pixel=10.0)
    shapes = squares(8, grid=west)
    stored = workspace.add_parcels([to_epsg(shape, west.epsg, GRID.epsg) for shape in shapes])
    tables.add_aoi(workspace.connection, "west", footprint(ground(1000, grid=west), west.epsg))
    workspace.args["name"] = "west"
    scene = workspace.add_bs(grid=west, bands=radar(3))

    outcome = workspace.run("bs")

    assert outcome.code == 0
    assert_same(workspace.signatures(scene), scene.expected(dict(zip(stored, shapes, strict=True))))


@pytest.mark.parametrize(("srid", "better"), [(27700, True), (32630, False)], ids=["a national grid", "UTM"])
def test_a_better_transformation_that_is_not_installed(
    srid: int, better: bool, postgis: Postgis, store: S3Server, tmp_path: Path
) -> None:
    """The British grid is 1 m exact with its grid file, 2 m without: a warning, once, before the first scene."""
    london = Grid(epsg=32630, left=699980.0, top=5710000.0, pixel=10.0)
    workspace = Workspace(postgis, store, tmp_path, parcel_srid=srid)
    try:
        tables.add_aoi(workspace.connection, "london", footprint(ground(1000, grid=london), london.epsg))
        workspace.args["name"] = "london"
        workspace.add_parcels([to_epsg(shape, london.epsg, srid) for shape in squares(5, grid=london)])
        scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31", grid=london) for day in (1, 2)]
        installed = any(Path("/usr/share/proj").glob("*OSTN15*"))
        asked = workspace.run("s2", "--check")
        outcome = workspace.run("s2", "--all")
        assert (asked.code, outcome.code, {workspace.status(scene) for scene in scenes}) == (0, 0, {"extracted"})
        for said in (asked, outcome):
            warnings = [line for line in said.stderr.splitlines() if " WARNING " in line]
            assert len(warnings) == (better and not installed)
            assert all(str(srid) in line and "(2 m)" in line and "(1 m)" in line for line in warnings)
    finally:
        workspace.close()


@pytest.mark.parametrize("first", [32633, 4326])
def test_an_area_of_rows_in_several_reference_systems(first: int, workspace: Workspace) -> None:
    """Each row is taken as it says itself; only together do they cover the scene."""
    parcels = workspace.add_parcels(squares(6))
    scene = workspace.add_s2()
    workspace.query("ALTER TABLE aois ALTER wkb_geometry TYPE geometry")
    workspace.query("DELETE FROM aois")
    west, south, east, north = ground().bounds
    middle = west + 200
    for left, right, srid in ((west, middle, first), (middle, east, 4326 + 32633 - first)):
        workspace.query(
            "INSERT INTO aois VALUES ('my_aoi', ST_Transform(ST_MakeEnvelope(%s, %s, %s, %s, 32633), %s))",
            *(left, south, right, north, srid),
        )
    asked = workspace.run("s2", "--check")
    assert asked.code == 0
    assert "parcels in the area: 'my_aoi' reaches from 14.9" in asked.stdout
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(parcels))
