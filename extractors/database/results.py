"""The results tables: cleared of what is replaced and filled by COPY, inside the caller's transaction."""

import io
from collections.abc import Iterable
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

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# Rows of one COPY. Not all at once: where the table has foreign keys, the server keeps a note of every row until the
# statement ends.
ROWS_AT_ONCE = 50_000
# Types whose binary form is known, as NumPy calls them.
BINARY_TYPES = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8"}


class Rows:
    """All that a scene gives to the database: the parcels that were computed, and the encoded rows of both tables, in
    memory up to so many bytes each and then in the folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.pids: list[int] = []
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

    def clear(self, cursor: "PgCursor", obsid: int, aoi: str, before: set[str], pids: Iterable[int]) -> None:
        """Delete the scene's rows that the new ones replace; `pids` are the parcels of these.

        before: areas of interest for which the log has this scene in this table. All rows of the scene go if they can
        only be this area's; rows that another area or another program may have written stay, but for these parcels.
        A table that this program made is not searched for rows that the log does not know.
        """
        names = {"table": self.table.identifier}
        if before == {aoi} and self.table.made_here:
            cursor.execute(statement("results.delete_scene", **names), {"obsid": obsid})
        elif before or self._has_rows(cursor, obsid):
            cursor.execute(statement("results.delete_parcels", **names), {"obsid": obsid, "pids": list(pids)})

    def _has_rows(self, cursor: "PgCursor", obsid: int) -> bool:
        if self.table.made_here:
            return False
        # Quick where there is an index on obsid, else a walk through the table.
        cursor.execute(statement("results.any_of_scene", table=self.table.identifier), {"obsid": obsid})
        return bool(scalar(cursor))

    def copy(self, cursor: "PgCursor", rows: Spool) -> None:
        """COPY a scene's encoded rows into the table."""
        copy = statement(
            "results.copy",
            table=self.table.identifier,
            columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in self.table.columns.values()),
            form=sql.SQL("binary") if self.is_binary else sql.SQL("csv"),
        )
        begin, end = (HEADER, END) if self.is_binary else (b"", b"")
        for block in rows.blocks():
            cursor.copy_expert(copy, io.BytesIO(b"".join([begin, *block, end])))
            failpoints.reach("copied")
