"""The results tables: cleared of what is replaced and filled by COPY, inside the caller's transaction."""

import io
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from psycopg2 import sql

from extractors import failpoints
from extractors.database.connection import scalar
from extractors.database.schema import Table
from extractors.database.spool import END, HEADER, Spool
from extractors.database.sql import statement
from extractors.database.tables import RESULT_TYPES, TEXTS
from extractors.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# Rows of one COPY. Not all at once: where the table has foreign keys, the server keeps a note of every row until the
# statement ends.
ROWS_AT_ONCE = 50_000
# Types whose binary form is known, as NumPy calls them.
BINARY_TYPES = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8"}


class Rows:
    """All that a scene gives to the database: the ids of the parcels that were selected, and the encoded rows of both
    tables, in memory up to so many bytes each and then in the folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.pids = array("q")
        self.signatures = Spool(folder, most_bytes, ROWS_AT_ONCE)
        self.hists = Spool(folder, most_bytes, ROWS_AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give memory and files back."""
        self.signatures.close()
        self.hists.close()


@dataclass(frozen=True)
class ResultsTable:
    """A table of results, and how rows get into it."""

    table: Table

    @property
    def is_binary(self) -> bool:
        """Whether COPY takes the rows in its binary form (the quicker one), else as CSV."""
        types = {column.type for column in self.table.columns.values()}
        return self.table.columns.keys() == RESULT_TYPES.keys() and types <= BINARY_TYPES.keys() | TEXTS

    def clear(self, cursor: "PgCursor", obsid: int, before: bool, pids: "array[int]") -> int:
        """Delete the scene's rows of the parcels that are selected now; returns how many rows of other parcels stay.

        before: whether the log knows of rows of this scene, in whatever table, since tables can be renamed. Only then
        is a table searched that nobody else writes into.
        """
        if self.table.made_here and not before:
            return 0
        names, values = {"table": self.table.identifier}, {"obsid": obsid}
        cursor.execute(statement("results.use_indexes"))
        # Quick where there is an index on obsid, else a walk through the table.
        cursor.execute(statement("results.any_of_scene", **names), values)
        if not scalar(cursor):
            return 0
        cursor.execute(statement("results.delete_parcels", **names), values | {"pids": array_literal(pids)})
        cursor.execute(statement("results.count_scene", **names), values)
        return int(scalar(cursor))

    def copy(self, cursor: "PgCursor", rows: Spool) -> None:
        """COPY a scene's encoded rows into the table; raises ConfigurationError if they do not all arrive."""
        copy = statement(
            "results.copy",
            table=self.table.identifier,
            columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in self.table.columns.values()),
            form=sql.SQL("binary") if self.is_binary else sql.SQL("csv"),
        )
        arrived = 0
        begin, end = (HEADER, END) if self.is_binary else (b"", b"")
        for block in rows.blocks():
            cursor.copy_expert(copy, io.BytesIO(b"".join([begin, *block, end])))
            arrived += cursor.rowcount
            failpoints.reach("copied")
        if arrived != rows.total:
            raise ConfigurationError(
                f"{self.table.key}: only {arrived} of {rows.total} rows went into table {self.table}, and nothing was "
                "written; remove the trigger that drops rows, or sends them elsewhere"
            )


def array_literal(numbers: "array[int]") -> str:
    """An array as PostgreSQL writes it: one constant, where a list would become one for each number."""
    return f"{{{','.join(map(str, numbers))}}}"
