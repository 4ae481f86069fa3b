"""Users of a test's database that are not its owner."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2 import sql

from tests.support.workspace import Workspace

PASSWORD = "only for this test"


@contextmanager
def worker_role(workspace: Workspace, *grants: str) -> Iterator[str]:
    """The worker becomes a user who may log in and has these rights (`SELECT ON parcels`); afterwards it is gone."""
    role = f"worker{uuid.uuid4().hex[:8]}"
    name = sql.Identifier(role)
    workspace.query(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(PASSWORD)))
    connection = workspace.db_config["database"]["connection"]
    before = dict(connection)
    try:
        for grant in grants:
            workspace.query(sql.SQL("GRANT " + grant + " TO {}").format(name))
        connection |= {"dbuser": role, "dbpasswd": PASSWORD}
        yield role
    finally:
        connection |= before
        workspace.query(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))
