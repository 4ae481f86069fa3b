"""A stage for measuring whole scenes: servers, a full-size product, parcels, a worker that is timed from outside."""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from benchmarks.fields import fields
from demo import products, tables
from demo.products import Grid
from demo.servers import Postgis, S3Server
from extractors.labels import resolution
from extractors.model import BandFile, ImageFormat, Limits
from extractors.raster.integrity import JPEG2000
from extractors.raster.scene_bands import scene_bands

ROOT = Path(__file__).resolve().parents[1]
GRID = Grid(32632, 600_000.0, 5_400_000.0, 10.0)
PARCEL_SRID = 3035
HECTARES = 4.0
OBSTIME = datetime(2024, 6, 1, 10, 30)
REFERENCES = {
    "s2": "S2A_MSIL2A_20240601T103031_N0214_R108_T32UPA_20240601T135108.SAFE",
    "bs": "S1A_IW_GRDH_1SDV_20240601T052345_20240601T052410_023340_0289E6_6558_CARD_BS",
}
# (rows, columns) at 10 m: a Sentinel-2 tile, and the terrain-corrected frame of a real CARD-BS product.
SHAPES = {"s2": (10_980, 10_980), "bs": (21_848, 29_004)}
BANDS = {"s2": ("B04", "B08", "SCL"), "bs": ("VV", "VH")}
# All bands of Sentinel-2 at 10 m and 20 m that have reflectances.
TEN_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
# For decoding whole tiles of any number of bands.
ENOUGH_MEMORY = 16_000_000_000
DATABASE, BUCKET = "benchmark", "benchmark"


@dataclass(frozen=True)
class Run:
    """One run of a worker: wall and processor seconds and peak memory of the process, and its log row."""

    wall: float
    processor: float
    peak_megabytes: float
    log: dict[str, Any]


class Stage:
    """PostGIS and S3 on loopback with one scene of a CARD; parcels and AOI can be exchanged between runs."""

    def __init__(self, card: str, folder: Path, postgis: Postgis, store: S3Server) -> None:
        self.card = card
        self.folder = folder
        self._postgis = postgis
        postgis.create_database(DATABASE)
        self.connection = postgis.connect(DATABASE)
        tables.create_catalogue(self.connection)
        tables.create_aois(self.connection)
        tables.create_parcels(self.connection, "parcels", PARCEL_SRID)
        self.scene = tables.add_scene(
            self.connection, REFERENCES[card], OBSTIME, card, GRID.footprint(SHAPES[card]), status="extracted"
        )
        self._store = store
        self.store_at(store.endpoint)

    @property
    def endpoint(self) -> str:
        """The store's own address."""
        return self._store.endpoint

    def store_at(self, endpoint: str) -> None:
        """Let workers look for the store there: write `s3_config.json`."""
        keys = {"access_key": self._store.access_key, "secret_key": self._store.secret_key}
        config = {"s3": keys | {"host": endpoint, "bucket": BUCKET}}
        (self.folder / "s3_config.json").write_text(json.dumps(config))

    def store_client(self) -> Any:
        """A client of the store."""
        return self._store.client()

    def put_parcels(self, number: int) -> None:
        """Replace the parcels by `number` of 4 ha, spread in whole rows over the upper part of the image."""
        rows, columns = SHAPES[self.card]
        per_row = int(columns * GRID.pixel / (HECTARES * 10_000) ** 0.5)
        hectares = HECTARES
        if number > per_row * int(rows * GRID.pixel / (HECTARES * 10_000) ** 0.5):
            # More than fit: smaller ones, over all of the image.
            hectares = rows * columns * GRID.pixel**2 / 10_000 / number * 0.99
            per_row = int(columns * GRID.pixel / (hectares * 10_000) ** 0.5)
        geometries = fields(number, hectares, GRID.left, GRID.top, per_row)
        to_parcels = Transformer.from_crs(GRID.epsg, PARCEL_SRID, always_xy=True)
        moved = shapely.transform(geometries, lambda xy: np.column_stack(to_parcels.transform(xy[:, 0], xy[:, 1])))
        text = "\n".join(f"SRID={PARCEL_SRID};{wkb}" for wkb in shapely.to_wkt(moved, rounding_precision=4))
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("DROP INDEX IF EXISTS parcels_wkb_geometry_idx; TRUNCATE parcels")
            cursor.copy_expert("COPY parcels (wkb_geometry) FROM STDIN", io.StringIO(text))
            cursor.execute("CREATE INDEX parcels_wkb_geometry_idx ON parcels USING gist (wkb_geometry)")
        self.connection.autocommit = True
        with self.connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE parcels")
        self.connection.autocommit = False

    def put_aoi(self, share: float = 1.0) -> None:
        """Let the AOI be a square in the upper left corner that covers this share of the image's area."""
        rows, columns = SHAPES[self.card]
        part = (max(1, int(rows * share**0.5)), max(1, int(columns * share**0.5)))
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("TRUNCATE aois")
        tables.add_aoi(self.connection, "benchmark", GRID.footprint(part))

    def run(
        self,
        bands: Sequence[str],
        *arguments: str,
        extraction: dict[str, Any] | None = None,
        checkout: Path = ROOT,
        tables: Sequence[str] = (),
    ) -> Run:
        """Let one worker of a checkout extract the scene into empty tables (tables: those beside the results table);
        raises RuntimeError with its log if it fails."""
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS signatures, extraction_log, hists_table, clear_results_table")
            cursor.execute("UPDATE dias_catalogue SET status = 'ingested'")
        self.write_config(extraction or {}, tables)
        command = [sys.executable, "-m", "benchmarks.worker", self.card, ",".join(bands), *arguments]
        with (self.folder / "worker.log").open("w+b") as log:
            started = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=self.folder, stdout=subprocess.PIPE, stderr=log, env=command_environment(checkout)
            )
            with process.stdout or io.BytesIO() as output:
                said = output.read().decode().split()
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                log.seek(0)
                raise RuntimeError(log.read().decode())
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("SELECT row_to_json(extraction_log) FROM extraction_log")
            (row,) = cursor.fetchone() or ({},)
        return Run(wall, usage.ru_utime + usage.ru_stime, float(said[-1]), row)

    def write_config(self, extraction: dict[str, Any], tables: Sequence[str] = ()) -> None:
        """Write `db_config.json` into the folder, beside `s3_config.json`."""
        config = {
            "database": {
                "connection": self._postgis.connection_config(DATABASE),
                "tables": {"aoi_table": "aois", "parcel_table": "parcels", "results_table": "signatures"}
                | {key: key for key in tables},
                "args": {"aoi_field": "name", "name": "benchmark", "startdate": "2024-01-01", "enddate": "2025-01-01"},
            },
            "extraction": extraction,
        }
        (self.folder / "db_config.json").write_text(json.dumps(config))

    def seconds_of_copy(self) -> tuple[int, float]:
        """Rows of the last run, and the seconds that a binary COPY of them into an empty table takes."""
        rows = io.BytesIO()
        with self.connection, self.connection.cursor() as cursor:
            cursor.copy_expert("COPY signatures TO STDOUT WITH (FORMAT binary)", rows)
            cursor.execute("CREATE TABLE copied (LIKE signatures)")
        rows.seek(0)
        started = time.perf_counter()
        with self.connection, self.connection.cursor() as cursor:
            cursor.copy_expert("COPY copied FROM STDIN WITH (FORMAT binary)", rows)
            count = cursor.rowcount
        seconds = time.perf_counter() - started
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("DROP TABLE copied")
        return count, seconds


def command_environment(checkout: Path = ROOT) -> dict[str, str]:
    """This process's environment, with the package to be measured first on the path."""
    path = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path}


@contextmanager
def cluster(settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[tuple[Path, Postgis]]:
    """A folder, and a PostGIS server in it; ended, and all files removed, when the block ends."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Postgis(folder / "cluster", settings=settings) as postgis:
            yield folder, postgis


@contextmanager
def stage(card: str, product: Path) -> Iterator[Stage]:
    """Servers with the product in the store; ended, and their files removed, when the block ends."""
    with cluster() as (folder, postgis), S3Server() as store:
        products.upload(product, store.client(), BUCKET)
        yield Stage(card, folder, postgis, store)


def make_product(card: str, folder: Path) -> Path:
    """Write the full-size product below the folder, once; returns the root of its keys."""
    root = folder / card
    done = folder / f"{card}.done"
    if done.exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    rows, columns = SHAPES[card]
    if card == "bs":
        products.write_bs(
            root, REFERENCES[card], OBSTIME, {band: _backscatter(i) for i, band in enumerate(BANDS[card])}, GRID
        )
    else:
        bands = {band: _reflectance(seed, (rows, columns)) for seed, band in enumerate(("B04", "B08"))}
        random = np.random.default_rng(9)
        classes = np.repeat(np.repeat(random.integers(1, 12, (549, 549), dtype="u1"), 10, axis=0), 10, axis=1)
        products.write_s2(root, REFERENCES[card], bands | {"SCL": classes}, GRID)
    done.touch()
    return root


def make_ten_bands(folder: Path) -> Path:
    """The same for a Sentinel-2 product of ten bands: one file at 10 m and one at 20 m, which the other bands have
    under names of their own. (What it takes to decode and to compute them is as if they differed.)"""
    root = folder / "s2-ten"
    done = folder / "s2-ten.done"
    if done.exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    rows, columns = SHAPES["s2"]
    originals = {"10m": "B02", "20m": "B05"}
    made = {"B02_10m": _reflectance(0, (rows, columns)), "B05_20m": _reflectance(1, (rows // 2, columns // 2))}
    keys = products.write_s2(root, REFERENCES["s2"], made, GRID)
    for band in TEN_BANDS:
        original = originals[resolution(band)]
        if band != original:
            path = root / keys[f"{original}_{resolution(band)}"]
            os.link(path, path.with_name(path.name.replace(f"_{original}_", f"_{band}_")))
    done.touch()
    return root


def _reflectance(seed: int, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Digital numbers with the compressed size of a full land tile (100 MB a band): field-sized patches and noise of
    25 DN, and 14 % without data."""
    random = np.random.default_rng(seed)
    patches = np.repeat(np.repeat(random.integers(300, 3000, (550, 550), dtype="u2"), 20, axis=0), 20, axis=1)
    image: NDArray[np.uint16] = patches[: shape[0], : shape[1]] + random.normal(0, 25, shape).astype("i2").astype("u2")
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    image[rows + columns * 0.28 > shape[0] * 1.0] = 0
    return image


def _backscatter(seed: int) -> NDArray[np.float32]:
    """Gamma0 with speckle, and 0 in the corners that the turned swath leaves."""
    random = np.random.default_rng(seed)
    rows, columns = SHAPES["bs"]
    image = np.empty((rows, columns), dtype=np.float32)
    for top in range(0, rows, 1000):
        part = random.standard_gamma(4, (min(1000, rows - top), columns), dtype=np.float32) * np.float32(0.025)
        edge = int(columns * 0.12 * (1 - top / rows))
        part[:, :edge] = 0
        part[:, columns - int(columns * 0.12 * top / rows) - 1 :] = 0
        image[top : top + 1000] = part
    return image


def decode_seconds(product: Path, cores: int) -> tuple[float, float]:
    """Wall and processor seconds to decode all JPEG 2000 files of a product with so many threads, tile by tile, into
    memory."""
    files = [BandFile(path.stem, str(path.relative_to(product))) for path in sorted(product.rglob("*.jp2"))]
    limits = Limits(cores, ENOUGH_MEMORY)
    with scene_bands(files, product, ImageFormat(JPEG2000, 0), limits) as bands, ThreadPoolExecutor(cores) as pool:
        grids = bands.grids()
        started, before = time.perf_counter(), time.process_time()
        running = [pool.submit(tile) for group in grids for tiles, _ in group.all_tiles() for tile in tiles]
        for done in running:
            done.result()
        return time.perf_counter() - started, time.process_time() - before
