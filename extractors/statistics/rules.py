"""Parcel rules: which parcels get statistics at all, and of which part of them. All of them are off by default.

Areas are true ones and distances are metres, whatever the CRS. For both, parcels that cross themselves are made valid;
without these rules nothing of the kind is done.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import geopandas
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from extractors.model import ParcelChunk, ParcelRules
from extractors.signatures import COUNT, ChunkResult, Signatures
from extractors.statistics.grid import Floats, Geometries, Integers

# Why the rules leave a parcel without a row.
INWARD_BUFFER, MIN_AREA, MIN_PIXELS = "inward_buffer", "min_area", "min_pixels"
BROKEN_GEOMETRY, TOO_LARGE = "broken_geometry", "too_large"
# How often a polygon's edges may meet one another, and how often they may be closer than what is cut off on both sides;
# each pair counts twice. Beyond that, making it valid or drawing it in could take minutes and gigabytes.
MOST_MEETINGS, MOST_NEIGHBOURS = 40_000, 1_000_000
MOST_EDGES = 100_000
# Pairs of edges that are looked at together.
PAIRS_AT_ONCE = 1_000_000
# Around inward corners, the new outline is an arc: so many segments for a quarter of a circle.
ARC = 8

Reasons = NDArray[np.object_]


def shaped(chunk: ParcelChunk, rules: ParcelRules) -> ParcelChunk:
    """The chunk without parcels that are too small, all others drawn in by so many metres; those that are left out
    stand under a reason."""
    if not (rules.min_area_m2 or rules.inward_buffer_m) or not len(chunk.parcels):
        return chunk
    pid, crs = chunk.parcels["pid"].to_numpy(), chunk.parcels.crs
    shapes = chunk.parcels.geometry.to_numpy()
    valid = _valid(shapes)
    why: Reasons = np.where(shapely.is_missing(valid), BROKEN_GEOMETRY, "").astype(object)
    if rules.min_area_m2:
        why[true_areas(valid, crs) < rules.min_area_m2] = MIN_AREA
    if rules.inward_buffer_m:
        here, shapes = np.flatnonzero(why == ""), shapes.copy()
        shapes[here], why[here] = drawn_in(valid[here], crs, rules.inward_buffer_m)
    kept = why == ""
    left_out = {reason: pid[why == reason] for reason in dict.fromkeys(why[~kept])}
    parcels = geopandas.GeoDataFrame({"pid": pid[kept]}, geometry=shapes[kept], crs=crs)
    return ParcelChunk(parcels, _together(chunk.unusable, left_out))


def with_enough_pixels(result: ChunkResult, rules: ParcelRules) -> ChunkResult:
    """The result without rows of too few pixels; their parcels stand under a reason."""
    if not rules.min_pixels:
        return result
    for signatures, without_row in (
        (result.signatures, result.without_row),
        (result.clear, result.clear_without_row),
    ):
        for place, part in enumerate(signatures):
            few = part.table[:, COUNT] < rules.min_pixels
            if few.any():
                signatures[place] = Signatures(part.label, part.pid[~few], part.table[~few])
                without_row[part.label] = _together(without_row.get(part.label, {}), {MIN_PIXELS: part.pid[few]})
    result.hists = [(pid, classes) for pid, classes in result.hists if sum(classes.values()) >= rules.min_pixels]
    return result


def true_areas(shapes: Geometries, crs: pyproj.CRS) -> Floats:
    """Square metres on the ellipsoid, by the scale in each shape's middle. The shapes are valid; None gives NaN."""
    x, y = shapely.get_coordinates(_points(shapely.centroid(shapes))).T
    if crs.is_geographic:
        scale = np.prod(_metres_per_unit(y, crs), axis=0)
    else:
        projection = _projection(crs)
        factors = projection.get_factors(*projection(x, y, inverse=True))
        scale = crs.axis_info[0].unit_conversion_factor ** 2 / factors.areal_scale
    areas: Floats = np.where(shapely.is_empty(shapes), 0, shapely.area(shapes) * scale)
    return areas


def drawn_in(shapes: Geometries, crs: pyproj.CRS, metres: float) -> tuple[Geometries, Reasons]:
    """Valid shapes without what is closer than so many metres to their outline; and why there is nothing left of some
    ("" for the others)."""
    unit = crs.axis_info[0].unit_conversion_factor
    south, north = shapely.bounds(shapes)[:, [1, 3]].T
    latitude = (south + north) / 2
    scale = np.column_stack(_metres_per_unit(latitude, crs) if crs.is_geographic else [np.full(len(shapes), unit)] * 2)
    plane = _scaled(shapes, scale)
    why: Reasons = np.full(len(shapes), "", dtype=object)
    for place, shape in enumerate(plane):
        if _is_crowded(shape, 2 * metres, MOST_NEIGHBOURS):
            why[place], plane[place] = TOO_LARGE, None
    smaller = _buffered(plane, -metres)
    why[shapely.is_missing(smaller) & (why == "")] = BROKEN_GEOMETRY
    why[shapely.is_empty(smaller)] = INWARD_BUFFER
    return _scaled(smaller, 1 / scale), why


def _buffered(shapes: Geometries, distance: float) -> Geometries:
    """Shapes made larger, or smaller; None for one with which that cannot be done."""
    try:
        result: Geometries = shapely.buffer(shapes, distance, quad_segs=ARC, join_style="round")
    except shapely.errors.GEOSException:
        if len(shapes) == 1:
            return np.array([None], dtype=object)
        return np.concatenate([_buffered(shapes[place : place + 1], distance) for place in range(len(shapes))])
    return result


def _valid(shapes: Geometries) -> Geometries:
    """Shapes made valid; None for one with which that cannot be done. What lies within a loop belongs to it, however
    often the outline goes around it."""
    result = shapes.copy()
    for place in np.flatnonzero(~shapely.is_valid(shapes)):
        result[place] = None
        if not _is_crowded(shapes[place], 0, MOST_MEETINGS):
            try:
                result[place] = shapely.make_valid(shapes[place], method="structure", keep_collapsed=False)
            except shapely.errors.GEOSException:
                continue
    return result


def _is_crowded(shape: shapely.Geometry, distance: float, most: int) -> bool:
    """Whether more than so many of a shape's edges meet others, or are closer to them than a distance."""
    corners = shapely.get_num_coordinates(shape)
    if corners**2 <= most or corners > MOST_EDGES:
        return bool(corners > MOST_EDGES)
    coordinates, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(shape)), return_index=True)
    follows = ring[1:] == ring[:-1]
    edges: Any = shapely.linestrings(np.stack([coordinates[:-1][follows], coordinates[1:][follows]], axis=1))
    tree, found = shapely.STRtree(edges), 0
    # Each edge is found by itself and by those before and behind it.
    most += 3 * len(edges)
    step = max(1, PAIRS_AT_ONCE // len(edges))
    for start in range(0, len(edges), step):
        found += tree.query(edges[start : start + step], predicate="dwithin", distance=distance).shape[1]
        if found > most:
            return True
    return False


def _scaled(shapes: Geometries, scale: Floats) -> Geometries:
    """Shapes with their coordinates multiplied, by two numbers of each shape."""
    if (scale == 1).all():
        return shapes.copy()
    coordinates, owner = shapely.get_coordinates(shapes, return_index=True)
    result: Geometries = shapely.set_coordinates(shapes.copy(), coordinates * scale[owner])
    return result


def _points(shapes: Geometries) -> Geometries:
    """The same with a point, that is nowhere, for each empty or missing one: so there is one for each."""
    result = shapes.copy()
    result[shapely.is_missing(shapes) | shapely.is_empty(shapes)] = shapely.Point(np.nan, np.nan)
    return result


def _metres_per_unit(latitude: Floats, crs: pyproj.CRS) -> tuple[Floats, Floats]:
    """How long a unit of longitude and of latitude is at these latitudes of a geographic CRS."""
    geodetic: Any = crs.geodetic_crs
    a, b = geodetic.ellipsoid.semi_major_metre, geodetic.ellipsoid.semi_minor_metre
    radians, flattened = geodetic.axis_info[0].unit_conversion_factor, 1 - (b / a) ** 2
    angle = latitude * radians
    curved = 1 - flattened * np.sin(angle) ** 2
    return radians * a * np.cos(angle) / np.sqrt(curved), radians * a * (1 - flattened) / curved**1.5


@cache
def _projection(crs: pyproj.CRS) -> pyproj.Proj:
    return pyproj.Proj(crs)


def _together(some: Mapping[str, Integers], more: Mapping[str, Integers]) -> dict[str, Integers]:
    """Numbers of parcels by reason, from two such lists."""
    return {
        reason: np.concatenate([numbers[reason] for numbers in (some, more) if reason in numbers])
        for reason in dict.fromkeys([*some, *more])
    }
