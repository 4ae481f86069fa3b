"""One chunk of parcels in all layers of a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from extractors.indices import CLASSES
from extractors.model import Layer, ParcelChunk, StatisticsRequest
from extractors.raster.grids import LARGEST_WINDOW_PIXELS, Part
from extractors.raster.images import BandTile
from extractors.raster.plan import GridLayers
from extractors.signatures import COUNT, ChunkResult, Signatures, rescaled
from extractors.statistics.grid import Floats, Integers, Polygons, PolygonsOnGrid
from extractors.statistics.pixels import Input, Made, Marks, Pixels, Stored
from extractors.statistics.zonal import NOT_CLEAR, TOO_LARGE, Question, reasons, verified

# Bounding boxes of a parcel's parts within the scene; at 10 m these are 4,000 square kilometres. A single broken vertex
# can make a parcel as large as the scene, and its pixels would not fit into memory.
LARGEST_PARCEL_PIXELS = 40_000_000


@dataclass(frozen=True)
class ChunkOnGrid(GridLayers):
    """A chunk on one grid: the bands and layers there, its parcels that are not too large, and the numbers of
    those that are."""

    pid: Integers
    polygons: PolygonsOnGrid
    too_large: Integers


class ChunkTask:
    """Statistics of a chunk's parcels in every layer: a task for the pool, to be called when `needs` are decoded."""

    def __init__(self, chunk: ParcelChunk, grids: Sequence[GridLayers], request: StatisticsRequest) -> None:
        self._chunk = chunk
        self._request = request
        self._pid: Integers = chunk.parcels["pid"].to_numpy()
        polygons = Polygons(chunk.parcels.geometry.to_numpy())
        self.vertices = int(polygons.vertices.sum())
        self._on_grids = [self._on_grid(polygons, grid) for grid in grids]

    @property
    def needs(self) -> list[BandTile]:
        """The tiles that have to be decoded before."""
        return [tile for here in self._on_grids for tile in here.bands.tiles_under(here.polygons)]

    def __call__(self) -> ChunkResult:
        """Compute it: each parcel gives a row in every layer or stands under a reason."""
        result = ChunkResult(len(self._chunk), self._pid)
        for here in self._on_grids:
            self._without_row(result, here, self._chunk.unusable)
            self._without_row(result, here, {TOO_LARGE: here.too_large})
            for part in here.bands.parts(here.polygons):
                self._add_part(result, here, part)
        return result

    def _on_grid(self, polygons: Polygons, grid: GridLayers) -> ChunkOnGrid:
        here = polygons.on(grid.bands.grid, self._request.pixel_rule)
        pixels = here.to_read(min(LARGEST_WINDOW_PIXELS, LARGEST_PARCEL_PIXELS))
        most = LARGEST_PARCEL_PIXELS if here.divisible else LARGEST_WINDOW_PIXELS
        fits = (pixels <= most) & grid.bands.fit(pixels, polygons.vertices) & here.usable
        # With what is computed of them already, if they are all.
        fitting = here if fits.all() else here[np.flatnonzero(fits)]
        return ChunkOnGrid(grid.bands, grid.layers, self._pid[fits], fitting, self._pid[~fits])

    def _without_row(self, result: ChunkResult, here: GridLayers, numbers: Mapping[str, Integers]) -> None:
        """Parcels that have no row in any layer on a grid."""
        for layer in here.layers:
            _add(result.without_row, layer.label, numbers)
            if self._request.is_cleared(layer):
                _add(result.clear_without_row, layer.label, numbers)

    def _add_part(self, result: ChunkResult, here: ChunkOnGrid, part: Part) -> None:
        """Add what part of the parcels give on one grid."""
        pid, polygons = here.pid[part.chosen], here.polygons[part.chosen]
        if part.polygons is None:
            self._without_row(result, here, _numbers(pid, reasons(polygons, None, np.zeros(len(polygons)))))
            return
        request, bands = self._request, here.bands.bands
        sources, marks = self._sources(here, part)
        question = _question(sources, marks, here.layers, request)
        found = verified(request, part.polygons, question)
        result.recomputed |= found.recomputed
        # Of each band, how many infinite pixels each parcel has: those are left out.
        infinite = {
            bands[position].name: found.zones.statistics(mask.astype(np.uint8), 0)[:, COUNT]
            for position, mask in part.infinite.items()
        }
        place = {name: position for position, name in enumerate(sources)}
        for layer in here.layers:
            table, source = found.tables[place[layer.band]], sources[layer.band]
            counts, lost = table[:, COUNT], [infinite[name] for name in layer.bands if name in infinite]
            left_out = sum(lost[1:], lost[0]) if lost else None
            why = reasons(polygons, found.zones, counts, left_out)
            result.signatures.append(_rows(layer, pid, table, source, request))
            _add(result.without_row, layer.label, _numbers(pid, why))
            if left_out is not None:
                result.not_finite[layer.label] += int(left_out.sum())
            if layer.histogram:
                histograms = zip(pid.tolist(), found.histograms, strict=True)
                result.hists += [(number, histogram) for number, histogram in histograms if histogram]
            if request.is_cleared(layer):
                clear = found.tables[len(question.pixels) + question.marked.index(place[layer.band])]
                result.clear.append(_rows(layer, pid, clear, source, request))
                why |= {NOT_CLEAR: np.flatnonzero((clear[:, COUNT] == 0) & (counts > 0))}
                _add(result.clear_without_row, layer.label, _numbers(pid, why))

    def _sources(self, here: GridLayers, part: Part) -> tuple[dict[str, Input], Pixels | None]:
        """What the layers on a grid have their values from, by band or formula; and the marks of clear pixels."""
        request, bands = self._request, (*here.bands.bands, *(other.band for other in here.bands.others))
        stored = [Stored(array, band.nodata) for array, band in zip(part.arrays, here.bands.bands, strict=True)]
        of_band = {
            band.name: Input(pixels, band.scale, band.offset + request.shifts.get(band.name, 0.0))
            for band, pixels in zip(bands, [*stored, *part.others], strict=True)
        }
        sources = {
            layer.band: of_band[layer.band]
            if layer.formula is None
            else Input(Made(layer.formula, [of_band[name] for name in layer.bands]))
            for layer in here.layers
        }
        clear = any(request.is_cleared(layer) for layer in here.layers)
        return sources, Marks(of_band[CLASSES].pixels, request.clear) if clear and request.clear else None


def _question(
    sources: Mapping[str, Input], marks: Pixels | None, layers: Sequence[Layer], request: StatisticsRequest
) -> Question:
    """What is asked of the parcels: each source of values once, however many layers use it."""
    names = list(sources)
    cleared = dict.fromkeys(names.index(layer.band) for layer in layers if request.is_cleared(layer))
    classes = next((sources[layer.band].pixels for layer in layers if layer.histogram), None)
    return Question([source.pixels for source in sources.values()], marks, list(cleared), classes)


def _rows(layer: Layer, pid: Integers, table: Floats, source: Input, request: StatisticsRequest) -> Signatures:
    """The rows of a layer, of those parcels that have any valid pixel."""
    filled = table[:, COUNT] > 0
    return Signatures(
        layer.label, pid[filled], rescaled(table[filled], source.scale, source.offset, request.statistics)
    )


def _numbers(pid: Integers, positions: Mapping[str, Integers]) -> dict[str, Integers]:
    """Numbers of parcels, by reason, for their positions."""
    return {reason: pid[chosen] for reason, chosen in positions.items()}


def _add(without_row: dict[str, dict[str, Integers]], label: str, numbers: Mapping[str, Integers]) -> None:
    """Add the numbers of parcels without a row to those of the label, by reason."""
    known = without_row.setdefault(label, {})
    for reason, more in numbers.items():
        if len(more):
            known[reason] = np.concatenate([known[reason], more]) if reason in known else more
