"""Outlines as services write them: one polygon that the workers can use, or a reason."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import translate
from shapely.geometry import mapping

from operations.sources import outlines
from operations.sources.outlines import OutlineError

SQUARE = shapely.box(14, 45, 16, 47)
ACROSS = shapely.box(179, 60, 181, 62)


def same(found: shapely.Polygon, wanted: shapely.Geometry) -> bool:
    return found.symmetric_difference(wanted).area < 1e-9


@pytest.mark.parametrize(
    "text",
    [
        "POLYGON((14 45, 16 45, 16 47, 14 47, 14 45))",
        "  polygon ((14 45,16 45,16 47,14 47,14 45)) ",
        "POLYGON((14 45, 16 45, 16 47, 14 47))",
        "POLYGON Z ((14 45 7, 16 45 7, 16 47 7, 14 47 7, 14 45 7))",
        "SRID=4326;POLYGON((14 45, 16 45, 16 47, 14 47, 14 45))",
        "geography'SRID=4326;POLYGON ((14 45, 16 45, 16 47, 14 47, 14 45))'",
        "MULTIPOLYGON(((14 45, 16 45, 16 47, 14 47, 14 45)))",
        "MULTIPOLYGON(((14 45, 15 45, 15 47, 14 47, 14 45)), ((15 45, 16 45, 16 47, 15 47, 15 45)))",
        "POLYGON((14 45, 15 45, 15 47, 14 47, 14 45), (15 45, 16 45, 16 47, 15 47, 15 45))",
        "POLYGON((14 45, 16 45, 16 47, 14 47, 14 45), (14.5 45.5, 15 45.5, 15 46, 14.5 45.5))",
        "POLYGON((14 45, 16 47, 16 45, 14 47, 14 45))",
        "POLYGON((1.4e1 45, 16 45, 16 47, 14 47, 14 45))",
    ],
    ids=[
        "plain",
        "blanks",
        "open",
        "heights",
        "SRID",
        "OData",
        "one part",
        "two parts",
        "split",
        "hole",
        "bow-tie",
        "e",
    ],
)
def test_the_same_square(text: str) -> None:
    assert same(outlines.of_wkt(text), SQUARE)


@pytest.mark.parametrize(
    "text",
    [
        "POLYGON((179 60, -179 60, -179 62, 179 62, 179 60))",
        "POLYGON((-179 60, 179 60, 179 62, -179 62, -179 60))",
        "POLYGON((179 60, 181 60, 181 62, 179 62, 179 60))",
        "POLYGON((-181 60, -179 60, -179 62, -181 62, -181 60))",
        "MULTIPOLYGON(((179 60, 180 60, 180 62, 179 62, 179 60)), ((-180 60, -179 60, -179 62, -180 62, -180 60)))",
        "MULTIPOLYGON(((-180 60, -179 60, -179 62, -180 62)), ((179 60, 180 60, 180 62, 179 62)))",
    ],
    ids=["jumping", "the other way", "beyond", "beyond in the west", "cut", "cut and open"],
)
def test_what_lies_across_180_degrees_goes_on_beyond_it(text: str) -> None:
    found = outlines.of_wkt(text)
    assert same(found, ACROSS) or same(translate(found, 360), ACROSS)


def test_parts_that_lie_apart_become_their_hull() -> None:
    parts = shapely.MultiPolygon([shapely.box(14, 45, 15, 46), shapely.box(15.5, 45, 16, 46)])
    assert same(outlines.of_geojson(json.loads(shapely.to_geojson(parts))), shapely.box(14, 45, 16, 46))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "is missing"),
        ("", "is missing"),
        (7, "is missing"),
        ("POINT(1 2)", "is no POLYGON"),
        ("POLYGON EMPTY", "is no POLYGON"),
        ("POLYGON((14 45, 16 45, 16 47", "is no POLYGON"),
        ("SRID=3035;POLYGON((1 1, 2 1, 2 2))", "has the SRID 3035"),
        ("POLYGON((14 45, 16 45))", "has no area"),
        ("POLYGON((14 45, 15 46, 16 47, 14 45))", "has no area"),
        ("POLYGON((14 45, 16 45, 16, 14 47))", "are no numbers"),
        ("POLYGON((14 45, 16 45, 16 4+7, 14 47))", "are no numbers"),
        ("POLYGON((600000 5000000, 700000 5000000, 700000 5100000))", "are no degrees"),
        ("POLYGON((-180 60, -60 60, 60 60, 180 60, 180 90, -180 90))", "pole|degrees wide"),
        ("POLYGON((0 80, 90 80, 180 80, -90 80, 0 80))", "goes round a pole"),
        ("MULTIPOLYGON(((1 1, 2 1, 2 2)), ((120 1, 121 1, 121 2)))", "degrees wide"),
        ("POLYGON((" + ", ".join(f"{14 + n / 1e5} 45" for n in range(10_001)) + "))", "vertices"),
        ("POLYGON((" + "1" * 1_000_001 + "))", "characters"),
    ],
)
def test_texts_that_are_none(value: object, reason: str) -> None:
    with pytest.raises(OutlineError, match=reason):
        outlines.of_wkt(value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"type": "Polygon"},
        {"type": "Point", "coordinates": [1, 2]},
        {"type": "Polygon", "coordinates": [[1, 2, 3]]},
        {"type": "Polygon", "coordinates": [7]},
        {"type": "MultiPolygon", "coordinates": [7]},
        {"type": "Polygon", "coordinates": [[["a", "b"], [1, 2], [3, 4]]]},
        {"type": "Polygon", "coordinates": [[[math.inf, 1], [1, 2], [3, 4]]]},
        {"type": "Polygon", "coordinates": [[{}, {}, {}]]},
        {"type": "Polygon", "coordinates": [[[10**400, 1], [1, 2], [3, 4]]]},
    ],
)
def test_objects_that_are_none(value: object) -> None:
    with pytest.raises(OutlineError):
        outlines.of_geojson(value)


@given(
    west=st.floats(-180, 179), south=st.floats(-85, 80), width=st.floats(0.5, 12), height=st.floats(0.5, 4),
    closed=st.booleans(), backwards=st.booleans(), wrapped=st.booleans(),
)  # fmt: skip
def test_boxes_anywhere(
    west: float, south: float, width: float, height: float, closed: bool, backwards: bool, wrapped: bool
) -> None:
    """However it is written, the box comes out, with its middle between -180 and 180 degrees."""
    wanted = shapely.box(west, south, west + width, south + height)
    ring = list(wanted.exterior.coords)
    if wrapped:
        ring = [(x - 360 if x > 180 else x, y) for x, y in ring]
    ring = ring[:: -1 if backwards else 1]
    found = outlines.of_geojson({"type": "Polygon", "coordinates": [[list(p) for p in ring[: None if closed else -1]]]})
    middle = (found.bounds[0] + found.bounds[2]) / 2
    assert -180 - 1e-6 <= middle <= 180 + 1e-6
    assert any(same(translate(found, turn), wanted) for turn in (0, 360))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@given(json_values, json_values)
def test_whatever_comes_is_an_outline_or_a_reason(value: Any, coordinates: Any) -> None:
    cases: list[Any] = [(outlines.of_wkt, value), (outlines.of_geojson, value)]
    cases += [(outlines.of_geojson, {"type": kind, "coordinates": coordinates}) for kind in ("Polygon", "MultiPolygon")]
    for read, given_value in cases:
        try:
            found = read(given_value)
        except OutlineError as error:
            assert str(error)
        else:
            assert found.is_valid
            assert found.area > 0


@given(st.lists(st.lists(st.tuples(st.floats(-360, 360), st.floats(-90, 90)), max_size=8), max_size=3))
def test_whatever_the_rings_are_the_polygon_is_a_valid_one(rings: list[list[tuple[float, float]]]) -> None:
    try:
        found = outlines.of_rings([[list(point) for point in ring] for ring in rings])
    except OutlineError:
        return
    assert found.is_valid
    assert found.area > 0
    assert mapping(found)["type"] == "Polygon"
