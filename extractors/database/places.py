"""Where products lie, if that is known: the optional table `scene_source`, which others fill."""

from typing import NamedTuple

from extractors.config import TableName
from extractors.database.connection import Database, scalar
from extractors.database.schema import Table
from extractors.database.sql import statement
from extractors.errors import UnusableSceneError
from extractors.model import Scene

PLACES_TABLE = "scene_source"
# The longest key of S3.
LONGEST_PREFIX_BYTES = 1024


class Place(NamedTuple):
    """Where a product lies. bucket: None for the configured one. prefix: what all its keys begin with, with a slash."""

    bucket: str | None
    prefix: str


class Places:
    """The table, beside the catalogue, whose ids it holds. It is looked for anew each time: it may come later."""

    def __init__(self, database: Database, catalogue: Table) -> None:
        self._database = database
        self._table = TableName(PLACES_TABLE, catalogue.name.schema)

    def any(self) -> bool:
        """Whether it says anything."""
        with self._database.transaction(f"looking into {self._table}") as cursor:
            cursor.execute(statement("places.exists"), {"table": self._table.identifier.as_string(cursor)})
            if not scalar(cursor):
                return False
            cursor.execute(statement("places.any", places=self._table.identifier))
            return bool(scalar(cursor))

    def of(self, scene: Scene) -> Place | None:
        """What it says of a scene; None for nothing. Raises UnusableSceneError for what cannot be a place."""
        with self._database.transaction(f"looking into {self._table}") as cursor:
            cursor.execute(statement("places.exists"), {"table": self._table.identifier.as_string(cursor)})
            if not scalar(cursor):
                return None
            cursor.execute(statement("places.of", places=self._table.identifier), {"obsid": scene.id})
            row = cursor.fetchone()
        if row is None:
            return None
        bucket, prefix = ((text or "").strip() for text in row)
        prefix = prefix.strip("/") + "/"
        parts = prefix.split("/")[:-1]
        if (
            not all(parts)
            or {".", ".."} & set(parts)
            or not prefix.isprintable()
            or len(prefix.encode()) > LONGEST_PREFIX_BYTES
        ):
            raise UnusableSceneError(
                f"{self._table} says that the product lies under {prefix[:80]!a}, which is no place; fix it there"
            )
        return Place(bucket or None, prefix)
