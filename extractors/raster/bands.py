"""One band of an open file: its grid, its CRS, and what the file says of it and of its pixels."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from rasterio.enums import ColorInterp, Interleaving

from extractors.errors import UnusableSceneError
from extractors.labels import POLARISATIONS
from extractors.model import PARTNERS, BandFile, ImageFormat
from extractors.raster.images import DecodedBand, ImageFile, StoredBand
from extractors.raster.integrity import JPEG2000
from extractors.raster.memory import Budget
from extractors.statistics.grid import Grid
from extractors.statistics.pixels import LARGEST_VALUE

log = logging.getLogger(__name__)

# A block takes its own size several times: as it is stored, decoded, and in GDAL's cache.
COPIES_OF_BLOCK = 3
# OpenJPEG decodes to 32 bits, whatever the pixels are.
BYTES_PER_DECODED = 4
# Directories of a GeoTIFF: its image, overviews, a mask.
MOST_DIRECTORIES = 64
LARGEST_PIXEL_BYTES = 16
PIXEL_TYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"}
# Sides of pixels, and coordinates, in degrees or metres: with others, positions of pixels have no exact numbers.
LEAST_PIXEL, FARTHEST = 1e-7, 1e9
# The description of a band that tells which pixels are valid.
MASK = "mask"
# Longitude and latitude by another authority, and the EPSG code under which databases know the same.
OGC_CODES = {"CRS84": 4326, "CRS83": 4269, "CRS27": 4267}


@dataclass(frozen=True)
class Band:
    """An open band: its name, grid, and where its pixels are. srid: the number of its CRS in databases (an EPSG or ESRI
    code). decoded: for formats in which reading means decoding. dtype: of its pixels. declared: what the file declares
    invalid, in words, "" for nothing. scale, offset: its values are scale x pixel + offset."""

    name: str
    srid: int
    grid: Grid
    stored: StoredBand
    decoded: DecodedBand | None
    dtype: str = "float64"
    declared: str = ""
    scale: float = 1.0
    offset: float = 0.0

    @property
    def nodata(self) -> float:
        """The value of pixels without observation."""
        return self.stored.nodata

    @property
    def pixel_bytes(self) -> int:
        """Of a pixel as it is read."""
        return _pixel_bytes(self.dtype)

    @property
    def settings(self) -> dict[str, Any]:
        """What the numbers depend on, for the log."""
        found: dict[str, Any] = {"number": self.stored.index}
        if self.declared:
            found["nodata"] = self.declared
        if (self.scale, self.offset) != (1, 0):
            found |= {"scale": self.scale, "offset": self.offset}
        return found


def keep_blocks(path: Path, dataset: Any, budget: Budget) -> None:
    """Count the blocks of a file, of which each thread decodes one at a time. Windows can have any size, blocks are
    what the file says. Raises UnusableSceneError, before any is decoded, if they are too large."""
    rows, columns = _largest_block(path, dataset)
    decoded = dataset.driver == JPEG2000
    size = BYTES_PER_DECODED if decoded else max(map(_pixel_bytes, dataset.dtypes))
    bands = dataset.count if decoded or dataset.interleaving is Interleaving.pixel else 1
    what = f"{path.name}: a block of {columns:,} x {rows:,} pixels for each of {budget.limits.cores} threads"
    budget.keep(rows * columns * bands * size * COPIES_OF_BLOCK * budget.limits.cores, what)


def _pixel_bytes(dtype: str) -> int:
    return np.dtype(dtype).itemsize if dtype in PIXEL_TYPES else LARGEST_PIXEL_BYTES


def _largest_block(path: Path, dataset: Any) -> tuple[int, int]:
    """Rows and columns of the largest block of a file, its mask included."""
    shapes: list[tuple[int, int]] = list(dataset.block_shapes)
    flags = {flag.name for of_band in dataset.mask_flag_enums for flag in of_band}
    if dataset.driver == "GTiff" and "per_dataset" in flags - {"alpha"}:
        for number in range(2, MOST_DIRECTORIES + 1):
            try:
                with rasterio.open(f"GTIFF_DIR:{number}:{path}", driver="GTiff") as directory:
                    shapes += directory.block_shapes
            except rasterio.errors.RasterioIOError:
                break
        else:
            raise UnusableSceneError(f"{path.name} holds over {MOST_DIRECTORIES} images; replace the object")
    return max(shapes, key=lambda shape: shape[0] * shape[1])


def band_descriptions(dataset: Any) -> list[str]:
    """What the file says of its bands, "" for nothing. A band that is a mask is described as one, unless it names a
    polarisation: some writers leave such a mark on the last band."""
    return [
        MASK if interpretation is ColorInterp.alpha and not _polarisations(text) else text or ""
        for text, interpretation in zip(dataset.descriptions, dataset.colorinterp, strict=True)
    ]


def _polarisations(description: str | None) -> list[str]:
    return [name for name in POLARISATIONS if name in (description or "").upper()]


def open_band(file: BandFile, image: ImageFile, dataset: Any, image_format: ImageFormat, budget: Budget) -> Band:
    """One band of an open file."""
    name, index, transform, shape = image.path.name, file.index, dataset.transform, dataset.shape
    srid = _srid(dataset.crs)
    if srid is None:
        raise UnusableSceneError(
            f"{name} has no CRS with an EPSG code ({dataset.crs or 'none at all'}); replace the object"
        )
    plain = not transform.b and not transform.d and transform.a >= LEAST_PIXEL and transform.e <= -LEAST_PIXEL
    if not plain or not max(map(abs, Grid(transform, shape).bounds)) <= FARTHEST:
        raise UnusableSceneError(
            f"{name} is not on a north-up grid (transform {tuple(transform)[:6]}); replace the object"
        )
    if not 1 <= index <= dataset.count:
        raise UnusableSceneError(
            f"{name} has {dataset.count} band(s): no band {index} for {file.name}; replace the object"
        )
    descriptions = band_descriptions(dataset)
    masked = MASK in descriptions
    if descriptions[index - 1] == MASK:
        raise UnusableSceneError(
            f"{name}: band {index} is a mask, and nothing says where {file.name} is; replace the object"
        )
    dtype = dataset.dtypes[index - 1]
    if dtype not in PIXEL_TYPES:
        raise UnusableSceneError(f"{name} holds {dtype} pixels, which have no such statistics")
    decodes = image_format.driver == JPEG2000
    if decodes:
        budget.keep(
            shape[0] * shape[1] * np.dtype(dtype).itemsize, f"{name}, {shape[1]:,} x {shape[0]:,} pixels decoded,"
        )
    scale, offset = (dataset.scales[index - 1], dataset.offsets[index - 1]) if image_format.scaled else (1.0, 0.0)
    if not (0 < scale <= LARGEST_VALUE and abs(offset) <= LARGEST_VALUE):
        raise UnusableSceneError(f"{name} declares values of {scale} x pixel + {offset}; replace the object")
    declared = "alpha" if masked else _declared(dataset, index, image_format.nodata)
    stored = StoredBand(
        image, index, image_format.nodata, bool(declared), 1 + descriptions.index(MASK) if masked else 0
    )
    decoded = DecodedBand(stored, shape, dataset.block_shapes[index - 1], dtype) if decodes else None
    return Band(file.name, srid, Grid(transform, shape), stored, decoded, dtype, declared, scale, offset)


def _srid(crs: Any) -> int | None:
    """The number under which databases know a CRS; None if it has none."""
    if crs is None:
        return None
    if crs.to_epsg() is not None:
        return int(crs.to_epsg())
    authority, code = crs.to_authority() or ("", "")
    if authority == "ESRI" and code.isdecimal():
        return int(code)  # databases and PROJ give ESRI's codes as they are: they are none of EPSG's
    return OGC_CODES.get(code) if authority == "OGC" else None


def _declared(dataset: Any, index: int, nodata: float) -> str:
    """What a file declares invalid in a band, in words; "" if that is no more than what is nodata anyway."""
    flags = {flag.name for flag in dataset.mask_flag_enums[index - 1]}
    if flags == {"all_valid"}:
        return ""
    if flags == {"nodata"}:
        value = dataset.nodatavals[index - 1]
        return "" if math.isnan(value) or value == nodata else f"{value:g}"
    # "alpha": a band that is one in name only.
    return "" if "alpha" in flags else MASK


def really_there(files: Sequence[BandFile], name: str, descriptions: Sequence[str]) -> Sequence[BandFile]:
    """The bands of a file: those whose polarisations its descriptions name, if they do, each once; else as expected."""
    first = files[0]
    if not first.described and len(files) == 1:
        return files
    named = [_polarisations(text) for text in descriptions]
    sure = [(words[0], number) for number, words in enumerate(named, 1) if len(words) == 1]
    numbers = dict(sure)
    if len(numbers) < len(sure):
        log.warning("%s: its descriptions name a band twice: %s; taking the bands by number", name, descriptions)
        return files
    if not numbers and first.described:
        return files
    if not first.described and numbers.keys() <= {file.name for file in files}:
        usable = [number for number, text in enumerate(descriptions, 1) if text != MASK]
        return [file for file in files if file.index in usable] or files
    others = [number for number, text in enumerate(descriptions, 1) if not text]
    if len(numbers) == 1 and len(descriptions) == 2 and others:
        # Of two bands, the other one is what an instrument records together with this one.
        (word,) = numbers
        numbers[PARTNERS[word]] = others[0]
    return [replace(first, name=word, index=numbers[word]) for word in POLARISATIONS if word in numbers]
