"""A stack on the test cloud, and a season whose database and store its workers reach."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection

from tests.faults.network import TcpProxy
from tests.faults.season import AREA, Season
from tests.support.environment import ROOT
from tests.support.roles import run_script
from tests.support.running import wait_until
from tests.swarm.cloud import Cloud, DockerError, Node

DATABASE = "sentinel"
USER = "operator"
"""The role that the stack makes for its workers."""
OWNER, OWNERS_PASSWORD = "postgres", "given by the test"
# Everything that a password may hold but a quote and a backslash.
PASSWORD = "canary p@ss $HOME 'x' %s {};"
SECRET_KEY = "canary of the store"
DEPLOY_SECONDS = 90


STACK_CONNECTION: dict[str, str | int] = {
    "host": "pg_spat",
    "dbname": DATABASE,
    "dbuser": USER,
    "dbpasswd": PASSWORD,
    "port": 5432,
}
"""The stack's database as its workers see it: by the name of the service."""


class StackPostgis:
    """The database of a stack, as tests reach it: by the port that the manager publishes."""

    user, password = OWNER, OWNERS_PASSWORD

    def __init__(self, host: str, port: int, log: Path) -> None:
        self.host, self.port, self.log = host, port, log

    def connect(self, dbname: str = DATABASE, **_: Any) -> connection:
        return psycopg2.connect(
            host=self.host, port=self.port, dbname=DATABASE, user=self.user, password=self.password, connect_timeout=5
        )

    def create_database(self, name: str) -> None:
        """The stack has made it; whatever a former test has left is removed."""
        made = self.connect()
        made.autocommit = True
        with made.cursor() as cursor:
            cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE EXTENSION IF NOT EXISTS postgis")
            change = sql.SQL("ALTER ROLE {} PASSWORD {}")
            cursor.execute(change.format(sql.Identifier(USER), sql.Literal(PASSWORD)))
        made.close()

    def drop_database(self, name: str) -> None:
        """It goes with the volume."""

    def connection_config(self, dbname: str) -> dict[str, str | int]:
        return STACK_CONNECTION


def configure(folder: Path, connection: Mapping[str, str | int], store: str, bucket: str) -> None:
    """Write the two files that a stack is deployed with: those of a season, with time limits of seconds."""
    folder.mkdir()
    database = {
        "database": {
            "connection": {
                **connection,
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
                "tcp_user_timeout": 8000,
                "connect_timeout": 5,
            },
            "tables": {"aoi_table": "aois", "parcel_table": "parcels", "results_table": "signatures"},
            "args": {"aoi_field": "name", "name": AREA, "startdate": "2020-01-01", "enddate": "2021-01-01"},
        },
        "extraction": {
            "chunk_size": 7,
            "retry_pause_seconds": 0.1,
            "outage_pause_seconds": 1,
            "server_settings": {
                "tcp_keepalives_idle": "5",
                "tcp_keepalives_interval": "2",
                "tcp_keepalives_count": "3",
                "tcp_user_timeout": "8s",
            },
        },
    }
    keys = {"access_key": "an-access-key", "secret_key": SECRET_KEY, "host": store, "bucket": bucket}
    (folder / "db_config.json").write_text(json.dumps(database, indent=4))
    (folder / "s3_config.json").write_text(json.dumps({"s3": keys}, indent=4))


@dataclass(frozen=True)
class Task:
    """One container of a service, past or present."""

    id: str
    slot: str
    node: str
    state: str


@dataclass
class Stack:
    """What `docker stack deploy -c FILE NAME` makes. `folder`: where the stack file and the configuration lie; `more`:
    names of further stack files."""

    cloud: Cloud
    card: str
    folder: Path
    more: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.card}swarm"

    @property
    def workers(self) -> str:
        return f"{self.name}_vector_extractor"

    def deploy(self, **variables: str) -> None:
        """Deploy it, with these variables of the shell."""
        self._deploy(variables, "docker", "stack", "deploy", "--resolve-image", "never")

    def renew(self, *options: str, code: int = 0, **variables: str) -> str:
        """Deploy it by the operator's script, as after a change of its configuration; what that says. code: how it has
        to end."""
        return self._deploy(variables, "bash", str(ROOT / "swarm" / "deploy.sh"), *options, code=code)

    def _deploy(self, variables: Mapping[str, str], *command: str, code: int = 0) -> str:
        # The tests look into the database.
        files = [f"docker_compose_{self.card}.yml", "docker_compose_port.yml", *self.more]
        for name in files:
            shutil.copy(ROOT / name, self.folder)
        assignments = [f"{key}={value}" for key, value in variables.items()]
        options = [word for name in files for word in ("-c", str(self.folder / name))]
        done = self.cloud.manager.run("env", *assignments, *command, *options, self.name)
        assert done.returncode == code, done.stdout
        assert "gnoring" not in done.stdout, f"something in the stack file has no effect: {done.stdout}"
        return done.stdout

    def scale(self, replicas: int) -> None:
        """Have so many workers."""
        self.cloud.manager.docker("service", "scale", "--detach", f"{self.workers}={replicas}")

    def tasks(self, service: str = "vector_extractor") -> list[Task]:
        """All tasks of a service, newest first."""
        form = "{{json .}}"
        text = self.cloud.manager.docker("service", "ps", "--no-trunc", "--format", form, f"{self.name}_{service}")
        rows = [json.loads(line) for line in text.splitlines()]
        return [
            Task(
                row["ID"],
                row["Name"].lstrip(" \\_").rsplit(".", 1)[1],
                row["Node"],
                row["CurrentState"].split()[0],
            )
            for row in rows
        ]

    def secrets(self) -> set[str]:
        """The names of its secrets."""
        label = f"label=com.docker.stack.namespace={self.name}"
        return set(self.cloud.manager.docker("secret", "ls", "--filter", label, "--format", "{{.Name}}").splitlines())

    def running(self, node: Node | None = None) -> list[Task]:
        """Workers that run now, on this node or anywhere."""
        return [t for t in self.tasks() if t.state == "Running" and (node is None or t.node == node.name)]

    def wait_for_end(self, seconds: float = 120) -> None:
        """Until every worker has ended by itself."""
        replicas = self.replicas()
        wait_until(lambda: self._completed() >= replicas, f"the end of {replicas} workers", seconds, every=1)

    def _completed(self) -> int:
        """How many slots have come to their end."""
        newest: dict[str, Task] = {}
        for task in self.tasks():
            newest.setdefault(task.slot, task)
        return Counter(task.state for task in newest.values())["Complete"]

    def replicas(self) -> int:
        """How many workers there are to be."""
        return int(
            self.cloud.manager.docker("service", "inspect", "-f", "{{.Spec.Mode.Replicated.Replicas}}", self.workers)
        )

    def column(self, name: str) -> str:
        """A column of `docker service ls` for the workers."""
        return self.cloud.manager.docker(
            "service", "ls", "--filter", f"name={self.workers}", "--format", f"{{{{.{name}}}}}"
        )

    def log(self) -> str:
        """What all workers have said, those excepted whose node is not back yet after it was lost."""
        return self.cloud.manager.run("docker", "service", "logs", "--raw", self.workers).stdout

    def remove(self) -> None:
        """`docker stack rm`, and wait until nothing of it is left on any node, its volumes excepted."""
        if self.leftovers():
            self.cloud.manager.docker("stack", "rm", self.name)
        self.wait_until_gone()

    def wait_until_gone(self) -> None:
        """What `docker stack rm` begins takes a while."""
        wait_until(lambda: self.leftovers() == [], f"the end of {self.name}", 120, every=1)

    def leftovers(self) -> list[str]:
        """Services, secrets, networks and containers."""
        found = []
        for kind in ("service", "secret", "network"):
            found += self.cloud.manager.docker(kind, "ls", "-q", "--filter", f"name={self.name}_").splitlines()
        for node in self.cloud.nodes:
            with suppress(DockerError):
                found += node.docker("ps", "-aq", "--filter", f"name={self.name}_").splitlines()
        return found


@contextmanager
def deployed(cloud: Cloud, card: str, folder: Path, **variables: str) -> Iterator[Stack]:
    """A stack whose configuration lies in the folder; removed at the end."""
    stack = Stack(cloud, card, folder)
    stack.deploy(**variables)
    try:
        yield stack
    finally:
        stack.remove()


def database_of(stack: Stack) -> StackPostgis:
    """The database of the stack, once it lets clients in."""
    log = stack.folder / "pg_spat.log"
    log.touch()
    server = StackPostgis(stack.cloud.manager.address, 5432, log)

    def answers() -> bool:
        """Whether its superuser has been given a password, and gets in."""
        container = stack.cloud.manager.docker("ps", "-qf", f"name={stack.name}_pg_spat").strip()
        change = f"ALTER ROLE {OWNER} PASSWORD '{OWNERS_PASSWORD}'"
        try:
            stack.cloud.manager.docker("exec", container, "psql", "-U", OWNER, "-d", DATABASE, "-c", change)
            server.connect().close()
        except (DockerError, psycopg2.OperationalError):
            return False
        return True

    wait_until(answers, "the stack's database", DEPLOY_SECONDS)
    return server


@dataclass
class Burst:
    """Scenes, and a stack that is to extract them. `store`: the way to the S3 server, which can be made slow."""

    stack: Stack
    season: Season
    store: TcpProxy
    variables: Mapping[str, str]

    def start(self, **more: str) -> None:
        """Deploy again, now with workers: the number that the stack file names, unless REPLICAS is given. They have no
        rights but those that they need."""
        if isinstance(self.season.workspace.postgis, StackPostgis):
            run_script(self.season.workspace, USER, self.season.workspace.tables)
        self.stack.deploy(**self.variables, **more)

    def again(self, number: int) -> None:
        """More scenes, and the workers started again: what they have completed is no reason for the swarm to do so."""
        self.season.add_again(self.stack.card, number)
        self.stack.cloud.manager.docker("service", "update", "--force", "--detach", self.stack.workers)
        wait_until(lambda: self.done() == len(self.season.all), "the scenes that came later")

    def at(self, node: Node) -> bool:
        """Whether a worker of this node is at a scene."""
        return any(
            row["finished_at"] is None and str(row["worker"]).startswith(f"{node.name}-")
            for row in self.season.attempts()
        )

    def done(self) -> int:
        """How many scenes are extracted."""
        return Counter(self.season.statuses().values())["extracted"]

    def hosts(self) -> Counter[str]:
        """Node -> scenes extracted there."""
        extracted = [row for row in self.season.attempts() if row["outcome"] == "extracted"]
        return Counter(str(row["worker"]).split("-")[0] for row in extracted)

    def check(self) -> None:
        """Every scene once, and all else that has to hold whatever happened; no secret in any output."""
        output = self.season.workspace.folder / "output_stack"
        output.mkdir(exist_ok=True)
        (output / "stdout").write_text(self.stack.log())
        assert SECRET_KEY not in self.stack.log()
        self.season.check()


def last_lines(stack: Stack) -> dict[str, str]:
    """Task -> the last line of its standard output. (Docker does not keep the order of that and of the log, which goes
    to standard error, where both come within a moment.)"""
    lines: dict[str, str] = {}
    for task in stack.tasks():
        text = stack.cloud.manager.docker("service", "logs", "--raw", task.id)
        lines[task.id] = text.splitlines()[-1] if text else ""
    return lines
