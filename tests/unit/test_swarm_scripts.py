"""The operator's scripts in swarm/, without Docker and without VMs.

A made-up `ssh` runs the command here, with a home directory for each host; a made-up `docker` and `sudo` write down how
they were called. PATH leads to these and to plain tools only, so a VM may lack Docker although this machine has it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from extractors import __version__
from tests.support.environment import skip_unless
from tests.support.running import wait_until

PROJECT = Path(__file__).parents[2]
SCRIPTS = ("prepare.sh", "bring.sh", "join.sh", "check.sh", "remove.sh")
TOOLS = [
    "awk",
    "basename",
    "bash",
    "cat",
    "chmod",
    "date",
    "dd",
    "cut",
    "df",
    "dirname",
    "env",
    "flock",
    "getent",
    "grep",
    "gunzip",
    "gzip",
    "id",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sh",
    "sleep",
    "sha256sum",
    "tail",
    "tar",
    "timeout",
    "touch",
    "tr",
]
TOKEN = "SWMTKN-1-very-secret"

SSH = r"""#!/usr/bin/env bash
printf '%s\n' "$@" >>"$WORLD/ssh.log"
for argument; do [ "$argument" != -G ] || exit 0; done
while [ "$1" != -- ]; do shift; done
case "$2" in
    gone*) echo "ssh: connect to host $2 port 22: No route to host" >&2; exit 255 ;;
    cut*) head=1 ;;
esac
export ON_HOST="$2" HOME="$WORLD/$2"
mkdir -p "$HOME"
if [ -n "${head:-}" ]; then exec sh -c "$3" < <(dd bs=400 count=1 2>/dev/null); fi
exec sh -c "$3"
"""

DOCKER = r"""#!/usr/bin/env bash
printf '%s: %s\n' "${ON_HOST:-manager}" "$*" >>"$WORLD/docker.log"
case "${ON_HOST:-manager} $*" in
    *" version"*) echo 20.10.24 ;;
    *DockerRootDir*) echo / ;;
    "manager info -f {{.Swarm.ControlAvailable}}") echo true ;;
    "manager info"*NodeState*) echo active true ;;
    *" info"*NodeState*) if [ -e "$HOME/joined" ]; then echo "active id1"; else echo "inactive "; fi ;;
    "manager swarm join-token"*) echo "$MADE_UP_TOKEN" ;;
    "manager node inspect"*ManagerStatus*) echo 198.51.100.1:2377 ;;
    "manager node inspect"*Availability*id1) echo ready active ;;
    "manager node inspect"*State*id1) echo ready ;;
    "manager node inspect"*Role*id1) echo worker ;;
    "manager node inspect"*) exit 1 ;;
    *" swarm join "*) touch "$HOME/joined" ;;
    *" image inspect"*) echo "${IMAGE_ID:-sha256:1}" ;;
    *" ps -q") if [ -e "$HOME/busy" ]; then echo a-container; fi ;;
    *" run "*NoNewPrivs*) echo "${PRIVILEGES-1}" ;;
esac
"""

SUDO = r"""#!/usr/bin/env bash
printf '%s: sudo %s\n' "${ON_HOST:-manager}" "$*" >>"$WORLD/sudo.log"
"""


@dataclass
class World:
    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def without(self, name: str) -> None:
        (self.bin / name).unlink()

    def log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    @property
    def daemon_config(self) -> Path:
        """The hosts' /etc/docker/daemon.json, one for all."""
        return self.folder / "etc" / "daemon.json"

    def home(self, host: str) -> Path:
        return self.folder / host

    def run(self, script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", PROJECT / "swarm" / script, *arguments],
            env={
                "PATH": str(self.bin),
                "WORLD": str(self.folder),
                "MADE_UP_TOKEN": TOKEN,
                "HOME": "/",
                "DAEMON_CONFIG": str(self.daemon_config),
                **environment,
            },
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.bin.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (made.bin / tool).symlink_to(found)
    made.program("python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')  # whatever python3 may be in PATH
    for name, text in (("ssh", SSH), ("docker", DOCKER), ("sudo", SUDO)):
        made.program(name, text)
    return made


def not_root(world: World) -> None:
    """The user of the VMs is `eouser`, in no group but its own; systemd or not, no daemon is ours to start."""
    world.program("id", '#!/usr/bin/env bash\ncase "$1" in -u) echo 1000 ;; *) echo eouser ;; esac\n')
    world.program("systemctl", "#!/usr/bin/env bash\nexit 0\n")


# Options


@pytest.mark.parametrize("script", [*SCRIPTS, "deploy.sh"])
def test_help_is_the_comment_at_the_head(world: World, script: str) -> None:
    outcome = world.run(script, "--help")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert f"swarm/{script} [" in outcome.stdout
    assert "--dry-run" in outcome.stdout
    assert "set -euo" not in outcome.stdout


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "no hosts"),
        (("--surely-not", "vm1"), "no option --surely-not"),
        (("-v", "vm1"), "no option -v"),
        (("--hosts",), "--hosts needs a value"),
        (("--hosts", "/nowhere", "vm1"), "/nowhere cannot be read"),
        (("-oProxyCommand=x",), "no option -oProxyCommand=x"),
        (("vm1;reboot",), "'vm1;reboot' is no name of a host"),
        (("vm 1",), "is no name of a host"),
        (("",), "is no name of a host"),
        (("user@-oProxyCommand=x",), "is no name of a host"),
        (("$(reboot)",), "is no name of a host"),
    ],
)
def test_wrong_command_line(world: World, script: str, arguments: tuple[str, ...], complaint: str) -> None:
    outcome = world.run(script, *arguments)
    assert outcome.returncode == 2
    assert complaint in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert (outcome.stdout, world.log("ssh"), world.log("docker")) == ("", "", "")


@pytest.mark.parametrize(
    ("script", "arguments", "complaint"),
    [
        ("bring.sh", ("--image", "-x", "vm1"), "no name of an image"),
        ("bring.sh", ("--image", "a b", "vm1"), "no name of an image"),
        ("check.sh", ("--min-disk", "much", "vm1"), "whole number"),
        ("check.sh", ("--db-config", "/nowhere", "vm1"), "does not tell a host"),
        ("remove.sh", ("--wait", "-1", "vm1"), "whole number"),
        ("remove.sh", ("--node", "n1", "vm1"), "--node needs --force"),
        ("remove.sh", ("--force", "--node", "n1", "vm1", "vm2"), "exactly one host"),
    ],
)
def test_wrong_values(world: World, script: str, arguments: tuple[str, ...], complaint: str) -> None:
    outcome = world.run(script, *arguments)
    assert (outcome.returncode, outcome.stderr.count("\n")) == (2, 1)
    assert complaint in outcome.stderr


def test_hosts_from_a_file(world: World) -> None:
    file = world.folder / "hosts"
    file.write_bytes(b"# workers\n\nvm1\r\n  user@vm2  # the slow one\n\t\nvm1\n198.51.100.7")
    outcome = world.run("prepare.sh", "--hosts", file, "vm0", "vm1")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    hosts = [line.partition(": ")[0] for line in outcome.stdout.splitlines() if "directory" in line]
    assert hosts == ["vm1", "user@vm2", "198.51.100.7", "vm0"]


def test_two_names_on_a_line_of_the_file(world: World) -> None:
    file = world.folder / "hosts"
    file.write_text("vm1 vm2\n")
    outcome = world.run("prepare.sh", "--hosts", file)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert "'vm1 vm2' is no name of a host" in outcome.stderr


def test_options_of_ssh_come_first(world: World) -> None:
    """ssh takes the first value that it is given: ours must be the second."""
    outcome = world.run("prepare.sh", "vm1", SSH_OPTIONS="-F file -o ConnectTimeout=77")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    arguments = world.log("ssh").splitlines()
    assert arguments[:4] == ["-F", "file", "-o", "ConnectTimeout=77"]
    assert "BatchMode=yes" in arguments


# prepare.sh


def test_a_host_that_fails_does_not_stop_the_others(world: World) -> None:
    outcome = world.run("prepare.sh", "gone1", "vm1", "gone2")
    assert outcome.returncode == 1
    assert outcome.stderr.splitlines() == [
        "gone1: failed: cannot be reached (ssh: connect to host gone1 port 22: No route to host)",
        "gone2: failed: cannot be reached (ssh: connect to host gone2 port 22: No route to host)",
        "prepare.sh: failed: gone1 gone2",
    ]
    assert (world.home("vm1") / "dk").is_dir()


def test_prepare_twice(world: World) -> None:
    assert "directory" in world.run("prepare.sh", "vm1").stdout
    again = world.run("prepare.sh", "vm1")
    assert again.returncode == 0
    assert f"vm1: directory {world.home('vm1')}/dk: already there" in again.stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {"no-new-privileges": True}),
        ("", {"no-new-privileges": True}),
        (" {\n} \n", {"no-new-privileges": True}),
        (
            '{\n  "log-driver": "journald",\n  "a": {}\n}\n',
            {"no-new-privileges": True, "log-driver": "journald", "a": {}},
        ),
        ('{"no-new-privileges" : true, "a": 1}', {"no-new-privileges": True, "a": 1}),
    ],
    ids=["no file", "an empty file", "an empty object", "other settings", "set already"],
)
def test_no_new_privileges(world: World, before: str | None, after: dict[str, object]) -> None:
    """For all containers, since a stack cannot say it."""
    if before is not None:
        world.daemon_config.parent.mkdir()
        world.daemon_config.write_text(before)
    for _ in range(2):
        outcome = world.run("prepare.sh", "vm1")
        assert (outcome.returncode, outcome.stderr) == (0, "")
        assert json.loads(world.daemon_config.read_text()) == after
    assert "vm1: no-new-privileges: already set" in outcome.stdout
    assert "next" not in outcome.stdout


@pytest.mark.parametrize("text", ['{"no-new-privileges": false}', "[]", "nonsense"])
def test_a_daemon_s_configuration_that_is_left_alone(world: World, text: str) -> None:
    world.daemon_config.parent.mkdir()
    world.daemon_config.write_text(text)
    outcome = world.run("prepare.sh", "vm1")
    assert outcome.returncode == 1
    assert "no-new-privileges" in outcome.stderr
    assert world.daemon_config.read_text() == text


@pytest.mark.parametrize("busy", [False, True])
def test_a_daemon_is_started_anew_only_if_no_container_would_end(world: World, busy: bool) -> None:
    world.program("systemctl", '#!/usr/bin/env bash\nprintf "%s\\n" "$*" >>"$WORLD/systemctl.log"\n')
    if busy:
        world.home("vm1").mkdir()
        (world.home("vm1") / "busy").touch()
    outcome = world.run("prepare.sh", "vm1")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    restarted = "restart docker" in world.log("systemctl")
    assert restarted == (Path("/run/systemd/system").is_dir() and not busy)
    assert restarted or "holds when the daemon is started next" in outcome.stdout


def test_a_dry_run_changes_nothing(world: World) -> None:
    not_root(world)
    outcome = world.run("prepare.sh", "--dry-run", "vm1")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "vm1: would run: sudo -n usermod -aG docker eouser" in outcome.stdout
    assert f"vm1: would run: mkdir -p -- {world.home('vm1')}/dk" in outcome.stdout
    assert f"{world.daemon_config}" in outcome.stdout
    assert not world.daemon_config.exists()
    assert ": made" not in outcome.stdout
    assert not (world.home("vm1") / "dk").exists()
    assert world.log("sudo") == ""


def test_sudo_only_where_it_is_needed(world: World) -> None:
    not_root(world)
    outcome = world.run("prepare.sh", "vm1")
    assert outcome.returncode == 0
    first, second = world.log("sudo").splitlines()
    assert first.startswith("vm1: sudo -n sh -c ")
    assert first.endswith(f'{world.daemon_config} {{"no-new-privileges": true}}')
    assert second == "vm1: sudo -n usermod -aG docker eouser"
    assert (world.home("vm1") / "dk").is_dir()


def test_docker_is_installed_where_there_is_none(world: World) -> None:
    skip_unless("" if Path("/etc/debian_version").exists() else "apt-get belongs to Debian")
    not_root(world)
    world.without("docker")
    world.program("apt-get", "#!/usr/bin/env bash\nexit 1\n")
    # sudo "installs": afterwards there is a docker.
    docker = world.folder / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    world.program("sudo", SUDO + 'case "$*" in *docker.io) mv "$WORLD/docker" "$WORLD/bin/docker" ;; esac\n')
    outcome = world.run("prepare.sh", "vm1")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "vm1: Docker: installing docker.io" in outcome.stdout
    words = [line.split()[-1] for line in world.log("sudo").splitlines()]
    assert words == ["true}", "update", "docker.io", "eouser"]  # the daemon's configuration before the daemon
    assert "started next" not in outcome.stdout


@pytest.mark.parametrize("name", ["a b", "it's", 'a"b', "$(touch hit)", "a;touch hit", "a\\b", "ä*?"])
def test_directory_of_any_name(world: World, name: str) -> None:
    outcome = world.run("prepare.sh", "--directory", name, "vm1")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert [path.name for path in world.home("vm1").iterdir()] == [name]


# bring.sh


def write_configuration(world: World) -> list[str | Path]:
    """Files with names of their own, readable by all; the options that name them."""
    options: list[str | Path] = []
    for option, key in (("--db-config", "database"), ("--s3-config", "s3")):
        file = world.folder / f"my {option[2:4]}.json"
        file.write_text(json.dumps({key: {}}))
        file.chmod(0o644)
        options += [option, file]
    return options


def test_code_and_configuration(world: World) -> None:
    for _ in range(2):
        outcome = world.run("bring.sh", "--code", "--config", *write_configuration(world), "vm1")
        assert (outcome.returncode, outcome.stderr) == (0, "")
    folder = world.home("vm1") / "dk"
    names = ["db_config.json", "download_with_boto3.py", "extractors", "operations", "s3_config.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    modes = {name: stat.S_IMODE((folder / name).stat().st_mode) for name in names}
    assert modes == {
        name: 0o600 if name.endswith("json") else (folder / name).is_dir() * 0o111 + 0o644 for name in names
    }
    assert json.loads((folder / "db_config.json").read_text()) == {"database": {}}
    assert (folder / "extractors" / "database" / "sql").is_dir()
    assert not list(folder.rglob("__pycache__"))
    assert "save" not in world.log("docker")


def test_a_copy_that_breaks_off_leaves_what_was_there(world: World) -> None:
    folder = world.home("cut1") / "dk"
    (folder / "extractors").mkdir(parents=True)
    (folder / "extractors" / "old.py").touch()
    outcome = world.run("bring.sh", "--code", "cut1")
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("cut1: failed: ")
    assert [path.name for path in folder.iterdir()] == ["extractors"]
    assert [path.name for path in (folder / "extractors").iterdir()] == ["old.py"]


def test_a_dry_run_copies_nothing(world: World) -> None:
    outcome = world.run("bring.sh", "--code", "--config", *write_configuration(world), "--dry-run", "vm1")
    assert outcome.returncode == 0
    assert outcome.stdout.count("would run: ") == 3
    assert world.log("ssh") == ""


def test_configuration_that_is_not_there(world: World) -> None:
    outcome = world.run("bring.sh", "--config", "--db-config", "/nowhere", "vm1")
    assert (outcome.returncode, outcome.stderr) == (1, "bring.sh: /nowhere cannot be read\n")


# join.sh


def test_the_token_stays_out_of_sight(world: World) -> None:
    outcome = world.run("join.sh", "vm1")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout.splitlines() == ["manager: already a manager", "vm1: joined as a worker"]
    assert TOKEN not in world.log("ssh")
    assert f"vm1: swarm join --token {TOKEN} 198.51.100.1:2377" in world.log("docker").splitlines()


def test_a_dry_run_joins_nobody(world: World) -> None:
    outcome = world.run("join.sh", "--dry-run", "vm1")
    assert outcome.returncode == 0
    assert "vm1: would run: docker swarm join --token (not shown) 198.51.100.1:2377" in outcome.stdout
    assert TOKEN not in outcome.stdout + world.log("ssh")
    assert "swarm join " not in world.log("docker")


# check.sh


def row(outcome: subprocess.CompletedProcess[str], host: str) -> dict[str, str]:
    """The host's line of the table, by the heads of the columns: they begin where the cells begin."""
    head, *lines = outcome.stdout.splitlines()
    starts = [head.index(name) for name in head.split()]
    line = next(line for line in lines if line.startswith(host))
    ends = [*starts[1:], None]
    return {name: line[start:end].strip() for name, start, end in zip(head.split(), starts, ends, strict=True)}


def test_all_is_well(world: World) -> None:
    assert world.run("join.sh", "vm1").returncode == 0
    outcome = world.run("check.sh", "--min-disk", "0", "vm1")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    cells = row(outcome, "vm1")
    assert (cells["DOCKER"], cells["SWARM"], cells["CLOCK"], cells["IMAGE"]) == ("ok 20.10.24", "ok", "ok", "ok")
    assert cells["PRIVILEGES"] == "ok"


@pytest.mark.parametrize(("answer", "cell", "code"), [("0", "can be gained", 1), ("", "not checked", 0)])
def test_privileges_are_looked_for_in_a_container(world: World, answer: str, cell: str, code: int) -> None:
    assert world.run("join.sh", "vm1").returncode == 0
    outcome = world.run("check.sh", "--min-disk", "0", "vm1", PRIVILEGES=answer)
    assert (outcome.returncode, row(outcome, "vm1")["PRIVILEGES"]) == (code, cell)
    assert "run --rm --network none --entrypoint sed" in world.log("docker")


def test_what_is_wrong(world: World) -> None:
    # The VM's bash takes EPOCHREALTIME for a plain variable as soon as it has been unset.
    slow = SSH.replace('exec sh -c "$3"\n', 'exec sh -c "${3/set -euo pipefail/unset EPOCHREALTIME}"\n')
    world.program("ssh", slow)
    world.without("date")
    world.program("date", '#!/usr/bin/env bash\nprintf "%d.000000\\n" $((EPOCHSECONDS - 3600))\n')
    outcome = world.run("check.sh", "--min-disk", "900000", "vm1", "gone1")
    assert outcome.returncode == 1
    assert outcome.stderr == "check.sh: failed: vm1 gone1\n"
    cells = row(outcome, "vm1")
    assert cells["SWARM"] == "in no swarm"
    # By an hour, as exactly as a busy machine measures it.
    assert cells["CLOCK"].endswith(" s behind")
    assert round(float(cells["CLOCK"].removesuffix(" s behind")) / 3600) == 1
    assert cells["DISK"].startswith("only ")
    assert row(outcome, "gone1")["SSH"] == "cannot be reached"
    assert "gone1: cannot be reached (ssh: connect to host gone1 port 22: No route to host)" in outcome.stdout


def test_docker_that_does_not_run(world: World) -> None:
    world.program("docker", DOCKER.replace("case", '[ -z "${ON_HOST:-}" ] || exit 1\ncase', 1))
    outcome = world.run("check.sh", "vm1")
    assert outcome.returncode == 1
    cells = row(outcome, "vm1")
    assert (cells["SSH"], cells["DOCKER"], cells["CLOCK"]) == ("ok", "cannot be used", "ok")
    assert "vm1: Docker does not run, or root may not use it" in outcome.stdout


def test_a_talkative_login_shell(world: World) -> None:
    world.program("ssh", SSH.replace('exec sh -c "$3"\n', 'echo Welcome to vm1; exec sh -c "$3"\n'))
    assert world.run("join.sh", "vm1").returncode == 0
    assert world.run("join.sh", "vm1").stdout.splitlines()[-1] == "vm1: already a worker"
    assert world.run("bring.sh", "vm1").stdout == f"vm1: image parcel-extraction:{__version__}: already there\n"
    assert world.run("check.sh", "--min-disk", "0", "vm1").returncode == 0


EVIL = r"\033]0;owned\007\033[2J"


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_host_says_is_no_command_to_the_terminal(world: World, script: str) -> None:
    """The name on its terminal, for instance, or a line that looks like another host's."""
    evil = SSH.replace("No route to host", f"$(printf '{EVIL}')").replace(
        'exec sh -c "$3"\n', f"printf 'step{EVIL}\\n'; exec sh -c \"$3\"\n"
    )
    world.program("ssh", evil)
    world.run("join.sh", "vm1")
    for hosts in (("vm1",), ("gone1",)):
        outcome = world.run(script, *hosts)
        assert (outcome.stdout + outcome.stderr).replace("\n", "").isprintable()


def test_no_secret_goes_to_a_host(world: World) -> None:
    database = world.folder / "db.json"
    connection = {"host": "127.0.0.1", "port": 9, "dbpasswd": "pass-word", "dbuser": "who"}
    database.write_text(json.dumps({"database": {"connection": connection}}))
    store = world.folder / "s3.json"
    store.write_text(json.dumps({"s3": {"host": "http://127.0.0.1:9/x", "access_key": "pass-key", "secret_key": "s"}}))
    outcome = world.run("check.sh", "--db-config", database, "--s3-config", store, "vm1")
    cells = row(outcome, "vm1")
    assert cells["DATABASE"] == cells["S3"] == "no connection to 127.0.0.1:9"
    assert "pass-" not in outcome.stdout + outcome.stderr + world.log("ssh")


def test_database_of_the_stack_itself(world: World) -> None:
    database = world.folder / "db.json"
    database.write_text(json.dumps({"database": {"connection": {"host": "pg_spat"}}}))
    outcome = world.run("check.sh", "--db-config", database, "vm1")
    assert row(outcome, "vm1")["DATABASE"] == "in the stack"


@pytest.mark.parametrize("host", ["a b", "$(touch hit)", "a;b", "/var/run/postgresql"])
def test_a_host_that_is_none_is_not_sent(world: World, host: str) -> None:
    database = world.folder / "db.json"
    database.write_text(json.dumps({"database": {"connection": {"host": host}}}))
    outcome = world.run("check.sh", "--db-config", database, "vm1")
    assert outcome.returncode == 2
    assert world.log("ssh") == ""


# deploy.sh

STACKS = r"""#!/usr/bin/env bash
case "$*" in
    version*) ;;
    "info "*) echo true ;;
    "secret inspect "*) grep -qsx -- "$3" "$WORLD/secrets" ;;
    "secret ls "*) cat "$WORLD/secrets" ;;
    "secret rm "*)
        ! grep -qsx -- "$3" "$WORLD/in_use" || exit 1
        grep -vx -- "$3" "$WORLD/secrets" >"$WORLD/left" || true
        mv "$WORLD/left" "$WORLD/secrets"
        ;;
    "service inspect "*_pg_spat) cat "$WORLD/of_the_database" 2>/dev/null ;;
    "service inspect "*_vector_extractor)
        [ -e "$WORLD/of_the_database" ] || exit 1
        echo "parcel-extraction:0 python -m extractors.s2"
        ;;
    "container run "*)
        printf '%s\n' "$*" >>"$WORLD/tried"
        tar -t >>"$WORLD/tried"
        case "$*" in *"operations ingest "*)
            [ -z "${INGEST_SAYS:-}" ] || { printf '%s\n' "$INGEST_SAYS" >&2; exit 2; }
        esac
        printf '%s' "${FOUND:-ok database: at pg_spat}"
        exit "${CHECKED:-0}"
        ;;
    "stack deploy "*)
        [ -z "${REFUSED:-}" ] || { echo "refused" >&2; exit 1; }
        [ -z "${SLOW:-}" ] || { touch "$WORLD/deploying"; until [ -e "$WORLD/go_on" ]; do sleep 0.05; done; }
        printf '%s\n' "$*" "$DB_CONFIG_SECRET" "$S3_CONFIG_SECRET" "${INGEST_CONFIG_SECRET:-}" "$PG_SPAT_SECRET" \
            "${PG_SPAT_CONFIG:-}" >"$WORLD/deployed"
        printf '%s\n' "$DB_CONFIG_SECRET" "$S3_CONFIG_SECRET" ${INGEST_CONFIG_SECRET:-} "$PG_SPAT_SECRET" |
            sort >"$WORLD/in_use"
        sort -u "$WORLD/in_use" "$WORLD/secrets" >"$WORLD/left"
        mv "$WORLD/left" "$WORLD/secrets"
        printf '%s' "$PG_SPAT_SECRET" >"$WORLD/of_the_database"
        ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def stacks(world: World) -> World:
    """A manager with stack files and configuration, in a folder whose name has a blank."""
    world.program("docker", STACKS)
    sort = shutil.which("sort")
    assert sort
    (world.bin / "sort").symlink_to(sort)
    folder = world.folder / "the files"
    folder.mkdir()
    for name in ("docker_compose_s2.yml", "docker_compose_ingest.yml"):
        shutil.copy(PROJECT / name, folder)
    for name, key in (("db_config", "database"), ("s3_config", "s3"), ("ingest_config", "database")):
        (folder / f"{name}.json").write_text(json.dumps({key: {"password": "canary"}}))
        os.utime(folder / f"{name}.json", (1e9, 1e9))
    (world.folder / "secrets").write_text("s2swarm_other\n")
    return world


def deploy(world: World, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    file = world.folder / "the files/docker_compose_s2.yml"
    done = world.run("deploy.sh", "-c", file, *more, "s2swarm", **environment)
    assert "canary" not in done.stdout + done.stderr
    return done


def deployed(world: World) -> list[str]:
    """The last deployment: the command; the names of the secrets of workers (two), of ingest and of the database; and
    what the database's is read from, if that is not db_config.json."""
    return (world.folder / "deployed").read_text().splitlines()


def test_a_first_deployment(stacks: World) -> None:
    done = deploy(stacks)
    assert (done.returncode, done.stderr) == (0, "")
    time = "20010909T014640000"
    assert deployed(stacks) == [
        f"stack deploy -c {stacks.folder}/the files/docker_compose_s2.yml s2swarm",
        f"s2swarm_db_config_{time}",
        f"s2swarm_s3_config_{time}",
        "",
        f"s2swarm_pg_spat_{time}",
        "",
    ]


def test_a_file_that_workers_can_read(stacks: World) -> None:
    """Editors of Windows begin a file with a mark of its encoding."""
    file = stacks.folder / "the files/db_config.json"
    file.write_text(file.read_text(), encoding="utf-8-sig")
    assert deploy(stacks).returncode == 0


def test_a_changed_file_is_another_secret(stacks: World) -> None:
    """That of the file which has changed; the database keeps what it was made with, and the old one is removed."""
    deploy(stacks)
    first = deployed(stacks)
    deploy(stacks)
    assert deployed(stacks)[:5] == first[:5]
    os.utime(stacks.folder / "the files/db_config.json", (1e9, 1e9 + 0.004))
    done = deploy(stacks)
    assert (done.returncode, done.stderr) == (0, "")
    _, database, store, _, kept, file = deployed(stacks)
    assert database != first[1]
    assert (store, kept, file) == (first[2], first[4], "/dev/null")
    left = set((stacks.folder / "secrets").read_text().split())
    assert left == {database, store, kept, "s2swarm_other"}
    assert f"secret {first[1]}: removed" in done.stdout


def test_secrets_of_a_deployment_by_hand_are_replaced(stacks: World) -> None:
    (stacks.folder / "secrets").write_text("s2swarm_db_config\ns2swarm_s3_config\ns2swarm_pg_spat\n")
    (stacks.folder / "of_the_database").write_text("s2swarm_pg_spat")
    assert deploy(stacks).returncode == 0
    left = (stacks.folder / "secrets").read_text().split()
    assert "s2swarm_pg_spat" in left
    assert not {"s2swarm_db_config", "s2swarm_s3_config"} & set(left)


def test_the_file_of_ingest_is_needed_only_with_its_stack_file(stacks: World) -> None:
    own = stacks.folder / "the files/ingest_config.json"
    option = ("-c", str(stacks.folder / "the files/docker_compose_ingest.yml"))
    assert deploy(stacks, *option).returncode == 0
    assert deployed(stacks)[3].startswith("s2swarm_ingest_config_")
    own.unlink()
    assert deploy(stacks).returncode == 0
    refused = deploy(stacks, *option)
    assert refused.returncode == 1
    assert "ingest_config.json: cannot be read" in refused.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", '{"s3": {"secret_key": "canary"}}', '{"database": canary}'])
def test_a_file_that_no_worker_could_read_is_not_deployed(stacks: World, text: str) -> None:
    (stacks.folder / "the files/db_config.json").write_text(text)
    done = deploy(stacks)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "db_config.json: " in done.stderr
    assert not (stacks.folder / "deployed").exists()


def test_a_deployment_that_docker_refuses_removes_nothing(stacks: World) -> None:
    deploy(stacks)
    os.utime(stacks.folder / "the files/s3_config.json", (2e9, 2e9))
    before = (stacks.folder / "secrets").read_text()
    assert deploy(stacks, REFUSED="1").returncode == 1
    assert (stacks.folder / "secrets").read_text() == before


def test_what_has_changed_is_tried_out_while_the_stack_runs(stacks: World) -> None:
    """By a worker of it, in its network, with both files; not when all is new, nor when nothing is."""
    deploy(stacks)
    deploy(stacks)
    assert not (stacks.folder / "tried").exists()
    os.utime(stacks.folder / "the files/s3_config.json", (2e9, 2e9))
    done = deploy(stacks)
    assert (done.returncode, done.stderr) == (0, "")
    command, *files = (stacks.folder / "tried").read_text().splitlines()
    assert "--network s2swarm_overnet " in command
    assert command.endswith(" python -m extractors.s2 --check")
    assert files == ["db_config.json", "s3_config.json"]
    assert done.stdout.index("python -m extractors.s2 --check") < done.stdout.index(": removed")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            "ok database: at pg_spat\nFAILED store: it\x1b refuses\nFAILED area: none\n",
            ["store: it? refuses", "area: none"],
        ),
        ("", ["exit code 75"]),
    ],
)
def test_what_workers_could_not_work_with_is_not_deployed(stacks: World, found: str, told: list[str]) -> None:
    """All reasons are told; who knows better says so."""
    deploy(stacks)
    before = deployed(stacks)
    os.utime(stacks.folder / "the files/s3_config.json", (2e9, 2e9))
    done = deploy(stacks, CHECKED="75", FOUND=found or " ")
    assert done.returncode == 1
    *reasons, last = done.stderr.splitlines()
    assert [line.removeprefix("s2swarm: ").removeprefix("FAILED ") for line in reasons] == told
    assert "nothing has been changed" in last
    assert "--untried" in last
    assert deployed(stacks) == before
    assert deploy(stacks, "--untried", CHECKED="75").returncode == 0
    assert deployed(stacks) != before


def test_a_changed_file_of_ingest_is_tried_out(stacks: World) -> None:
    """By an ingest of nothing: the password, the tables and the area are seen, and no source is asked."""
    option = ("-c", str(stacks.folder / "the files/docker_compose_ingest.yml"))
    deploy(stacks, *option)
    before = deployed(stacks)
    assert not (stacks.folder / "tried").exists()
    os.utime(stacks.folder / "the files/ingest_config.json", (2e9, 2e9))
    refused = deploy(stacks, *option, INGEST_SAYS="ERROR no\x1bpassword")
    assert refused.returncode == 1
    reason, last = refused.stderr.splitlines()
    assert reason == "s2swarm: ERROR no?password"
    assert "ingest could not work with this; nothing has been changed" in last
    assert deployed(stacks) == before
    assert deploy(stacks, *option).returncode == 0
    assert deployed(stacks)[3] != before[3]
    command, *files = (stacks.folder / "tried").read_text().splitlines()[-3:]
    assert "-e DB_CONFIG=/tmp/ingest_config.json " in command
    assert "--network s2swarm_overnet " in command
    assert "--dry-run" in command
    assert files == ["ingest_config.json", "s3_config.json"]


def test_two_deployments_at_once(stacks: World) -> None:
    """The second one says so and changes nothing; what only looks is let through."""
    file = stacks.folder / "the files/docker_compose_s2.yml"
    first = subprocess.Popen(
        ["bash", PROJECT / "swarm/deploy.sh", "-c", file, "s2swarm"],
        env={"PATH": str(stacks.bin), "WORLD": str(stacks.folder), "SLOW": "1"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until((stacks.folder / "deploying").exists, "the first deployment")
        second = deploy(stacks)
        assert (second.returncode, second.stdout, second.stderr.count("\n")) == (1, "", 1)
        assert "another deploy.sh" in second.stderr
        assert deploy(stacks, "--dry-run").returncode == 0
    finally:
        (stacks.folder / "go_on").touch()
        assert first.wait(60) == 0
    assert deploy(stacks).returncode == 0


def test_a_disk_without_locks(stacks: World) -> None:
    """It is no other deployment."""
    (stacks.bin / "flock").unlink()
    (stacks.bin / "flock").write_text("#!/bin/sh\necho 'flock: 9: Bad file descriptor' >&2\nexit 65\n")
    (stacks.bin / "flock").chmod(0o755)
    done = deploy(stacks)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "see that nobody else deploys it" in done.stderr
    assert deployed(stacks)


def test_a_dry_run_deploys_nothing(stacks: World) -> None:
    done = deploy(stacks, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    *settings, command = done.stdout.splitlines()[-4:]
    assert [line.partition("would set: ")[2].partition("=")[0] for line in settings] == [
        "DB_CONFIG_SECRET",
        "S3_CONFIG_SECRET",
        "PG_SPAT_SECRET",
    ]
    assert "would run here: docker stack deploy -c " in command
    assert not (stacks.folder / "deployed").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "no stack file"),
        (("s2swarm",), "no stack file"),
        (("-c",), "-c needs a value"),
        (("-c", "/nowhere", "s2swarm"), "/nowhere cannot be read"),
        (("-c", "/", "s2swarm"), "/ cannot be read"),
        (("-c", "/etc/hostname"), "no stack:"),
        (("-c", "/etc/hostname", "a", "b"), "one stack at a time"),
        (("-c", "/etc/hostname", "a b"), "no name of a stack"),
        (("-c", "/etc/hostname", "x" * 31), "no name of a stack"),
        (("--surely-not",), "no option --surely-not"),
    ],
)
def test_wrong_command_lines_of_a_deployment(stacks: World, arguments: tuple[str, ...], complaint: str) -> None:
    outcome = stacks.run("deploy.sh", *arguments)
    assert outcome.returncode == 2
    assert complaint in outcome.stderr
    assert (outcome.stdout, outcome.stderr.count("\n")) == ("", 1)


# The lock of images

DIGEST = "sha256:" + "0123456789abcdef" * 4
PULLED = r"""#!/usr/bin/env bash
printf '%s\n' "$*" >>"$WORLD/docker.log"
case "$*" in
    pull*) [ -z "${NO_REGISTRY:-}" ] || { echo "no such host" >&2; exit 1; } ;;
    "image inspect"*)
        name="${@: -1:1}"
        printf 'elsewhere.example/other@sha256:1\n%s@%s\n' "${name%:*}" "$MADE_UP_DIGEST"
        ;;
esac
"""


@pytest.fixture
def locking(world: World) -> World:
    """A copy of what scripts/lock_images.sh reads and writes."""
    project = world.folder / "project"
    (project / "scripts").mkdir(parents=True)
    for name in ("Dockerfile", "docker_compose_s2.yml", "images.lock", "scripts/lock_images.sh"):
        shutil.copy(PROJECT / name, project / name)
    world.program("docker", PULLED)
    head = shutil.which("head")
    assert head
    (world.bin / "head").symlink_to(head)
    return world


def lock_images(world: World, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", world.folder / "project" / "scripts" / "lock_images.sh"],
        env={"PATH": str(world.bin), "WORLD": str(world.folder), "MADE_UP_DIGEST": DIGEST, **environment},
        text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip


def test_the_lock_of_images_is_renewed(locking: World) -> None:
    lock = locking.folder / "project" / "images.lock"
    before = lock.read_text()
    done = lock_images(locking)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert lock.read_text() != before
    assert [line.split("@")[0] for line in lock.read_text().splitlines()] == [
        line.split("@")[0] for line in before.splitlines()
    ]
    assert lock.read_text().count(DIGEST) == 2
    assert locking.log("docker").count("pull ") == 2


@pytest.mark.parametrize("trouble", [{"NO_REGISTRY": "1"}, {"MADE_UP_DIGEST": "nonsense"}])
def test_a_lock_that_cannot_be_renewed_stays(locking: World, trouble: dict[str, str]) -> None:
    lock = locking.folder / "project" / "images.lock"
    before = lock.read_text()
    assert lock_images(locking, **trouble).returncode == 1
    assert lock.read_text() == before


def test_shellcheck() -> None:
    skip_unless("" if shutil.which("shellcheck") else "not installed: shellcheck")
    outcome = subprocess.run(
        ["shellcheck", *sorted((PROJECT / "swarm").glob("*.sh")), *sorted((PROJECT / "scripts").glob("*.sh"))],
        text=True, capture_output=True, check=False, env=os.environ | {"LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
