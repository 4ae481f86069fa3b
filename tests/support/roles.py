"""Users of a test's database that are not its owner."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql

from extractors.config import read_database_config
from extractors.database.connection import Database as Connected
from extractors.database.outputs import OUTPUTS
from extractors.errors import ExtractionError
from operations.lines import Report
from operations.role import grant_rights
from operations.session import Session
from operations.setup import make_results
from tests.support.environment import ROOT

if TYPE_CHECKING:
    from tests.support.database import Database
    from tests.support.workspace import Workspace

PASSWORD = "only for this test"
SCRIPT = ROOT / "operations" / "sql" / "worker_role.sql"
GRANTS = re.findall(r"^GRANT (.*?) ON (.*?) TO ", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
"""What the script grants: rights -> on what."""


def create_role(database: Database, role: str) -> None:
    """A role as the documentation makes it for workers, in a database that lets nobody in without a grant."""
    let_nobody_in(database)
    name = sql.Identifier(role)
    database.query(
        sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOINHERIT PASSWORD {}").format(name, sql.Literal(PASSWORD))
    )


def let_nobody_in(database: Database) -> None:
    """Take from everybody what they have in a database without a grant."""
    database.query(
        sql.SQL(
            "REVOKE ALL ON DATABASE {} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;"
            " REVOKE ALL ON spatial_ref_sys FROM PUBLIC"
        ).format(sql.Identifier(database.database))
    )


def set_up_role(workspace: Workspace, role: str) -> None:
    """The role and its rights, as the owner's `operations setup --role` makes them for the configuration; where a test
    has spoilt that, or the tables, such that setup refuses or cannot grant anything yet, what the script can grant all
    the same."""
    done = False
    with suppress(ExtractionError):
        owner = _configuration(workspace, "owner", workspace.postgis.user, workspace.postgis.password)
        workers = _configuration(workspace, "worker", role, PASSWORD)
        config, report = read_database_config(owner), Report(changes=True)
        with Connected(config, str(owner)) as connected:
            opened = Session(config, str(owner), connected)
            tables = opened.reader().all()
            # Of tables that are there, tests may have taken columns and indexes away that setup adds.
            if any(table.absent for table in (tables.log, *tables.of_results.values())):
                make_results(opened, opened.reader(), None, report)
            grant_rights(opened, opened.reader(), role, workers, report)
            done = not report.lacking
    if not done:
        if not workspace.one("SELECT count(*) FROM pg_roles WHERE rolname = %s", role):
            create_role(workspace, role)
        with suppress(KeyError, TypeError, psycopg2.Error):
            run_script(workspace, role, {**workspace.tables, **_aoi_field(workspace)}, strict=False)


def _configuration(workspace: Workspace, name: str, user: str, password: str) -> Path:
    """The workspace's configuration with another user, in a file outside the workers' directory."""
    file = workspace.folder / f"{name}.json"
    file.touch(0o600)
    connection = workspace.postgis.connection_config(workspace.database) | {"dbuser": user, "dbpasswd": password}
    database = {**workspace.db_config.get("database", {}), "connection": connection}
    file.write_text(json.dumps({**workspace.db_config, "database": database}))
    return file


def _aoi_field(workspace: Workspace) -> dict[str, str]:
    """The configured column, if the AOI table has it."""
    field, table = workspace.args["aoi_field"], workspace.tables["aoi_table"].split(".", 1)[-1]
    column = "SELECT 1 FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE (relname, attname) = (%s, %s)"
    return {"aoi_field": field} if workspace.query(column, table, field) else {}


def run_script(database: Database, role: str, tables: Mapping[str, str], *, strict: bool = True) -> None:
    """operations/sql/worker_role.sql, with the tables of a configuration. strict: fails at the first error."""
    names = {"aois": tables["aoi_table"], "parcels": tables["parcel_table"]}
    keys = {"catalogue_table": "catalogue", **{output.key: name for name, output in OUTPUTS.items()}}
    keys |= {key: key for key in ("parcel_id", "parcel_geometry", "aoi_field")}
    names |= {ours: tables[key] for key, ours in keys.items() if key in tables}
    parts = {name: value.split(".") for name, value in names.items()}
    parts["log"] = [*parts.get("catalogue", [""])[:-1], "extraction_log"]
    quoted = {name: ".".join('"' + part.replace('"', '""') + '"' for part in value) for name, value in parts.items()}
    for schema in {value[0] for value in parts.values() if len(value) > 1}:
        database.query(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(role)))
    run_psql(database, SCRIPT, {"worker": role, **quoted}, strict=strict)


def run_psql(database: Database, script: Path, variables: Mapping[str, str], *, strict: bool = True) -> None:
    """A script for psql, as the database's superuser. strict: fails at the first error."""
    given = [f"--set={name}={value}" for name, value in variables.items()]
    server = database.postgis
    done = subprocess.run(
        ["psql", "-X", "-q", *(("-1", "--set=ON_ERROR_STOP=1") if strict else ()), *given, "-f", str(script)],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin", "PGCLIENTENCODING": "UTF8",
            "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": server.password,
            "PGDATABASE": str(database.one("SELECT current_database()")),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not strict or done.returncode == 0, done.stderr


@contextmanager
def worker_role(workspace: Workspace, *grants: str) -> Iterator[str]:
    """The worker becomes a user who may log in and has these rights (`SELECT ON parcels`), or else those that
    operations/sql/worker_role.sql gives; afterwards it is gone."""
    role = f"worker{uuid.uuid4().hex[:8]}"
    name = sql.Identifier(role)
    connection = workspace.db_config["database"]["connection"]
    before = dict(connection)
    if grants:
        workspace.query(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(PASSWORD)))
        # What everybody has in a database unless it is taken away, as `create_role` does.
        everybody = "GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}"
        workspace.query(sql.SQL(everybody).format(sql.Identifier(workspace.database), name))
        grants = ("USAGE ON SCHEMA public", "SELECT ON spatial_ref_sys", *grants)
    else:
        create_role(workspace, role)
        run_script(workspace, role, workspace.tables)
    try:
        for grant in grants:
            workspace.query(sql.SQL("GRANT " + grant + " TO {}").format(name))
        connection |= {"dbuser": role, "dbpasswd": PASSWORD}
        yield role
    finally:
        connection |= before
        workspace.query(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))
