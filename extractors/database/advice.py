"""What helps and is not necessary: what `--check` says besides."""

from collections.abc import Iterable

from psycopg2 import sql

from extractors.database.connection import Database
from extractors.database.schema import Table, WantedIndex, indexes
from extractors.database.sql import statement
from extractors.database.tables import TableReader
from extractors.model import Check

# Which tables of results a scene of the log has rows in besides the first.
IN_TABLES = sql.SQL("(settings -> 'tables')")


class Advice:
    """The advice for one configuration's database."""

    def __init__(self, database: Database, reader: TableReader) -> None:
        self._database = database
        self._reader = reader

    def checks(self) -> list[Check]:
        """What can be said, in the form of checks; none of them fails."""
        tables = ("parcel table", "catalogue", "area of interest", "extraction log", "results table")
        return [
            Check("ids of parcels", self.ids, ("parcel table",)),
            Check("owners", self.owners, tables),
            Check("indexes", self.indexes, tables),
        ]

    def ids(self) -> str:
        """Whether an index says that no two parcels have the same id."""
        table = self._reader.parcels
        name = table.columns["id"].name
        with self._database.transaction("looking at indexes") as cursor:
            unique = any(
                index.unique and not index.partial and index.columns == [name] for index in indexes(cursor, table)
            )
        if unique:
            return f"each {name} of {table} is there once, as an index says"
        return f"unchecked, because {table} has no unique index on {name}: looked at as parcels are selected"

    def owners(self) -> str:
        """Who else may have something run with this user's rights."""
        reader = self._reader
        tables = [reader.parcels, reader.catalogue, reader.aois, reader.log, *reader.of_results.values()]
        with self._database.transaction("looking at owners") as cursor:
            cursor.execute(statement("connection.user"))
            user, is_superuser = cursor.fetchone() or ("", False)
            names = [table.identifier.as_string(cursor) for table in tables if not table.absent]
            cursor.execute(statement("checks.strangers"), {"tables": names})
            found = [f"{what} {whose}" for what, whose in cursor.fetchall()]
        if is_superuser:
            found.append(f"{user} itself is a superuser: give workers a role of their own (docs/configuration.md)")
        return (
            "; ".join(["others may have something run as this user", *found])
            if found
            else "nobody's that are not trusted"
        )

    def indexes(self) -> str:
        """Which indexes are lacking, as the statements that make them."""
        reader = self._reader
        wanted = [*wanted_indexes(reader), *wanted_by_scene(tables_of_results(reader))]
        with self._database.transaction("looking at indexes") as cursor:
            lacking = [
                f"CREATE INDEX CONCURRENTLY ON {index}"
                for index in wanted
                if index.table.kind in "rm" and not any(map(index.like, indexes(cursor, index.table)))
            ]
        remedy = "all work without, but slower (`python -m operations index` makes them)"
        return "; ".join([remedy, *lacking]) if lacking else "those that help are there"


def wanted_indexes(reader: TableReader) -> list[WantedIndex]:
    """Those by which scenes and parcels are found, of the tables that are there."""
    parcels, log = reader.parcels, reader.log
    return [
        *([] if parcels.absent else [WantedIndex(parcels, (parcels.columns["geometry"].name,), "gist")]),
        *wanted_of_catalogue(reader.catalogue),
        *([] if log.absent else wanted_of_log(log)),
    ]


def wanted_of_catalogue(catalogue: Table) -> list[WantedIndex]:
    """By these, scenes are claimed, and those of other programs found."""
    columns = ("card", "obstime", "id")
    return [
        WantedIndex(catalogue, columns, where=sql.SQL("status = 'ingested'"), mark="'ingested'"),
        WantedIndex(catalogue, columns, where=sql.SQL("status = 'inprogress'"), mark="'inprogress'"),
    ]


def wanted_of_log(log: Table) -> list[WantedIndex]:
    """By these, attempts are found. A log that is made here has them (`tables.index_log` and what follows there)."""
    written = ("results", "card", "obsid", "run_id")
    return [
        WantedIndex(log, ("obsid",)),
        WantedIndex(log, ("obsid",), where=sql.SQL("finished_at IS NULL"), mark="finished_at IS NULL"),
        WantedIndex(log, ("retry_after",), where=sql.SQL("retry_after IS NOT NULL"), mark="retry_after IS NOT NULL"),
        WantedIndex(log, written, where=sql.SQL("outcome = 'extracted'"), mark="'extracted'"),
        WantedIndex(log, written, where=sql.SQL("outcome = 'redone'"), mark="'redone'"),
        WantedIndex(log, (IN_TABLES,), "gin", sql.SQL("settings ? 'tables'"), "'tables'"),
    ]


def tables_of_results(reader: TableReader) -> list[Table]:
    """The tables of results that are there."""
    return [table for table in reader.of_results.values() if not table.absent]


def wanted_by_scene(tables: Iterable[Table]) -> list[WantedIndex]:
    """By these, the rows of a scene are found that others replace."""
    return [WantedIndex(table, (table.columns["obsid"].name,), "brin") for table in tables]


def wanted_by_parcel(tables: Iterable[Table]) -> list[WantedIndex]:
    """By these, the series of a parcel is read. They make writing slower, so workers do not ask for them."""
    return [WantedIndex(table, (table.columns["pid"].name,)) for table in tables]
