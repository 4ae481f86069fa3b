"""Users of a test's database that are not its owner."""

from __future__ import annotations

import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.database.outputs import OUTPUTS
from tests.support.environment import ROOT

if TYPE_CHECKING:
    from tests.support.database import Database
    from tests.support.workspace import Workspace

PASSWORD = "only for this test"
SCRIPT = ROOT / "swarm" / "worker_role.sql"
GRANTS = re.findall(r"^GRANT (.*?) ON (.*?) TO ", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
"""What the script grants: rights -> on what."""


def create_role(database: Database, role: str) -> None:
    """A role as the documentation makes it for workers, in a database that lets nobody in without a grant."""
    name = sql.Identifier(role)
    database.query(
        sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOINHERIT PASSWORD {}").format(name, sql.Literal(PASSWORD))
    )
    database.query(
        sql.SQL(
            "REVOKE ALL ON DATABASE {} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;"
            " REVOKE ALL ON spatial_ref_sys FROM PUBLIC"
        ).format(sql.Identifier(database.database))
    )


def run_script(database: Database, role: str, tables: Mapping[str, str], *, strict: bool = True) -> None:
    """swarm/worker_role.sql, with the tables of a configuration. strict: fails at the first error."""
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
    swarm/worker_role.sql gives; afterwards it is gone."""
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
