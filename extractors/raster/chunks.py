"""One chunk of parcels in all layers of a request."""

from collections.abc import Mapping, Sequence
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
    """A chunk on one grid: the bands and layers there, its parcels that are not too large, and the numbers of
    those that are."""

    bands: GridBands
    layers: tuple[Layer, ...]
    pid: Integers
    polygons: PolygonsOnGrid
    too_large: Integers


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
        """Compute it: each parcel gives a row in every layer or stands under a reason."""
        result = ChunkResult(len(self._chunk), self._pid)
        for here in self._on_grids:
            for layer in here.layers:
                _add(result.without_row, layer.label, self._chunk.unusable)
                _add(result.without_row, layer.label, {TOO_LARGE: here.too_large})
            for part in here.bands.parts(here.polygons):
                self._add_part(result, here, part)
        return result

    def _on_grid(self, polygons: Polygons, bands: GridBands) -> ChunkOnGrid:
        names = {band.name for band in bands.bands}
        layers = tuple(layer for layer in self._request.layers if layer.band in names)
        here = polygons.on(bands.grid, self._request.pixel_rule)
        pixels = here.to_read(min(LARGEST_WINDOW_PIXELS, LARGEST_PARCEL_PIXELS))
        most = LARGEST_PARCEL_PIXELS if here.divisible else LARGEST_WINDOW_PIXELS
        fits = (pixels <= most) & bands.fit(pixels, polygons.vertices) & here.usable
        # With what is computed of them already, if they are all.
        fitting = here if fits.all() else here[np.flatnonzero(fits)]
        return ChunkOnGrid(bands, layers, self._pid[fits], fitting, self._pid[~fits])

    def _add_part(self, result: ChunkResult, here: ChunkOnGrid, part: Part) -> None:
        """Add what part of the parcels give on one grid."""
        pid, polygons = here.pid[part.chosen], here.polygons[part.chosen]
        if part.polygons is None:
            why = _numbers(pid, reasons(polygons, None, np.zeros(len(polygons))))
            for layer in here.layers:
                _add(result.without_row, layer.label, why)
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
            _add(result.without_row, layer.label, _numbers(pid, reasons(polygons, zones, counts, left_out)))
            if left_out is not None:
                result.not_finite[layer.label] += int(left_out.sum())
            if layer.histogram:
                histograms = zip(pid.tolist(), zones.histograms(array, nodata), strict=True)
                result.hists += [(number, histogram) for number, histogram in histograms if histogram]


def _numbers(pid: Integers, positions: Mapping[str, Integers]) -> dict[str, Integers]:
    """Numbers of parcels, by reason, for their positions."""
    return {reason: pid[chosen] for reason, chosen in positions.items()}


def _add(without_row: dict[str, dict[str, Integers]], label: str, numbers: Mapping[str, Integers]) -> None:
    """Add the numbers of parcels without a row to those of the label, by reason."""
    known = without_row.setdefault(label, {})
    for reason, more in numbers.items():
        if len(more):
            known[reason] = np.concatenate([known[reason], more]) if reason in known else more
