"""PostgreSQL's own tools, `pg_dump` and `pg_restore`: found here or in the server's container, and run.

Nothing secret is on their command lines: the password goes into their environment, the one of a private key into a file
of their own.
"""

import argparse
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg2.extensions import make_dsn

from extractors.config import Connection
from extractors.database.connection import CLIENT_SETTINGS
from extractors.errors import ConfigurationError, UserError
from extractors.text import printable

log = logging.getLogger(__name__)

SERVICE_LABEL = "com.docker.swarm.service.name"
POLL_SECONDS = 0.2
PROGRESS_SECONDS = 30.0
# How long a tool may take to end when it is asked to.
END_SECONDS = 10.0
LONGEST_REASON = 500


@dataclass(frozen=True)
class Tools:
    """Where the tools are. folder: None for those on the PATH. container: in which they run."""

    folder: Path | None = None
    container: str | None = None

    def command(self, tool: str) -> list[str]:
        """What starts a tool."""
        if self.container is not None:
            return ["docker", "exec", "-i", "-e", "PGPASSWORD", "-e", "PGAPPNAME", self.container, tool]
        return [str(self.folder / tool) if self.folder else tool]

    @property
    def where(self) -> str:
        """For messages."""
        return f"in the container {self.container}" if self.container else f"in {self.folder or 'the PATH'}"


@dataclass(frozen=True)
class Work:
    """One run of a tool. arguments: beyond those that name the database. application: its session's name. amount: says
    how far it is."""

    tool: str
    arguments: Sequence[str]
    application: str
    amount: Callable[[], str]
    stdin: IO[bytes] | None = None
    stdout: IO[bytes] | None = None


def add_tools(parser: argparse.ArgumentParser) -> None:
    """The options that say where the tools are."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--tools", metavar="DIR", type=Path, help="the folder that holds pg_dump and pg_restore")
    where.add_argument(
        "--container",
        metavar="NAME",
        help="run them in this container on this machine, or in that of this service of the swarm: the database's own",
    )


def find_tools(options: argparse.Namespace, tool: str, server: int) -> Tools:
    """The tools for a server of this version, at best its own. Raises ConfigurationError, if there are none."""
    if options.container is not None:
        candidates = [Tools(container=_container(options.container))]
    elif options.tools is not None:
        candidates = [Tools(options.tools)]
    else:
        # Where Debian keeps those of each version.
        candidates = [Tools(Path(f"/usr/lib/postgresql/{server}/bin")), Tools()]
    remedy = (
        f"install the client of PostgreSQL {server} (Debian: postgresql-client-{server}), name the folder of its tools "
        "with --tools, or run the server's own with --container"
    )
    for tools in candidates:
        version = _version(tools, tool)
        if version is None:
            continue
        if version < server:
            raise ConfigurationError(
                f"{tool} {tools.where} is of PostgreSQL {version}, older than the server ({server}), which it cannot "
                f"read; {remedy}"
            )
        if version > server:
            log.warning(
                "%s is of PostgreSQL %d, newer than the server (%d), whose own pg_restore may not read its archives",
                tool, version, server,
            )  # fmt: skip
        return tools
    raise ConfigurationError(f"there is no {tool} {candidates[-1].where}; {remedy}")


def run_tool(tools: Tools, connection: Connection, work: Work) -> None:
    """Run a tool to its end. Raises UserError with its own words if it fails; whatever happens, it does not go on."""
    with _access(tools, connection) as (database, variables), tempfile.TemporaryFile() as said:
        variables |= {"PGAPPNAME": work.application, "LC_ALL": "C"}
        command = [*tools.command(work.tool), "--dbname", database, "--no-password", *work.arguments]
        log.debug("running %s", " ".join(command))
        process = subprocess.Popen(  # noqa: S603  (names of tables and of the database are arguments of their own)
            command,
            env=variables,
            stdin=work.stdin or subprocess.DEVNULL,
            stdout=work.stdout or subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            _wait(process, work)
        finally:
            _end(process)
        if process.returncode:
            said.seek(0)
            raise UserError(f"{work.tool} failed: {_reason(said.read().decode(errors='replace'))}")


def check_room(file: IO[bytes]) -> None:
    """Raise OSError if a file cannot grow: a tool only says that it failed."""
    os.pwrite(file.fileno(), b"\0" * 65_536, os.fstat(file.fileno()).st_size)


def _wait(process: "subprocess.Popen[bytes]", work: Work) -> None:
    told = time.monotonic()
    while True:
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                log.info("%s: %s", work.tool, work.amount())
        else:
            return


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _reason(said: str) -> str:
    """The first error of a tool, else its last line."""
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line]
    return printable((errors or lines[-1:] or ["it said nothing"])[0])[:LONGEST_REASON]


@contextmanager
def _access(tools: Tools, connection: Connection) -> Iterator[tuple[str, dict[str, str]]]:
    """What names the database on a command line, and the environment with what must not be there."""
    keywords = {**CLIENT_SETTINGS, **connection.libpq()}
    variables = dict(os.environ)
    if password := keywords.pop("password", None):
        variables["PGPASSWORD"] = str(password)
    if tools.container is not None:
        # By the server's own socket, whatever its address is from here.
        yield make_dsn(dbname=keywords["dbname"], user=keywords["user"]), variables
        return
    secrets = {key: keywords.pop(key) for key in [*keywords] if "pass" in key and key != "passfile"}
    keywords.pop("application_name", None)
    if not secrets:
        yield make_dsn(**keywords), variables
        return
    if "service" in keywords:
        raise ConfigurationError(
            f"database.connection: {', '.join(secrets)} beside service: write it into the service's own file"
        )
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:  # for nobody else
        file.write("[extraction]\n" + "".join(f"{key}={value}\n" for key, value in secrets.items()))
        file.flush()
        yield make_dsn(**keywords, service="extraction"), variables | {"PGSERVICEFILE": file.name}


def _container(name: str) -> str:
    """The container of this name, or that of the service of this name that runs on this machine."""
    found = _ask(["docker", "ps", "--quiet", "--no-trunc", "--filter", f"label={SERVICE_LABEL}={name}"])
    if found is None:
        raise ConfigurationError("--container: docker cannot be run here, or does not answer; see `docker ps`")
    if found.split():
        return found.split()[0]
    if _ask(["docker", "container", "inspect", "--format", "{{.State.Running}}", name]) == "true\n":
        return name
    tasks = ["docker", "service", "ps", "--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}"]
    nodes = [line.split()[0] for line in (_ask([*tasks, name]) or "").splitlines() if " Running" in line]
    if nodes:
        raise ConfigurationError(
            f"--container: {name} runs on the node {printable(nodes[0])}, not on this machine; do this there, or with "
            f"DOCKER_HOST=ssh://{printable(nodes[0])} in the environment, if that machine lets you in by ssh"
        )
    raise ConfigurationError(
        f"--container: no container {name} runs on this machine, nor one of a service of that name; see `docker ps`, "
        f"and on a manager `docker service ps {name}` for the node"
    )


def _version(tools: Tools, tool: str) -> int | None:
    """The version of PostgreSQL that a tool belongs to; None if there is no such tool."""
    if tools.container is None and shutil.which(tools.command(tool)[0]) is None:
        return None
    said = _ask([*tools.command(tool), "--version"])
    found = re.search(r"\) (\d+)", said or "")
    return int(found[1]) if found else None


def _ask(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return None if done.returncode else done.stdout
