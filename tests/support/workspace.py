"""A workspace: all that a worker needs, made for one test."""

from __future__ import annotations

import json
import shutil
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import psycopg2

from demo import products, tables
from demo.products import Grid
from demo.servers import Postgis, S3Server
from tests.support.accounts import assert_balanced
from tests.support.bucket import Bucket
from tests.support.database import Database
from tests.support.environment import environment
from tests.support.ground import GRID, Array, footprint, ground, optical, radar
from tests.support.roles import PASSWORD, let_nobody_in, set_up_role
from tests.support.running import Outcome, Running
from tests.support.scenes import Scene, s2_reference


class Workspace(Database, Bucket):
    """One database, one bucket, one empty working directory, and the configuration to go with them.

    `db_config` and `s3_config` may be changed: they are written out before each command.
    """

    # What pytest's options --engine and --without set for all tests.
    preset: ClassVar[dict[str, Any]] = {}
    without: ClassVar[str | None] = None
    # Whether workers have no rights but those of `operations setup --role`: see tests/acceptance/conftest.py.
    least_rights: ClassVar[bool] = False
    # Whether commands find the libraries loaded, unless they are given variables, which libraries may read.
    preloaded: ClassVar[bool] = False

    def __init__(
        self, postgis: Postgis, store: S3Server, folder: Path, *, parcel_srid: int = GRID.epsg, name: str | None = None
    ) -> None:
        """`name`: of database and bucket."""
        name = name or f"t{uuid.uuid4().hex[:12]}"
        self.folder = folder
        self.cwd = folder / "cwd"
        self.cwd.mkdir(parents=True)
        self.data = self.cwd / "data"
        self._started: list[Running] = []
        self._role: str | None = None
        Bucket.__init__(self, store, name)
        Database.__init__(self, postgis, name, parcel_srid)
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

    # Configuration, in short

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

    @property
    def password(self) -> str:
        """That of the workers' database user."""
        return PASSWORD if self.least_rights else self.postgis.password

    def write_config(self) -> None:
        connection = self.db_config.get("database", {}).get("connection", {})
        if self.least_rights and connection.get("dbuser") == self.postgis.user:
            if self._role is None:
                self._role = f"worker_of_{self.database}"
                let_nobody_in(self)
            connection["dbuser"] = self._role
            if connection.get("dbpasswd") == self.postgis.password:
                connection["dbpasswd"] = PASSWORD
        if self._role is not None and connection.get("dbuser") == self._role:
            set_up_role(self, self._role)
        for name, content in (("db_config.json", self.db_config), ("s3_config.json", self.s3_config)):
            # For nobody else: a worker would warn of it.
            (self.cwd / name).touch(0o600)
            (self.cwd / name).write_text(json.dumps(content, indent=4))

    # Scenes

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
        self.upload(root)
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
        self.upload(root)
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
        self.upload(root)
        where = footprint(ground(grid=grid), grid.epsg)
        number = tables.add_scene(self.connection, reference, moment, "c6", where)
        return Scene(number, reference, "c6", bands, {"tif": key}, grid)

    def add_c1(self, obstime: str = "2020-04-01T05:23:45", **more: Any) -> Scene:
        """The same with twelve days between."""
        moment = datetime.fromisoformat(obstime)
        reference = f"S1A_{moment:%Y%m%dT%H%M%S}__1A__20200320T052345_20200320T052410_CARD-COH12"
        made = self.add_c6(obstime, reference=reference, days=12, **more)
        self.query("UPDATE dias_catalogue SET card = 'c1' WHERE id = %s", made.id)
        return replace(made, card="c1")

    # Commands

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
            preloaded=self.preloaded and env is None,
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

    def operate(self, verb: str, *options: str, configure: bool = True) -> Outcome:
        """Run `python -m operations <verb> <options>` to its end."""
        outcome = self.start_python("-m", "operations", verb, *options, configure=configure).wait()
        assert "-v" in options or "Traceback" not in outcome.output, outcome.output
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
        """End what is still running, drop the database and empty the bucket. The accounts of all that was extracted
        must balance."""
        for running in self._started:
            running.kill()
        try:
            if not self.connection.closed:
                with suppress(psycopg2.OperationalError):  # a server that a test has stopped
                    assert_balanced(self)
        finally:
            self.drop_database()
            if self._role is not None:
                self.postgis.drop_role(self._role)
            self.drop_bucket()

    def _new_folder(self) -> Path:
        root = self.folder / "products"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        return root
