"""The results tables: checked or created before any work, filled by COPY inside the caller's transaction."""

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.config import DatabaseFile, TableName
from extractors.database import Column, columns, database_errors, find_table
from extractors.errors import ConfigurationError
from extractors.sql import statement

if TYPE_CHECKING:
    import pandas as pd
    from psycopg2.extensions import connection as PgConnection  # noqa: N812
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

INTEGERS = {"int2", "int4", "int8"}
NUMBERS = INTEGERS | {"float4", "float8", "numeric"}
TEXTS = {"bpchar", "varchar", "text"}
RESULT_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "band": TEXTS} | dict.fromkeys(
    ("count", "mean", "std", "min", "max", "p25", "p50", "p75"), NUMBERS
)
HIST_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "hist": {"json", "jsonb", "text"}}
# Some established tables spell it so.
OTHER_SPELLING = {"std": "stdev"}


@dataclass(frozen=True)
class ResultsTable:
    """A table to COPY into: its name, and for each of our columns the table's own name for it."""

    table: TableName
    columns: dict[str, str]

    def delete(self, cursor: "PgCursor", obsid: int) -> None:
        """Remove the rows of a scene."""
        cursor.execute(statement("signatures.delete_scene", table=self.table.identifier), {"obsid": obsid})

    def copy(self, cursor: "PgCursor", rows: "pd.DataFrame") -> None:
        """COPY rows with our column names (any order, none missing, no NaN) into the table."""
        names = sql.SQL(", ").join(sql.Identifier(self.columns[name]) for name in rows.columns)
        text = io.StringIO(rows.to_csv(index=False, header=False))
        cursor.copy_expert(statement("signatures.copy", table=self.table.identifier, columns=names), text)


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


def signature_rows(pid: Sequence[int], obsid: int, label: str, table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows to write for one chunk and band: `table` as an engine returns it, without the parcels without pixels."""
    rows = table.drop(columns="reason")
    rows.insert(0, "pid", pid)
    rows.insert(1, "obsid", obsid)
    rows.insert(2, "band", label)
    return rows[rows["count"] > 0]


def hist_rows(pid: Sequence[int], obsid: int, histograms: Sequence[dict[str, int]]) -> "pd.DataFrame":
    """The rows to write for one chunk's class histograms, without the parcels that have none."""
    import pandas as pd

    rows = [(parcel, obsid, json.dumps(hist)) for parcel, hist in zip(pid, histograms, strict=True) if hist]
    return pd.DataFrame(rows, columns=list(HIST_TYPES))


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
        ours[name] = own
    _check_rest(where, table, present, set(ours.values()), longest_label)
    return ResultsTable(table, ours)


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
    created = find_table(connection, wanted)
    if created is None:  # pragma: no cover: it has just been created in this transaction
        raise ConfigurationError(f"table {wanted} could not be created")
    return created


def _sql_type(pid_type: str) -> str:
    return "bigint" if pid_type == "int8" else "integer"
