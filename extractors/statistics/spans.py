"""Which pixels lie in which polygons: as runs of pixels, of many polygons at once, with numpy alone.

A polygon's pixels are found as GDAL finds them: along the centre line of every pixel row, the crossings with the
polygon's edges are sorted and filled in pairs, each crossing rounded to the next pixel edge. This is done for all
polygons of a chunk together, as arrays of edges and crossings. Every polygon has its own list of pixels, so overlaps,
repetitions and islands need no special care, and one list serves all bands on the same grid.

The arithmetic follows, operation by operation, what `rasterstats` has GDAL do (pixel coordinates relative to the
polygon's own bounding box), so the pixels are the same even where an edge passes within a rounding error of a centre.
Only polygons with an edge exactly on a centre line are left to GDAL itself, which treats upper and lower edges
differently there; and all of them, one by one, where every pixel counts that a polygon touches.
"""

from dataclasses import dataclass

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray

from extractors.signatures import ALL_TOUCHED
from extractors.statistics.grid import Floats, Integers, Polygons, PolygonsOnGrid

# Crossings of edges and centre lines that are worked through at once; some 100 bytes each.
BATCH_CROSSINGS = 500_000
# A polygon that is left to GDAL gets an array of its whole bounding box up to this size, else of the part on the grid.
LARGEST_BOX_PIXELS = 16_000_000


@dataclass(frozen=True)
class Spans:
    """Runs of pixels, sorted by zone: pixels first..first+length-1 of a flattened rows x columns array belong to
    zone. No pixel comes twice in a zone. zones: how many there are."""

    zone: Integers
    first: Integers
    length: Integers
    zones: int

    @classmethod
    def joined(cls, several: "list[Spans]", zones: int) -> "Spans":
        """All of these, in their order."""
        zone, first, length = (
            np.concatenate([getattr(spans, name) for spans in several]) for name in ("zone", "first", "length")
        )
        return cls(zone, first, length, zones)

    def sorted(self) -> "Spans":
        """The same by zone, and within zones by position."""
        order = np.lexsort((self.first, self.zone))
        return Spans(self.zone[order], self.first[order], self.length[order], self.zones)


def rasterize(polygons: PolygonsOnGrid, only: slice | None = None) -> Spans:
    """The pixels of each polygon: those whose centre lies inside it, or that it touches, as its rule says, cut to the
    grid. only: those in these rows."""
    only = only or slice(0, polygons.grid.shape[0])
    if polygons.rule == ALL_TOUCHED:
        everyone = np.arange(len(polygons))
        by_gdal = [_by_gdal(polygons[index : index + 1], only) for index in everyone]
        return _replaced(_nothing(len(polygons)), everyone, by_gdal)
    edges = _edges(polygons, only)
    spans = _cut(polygons, edges, only)
    # Overlapping parts of one parcel would repeat pixels.
    spans = _each_pixel_once(spans, np.bincount(polygons.polygons.outlines.zone_of_part, minlength=len(polygons)) > 1)
    if edges.left_to_gdal.size:
        by_gdal = [_by_gdal(polygons[index : index + 1], only) for index in edges.left_to_gdal]
        spans = _replaced(spans, edges.left_to_gdal, by_gdal)
    return spans


@dataclass(frozen=True)
class _Edges:
    """Edges in pixels from the corner of their zone's box, from their upper to their lower end. first, crossings: the
    first row of the box, and how many, whose centre lines each one crosses. left_to_gdal: zones with an edge exactly on
    a centre line."""

    top: Floats
    top_x: Floats
    height: Floats
    width: Floats
    first: Floats
    crossings: Integers
    left_to_gdal: Integers


def _edges(polygons: PolygonsOnGrid, only: slice) -> _Edges:
    """The edges of polygons, and their crossings within the zone's box, the raster, and some rows of it."""
    boxes, outlines, transform = polygons.boxes, polygons.polygons.outlines, polygons.grid.transform
    start, zone = outlines.edge, outlines.zone_of_edge
    end = start + 1
    # Divisions and products as in GDAL's inverse transform.
    x = (-(transform.c + boxes.left * transform.a) / transform.a)[outlines.zone_of_vertex]
    x += outlines.coordinates[:, 0] * (1 / transform.a)
    y = (-(transform.f + boxes.top * transform.e) / transform.e)[outlines.zone_of_vertex]
    y += outlines.coordinates[:, 1] * (1 / transform.e)

    y_start, y_end = y[start], y[end]
    on_centre_line = (y_start == y_end) & (y_start - np.floor(y_start) == 0.5)
    downwards = y_start < y_end
    top, bottom = np.where(downwards, y_start, y_end), np.where(downwards, y_end, y_start)
    top_x, bottom_x = np.where(downwards, x[start], x[end]), np.where(downwards, x[end], x[start])
    # Centre lines that an edge crosses: top <= line < bottom.
    offset = boxes.top[zone]
    first = np.maximum(np.ceil(top - 0.5), np.maximum(0, only.start - offset))
    last = np.minimum(np.ceil(bottom - 0.5), np.minimum(boxes.bottom, only.stop)[zone] - offset)
    crossings = np.maximum(last - first, 0).astype(np.int64)
    return _Edges(top, top_x, bottom - top, bottom_x - top_x, first, crossings, np.unique(zone[on_centre_line]))


def _cut(polygons: PolygonsOnGrid, edges: _Edges, only: slice) -> Spans:
    """The runs of pixels between the edges of each part. In batches of rows: an outline can have any number of
    crossings."""
    number = int(edges.crossings.sum())
    if number <= BATCH_CROSSINGS:
        return _between(polygons, edges, np.arange(len(edges.crossings)), edges.first, edges.crossings)
    crossing = np.flatnonzero(edges.crossings)
    first = edges.first[crossing]
    begin = (first + polygons.boxes.top[polygons.polygons.outlines.zone_of_edge[crossing]]).astype(np.int64)
    end = begin + edges.crossings[crossing]
    # How many crossings there are in all rows before each one.
    rows = only.stop - only.start
    changes = np.bincount(begin - only.start, minlength=rows + 1) - np.bincount(end - only.start, minlength=rows + 1)
    before = np.append(0, np.cumsum(np.cumsum(changes)[:-1]))
    row, batches = 0, []
    while row < rows:
        until = max(row + 1, int(np.searchsorted(before, before[row] + BATCH_CROSSINGS, side="right")) - 1)
        top, bottom = only.start + row, only.start + until
        here = np.flatnonzero((begin < bottom) & (end > top))
        later = np.maximum(top - begin[here], 0)
        count = np.minimum(end[here], bottom) - begin[here] - later
        batches.append(_between(polygons, edges, crossing[here], first[here] + later, count))
        row = until
    return Spans.joined(batches, len(polygons)).sorted()


def _between(polygons: PolygonsOnGrid, edges: _Edges, chosen: Integers, first: Floats, count: Integers) -> Spans:
    """The runs of pixels between some edges in some rows: from `first` on, `count` rows, one number for each edge."""
    boxes, within, outlines = polygons.boxes, polygons.boxes_within, polygons.polygons.outlines
    rows, columns = polygons.grid.shape
    edge = np.repeat(chosen, count)
    row = _counting(count) + np.repeat(first, count)
    zone = outlines.zone_of_edge[edge]
    crossing = (row + 0.5 - edges.top[edge]) * edges.width[edge] / edges.height[edge] + edges.top_x[edge]
    column = np.clip(np.floor(crossing + 0.5) + boxes.left[zone], within.left[zone], within.right[zone])

    # Sorted by part, row and column (as one number), each two crossings in turn are the ends of a run.
    key = (outlines.part_of_edge[edge] * rows + (row + boxes.top[zone]).astype(np.int64)) * (columns + 1)
    key += column.astype(np.int64)
    key.sort()
    line, first_column = np.divmod(key[0::2], columns + 1)
    length = key[1::2] - key[0::2]
    filled = length > 0
    line, first_column, length = line[filled], first_column[filled], length[filled]
    part_of_line, row_of_line = np.divmod(line, rows)
    return Spans(outlines.zone_of_part[part_of_line], row_of_line * columns + first_column, length, len(polygons))


def _counting(lengths: Integers) -> Integers:
    """0, 1, 2, ... anew for each length: [2, 3] gives [0, 1, 0, 1, 2]."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - lengths, lengths)


def _each_pixel_once(spans: Spans, suspects: NDArray[np.bool_]) -> Spans:
    """Spans without repeated pixels, where only zones among the suspects can have some."""
    suspect = suspects[spans.zone]
    if not suspect.any():
        return spans
    some = Spans(spans.zone[suspect], spans.first[suspect], spans.length[suspect], spans.zones).sorted()
    # Positions that grow from zone to zone; what begins before the farthest end so far repeats pixels.
    begin = some.zone * int((some.first + some.length).max()) + some.first
    farthest = np.maximum.accumulate(begin + some.length)
    new = np.append(True, begin[1:] >= farthest[:-1])
    if new.all():
        return spans
    starts = np.flatnonzero(new)
    length = np.append(farthest[starts[1:] - 1], farthest[-1]) - begin[starts]
    once = Spans(some.zone[starts], some.first[starts], length, spans.zones)
    others = Spans(spans.zone[~suspect], spans.first[~suspect], spans.length[~suspect], spans.zones)
    return Spans.joined([others, once], spans.zones).sorted()


def _by_gdal(polygon: PolygonsOnGrid, only: slice) -> Spans:
    """One polygon's pixels in some rows as GDAL rasterises them, as spans of the flattened raster."""
    columns = polygon.grid.shape[1]
    box = polygon.boxes if polygon.boxes.areas[0] <= LARGEST_BOX_PIXELS else polygon.boxes_within
    if box.areas[0] > LARGEST_BOX_PIXELS and shapely.get_num_geometries(polygon.polygons.geometries[0]) > 1:
        parts = Polygons(shapely.get_parts(polygon.polygons.geometries)).on(polygon.grid, polygon.rule)
        found = [_by_gdal(parts[number : number + 1], only) for number in range(len(parts))]
        return _each_pixel_once(Spans.joined(found, 1), np.array([True]))
    if box.areas[0] == 0:
        return _nothing(1)
    top, bottom, left, right = (int(side[0]) for side in (box.top, box.bottom, box.left, box.right))
    mask = rasterio.features.rasterize(
        [(polygon.polygons.geometries[0], 1)],
        out_shape=(bottom - top, right - left),
        transform=polygon.grid.cut(slice(top, bottom), slice(left, right)).transform,
        fill=0,
        dtype="uint8",
        all_touched=polygon.rule == ALL_TOUCHED,
    )
    first_row, first_column = max(top, only.start), max(left, 0)
    last_row, last_column = max(first_row, min(bottom, only.stop)), max(first_column, min(right, columns))
    inside = mask[first_row - top : last_row - top, first_column - left : last_column - left]
    # Where runs begin and end, with a column without pixels on either side.
    changes = np.diff(np.pad(inside, ((0, 0), (1, 1))).reshape(-1).view("i1"))
    begin, end = np.flatnonzero(changes == 1) + 1, np.flatnonzero(changes == -1) + 1
    row, column = np.divmod(begin, inside.shape[1] + 2)
    return Spans(np.zeros_like(begin), (row + first_row) * columns + column - 1 + first_column, end - begin, 1)


def _nothing(zones: int) -> Spans:
    """Zones without pixels."""
    none = np.empty(0, dtype=np.int64)
    return Spans(none, none, none, zones)


def _replaced(spans: Spans, zones: Integers, by: list[Spans]) -> Spans:
    """Spans in which some zones have just the pixels of these."""
    kept = ~np.isin(spans.zone, zones)
    zone = np.repeat(zones, [len(others.zone) for others in by])
    others = Spans.joined(by, 1)
    return Spans(
        np.concatenate([spans.zone[kept], zone]),
        np.concatenate([spans.first[kept], others.first]),
        np.concatenate([spans.length[kept], others.length]),
        spans.zones,
    ).sorted()
