"""Selecting parcels: which ones, in which order and CRS, and what the database is left with meanwhile.

The ground lies on the central meridian of UTM zone 33: (500000, 5100000) in EPSG:32633 is 15 degrees east, 46.05 north.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from extractors.database.connection import Database
from extractors.database.copy import parcel_chunk
from extractors.database.parcels import Parcels, Selection
from extractors.database.tables import TableReader
from extractors.errors import ConfigurationError, DatabaseUnavailableError, ParcelsChangedError, SceneError
from extractors.model import ParcelChunk, Redo, Scene
from tests.integration.conftest import MORNING, Ground, Worker

UTM = 32633
X, Y = 500_000, 5_100_000


def square(column: float = 0, row: float = 0, side: float = 80) -> shapely.Polygon:
    """A square parcel in a grid of 100 m."""
    return shapely.box(X + 100 * column, Y + 100 * row, X + 100 * column + side, Y + 100 * row + side)


def scene_of(number: int) -> Scene:
    return Scene(number, "S2A_x", MORNING, 1)


class Asked:
    """What the tests ask: select for one scene, by one worker."""

    def __init__(self, worker: Worker, scene: int) -> None:
        self.worker, self.scene = worker, scene_of(scene)
        self.parcels = Parcels(worker.database, worker.tables, "nl")

    @contextmanager
    def select(self, epsg: int = UTM, chunk_size: int = 2000) -> Iterator[Selection]:
        with (
            tempfile.TemporaryDirectory() as folder,
            self.parcels.select(self.scene, epsg, chunk_size, Path(folder)) as selection,
        ):
            yield selection

    def chunks(self, epsg: int = UTM, chunk_size: int = 2000) -> list[ParcelChunk]:
        with self.select(epsg, chunk_size) as selection:
            chunks = [parcel_chunk(block, epsg) for block in selection.blocks]
        assert sum(map(len, chunks)) == selection.total
        assert self.worker.idle
        return chunks

    def pids(self, chunk_size: int = 2000) -> list[int]:
        return [int(pid) for chunk in self.chunks(chunk_size=chunk_size) for pid in chunk.parcels["pid"]]

    def unusable(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for chunk in self.chunks():
            for reason, number in numbers(chunk).items():
                total[reason] = total.get(reason, 0) + number
        return total

    def any(self) -> bool:
        found = self.parcels.meet(self.scene)
        assert self.worker.idle
        return found


def parcels(ground: Ground, footprint: BaseGeometry | str | None = None) -> Asked:
    """Over a parcel table that exists, with one scene (over the whole AOI and more, unless told)."""
    scene = ground.add_scene(footprint=footprint or shapely.box(13, 44, 17, 48))
    return Asked(ground.worker(), scene)


def numbers(chunk: ParcelChunk) -> dict[str, int]:
    """How many parcels cannot be used, by reason."""
    return {reason: len(pids) for reason, pids in chunk.unusable.items()}


def geographic(geometry: BaseGeometry, srid: int = UTM) -> BaseGeometry:
    """In EPSG:4326."""
    result: BaseGeometry = geopandas.GeoSeries([geometry], crs=srid).to_crs(4326).iloc[0]
    return result


# Which ones


def test_parcels_that_meet_footprint_and_aoi(bare_ground: Ground) -> None:
    bare_ground.create_parcels(UTM)
    aoi, footprint = square(0, 0, 1000), square(5, 5, 1000)
    bare_ground.add_aoi(geographic(aoi))
    in_both, _, _, touching, _ = bare_ground.add_parcels(
        [square(7, 7), square(1, 1), square(12, 12), square(9.5, 7), square(30, 30)], UTM
    )
    assert sorted(parcels(bare_ground, footprint=geographic(footprint)).pids()) == [in_both, touching]


def test_a_parcel_with_more_vertices_than_fit_into_memory(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not even leave the database; it is counted, and others are not touched."""
    monkeypatch.setattr("extractors.database.parcels.MOST_VERTICES", 20)
    ground.create_parcels(UTM)
    good, *_ = ground.add_parcels([square(1, 1), shapely.Point(X + 300, Y + 300).buffer(50, quad_segs=6)], UTM)
    asked = parcels(ground)
    assert asked.pids() == [good]
    assert asked.unusable() == {"too_large": 1}


def test_chunks_of_many_vertices_have_fewer_parcels(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.database.spool.BYTES_PER_BLOCK", 2_000)
    ground.create_parcels(UTM)
    ground.add_parcels([square(1, n) for n in range(10)], UTM)
    ground.add_parcels([shapely.Point(X + 300, Y + 300).buffer(50, quad_segs=20)] * 3, UTM)
    sizes = [len(chunk) for chunk in parcels(ground).chunks()]
    assert sum(sizes) == 13
    assert max(sizes) == 10 or len(sizes) > 3
    assert len(sizes) >= 3


TRIANGLE = shapely.Polygon([(X, Y), (X + 1000, Y), (X, Y + 1000)])
UPPER_RIGHT, LOWER_LEFT = square(9, 9), square(1, 1)


def test_the_aoi_itself_is_met_not_only_its_bounding_box(bare_ground: Ground) -> None:
    bare_ground.create_parcels(UTM)
    bare_ground.add_aoi(geographic(TRIANGLE))
    _, wanted = bare_ground.add_parcels([UPPER_RIGHT, LOWER_LEFT], UTM)
    assert parcels(bare_ground).pids() == [wanted]


def test_the_footprint_itself_is_met_not_only_its_bounding_box(ground: Ground) -> None:
    ground.create_parcels(UTM)
    _, wanted = ground.add_parcels([UPPER_RIGHT, LOWER_LEFT], UTM)
    assert parcels(ground, footprint=geographic(TRIANGLE)).pids() == [wanted]


def test_the_parcel_itself_is_met_not_only_its_bounding_box(ground: Ground) -> None:
    ground.create_parcels(UTM)
    around = shapely.Polygon([(X, Y), (X + 900, Y), (X + 900, Y + 900), (X + 880, Y + 20), (X, Y + 20)])
    ground.add_parcels([around], UTM)
    asked = parcels(ground, footprint=geographic(square(2, 3, 300)))
    assert asked.pids() == []
    assert not asked.any()


@pytest.mark.parametrize("shape", ["point", "line"])
def test_a_point_or_line_in_the_bounding_box_only_is_not_selected(shape: str, bare_ground: Ground) -> None:
    bare_ground.create_parcels(UTM)
    bare_ground.add_aoi(geographic(TRIANGLE))
    x, y = X + 900, Y + 900
    bare_ground.add_parcels(
        [shapely.Point(x, y) if shape == "point" else shapely.LineString([(x, y), (x, y + 9)])], UTM
    )
    asked = parcels(bare_ground)
    assert asked.unusable() == {}
    assert not asked.any()


def test_an_aoi_of_several_rows_selects_a_parcel_once(bare_ground: Ground) -> None:
    bare_ground.create_parcels(UTM)
    # Two that overlap, one apart, and one of another name.
    for west in (0, 5, 30):
        bare_ground.add_aoi(geographic(square(west, 0, 1000)))
    bare_ground.add_aoi(geographic(square(20, 0, 400)), name="other")
    pids = bare_ground.add_parcels([square(column, 3) for column in (1, 7, 12, 21, 27, 33)], UTM)
    assert sorted(parcels(bare_ground).pids()) == [pids[0], pids[1], pids[2], pids[5]]


def test_invalid_aoi_and_footprint(bare_ground: Ground) -> None:
    # Bow-ties whose wings lie west and east; what is above and below the middle belongs to neither.
    bow_tie = shapely.Polygon([(X, Y), (X + 1000, Y + 1000), (X + 1000, Y), (X, Y + 1000)])
    bare_ground.create_parcels(UTM)
    bare_ground.add_aoi(geographic(bow_tie))
    west, east, _, _ = bare_ground.add_parcels([square(0, 4.5), square(9, 4.5), square(4.5, 9), square(4.5, 0)], UTM)
    assert sorted(parcels(bare_ground, footprint=geographic(bow_tie)).pids()) == [west, east]


def test_a_long_edge_is_a_curve_in_another_reference_system(bare_ground: Ground) -> None:
    # The AOI's upper edge follows the parallel of 46 degrees north. Between its ends, 10 degrees west and east, the
    # straight line in EPSG:32633 runs about 36 km further north at 15 degrees east: there lies the second parcel.
    bare_ground.create_parcels(UTM)
    bare_ground.add_aoi(shapely.box(5, 40, 25, 46))
    inside, outside = (
        geopandas.GeoSeries([shapely.box(15, south, 15.001, south + 0.001)], crs=4326).to_crs(UTM).iloc[0]
        for south in (45.95, 46.1)
    )
    wanted, other = bare_ground.add_parcels([inside, outside], UTM)
    assert parcels(bare_ground, footprint=shapely.box(5, 40, 25, 50)).pids() == [wanted]
    # And the same for the footprint's edge.
    bare_ground.query("DELETE FROM aois")
    bare_ground.add_aoi(shapely.box(5, 40, 25, 50))
    assert parcels(bare_ground, footprint=shapely.box(5, 40, 25, 46)).pids() == [wanted]
    assert sorted(parcels(bare_ground, footprint=shapely.box(5, 40, 25, 50)).pids()) == [wanted, other]


def test_an_aoi_far_beyond_the_scene(bare_ground: Ground) -> None:
    # Of the whole Earth not everything can be transformed to the parcels' reference system.
    bare_ground.create_parcels(UTM)
    bare_ground.add_aoi(shapely.box(-180, -90, 180, 90))
    wanted, _ = bare_ground.add_parcels([square(), square(5000)], UTM)
    asked = parcels(bare_ground)
    assert asked.any()
    assert asked.pids() == [wanted]


@pytest.mark.parametrize("srid", [UTM, 4326, 3035, 3857])
def test_parcels_in_any_reference_system(srid: int, bare_ground: Ground) -> None:
    bare_ground.create_parcels(srid)
    bare_ground.add_aoi(geographic(square(0, 0, 1000)))
    shapes: Any = geopandas.GeoSeries([square(1, 1), square(12, 1), square(5, 5)], crs=UTM).to_crs(srid)
    first, _, third = bare_ground.add_parcels(list(shapes), srid)
    (chunk,) = parcels(bare_ground).chunks()
    found = {int(pid): shape for pid, shape in zip(chunk.parcels["pid"], chunk.parcels.geometry, strict=True)}
    assert found.keys() == {first, third}
    assert chunk.parcels.crs.to_epsg() == UTM
    # To the millimetre, as PROJ transforms them.
    assert shapely.hausdorff_distance(found[first], square(1, 1)) < 0.001
    assert shapely.hausdorff_distance(found[third], square(5, 5)) < 0.001


def test_parcels_come_in_the_reference_system_of_the_files(ground: Ground) -> None:
    ground.create_parcels(UTM)
    ground.add_parcels([square()], UTM)
    (chunk,) = parcels(ground).chunks(epsg=32634)
    expected = geopandas.GeoSeries([square()], crs=UTM).to_crs(32634).iloc[0]
    assert chunk.parcels.crs.to_epsg() == 32634
    assert shapely.hausdorff_distance(chunk.parcels.geometry.iloc[0], expected) < 0.001


def test_a_table_whose_type_says_no_srid(ground: Ground) -> None:
    ground.query("CREATE TABLE parcels (ogc_fid serial, wkb_geometry geometry)")
    (wanted,) = ground.add_parcels([square()], UTM)
    assert parcels(ground).pids() == [wanted]


@pytest.mark.parametrize("type_", ["geometry", "geometry(Geometry, 32633)"])
def test_an_empty_table(type_: str, ground: Ground) -> None:
    """Nothing is to be said of a scene then: the table may be about to be filled."""
    ground.query(f"CREATE TABLE parcels (ogc_fid serial, wkb_geometry {type_})")
    asked = parcels(ground)
    assert asked.worker.queue.claim() is None
    assert asked.worker.queue.pending(10).without_parcels
    for ask in (asked.any, asked.chunks):
        with pytest.raises(ParcelsChangedError, match=r"public\.parcels holds no parcels"):
            ask()
        assert asked.worker.idle
    ground.query("INSERT INTO parcels (wkb_geometry) VALUES (NULL)")
    assert asked.worker.queue.claim() is None
    ground.add_parcels([square(5000, 0)], UTM)
    assert not asked.any()
    assert asked.worker.queue.look()


def test_a_table_that_is_filled_anew_in_another_reference_system(ground: Ground) -> None:
    """While a worker lives: nothing of the table is believed for longer than a scene."""
    ground.query("CREATE TABLE parcels (ogc_fid serial, wkb_geometry geometry)")
    ground.add_parcels([square()], UTM)
    asked = parcels(ground)
    assert len(asked.pids()) == 1
    ground.query("TRUNCATE parcels")
    again = ground.add_parcels([geographic(square()), geographic(square(3, 3))], 4326)
    assert sorted(asked.pids()) == again


def test_no_parcels(ground: Ground) -> None:
    ground.create_parcels(UTM)
    asked = parcels(ground)
    ground.add_parcels([square(5000, 0)], UTM)
    assert asked.chunks() == []
    assert not asked.any()
    ground.add_parcels([square()], UTM)
    assert asked.any()


def test_parcels_without_geometry_are_counted_and_never_selected(ground: Ground) -> None:
    ground.create_parcels(UTM)
    empty = [shapely.Polygon(), shapely.MultiPolygon(), shapely.GeometryCollection(), shapely.Point()]
    ground.add_parcels([square(), None, None, *empty], UTM)
    asked = parcels(ground)
    assert asked.parcels.without_geometry() == (2, 4)
    # Counted once.
    ground.add_parcels([None], UTM)
    assert asked.parcels.without_geometry() == (2, 4)
    assert len(asked.pids()) == 1
    assert asked.unusable() == {}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ("SELECT", "there is no table parcels in the database; create it or write the name of the right one"),
        (
            "CREATE TABLE parcels (id int, wkb_geometry geometry(Polygon, 32633))",
            "table public.parcels has no column ogc_fid (unique number of the parcel; tables.parcel_id names another "
            "column); add it or write the name of the right table",
        ),
        (
            "CREATE TABLE parcels (ogc_fid text, wkb_geometry geometry(Polygon, 32633))",
            "column ogc_fid of public.parcels has the type text; it must be an integer",
        ),
        (
            "CREATE TABLE parcels (ogc_fid int, geom geometry(Polygon, 32633))",
            "table public.parcels has no column wkb_geometry (its boundary; tables.parcel_geometry names another "
            "column); add it or write the name of the right table",
        ),
        (
            "CREATE TABLE parcels AS SELECT 1 ogc_fid, 'POINT(0 0)'::geometry wkb_geometry",
            "the geometries of public.parcels have no SRID, so nobody knows where they are; set it with SELECT "
            "UpdateGeometrySRID('public', 'parcels', 'wkb_geometry', <EPSG code>)",
        ),
    ],
    ids=["absent", "no id", "text as id", "no geometry", "no SRID"],
)
def test_parcel_tables_that_cannot_be_used(prepare: str, message: str, ground: Ground, database: Database) -> None:
    ground.query(prepare)
    with pytest.raises(ConfigurationError) as caught:
        TableReader(database, ground.settings, "db_config.json", ["B4"], True).all()
    assert str(caught.value) == f"db_config.json: database.tables.parcel_table: {message}"


@pytest.mark.parametrize(("kind", "expected"), [("int", "int4"), ("bigint", "int8"), ("smallint", "int2")])
def test_the_type_of_the_ids(kind: str, expected: str, ground: Ground, database: Database) -> None:
    ground.query(f"CREATE TABLE parcels (ogc_fid {kind}, wkb_geometry geometry(Polygon, 32633))")
    tables = ground.read(database)
    assert (tables.parcel_srid, tables.pid_type) == (None, expected)
    ground.query("INSERT INTO parcels VALUES (1, ST_GeomFromText(%s, 32633))", square().wkt)
    assert ground.read(database).parcel_srid == UTM


# What becomes of their shapes

CIRCLE = f"CURVEPOLYGON(CIRCULARSTRING({X} {Y + 50}, {X + 100} {Y + 50}, {X} {Y + 50}))"
SQUARE = square().wkt


@pytest.mark.parametrize(
    ("wkt", "kind", "area"),
    [
        (SQUARE, "Polygon", 6400),
        (f"MULTIPOLYGON((({SQUARE[10:-2]})))", "MultiPolygon", 6400),
        (CIRCLE, "Polygon", np.pi * 2500),
        (f"MULTISURFACE({CIRCLE})", "MultiPolygon", np.pi * 2500),
        (f"MULTISURFACE({SQUARE})", "MultiPolygon", 6400),
        (f"GEOMETRYCOLLECTION({SQUARE}, POINT({X} {Y}), LINESTRING({X} {Y}, {X} {Y + 50}))", "MultiPolygon", 6400),
        (f"GEOMETRYCOLLECTION({CIRCLE})", "MultiPolygon", np.pi * 2500),
    ],
    ids=["polygon", "multipolygon", "circle", "circles", "surface", "collection", "collection of circles"],
)
def test_surfaces_become_polygons(wkt: str, kind: str, area: float, ground: Ground) -> None:
    ground.query("CREATE TABLE parcels (ogc_fid serial, wkb_geometry geometry(Geometry, 32633))")
    ground.query("INSERT INTO parcels (wkb_geometry) VALUES (ST_GeomFromText(%s, 32633))", wkt)
    (chunk,) = parcels(ground).chunks()
    (shape,) = chunk.parcels.geometry
    assert (shape.geom_type, numbers(chunk)) == (kind, {})
    assert shape.area == pytest.approx(area, rel=0.001)


@pytest.mark.parametrize("dimensions", ["Z", "M", "ZM"])
def test_further_dimensions_are_dropped(dimensions: str, ground: Ground) -> None:
    ground.create_parcels(UTM, dimensions)
    values = {"Z": " 7", "M": " 7", "ZM": " 7 7"}[dimensions]
    ring = ", ".join(f"{x} {y}{values}" for x, y in square().exterior.coords)
    ground.query(f"INSERT INTO parcels (wkb_geometry) VALUES ('SRID=32633;POLYGON {dimensions} (({ring}))')")
    (chunk,) = parcels(ground).chunks()
    (shape,) = chunk.parcels.geometry
    assert not shape.has_z
    assert shape.equals(square())


@pytest.mark.parametrize(
    "wkt",
    [
        f"POINT({X} {Y})",
        f"MULTIPOINT({X} {Y}, {X + 5} {Y})",
        f"LINESTRING({X} {Y}, {X + 50} {Y})",
        f"MULTILINESTRING(({X} {Y}, {X + 50} {Y}))",
        f"CIRCULARSTRING({X} {Y}, {X + 50} {Y + 50}, {X + 100} {Y})",
        f"GEOMETRYCOLLECTION(POINT({X} {Y}), LINESTRING({X} {Y}, {X + 50} {Y}))",
        f"TIN((({X} {Y}, {X + 50} {Y}, {X} {Y + 50}, {X} {Y})))",
    ],
    ids=lambda wkt: wkt.split("(")[0],
)
def test_other_shapes_are_counted_as_not_polygon(wkt: str, ground: Ground) -> None:
    ground.query("CREATE TABLE parcels (ogc_fid serial, wkb_geometry geometry(Geometry, 32633))")
    ground.query("INSERT INTO parcels (wkb_geometry) VALUES (ST_GeomFromText(%s, 32633))", wkt)
    assert parcels(ground).unusable() == {"not_polygon": 1}


# Order, chunks, total


def grid(ground: Ground, side: int) -> list[int]:
    """side x side squares, stored in a shuffled order."""
    shapes: list[BaseGeometry | None] = [square(column, row) for column in range(side) for row in range(side)]
    random.Random(1).shuffle(shapes)
    return ground.add_parcels(shapes, UTM)


def test_the_order_is_that_of_postgis(ground: Ground) -> None:
    ground.create_parcels(UTM)
    grid(ground, 12)
    expected = [pid for (pid,) in ground.query("SELECT ogc_fid FROM parcels ORDER BY wkb_geometry")]
    asked = parcels(ground)
    assert expected != sorted(expected)
    assert asked.pids() == expected
    assert asked.pids(chunk_size=10) == expected


def test_a_chunk_holds_neighbours(ground: Ground) -> None:
    # 256 squares, 16 to the chunk: at best 4 x 4 of them. In the order of the table, each chunk would span nearly all.
    ground.create_parcels(UTM)
    grid(ground, 16)
    areas = [
        float(shapely.area(shapely.box(*chunk.parcels.total_bounds))) for chunk in parcels(ground).chunks(chunk_size=16)
    ]
    assert len(areas) == 16
    assert sum(areas) / 16 < 3 * 400**2


def test_chunk_sizes_and_total(ground: Ground) -> None:
    ground.create_parcels(UTM)
    pids = ground.add_parcels([square(column) for column in range(10)], UTM)
    asked = parcels(ground)
    for size, expected in ((4, [4, 4, 2]), (5, [5, 5]), (1, [1] * 10), (10, [10]), (2000, [10])):
        with asked.select(chunk_size=size) as selection:
            assert selection.total == 10
            chunks = [parcel_chunk(block, UTM) for block in selection.blocks]
        assert [len(chunk) for chunk in chunks] == expected
        assert sorted(int(pid) for chunk in chunks for pid in chunk.parcels["pid"]) == pids


def test_a_chunk_counts_what_it_cannot_use(ground: Ground) -> None:
    ground.create_parcels(UTM)
    shapes = [square(0), shapely.Point(X + 120, Y + 5), square(2), shapely.Point(X + 320, Y + 5)]
    points = ground.add_parcels(shapes, UTM)[1::2]
    chunks = parcels(ground).chunks(chunk_size=3)
    assert [len(chunk) for chunk in chunks] == [3, 1]
    unusable = [chunk.unusable["not_polygon"] for chunk in chunks if chunk.unusable]
    assert sorted(np.concatenate(unusable).tolist()) == points


def test_a_parcel_without_number_is_counted(ground: Ground) -> None:
    ground.query("CREATE TABLE parcels (ogc_fid int, wkb_geometry geometry(Geometry, 32633))")
    for pid, shape in ((1, square(0)), (None, square(1)), (None, shapely.Point(X, Y)), (4, square(3))):
        ground.query("INSERT INTO parcels VALUES (%s, ST_GeomFromText(%s, 32633))", pid, shape.wkt)
    asked = parcels(ground)
    assert sorted(asked.pids()) == [1, 4]
    assert asked.unusable() == {"no_id": 2}
    assert [pid for chunk in asked.chunks() for pid in chunk.unusable.get("no_id", ())] == [0, 0]


def test_a_chunk_without_any_polygon(ground: Ground) -> None:
    ground.create_parcels(UTM)
    ground.add_parcels([shapely.Point(X, Y)], UTM)
    (chunk,) = parcels(ground).chunks()
    assert (len(chunk), len(chunk.parcels), numbers(chunk)) == (1, 0, {"not_polygon": 1})
    empty: NDArray[np.object_] = chunk.parcels.geometry.to_numpy()
    assert empty.shape == (0,)


# Where parcels are, so that pixels can be prepared


def tile(column: int) -> tuple[float, float, float, float]:
    """West, south, east, north of a square of 1 km."""
    return X + 1000 * column, Y, X + 1000 * (column + 1), Y + 1000


def boxes(asked: Asked, *bounds: tuple[float, float, float, float], epsg: int = UTM) -> list[int]:
    found = asked.parcels.boxes_with_parcels(asked.scene, epsg, bounds)
    assert asked.worker.idle
    return found


@pytest.mark.parametrize("srid", [UTM, 4326])
def test_boxes_with_parcels(srid: int, bare_ground: Ground) -> None:
    bare_ground.create_parcels(srid)
    bare_ground.add_aoi(geographic(shapely.box(X, Y, X + 5500, Y + 1000)))
    # In the first and the fourth kilometre; beyond the footprint, and beyond the AOI.
    shapes: Any = geopandas.GeoSeries([square(1, 1), square(31, 5), square(45, 5), square(57, 5)], crs=UTM)
    bare_ground.add_parcels(list(shapes.to_crs(srid)), srid)
    asked = parcels(bare_ground, footprint=geographic(shapely.box(X, Y, X + 4200, Y + 1000)))
    assert sorted(boxes(asked, *map(tile, range(6)))) == [0, 3]
    assert boxes(asked, tile(2), tile(5), tile(3)) == [2]
    assert boxes(asked) == []
    # Only of those that are to be done again.
    asked.scene = replace(asked.scene, redo=Redo(1, (2,)))
    assert boxes(asked, *map(tile, range(6))) == [3]


def test_boxes_where_nothing_is(ground: Ground) -> None:
    ground.create_parcels(UTM)
    ground.add_parcels([square(500)], UTM)
    assert boxes(parcels(ground), tile(0)) == []


def test_boxes_of_a_scene_that_cannot_be_selected_for(ground: Ground) -> None:
    ground.create_parcels(UTM)
    ground.add_parcels([square()], UTM)
    assert boxes(parcels(ground, footprint=BEYOND_THE_POLE), tile(0)) == []


# Meanwhile


def test_nothing_is_open_or_locked_while_chunks_are_read(ground: Ground) -> None:
    ground.create_parcels(UTM)
    ground.add_parcels([square(column) for column in range(10)], UTM)
    asked = parcels(ground)
    watcher = ground.connect()
    watcher.autocommit = True

    def seen() -> list[tuple[Any, ...]]:
        with watcher.cursor() as cursor:
            cursor.execute(
                "SELECT state, xact_start, backend_xmin, backend_xid, "
                "(SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid) FROM pg_stat_activity a WHERE pid = %s",
                (asked.worker.session.info.backend_pid,),
            )
            return list(cursor.fetchall())

    nothing = [("idle", None, None, None, 0)]
    with asked.select(chunk_size=3) as selection:
        assert seen() == nothing
        for _ in selection.blocks:
            assert seen() == nothing
            assert asked.worker.idle
        # Others may change the tables meanwhile.
        with watcher.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")
            cursor.execute("ALTER TABLE parcels ADD note text")
    assert seen() == nothing


def test_what_others_change_meanwhile_does_not_change_the_selection(ground: Ground) -> None:
    ground.create_parcels(UTM)
    pids = ground.add_parcels([square(column) for column in range(6)], UTM)
    with parcels(ground).select(chunk_size=2) as selection:
        blocks = [next(selection.blocks)]
        ground.query("DELETE FROM parcels")
        blocks += selection.blocks
    assert sorted(int(pid) for block in blocks for pid in parcel_chunk(block, UTM).parcels["pid"]) == pids


def test_nothing_is_left_beside_the_images(ground: Ground, tmp_path: Path) -> None:
    ground.create_parcels(UTM)
    ground.add_parcels([square(column) for column in range(6)], UTM)
    asked = parcels(ground)
    with (
        pytest.raises(ZeroDivisionError),
        asked.parcels.select(asked.scene, UTM, 2, tmp_path) as selection,
    ):
        next(selection.blocks)
        assert list(tmp_path.iterdir()) == []  # a file without a name
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []
    assert len(asked.pids()) == 6


def test_the_connection_breaks_while_parcels_come(ground: Ground) -> None:
    ground.create_parcels(UTM)
    ground.add_parcels([square(column) for column in range(6)], UTM)
    asked = parcels(ground)
    ground.query("SELECT pg_terminate_backend(%s)", asked.worker.session.info.backend_pid)
    with pytest.raises(DatabaseUnavailableError, match="broke while selecting parcels"), asked.select():
        pass


def test_no_room_for_the_parcels(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session is still good for giving the scene back."""
    ground.create_parcels(UTM)
    ground.add_parcels([square(column) for column in range(6)], UTM)
    asked = parcels(ground)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", lambda dir: Path("/dev/full").open("wb"))  # noqa: A006, SIM115
        with pytest.raises(OSError, match="No space left"), asked.select(chunk_size=2):
            pass
    assert asked.worker.idle
    assert len(asked.pids()) == 6


# Broken geometries: one must not cost the scene

LONGITUDE_LATITUDE = 4326
GOOD = shapely.box(15, 46, 15.001, 46.001)
BEYOND_THE_POLE = "POLYGON((15 46, 15 95, 15.001 46, 15 46))"
NOT_A_NUMBER = "POLYGON((15 46, NaN 46, 15 46.001, 15 46))"
INFINITE = "POLYGON((15 46, 1e300 46, 15 46.001, 15 46))"
BOW_TIE = "POLYGON((15 46, 15.001 46.001, 15.001 46, 15 46.001, 15 46))"
NO_EXTENT = "POLYGON((15 46, 15 46, 15 46, 15 46))"
HOLE_OUTSIDE = "POLYGON((15 46, 15.001 46, 15.001 46.001, 15 46), (16 46, 16.001 46, 16.001 46.001, 16 46))"
OPEN_RING = "MULTIPOLYGON(((15 46, 15.2 46, 15.1 46.5, 15 46)), ((NaN 46, 15 46, 15.1 46.5, NaN 46)))"
"""A ring that PostGIS stores and GEOS refuses: NaN is not NaN, so it does not end where it began."""


def insert(ground: Ground, wkt: str, srid: int = LONGITUDE_LATITUDE) -> int:
    return int(
        ground.one("INSERT INTO parcels (wkb_geometry) VALUES (ST_GeomFromText(%s, %s)) RETURNING ogc_fid", wkt, srid)
    )


@pytest.mark.parametrize(
    "wkt",
    [BEYOND_THE_POLE, NOT_A_NUMBER, INFINITE, OPEN_RING],
    ids=["beyond the pole", "not a number", "infinite", "open ring"],
)
def test_a_geometry_that_postgis_refuses_is_counted(wkt: str, ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    ground.create_parcels(LONGITUDE_LATITUDE)
    good = ground.add_parcels([GOOD, GOOD], LONGITUDE_LATITUDE)
    insert(ground, wkt)
    insert(ground, BOW_TIE)
    asked = parcels(ground)
    assert set(asked.pids()) > set(good)
    assert asked.unusable() == {"broken_geometry": 1}
    assert len(asked.pids()) == 3
    # Versions of PostGIS differ in what they make of NaN: some raise an error, of which the log tells.
    assert wkt == NOT_A_NUMBER or any(text.startswith("a geometry is broken (") for text in caplog.messages)
    assert asked.any()


@pytest.mark.parametrize("wkt", [NOT_A_NUMBER, OPEN_RING], ids=["not a number", "open ring"])
def test_a_geometry_with_a_corner_that_is_no_number_in_the_scene_s_own_reference_system(
    wkt: str, bare_ground: Ground
) -> None:
    # Nothing has to be transformed then, and PostGIS lets more pass. (A map in degrees is no CARD's, but serves here.)
    bare_ground.create_parcels(LONGITUDE_LATITUDE)
    bare_ground.add_aoi("POLYGON((14 45, 16 45, 15.9 47, 14 47, 14 45))")
    (good,) = bare_ground.add_parcels([GOOD], LONGITUDE_LATITUDE)
    insert(bare_ground, wkt)
    (chunk,) = parcels(bare_ground).chunks(epsg=LONGITUDE_LATITUDE)
    assert chunk.parcels["pid"].tolist() == [good]
    assert numbers(chunk) == {"broken_geometry": 1}


@pytest.mark.parametrize("wkt", [BOW_TIE, HOLE_OUTSIDE], ids=["bow-tie", "hole outside"])
def test_an_invalid_geometry_that_postgis_can_work_with_is_used(wkt: str, ground: Ground) -> None:
    ground.create_parcels(LONGITUDE_LATITUDE)
    wanted = insert(ground, wkt)
    asked = parcels(ground)
    assert asked.pids() == [wanted]
    assert asked.any()


def test_a_polygon_without_extent_is_no_trouble(ground: Ground) -> None:
    # Whether it meets anything, PostGIS answers one way or the other.
    ground.create_parcels(LONGITUDE_LATITUDE)
    (good,) = ground.add_parcels([GOOD], LONGITUDE_LATITUDE)
    odd = insert(ground, NO_EXTENT)
    asked = parcels(ground)
    assert good in asked.pids()
    assert set(asked.pids()) <= {good, odd}
    assert asked.unusable() == {}


def test_only_broken_geometries(ground: Ground) -> None:
    ground.create_parcels(LONGITUDE_LATITUDE)
    for wkt in (BEYOND_THE_POLE, NOT_A_NUMBER, OPEN_RING):
        insert(ground, wkt)
    asked = parcels(ground)
    assert asked.any()
    assert (asked.pids(), asked.unusable()) == ([], {"broken_geometry": 3})


def test_the_careful_functions_leave_nothing_behind(ground: Ground) -> None:
    ground.create_parcels(LONGITUDE_LATITUDE)
    insert(ground, BEYOND_THE_POLE)
    asked = parcels(ground)
    assert asked.unusable() == {"broken_geometry": 1}
    assert asked.unusable() == {"broken_geometry": 1}
    where = (
        "SELECT DISTINCT nspname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace WHERE proname ~ '^careful_'"
    )
    assert all(schema.startswith("pg_temp") for (schema,) in ground.query(where))
    asked.worker.database.close()
    again = parcels(ground)
    assert again.unusable() == {"broken_geometry": 1}


def test_a_footprint_that_cannot_be_transformed(ground: Ground) -> None:
    ground.create_parcels(UTM)
    ground.add_parcels([square()], UTM)
    asked = parcels(ground, footprint=BEYOND_THE_POLE)
    for ask in (asked.any, asked.pids):
        with pytest.raises(SceneError, match="the scene's footprint or the AOI cannot be used for selecting parcels"):
            ask()
        assert asked.worker.idle
