"""Fixtures for what is tested against a real PostGIS: a database per test, with an open ground to put scenes on; and
for what is tested against an S3 server: a bucket per test.

The geography is literal: degrees in EPSG:4326, the AOI `nl` is the square 14 to 16 east, 45 to 47 north.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2.extensions
import pytest
import shapely
from psycopg2 import sql
from shapely.geometry.base import BaseGeometry

from demo import tables
from demo.servers import Postgis, S3Server
from extractors.backoff import Backoff
from extractors.config import DatabaseFile
from extractors.database.attempts import Attempts
from extractors.database.connection import Database
from extractors.database.making import make_tables
from extractors.database.queue import Queue
from extractors.database.tables import TableReader, Tables
from tests.integration.stores import Bucket
from tests.support.certificates import Authority
from tests.support.tls_proxy import TlsProxy

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

AOI = shapely.box(14, 45, 16, 47)
MORNING = dt.datetime(2020, 4, 1, 10, 0, 31)

Session = psycopg2.extensions.connection


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """rasterstats and rasterio still multiply affine transforms with `*`, of which affine 3 warns."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"))


@dataclass(frozen=True)
class Worker:
    """What a worker has of the database: its session, the tables, and the queue."""

    database: Database
    tables: Tables
    queue: Queue

    @property
    def session(self) -> Session:
        """What is beneath."""
        return self.database._connection

    @property
    def attempts(self) -> Attempts:
        return Attempts(self.database, self.tables)

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self.session.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE


@dataclass
class Ground:
    """A database with a catalogue, an AOI table and no parcels yet; `config` as in db_config.json.

    `admin` is a session in which every statement is committed at once: it sees what is committed, and holds no lock.
    """

    postgis: Postgis
    name: str
    admin: Session
    config: dict[str, Any]
    sessions: list[Session | Database] = field(default_factory=list)
    scenes: int = 0

    def connect(self, **keywords: Any) -> Session:
        """A new session, closed at the end of the test."""
        session = self.postgis.connect(self.name, **keywords)
        self.sessions.append(session)
        return session

    @property
    def settings(self) -> DatabaseFile:
        return DatabaseFile.model_validate(self.config)

    def query(self, statement: str | sql.Composable, *values: object) -> list[tuple[Any, ...]]:
        """Ask the administrator's session."""
        with self.admin.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def one(self, statement: str | sql.Composable, *values: object) -> Any:
        ((value,),) = self.query(statement, *values)
        return value

    def add_aoi(self, shape: BaseGeometry | str, name: str = "nl") -> None:
        tables.add_aoi(self.admin, name, shape if isinstance(shape, str) else shape.wkt)

    def add_scene(
        self,
        obstime: dt.datetime = MORNING,
        footprint: BaseGeometry | str = AOI,
        *,
        card: str = "s2",
        status: str = "ingested",
        reference: str | None = None,
    ) -> int:
        """A row of the catalogue; its id."""
        self.scenes += 1
        reference = reference or f"S2A_{self.scenes}"
        wkt = footprint if isinstance(footprint, str) else footprint.wkt
        return tables.add_scene(self.admin, reference, obstime, card, wkt, status=status)

    def add_parcels(self, shapes: Sequence[BaseGeometry | None], srid: int, table: str = "parcels") -> list[int]:
        return tables.add_parcels(self.admin, table, shapes, srid)

    def create_parcels(self, srid: int, dimensions: str = "") -> None:
        tables.create_parcels(self.admin, "parcels", srid, dimensions)

    def status(self, scene: int) -> str:
        return str(self.one("SELECT status FROM dias_catalogue WHERE id = %s", scene))

    def set_status(self, scene: int, status: str) -> None:
        self.query("UPDATE dias_catalogue SET status = %s WHERE id = %s", status, scene)

    def log(self, scene: int) -> list[dict[str, Any]]:
        """The attempts at a scene, oldest first."""
        return [
            row[0]
            for row in self.query("SELECT to_json(l) FROM extraction_log l WHERE obsid = %s ORDER BY run_id", scene)
        ]

    def database(self, **server_settings: str) -> Database:
        """A worker's session, closed at the end of the test; it gives up on a lock instead of waiting for it."""
        extraction = {"server_settings": {"lock_timeout": "5s"} | server_settings}
        settings = DatabaseFile.model_validate(self.config | {"extraction": extraction})
        self.sessions.append(database := Database(settings, "db_config.json"))
        return database

    def read(self, database: Database, *labels: str) -> Tables:
        """What a worker finds before it makes any table; the parcel table is there, with one parcel in it if nobody has
        made it."""
        if self.one("SELECT to_regclass('parcels') IS NULL"):
            self.query("CREATE TABLE parcels (ogc_fid serial, wkb_geometry geometry(Geometry, 32633))")
            self.add_parcels([shapely.Point(500_000, 5_100_000)], 32633)
        return TableReader(database, self.settings, "db_config.json", labels or ("B4", "B8", "SC"), True).all()

    def tables(self, database: Database, *labels: str) -> Tables:
        """The same, with the tables made that were absent."""
        return make_tables(database, self.read(database, *labels))

    def worker(self, card: str = "s2", **server_settings: str) -> Worker:
        """A worker with a session of its own."""
        database = self.database(**server_settings)
        tables = self.tables(database)
        return Worker(database, tables, Queue(database, tables, self.settings, card))


EMPTY = """
DO $$
DECLARE
    name text;
BEGIN
    PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
    FOR name IN SELECT oid::regnamespace FROM pg_namespace
                WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_' LOOP
        EXECUTE format('DROP SCHEMA %s CASCADE', name);
    END LOOP;
    FOR name IN SELECT format('%s %s', CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                              oid::regclass)
                FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
                AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'a', 'i'))
                ORDER BY relkind DESC LOOP
        EXECUTE format('DROP %s CASCADE', name);
    END LOOP;
END $$
"""
"""Ends all other sessions and drops all that the extension has not brought: quicker than a new database."""


@pytest.fixture(scope="module")
def admin(postgis: Postgis) -> Iterator[Session]:
    """A session in a database of the module's own."""
    name = f"i{uuid.uuid4().hex[:12]}"
    postgis.create_database(name)
    session = postgis.connect(name)
    session.autocommit = True
    yield session
    session.close()
    postgis.drop_database(name)


@pytest.fixture
def bare_ground(postgis: Postgis, admin: Session) -> Iterator[Ground]:
    """A catalogue and an AOI table, both empty."""
    name = admin.info.dbname
    config = {
        "database": {
            "connection": postgis.connection_config(name),
            "tables": {"aoi_table": "aois", "parcel_table": "parcels", "results_table": "signatures"},
            "args": {"aoi_field": "name", "name": "nl", "startdate": "2020-01-01", "enddate": "2021-01-01"},
        }
    }
    with admin.cursor() as cursor:
        cursor.execute(EMPTY)
    tables.create_catalogue(admin)
    tables.create_aois(admin)
    ground = Ground(postgis, name, admin, config)
    yield ground
    for session in ground.sessions:
        session.close()


@pytest.fixture
def ground(bare_ground: Ground) -> Ground:
    """The same, with the AOI."""
    bare_ground.add_aoi(AOI)
    return bare_ground


@pytest.fixture
def database(ground: Ground) -> Database:
    """A worker's session."""
    return ground.database()


@pytest.fixture
def worker(ground: Ground) -> Worker:
    """A worker; the ground's configuration is what it was at the start."""
    return ground.worker()


# The store


@pytest.fixture(scope="module")
def s3_client(store: S3Server) -> Iterator[S3Client]:
    client = store.client()
    yield client
    client.close()


@pytest.fixture
def bucket(store: S3Server, s3_client: S3Client) -> Iterator[Bucket]:
    name = f"i{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    yield Bucket(store, s3_client, name)
    for page in s3_client.get_paginator("list_objects_v2").paginate(Bucket=name):
        for item in page.get("Contents", []):
            s3_client.delete_object(Bucket=name, Key=item["Key"])
    s3_client.delete_bucket(Bucket=name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.products.source.PAUSES", Backoff(first=0.01, longest=0.01, least=0.0))


@pytest.fixture
def tls_proxy(store: S3Server, authority: Authority) -> Iterator[TlsProxy]:
    """TLS in front of the S3 server, with a certificate of the tests' authority."""
    with TlsProxy(store.endpoint, authority.certify("127.0.0.1")) as server:
        yield server
