"""A database of a test's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg2
from psycopg2 import sql
from shapely.geometry.base import BaseGeometry

from demo import tables
from demo.servers import Postgis
from tests.support.ground import footprint, ground
from tests.support.scenes import Scene, Signatures


class Database:
    """A PostGIS database with a catalogue, one AOI round the ground and an empty parcel table; `database` is its name.

    The tables have the names that the examples in the documentation have: `aois` (with the AOI `my_aoi`), `parcels`,
    and the results in `signatures` (absent at first). Every statement of `connection` is committed at once.
    """

    def __init__(self, postgis: Postgis, name: str, parcel_srid: int) -> None:
        self.postgis, self.database, self.parcel_srid = postgis, name, parcel_srid
        postgis.create_database(name)
        self.reconnect()
        tables.create_catalogue(self.connection)
        tables.create_aois(self.connection)
        tables.create_parcels(self.connection, "parcels", parcel_srid)
        tables.add_aoi(self.connection, "my_aoi", footprint(ground(1000)))

    def reconnect(self) -> None:
        """Open `connection`, at first or after the server has ended it."""
        self.connection = self.connect()
        self.connection.autocommit = True

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

    def drop_database(self) -> None:
        self.connection.close()
        self.postgis.drop_database(self.database)


def _id(scene: Scene | int) -> int:
    return scene.id if isinstance(scene, Scene) else scene
