"""Which parcels are selected, and that each of them is either written or counted by a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import shapely

from demo import tables
from demo.servers import Postgis, S3Server
from tests.support.ground import GRID, SIDE, cell, classes, footprint, ground, optical, red, squares
from tests.support.running import Outcome
from tests.support.scenes import Signatures
from tests.support.workspace import Workspace

LEFT, TOP = GRID.left, GRID.top
FOOTPRINT = ground(150)
WEST_EDGE, SOUTH_EDGE, EAST_EDGE, NORTH_EDGE = FOOTPRINT.bounds
NOTCH = cell(0, 44, 12, 12, inset=0)
"""A corner of the ground that is not part of the AOI."""
X, Y = LEFT + 320, TOP - 60
"""A corner of pixels: a circle of 23.3 m round it holds 16 pixel centres."""
CIRCLE = f"CURVEPOLYGON(CIRCULARSTRING({X - 23.3} {Y}, {X + 23.3} {Y}, {X - 23.3} {Y}))"
PLAIN = cell(2, 2)

BANDS = {"B04": red(), "B08": red(501), "SCL": classes()}
for _name, _array in BANDS.items():
    _size = 1 if _name != "SCL" else 2
    _array[50 // _size :, 50 // _size :] = 0
BANDS["B04"][50:, 40:50] = 0


def at(column: float, row: float) -> str:
    """A place in pixels as coordinates in WKT."""
    return f"{LEFT + 10 * column} {TOP - 10 * row}"


WRITTEN: dict[str, tuple[str, int]] = {
    "a square": (PLAIN.wkt, 36),
    "a square with a hole": (cell(10, 2).difference(cell(12, 4, 2, 2, inset=-2)).wkt, 32),
    "a multipolygon": (shapely.MultiPolygon([cell(18, 2, 2, 2), cell(22, 2, 2, 2)]).wkt, 8),
    "a circle": (CIRCLE, 16),
    "a multisurface": (f"MULTISURFACE({CIRCLE})", 16),
    "the first of two twins": (cell(2, 10).wkt, 36),
    "the second of two twins": (cell(2, 10).wkt, 36),
    "a square with repeated points": (
        f"POLYGON(({at(10.2, 10.2)}, {at(10.2, 10.2)}, {at(15.8, 10.2)}, {at(15.8, 15.8)}, {at(15.8, 15.8)},"
        f" {at(10.2, 15.8)}, {at(10.2, 10.2)}))",
        36,
    ),
    "half outside the raster": (cell(-2, 20, 4, 4).wkt, 8),
    "over the whole raster": (cell(-5, -5, 70, 70).difference(NOTCH).wkt, 3600 - 144 - 200),
    "clockwise": (cell(18, 10, 4, 4).reverse().wkt, 16),
    "anticlockwise": (cell(26, 10, 4, 4).wkt, 16),
}
"""What it is -> geometry, and the number of valid pixels in B4."""

WITHOUT_ROW: dict[str, tuple[str, str]] = {
    "outside the raster": (cell(-7, 2, 4, 4).wkt, "outside"),
    "between the pixel centres": (cell(40, 2, 0.3, 0.3, inset=0).wkt, "no_pixel"),
    "a sliver between the rows": (cell(30, 20, 6, 0.2, inset=0).wkt, "no_pixel"),
    "on nodata": (cell(52, 52, 4, 4).wkt, "nodata"),
    "a point": (f"POINT({at(5, 5)})", "not_polygon"),
    "points": (f"MULTIPOINT({at(5, 5)}, {at(9, 9)})", "not_polygon"),
    "a line": (f"LINESTRING({at(5, 5)}, {at(40, 9)})", "not_polygon"),
    "lines": (f"MULTILINESTRING(({at(5, 5)}, {at(40, 9)}))", "not_polygon"),
}
"""What it is -> geometry, and the reason why it has a row in no band."""

EITHER: dict[str, str] = {
    "a bow-tie": f"POLYGON(({at(26, 26)}, {at(32, 32)}, {at(32, 26)}, {at(26, 32)}, {at(26, 26)}))",
    "a collection": f"GEOMETRYCOLLECTION({cell(34, 26).wkt}, POINT({at(30, 30)}))",
    "a collection of lines": f"GEOMETRYCOLLECTION(LINESTRING({at(5, 5)}, {at(40, 9)}))",
    "a polygon of no extent": f"POLYGON(({at(44, 26)}, {at(44, 26)}, {at(44, 26)}, {at(44, 26)}))",
    "a spike": f"POLYGON(({at(44, 30)}, {at(50, 30)}, {at(44, 30)}, {at(44, 30)}))",
    "a hole outside its shell": f"POLYGON(({at(50, 26)}, {at(54, 26)}, {at(54, 30)}, {at(50, 30)}, {at(50, 26)}),"
    f" ({at(56, 26)}, {at(58, 26)}, {at(58, 28)}, {at(56, 28)}, {at(56, 26)}))",
    "overlapping parts": shapely.MultiPolygon([cell(34, 34), cell(36, 36)]).wkt,
}
"""Broken or mixed: written, or counted by a reason, but one of the two."""

NOT_SELECTED: dict[str, str | None] = {
    "beyond the footprint": cell(90, 2).wkt,
    "round a corner of the footprint": shapely.union(
        shapely.box(EAST_EDGE + 20, NORTH_EDGE - 200, EAST_EDGE + 60, NORTH_EDGE + 60),
        shapely.box(EAST_EDGE - 200, NORTH_EDGE + 20, EAST_EDGE + 60, NORTH_EDGE + 60),
    ).wkt,
    "in the notch of the AOI": cell(4, 48).wkt,
    "NULL": None,
    "an empty polygon": "POLYGON EMPTY",
    "an empty multipolygon": "MULTIPOLYGON EMPTY",
    "an empty collection": "GEOMETRYCOLLECTION EMPTY",
}
PARTLY = cell(48, 52, 4, 4).wkt
"""Half of it is nodata in every band, the other half in B4 only."""


@dataclass(frozen=True)
class Zoo:
    """One run over every kind of geometry. `pids`: what it is -> ogc_fid."""

    workspace: Workspace
    pids: dict[str, int]
    outcome: Outcome
    log: dict[str, Any]
    signatures: Signatures

    def bands(self, name: str) -> set[str]:
        """The bands in which this parcel has a row."""
        return {band for pid, band in self.signatures if pid == self.pids[name]}


def insert(workspace: Workspace, name: str, wkt: str | None) -> int:
    """One parcel as WKT, its ogc_fid."""
    (row,) = workspace.query(
        "INSERT INTO parcels (wkb_geometry) VALUES (ST_SetSRID(%s::geometry, %s)) RETURNING ogc_fid", wkt, GRID.epsg
    )
    assert row[0] is not None, name
    return int(row[0])


@pytest.fixture(scope="module")
def zoo(shared_workspace: Workspace) -> Iterator[Zoo]:
    workspace = shared_workspace
    tables.add_aoi(workspace.connection, "notched", footprint(ground(1000).difference(NOTCH)))
    workspace.args["name"] = "notched"
    geometries: dict[str, str | None] = {
        **{name: wkt for name, (wkt, _) in WRITTEN.items()},
        **{name: wkt for name, (wkt, _) in WITHOUT_ROW.items()},
        **EITHER,
        **NOT_SELECTED,
        "partly on nodata": PARTLY,
    }
    pids = {name: insert(workspace, name, wkt) for name, wkt in geometries.items()}
    scene = workspace.add_s2(bands=BANDS, where=footprint(FOOTPRINT))
    outcome = workspace.run("s2")
    (log,) = workspace.log(scene)
    yield Zoo(workspace, pids, outcome, log, workspace.signatures(scene))


def test_zoo_is_extracted(zoo: Zoo) -> None:
    assert (zoo.outcome.code, zoo.outcome.errors) == (0, [])
    assert zoo.log["outcome"] == "extracted"


@pytest.mark.parametrize("name", WRITTEN)
def test_written_with_the_right_pixels(zoo: Zoo, name: str) -> None:
    assert zoo.signatures[zoo.pids[name], "B4"][0] == WRITTEN[name][1]
    assert zoo.bands(name) == {"B4", "B8", "SC"}


def test_twins_have_the_same_numbers(zoo: Zoo) -> None:
    first, second = (zoo.pids[f"the {which} of two twins"] for which in ("first", "second"))
    for band in ("B4", "B8", "SC"):
        assert zoo.signatures[first, band] == zoo.signatures[second, band]


@pytest.mark.parametrize("name", WITHOUT_ROW)
def test_without_a_row(zoo: Zoo, name: str) -> None:
    assert zoo.bands(name) == set()


@pytest.mark.parametrize("name", EITHER)
def test_broken_geometry_is_in_all_bands_or_in_none(zoo: Zoo, name: str) -> None:
    assert zoo.bands(name) in (set(), {"B4", "B8", "SC"})


@pytest.mark.parametrize("name", NOT_SELECTED)
def test_not_selected(zoo: Zoo, name: str) -> None:
    assert zoo.bands(name) == set()


def test_bands_are_judged_one_by_one(zoo: Zoo) -> None:
    assert zoo.bands("partly on nodata") == {"B8", "SC"}
    assert zoo.signatures[zoo.pids["partly on nodata"], "B8"][0] == 8


def test_number_of_selected_parcels(zoo: Zoo) -> None:
    assert zoo.log["parcels_selected"] == len(WRITTEN) + len(WITHOUT_ROW) + len(EITHER) + 1


@pytest.mark.parametrize("band", ["B4", "B8", "SC"])
def test_each_is_written_or_counted(zoo: Zoo, band: str) -> None:
    written = zoo.log["rows_written"][band]
    assert written == sum(label == band for _, label in zoo.signatures)
    assert zoo.log["parcels_selected"] == written + sum(zoo.log["parcels_without_row"][band].values())


@pytest.mark.parametrize("band", ["B4", "B8", "SC"])
def test_reasons(zoo: Zoo, band: str) -> None:
    reasons = dict(zoo.log["parcels_without_row"][band])
    assert set(reasons) <= {"outside", "no_pixel", "nodata", "not_polygon", "broken_geometry"}
    of_either = sum(not zoo.bands(name) for name in EITHER)
    sure = {"outside": 1, "no_pixel": 2, "nodata": 2 if band == "B4" else 1, "not_polygon": 4}
    for reason, number in sure.items():
        assert reasons.get(reason, 0) >= number, reason
    assert sum(reasons.values()) == sum(sure.values()) + of_either


def test_missing_geometries_are_counted_apart(zoo: Zoo) -> None:
    assert zoo.log["parcels_without_geometry"] == {"null": 1, "empty": 3}
    (warning,) = zoo.outcome.warnings
    assert "1 parcels have no geometry and 3 an empty one" in warning


# Three and four coordinates


def ring(*further: str) -> str:
    """The ring of PLAIN, each of its corners with these further coordinates."""
    corners = [at(2.2, 2.2), at(7.8, 2.2), at(7.8, 7.8), at(2.2, 7.8), at(2.2, 2.2)]
    return ", ".join(" ".join((corner, *further)) for corner in corners)


WITH_Z_AND_M = {
    "Z": f"POLYGON Z (({ring('301.5')}))",
    "M": f"POLYGON M (({ring('7')}))",
    "ZM": f"POLYGON ZM (({ring('301.5', '7')}))",
    "multi ZM": f"MULTIPOLYGON ZM ((({ring('301.5', '7')})))",
    "curved Z": f"CURVEPOLYGON Z (CIRCULARSTRING Z ({X - 23.3} {Y} 5, {X + 23.3} {Y} 5, {X - 23.3} {Y} 5))",
    "curved ZM": (f"CURVEPOLYGON ZM (CIRCULARSTRING ZM ({X - 23.3} {Y} 5 6, {X + 23.3} {Y} 5 6, {X - 23.3} {Y} 5 6))"),
}


@pytest.mark.parametrize("typed", [True, False], ids=["SRID in the column type", "SRID in the rows only"])
def test_z_and_m_are_ignored(workspace: Workspace, typed: bool) -> None:
    """An untyped column is what CREATE TABLE ... AS SELECT ST_Buffer(...) leaves behind."""
    kind = f"geometry(GeometryZM, {GRID.epsg})" if typed else "geometry"
    workspace.query(f"ALTER TABLE parcels ALTER COLUMN wkb_geometry TYPE {kind}")
    names = [name for name in WITH_Z_AND_M if not typed or name.endswith("ZM")]
    pids = {name: insert(workspace, name, WITH_Z_AND_M[name]) for name in names}
    scene = workspace.add_s2()

    outcome = workspace.run("s2")

    assert (outcome.code, outcome.errors) == (0, [])
    counts = {name: workspace.signatures(scene)[pid, "B4"][0] for name, pid in pids.items()}
    assert counts == {name: 16 if "curved" in name else 36 for name in names}


# What no register should hold, and some do

STRANGE = {
    "a polyhedral surface": f"POLYHEDRALSURFACE Z ((({at(12, 12)} 0, {at(18, 12)} 0, {at(18, 18)} 0, {at(12, 12)} 0)))",
    "a network of triangles": f"TIN Z ((({at(12, 12)} 0, {at(18, 12)} 0, {at(18, 18)} 0, {at(12, 12)} 0)))",
    "a triangle": f"TRIANGLE(({at(12, 12)}, {at(18, 12)}, {at(18, 18)}, {at(12, 12)}))",
    "not a number": f"POLYGON(({at(12, 12)}, {at(18, 12)}, NaN NaN, {at(12, 18)}, {at(12, 12)}))",
    "endless": shapely.Polygon(  # as hexadecimal WKB: WKT has no word for it
        [(LEFT + 120, TOP - 120), (LEFT + 180, TOP - 120), (float("inf"), float("inf")), (LEFT + 120, TOP - 180)]
    ).wkb_hex,
    "curves in a collection": f"GEOMETRYCOLLECTION({CIRCLE})",
}


def test_strange_geometries_stop_nothing(workspace: Workspace) -> None:
    workspace.query("ALTER TABLE parcels ALTER COLUMN wkb_geometry TYPE geometry")
    plain = insert(workspace, "plain", PLAIN.wkt)
    for name, geometry in STRANGE.items():
        insert(workspace, name, geometry)
    scene = workspace.add_s2()

    outcome = workspace.run("s2")

    assert (outcome.code, workspace.status(scene)) == (0, "extracted"), outcome.stderr
    assert workspace.signatures(scene)[plain, "B4"][0] == 36
    (log,) = workspace.log(scene)
    for band in ("B4", "B8", "SC"):
        missing = sum(log["parcels_without_row"].get(band, {}).values())
        assert log["parcels_selected"] == log["rows_written"][band] + missing


def test_latitude_beyond_the_pole_stops_nothing(postgis: Postgis, store: S3Server, tmp_path: Path) -> None:
    """It intersects the footprint but cannot be transformed: a broken geometry, counted."""
    workspace = Workspace(postgis, store, tmp_path, parcel_srid=4326)
    try:
        (sound,) = workspace.add_parcels([shapely.from_wkt(footprint(PLAIN))])
        wrong = shapely.Polygon([(15.0, 46.0), (15.01, 46.0), (15.005, 95.0)])
        (broken,) = workspace.add_parcels([wrong])
        scene = workspace.add_s2()

        outcome = workspace.run("s2")

        assert (outcome.code, workspace.status(scene)) == (0, "extracted"), outcome.stderr
        assert workspace.signatures(scene)[sound, "B4"][0] == 36
        (log,) = workspace.log(scene)
        assert log["parcels_selected"] == 2
        written = (broken, "B4") in workspace.signatures(scene)
        assert log["parcels_without_row"]["B4"] == ({} if written else {"broken_geometry": 1})
    finally:
        workspace.close()


def test_parcel_on_the_border_of_two_parts_of_the_aoi_is_taken_once(workspace: Workspace) -> None:
    for left, right in ((-500, 300), (300, 1100)):
        half = shapely.box(LEFT + left, TOP - SIDE - 100, LEFT + right, TOP + 100)
        tables.add_aoi(workspace.connection, "halves", footprint(half))
    workspace.args["name"] = "halves"
    workspace.add_parcels([cell(27, 10), cell(2, 10), cell(50, 10)])
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert len(workspace.signatures(scene)) == 9  # `signatures` fails on a second row of the same
    (log,) = workspace.log(scene)
    assert log["parcels_selected"] == 3


def test_no_parcels(workspace: Workspace) -> None:
    workspace.add_parcels([cell(500, 500)])
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert workspace.status(scene) == "no_parcels"
    (log,) = workspace.log(scene)
    assert (log["outcome"], log["parcels_selected"]) == ("no_parcels", 0)
    assert workspace.rows() == 0
    assert workspace.files() == []


def test_parcels_of_the_scene_only_by_bounding_box_are_no_parcels(workspace: Workspace) -> None:
    triangle = shapely.Polygon([(LEFT, TOP - SIDE), (LEFT + SIDE, TOP - SIDE), (LEFT, TOP)])
    workspace.add_parcels([cell(50, 4)])
    scene = workspace.add_s2(where=footprint(triangle))
    assert workspace.run("s2").code == 0
    assert workspace.status(scene) == "no_parcels"


def test_all_on_nodata_is_extracted_and_counted(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    nothing = {name: array * 0 for name, array in optical().items()}
    scene = workspace.add_s2(bands=nothing)
    assert workspace.run("s2").code == 0
    assert workspace.status(scene) == "extracted"
    (log,) = workspace.log(scene)
    assert log["parcels_without_row"] == {band: {"nodata": 3} for band in ("B4", "B8", "SC")}
    assert workspace.rows() == 0
