"""The bands of files that are there, opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from extractors.raster.bands import BandFile, GridBands, scene_bands


@contextmanager
def open_bands(files: Sequence[BandFile], driver: str, nodata: float) -> Iterator[list[GridBands]]:
    """The bands of files that are all there."""
    with scene_bands(files, driver, nodata) as bands:
        yield bands.grids()
