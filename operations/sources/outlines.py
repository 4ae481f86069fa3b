"""Outlines of products, as sources write them: made one polygon, which is what catalogues hold.

Longitudes of what lies across the meridian of 180 degrees go on beyond it (from 179 to 181), as the workers expect.
"""

import math
import re
from collections.abc import Sequence

import numpy as np
import shapely
from shapely import Polygon
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

# What the workers take for a footprint has no more.
MOST_VERTICES = 10_000
LONGEST_TEXT = 1_000_000
# Degrees. Real products are smaller; what is larger is an error, such as parts that do not belong together.
WIDEST, HIGHEST = 90.0, 20.0
WKT = re.compile(r"(?:SRID=(\d+);)?\s*(?:MULTI)?POLYGON\s*(?:Z|M|ZM)?\s*(\([\s\d().,eE+-]+\))\s*", re.ASCII)

Ring = Sequence[tuple[float, float]]


class OutlineError(Exception):
    """An outline that cannot be used; the message goes on after "its outline"."""


def of_wkt(text: object) -> Polygon:
    """The outline in a text such as `POLYGON((lon lat, ...))`, `MULTIPOLYGON(...)`, or OData's form of these."""
    if not isinstance(text, str) or not text.strip():
        raise OutlineError("is missing")
    if len(text) > LONGEST_TEXT:
        raise OutlineError(f"has {len(text):,} characters")
    text = text.strip()
    if text.startswith("geography'"):
        text = text.removeprefix("geography'").removesuffix("'")
    match = WKT.fullmatch(text.upper())
    if match is None or match[2].count("(") != match[2].count(")"):
        raise OutlineError("is no POLYGON or MULTIPOLYGON in WKT")
    if match[1] not in {None, "4326"}:
        raise OutlineError(f"has the SRID {match[1][:8]}, not 4326")
    return of_rings(
        [[part.split() for part in ring.split(",")] for ring in re.findall(r"\(([^()]+)\)", match[2])],
    )


def of_geojson(value: object) -> Polygon:
    """The outline in an object of GeoJSON."""
    kind = value.get("type") if isinstance(value, dict) else None
    coordinates = value.get("coordinates") if isinstance(value, dict) else None
    if kind not in {"Polygon", "MultiPolygon"} or not isinstance(coordinates, list):
        raise OutlineError("is missing" if value is None else "is no Polygon or MultiPolygon")
    polygons = [coordinates] if kind == "Polygon" else coordinates
    if not all(isinstance(polygon, list) for polygon in polygons):
        raise OutlineError("has no rings")
    return of_rings([ring for polygon in polygons for ring in polygon])


def of_rings(rings: Sequence[object]) -> Polygon:
    """One polygon that covers what these rings enclose, holes included: its workers leave out pixels without data
    anyway. Rings may be open; one that crosses itself is taken for its hull."""
    parts = [_enclosed(ring) for ring in _points(rings)]
    parts = [part for part in parts if part.area > 0]
    if not parts:
        raise OutlineError("has no area")
    largest = max(parts, key=lambda part: float(part.area))
    middle = _middle(largest)
    with np.errstate(all="ignore"):  # of what GEOS meets with numbers next to 0
        whole = shapely.union_all([_moved(part, -_turns(_middle(part) - middle)) for part in parts])
    outline = whole if isinstance(whole, Polygon) else _hull(whole)
    if not outline.area > 0:  # too small for GEOS
        raise OutlineError("has no area")
    west, south, east, north = outline.bounds
    if east - west > WIDEST or north - south > HIGHEST:
        raise OutlineError(f"is {east - west:.0f} degrees wide and {north - south:.0f} degrees high")
    return _moved(Polygon(outline.exterior), -_turns(_middle(outline)))


def _points(rings: Sequence[object]) -> list[Ring]:
    found: list[Ring] = []
    for ring in rings:
        if not isinstance(ring, list):
            raise OutlineError("has no rings")
        if sum(map(len, found)) + len(ring) > MOST_VERTICES:
            raise OutlineError(f"has more than {MOST_VERTICES:,} vertices")
        found.append([_point(position) for position in ring])
    return found


def _point(position: object) -> tuple[float, float]:
    try:
        longitude, latitude = (float(number) for number in position[:2])  # type: ignore[index]
    except (TypeError, ValueError, OverflowError):
        raise OutlineError("has coordinates that are no numbers") from None
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        raise OutlineError("has coordinates that are no numbers")
    if abs(longitude) > 360 or abs(latitude) > 90:
        raise OutlineError(f"has coordinates that are no degrees ({longitude:g} {latitude:g})")
    return longitude, latitude


def _enclosed(ring: Ring) -> Polygon:
    """What a ring encloses. From one point to the next it goes the short way round the Earth."""
    if len(set(ring)) < 3:
        return Polygon()
    longitudes = [ring[0][0]]
    for longitude, _ in (*ring[1:], ring[0]):
        longitudes.append(longitude - _turns(longitude - longitudes[-1]))
    if longitudes[-1] != ring[0][0]:
        raise OutlineError("goes round a pole")
    points = zip(longitudes, (latitude for _, latitude in (*ring, ring[0])), strict=True)
    shape = Polygon(list(points))
    return shape if shape.is_valid else _hull(shape)


def _hull(shape: BaseGeometry) -> Polygon:
    """The hull of a shape, which is nothing for what has no area."""
    hull = shape.convex_hull
    return hull if isinstance(hull, Polygon) else Polygon()


def _middle(shape: Polygon) -> float:
    west, _, east, _ = shape.bounds
    return float(west + east) / 2


def _turns(longitude: float) -> float:
    """The whole turns, in degrees, in a longitude or a difference of two."""
    return 360.0 * round(longitude / 360.0)


def _moved(shape: Polygon, longitude: float) -> Polygon:
    return translate(shape, longitude) if longitude else shape
