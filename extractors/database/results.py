"""The results tables: cleared of what is replaced and filled by COPY, inside the caller's transaction."""

import io
import logging
from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg2
from psycopg2 import errors as pg
from psycopg2 import sql

from extractors import failpoints
from extractors.database.columns import TEXTS
from extractors.database.connection import scalar
from extractors.database.outputs import CLEAR_RESULTS, KEY_COLUMNS, OUTPUTS, RESULTS
from extractors.database.schema import Table
from extractors.database.spool import END, HEADER, Spool
from extractors.database.sql import statement
from extractors.errors import AccountingError, ConfigurationError, one_line
from extractors.model import CLEAR, ParcelCounts

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

# Rows of one COPY. Not all at once: where the table has foreign keys, the server keeps a note of every row until the
# statement ends.
ROWS_AT_ONCE = 50_000
# Types whose binary form is known, as NumPy calls them.
BINARY_TYPES = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8"}


class Rows:
    """All that a scene gives to the database: how many parcels were selected, the ids of those that have one, and the
    encoded rows of each of OUTPUTS, in memory up to so many bytes each and then in the folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.selected = 0
        self.pids = array("q")
        self.of = {name: Spool(folder, most_bytes, ROWS_AT_ONCE) for name in OUTPUTS}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give memory and files back."""
        for spool in self.of.values():
            spool.close()


@dataclass(frozen=True)
class ResultsTable:
    """A table of results, and how rows get into it."""

    table: Table

    @property
    def statistics(self) -> list[str]:
        """The names of the statistics that are written, in their order."""
        return [name for name in self.table.columns if name not in KEY_COLUMNS]

    @property
    def is_binary(self) -> bool:
        """Whether COPY takes the rows in its binary form (the quicker one), else as CSV."""
        types = {column.type for column in self.table.columns.values()}
        return "band" in self.table.columns and types <= BINARY_TYPES.keys() | TEXTS

    def clear(self, cursor: "PgCursor", obsid: int, before: bool, pids: "array[int]") -> int:
        """Delete the scene's rows of the parcels that are selected now; returns how many rows of other parcels stay.

        before: whether the log knows of rows of this scene, in whatever table, since tables can be renamed. Only then
        is a table searched that nobody else writes into. Raises ConfigurationError if rows do not go away.
        """
        if self.table.made_here and not before:
            return 0
        names, values = {"table": self.table.identifier}, {"obsid": obsid}
        cursor.execute(statement("results.use_indexes"))
        # Quick where there is an index on obsid, else a walk through the table.
        cursor.execute(statement("results.any_of_scene", **names), values)
        if not scalar(cursor):
            return 0
        selected = values | {"pids": array_literal(pids)}
        cursor.execute(statement("results.delete_parcels", **names), selected)
        cursor.execute(statement("results.count_parcels", **names), selected)
        undeleted = scalar(cursor)
        if undeleted:
            raise ConfigurationError(
                f"{self.table.key}: {undeleted} rows of scene {obsid} cannot be deleted from table {self.table}, and "
                "would be there twice; nothing was written; remove the trigger or rule that keeps them"
            )
        cursor.execute(statement("results.count_scene", **names), values)
        return int(scalar(cursor))

    def refuse_if_closed(self, cursor: "PgCursor", pid: int, obsid: int, labels: Collection[str]) -> None:
        """Raise ConfigurationError if the table has no partition for a scene's rows, or a constraint on their scene,
        parcel or label that they do not meet. Found out by inserting one, which is undone."""
        columns = list(self.table.columns.items())
        insert = statement(
            "results.try",
            table=self.table.identifier,
            columns=sql.SQL(", ").join(sql.Identifier(column.name) for _, column in columns),
            values=sql.SQL(", ").join(sql.Placeholder(name) for name, _ in columns),
        )
        any_numbers = dict.fromkeys((name for name, _ in columns), 1) | {"pid": pid, "obsid": obsid, "hist": "{}"}
        any_numbers["reason"] = "nodata"
        for label in labels:
            cursor.execute(statement("results.begin_trial"))
            refusal = None
            try:
                cursor.execute(insert, any_numbers | {"band": label, "bands": label})
            except (pg.CheckViolation, pg.ForeignKeyViolation) as error:
                refusal = error
            except psycopg2.Error as error:
                log.debug("%s: a trial row is refused: %s", self.table, one_line(error))
            cursor.execute(statement("results.end_trial"))
            if refusal is not None and self._is_about_keys(cursor, refusal):
                raise ConfigurationError(
                    f"{self.table.key}: table {self.table} does not take rows of scene {obsid} ({one_line(refusal)}); "
                    "add a partition for it, or change that constraint"
                ) from refusal

    def _is_about_keys(self, cursor: "PgCursor", refusal: psycopg2.Error) -> bool:
        """Whether it is for want of a partition, or for what a row says of parcel, scene and label."""
        if refusal.diag.constraint_name is None:
            return True
        values = {"table": self.table.identifier.as_string(cursor), "constraint": refusal.diag.constraint_name}
        cursor.execute(statement("results.constrained"), values)
        about = {name for (name,) in cursor.fetchall()}
        return bool(about) and about <= {
            self.table.columns[name].name for name in self.table.columns.keys() & KEY_COLUMNS
        }

    def copy(self, cursor: "PgCursor", rows: Spool) -> int:
        """COPY a scene's encoded rows into the table; returns how many it reports, and raises ConfigurationError if
        they do not all arrive."""
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
        return arrived


def check_accounts(counts: ParcelCounts, selected: int, written: Mapping[str, int]) -> None:
    """Raise AccountingError unless each parcel that was selected has, in every band, either a row or one reason for
    having none. selected: parcels that the database has given. written: rows that it has taken, for each of OUTPUTS."""
    wrong = []
    if counts.parcels_selected != selected:
        wrong.append(f"{selected} parcels were selected and {counts.parcels_selected} computed")
    for band in dict.fromkeys([*counts.bands, *counts.rows_written, *counts.parcels_without_row]):
        rows, without = counts.rows_written[band], sum(counts.parcels_without_row.get(band, {}).values())
        if rows + without != selected:
            wrong.append(f"{band}: {selected} parcels were selected, {rows} have a row and {without} a reason for none")
    of_clear = sum(rows for band, rows in counts.rows_written.items() if band.endswith(CLEAR))
    for name, rows in ((RESULTS, counts.rows_written.total() - of_clear), (CLEAR_RESULTS, of_clear)):
        if rows != written.get(name, 0):
            wrong.append(f"{OUTPUTS[name].key}: {rows} rows were counted and {written.get(name, 0)} written")
    if wrong:
        raise AccountingError(f"its accounts do not balance ({'; '.join(wrong)}); nothing was written; report this")


def array_literal(numbers: Iterable[int]) -> str:
    """An array as PostgreSQL writes it: one constant, where a list would become one for each number."""
    return f"{{{','.join(map(str, numbers))}}}"
