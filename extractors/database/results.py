"""The results tables: checked or created before any work, filled by COPY inside the caller's transaction."""

import csv
import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from psycopg2 import sql

from extractors import failpoints
from extractors.config import DatabaseFile, TableName
from extractors.database.connection import Column, columns, database_errors, find_table, table_comment
from extractors.database.sql import statement
from extractors.errors import ConfigurationError
from extractors.signatures import STATISTICS

if TYPE_CHECKING:
    from psycopg2.extensions import connection as PgConnection  # noqa: N812
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

    from extractors.statistics.zonal import Floats, Integers

INTEGERS = {"int2", "int4", "int8"}
FLOATS = {"float4", "float8", "numeric"}
TEXTS = {"bpchar", "varchar", "text"}
RESULT_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "band": TEXTS, "count": INTEGERS | FLOATS} | dict.fromkeys(
    ("mean", "std", "min", "max", "p25", "p50", "p75"), FLOATS
)
HIST_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "hist": {"json", "jsonb", "text"}}
# The comment on a table that tells that nobody else writes into it.
MADE_HERE = "Made by parcel-extraction: every scene in it is in extraction_log"
# Some established tables spell it so.
OTHER_SPELLING = {"std": "stdev"}

# PostgreSQL's binary COPY format: a header, then for each row the number of fields, and for each field its size and
# its value, most significant byte first.
BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
BINARY_END = b"\xff\xff"
BINARY_TYPES = {"int2": ">i2", "int4": ">i4", "int8": ">i8", "float4": ">f4", "float8": ">f8"}
# Rows of one COPY. Not all at once: where the table has foreign keys, the server keeps a note of every row until the
# statement ends.
ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Signatures:
    """Rows to write for one band and some parcels. pid: n numbers of parcels; table: n x STATISTICS, all counts > 0."""

    label: str
    pid: "Integers"
    table: "Floats"


@dataclass(frozen=True)
class ResultsTable:
    """A table to COPY into: its name, and for each of our columns the table's own."""

    table: TableName
    columns: dict[str, Column]
    made_here: bool

    def clear(self, cursor: "PgCursor", obsid: int, aoi: str, before: set[str], pids: Iterable[int]) -> None:
        """Remove what is replaced by the rows that a scene gets for these parcels.

        before: areas of interest for which the log has this scene in this table. All rows of the scene go if they can
        only be this area's; rows that another area or another program may have written stay, but for these parcels.
        A table that this program made is not searched for rows that the log does not know.
        """
        if before == {aoi} and self.made_here:
            cursor.execute(statement("signatures.delete_scene", table=self.table.identifier), {"obsid": obsid})
        elif before or self._has_rows(cursor, obsid):
            cursor.execute(
                statement("signatures.delete_parcels", table=self.table.identifier),
                {"obsid": obsid, "pids": list(pids)},
            )

    def _has_rows(self, cursor: "PgCursor", obsid: int) -> bool:
        if self.made_here:
            return False
        # Quick where there is an index on obsid, else a walk through the table.
        cursor.execute(statement("signatures.any_of_scene", table=self.table.identifier), {"obsid": obsid})
        row = cursor.fetchone()
        return bool(row and row[0])

    def encode(self, obsid: int, part: Signatures) -> bytes:
        """Rows in the form in which COPY takes them."""
        return self._binary(obsid, part) if self._is_binary else self._csv(obsid, part)

    def copy(self, cursor: "PgCursor", rows: "Spool") -> None:
        """COPY a scene's rows, encoded before, into the table."""
        begin, end = (BINARY_HEADER, BINARY_END) if self._is_binary else (b"", b"")
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in self.columns.values())
        form = "binary" if self._is_binary else "csv"
        copy = statement("signatures.copy", table=self.table.identifier, columns=names, form=sql.SQL(form))
        for block in rows.blocks():
            cursor.copy_expert(copy, io.BytesIO(begin + block + end))
            failpoints.reach("copied")

    @property
    def _is_binary(self) -> bool:
        types = {column.type for column in self.columns.values()}
        return self.columns.keys() == RESULT_TYPES.keys() and types <= BINARY_TYPES.keys() | TEXTS

    def _binary(self, obsid: int, part: Signatures) -> bytes:
        import numpy as np

        label = part.label.encode()
        kinds = {
            name: f"S{len(label)}" if name == "band" else BINARY_TYPES[column.type]
            for name, column in self.columns.items()
        }
        layout: list[tuple[str, str]] = [("fields", ">i2")]
        for name, kind in kinds.items():
            layout += [(f"size of {name}", ">i4"), (name, kind)]
        rows = np.zeros(len(part.pid), dtype=layout)
        rows["fields"] = len(kinds)
        for name, kind in kinds.items():
            rows[f"size of {name}"] = np.dtype(kind).itemsize
        values = {"pid": part.pid, "obsid": np.array([obsid])}
        values |= dict(zip(STATISTICS, part.table.T, strict=True))
        for name, value in values.items():
            dtype = np.dtype(kinds[name])
            if dtype.kind == "i" and value.size and value.max() > np.iinfo(dtype).max:
                raise ConfigurationError(
                    f"column {self.columns[name].name} of table {self.table} is too narrow for {value.max():.0f}; "
                    "ALTER it to a wider type"
                )
            rows[name] = value
        rows["band"] = label
        return rows.tobytes()

    def _csv(self, obsid: int, part: Signatures) -> bytes:
        text = io.StringIO()
        values = {"pid": part.pid.tolist(), "obsid": [obsid] * len(part.pid), "band": [part.label] * len(part.pid)}
        values |= dict(zip(STATISTICS, part.table.T.tolist(), strict=True))
        values["count"] = [int(count) for count in values["count"]]
        csv.writer(text).writerows(zip(*(values[name] for name in self.columns), strict=True))
        return text.getvalue().encode()


class Spool:
    """Encoded rows of a scene, kept until all are there: in memory up to so many bytes, beyond that in a nameless file
    in the folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._file: IO[bytes] = (
            tempfile.SpooledTemporaryFile(max_size=most_bytes, dir=str(folder))  # noqa: SIM115 (lives as long as the scene)
            if most_bytes
            else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        )
        self._blocks: list[int] = []
        self._rows = ROWS_AT_ONCE

    def add(self, rows: bytes, number: int) -> None:
        """Keep so many rows."""
        if not number:
            return
        self._file.write(rows)
        if self._rows + number > ROWS_AT_ONCE:
            self._blocks.append(0)
            self._rows = 0
        self._blocks[-1] += len(rows)
        self._rows += number

    def blocks(self) -> Iterator[bytes]:
        """All rows, as many at a time as one COPY may take."""
        self._file.seek(0)
        for size in self._blocks:
            yield self._file.read(size)

    def close(self) -> None:
        """Give memory and file back."""
        self._file.close()


def encode_hists(obsid: int, hists: Iterable[tuple[int, dict[str, int]]]) -> bytes:
    """A scene's class histograms (parcel, pixels per class) in the form in which COPY takes them."""
    text = io.StringIO()
    csv.writer(text).writerows((pid, obsid, json.dumps(hist)) for pid, hist in hists)
    return text.getvalue().encode()


def open_results(
    connection: "PgConnection", config: DatabaseFile, config_name: str, labels: Iterable[str], pid_type: str
) -> ResultsTable:
    """Check the signatures table, or create it; `labels` must fit its column band. Raises ConfigurationError."""
    longest = max(len(label) for label in labels)
    return _open(connection, config.tables.results_table, "results_table", config_name, RESULT_TYPES, pid_type, longest)


def open_hists(
    connection: "PgConnection", config: DatabaseFile, config_name: str, pid_type: str
) -> ResultsTable | None:
    """Check the table of class histograms, or create it; None if none is configured. Raises ConfigurationError."""
    if config.tables.hists_table is None:
        return None
    return _open(connection, config.tables.hists_table, "hists_table", config_name, HIST_TYPES, pid_type, 0)


def _open(
    connection: "PgConnection",
    wanted: TableName,
    key: str,
    config_name: str,
    types: dict[str, set[str]],
    pid_type: str,
    longest_label: int,
) -> ResultsTable:
    where = f"{config_name}: database.tables.{key}"
    with database_errors(connection, f"checking the table {wanted} ({where})"), connection:
        table = find_table(connection, wanted) or _create(connection, wanted, key, pid_type)
        present = columns(connection, table)
        made_here = table_comment(connection, table) == MADE_HERE
    ours = {}
    for name, allowed in types.items():
        own = OTHER_SPELLING.get(name, name)
        own = name if name in present or own not in present else own
        if own not in present:
            raise ConfigurationError(
                f"{where}: table {table} has no column {name}; add it (its columns must be {', '.join(types)}), or "
                "write the name of another table"
            )
        if present[own].type not in allowed:
            raise ConfigurationError(
                f"{where}: column {own} of table {table} has the type {present[own].type}, which cannot hold it; "
                f"change it to one of {', '.join(sorted(allowed))}"
            )
        ours[name] = present[own]
    _check_rest(where, table, present, {column.name for column in ours.values()}, longest_label)
    return ResultsTable(table, ours, made_here)


def _check_rest(where: str, table: TableName, present: dict[str, Column], ours: set[str], longest_label: int) -> None:
    for column in present.values():
        if column.name not in ours and column.required:
            raise ConfigurationError(
                f"{where}: column {column.name} of table {table} is NOT NULL without a default, and nothing writes it; "
                "drop it, allow NULL or give it a default"
            )
    band = present.get("band")
    if band is not None and band.longest_text is not None and band.longest_text < longest_label:
        raise ConfigurationError(
            f"{where}: column band of table {table} holds {band.longest_text} characters, but the labels have "
            f"{longest_label}; widen it, or write extraction.band_labels = classic"
        )


def _create(connection: "PgConnection", wanted: TableName, key: str, pid_type: str) -> TableName:
    kind = key.removesuffix("_table")
    with connection.cursor() as cursor:
        cursor.execute(statement("tables.lock_creation"))
        cursor.execute(
            statement(f"tables.create_{kind}", **{kind: wanted.identifier, "pid_type": sql.SQL(_sql_type(pid_type))})
        )
        cursor.execute(statement("tables.comment", table=wanted.identifier), {"comment": MADE_HERE})
    created = find_table(connection, wanted)
    if created is None:  # pragma: no cover: it has just been created in this transaction
        raise ConfigurationError(f"table {wanted} could not be created")
    return created


def _sql_type(pid_type: str) -> str:
    return "bigint" if pid_type == "int8" else "integer"
