"""The bands of a scene in local files: opened with the one driver they must have, checked for wholeness, read by
windows.

A file that has lost its end is dangerous: GDAL reads the missing part of JPEG 2000 and ENVI files as zeros, which
is nodata, without an error. So each format is checked before the first pixel is used.
"""

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import rasterio.windows
import shapely
from affine import Affine

from extractors.errors import SceneError
from extractors.zonal import Geometries, Raster

# A chunk whose parcels lie far apart is read in parts: no window has more pixels than this, unless one parcel needs it.
LARGEST_WINDOW_PIXELS = 16_000_000

# GDAL's default, 5 % of the host's memory, is not what one of several workers should take. Large enough for the JPEG
# 2000 tiles around a chunk, so that a tile is not decoded again for every chunk.
BLOCK_CACHE_BYTES = 512 * 1024**2

JPEG2000 = "JP2OpenJPEG"
ENVI = "ENVI"
GEOTIFF = "GTiff"
JPEG2000_SIGNATURE = bytes.fromhex("0000000c6a5020200d0a870a")
END_OF_CODESTREAM = b"\xff\xd9"


@dataclass(frozen=True)
class BandFile:
    """Where a band is: file, and its number in there (from 1). With `described`, a band of the file whose
    description holds the band's name comes before that number."""

    name: str
    path: Path
    index: int = 1
    described: bool = False


@dataclass(frozen=True)
class Band:
    """An open band: `name`, EPSG code of its CRS, size in pixels, north-up transform, nodata."""

    name: str
    epsg: int
    shape: tuple[int, int]
    transform: Affine
    nodata: float
    dataset: Any
    index: int

    def rasters(self, geometries: Geometries) -> Iterator[tuple[slice, Raster | None]]:
        """The pixels around the geometries, as (which geometries, raster), in as many parts as the window limit
        needs; None for geometries that all lie outside the band. Raises SceneError if the file cannot be read."""
        parts = [slice(0, len(geometries))]
        while parts:
            part = parts.pop(0)
            window = self._window(shapely.total_bounds(geometries[part]))
            size = part.stop - part.start
            if window is not None and window.width * window.height > LARGEST_WINDOW_PIXELS and size > 1:
                middle = part.start + size // 2
                parts[:0] = [slice(part.start, middle), slice(middle, part.stop)]
                continue
            yield part, None if window is None else self._read(window)

    def _window(self, bounds: Iterable[float]) -> rasterio.windows.Window | None:
        """The whole pixels that cover the bounds, cut to the band; None if they do not meet."""
        west, south, east, north = bounds
        columns = (np.array([west, east]) - self.transform.c) / self.transform.a
        rows = (np.array([north, south]) - self.transform.f) / self.transform.e
        first_row, first_column = max(0, int(np.floor(rows[0]))), max(0, int(np.floor(columns[0])))
        last_row = min(self.shape[0], int(np.ceil(rows[1])))
        last_column = min(self.shape[1], int(np.ceil(columns[1])))
        if last_row <= first_row or last_column <= first_column:
            return None
        return rasterio.windows.Window(
            col_off=first_column, row_off=first_row, width=last_column - first_column, height=last_row - first_row
        )

    def _read(self, window: rasterio.windows.Window) -> Raster:
        try:
            array = self.dataset.read(self.index, window=window)
        except rasterio.errors.RasterioError as error:
            raise SceneError(f"{Path(self.dataset.name).name} cannot be read ({_one_line(error)})") from error
        return Raster(array, self.transform * Affine.translation(window.col_off, window.row_off), self.nodata)


@contextmanager
def open_bands(files: Sequence[BandFile], driver: str, nodata: float) -> Iterator[list[Band]]:
    """Open the bands of a scene, all in one CRS but possibly on different grids.

    Raises SceneError for a file that is cut short, is of another format, has no usable CRS or grid.
    """
    with rasterio.Env(GDAL_CACHEMAX=BLOCK_CACHE_BYTES), ExitStack() as stack:
        datasets = {}
        for path in dict.fromkeys(file.path for file in files):
            check_whole(path, driver)
            datasets[path] = stack.enter_context(_open(path, driver))
        bands = [_band(file, datasets[file.path], files, nodata) for file in files]
        codes = {band.epsg for band in bands}
        if len(codes) > 1:
            listing = ", ".join(f"{band.name} in EPSG:{band.epsg}" for band in bands)
            raise SceneError(f"the bands are in different CRS ({listing}); they must share one")
        yield bands


def check_whole(path: Path, driver: str) -> None:
    """Raise SceneError if the file has lost its end (JPEG 2000, ENVI) or its header."""
    if not path.exists():
        raise SceneError(f"{path.name} is missing")
    if driver == JPEG2000:
        _check_jpeg2000(path)
    elif driver == ENVI:
        _check_envi(path)


def _check_jpeg2000(path: Path) -> None:
    """Walk the boxes of a JP2 file (ISO 15444-1, annex I) to the codestream, which must end with its marker."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(JPEG2000_SIGNATURE)) != JPEG2000_SIGNATURE:
            raise SceneError(f"{path.name} is not a JPEG 2000 file; see what the store holds under this name")
        position = len(JPEG2000_SIGNATURE)
        while position < size:
            file.seek(position)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4]), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16])
            elif length == 0:
                length = size - position
            if length < 8 or position + length > size:
                break
            if kind == b"jp2c":
                file.seek(position + length - len(END_OF_CODESTREAM))
                if file.read(len(END_OF_CODESTREAM)) == END_OF_CODESTREAM:
                    return
                break
            position += length
    raise SceneError(
        f"{path.name} is cut short: its JPEG 2000 codestream does not end within its {size:,} bytes; replace the object"
    )


def _check_envi(path: Path) -> None:
    """Compare an ENVI file's size with what its header announces."""
    header_path = path.with_suffix(".hdr")
    if not header_path.exists():
        raise SceneError(f"{header_path.name} is missing: without its header {path.name} cannot be read")
    text = header_path.read_text(encoding="latin-1")
    if not text.startswith("ENVI"):
        raise SceneError(f"{header_path.name} is not an ENVI header; see what the store holds under this name")
    fields = {key: int(value) for key, value in re.findall(r"^\s*([a-z ]+?)\s*=\s*(\d+)\s*$", text, re.MULTILINE)}
    # Sizes of the data type codes that statistics can be made of: byte, int16, int32, float32, float64, uint16, uint32.
    bytes_per_pixel = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 12: 2, 13: 4}.get(fields.get("data type", 0))
    if bytes_per_pixel is None or not {"samples", "lines"} <= fields.keys():
        raise SceneError(f"{header_path.name} lacks samples, lines or a usable data type; replace the object")
    expected = (
        fields.get("header offset", 0) + fields["samples"] * fields["lines"] * fields.get("bands", 1) * bytes_per_pixel
    )
    size = path.stat().st_size
    if size != expected:
        raise SceneError(
            f"{path.name} has {size:,} bytes, but its header announces {expected:,} "
            f"({fields['samples']} samples x {fields['lines']} lines); replace the object"
        )


def _open(path: Path, driver: str) -> Any:
    try:
        with warnings.catch_warnings():
            # A file without georeference is refused below, with a better message.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return rasterio.open(path, driver=driver)
    except rasterio.errors.RasterioError as error:
        raise SceneError(
            f"{path.name} cannot be opened as {driver} ({_one_line(error)}); see what the store holds under this name"
        ) from error


def _band(file: BandFile, dataset: Any, files: Sequence[BandFile], nodata: float) -> Band:
    name = file.path.name
    if dataset.crs is None or dataset.crs.to_epsg() is None:
        raise SceneError(f"{name} has no CRS with an EPSG code ({dataset.crs or 'none at all'}); replace the object")
    transform = dataset.transform
    if transform.b or transform.d or transform.a <= 0 or transform.e >= 0:
        raise SceneError(f"{name} is not on a north-up grid (transform {tuple(transform)[:6]}); replace the object")
    index = _index(file, dataset, files)
    if not 1 <= index <= dataset.count:
        raise SceneError(f"{name} has {dataset.count} band(s): no band {index} for {file.name}; replace the object")
    if np.dtype(dataset.dtypes[index - 1]).kind not in "uif":
        raise SceneError(f"{name} holds {dataset.dtypes[index - 1]} pixels, which have no such statistics")
    return Band(file.name, dataset.crs.to_epsg(), dataset.shape, transform, nodata, dataset, index)


def _index(file: BandFile, dataset: Any, files: Sequence[BandFile]) -> int:
    """The band's number in its file: by description if the descriptions name every band exactly once, else as given."""
    if not file.described:
        return file.index
    names = [other.name for other in files if other.path == file.path]
    matches = {
        name: [number for number, text in enumerate(dataset.descriptions, 1) if text and name in text.upper()]
        for name in names
    }
    if all(len(found) == 1 for found in matches.values()):
        return matches[file.name][0]
    return file.index


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
