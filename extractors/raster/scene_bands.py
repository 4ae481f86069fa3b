"""All bands of a scene in local files: opened as they arrive, each with the driver it must have; grouped by grid."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import rasterio
import rasterio.errors

from extractors.errors import UnusableSceneError
from extractors.model import BandFile, ImageFormat, Limits
from extractors.raster.bands import Band, band_descriptions, keep_blocks, open_band, really_there
from extractors.raster.grids import GridBands
from extractors.raster.images import ImageFile
from extractors.raster.integrity import JPEG2000, check_integrity, check_reading
from extractors.raster.memory import Budget
from extractors.statistics.grid import Grid

# GDAL's default, 5 % of the host's memory, is too much for one of several workers. We keep decoded tiles ourselves, and
# uncompressed files are in the system's cache.
BLOCK_CACHE_BYTES = 64 * 1024**2


class SceneBands:
    """The bands of a scene, all in one CRS but possibly on different grids; opened as their files arrive.

    Methods raise SceneError for a file that is missing, UnusableSceneError for one that is cut short, is of another
    format, has no usable CRS or grid, or lacks the band.
    """

    def __init__(self, files: Sequence[BandFile], folder: Path, image_format: ImageFormat, budget: Budget) -> None:
        self._format = image_format
        self._budget = budget
        self._files: dict[Path, list[BandFile]] = {}
        for file in files:
            self._files.setdefault(folder / file.file_name, []).append(file)
        self._images = {path: ImageFile(path, image_format.driver) for path in self._files}
        self._bands: dict[Path, list[Band]] = {}

    def arrived(self, path: Path) -> list[GridBands]:
        """The bands of a file that is there, if decoding its tiles may begin; none if it can wait for the others."""
        opens = self._format.driver == JPEG2000 and path in self._images
        return _by_grid(self._open(path), self._budget) if opens else []

    def bands(self) -> list[Band]:
        """All that the files hold; all files must be there now."""
        bands = [band for path in self._images for band in self._open(path)]
        if len({band.srid for band in bands}) > 1:
            listing = ", ".join(f"{band.name} in EPSG:{band.srid}" for band in bands)
            raise UnusableSceneError(f"the bands are in different CRS ({listing}); they must share one")
        return bands

    def grids(self, names: Iterable[str] | None = None) -> list[GridBands]:
        """Those of the bands that have these names, in this order, or all; all files must be there now."""
        bands = {band.name: band for band in self.bands()}
        return _by_grid([bands[name] for name in (bands if names is None else names) if name in bands], self._budget)

    def close(self) -> None:
        """Close all files; nobody may use the bands any more."""
        for image in self._images.values():
            image.close()

    def _open(self, path: Path) -> list[Band]:
        if path not in self._bands:
            check_integrity(path, self._format.driver)
            self._bands[path] = self._open_bands(self._files[path], self._images[path])
        return self._bands[path]

    def _open_bands(self, files: Sequence[BandFile], image: ImageFile) -> list[Band]:
        """The bands of one file, which should be `files`."""
        # A file without georeference is refused below, with a better message.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with image.borrow() as dataset:
                there = really_there(files, image.path.name, band_descriptions(dataset))
                check_reading(image.path, dataset)
                keep_blocks(image.path, dataset, self._budget)
                return [open_band(file, image, dataset, self._format, self._budget) for file in there]


def _by_grid(bands: Iterable[Band], budget: Budget) -> list[GridBands]:
    groups: dict[Grid, list[Band]] = {}
    for band in bands:
        groups.setdefault(band.grid, []).append(band)
    return [GridBands(grid, tuple(group), budget) for grid, group in groups.items()]


@contextmanager
def scene_bands(
    files: Sequence[BandFile], folder: Path, image_format: ImageFormat, limits: Limits | None = None
) -> Iterator[SceneBands]:
    """The bands of a scene, to be opened within the block, after which they are closed."""
    opened = SceneBands(files, folder, image_format, Budget(limits))
    with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES), closing(opened) as bands:
        yield bands
