"""Parcel rules: areas as geodesy has them, buffers as shapely makes them, and a reason for whatever is left out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from extractors.model import ParcelChunk, ParcelRules
from extractors.signatures import ChunkResult, Signatures
from extractors.statistics.rules import drawn_in, shaped, true_areas, with_enough_pixels

UTM, DEGREES, FEET = 32633, 4326, 2263
# A CRS and a place in it.
PLACES = {
    UTM: (500_000, 5_100_000),
    3035: (4_600_000, 2_500_000),
    28992: (155_000, 463_000),
    FEET: (980_000, 200_000),
    DEGREES: (14.5, 63.0),
    # By the meridian of Paris: grads, and metres.
    4807: (2.0, 52.0),
    27572: (600_000, 2_400_000),
}


def crs(srid: int) -> pyproj.CRS:
    return pyproj.CRS.from_epsg(srid)


def unit(srid: int) -> float:
    """About so many units are a metre."""
    return 1e-5 if crs(srid).is_geographic else 1 / crs(srid).axis_info[0].unit_conversion_factor


def star(random: np.random.Generator, srid: int, corners: int, metres: float) -> shapely.Polygon:
    """A simple polygon with dents, somewhere near the place."""
    angles = (np.arange(corners) + random.uniform(0, 1, corners)) * 2 * np.pi / corners
    radius = random.uniform(0.3, 1, corners) * metres * unit(srid)
    middle = np.array(PLACES[srid]) + random.uniform(-2000, 2000, 2) * unit(srid)
    return shapely.Polygon(middle + np.column_stack([radius * np.cos(angles), radius * np.sin(angles)]))


def geodesic_area(shape: BaseGeometry, srid: int) -> float:
    """By geodesics between points along the edges, which are straight in the CRS."""
    geodetic: Any = crs(srid).geodetic_crs
    to_degrees = pyproj.Transformer.from_crs(crs(srid), geodetic, always_xy=True)
    factor = geodetic.axis_info[0].unit_conversion_factor
    dense = shapely.segmentize(shape, 50 * unit(srid))
    parts = shapely.transform(dense, lambda xy: np.degrees(np.column_stack(to_degrees.transform(*xy.T)) * factor))
    area, _ = geodetic.get_geod().geometry_area_perimeter(shapely.orient_polygons(parts))
    return float(area)


def array(*shapes: BaseGeometry | None) -> Any:
    found = np.empty(len(shapes), dtype=object)
    found[:] = shapes
    return found


def chunk(*shapes: BaseGeometry, srid: int = UTM, **unusable: list[int]) -> ParcelChunk:
    """Parcels 101, 102, ..."""
    frame = geopandas.GeoDataFrame(
        {"pid": np.arange(101, 101 + len(shapes), dtype=np.int64)}, geometry=list(shapes), crs=crs(srid)
    )
    return ParcelChunk(frame, {reason: np.array(pids) for reason, pids in unusable.items()})


def reasons(found: ParcelChunk) -> dict[int, str]:
    return {pid: reason for reason, pids in found.unusable.items() for pid in pids.tolist()}


def kept(found: ParcelChunk) -> dict[int, BaseGeometry]:
    return dict(zip(found.parcels["pid"].tolist(), found.parcels.geometry, strict=True))


def square(metres: float, x: float = 0, y: float = 0) -> shapely.Polygon:
    left, bottom = PLACES[UTM][0] + x, PLACES[UTM][1] + y
    return shapely.box(left, bottom, left + metres, bottom + metres)


def bow_tie(metres: float) -> shapely.Polygon:
    """Two triangles that meet in one corner; the signed area is 0."""
    x, y = PLACES[UTM]
    return shapely.Polygon([(x, y), (x + metres, y + metres), (x + metres, y), (x, y + metres)])


# Areas


@given(st.integers(0, 2**32), st.sampled_from(list(PLACES)), st.integers(3, 12), st.floats(5, 3000))
@settings(max_examples=300)
def test_areas_are_those_on_the_ellipsoid(seed: int, srid: int, corners: int, metres: float) -> None:
    shape = star(np.random.default_rng(seed), srid, corners, metres)
    (found,) = true_areas(array(shape), crs(srid))
    assert found == pytest.approx(geodesic_area(shape, srid), rel=3e-6, abs=0.01)


def test_areas_across_180_degrees() -> None:
    """Beyond it, as some write them, or as PROJ gives them."""
    here, beyond = shapely.box(179.99, 10, 180.01, 10.01), shapely.box(-180.01, 10, -179.99, 10.01)
    east = shapely.box(10, 10, 10.02, 10.01)
    found = true_areas(array(here, beyond, east, shapely.Polygon()), crs(DEGREES))
    assert found == pytest.approx([*[geodesic_area(east, DEGREES)] * 3, 0], rel=1e-5)
    fiji = pyproj.Transformer.from_crs(DEGREES, 3460, always_xy=True)
    projected = shapely.transform(here, lambda xy: np.column_stack(fiji.transform(*xy.T)))
    assert true_areas(array(projected), crs(3460)) == pytest.approx(geodesic_area(east, DEGREES), rel=1e-3)


def test_the_mercator_projection_makes_nothing_larger() -> None:
    """Of 100 m of it at 60 degrees, 50 are real (by a sphere, to 0.4 %)."""
    to_mercator = pyproj.Transformer.from_crs(DEGREES, 3857, always_xy=True)
    x, y = to_mercator.transform(14.5, 60)
    (found,) = true_areas(array(shapely.box(x, y, x + 100, y + 100)), crs(3857))
    assert found == pytest.approx(2500, rel=0.01)


def test_a_sphere() -> None:
    sphere = pyproj.CRS.from_authority("ESRI", 53004)
    found = true_areas(array(shapely.box(0, 0, 1000, 1000)), sphere)
    assert found == pytest.approx(1e6, rel=1e-5)


# Buffers


@given(st.integers(0, 2**32), st.sampled_from([UTM, 3035, FEET]), st.integers(3, 40), st.floats(0.5, 60))
@settings(max_examples=300)
def test_buffers_are_those_of_shapely(seed: int, srid: int, corners: int, metres: float) -> None:
    shape = star(np.random.default_rng(seed), srid, corners, 100)
    (found,), (why,) = drawn_in(array(shape), crs(srid), metres)
    wanted = shapely.buffer(shape, -metres * unit(srid), quad_segs=8)
    assert why == ("inward_buffer" if wanted.is_empty else "")
    assert shapely.area(shapely.symmetric_difference(found, wanted)) <= 1e-6 * shape.area
    if not wanted.is_empty:
        # No point is closer to the outline than that (but for what an arc of straight lines cuts off).
        distance = shapely.distance(shapely.points(shapely.get_coordinates(found)), shape.boundary)
        assert distance.min() >= metres * unit(srid) * 0.99


@given(st.integers(0, 2**32), st.integers(3, 12), st.floats(1, 40))
@settings(max_examples=200)
def test_buffers_in_degrees_are_of_metres(seed: int, corners: int, metres: float) -> None:
    shape = star(np.random.default_rng(seed), DEGREES, corners, 100)
    (found,), (why,) = drawn_in(array(shape), crs(DEGREES), metres)
    there = pyproj.Transformer.from_crs(DEGREES, UTM, always_xy=True)
    plane, result = (
        shapely.transform(one, lambda xy: np.column_stack(there.transform(*xy.T))) for one in (shape, found)
    )
    # UTM is short by 0.04 % here.
    wanted = shapely.buffer(plane, -metres * 0.9996, quad_segs=8)
    difference = shapely.area(shapely.symmetric_difference(result, wanted))
    assert difference <= 0.002 * plane.length * metres
    assert (why == "") == (not found.is_empty)


def test_a_parcel_that_falls_apart_stays_one() -> None:
    waist = shapely.union_all([square(100), square(100, 120), shapely.box(*square(30, 95, 40).bounds)])
    found = kept(shaped(chunk(waist), ParcelRules(inward_buffer_m=18)))
    assert shapely.get_num_geometries(found[101]) == 2
    assert shapely.area(found[101]) == pytest.approx(2 * 64**2, rel=0.03)


def test_several_parts_are_drawn_in_each() -> None:
    """The smaller one vanishes."""
    found = kept(shaped(chunk(shapely.MultiPolygon([square(100), square(15, 200)])), ParcelRules(inward_buffer_m=10)))
    assert shapely.area(found[101]) == pytest.approx(80**2)


def test_holes_grow() -> None:
    hole = square(100).difference(square(20, 40, 40))
    found = kept(shaped(chunk(hole), ParcelRules(inward_buffer_m=10)))
    assert shapely.area(found[101]) == pytest.approx(80**2 - 40**2 + (4 - np.pi) * 100, rel=1e-3)


# What is left out, and why


def test_without_rules_nothing_is_touched() -> None:
    given = chunk(square(100), bow_tie(50), no_id=[0])
    assert shaped(given, ParcelRules(min_pixels=5)) is given


def test_each_parcel_has_one_reason() -> None:
    given = chunk(square(100), square(50, 200), square(19, 300), square(9, 400), no_id=[0, 0], too_large=[7])
    found = shaped(given, ParcelRules(inward_buffer_m=10, min_area_m2=100))
    assert reasons(found) == {0: "no_id", 7: "too_large", 103: "inward_buffer", 104: "min_area"}
    assert Counter(map(len, found.unusable.values())) == {1: 3, 2: 1}
    assert {pid: round(shape.area) for pid, shape in kept(found).items()} == {101: 6400, 102: 900}
    assert len(found) == len(given) == 7
    assert found.parcels.crs == given.parcels.crs


def test_the_least_area_is_itself_enough() -> None:
    (area,) = true_areas(array(square(50)), crs(UTM))
    assert reasons(shaped(chunk(square(50)), ParcelRules(min_area_m2=area))) == {}
    assert reasons(shaped(chunk(square(50)), ParcelRules(min_area_m2=area * 1.000001))) == {101: "min_area"}


def test_areas_alone_leave_the_parcel_as_it_is() -> None:
    """A parcel that crosses itself is rasterised as ever; both of its triangles count."""
    found = shaped(chunk(bow_tie(100)), ParcelRules(min_area_m2=4900))
    assert kept(found)[101].equals_exact(bow_tie(100))
    assert reasons(shaped(chunk(bow_tie(100)), ParcelRules(min_area_m2=5100))) == {101: "min_area"}


def test_both_triangles_of_a_bow_tie_are_drawn_in() -> None:
    found = kept(shaped(chunk(bow_tie(100)), ParcelRules(inward_buffer_m=5)))[101]
    assert found.is_valid
    first, second = shapely.area(shapely.get_parts(found))
    assert first == pytest.approx(second)


def test_a_polygon_without_extent_vanishes() -> None:
    x, y = PLACES[UTM]
    line = shapely.Polygon([(x, y), (x + 100, y), (x, y)])
    assert reasons(shaped(chunk(line), ParcelRules(inward_buffer_m=1))) == {101: "inward_buffer"}
    assert reasons(shaped(chunk(line), ParcelRules(min_area_m2=1))) == {101: "min_area"}


def tangle(corners: int) -> shapely.Polygon:
    """Every edge crosses every other one."""
    turns = np.arange(corners) * (corners // 2) * 2 * np.pi / corners
    return shapely.Polygon(np.array(PLACES[UTM]) + 1000 * np.column_stack([np.cos(turns), np.sin(turns)]))


def test_a_tangle_is_not_even_tried() -> None:
    """Making it valid takes minutes; others are not touched."""
    for rule in (ParcelRules(inward_buffer_m=1), ParcelRules(min_area_m2=1)):
        found = shaped(chunk(square(50), tangle(1001), tangle(101)), rule)
        assert reasons(found) == {102: "broken_geometry"}
        assert list(kept(found)) == [101, 103]


def test_long_outlines_that_cross_once_are_put_right() -> None:
    angles = np.linspace(0, 4 * np.pi / 2, 3001)[:-1]
    corners = np.array(PLACES[UTM]) + 500 * np.column_stack([np.cos(angles), np.sin(angles)])
    corners[[10, 11]] = corners[[11, 10]]
    shape = shapely.Polygon(corners)
    assert not shape.is_valid
    found = shaped(chunk(shape), ParcelRules(inward_buffer_m=10))
    assert shapely.area(kept(found)[101]) == pytest.approx(np.pi * 490**2, rel=1e-4)


def test_an_outline_that_is_all_teeth_is_too_large() -> None:
    """Drawn in by more than their pitch, each of them would meet hundreds of others."""
    x = np.linspace(0, 1000, 4000)
    teeth = np.column_stack([x, 1000 + 10 * (np.arange(4000) % 2)])
    shape = shapely.Polygon(np.array(PLACES[UTM]) + np.vstack([teeth, [(1000, 0), (0, 0)]]))
    found = shaped(chunk(shape, square(300)), ParcelRules(inward_buffer_m=100))
    assert reasons(found) == {101: "too_large"}
    assert list(kept(found)) == [102]


def test_a_geometry_that_geos_cannot_draw_in(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = shapely.buffer

    def raising(shapes: Any, *more: Any, **others: Any) -> Any:
        if any(shape.area > 9000 for shape in shapes):
            raise shapely.errors.GEOSException("TopologyException")
        return buffer(shapes, *more, **others)

    monkeypatch.setattr(shapely, "buffer", raising)
    found = shaped(chunk(square(50), square(100), square(40)), ParcelRules(inward_buffer_m=10))
    assert reasons(found) == {102: "broken_geometry"}
    assert [round(shape.area) for shape in kept(found).values()] == [900, 400]


# Pixels


def part(label: str, **counts: int) -> Signatures:
    table = np.ones((len(counts), 8))
    table[:, 0] = list(counts.values())
    return Signatures(label, np.array([int(pid[1:]) for pid in counts]), table)


def test_rows_of_too_few_pixels() -> None:
    def result() -> ChunkResult:
        return ChunkResult(
            4,
            np.array([1, 2, 3, 4]),
            [part("B4", p1=3, p2=2, p3=40), part("B4", p4=1), part("SC", p1=1, p3=9)],
            {"SC": {"nodata": np.array([2, 4])}},
            [part("B4", p3=2)],
            {"B4": {"not_clear": np.array([1, 2, 4])}},
            [(1, {"4": 1}), (3, {"4": 5, "8": 4})],
        )

    for least, rows in ((0, [3, 1, 2]), (1, [3, 1, 2]), (3, [2, 0, 1])):
        found = with_enough_pixels(result(), ParcelRules(min_pixels=least))
        assert [len(one.pid) for one in found.signatures] == [len(one.table) for one in found.signatures] == rows
    found = with_enough_pixels(result(), ParcelRules(min_pixels=3))
    without = {
        label: {reason: sorted(pids.tolist()) for reason, pids in by_reason.items()}
        for label, by_reason in found.without_row.items()
    }
    assert without == {"B4": {"min_pixels": [2, 4]}, "SC": {"nodata": [2, 4], "min_pixels": [1]}}
    assert found.clear_without_row["B4"]["min_pixels"].tolist() == [3]
    assert found.hists == [(3, {"4": 5, "8": 4})]
    assert [one.pid.tolist() for one in found.signatures] == [[1, 3], [], [3]]
