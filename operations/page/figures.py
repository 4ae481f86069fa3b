"""Pictures that need no script: bars, columns, maps, as HTML and SVG."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from operations.overview import Map, Pace

# From few to many; each differs from its neighbours in lightness, so that they can be told apart without colour.
SHADES = ("#d7e8f2", "#a5cbe3", "#6aa9d0", "#2f7fb3", "#0b4f7d")
WIDE, HIGH = 640, 120
# Of a map's longer side.
SIDE = 320


def bar(numbers: Sequence[int], colours: Iterable[str]) -> str:
    """Numbers as parts of a whole."""
    parts = "".join(
        f'<i style="flex:{number};background:{colour}"></i>'
        for number, colour in zip(numbers, colours, strict=True)
        if number
    )
    return f'<span class="bar">{parts}</span>'


def columns(paces: Sequence[Pace], unit: str) -> str:
    """Scenes done, over time."""
    first, last = paces[0].moment, paces[-1].moment
    seconds = {"hour": 3600, "day": 86400, "week": 7 * 86400}[unit]
    places = int((last - first).total_seconds() // seconds) + 1
    most = max(pace.scenes for pace in paces)
    width = min(WIDE / places, 40.0)
    written = "%Y-%m-%d %H:%M" if unit == "hour" else "%Y-%m-%d"
    parts = []
    for pace in paces:
        place = (pace.moment - first).total_seconds() // seconds
        height = max(HIGH * pace.scenes / most, 1.0)
        said = f"{pace.moment:{written}}: {pace.scenes:,} scenes, {pace.rows:,} rows, {pace.seconds:,.0f} s each, "
        said += f"{pace.workers:,} workers"
        parts.append(
            f'<rect x="{place * width:.1f}" y="{14 + HIGH - height:.1f}" width="{max(width - 1, 0.8):.1f}" '
            f'height="{height:.1f}" fill="#0072b2"><title>{said}</title></rect>'
        )
    end = "" if places == 1 else f'<text x="{WIDE}" y="{HIGH + 30}" text-anchor="end">{last:{written}}</text>'
    return (
        f'<svg viewBox="0 0 {WIDE} {HIGH + 34}" width="{WIDE}" role="img" aria-label="scenes done by {unit}">'
        f'<text x="0" y="10">{most:,}</text>{"".join(parts)}'
        f'<text x="0" y="{HIGH + 30}">{first:{written}}</text>{end}</svg>'
    )


def map_of(grid: Map, values: Mapping[tuple[int, int], int]) -> str:
    """A map of the area, in which each cell is the darker the larger its value is, with a legend."""
    cell = SIDE / max(grid.columns, grid.rows)
    wide, high = grid.columns * cell, grid.rows * cell
    least, most = min(values.values()), max(values.values())
    span = max(most - least + 1, len(SHADES))
    # With which number each shade begins.
    edges = [least + math.ceil(place * span / len(SHADES)) for place in range(len(SHADES))]
    parts = []
    for x, y in grid.cells:
        number = values.get((x, y), 0)
        shade = f'fill="{SHADES[bisect_right(edges, number) - 1]}"' if number else 'class="none"'
        parts.append(
            f'<rect x="{x * cell:.1f}" y="{high - (y + 1) * cell:.1f}" width="{cell:.2f}" height="{cell:.2f}" {shade}>'
            f"<title>{number}</title></rect>"
        )
    scale_x, scale_y = cell / grid.width, cell / grid.height
    path = "".join(
        "M"
        + "L".join(f"{(x - grid.west) * scale_x:.1f} {high - (y - grid.south) * scale_y:.1f}" for x, y, *_ in ring)
        + "Z"
        for ring in _rings(grid.outline)
    )
    legend, left = [], 0
    for shade, start, after in zip(SHADES, edges, [*edges[1:], most + 1], strict=True):
        if start > most:
            break
        end = after - 1
        said = f"{start}" if start == end else f"{start} to {end}"
        legend.append(f'<rect x="{left}" y="{high + 10:.0f}" width="10" height="10" fill="{shade}"/>')
        legend.append(f'<text x="{left + 14}" y="{high + 19:.0f}">{said}</text>')
        left += 66
    return (
        f'<svg viewBox="-2 -2 {max(wide, SIDE) + 4:.0f} {high + 26:.0f}" width="{max(wide, SIDE) + 4:.0f}" role="img" '
        f'aria-label="map of days with an observation">{"".join(parts)}<path class="outline" d="{path}"/>'
        f"{''.join(legend)}</svg>"
    )


def _rings(geometry: Mapping[str, Any]) -> Iterator[Sequence[Sequence[float]]]:
    """All rings of a polygon, or of several, in GeoJSON."""
    for part in geometry.get("geometries", ()):
        yield from _rings(part)
    if geometry.get("type") == "Polygon":
        yield from geometry["coordinates"]
    elif geometry.get("type") == "MultiPolygon":
        for polygon in geometry["coordinates"]:
            yield from polygon
