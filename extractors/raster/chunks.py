"""One chunk of parcels in all layers of a request."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from extractors.model import Layer, ParcelChunk, StatisticsRequest
from extractors.raster.bands import LARGEST_WINDOW_PIXELS, GridBands, Part
from extractors.raster.images import BandTile
from extractors.signatures import COUNT, ChunkResult, Signatures, rescaled
from extractors.statistics.grid import Integers, Polygons, PolygonsOnGrid
from extractors.statistics.zonal import TOO_LARGE, reasons, verified

# Bounding boxes of a parcel's parts within the scene; at 10 m these are 4,000 square kilometres. A single broken vertex
# can make a parcel as large as the scene, and its pixels would not fit into memory.
LARGEST_PARCEL_PIXELS = 40_000_000


@dataclass(frozen=True)
class ChunkOnGrid:
    """A chunk on one grid: the bands and layers there, its parcels that are not too large, and how many others are."""

    bands: GridBands
    layers: tuple[Layer, ...]
    pid: Integers
    polygons: PolygonsOnGrid
    too_large: int


class ChunkTask:
    """Statistics of a chunk's parcels in every layer: a task for the pool, to be called when `needs` are decoded."""

    def __init__(self, chunk: ParcelChunk, grids: Sequence[GridBands], request: StatisticsRequest) -> None:
        self._chunk = chunk
        self._request = request
        self._pid: Integers = chunk.parcels["pid"].to_numpy()
        polygons = Polygons(chunk.parcels.geometry.to_numpy())
        self.vertices = int(polygons.vertices.sum())
        self._on_grids = [self._on_grid(polygons, bands) for bands in grids]

    @property
    def needs(self) -> list[BandTile]:
        """The tiles that have to be decoded before."""
        return [tile for here in self._on_grids for tile in here.bands.tiles_under(here.polygons)]

    def __call__(self) -> ChunkResult:
        """Compute it: each parcel gives a row in every layer or is counted under a reason."""
        result = ChunkResult(len(self._chunk), self._pid)
        for here in self._on_grids:
            for layer in here.layers:
                without = result.without_row[layer.label] = Counter(self._chunk.unusable)
                without.update([TOO_LARGE] * here.too_large)
            for part in here.bands.parts(here.polygons):
                self._add_part(result, here, part)
        return result

    def _on_grid(self, polygons: Polygons, bands: GridBands) -> ChunkOnGrid:
        names = {band.name for band in bands.bands}
        layers = tuple(layer for layer in self._request.layers if layer.band in names)
        here = polygons.on(bands.grid)
        pixels = here.to_read(min(LARGEST_WINDOW_PIXELS, LARGEST_PARCEL_PIXELS))
        fitting = np.flatnonzero((pixels <= LARGEST_PARCEL_PIXELS) & bands.fit(pixels, polygons.vertices))
        too_large = len(here) - len(fitting)
        if too_large:
            return ChunkOnGrid(bands, layers, self._pid[fitting], here[fitting], too_large)
        return ChunkOnGrid(bands, layers, self._pid, here, 0)

    def _add_part(self, result: ChunkResult, here: ChunkOnGrid, part: Part) -> None:
        """Add what part of the parcels give on one grid."""
        pid, polygons = here.pid[part.chosen], here.polygons[part.chosen]
        if part.polygons is None:
            why = list(reasons(polygons, None, np.zeros(len(polygons))))
            for layer in here.layers:
                result.without_row[layer.label].update(why)
            return
        request, bands = self._request, here.bands.bands
        nodata = bands[0].nodata
        zones, tables, recomputed = verified(request, part.polygons, part.arrays, nodata)
        result.recomputed |= recomputed
        of_band = {each[0].name: each for each in zip(bands, part.arrays, tables, strict=True)}
        # Of each band, how many infinite pixels each parcel has: those are left out.
        infinite = {
            bands[position].name: zones.statistics(mask.astype(np.uint8), 0)[:, COUNT]
            for position, mask in part.infinite.items()
        }
        for layer in here.layers:
            band, array, table = of_band[layer.band]
            counts, left_out = table[:, COUNT], infinite.get(layer.band)
            rows = rescaled(table[counts > 0], band.scale, band.offset + layer.shift, request.statistics)
            result.signatures.append(Signatures(layer.label, pid[counts > 0], rows))
            result.without_row[layer.label].update(reasons(polygons, zones, counts, left_out))
            if left_out is not None:
                result.not_finite[layer.label] += int(left_out.sum())
            if layer.histogram:
                histograms = zip(pid.tolist(), zones.histograms(array, nodata), strict=True)
                result.hists += [(number, histogram) for number, histogram in histograms if histogram]
