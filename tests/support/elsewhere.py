"""Databases that are not made as usual: in another encoding, or with PostGIS in a schema of its own."""

from __future__ import annotations

from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection

from demo.servers import Postgis


class Elsewhere:
    """A server whose new databases have this encoding, and PostGIS in this schema (None: none); for a `Workspace`. Its
    own sessions find PostGIS, and speak UTF-8."""

    def __init__(self, postgis: Postgis, encoding: str = "UTF8", schema: str | None = "public") -> None:
        self._postgis, self._encoding, self._schema = postgis, encoding, schema

    def __getattr__(self, name: str) -> Any:
        return getattr(self._postgis, name)

    def connect(self, dbname: str = "postgres", **keywords: Any) -> connection:
        ours = {"client_encoding": "UTF8", "options": f'-c search_path=public,"{self._schema}"'}
        return self._postgis.connect(dbname, **(ours | keywords))

    def create_database(self, name: str) -> None:
        maintenance = self._postgis.connect()
        try:
            maintenance.autocommit = True
            create = "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'"
            with maintenance.cursor() as cursor:
                cursor.execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(self._encoding)))
        finally:
            maintenance.close()
        made = self._postgis.connect(name)
        try:
            with made, made.cursor() as cursor:
                if self._schema is not None:
                    schema = sql.Identifier(self._schema)
                    cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
                    cursor.execute(sql.SQL("CREATE EXTENSION postgis SCHEMA {}").format(schema))
        finally:
            made.close()
