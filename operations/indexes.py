"""Indexes on tables that are in use: made while others write, and made anew where that was interrupted."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from psycopg2 import sql

from extractors.database.connection import Database, scalar
from extractors.database.schema import Table, WantedIndex, all_indexes
from extractors.errors import OutageError
from operations.lines import Report
from operations.sql import statement


@contextmanager
def alone(database: Database) -> Iterator[None]:
    """A block in which nobody else makes indexes in this way. Raises OutageError if somebody does."""
    with database.transaction("looking whether indexes are being made") as cursor:
        cursor.execute(statement("indexes.lock"))
        if not scalar(cursor):
            raise OutageError("another `operations index` or `setup` is making indexes in this database; wait for it")
    try:
        yield
    finally:
        if not database.closed:
            with database.transaction("ending the making of indexes") as cursor:
                cursor.execute(statement("indexes.unlock"))


def are_lacking(database: Database, wanted: Iterable[WantedIndex]) -> bool:
    """Whether one of these indexes is not there, or cannot be used."""
    with database.transaction("looking at indexes") as cursor:
        return not all(
            any(one.valid and index.like(one) for one in all_indexes(cursor, index.table)) for index in wanted
        )


def add_indexes(database: Database, wanted: Iterable[WantedIndex], report: Report) -> None:
    """Make the indexes that are lacking, each while others write into its table."""
    for index in wanted:
        name = f"index on {index.table}"
        with database.transaction("looking at indexes") as cursor:
            found = [one for one in all_indexes(cursor, index.table) if index.like(one)]
        if any(one.valid for one in found):
            report.there(name, str(index).partition(" ")[2])
            continue
        if found and (busy := _being_made(database, index.table)):
            report.lacks(name, f"{index}, which process {busy} is making just now")
            continue
        leftovers = [sql.Identifier(one.schema, one.name) for one in found]
        again = ", anew, as it was left unfinished" if leftovers else ""
        what = str(index).partition(" ")[2]
        report.make(name, f"{what}{again}", partial(_make, database, index, leftovers))


def _make(database: Database, index: WantedIndex, leftovers: list[sql.Identifier]) -> None:
    with database.alone(f"making an index on {index.table}") as cursor:
        for leftover in leftovers:
            cursor.execute(statement("indexes.drop", index=leftover))
        cursor.execute(statement("indexes.create", table=index.table.identifier, definition=index.definition))
        cursor.execute(statement("indexes.analyze", table=index.table.identifier))


def _being_made(database: Database, table: Table) -> int | None:
    """A server process that makes an index on a table just now."""
    with database.transaction("looking at indexes") as cursor:
        cursor.execute(statement("indexes.being_made"), {"table": table.identifier.as_string(cursor)})
        pid: int | None = scalar(cursor)
        return pid
