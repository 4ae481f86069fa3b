"""What helps and is not necessary: what `--check` says besides."""

from extractors.database.connection import Database
from extractors.database.schema import Table, indexes, is_indexed
from extractors.database.sql import statement
from extractors.database.tables import TableReader
from extractors.model import Check


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
        geometry = reader.parcels.columns["geometry"].name
        wanted: list[tuple[Table, list[str | None], str]] = [
            (reader.parcels, [geometry], f"USING gist ({geometry})"),
            (reader.catalogue, ["card", "obstime"], "(card, obstime, id) WHERE status = 'ingested'"),
            (reader.log, ["obsid"], "(obsid)"),
            (reader.log, ["retry_after"], "(retry_after) WHERE retry_after IS NOT NULL"),
            (reader.log, ["results", "card"], "(results, card, obsid, run_id) WHERE outcome = 'extracted'"),
            (reader.log, [None], "USING gin ((settings -> 'tables')) WHERE settings ? 'tables'"),
        ]
        wanted += [
            (table, [table.columns["obsid"].name], "USING brin (obsid)")
            for table in reader.of_results.values()
            if not table.absent
        ]
        with self._database.transaction("looking at indexes") as cursor:
            lacking = [
                f"CREATE INDEX CONCURRENTLY ON {table} {definition}"
                for table, columns, definition in wanted
                if not table.absent and table.kind in "rm" and not is_indexed(cursor, table, columns)
            ]
        return "; ".join(["all work without, but slower", *lacking]) if lacking else "those that help are there"
