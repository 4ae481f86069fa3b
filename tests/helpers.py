"""What the acceptance tests share: a little world per test, and the real command started in it.

A `Workspace` is one database, one bucket, one empty working directory and the two configuration files. Scenes are small
(60 x 60 pixels of 10 m), parcels are rectangles whose edges lie 2 m inside pixel edges: 3 m away from every pixel
centre, so that the number of pixels in a parcel is beyond doubt.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import geopandas
import numpy as np
import psycopg2
import pytest
import rasterstats
import shapely
from affine import Affine
from numpy.typing import NDArray
from psycopg2 import sql
from shapely.geometry.base import BaseGeometry

from demo import products, tables
from demo.products import Grid
from demo.servers import Postgis, S3Server
from extractors.raster.bands import BandFile, GridBands, scene_bands

ROOT = Path(__file__).resolve().parents[1]
GRID = Grid(epsg=32633, left=499980.0, top=5100000.0, pixel=10.0)
"""The ground of nearly every test: 60 x 60 pixels of 10 m at 15 degrees east, 46 degrees north."""
SHAPE = (60, 60)
SIDE = 600.0
NOTHING_LEFT = "No image with status 'ingested' found"
LABELS = {"B04": "B4", "B08": "B8", "SCL": "SC"}
PERCENTILES = ["percentile_25", "percentile_50", "percentile_75"]
COLUMNS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")

Array = NDArray[Any]
Signatures = dict[tuple[int, str], tuple[float, ...]]
"""(pid, band label without padding) -> count, mean, std, min, max, p25, p50, p75"""


# Files


@contextmanager
def open_bands(files: Sequence[BandFile], driver: str, nodata: float) -> Iterator[list[GridBands]]:
    """The bands of files that are all there."""
    with scene_bands(files, driver, nodata) as bands:
        yield bands.grids()


# Geometry


def cell(
    column: float, row: float, width: float = 6, height: float = 6, *, grid: Grid = GRID, inset: float = 2.0
) -> shapely.Polygon:
    """The rectangle that holds the centres of these pixels, its edges `inset` metres inside the pixel edges."""
    left, top = grid.left + column * grid.pixel, grid.top - row * grid.pixel
    return shapely.box(left + inset, top - height * grid.pixel + inset, left + width * grid.pixel - inset, top - inset)


def squares(number: int, *, grid: Grid = GRID) -> list[BaseGeometry]:
    """Squares of 6 x 6 pixels in rows of seven, not touching each other."""
    return [cell(2 + 8 * (i % 7), 2 + 8 * (i // 7), grid=grid) for i in range(number)]


def ground(margin: float = 150.0, *, grid: Grid = GRID, shape: tuple[int, int] = SHAPE) -> shapely.Polygon:
    """The rectangle of a raster, `margin` metres wider on each side."""
    height, width = shape[0] * grid.pixel, shape[1] * grid.pixel
    return shapely.box(grid.left - margin, grid.top - height - margin, grid.left + width + margin, grid.top + margin)


def to_epsg(geometry: BaseGeometry, source: int, target: int) -> BaseGeometry:
    """Reprojected with x = easting and y = northing on both sides, as ogr2ogr stores geometries."""
    result: BaseGeometry = geopandas.GeoSeries([geometry], crs=source).to_crs(target).iloc[0]
    return result


def footprint(geometry: BaseGeometry, epsg: int = GRID.epsg) -> str:
    """As WKT in EPSG:4326, for the catalogue."""
    return to_epsg(geometry, epsg, 4326).wkt


# Pixels


def red(seed: int = 1, shape: tuple[int, int] = SHAPE) -> Array:
    """Digital numbers 1 to 9,999, with a corner of nodata."""
    numbers = np.random.default_rng(seed).integers(1, 10_000, shape, dtype=np.uint16)
    numbers[-4:, -4:] = 0
    return numbers


def classes(seed: int = 1, shape: tuple[int, int] = (30, 30)) -> Array:
    """Scene classes 1 to 11, with a corner of nodata."""
    numbers = np.random.default_rng(1000 + seed).integers(1, 12, shape, dtype=np.uint8)
    numbers[-2:, -2:] = 0
    return numbers


def optical(seed: int = 1) -> dict[str, Array]:
    """The three bands of a small s2 scene."""
    return {"B04": red(seed), "B08": red(seed + 500), "SCL": classes(seed)}


def radar(seed: int = 1, shape: tuple[int, int] = SHAPE) -> dict[str, Array]:
    """VV (about 0.5) and VH (about 0.1): they cannot be taken for one another."""
    random = np.random.default_rng(seed)
    return {
        "VV": random.uniform(0.4, 0.6, shape).astype("float32"),
        "VH": random.uniform(0.05, 0.15, shape).astype("float32"),
    }


def zonal(
    parcels: Mapping[int, BaseGeometry], band: str, array: Array, transform: Affine
) -> dict[tuple[int, str], tuple[float, ...]]:
    """Direct rasterstats: one tuple per parcel that has a valid pixel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rasterstats and the affine package
        stats = rasterstats.zonal_stats(
            list(parcels.values()),
            array,
            affine=transform,
            nodata=0,
            stats=["count", "mean", "std", "min", "max", *PERCENTILES],
        )
    names = ("count", "mean", "std", "min", "max", *PERCENTILES)
    return {
        (pid, band): tuple(float(one[name]) for name in names)
        for pid, one in zip(parcels, stats, strict=True)
        if one["count"]
    }


@dataclass(frozen=True)
class Scene:
    """A scene as the test made it. `keys`: band or file name -> key in the bucket."""

    id: int
    reference: str
    card: str
    bands: Mapping[str, Array] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    grid: Grid = GRID

    def expected(self, parcels: Mapping[int, BaseGeometry]) -> Signatures:
        """What rasterstats says about these parcels (in the CRS of the scene's grid), in classic labels."""
        result: Signatures = {}
        for name, array in self.bands.items():
            pixel = 2 * self.grid.pixel if name == "SCL" else self.grid.pixel
            transform = Affine(pixel, 0, self.grid.left, 0, -pixel, self.grid.top)
            result |= zonal(parcels, LABELS.get(name, name), array, transform)
        return result


def assert_same(found: Signatures, wanted: Signatures) -> None:
    """Count, min, max and percentiles equal as float32; mean and std to 1e-6 relative."""
    assert found.keys() == wanted.keys()
    for key, numbers in wanted.items():
        for name, one, other in zip(COLUMNS, found[key], numbers, strict=True):
            if name in {"mean", "std"}:
                assert one == pytest.approx(other, rel=1e-6, abs=1e-12), (key, name)
            else:
                assert np.float32(one) == np.float32(other), (key, name)


# The command


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if " ERROR " in line]

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class Running:
    """A command that was started and not yet waited for."""

    def __init__(self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], notes: Path) -> None:
        notes.mkdir(parents=True, exist_ok=True)
        self._out, self._err = notes / "stdout", notes / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                arguments, cwd=cwd, env=env, stdout=out, stderr=err, stdin=subprocess.DEVNULL
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 120) -> Outcome:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"did not end in {seconds} s:\n{self.stdout}\n{self.stderr}")
        return Outcome(code, self.stdout, self.stderr)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60, every: float = 0.05) -> None:
    """Look `every` so many seconds until `true()`; a test that waits in vain fails with `what`."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain: {what}")
        time.sleep(every)


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that configures the worker, libpq or boto3, and `more`."""
    ours = {
        "DB_CONFIG",
        "S3_CONFIG",
        "DATA_DIR",
        "ALL",
        "WATCH",
        "SCENE",
        "ENGINE",
        "VERBOSE",
        "LOG_FORMAT",
        "HEALTH_FILE",
    }
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ours and not name.startswith(("PG", "AWS_", "GDAL_"))
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    kept["no_proxy"] = kept["NO_PROXY"] = "127.0.0.1,localhost"
    kept["AWS_EC2_METADATA_DISABLED"] = "true"
    kept["AWS_CONFIG_FILE"] = kept["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    return kept | more


class Workspace:
    """One database, one bucket, one empty working directory, and the configuration to go with them.

    The tables have the names that `design.md` gives as examples: `aois` (with one AOI `my_aoi` round the ground),
    `parcels` in EPSG:32633, results into `signatures` (absent at first). `db_config` and `s3_config` may be changed:
    they are written out before each command.
    """

    # What pytest's options --engine and --without set for all tests.
    preset: ClassVar[dict[str, Any]] = {}
    without: ClassVar[str | None] = None

    def __init__(
        self, postgis: Postgis, store: S3Server, folder: Path, *, parcel_srid: int = GRID.epsg, name: str | None = None
    ) -> None:
        """`name`: of database and bucket."""
        name = name or f"t{uuid.uuid4().hex[:12]}"
        self.postgis, self.store, self.folder = postgis, store, folder
        self.database = self.bucket = name
        self.cwd = folder / "cwd"
        self.cwd.mkdir(parents=True)
        self.data = self.cwd / "data"
        self.parcel_srid = parcel_srid
        self._started: list[Running] = []
        self._client = store.client()
        self._client.create_bucket(Bucket=name)
        postgis.create_database(name)
        self.connection = postgis.connect(name)
        self.connection.autocommit = True
        tables.create_catalogue(self.connection)
        tables.create_aois(self.connection)
        tables.create_parcels(self.connection, "parcels", parcel_srid)
        tables.add_aoi(self.connection, "my_aoi", footprint(ground(1000)))
        # A secret of our own, so that it can be looked for in everything that was printed.
        self.secret_key = f"canary{uuid.uuid4().hex}"
        self.db_config: dict[str, Any] = {
            "database": {
                "connection": postgis.connection_config(name),
                "tables": {
                    "aoi_table": "aois",
                    "parcel_table": "parcels",
                    "results_table": "signatures",
                },
                "args": {
                    "aoi_field": "name",
                    "name": "my_aoi",
                    "startdate": "2020-01-01",
                    "enddate": "2021-01-01",
                },
            },
            "extraction": {"chunk_size": 7, "database_wait_seconds": 1, "max_attempts": 1, **self.preset},
        }
        self.s3_config: dict[str, Any] = {
            "s3": {
                "access_key": "an-access-key",
                "secret_key": self.secret_key,
                "host": store.endpoint,
                "bucket": name,
                "connections": 2,
                "retry_seconds": 1,
            }
        }

    # configuration, in short

    @property
    def tables(self) -> dict[str, Any]:
        found: dict[str, Any] = self.db_config["database"]["tables"]
        return found

    @property
    def args(self) -> dict[str, Any]:
        found: dict[str, Any] = self.db_config["database"]["args"]
        return found

    @property
    def extraction(self) -> dict[str, Any]:
        found: dict[str, Any] = self.db_config["extraction"]
        return found

    @property
    def s3(self) -> dict[str, Any]:
        found: dict[str, Any] = self.s3_config["s3"]
        return found

    def write_config(self) -> None:
        for name, content in (("db_config.json", self.db_config), ("s3_config.json", self.s3_config)):
            (self.cwd / name).write_text(json.dumps(content, indent=4))

    # database

    def query(self, statement: str | sql.Composable, *values: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def one(self, statement: str | sql.Composable, *values: object) -> Any:
        (row,) = self.query(statement, *values)
        return row[0]

    def connect(self) -> psycopg2.extensions.connection:
        return self.postgis.connect(self.database)

    def status(self, scene: Scene | int) -> str:
        return str(self.one("SELECT status FROM dias_catalogue WHERE id = %s", _id(scene)))

    def ingest(self, scene: Scene | int) -> None:
        """Set the scene back to `ingested`."""
        self.query("UPDATE dias_catalogue SET status = 'ingested' WHERE id = %s", _id(scene))

    def log(self, scene: Scene | int) -> list[dict[str, Any]]:
        """The rows of extraction_log about a scene, oldest first."""
        if not self.one("SELECT to_regclass('extraction_log') IS NOT NULL"):
            return []
        rows = self.query("SELECT to_json(l) FROM extraction_log l WHERE obsid = %s ORDER BY run_id", _id(scene))
        return [row[0] for row in rows]

    def rows(self, scene: Scene | int | None = None, table: str = "signatures") -> int:
        """How many rows the results table holds (0 if there is no such table)."""
        if not self.one("SELECT to_regclass(%s) IS NOT NULL", table):
            return 0
        where = sql.SQL("") if scene is None else sql.SQL(" WHERE obsid = {}").format(sql.Literal(_id(scene)))
        return int(self.one(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)) + where))

    def signatures(self, scene: Scene | int, table: str = "signatures", std: str = "std") -> Signatures:
        """What the results table says about a scene; fails if a signature is there twice."""
        rows = self.query(
            sql.SQL("SELECT pid, trim(band), count, mean, {}, min, max, p25, p50, p75 FROM {} WHERE obsid = %s").format(
                sql.Identifier(std), sql.Identifier(table)
            ),
            _id(scene),
        )
        found: Signatures = {(row[0], row[1]): tuple(row[2:]) for row in rows}
        assert len(found) == len(rows), "a signature is there twice"
        return found

    def add_parcels(self, geometries: Sequence[BaseGeometry], *, table: str = "parcels") -> dict[int, BaseGeometry]:
        """Store parcels (in the SRID of the parcel table); pid -> geometry."""
        pids = tables.add_parcels(self.connection, table, geometries, self.parcel_srid)
        return dict(zip(pids, geometries, strict=True))

    # scenes

    def add_s2(
        self,
        obstime: str = "2020-04-01T10:00:31",
        *,
        bands: Mapping[str, Array] | None = None,
        reference: str | None = None,
        where: str | None = None,
        grid: Grid = GRID,
        status: str = "ingested",
        **layout: Any,
    ) -> Scene:
        """An s2 scene in the bucket and the catalogue. `where`: its footprint, WKT in EPSG:4326."""
        moment = datetime.fromisoformat(obstime)
        reference = reference or s2_reference(moment)
        bands = bands or optical()
        root = self._new_folder()
        shape = bands["B04"].shape
        keys = products.write_s2(root, reference, bands, grid, **layout)
        products.upload(root, self._client, self.bucket)
        where = where or footprint(ground(grid=grid, shape=shape), grid.epsg)
        number = tables.add_scene(self.connection, reference, moment, "s2", where, status=status)
        return Scene(number, reference, "s2", bands, dict(keys), grid)

    def add_bs(
        self,
        obstime: str = "2020-04-01T05:23:45",
        *,
        bands: Mapping[str, Array] | None = None,
        reference: str | None = None,
        grid: Grid = GRID,
    ) -> Scene:
        moment = datetime.fromisoformat(obstime)
        reference = reference or (
            f"S1A_IW_GRDH_1SDV_{moment:%Y%m%dT%H%M%S}_{moment:%Y%m%dT%H%M%S}_023340_0289E6_6558_CARD_BS"
        )
        bands = bands or radar()
        root = self._new_folder()
        keys = products.write_bs(root, reference, moment, bands, grid)
        products.upload(root, self._client, self.bucket)
        where = footprint(ground(grid=grid), grid.epsg)
        number = tables.add_scene(self.connection, reference, moment, "bs", where)
        return Scene(number, reference, "bs", bands, dict(keys), grid)

    def add_c6(
        self,
        obstime: str = "2020-04-01T05:23:45",
        *,
        bands: Mapping[str, Array] | None = None,
        reference: str | None = None,
        grid: Grid = GRID,
        **layout: Any,
    ) -> Scene:
        moment = datetime.fromisoformat(obstime)
        reference = reference or f"S1B_{moment:%Y%m%dT%H%M%S}__1A__20200326T052345_CARD-COH6"
        bands = bands or radar()
        root = self._new_folder()
        key = products.write_c6(root, reference, moment, bands, grid, **layout)
        products.upload(root, self._client, self.bucket)
        where = footprint(ground(grid=grid), grid.epsg)
        number = tables.add_scene(self.connection, reference, moment, "c6", where)
        return Scene(number, reference, "c6", bands, {"tif": key}, grid)

    def add_row(
        self, reference: str, obstime: str = "2020-04-01T10:00:31", *, card: str = "s2", status: str = "ingested"
    ) -> int:
        """A row in the catalogue with no product behind it; its id."""
        return tables.add_scene(
            self.connection,
            reference,
            datetime.fromisoformat(obstime),
            card,
            footprint(ground()),
            status=status,
        )

    # objects

    def read(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def write(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=key)

    def stored(self, prefix: str = "") -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    # commands

    def start(
        self, card: str = "s2", *options: str, env: Mapping[str, str] | None = None, configure: bool = True
    ) -> Running:
        """Start `python -m extractors.<card> <options>` in the working directory."""
        if self.without:
            weakened = ("-m", "tests.faults.without", self.without, card)
            return self.start_python(*weakened, *options, env=env, configure=configure)
        return self.start_python("-m", f"extractors.{card}", *options, env=env, configure=configure)

    def start_python(self, *arguments: str, env: Mapping[str, str] | None = None, configure: bool = True) -> Running:
        if configure:
            self.write_config()
        running = Running(
            [sys.executable, *arguments],
            self.cwd,
            environment(**(env or {})),
            self.folder / f"output{len(self._started)}",
        )
        self._started.append(running)
        return running

    def run(
        self, card: str = "s2", *options: str, env: Mapping[str, str] | None = None, configure: bool = True
    ) -> Outcome:
        """Run `python -m extractors.<card> <options>` to its end; without -v it may never show a traceback."""
        outcome = self.start(card, *options, env=env, configure=configure).wait()
        if "-v" not in options:
            assert "Traceback" not in outcome.output
        self.assert_no_secret(outcome.output)
        return outcome

    def files(self) -> list[Path]:
        """Everything that is in the data folder, folders as well."""
        return sorted(self.data.rglob("*"))

    def assert_no_secret(self, text: str) -> None:
        assert self.postgis.password not in text
        assert self.secret_key not in text

    def assert_no_rows(self) -> None:
        """No row in any table but the catalogue, the AOIs, the parcels and the log."""
        assert self.rows() == 0

    def close(self) -> None:
        """End what is still running, drop the database and empty the bucket."""
        for running in self._started:
            running.kill()
        self.connection.close()
        self.postgis.drop_database(self.database)
        for key in self.stored():
            self.remove(key)
        self._client.delete_bucket(Bucket=self.bucket)
        self._client.close()

    def _new_folder(self) -> Path:
        root = self.folder / "products"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        return root


def s2_reference(moment: datetime, *, safe: bool = True) -> str:
    """A reference as the catalogues have them."""
    name = f"S2A_MSIL2A_{moment:%Y%m%dT%H%M%S}_N0214_R122_T33TWM_{moment:%Y%m%d}T135108"
    return f"{name}.SAFE" if safe else name


def changed(config: Mapping[str, Any], path: Iterable[str], value: object) -> dict[str, Any]:
    """A copy of a configuration with one value set, e.g. at ("database", "connection", "port")."""
    result = copy.deepcopy(dict(config))
    *parents, last = path
    at = result
    for name in parents:
        at = at[name]
    at[last] = value
    return result


def _id(scene: Scene | int) -> int:
    return scene.id if isinstance(scene, Scene) else scene
