"""Tables of results in partitions, by scene: for countries whose rows one index could not hold."""

from functools import partial
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.config import TableName
from extractors.database.connection import Database, scalar
from extractors.database.schema import MADE_HERE, Table
from extractors.database.sql import statement as shared
from extractors.errors import ConfigurationError
from operations.lines import Report
from operations.session import EarlyReader, Session
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# Numbers of the catalogue for one partition: of three CARDs, some thirty scenes each.
SCENES = 100
# Bytes of a table's name that the names of its partitions begin with.
LONGEST_PREFIX = 50


def make_partitioned(database: Database, table: Table, catalogue: Table, scenes: int) -> None:
    """Give an empty table that was just made here partitions of so many scenes, and the first of them."""
    with database.transaction(f"making partitions of {table}") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        cursor.execute(statement("partitions.lock", table=table.identifier))
        cursor.execute(statement("partitions.any_row", table=table.identifier))
        if scalar(cursor) or not table.made_here:
            raise ConfigurationError(f"{table.key}: {table} has rows already; only a new table can get partitions")
        plain = _beside(table, "plain")
        obsid = sql.Identifier(table.columns["obsid"].name)
        cursor.execute(statement("partitions.rename", table=table.identifier, other=sql.Identifier(plain.name)))
        cursor.execute(statement("partitions.create", table=table.identifier, like=plain.identifier, obsid=obsid))
        cursor.execute(statement("partitions.drop", table=plain.identifier))
        cursor.execute(shared("tables.index_obsid", table=table.identifier))
        cursor.execute(shared("tables.identify_rows", table=table.identifier))
        cursor.execute(shared("tables.comment", table=table.identifier), {"comment": MADE_HERE})
        cursor.execute(statement("partitions.scenes", catalogue=catalogue.identifier))
        first, _ = cursor.fetchone() or (0, 0)
        first -= first % scenes
        _add(cursor, table, first, first + scenes)


def cover_scenes(opened: Session, reader: EarlyReader, report: Report) -> None:
    """Make the partitions that scenes of the catalogue lack, and the next one after these."""
    for table in reader.all().of_results.values():
        if table.kind != "p":
            continue
        with opened.database.transaction(f"looking at partitions of {table}") as cursor:
            cursor.execute(statement("partitions.bounds"), {"table": table.identifier.as_string(cursor)})
            bounds = [(first, after) for _, _, first, after in cursor.fetchall() if first is not None]
            cursor.execute(statement("partitions.scenes", catalogue=reader.catalogue.identifier))
            _, last = cursor.fetchone() or (0, 0)
        if not bounds:
            report.there("partitions", f"those of {table} are not by scene, so they are left alone")
            continue
        first, after = max(bounds)
        scenes = after - first
        report.there("partitions", f"{len(bounds)} of {table}, the last one for scenes {first} to {after - 1}")
        for first in range(after, last + scenes + 1, scenes):
            what = f"of {table}, for scenes {first} to {first + scenes - 1}"
            report.make("partition", what, partial(_extend, opened.database, table, first, first + scenes))


def _extend(database: Database, table: Table, first: int, after: int) -> None:
    with database.transaction(f"making a partition of {table}") as cursor:
        _add(cursor, table, first, after)


def _add(cursor: "PgCursor", table: Table, first: int, after: int) -> None:
    name = _beside(table, str(first)).identifier
    values = {"first": first, "after": after}
    cursor.execute(statement("partitions.add", table=table.identifier, partition=name), values)
    cursor.execute(shared("tables.identify_rows", table=name))


def _beside(table: Table, ending: str) -> TableName:
    """A name in the table's schema; PostgreSQL would cut one that is too long."""
    start = table.name.name.encode()[:LONGEST_PREFIX].decode(errors="ignore")
    return TableName(f"{start}_{ending}", table.name.schema)
