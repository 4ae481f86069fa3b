"""Tables that are absent are made: all that are wanted, or none."""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.database.connection import Database
from extractors.database.outputs import OUTPUTS, check_labels, checked, statistic_columns
from extractors.database.schema import MADE_HERE, Table, find
from extractors.database.sql import statement
from extractors.database.tables import SETTINGS, Tables, checked_log

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# Characters for labels: those of all CARDs' usual bands fit in.
LABELS_ROOM = 3
# How the columns of a table are declared that is made here; ids as those of the parcels.
ID_TYPES = {"int8": sql.SQL("bigint")}


def make_tables(database: Database, tables: Tables, labels: Collection[str] = ()) -> Tables:
    """Create the tables that are absent, and the log's column `settings`, all of it or nothing; whoever else starts now
    finds them made. labels: what will be written into the column `band`.

    Raises ConfigurationError if the database does not let us, or if others have made one meanwhile that does not fit.
    """
    absent = [table for table in (tables.log, *tables.of_results.values()) if table.absent]
    wanted = [f"the table {table} ({table.key})" for table in absent]
    if tables.log.columns and SETTINGS not in tables.log.columns:
        wanted.append(f"the column {SETTINGS} of {tables.log}")
    if not wanted:
        return tables
    with database.transaction(f"creating {', '.join(wanted)}") as cursor:
        cursor.execute(statement("tables.lock_creation"))
        if not tables.log.absent and SETTINGS not in tables.log.columns:
            cursor.execute(statement("tables.add_settings", log=tables.log.identifier))
        # Another worker may have been quicker.
        if find(cursor, tables.log.name, tables.log.key).absent:
            _make_log(cursor, tables.log)
        statistics = statistic_columns(tables.result_types)
        columns = {"pid_type": ID_TYPES.get(tables.pid_type, sql.SQL("integer")), "statistics": statistics}
        columns["band_type"] = sql.SQL("varchar({})").format(sql.Literal(max(LABELS_ROOM, *map(len, ("", *labels)))))
        of_results = {}
        for name, table in tables.of_results.items():
            if find(cursor, table.name, table.key).absent:
                cursor.execute(statement(OUTPUTS[name].made_by, table=table.identifier, **columns))
                cursor.execute(statement("tables.index_obsid", table=table.identifier))
                cursor.execute(statement("tables.identify_rows", table=table.identifier))
                cursor.execute(statement("tables.comment", table=table.identifier), {"comment": MADE_HERE})
            of_results[name] = checked(find(cursor, table.name, table.key), OUTPUTS[name].types or tables.result_types)
            check_labels(of_results[name], labels)
        log = checked_log(find(cursor, tables.log.name, tables.log.key))
        return replace(tables, log=log, of_results=of_results)


def _make_log(cursor: "PgCursor", log: Table) -> None:
    cursor.execute(statement("tables.create_log", log=log.identifier))
    cursor.execute(statement("tables.index_log", log=log.identifier))
    cursor.execute(statement("tables.index_open_attempts", log=log.identifier))
    cursor.execute(statement("tables.index_pauses", log=log.identifier))
    cursor.execute(statement("tables.index_results", log=log.identifier))
    cursor.execute(statement("tables.index_redone", log=log.identifier))
    cursor.execute(statement("tables.index_tables", log=log.identifier))
