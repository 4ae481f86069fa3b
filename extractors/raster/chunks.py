"""One chunk of parcels in all bands of a scene."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from extractors.database.parcels import ParcelChunk
from extractors.database.results import Signatures
from extractors.raster.bands import GridBands
from extractors.raster.images import TileOfBand
from extractors.statistics.zonal import COUNT, TOO_LARGE, Boxes, Grid, Integers, Polygons, reasons, verified

# Bounding box within the scene; at 10 m these are 4,000 square kilometres.
LARGEST_PARCEL_PIXELS = 40_000_000


@dataclass(frozen=True)
class How:
    """How to compute: engine, parcels of each chunk that rasterstats computes as well, label of each band in the
    results, and the band of which histograms are wanted, if any."""

    engine: str
    verified_parcels: int
    labels: Mapping[str, str]
    histograms_of: str | None


@dataclass
class ChunkResult:
    """What a chunk gave. parcels: how many; pid: the numbers of those that could be computed. without_row: by label,
    parcels without a row by reason. hists: parcel and pixels per class."""

    parcels: int
    pid: Integers
    signatures: list[Signatures] = field(default_factory=list)
    without_row: dict[str, Counter[str]] = field(default_factory=dict)
    hists: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    recomputed: bool = False


def needs(chunk: ParcelChunk, grids: Sequence[GridBands]) -> list[TileOfBand]:
    """The tiles that have to be decoded before a chunk can be computed."""
    polygons = chunk.polygons
    return [tile for group in grids for tile in group.tiles_under(polygons[_fitting(polygons, group.grid)])]


def compute(chunk: ParcelChunk, grids: Sequence[GridBands], how: How) -> ChunkResult:
    """Statistics of a chunk's parcels in every band; each parcel gives a row or is counted under a reason."""
    pid, polygons = chunk.parcels["pid"].to_numpy(), chunk.polygons
    result = ChunkResult(len(chunk), pid)
    for group in grids:
        labels = [how.labels[band.name] for band in group.bands]
        for label in labels:
            result.without_row[label] = Counter(chunk.unusable)
        fitting = _fitting(polygons, group.grid)
        for label in labels:
            result.without_row[label].update([TOO_LARGE] * (len(polygons) - len(fitting)))
        if not fitting.size:
            continue
        pid_here, here = (pid, polygons) if len(fitting) == len(polygons) else (pid[fitting], polygons[fitting])
        for part, grid, arrays in group.parts(here):
            if grid is None:  # no pixel of the file is near
                why = list(reasons(here[part], group.grid, None, np.zeros(part.stop - part.start, dtype=np.int64)))
                for label in labels:
                    result.without_row[label].update(why)
                continue
            nodata = group.bands[0].nodata
            zones, tables, recomputed = verified(how.engine, here[part], grid, arrays, nodata, how.verified_parcels)
            result.recomputed |= recomputed
            for band, label, array, table in zip(group.bands, labels, arrays, tables, strict=True):
                counts = table[:, COUNT].astype(np.int64)
                result.signatures.append(Signatures(label, pid_here[part][counts > 0], table[counts > 0]))
                result.without_row[label].update(reasons(here[part], grid, zones, counts))
                if band.name == how.histograms_of:
                    hists = zones.histograms(array, nodata)
                    result.hists += [(int(p), hist) for p, hist in zip(pid_here[part], hists, strict=True) if hist]
    return result


def _fitting(polygons: Polygons, grid: Grid) -> Integers:
    """Which geometries are not too large: a single broken vertex can make a parcel as large as the scene, and its
    pixels would not fit into memory."""
    boxes = Boxes.of(polygons, grid)
    rows = np.clip(boxes.bottom, 0, grid.shape[0]) - np.clip(boxes.top, 0, grid.shape[0])
    columns = np.clip(boxes.right, 0, grid.shape[1]) - np.clip(boxes.left, 0, grid.shape[1])
    return np.flatnonzero(rows * columns <= LARGEST_PARCEL_PIXELS)
