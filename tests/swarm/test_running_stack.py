"""What an operator does to a stack that runs: other keys and passwords, a service that fills the catalogue, a backup.

One stack serves all, since its workers go on for ever (WATCH); the tests stand in an order, and each leaves the stack
at work. The store lets nobody in but with keys that it has given and not taken back.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql

from demo.servers import S3Server
from tests.faults.season import Products
from tests.support.environment import ROOT
from tests.support.roles import run_psql, run_script
from tests.support.running import wait_until
from tests.support.store_keys import KeyKeeper, Keys, key_keeper
from tests.swarm.cloud import Cloud, Node
from tests.swarm.conftest import burst_maker, way_to
from tests.swarm.stack import DATABASE, OWNER, OWNERS_PASSWORD, PASSWORD, USER, Burst, Stack

NEW_PASSWORD = "canary, anew: p@ss {};"
INGESTS_PASSWORD = "canary of ingest"
VARIABLES = {"REPLICAS": "2", "WORKER_CPUS_RESERVED": "0.2"}
SLOW_SECONDS = 1.0
"""For which the store holds back every piece of data, where a burst has to last."""


@dataclass
class Operated:
    """The stack, its season, and the keys that its workers have."""

    burst: Burst
    keeper: KeyKeeper
    keys: Keys

    @property
    def stack(self) -> Stack:
        return self.burst.stack

    def configure(self, name: str, *path: str, **values: Any) -> None:
        """Change values of an object in one of the stack's files, as somebody with an editor does."""
        file = self.stack.folder / f"{name}.json"
        content = json.loads(file.read_text())
        part = content
        for key in path:
            part = part[key]
        part |= values
        file.write_text(json.dumps(content, indent=4))

    def renew(self, *options: str, code: int = 0, **more: str) -> str:
        """swarm/deploy.sh, with the same variables every time; what it says, which is no secret."""
        said = self.stack.renew(*options, code=code, **self.burst.variables, **VARIABLES, **more)
        self.assert_no_secret(said)
        return said

    def assert_no_secret(self, text: str) -> None:
        for secret in (PASSWORD, NEW_PASSWORD, INGESTS_PASSWORD, self.keys["secret_key"]):
            assert secret not in text

    def all_done(self) -> bool:
        return self.burst.done() == len(self.burst.season.all)

    def finish(self) -> None:
        """At full speed, until all scenes are extracted; then all has to be well."""
        self.burst.store.delay_seconds = 0
        wait_until(self.all_done, "the end of the burst", 120)
        wait_until(lambda: None not in self.burst.season.outcomes(), "the end of all attempts")
        self.burst.season.check()
        assert set(self.burst.season.outcomes()) <= {"extracted", "given_back", "lost"}
        self.assert_no_secret(self.stack.log())


@pytest.fixture(scope="module")
def operated(
    swarm: Cloud, season_products: Products, store: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operated]:
    """Two workers, and scenes for a while; the first deployment by hand has been replaced by one of the script's."""
    folder = tmp_path_factory.mktemp("running stack")
    with (
        key_keeper(store) as keeper,
        way_to(store, swarm) as way,
        burst_maker(swarm, season_products, store, way, folder) as make,
    ):
        burst = make("s2", 4, inside=True, WATCH="1")
        made = Operated(burst, keeper, keeper.give())
        made.configure("s3_config", "s3", **made.keys)
        run_script(burst.season.workspace, USER, burst.season.workspace.tables)
        made.renew()
        yield made


def test_keys_and_password_change_during_a_burst(operated: Operated) -> None:
    """By one command: no scene is lost or done twice, old keys and the old password are of no use any more, and nothing
    was taken down but workers for a moment."""
    burst, stack = operated.burst, operated.stack
    wait_until(operated.all_done, "the first scenes")
    burst.store.delay_seconds = SLOW_SECONDS
    burst.season.add_again("s2", 12)
    wait_until(lambda: None in burst.season.outcomes(), "a worker at a scene")
    old, services = {task.id for task in stack.tasks()}, service_ids(stack)
    database = containers(stack, "pg_spat", stack.cloud.manager)
    new = operated.keeper.give()
    change = sql.SQL("ALTER ROLE {} PASSWORD {}")
    burst.season.workspace.query(change.format(sql.Identifier(USER), sql.Literal(NEW_PASSWORD)))
    operated.configure("db_config", "database", "connection", dbpasswd=NEW_PASSWORD)
    operated.configure("s3_config", "s3", **new)
    operated.renew()
    wait_until(lambda: not old & {task.id for task in stack.running()}, "the end of the workers with the old keys")
    operated.keeper.withdraw(operated.keys)
    operated.keys = new
    burst.season.add_again("s2", 3)
    operated.finish()
    assert "given_back" in burst.season.outcomes()
    assert service_ids(stack) == services
    assert containers(stack, "pg_spat", stack.cloud.manager) == database, "the database was started anew"
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(host=stack.cloud.manager.address, dbname=DATABASE, user=USER, password=PASSWORD)

    # Nothing of the old ones is left but what the database was made with; the same files once more change nothing.
    secrets, tasks = stack.secrets(), {task.id for task in stack.tasks()}
    assert len(secrets) == 3
    assert all(re.fullmatch(rf"{stack.name}_((db|s3)_config_\w+|pg_spat)", name) for name in secrets), secrets
    operated.renew()
    assert stack.secrets() == secrets
    assert {task.id for task in stack.tasks()} == tasks


@pytest.mark.parametrize("wrong", ["keys", "password", "file"])
def test_a_change_that_is_wrong_changes_nothing(operated: Operated, wrong: str) -> None:
    """It is said what is wrong, and the workers that run go on with what they have."""
    stack = operated.stack
    file = stack.folder / ("db_config.json" if wrong == "password" else "s3_config.json")
    text, stat = file.read_text(), file.stat()
    tasks, secrets = {task.id for task in stack.tasks()}, stack.secrets()
    if wrong == "keys":
        operated.configure("s3_config", "s3", secret_key="of nobody")
    elif wrong == "password":
        operated.configure("db_config", "database", "connection", dbpasswd="of nobody")
    else:
        file.unlink()
    said = operated.renew(code=1)
    expected = {"keys": "FAILED store: ", "password": "FAILED database: ", "file": "s3_config.json: cannot be read"}
    assert expected[wrong] in said
    assert wrong == "file" or "nothing has been changed" in said
    assert "of nobody" not in said
    file.write_text(text)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    operated.burst.season.add_again("s2", 1)
    operated.finish()
    assert {task.id for task in stack.tasks()} == tasks
    assert stack.secrets() == secrets


def test_ingest_beside_the_workers(operated: Operated) -> None:
    """What comes into the store becomes a row, and that is extracted; nobody types anything. Workers see nothing of the
    user who may add rows, who may do little else."""
    stack, season = operated.stack, operated.burst.season
    role = f"ingest{uuid.uuid4().hex[:8]}"  # the volume outlives the test
    make = sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOINHERIT PASSWORD {}")
    season.workspace.query(make.format(sql.Identifier(role), sql.Literal(INGESTS_PASSWORD)))
    run_psql(season.workspace, ROOT / "swarm" / "ingest_role.sql", {"ingest": role, "aois": "aois"})
    (stack.folder / "ingest_config.json").write_text((stack.folder / "db_config.json").read_text())
    who = {"dbuser": role, "dbpasswd": INGESTS_PASSWORD}
    operated.configure("ingest_config", "database", "connection", **who)
    tasks = {task.id for task in stack.tasks()}
    stack.more.append("docker_compose_ingest.yml")
    operated.renew(INGEST_WATCH="1", INGEST_OPTIONS="--card s2")
    assert {task.id for task in stack.tasks()} == tasks, "workers were stopped for it"
    wait_until(lambda: bool(re.search(r"s2: \d+ found: 0 new", log_of(stack, "ingest"))), "the first look")

    first = season.scenes["s2"][0]
    product = season.products[first].again(140)
    for name, key in season.products[first].keys.items():
        season.workspace.write(product.keys[name], season.workspace.read(key))

    def extracted() -> list[int]:
        found = "SELECT id FROM dias_catalogue WHERE reference = %s AND status = 'extracted'"
        return [number for (number,) in season.workspace.query(found, product.reference)]

    wait_until(lambda: bool(extracted()), f"a scene that only the store knew of: {product.reference}", 60)
    (number,) = extracted()
    season.products[number], season.oracle[number] = product, season.oracle[first]
    season.scenes["s2"].append(number)
    season.remember()
    operated.finish()

    wait_until(lambda: len(healthy(stack, "ingest", stack.cloud.manager)) == 1, "the health of ingest")
    (container,) = containers(stack, "ingest", stack.cloud.manager)
    (made,) = json.loads(stack.cloud.manager.docker("inspect", container))
    assert made["Config"]["User"] == "10001:10001"
    assert made["HostConfig"]["ReadonlyRootfs"]
    operated.assert_no_secret(json.dumps(made) + log_of(stack, "ingest"))
    for node in stack.cloud.workers:
        for worker in containers(stack, "vector_extractor", node):
            assert "ingest_config" not in node.docker("exec", worker, "ls", "/run/secrets")
    for statement in ("DELETE FROM dias_catalogue", "SELECT mean FROM signatures", "UPDATE aois SET name = 'x'"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            as_user(stack, role, INGESTS_PASSWORD, statement)
    stack.cloud.manager.docker("service", "rm", f"{stack.name}_ingest")
    stack.more.remove("docker_compose_ingest.yml")


class Keeper:
    """Somebody who saves the database of a stack, with the tools of its container."""

    def __init__(self, operated: Operated) -> None:
        self.stack = operated.stack
        self.archive = self.stack.folder / "season.dump"
        self.config = self.stack.folder / "keeper_config.json"
        shutil.copy(self.stack.folder / "db_config.json", self.config)
        self.config.chmod(0o600)
        who = {"host": self.stack.cloud.manager.address, "dbuser": OWNER, "dbpasswd": OWNERS_PASSWORD}
        operated.configure("keeper_config", "database", "connection", **who)

    def operates(self, verb: str, *arguments: str, node: Node | None = None, code: int = 0, **more: str) -> str:
        """What `python -m operations VERB` says on the manager, or on another node."""
        command = [sys.executable, "-m", "operations", verb, "--db-config", str(self.config), *arguments]
        variables = [f"{name}={value}" for name, value in more.items()]
        done = (node or self.stack.cloud.manager).run("env", *variables, *command, folder=ROOT)
        assert done.returncode == code, done.stdout
        assert OWNERS_PASSWORD not in done.stdout
        return done.stdout

    def in_the_database(self, *command: str) -> None:
        (container,) = containers(self.stack, "pg_spat", self.stack.cloud.manager)
        self.stack.cloud.manager.docker("exec", container, *command)

    def restore(self) -> None:
        """By the commands of the page, word by word."""
        text = (ROOT / "docs" / "operations.md").read_text().partition("\n## backup\n")[2].partition("\n## ")[0]
        (block,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
        block = block.replace("=8\n", f"={VARIABLES['REPLICAS']}\n")
        done = self.stack.cloud.manager.run("bash", "-euc", block, folder=self.stack.folder)
        assert done.returncode == 0, done.stdout


def test_backup_while_workers_write_and_a_lost_database(operated: Operated) -> None:
    """What was saved is all that is left, and the burst goes on from there to its end."""
    burst, keeper = operated.burst, Keeper(operated)
    service = f"{operated.stack.name}_pg_spat"
    burst.store.delay_seconds = SLOW_SECONDS
    burst.season.add_again("s2", 6)
    wait_until(lambda: None in burst.season.outcomes(), "a worker at a scene")
    keeper.operates("backup", "--out", str(keeper.archive), "--container", service)
    assert not operated.all_done(), "there was no burst any more"
    (container,) = keeper.stack.cloud.manager.docker("ps", "--format", "{{.Names}}", "-f", f"name={service}").split()
    said = keeper.operates("verify", "--file", str(keeper.archive), "--container", container)
    assert "\nok public.signatures: " in said
    assert "DIFFERS" not in said

    burst.season.workspace.connection.close()
    keeper.in_the_database("dropdb", "--username", OWNER, "--force", DATABASE)
    keeper.restore()
    burst.season.workspace.reconnect()
    (saved,) = burst.season.workspace.query("SELECT count(DISTINCT obsid) FROM signatures")[0]
    operated.finish()
    assert saved < len(burst.season.all), "nothing was left to be done"


def test_backup_where_the_container_is_not(operated: Operated) -> None:
    """It is said on which node it is, as far as Docker there knows."""
    keeper, worker = Keeper(operated), operated.stack.cloud.workers[0]
    out = ("--out", str(keeper.stack.folder / "none.dump"))
    wait_until(lambda: bool(operated.stack.running()), "a worker, after the database was restored")
    said = keeper.operates("backup", *out, "--container", operated.stack.workers, code=2)
    assert re.search(r"runs on the node vm_new[12], not on this machine.* DOCKER_HOST=ssh://vm_new[12] ", said), said
    service = f"{operated.stack.name}_pg_spat"
    said = keeper.operates("backup", *out, "--container", service, node=worker, code=2)
    assert f"on a manager `docker service ps {service}`" in said
    assert not list(keeper.stack.folder.glob("*none*"))


def test_verify_finds_a_changed_row(operated: Operated) -> None:
    """Of an archive of the whole database that is not what was noted beside it; the container is reached by ssh."""
    keeper, query = Keeper(operated), operated.burst.season.workspace.query
    options = ("--container", f"{operated.stack.name}_pg_spat")
    there = f"ssh://{keeper.stack.cloud.manager.name}"
    keeper.operates("backup", "--out", str(keeper.archive), "--replace", *options, DOCKER_HOST=there)
    one = "(SELECT ctid FROM signatures WHERE band = 'B4' LIMIT 1)"
    query(f"UPDATE signatures SET mean = mean * 1.000001 WHERE ctid = {one}")
    (container,) = containers(keeper.stack, "pg_spat", keeper.stack.cloud.manager)
    dump = f"docker exec {container} pg_dump --username {OWNER} --format custom {DATABASE} > {keeper.archive.name}"
    done = keeper.stack.cloud.manager.run("sh", "-ec", dump, folder=keeper.stack.folder)
    assert done.returncode == 0, done.stdout
    said = keeper.operates("verify", "--file", str(keeper.archive), *options, code=1)
    assert re.findall("^DIFFERS (.*?):", said, re.MULTILINE) == ["public.signatures"], said


def containers(stack: Stack, service: str, node: Node) -> list[str]:
    """The containers of a service that run on a node."""
    return node.docker("ps", "-q", "--filter", f"name={stack.name}_{service}").split()


def healthy(stack: Stack, service: str, node: Node) -> list[str]:
    """Those that are said to be well."""
    name = f"name={stack.name}_{service}"
    return node.docker("ps", "-q", "--filter", name, "--filter", "health=healthy").split()


def service_ids(stack: Stack) -> set[str]:
    label = f"label=com.docker.stack.namespace={stack.name}"
    return set(stack.cloud.manager.docker("service", "ls", "-q", "--filter", label).split())


def log_of(stack: Stack, service: str) -> str:
    return stack.cloud.manager.run("docker", "service", "logs", "--raw", f"{stack.name}_{service}").stdout


def as_user(stack: Stack, user: str, password: str, statement: str) -> None:
    """Run a statement as somebody else."""
    connection = psycopg2.connect(host=stack.cloud.manager.address, dbname=DATABASE, user=user, password=password)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()
