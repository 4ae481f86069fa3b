"""Which layers are computed on which grid, and of which bands."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from extractors.indices import CLASSES
from extractors.model import Layer, StatisticsRequest
from extractors.raster.grids import GridBands, OtherBand
from extractors.statistics.pixels import Places, made_type


@dataclass(frozen=True)
class GridLayers:
    """Layers that are computed on one grid: the finest of those of their bands. bands: with those on other grids whose
    pixels they need, be it to mark clear ones."""

    bands: GridBands
    layers: tuple[Layer, ...]


def needed(request: StatisticsRequest) -> list[str]:
    """The bands of which pixels are needed, each once."""
    names = [name for layer in request.layers for name in layer.bands]
    return list(dict.fromkeys([*names, *([CLASSES] if request.clear else [])]))


def plan(grids: Sequence[GridBands], request: StatisticsRequest) -> list[GridLayers]:
    """For each of the grids, the layers there; those of bands that the scene has not are left out."""
    home = {band.name: group for group in grids for band in group.bands}
    found = []
    for group in grids:
        layers = tuple(
            layer
            for layer in request.layers
            if home.keys() >= {*layer.bands}
            and min((home[name].grid for name in layer.bands), key=lambda grid: grid.pixel_area) == group.grid
        )
        if not layers:
            continue
        names = dict.fromkeys(name for layer in layers for name in layer.bands)
        if any(request.is_cleared(layer) for layer in layers):
            names[CLASSES] = None
        own = tuple(band for band in group.bands if band.name in names)
        others = tuple(
            OtherBand(band, Places.of(group.grid, there.grid))
            for there in grids
            if there is not group
            for band in there.bands
            if band.name in names
        )
        types = {band.name: band.dtype for band in (*own, *(other.band for other in others))}
        made = [made_type([types[name] for name in layer.bands]).itemsize for layer in layers if layer.formula]
        found.append(GridLayers(replace(group, bands=own, others=others, made_bytes=max(made, default=0)), layers))
    return found
