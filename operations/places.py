"""The table of places, where products lie: made for those who fill it, and for workers to read."""

from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.config import TableName
from extractors.database.schema import Table
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812


def make_places(cursor: "PgCursor", places: TableName, catalogue: Table) -> None:
    """Make it, and let workers that have their rights already read it: they look into it as soon as it is there."""
    cursor.execute(statement("setup.create_places", places=places.identifier))
    cursor.execute(statement("setup.status_writers"), {"catalogue": catalogue.identifier.as_string(cursor)})
    for (role,) in cursor.fetchall():
        cursor.execute(statement("setup.grant_places", places=places.identifier, role=sql.Identifier(role)))
