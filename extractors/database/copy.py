"""What the rows of PostgreSQL's COPY hold: parcels on their way in, signatures and histograms on their way out.

Heavy to import (NumPy, GeoPandas): nothing else in this wing needs it.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

import geopandas
import numpy as np
import pyproj
import shapely

from extractors.database.parcels import PID_AT, PROBLEM_AT, WITHOUT_ID, WKB_AT
from extractors.database.results import BINARY_TYPES, ResultsTable, Rows
from extractors.errors import ConfigurationError
from extractors.model import ParcelChunk
from extractors.signatures import NAMES, ChunkResult, Signatures

NOT_POLYGON = "not_polygon"
BROKEN_GEOMETRY = "broken_geometry"
NO_ID = "no_id"
# Why PostGIS has no shape or no number for a parcel: the numbers that `parcels.stream` gives.
PROBLEMS = {1: NOT_POLYGON, WITHOUT_ID: NO_ID}
# Nothing on Earth has such coordinates, in degrees or metres.
FARTHEST = 1e9


def parcel_chunk(rows: list[bytes], epsg: int) -> ParcelChunk:
    """Parcels as `Parcels.select` gives them, in EPSG:`epsg`; those that cannot be used are counted by reason."""
    fixed = np.frombuffer(b"".join([row[:WKB_AT] for row in rows]), dtype="u1").reshape(len(rows), WKB_AT)
    pid = np.ascontiguousarray(fixed[:, PID_AT : PID_AT + 8]).view(">i8")[:, 0].astype(np.int64)
    problem = np.ascontiguousarray(fixed[:, PROBLEM_AT : PROBLEM_AT + 2]).view(">i2")[:, 0]
    # A ring of two points, say, cannot become a polygon: None then, and counted below.
    with np.errstate(invalid="ignore"):  # corners that are no numbers: counted below
        geometry = shapely.from_wkb(np.array([row[WKB_AT:] or None for row in rows], dtype=object), on_invalid="ignore")
    usable = ~(shapely.is_missing(geometry) | shapely.is_empty(geometry))
    coordinates, owner = shapely.get_coordinates(geometry, return_index=True)
    usable[owner[~(np.abs(coordinates) < FARTHEST).all(axis=1)]] = False
    usable &= problem == 0
    unusable = Counter(PROBLEMS.get(number, BROKEN_GEOMETRY) for number in problem[~usable].tolist())
    parcels = geopandas.GeoDataFrame({"pid": pid[usable]}, geometry=geometry[usable], crs=_crs(epsg))
    return ParcelChunk(parcels, dict(sorted(unusable.items())))


def add_result(rows: Rows, table: ResultsTable, obsid: int, result: ChunkResult) -> None:
    """Add what a chunk of parcels gave to the rows of its scene; `table` is the one for signatures."""
    if result.signatures:
        rows.signatures.add(*encode_signatures(table, obsid, result.signatures))
    rows.hists.add(encode_hists(obsid, result.hists), len(result.hists))


def encode_signatures(table: ResultsTable, obsid: int, parts: Sequence[Signatures]) -> tuple[bytes, int]:
    """A scene's rows for some parcels in the form in which the table takes them, and their number. Raises
    ConfigurationError for a number that its column cannot hold.

    They are in the order of the parcels, not of the bands: a parcel's series is read from as few pages as can be.
    """
    encode = _binary if table.is_binary else _csv
    rows = [row for part in parts for row in encode(table, obsid, part)]
    order = np.argsort(np.concatenate([part.pid for part in parts]), kind="stable")
    return b"".join([rows[index] for index in order.tolist()]), len(rows)


def encode_hists(obsid: int, hists: Iterable[tuple[int, dict[str, int]]]) -> bytes:
    """A scene's class histograms (parcel, pixels per class) in the form in which their table takes them."""
    text = io.StringIO()
    csv.writer(text).writerows((pid, obsid, json.dumps(hist)) for pid, hist in hists)
    return text.getvalue().encode()


def _binary(table: ResultsTable, obsid: int, part: Signatures) -> list[bytes]:
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
    values = {"pid": part.pid, "obsid": np.array([obsid])} | dict(zip(NAMES, part.table.T, strict=True))
    for name, value in values.items():
        dtype = np.dtype(kinds[name])
        if dtype.kind == "i" and value.size and value.max() > np.iinfo(dtype).max:
            raise ConfigurationError(
                f"column {columns[name].name} of table {table.table} is too narrow for {value.max():.0f}; ALTER it to "
                "a wider type"
            )
        rows[name] = value
    rows["band"] = label
    whole: list[bytes] = rows.view(f"V{rows.itemsize}").tolist()
    return whole


def _csv(table: ResultsTable, obsid: int, part: Signatures) -> list[bytes]:
    text = io.StringIO()
    values = {"pid": part.pid.tolist(), "obsid": [obsid] * len(part.pid), "band": [part.label] * len(part.pid)}
    values |= dict(zip(NAMES, part.table.T.tolist(), strict=True))
    values["count"] = [int(count) for count in values["count"]]
    csv.writer(text).writerows(zip(*(values[name] for name in table.table.columns), strict=True))
    return text.getvalue().encode().splitlines(keepends=True)


@cache
def _crs(epsg: int) -> pyproj.CRS:
    return pyproj.CRS.from_epsg(epsg)
