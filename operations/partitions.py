"""Tables of results in partitions, by scene: for countries whose rows one index could not hold."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.config import TableName
from extractors.database.connection import Database, scalar
from extractors.database.schema import MADE_HERE, Table, find
from extractors.database.sql import statement as shared
from extractors.errors import ConfigurationError, ExtractionError
from extractors.logs import progress
from operations.lines import Report
from operations.session import EarlyReader, Session
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# Numbers of the catalogue for one partition: of three CARDs, some thirty scenes each.
SCENES = 100
# Bytes of a table's name that the names of its partitions begin with.
LONGEST_PREFIX = 50
# Digits of the checksum of a longer name, which are among these bytes.
CHECKSUM = 8
# Partitions made in one transaction: each takes half a dozen locks, of which a server has some 6,000.
AT_ONCE = 100


class MuchLackingError(ExtractionError):
    """Scenes lack more partitions than fit into the transaction that adds them: see `make_room_first`. last: the scene
    with the greatest number."""

    def __init__(self, message: str, last: int) -> None:
        super().__init__(message)
        self.last = last


def divide(database: Database, table: Table, catalogue: Table, scenes: int, report: Report) -> None:
    """Give a table that is there already partitions, if it is as new: an interrupted `setup --partitioned` leaves such
    ones."""
    with database.transaction(f"looking at {table}") as cursor:
        cursor.execute(statement("partitions.is_new", table=table.identifier), {"table": _text(cursor, table.name)})
        is_new = table.made_here and scalar(cursor)
    if is_new:
        making = partial(make_partitioned, database, table, catalogue, scenes)
        report.make("partitions", f"those of {table}, which is there without any, and as new", making)
    else:
        report.lacks(
            "partitions",
            f"{table} is there without any, and no new table (it has rows, rights, views or triggers, is published, or "
            f"others made it); name another one as {table.key} for them",
        )


def make_partitioned(database: Database, table: Table, catalogue: Table, scenes: int) -> None:
    """Give an empty table that was just made here partitions of so many scenes, and the first of them."""
    with database.transaction(f"making partitions of {table}") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        if find(cursor, table.name, table.key).kind == "p":
            # Somebody else was quicker.
            return
        cursor.execute(statement("partitions.lock", table=table.identifier))
        cursor.execute(statement("partitions.any_row", table=table.identifier))
        if scalar(cursor) or not table.made_here:
            raise ConfigurationError(f"{table.key}: {table} has rows already; only a new table can get partitions")
        plain = _beside(table.name, "plain")
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
        _add(cursor, table.name, first, first + scenes)


def cover_scenes(opened: Session, reader: EarlyReader, report: Report) -> None:
    """Make the partitions that scenes of the catalogue lack, and the next one after these."""
    for table in reader.all().of_results.values():
        if table.kind != "p":
            continue
        with opened.database.transaction(f"looking at partitions of {table}") as cursor:
            bounds = _bounds(cursor, table.name)
            cursor.execute(statement("partitions.scenes", catalogue=reader.catalogue.identifier))
            _, last = cursor.fetchone() or (0, 0)
        if not bounds:
            report.there("partitions", f"those of {table} are not by scene, so they are left alone")
            continue
        first, after = bounds[-1]
        report.there("partitions", f"{len(bounds)} of {table}, the last one for scenes {first} to {after - 1}")
        lacking = lacking_partitions(bounds, last)
        if lacking:
            what = f"{len(lacking)} of {table}, for scenes {lacking[0][0]} to {lacking[-1][1] - 1}"
            report.make("partitions", what, partial(_extend, opened.database, table.name, last))


def lacking_partitions(bounds: Sequence[tuple[int, int]], last: int) -> list[tuple[int, int]]:
    """The scenes of those partitions that a table lacks for scenes up to the last, and of the next one after these.
    bounds: of those that it has."""
    first, after = bounds[-1]
    scenes = after - first
    return [(first, first + scenes) for first in range(after, last + scenes + 1, scenes)]


def make_room(cursor: "PgCursor", last: int) -> list[str]:
    """In the transaction that adds scenes: have all tables of results in this database that are in partitions take
    scenes up to the last. Returns those that do not, since we may not make their partitions. Raises MuchLackingError if
    these are too many for one transaction."""
    lacking, without_room = {}, []
    for table, bounds, is_ours in _tables(cursor):
        if bounds and is_ours:
            lacking[table] = len(lacking_partitions(bounds, last))
        elif bounds and bounds[-1][1] <= last:
            without_room.append(str(table))
    if sum(lacking.values()) > AT_ONCE:
        raise MuchLackingError(f"scenes up to {last} lack over {AT_ONCE} partitions", last)
    for table in [table for table, number in lacking.items() if number]:
        _add_some(cursor, table, last)
    return without_room


def make_room_first(database: Database, last: int) -> None:
    """The same before scenes are added, in as many transactions as it takes."""
    with database.transaction("looking at partitions") as cursor:
        tables = [table for table, bounds, is_ours in _tables(cursor) if bounds and is_ours]
    for table in tables:
        _extend(database, table, last)


def _tables(cursor: "PgCursor") -> list[tuple[TableName, list[tuple[int, int]], bool]]:
    """Our tables of results in partitions: name, bounds, and whether this user may make more of these."""
    cursor.execute(statement("partitions.tables"), {"comment": MADE_HERE})
    rows = cursor.fetchall()
    return [(TableName(name, schema), _bounds_of(cursor, number), is_ours) for schema, name, number, is_ours in rows]


def _extend(database: Database, table: TableName, last: int) -> None:
    """Make the partitions that a table lacks for scenes up to the last, and the next one after these. Each transaction
    makes some, in their order, so that after an interruption one can go on."""
    with database.transaction(f"looking at partitions of {table}") as cursor:
        total = len(lacking_partitions(_bounds(cursor, table), last))
    with progress(total, "", f"partitions of {table}") as bar:
        made = AT_ONCE
        while made == AT_ONCE:
            with database.transaction(f"making partitions of {table}") as cursor:
                made = _add_some(cursor, table, last)
            bar.update(made)


def _add_some(cursor: "PgCursor", table: TableName, last: int) -> int:
    """Make the first partitions that a table lacks for scenes up to the last; returns how many."""
    # Somebody else may have been at it.
    cursor.execute(shared("tables.lock_creation"))
    some = lacking_partitions(_bounds(cursor, table), last)[:AT_ONCE]
    for first, after in some:
        _add(cursor, table, first, after)
    return len(some)


def _bounds(cursor: "PgCursor", table: TableName) -> list[tuple[int, int]]:
    """From and up to which scenes the partitions of a table are, in their order."""
    return _bounds_of(cursor, _text(cursor, table))


def _text(cursor: "PgCursor", table: TableName) -> str:
    return table.identifier.as_string(cursor)


def _bounds_of(cursor: "PgCursor", table: str) -> list[tuple[int, int]]:
    cursor.execute(statement("partitions.bounds"), {"table": table})
    return sorted((first, after) for _, _, first, after in cursor.fetchall() if first is not None)


def _add(cursor: "PgCursor", table: TableName, first: int, after: int) -> None:
    # Made by itself, it keeps no reader or writer of the table waiting as it comes to the others.
    names = {"table": table.identifier, "partition": _beside(table, str(first)).identifier}
    cursor.execute(statement("partitions.create_one", **names))
    cursor.execute(shared("tables.identify_rows", table=names["partition"]))
    cursor.execute(statement("partitions.owner"), {"table": _text(cursor, table)})
    owner, is_another = cursor.fetchone() or ("", False)
    if is_another:
        cursor.execute(statement("partitions.give", partition=names["partition"], owner=sql.Identifier(owner)))
    cursor.execute(statement("partitions.attach", **names), {"first": first, "after": after})


def _beside(table: TableName, ending: str) -> TableName:
    """A name in the table's schema. PostgreSQL would cut one that is too long; those of two tables with the same
    beginning differ by a checksum."""
    start, name = table.name, table.name.encode()
    if len(name) > LONGEST_PREFIX:
        checksum = "_" + hashlib.sha256(name).hexdigest()[:CHECKSUM]
        start = name[: LONGEST_PREFIX - len(checksum)].decode(errors="ignore") + checksum
    return TableName(f"{start}_{ending}", table.schema)
