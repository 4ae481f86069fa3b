"""What a worker will do to its tables, and whether it can: rights, kinds of tables, policies."""

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from extractors.database.schema import Table
from extractors.database.sql import statement
from extractors.database.tables import SETTINGS
from extractors.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

KINDS = {"r": "a table", "p": "a partitioned table", "v": "a view", "m": "a materialised view", "f": "a foreign table"}
# PostgreSQL's bits for what can be done to a view.
UPDATE, DELETE = 4, 16
# Columns of the log that are written as an attempt begins, and later.
LOG_INSERTED = ("obsid", "reference", "card", "aoi", "results", "worker", "versions", "attempt", SETTINGS)
LOG_UPDATED = (
    "finished_at", "outcome", "status", "detail", "retry_after", "parcels_selected", "rows_written",
    "parcels_without_row", "chunks_recomputed", "parcels_without_geometry", "seconds", "versions", SETTINGS,
)  # fmt: skip

# Right -> columns; no columns: to the table.
Rights = Mapping[str, Collection[str]]


class Nature(NamedTuple):
    """What a table is to us: p (permanent) or u (unlogged); about how many rows it has; whether policies hide some from
    us; what can be done to it, if it is a view, and whether that has a trigger for COPY; who we are, whether the table
    is ours; which rules and publications are in the way; and which rights to which columns we lack."""

    persistence: str
    rows: int
    has_policies: bool
    possible: int
    takes_copy: bool
    user: str
    is_ours: bool
    rules: list[str]
    publications: list[str]
    lacking: list[tuple[str, str]]


def check_readable(cursor: "PgCursor", table: Table, columns: Collection[str]) -> int:
    """Raise ConfigurationError if these columns may not be read; returns about how many rows there are."""
    nature = _nature(cursor, table, {"SELECT": columns})
    _require_rights(table, nature)
    _refuse_policies(table, nature)
    return nature.rows


def check_catalogue(cursor: "PgCursor", table: Table, columns: Collection[str]) -> None:
    """Raise ConfigurationError if scenes cannot be claimed: their rows read, locked, and given a status."""
    nature = _nature(cursor, table, {"SELECT": columns, "UPDATE": ["status"]})
    if table.kind in "mf" or (table.kind == "v" and not nature.possible & UPDATE):
        raise ConfigurationError(
            f"{table.key}: {table} is {KINDS[table.kind]}, in which no status can be set under a lock; write the name "
            "of the table behind it"
        )
    _require_rights(table, nature)
    _refuse_hindrances(table, nature)
    _refuse_policies(table, nature)


def check_log(cursor: "PgCursor", table: Table) -> None:
    """Raise ConfigurationError if the log cannot be written, or made."""
    if table.absent:
        _check_creation(cursor, table)
        return
    inserted, updated = ([name for name in names if name in table.columns] for names in (LOG_INSERTED, LOG_UPDATED))
    nature = _nature(cursor, table, {"SELECT": table.columns, "INSERT": inserted, "UPDATE": updated})
    if table.kind in "mf":
        raise ConfigurationError(f"{table} is {KINDS[table.kind]}; the log must be a table of its own, so rename that")
    unknown = [name for name, column in table.columns.items() if column.required and name not in LOG_INSERTED]
    if unknown:
        raise ConfigurationError(
            f"{table.key}: column {unknown[0]} of table {table} is NOT NULL without a default, and nothing writes it; "
            "drop it, allow NULL or give it a default"
        )
    if SETTINGS not in table.columns and not nature.is_ours:
        raise ConfigurationError(
            f"{table.key}: table {table} is that of an earlier version, and lacks the column {SETTINGS}; its owner "
            f"adds it with ALTER TABLE {table} ADD COLUMN {SETTINGS} jsonb, or `python -m operations setup`"
        )
    _require_rights(table, nature)
    _refuse_hindrances(table, nature)
    _refuse_policies(table, nature)
    _warn_if_unlogged(table, nature)


def check_results(cursor: "PgCursor", table: Table) -> None:
    """Raise ConfigurationError if a table of results cannot be made, or filled by COPY and cleared of rows."""
    if table.absent:
        _check_creation(cursor, table)
        return
    columns = [column.name for column in table.columns.values()]
    keys = [table.columns["pid"].name, table.columns["obsid"].name]
    nature = _nature(cursor, table, {"SELECT": keys, "INSERT": columns, "DELETE": ()})
    if table.kind == "f":
        raise ConfigurationError(
            f"{table.key}: {table} is a foreign table, whose rows would not be written in one transaction with the "
            "scene's status; write the name of a table in this database"
        )
    if table.kind == "m" or (table.kind == "v" and not (nature.takes_copy and nature.possible & DELETE)):
        raise ConfigurationError(
            f"{table.key}: {table} is {KINDS[table.kind]}, into which COPY cannot write; write the name of the table "
            "behind it"
        )
    _require_rights(table, nature)
    _refuse_hindrances(table, nature)
    _refuse_policies(table, nature)
    _warn_if_unlogged(table, nature)


def check_list(cursor: "PgCursor", table: Table) -> None:
    """Raise ConfigurationError if entries cannot be taken from the list of scenes to do again."""
    nature = _nature(cursor, table, {"SELECT": table.columns, "DELETE": ()})
    _require_rights(table, nature)
    _refuse_hindrances(table, nature)
    _refuse_policies(table, nature)


def _check_creation(cursor: "PgCursor", table: Table) -> None:
    cursor.execute(statement("checks.may_create"), {"schema": table.name.schema})
    exists, allowed, user = cursor.fetchone() or (False, False, "")
    if not exists:
        raise ConfigurationError(f"{table.key}: there is no schema {table.name.schema} to create {table} in; create it")
    if not allowed:
        raise ConfigurationError(
            f"{table.key}: there is no table {table}, and the database user {user} may not create it; GRANT CREATE ON "
            f"SCHEMA {table.name.schema} TO {user}, or have its owner run `python -m operations setup --role {user}` "
            "or operations/sql/worker_role.sql"
        )


def _require_rights(table: Table, nature: Nature) -> None:
    if nature.lacking:
        grants = ", ".join(f"{right} ({columns})" if columns else right for right, columns in nature.lacking)
        raise ConfigurationError(
            f"{table.key}: the database user {nature.user} may not {' or '.join(right for right, _ in nature.lacking)} "
            f"in {table}; GRANT {grants} ON {table} TO {nature.user}"
        )


def _refuse_hindrances(table: Table, nature: Nature) -> None:
    """Raise ConfigurationError if rows of a table will not be changed or deleted, whatever rights we have."""
    if nature.rules:
        raise ConfigurationError(
            f"{table.key}: the rule {nature.rules[0]} makes something else of an UPDATE or DELETE in {table}; DROP "
            f"RULE {nature.rules[0]} ON {table}"
        )
    if nature.publications:
        raise ConfigurationError(
            f"{table.key}: {table} is published ({', '.join(nature.publications)}) and its rows have no identity, so "
            f"PostgreSQL changes or deletes none of them; ALTER TABLE {table} REPLICA IDENTITY FULL"
        )


def _refuse_policies(table: Table, nature: Nature) -> None:
    """Rows that are hidden would be missing without anybody noticing; and COPY does not work with policies."""
    if nature.has_policies:
        raise ConfigurationError(
            f"{table.key}: table {table} has row level security, which hides rows from this user; exempt it (ALTER "
            f"ROLE {nature.user} BYPASSRLS), or ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"
        )


def _warn_if_unlogged(table: Table, nature: Nature) -> None:
    if nature.persistence == "u":
        log.warning(
            "table %s is unlogged: a crash of the server empties it, while the catalogue says that its scenes are "
            "extracted; ALTER TABLE %s SET LOGGED",
            table,
            table,
        )


def _nature(cursor: "PgCursor", table: Table, rights: Rights) -> Nature:
    """What a table is, and which of these rights to it we lack."""
    wanted: list[tuple[str, str | None]] = [(right, name) for right, names in rights.items() for name in names]
    wanted += [(right, None) for right, names in rights.items() if not names]
    values = {"privileges": [right for right, _ in wanted], "names": [name for _, name in wanted]}
    cursor.execute(statement("checks.nature"), values | {"table": table.identifier.as_string(cursor)})
    (row,) = cursor.fetchall()
    return Nature(*row)
