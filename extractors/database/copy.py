"""What the rows of PostgreSQL's COPY hold: parcels on their way in, signatures and histograms on their way out.

Heavy to import (NumPy, GeoPandas): nothing else in this wing needs it.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from functools import cache

import geopandas
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from extractors.database.outputs import CLEAR_RESULTS, GAPS, HISTS, RESULTS, WHOLE
from extractors.database.parcels import PID_AT, PROBLEM_AT, TOO_MANY_VERTICES, WITHOUT_ID, WKB_AT
from extractors.database.results import BINARY_TYPES, ResultsTable, Rows
from extractors.database.schema import Table
from extractors.errors import ConfigurationError
from extractors.model import ParcelChunk
from extractors.signatures import ChunkResult, Signatures

NOT_POLYGON = "not_polygon"
BROKEN_GEOMETRY = "broken_geometry"
NO_ID = "no_id"
TOO_LARGE = "too_large"
# Reasons that the table of gaps leaves out.
UNTOLD = {"outside", NO_ID}
# Why PostGIS has no shape or no number for a parcel: the numbers that `parcels.stream` gives.
WITHOUT_AREA = 1
PROBLEMS = {WITHOUT_AREA: NOT_POLYGON, WITHOUT_ID: NO_ID, TOO_MANY_VERTICES: TOO_LARGE}
# Points, lines and collections of all kinds, as shapely numbers them.
OTHER_TYPES = (0, 1, 2, 4, 5, 7)
# Nothing on Earth has such coordinates, in degrees or metres.
FARTHEST = 1e9


def parcel_chunk(rows: list[bytes], srid: int) -> ParcelChunk:
    """Parcels as `Parcels.select` gives them, in the CRS of this number; the numbers of those that cannot be
    used are given by reason."""
    fixed = np.frombuffer(b"".join([row[:WKB_AT] for row in rows]), dtype="u1").reshape(len(rows), WKB_AT)
    pid = np.ascontiguousarray(fixed[:, PID_AT : PID_AT + 8]).view(">i8")[:, 0].astype(np.int64)
    problem = np.ascontiguousarray(fixed[:, PROBLEM_AT : PROBLEM_AT + 2]).view(">i2")[:, 0].copy()
    geometry = _decoded([row[WKB_AT:] or None for row in rows])
    # The selection gives polygons only, but what a database says is not believed.
    others = np.isin(shapely.get_type_id(geometry), OTHER_TYPES)
    geometry[others] = None
    problem[others & (problem == 0)] = WITHOUT_AREA
    geometry = _without_empty_parts(geometry)
    usable = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
    coordinates, owner = shapely.get_coordinates(geometry, return_index=True)
    usable[owner[~(np.abs(coordinates) < FARTHEST).all(axis=1)]] = False
    usable &= problem == 0
    why = np.array([PROBLEMS.get(number, BROKEN_GEOMETRY) for number in problem[~usable].tolist()], dtype=object)
    unusable = {reason: pid[~usable][why == reason] for reason in sorted(set(why))}
    parcels = geopandas.GeoDataFrame({"pid": pid[usable]}, geometry=geometry[usable], crs=_crs(srid))
    return ParcelChunk(parcels, unusable)


def _decoded(shapes: list[bytes | None]) -> NDArray[np.object_]:
    """Geometries; None for what is none: a ring of two points, say, or a curve."""
    with np.errstate(invalid="ignore"):  # corners that are no numbers: counted later
        try:
            return shapely.from_wkb(np.array(shapes, dtype=object), on_invalid="ignore")
        except NotImplementedError:
            if len(shapes) == 1:
                return np.array([None], dtype=object)
            return np.concatenate([_decoded([shape]) for shape in shapes])


def _without_empty_parts(geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """Multipolygons without their empty parts, of which libraries think differently. Few have any."""
    parts, owner = shapely.get_parts(geometry, return_index=True)
    for position in np.unique(owner[shapely.is_empty(parts)]):
        geometry[position] = shapely.MultiPolygon([part for part in parts[owner == position] if not part.is_empty])
    return geometry


def add_result(rows: Rows, tables: Mapping[str, Table], obsid: int, result: ChunkResult) -> None:
    """Add what a chunk of parcels gave to the rows of its scene, for each of these tables of results."""
    for name, parts in ((RESULTS, result.signatures), (CLEAR_RESULTS, result.clear)):
        if name in tables:
            encoded = encode_signatures(ResultsTable(tables[name]), obsid, *parts)
            rows.of[name].add(encoded, sum(len(part.pid) for part in parts))
    if HISTS in tables:
        rows.of[HISTS].add(encode_hists(obsid, result.hists), len(result.hists))
    if GAPS in tables:
        gaps = gaps_of(result)
        rows.of[GAPS].add(encode_gaps(obsid, gaps), len(gaps))


def gaps_of(result: ChunkResult) -> list[tuple[int, str, str]]:
    """Why parcels of a chunk have no row in the results table: number, reason, and the labels of the bands concerned.
    Nothing is said of parcels outside the image, nor of those without a number."""
    labels: dict[tuple[int, str], list[str]] = {}
    for label, by_reason in result.without_row.items():
        for reason, pids in by_reason.items():
            if reason not in UNTOLD:
                for pid in pids.tolist():
                    labels.setdefault((pid, reason), []).append(label)
    return [(pid, reason, ",".join(bands)) for (pid, reason), bands in sorted(labels.items())]


def encode_signatures(table: ResultsTable, obsid: int, *parts: Signatures) -> bytes:
    """A scene's rows in the form in which the table takes them, those of a parcel one after the other: whoever reads
    its series then finds them on one page. Raises ConfigurationError for a number that its column cannot hold."""
    parts = tuple(part for part in parts if len(part.pid))
    if not parts:
        return b""
    order = np.argsort(np.concatenate([part.pid for part in parts]), kind="stable")
    if not table.is_binary:
        lines = [line for part in parts for line in _csv(table, obsid, part)]
        return "".join([lines[place] for place in order.tolist()]).encode()
    rows = [_binary(table, obsid, part) for part in parts]
    longest = max(part.shape[1] for part in rows)
    used = np.concatenate([np.full(len(part), part.shape[1]) for part in rows])[order]
    # Labels may differ in length, and so rows: all get the longest one's first, and lose what they do not fill.
    padded = np.concatenate([np.pad(part, ((0, 0), (0, longest - part.shape[1]))) for part in rows])[order]
    return (padded if used.min() == longest else padded[np.arange(longest) < used[:, None]]).tobytes()


def encode_hists(obsid: int, hists: Iterable[tuple[int, dict[str, int]]]) -> bytes:
    """A scene's class histograms (parcel, pixels per class) in the form in which their table takes them."""
    text = io.StringIO()
    csv.writer(text).writerows((pid, obsid, json.dumps(hist)) for pid, hist in hists)
    return text.getvalue().encode()


def encode_gaps(obsid: int, gaps: Iterable[tuple[int, str, str]]) -> bytes:
    """Why a scene's parcels have no row (parcel, reason, bands), in the form in which the table takes that."""
    text = io.StringIO()
    csv.writer(text).writerows((pid, obsid, reason, bands) for pid, reason, bands in gaps)
    return text.getvalue().encode()


def _binary(table: ResultsTable, obsid: int, part: Signatures) -> NDArray[np.uint8]:
    """The bytes of each row."""
    columns, label = table.table.columns, part.label.encode()
    kinds = {
        name: f"S{len(label)}" if name == "band" else BINARY_TYPES[column.type] for name, column in columns.items()
    }
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for name, kind in kinds.items():
        layout += [(f"size of {name}", ">i4"), (name, kind)]
    rows = np.zeros(len(part.pid), dtype=layout)
    rows["fields"] = len(kinds)
    for name, kind in kinds.items():
        rows[f"size of {name}"] = np.dtype(kind).itemsize
    values = {"pid": part.pid, "obsid": np.array([obsid])} | dict(zip(table.statistics, part.table.T, strict=True))
    for name, value in values.items():
        dtype = np.dtype(kinds[name])
        if dtype.kind == "i" and value.size and value.max() > np.iinfo(dtype).max:
            raise ConfigurationError(
                f"column {columns[name].name} of table {table.table} is too narrow for {value.max():.0f}; ALTER it to "
                "a wider type"
            )
        rows[name] = value
    rows["band"] = label
    return rows.view("u1").reshape(len(rows), -1)


def _csv(table: ResultsTable, obsid: int, part: Signatures) -> list[str]:
    """The line of each row."""
    text = io.StringIO()
    values = {"pid": part.pid.tolist(), "obsid": [obsid] * len(part.pid), "band": [part.label] * len(part.pid)}
    values |= dict(zip(table.statistics, part.table.T.tolist(), strict=True))
    for name in WHOLE & values.keys():
        values[name] = [int(number) if number.is_integer() else number for number in values[name]]
    csv.writer(text).writerows(zip(*(values[name] for name in table.table.columns), strict=True))
    return text.getvalue().splitlines(keepends=True)


@cache
def _crs(srid: int) -> pyproj.CRS:
    """The CRS of this number: EPSG's, or else ESRI's."""
    try:
        return pyproj.CRS.from_epsg(srid)
    except pyproj.exceptions.CRSError:
        return pyproj.CRS.from_authority("ESRI", srid)
