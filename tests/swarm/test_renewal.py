"""Configuration and keys change while a stack runs, and a service fills the catalogue beside the workers."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from tests.support.environment import ROOT
from tests.support.roles import run_psql
from tests.support.running import wait_until
from tests.swarm.cloud import Node
from tests.swarm.conftest import MakeBurst
from tests.swarm.stack import DATABASE, PASSWORD, SECRET_KEY, STACK_CONNECTION, USER, Stack

NEW_PASSWORD = "canary, anew: p@ss {};"
NEW_KEY, NEW_SECRET_KEY = "another-access-key", "canary of the store, anew"
INGESTS_PASSWORD = "canary of ingest"


def test_keys_change_during_a_burst(make_burst: MakeBurst) -> None:
    """The store's keys and the workers' password, by one command: no scene is lost, workers use the new ones only, and
    the database goes on."""
    burst = make_burst("s2", 24, inside=True, WORKER_CPUS_RESERVED="0.2")
    stack = burst.stack
    keys: Counter[bytes] = Counter()
    burst.store.overhear = lambda data: keys.update(re.findall(rb"Credential=([^/]+)/", data))
    burst.store.delay_seconds = 0.15
    burst.start(REPLICAS="4")
    wait_until(lambda: burst.done() >= 3, "the first scenes")
    assert NEW_KEY.encode() not in keys
    old = {task.id for task in stack.tasks()}
    database = containers(stack, "pg_spat", stack.cloud.manager)
    change = sql.SQL("ALTER ROLE {} PASSWORD {}")
    burst.season.workspace.query(change.format(sql.Identifier(USER), sql.Literal(NEW_PASSWORD)))
    rewrite(stack.folder / "db_config.json", "database", "connection", dbpasswd=NEW_PASSWORD)
    rewrite(stack.folder / "s3_config.json", "s3", access_key=NEW_KEY, secret_key=NEW_SECRET_KEY)

    said = stack.renew(**burst.variables, REPLICAS="4")
    assert burst.done() < len(burst.season.all), "there was no burst any more"
    wait_until(lambda: not old & {task.id for task in stack.running()}, "the end of the workers with the old keys")
    keys.clear()
    burst.store.delay_seconds = 0
    stack.wait_for_end()
    burst.check()
    assert keys.keys() == {NEW_KEY.encode()}
    assert "given_back" in burst.season.outcomes()
    assert containers(stack, "pg_spat", stack.cloud.manager) == database, "the database was started anew"
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(host=stack.cloud.manager.address, dbname=DATABASE, user=USER, password=PASSWORD)
    for secret in (PASSWORD, NEW_PASSWORD, SECRET_KEY, NEW_SECRET_KEY):
        assert secret not in said + stack.log()

    # Nothing of the old ones is left but what the database was made with; the same files once more change nothing.
    secrets = stack.secrets()
    versions = rf"{stack.name}_((db|s3)_config_\w+|pg_spat)"
    assert len(secrets) == 3
    assert all(re.fullmatch(versions, name) for name in secrets), secrets
    tasks = {task.id for task in stack.tasks()}
    stack.renew(**burst.variables, REPLICAS="4")
    assert stack.secrets() == secrets
    assert {task.id for task in stack.tasks()} == tasks
    assert containers(stack, "pg_spat", stack.cloud.manager) == database


def test_ingest_beside_the_workers(make_burst: MakeBurst) -> None:
    """A product that only the store knows of becomes a row, and that is extracted. The workers see nothing of the user
    who may add rows."""
    burst = make_burst("s2", 4, inside=True, WATCH="1")
    stack, workspace = burst.stack, burst.season.workspace
    burst.start(REPLICAS="1")
    wait_until(lambda: burst.done() == 4, "the scenes that are known")
    unknown = burst.season.all[-1]
    reference = burst.season.products[unknown].reference
    workspace.query("DELETE FROM signatures WHERE obsid = %s", unknown)
    workspace.query("DELETE FROM dias_catalogue WHERE id = %s", unknown)
    role = f"ingest{uuid.uuid4().hex[:8]}"  # the volume outlives the test
    make = sql.SQL("CREATE ROLE {} LOGIN NOINHERIT PASSWORD {}")
    workspace.query(make.format(sql.Identifier(role), sql.Literal(INGESTS_PASSWORD)))
    run_psql(workspace, ROOT / "swarm" / "ingest_role.sql", {"ingest": role, "aois": "aois"})
    (stack.folder / "ingest_config.json").write_text((stack.folder / "db_config.json").read_text())
    connection = STACK_CONNECTION | {"dbuser": role, "dbpasswd": INGESTS_PASSWORD}
    rewrite(stack.folder / "ingest_config.json", "database", connection=connection)

    stack.more.append("docker_compose_ingest.yml")
    stack.renew(**burst.variables, REPLICAS="1", INGEST_WATCH="1", INGEST_OPTIONS="--card s2")

    def extracted() -> bool:
        found = workspace.query("SELECT status FROM dias_catalogue WHERE reference = %s", reference)
        return found == [("extracted",)]

    wait_until(extracted, "a scene that nobody but the store knew of", 120)
    wait_until(lambda: len(healthy(stack, "ingest", stack.cloud.manager)) == 1, "the health of ingest")
    (container,) = containers(stack, "ingest", stack.cloud.manager)
    (made,) = json.loads(stack.cloud.manager.docker("inspect", container))
    assert made["Config"]["User"] == "10001:10001"
    assert made["HostConfig"]["ReadonlyRootfs"]
    assert INGESTS_PASSWORD not in json.dumps(made)
    for node in stack.cloud.workers:
        for worker in containers(stack, "vector_extractor", node):
            assert "ingest_config" not in node.docker("exec", worker, "ls", "/run/secrets")
    log = stack.cloud.manager.run("docker", "service", "logs", "--raw", f"{stack.name}_ingest").stdout
    assert re.search(r"s2: \d+ found: 1 new", log), log
    assert INGESTS_PASSWORD not in log


def rewrite(path: Path, *keys: str, **values: Any) -> None:
    """Change values of an object in a file of JSON, as somebody with an editor does."""
    content = json.loads(path.read_text())
    part = content
    for key in keys:
        part = part[key]
    part |= values
    path.write_text(json.dumps(content, indent=4))


def containers(stack: Stack, service: str, node: Node) -> list[str]:
    """The containers of a service that run on a node."""
    return node.docker("ps", "-q", "--filter", f"name={stack.name}_{service}").split()


def healthy(stack: Stack, service: str, node: Node) -> list[str]:
    """Those that are said to be well."""
    name = f"name={stack.name}_{service}"
    return node.docker("ps", "-q", "--filter", name, "--filter", "health=healthy").split()
