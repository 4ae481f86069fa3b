"""Nothing found is a result that could be a misunderstanding: then it is said, or tried again, or not final.

Cases: an area or card that no scene has, footprints across the meridian of 180 degrees, products that come later than
their row in the catalogue. (Parcels that are nowhere near are in test_start.py.)
"""

from __future__ import annotations

import signal

import geopandas
import numpy as np
import pytest
import shapely
from shapely.geometry.base import BaseGeometry

from demo import tables
from demo.products import Grid
from demo.servers import Postgis, S3Server
from tests.support.ground import Array, classes, ground, red, squares, to_epsg
from tests.support.running import NOTHING_LEFT, wait_until
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace


def warnings(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if " WARNING " in line]


# No scene for this worker


@pytest.fixture
def scenes(workspace: Workspace) -> list[Scene]:
    workspace.add_parcels(squares(3))
    return [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2, 3)]


def elsewhere(workspace: Workspace) -> None:
    """Some 40 km away, which is near the parcels, but not the scenes."""
    tables.add_aoi(workspace.connection, "elsewhere", shapely.box(15.5, 46, 15.6, 46.1).wkt)
    workspace.args["name"] = "elsewhere"


NONE_FOR_US = {
    "an area beside": (elsewhere, "0 are not of card s2, 0 not between", "3 do not meet the AOI elsewhere, 0 have"),
    "a card in capitals": (
        lambda workspace: workspace.query("UPDATE dias_catalogue SET card = 'S2'"),
        "3 are not of card s2, 0 not between",
        "0 do not meet the AOI my_aoi, 0 have",
    ),
    "another year": (
        lambda workspace: workspace.args.update({"startdate": "2019-01-01", "enddate": "2020-01-01"}),
        "0 are not of card s2, 3 not between",
        "0 do not meet the AOI my_aoi, 0 have",
    ),
    "a status in capitals": (
        lambda workspace: workspace.query("UPDATE dias_catalogue SET status = 'INGESTED'"),
        "0 are not of card s2, 0 not between",
        "0 do not meet the AOI my_aoi, 3 have",
    ),
    "no footprints": (
        lambda workspace: workspace.query("UPDATE dias_catalogue SET footprint = NULL"),
        "0 are not of card s2, 0 not between",
        "3 do not meet the AOI my_aoi, 0 have",
    ),
    "an empty catalogue": (
        lambda workspace: workspace.query("DELETE FROM dias_catalogue"),
        "none of the 0 scenes",
        "0 do not meet the AOI my_aoi",
    ),
}


@pytest.mark.parametrize("name", NONE_FOR_US)
def test_no_scene_for_this_worker(name: str, workspace: Workspace, scenes: list[Scene]) -> None:
    change, *words = NONE_FOR_US[name]
    change(workspace)
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, outcome.stdout) == (0, f"{NOTHING_LEFT}\n")
    (said,) = warnings(outcome.stderr)
    for word in words:
        assert word in said


@pytest.mark.parametrize("status", ["extracted", "failed", "no_parcels", "inprogress"])
def test_scenes_that_are_done_are_no_misunderstanding(status: str, workspace: Workspace, scenes: list[Scene]) -> None:
    workspace.query("UPDATE dias_catalogue SET status = %s", status)
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, outcome.stdout) == (0, f"{NOTHING_LEFT}\n")
    assert not [line for line in warnings(outcome.stderr) if "none of" in line]


# Across 180 degrees

ZONE = 32760
"""UTM zone 60 south, whose eastern edge is the meridian of 180 degrees."""
ROWS, COLUMNS = 7, 15
MIDDLE_X, MIDDLE_Y = to_epsg(shapely.Point(180, -17), 4326, ZONE).coords[0]
WIDTH = 8 * COLUMNS + 4
PACIFIC = Grid(epsg=ZONE, left=round(MIDDLE_X, -1) - 5 * WIDTH, top=round(MIDDLE_Y, -1) + 300, pixel=10.0)
SHAPE = (60, WIDTH)


def unwrapped(geometry: BaseGeometry, beyond: float) -> BaseGeometry:
    """In degrees, as a connected shape: beyond -180 or beyond 180."""

    def turned(points: Array) -> Array:
        x = points[:, 0]
        x = np.where((x < 0) == (beyond > 0), x + np.copysign(360, beyond), x)
        return np.column_stack([x, points[:, 1]])

    return shapely.transform(to_epsg(geometry, ZONE, 4326), turned)


def both_sides(geometry: BaseGeometry) -> BaseGeometry:
    """In degrees, cut at 180 degrees."""
    east = unwrapped(geometry, 1).intersection(shapely.box(179, -90, 180, 90))
    west = unwrapped(geometry, -1).intersection(shapely.box(-180, -90, -179, 90))
    return shapely.union_all([east, west])


OUTLINE = ground(50, grid=PACIFIC, shape=SHAPE)
FOOTPRINTS = {
    "from 179.99 to -179.99": to_epsg(OUTLINE, ZONE, 4326).wkt,
    "beyond -180": unwrapped(OUTLINE, -1).wkt,
    "beyond 180": unwrapped(OUTLINE, 1).wkt,
    "cut": both_sides(OUTLINE).wkt,
}
AROUND = ground(3000, grid=PACIFIC, shape=SHAPE)
AREAS = {
    "cut": (both_sides(AROUND).wkt, 4326),
    "beyond -180": (unwrapped(AROUND, -1).wkt, 4326),
    "projected": (AROUND.wkt, ZONE),
    "the whole Earth": (shapely.box(-180, -90, 180, 90).wkt, 4326),
}


def pacific_parcels() -> list[BaseGeometry]:
    """105 of them, of which some lie across the meridian."""
    shapes: list[BaseGeometry] = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            left, top = PACIFIC.left + 20 + 80 * column, PACIFIC.top - 20 - 80 * row
            shapes.append(shapely.box(left + 2, top - 58, left + 58, top - 2))
    return shapes


ACROSS = [(srid, outline, "cut") for srid in (ZONE, 32701, 4326) for outline in FOOTPRINTS]
ACROSS += [(srid, "from 179.99 to -179.99", area) for srid in (ZONE, 4326) for area in AREAS if area != "cut"]


@pytest.mark.parametrize(("srid", "outline", "area"), ACROSS)
def test_a_tile_across_180_degrees(
    srid: int, outline: str, area: str, postgis: Postgis, store: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All 105 parcels are there, in the zones on both sides; in degrees all but those that are cut."""
    workspace = Workspace(postgis, store, tmp_path_factory.mktemp("pacific"), parcel_srid=srid)
    try:
        wkt, area_srid = AREAS[area]
        workspace.query("ALTER TABLE dias_catalogue ALTER footprint TYPE geometry(Geometry, 4326)")
        workspace.query("CREATE TABLE areas (name text, wkb_geometry geometry)")
        tables.add_aoi(workspace.connection, "pacific", wkt, table="areas", srid=area_srid)
        workspace.tables["aoi_table"], workspace.args["name"] = "areas", "pacific"
        shapes = pacific_parcels()
        assert len(shapes) == ROWS * COLUMNS
        in_table: geopandas.GeoSeries = geopandas.GeoSeries(shapes, crs=ZONE).to_crs(srid)
        if srid == 4326:
            whole = [shape.bounds[2] - shape.bounds[0] < 1 for shape in in_table]
            shapes = [shape for shape, keep in zip(shapes, whole, strict=True) if keep]
            in_table = in_table[whole]
            assert len(shapes) >= ROWS * (COLUMNS - 1)
        pids = workspace.add_parcels(list(in_table))
        bands = {"B04": red(1, SHAPE), "B08": red(2, SHAPE), "SCL": classes(1, (30, WIDTH // 2))}
        scene = workspace.add_s2(bands=bands, grid=PACIFIC, where=FOOTPRINTS[outline])
        outcome = workspace.run("s2", "--all")
        assert (outcome.code, outcome.errors) == (0, [])
        assert workspace.log(scene)[0]["parcels_selected"] == len(shapes)
        assert_same(workspace.signatures(scene), scene.expected(dict(zip(pids, shapes, strict=True))))
    finally:
        workspace.close()


# Products that come later than their row


def take_away(workspace: Workspace, scene: Scene) -> dict[str, bytes]:
    """Its objects are gone; key -> content."""
    workspace.write_others()
    contents = {key: workspace.read(key) for key in scene.keys.values()}
    for key in contents:
        workspace.remove(key)
    return contents


@pytest.mark.parametrize("part", ["all of it", "a band"])
def test_a_product_that_comes_while_a_worker_watches(part: str, workspace: Workspace) -> None:
    workspace.extraction["retry_pause_seconds"] = 0
    parcels = workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    contents = take_away(workspace, scene)
    if part == "a band":
        missing = scene.keys["SCL"]
        for key in contents.keys() - {missing}:
            workspace.write(key, contents[key])
    worker = workspace.start("s2", "--watch", "0.3")
    wait_until(lambda: len(workspace.log(scene)) > 2, "the third look for the product")
    assert workspace.status(scene) in {"ingested", "inprogress"}
    for key, content in contents.items():
        workspace.write(key, content)
    wait_until(lambda: workspace.status(scene) == "extracted", "the scene")
    worker.send(signal.SIGTERM)
    outcome = worker.wait()
    assert (outcome.code, outcome.errors) == (143, [])
    *before, last = workspace.log(scene)
    assert {attempt["outcome"] for attempt in before} == {"absent"}
    assert (last["outcome"], last["attempt"]) == ("extracted", 1)  # none of these counts
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_a_burst_does_not_wait_for_products(workspace: Workspace) -> None:
    workspace.extraction["absent_retry_hours"] = 1
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    contents = take_away(workspace, scene)
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, outcome.errors, len(warnings(outcome.stderr))) == (0, [], 1)
    assert (workspace.status(scene), [attempt["outcome"] for attempt in workspace.log(scene)]) == (
        "ingested",
        ["absent"],
    )
    # Later it is there; then the scene is asked for by name, which does not wait either.
    for key, content in contents.items():
        workspace.write(key, content)
    assert workspace.run("s2", "--scene", scene.reference).code == 0
    assert workspace.status(scene) == "extracted"


def test_a_product_that_does_not_come(workspace: Workspace) -> None:
    """The time runs from the first attempt on, whatever kind that was."""
    workspace.extraction["absent_retry_hours"] = 1
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    take_away(workspace, scene)
    assert workspace.run("s2").code == 0
    workspace.query("UPDATE extraction_log SET retry_after = NULL, started_at = started_at - interval '59 min'")
    assert workspace.run("s2").code == 0
    workspace.query("UPDATE extraction_log SET retry_after = NULL, started_at = started_at - interval '2 min'")
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert workspace.status(scene) == "notfound"
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["absent", "absent", "notfound"]
    # Somebody sets it back: it begins anew.
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    assert workspace.log(scene)[-1]["outcome"] == "absent"


def test_without_patience_it_is_final(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    take_away(workspace, scene)
    assert workspace.run("s2", "--all").code == 1
    assert (workspace.status(scene), [attempt["outcome"] for attempt in workspace.log(scene)]) == (
        "notfound",
        ["notfound"],
    )
