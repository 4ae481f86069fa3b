"""Products as files, in the layout of the bucket: a file's path below `root` is its S3 key.

Grids are UTM (EPSG:326zz, 327zz), north up, in metres. Nodata is 0 in every product.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Array = npt.NDArray[Any]

S2_RESOLUTION = {"SCL": "20m"}  # all others at 10 m, unless their names say so (B02_20m)
TILE_PIXELS = {"10m": 1024, "20m": 640, "60m": 192}  # JP2 tiles of the real products
UPLOADS_AT_ONCE = 8


@dataclass(frozen=True)
class Grid:
    """A north-up pixel grid without its size: CRS, upper left corner and square pixel, in metres."""

    epsg: int
    left: float
    top: float
    pixel: float

    @property
    def transform(self) -> Affine:
        """(column, row) of a pixel's upper left corner to (easting, northing)."""
        return Affine(self.pixel, 0.0, self.left, 0.0, -self.pixel, self.top)

    def with_pixel(self, pixel: float) -> Grid:
        """The same corner with another pixel size, in metres."""
        return Grid(self.epsg, self.left, self.top, pixel)

    def footprint(self, shape: tuple[int, int]) -> str:
        """The outline of `shape` (rows, columns) pixels as a WKT polygon in EPSG:4326, x = longitude."""
        corners = ", ".join(f"{x:.7f} {y:.7f}" for x, y in self.outline(shape))
        return f"POLYGON(({corners}))"

    def outline(self, shape: tuple[int, int]) -> list[tuple[float, float]]:
        """The four corners of `shape` (rows, columns) pixels in EPSG:4326, longitude first; the first one again."""
        right, bottom = self.left + shape[1] * self.pixel, self.top - shape[0] * self.pixel
        xs = [self.left, right, right, self.left, self.left]
        ys = [self.top, self.top, bottom, bottom, self.top]
        longitudes, latitudes = transform(CRS.from_epsg(self.epsg), CRS.from_epsg(4326), xs, ys)[:2]
        return list(zip(longitudes, latitudes, strict=True))


def write_s2(
    root: Path,
    reference: str,
    bands: Mapping[str, Array],
    grid10: Grid,
    *,
    collection: str = "L2A",
    safe: bool = True,
    prefixed: bool = False,
    metadata: bytes | None = None,
) -> dict[str, str]:
    """Write the bands of a Sentinel-2 level 2A product as lossless JP2; returns band -> key.

    Bands (DN, 1-32767, uint16) lie on `grid10`, SCL (classes 0-11, uint8) has the same corner and twice the pixel;
    `B02_20m`, `B01_60m`: bands at other resolutions. `safe` says whether the folder ends in .SAFE, whatever the
    reference does; `prefixed` gives the files the names of 2017 (`L2A_T...`). `metadata`: its MTD_MSIL2A.xml.
    """
    product = reference.removesuffix(".SAFE")
    sensing, tile = product.split("_")[2], product.split("_")[5]
    day = datetime.strptime(sensing[:8], "%Y%m%d")
    # As in real products, the granule's time is not the sensing time, so that its name cannot be composed.
    datastrip = datetime.strptime(sensing, "%Y%m%dT%H%M%S") - timedelta(seconds=3)
    orbit = zlib.crc32(product.encode()) % 60_000
    granule = f"L2A_{tile}_A{orbit:06d}_{datastrip:%Y%m%dT%H%M%S}"
    folder = f"Sentinel-2/MSI/{collection}/{day:%Y/%m/%d}/{product}{'.SAFE' if safe else ''}"
    keys: dict[str, str] = {}
    for band, values in bands.items():
        plain, _, named = band.partition("_")
        resolution = named or S2_RESOLUTION.get(band, "10m")
        grid = grid10 if resolution == "10m" else grid10.with_pixel(int(resolution[:-1]) / 10 * grid10.pixel)
        name = f"{'L2A_' if prefixed else ''}{tile}_{sensing}_{plain}_{resolution}.jp2"
        keys[band] = f"{folder}/GRANULE/{granule}/IMG_DATA/R{resolution}/{name}"
        dtype = np.uint8 if plain == "SCL" else np.uint16
        _write_jp2(root / keys[band], values, grid, dtype, TILE_PIXELS[resolution])
    if metadata is not None:
        (root / folder / "MTD_MSIL2A.xml").write_bytes(metadata)
    return keys


def _write_jp2(path: Path, values: Array, grid: Grid, dtype: type[np.unsignedinteger[Any]], tile: int) -> None:
    """One band, lossless: without QUALITY=100 and REVERSIBLE=YES 5 % of the SCL pixels change their class."""
    if values.min(initial=0) < 0 or values.max(initial=0) > np.iinfo(dtype).max:
        raise ValueError(f"{path.name}: values do not fit {np.dtype(dtype)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = values.shape
    # GDAL obeys only the lower-case names here. A small image is one tile, which is the driver's default.
    tiles = {"blockxsize": tile, "blockysize": tile} if min(rows, columns) >= tile else {}
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", height=rows, width=columns, count=1, dtype=dtype,
        crs=CRS.from_epsg(grid.epsg), transform=grid.transform, QUALITY="100", REVERSIBLE="YES", **tiles,
    ) as file:  # fmt: skip
        file.write(values.astype(dtype), 1)


def write_bs(root: Path, reference: str, obstime: datetime, bands: Mapping[str, Array], grid: Grid) -> dict[str, str]:
    """Write a CARD-BS product (gamma0, linear power, 0 outside the swath) as ENVI; returns file name -> key.

    Laid out as SNAP's BEAM-DIMAP writer does it: big-endian float32, uncompressed, no `data ignore value`.
    """
    folder = f"Sentinel-1/SAR/CARD-BS/{obstime:%Y/%m/%d}/{reference}/{reference}.data"
    keys: dict[str, str] = {}
    for polarisation, values in bands.items():
        name = f"Gamma0_{polarisation}"
        (root / folder).mkdir(parents=True, exist_ok=True)
        values.astype(">f4").tofile(root / folder / f"{name}.img")
        header = envi_header(name, (values.shape[0], values.shape[1]), grid)
        (root / folder / f"{name}.hdr").write_text(header)
        keys |= {f"{name}.{ending}": f"{folder}/{name}.{ending}" for ending in ("img", "hdr")}
    return keys


def envi_header(band: str, shape: tuple[int, int], grid: Grid) -> str:
    """The header that SNAP writes beside an image (snap-core `EnviHeader.java`); shape is (rows, columns)."""
    hemisphere, zone = divmod(grid.epsg, 100)
    if hemisphere not in (326, 327) or not 1 <= zone <= 60:
        raise ValueError(f"EPSG:{grid.epsg} is not a UTM zone on WGS 84")
    south = hemisphere == 327
    # SNAP's reference pixel is the centre of the first one, and ENVI counts from one: 1.5.
    easting, northing = grid.left + grid.pixel / 2, grid.top - grid.pixel / 2
    datum = "World Geodetic System 1984"
    wkt = (
        f'PROJCS["UTM Zone {zone}{", South" if south else ""} / {datum}", GEOGCS["{datum}", DATUM["{datum}", '
        'SPHEROID["WGS 84", 6378137.0, 298.257223563, AUTHORITY["EPSG","7030"]], AUTHORITY["EPSG","6326"]], '
        'PRIMEM["Greenwich", 0.0, AUTHORITY["EPSG","8901"]], UNIT["degree", 0.017453292519943295], '
        'AXIS["Geodetic longitude", EAST], AXIS["Geodetic latitude", NORTH]], '
        'PROJECTION["Transverse_Mercator"], '
        f'PARAMETER["central_meridian", {6.0 * zone - 183.0}], PARAMETER["latitude_of_origin", 0.0], '
        'PARAMETER["scale_factor", 0.9996], PARAMETER["false_easting", 500000.0], '
        f'PARAMETER["false_northing", {10_000_000.0 if south else 0.0}], UNIT["m", 1.0], '
        'AXIS["Easting", EAST], AXIS["Northing", NORTH]]'
    )
    lines = [
        "ENVI",
        f"description = {{{band} - Unit: intensity}}",
        f"samples = {shape[1]}",
        f"lines = {shape[0]}",
        "bands = 1",
        "header offset = 0",
        "file type = ENVI Standard",
        "data type = 4",
        "interleave = bsq",
        "byte order = 1",
        f"band names = {{ {band} }}",
        f"map info = {{UTM,1.5,1.5,{easting},{northing},{float(grid.pixel)},{float(grid.pixel)},{zone},"
        f"{'South' if south else 'North'},{datum},units=Meters}}",
        f"coordinate system string = {{{wkt}}}",
        "data gain values = {1.0}",
        "data offset values = {0.0}",
    ]
    return "\n".join(lines) + "\n"


def write_c6(
    root: Path,
    reference: str,
    obstime: datetime,
    bands: Mapping[str, Array],
    grid: Grid,
    *,
    order: Sequence[str] = ("VH", "VV"),
    described: bool = True,
    days: int = 6,
) -> str:
    """Write a CARD-COH6 product (coherence 0-1, float32, 0 outside the swath) as GeoTIFF; returns its key. With `days`
    12, a CARD-COH12 one.

    `order` is the order of the bands in the file; `described` says whether their descriptions name them.
    """
    key = f"Sentinel-1/SAR/CARD-COH{days}/{obstime:%Y/%m/%d}/{reference}/{reference}.tif"
    (root / key).parent.mkdir(parents=True, exist_ok=True)
    rows, columns = bands[order[0]].shape
    with rasterio.open(
        root / key, "w", driver="GTiff", height=rows, width=columns, count=len(order), dtype="float32",
        crs=CRS.from_epsg(grid.epsg), transform=grid.transform,
        compress="deflate", predictor=3, interleave="band",
    ) as file:  # fmt: skip
        for number, polarisation in enumerate(order, start=1):
            file.write(bands[polarisation].astype("float32"), number)
            if described:
                file.set_band_description(number, f"coh_{polarisation}_{obstime:%d%b%Y}")
    return key


def upload(root: Path, client: S3Client, bucket: str) -> int:
    """Put every file below `root` into the bucket, which is made when absent; returns how many.

    The key of a file is its path below `root`.
    """
    if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket)
    files = sorted(path for path in root.rglob("*") if path.is_file())

    def put(path: Path) -> None:
        client.put_object(Bucket=bucket, Key=path.relative_to(root).as_posix(), Body=path.read_bytes())

    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as threads:
        list(threads.map(put, files))  # list() brings an exception out of its thread
    return len(files)
