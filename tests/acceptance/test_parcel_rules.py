"""Parcel rules, through the real command: inward buffers, least areas and least numbers of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shapely
from shapely.geometry.base import BaseGeometry

from demo.servers import Postgis, S3Server
from extractors.config import ENGINE_NAMES
from tests.support.accounts import assert_written
from tests.support.ground import GRID, cell, optical, squares, to_epsg
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace

TABLES = {"clear_results_table": "clear_signatures", "hists_table": "hists", "gaps_table": "gaps"}


@pytest.fixture
def workspace(workspace: Workspace) -> Iterator[Workspace]:
    workspace.tables.update(TABLES)
    yield workspace


def extracted(workspace: Workspace, scene: Scene, **settings: Any) -> dict[str, dict[str, int]]:
    """Reasons by band, after the accounts of all tables were looked at."""
    workspace.extraction.update(settings)
    outcome = workspace.run(scene.card)
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    assert_written(workspace, workspace.tables)
    log = workspace.log(scene)[-1]
    for name, value in settings.items():
        assert log["settings"][name] == value
    reasons: dict[str, dict[str, int]] = log["parcels_without_row"]
    return reasons


def shrunk(parcels: Mapping[int, BaseGeometry], metres: float) -> dict[int, BaseGeometry]:
    made = {pid: shapely.buffer(shape, -metres, quad_segs=8) for pid, shape in parcels.items()}
    return {pid: shape for pid, shape in made.items() if not shape.is_empty}


def bow_tie(column: float, row: float, side: float = 12) -> shapely.Polygon:
    west, south, east, north = cell(column, row, side, side).bounds
    return shapely.Polygon([(west, south), (east, north), (east, south), (west, north)])


ODD = [
    bow_tie(2, 30),
    shapely.MultiPolygon([cell(20, 30, 8, 8), cell(30, 30, 2, 2)]),
    # Falls into two parts.
    shapely.union_all([cell(40, 30, 8, 8), cell(40, 40, 8, 8), cell(43, 35, 2, 8)]),
    shapely.LineString([(GRID.left + 50, GRID.top - 50), (GRID.left + 90, GRID.top - 90)]),
    cell(20, 50, 2, 2),
]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_inward_buffer(engine: str, workspace: Workspace) -> None:
    parcels = workspace.add_parcels([*squares(9), *ODD])
    scene = workspace.add_s2()
    reasons = extracted(workspace, scene, inward_buffer_m=12.0, engine=engine)
    usable = {pid: shape for pid, shape in parcels.items() if shape.geom_type != "LineString"}
    tie = next(pid for pid, shape in usable.items() if not shape.is_valid)
    inside = shrunk(usable | {tie: shapely.make_valid(usable[tie])}, 12)
    assert len(inside) == len(usable) - 1
    wanted = scene.expected(inside)
    assert_same(workspace.signatures(scene), wanted)
    assert wanted.keys() < scene.expected(usable).keys()
    assert reasons["B4"] == {"not_polygon": 1, "inward_buffer": 1}
    # Both wings of the bow-tie are there.
    assert shapely.get_num_geometries(inside[tie]) == 2
    assert wanted[tie, "B4"][0] == 24
    assert {pid for (pid,) in workspace.query("SELECT pid FROM hists")} == {pid for pid, band in wanted if band == "SC"}
    assert ("inward_buffer", "B4,B8,SC") in workspace.query("SELECT reason, bands FROM gaps")


def test_least_area(workspace: Workspace) -> None:
    """True areas: cells are drawn in by 2 m on each side; the CRS is short by 0.08 % of area here."""
    parcels = workspace.add_parcels([cell(2 + 8 * n, 2, 1 + n, 1 + n) for n in range(5)])
    pids = list(parcels)
    scene = workspace.add_s2()
    wings = next(iter(workspace.add_parcels([bow_tie(2, 30)])))
    assert parcels[pids[2]].area == 26**2
    reasons = extracted(workspace, scene, min_area_m2=26**2 * 1.0007)
    assert all(without["min_area"] == 2 for without in reasons.values())
    assert reasons["B4"] == {"min_area": 2}
    rows = {pid for pid, _ in workspace.signatures(scene)}
    assert rows == {*pids[2:], wings}
    assert_same(
        {key: row for key, row in workspace.signatures(scene).items() if key[0] != wings},
        {key: row for key, row in scene.expected(parcels).items() if key[0] in pids[2:]},
    )
    workspace.ingest(scene)
    workspace.extraction["min_area_m2"] = 26**2 * 1.0009
    assert workspace.run("s2", "--accept-mixed").code == 0
    assert {pid for pid, _ in workspace.signatures(scene)} == {*pids[3:], wings}
    assert workspace.query("SELECT DISTINCT reason, bands FROM gaps") == [("min_area", "B4,B8,SC")]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_least_pixels(engine: str, workspace: Workspace) -> None:
    """Each band by its own count, and clear pixels by theirs; histograms go with SCL's rows."""
    bands = optical()
    bands["SCL"][:] = 4
    bands["SCL"][1:3, 1:4] = 8  # two rows of the first parcel
    bands["B04"][2:7, 10:16] = 0  # all but one row of the second
    parcels = workspace.add_parcels([*squares(3), cell(50, 2, 3, 3), cell(40, 40, 0.3, 0.3, inset=0)])
    pids = list(parcels)
    scene = workspace.add_s2(bands=bands)
    reasons = extracted(workspace, scene, min_pixels=9, engine=engine)
    assert reasons["B4"] == {"min_pixels": 1, "no_pixel": 1}
    assert reasons["B8"] == {"no_pixel": 1}
    assert reasons["SC"] == {"min_pixels": 1, "no_pixel": 1}
    wanted = {key: row for key, row in scene.expected(parcels).items() if row[0] >= 9}
    assert_same(workspace.signatures(scene), wanted)
    assert (pids[1], "B4") not in wanted
    assert (pids[3], "B4") in wanted
    assert sorted(pid for (pid,) in workspace.query("SELECT pid FROM hists")) == pids[:3]
    clear = dict(workspace.query("SELECT pid, count FROM clear_signatures WHERE band = 'B8'"))
    assert clear == {pids[0]: 12, pids[1]: 36, pids[2]: 36, pids[3]: 9}
    assert workspace.query("SELECT bands FROM gaps WHERE reason = 'min_pixels' ORDER BY pid") == [("B4",), ("SC",)]


BEYOND_THE_POLE = shapely.Polygon([(15.0, 46.0), (15.01, 46.0), (15.005, 95.0)])


@pytest.mark.parametrize("broken", [False, True], ids=["plain selection", "parcel by parcel"])
def test_parcels_in_degrees(broken: bool, postgis: Postgis, store: S3Server, tmp_path: Path) -> None:
    """Their areas are true all the same, and buffers are of metres in the scene's CRS; whichever way they are selected,
    with parcels that keep reasons of their own."""
    workspace = Workspace(postgis, store, tmp_path, parcel_srid=4326)
    try:
        workspace.tables.update(TABLES)
        plane = [*squares(9), cell(20, 50, 2, 2), cell(30, 50, 3, 3), cell(40, 50, 5, 5)]
        shapes = [to_epsg(shape, GRID.epsg, 4326) for shape in plane]
        pids = list(workspace.add_parcels([*shapes, shapely.Point(15.002, 46.049), *[BEYOND_THE_POLE] * broken]))
        scene = workspace.add_s2()
        reasons = extracted(workspace, scene, inward_buffer_m=7.5, min_area_m2=16**2 * 1.01, min_pixels=10)
        wanted = {"min_area": 1, "min_pixels": 2, "not_polygon": 1, **({"broken_geometry": 1} if broken else {})}
        assert reasons["B4"] == wanted
        assert ("selecting again, parcel by parcel" in (workspace.folder / "output0" / "stderr").read_text()) == broken
        inside = {pid: shapely.buffer(shape, -7.5) for pid, shape in zip(pids, plane[:9], strict=False)}
        found = {key: row for key, row in scene.expected(inside).items() if row[0] >= 10}
        assert_same(workspace.signatures(scene), found)
        assert {pid for pid, _ in found} == set(pids[:9])
    finally:
        workspace.close()


def test_a_scene_in_degrees(workspace: Workspace) -> None:
    """Its pixels are 0.0001 degrees: 7.7 m by 11.1 m. Buffers are of metres there as well."""
    del workspace.tables["clear_results_table"]  # which this CARD has not
    left, top = 15.0001, 46.0495
    grid = replace(GRID, epsg=4326, left=left, top=top, pixel=0.0001)
    scene = workspace.add_c6(grid=grid)
    west, south, east, north = left - 0.001, top - 0.007, left + 0.007, top + 0.001
    envelope = "UPDATE dias_catalogue SET footprint = ST_MakeEnvelope(%s, %s, %s, %s, 4326)"
    workspace.query(envelope, west, south, east, north)
    plain = shapely.box(left + 0.001, top - 0.003, left + 0.003, top - 0.001)
    (pid,) = workspace.add_parcels([to_epsg(plain, 4326, GRID.epsg)])
    extracted(workspace, scene, inward_buffer_m=25)
    # Of 20 by 20 pixels, 25 m take 3.2 at either side and 2.2 above and below; their centres are half a pixel in.
    assert workspace.signatures(scene)[pid, "VV"][0] == (20 - 2 * 3) * (20 - 2 * 2)


def test_rules_are_refused_where_they_make_no_sense(workspace: Workspace) -> None:
    workspace.add_s2()
    for name, value in (("inward_buffer_m", -1), ("min_area_m2", -0.5), ("min_pixels", 1.5), ("min_pixels", -1)):
        workspace.extraction[name] = value
        outcome = workspace.run()
        assert outcome.code == 2
        assert f"extraction.{name}: {value} cannot be used" in outcome.errors[0]
        del workspace.extraction[name]
