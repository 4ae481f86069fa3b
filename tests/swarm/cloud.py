"""Three machines on one: a manager and two workers, each a network namespace with a Docker daemon and an SSH server.

    this machine 198.x.y.1 --- bridge --- manager .10, vm_new1 .11, vm_new2 .12

What lies on this machine's side of the bridge (the S3 server, the tests) is reached by the containers too. The
namespaces have no names and end with us; daemons are ended by process id, and by the kernel if we die. This machine's
own Docker, firewall and settings stay untouched.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.faults.network import call, end_holder, hold, hold_network
from tests.support.environment import ROOT, without_workers_variables
from tests.support.running import wait_until
from tests.swarm import images

START_SECONDS = 60
DISK_GIGABYTES = 16
MEMORY_GIGABYTES = 10
"""How large the machines' disk looks, and from how much free memory on it is in there. It gets 4 GB at most."""
COMMAND_SECONDS = 600
IN_MEMORY = "cloud-of-"
# The kernel ends a program when we die, however that comes about.
WITH_US = ("setpriv", "--pdeathsig", "TERM")
BRIDGE = "bridge"
NAMESPACES = {"net": "net", "uts": "uts", "mount": "mnt"}
PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "debootstrap": "debootstrap",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ip": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
}


def missing() -> str:
    """Why no machines can be made here; empty if they can."""
    if os.geteuid() != 0:
        return "Docker daemons and network namespaces need root"
    packages = {package for program, package in PROGRAMS.items() if find(program) is None}
    return f"not installed: {', '.join(sorted(packages))} (Debian's names)" if packages else ""


def find(program: str) -> str | None:
    """Its path; Debian has some in sbin, where not every PATH looks."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class DockerError(RuntimeError):
    """The docker command failed."""


class Daemon:
    """A Docker daemon with a directory of its own; in the namespace of `holder`, or without any network at all."""

    def __init__(self, folder: Path, holder: subprocess.Popen[bytes] | None = None) -> None:
        self.folder, self.holder = folder, holder
        self.socket = folder / "sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            find("dockerd") or "dockerd", "--host", f"unix://{self.socket}", "--data-root", str(self.folder / "data"),
            "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid"),
        ]  # fmt: skip
        if self.holder is None:
            # It only builds, beside other things; its containers use this machine's network as it is.
            command = ["nice", "-n", "10", *command]
            command += ["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        else:
            # Not `ip netns exec`: that hides the control groups.
            command = [*enter(self.holder), *command]
        command = [*WITH_US, *command]
        (self.folder / "pid").unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, f"the Docker daemon in {self.folder}", START_SECONDS)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()[-3000:]
        with suppress(DockerError):
            self.docker("version")
            return True
        return False

    def docker(self, *arguments: str) -> str:
        """Run the docker command against this daemon; its output, without the last line break."""
        done = subprocess.run(
            [find("docker") or "docker", *arguments], env=self.environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise DockerError(f"docker {' '.join(arguments)}: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout.rstrip("\n")

    def environment(self) -> dict[str, str]:
        """For programs that call docker."""
        # The old builder is what everybody has; the new one is a package of its own.
        return {**without_workers_variables(), "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def stop(self) -> None:
        """End it, and with it its containers."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """kill -9 of everything that belongs to it, containers included, as when a machine loses its power."""
        assert self._process is not None
        for pid in [self._process.pid, *self.helpers(), *self.contained()]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        for pid in self.helpers():  # containerd starts what is lost anew, as long as it lives itself
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_daemon(self) -> None:
        """kill -9 of the daemon alone: its containers go on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def helpers(self) -> list[int]:
        """containerd, its shims, proxies of ports: whatever names the directory on its command line."""
        return [pid for pid in _pids() if str(self.folder / "exec") in _command_line(pid)]

    def contained(self) -> list[int]:
        """The processes of its containers: children, in any generation, of the shims."""
        parents = {pid: _parent(pid) for pid in _pids()}
        found = set(self.helpers())
        own = set(found)
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found - own)


class Node(Daemon):
    """A machine of the swarm. `name` is its alias for ssh and its name in the swarm, `address` its IP."""

    def __init__(self, folder: Path, name: str, address: str) -> None:
        self.name, self.address = name, address
        # Nobody answers there: names that cannot be looked up (a registry's) fail at once instead of after a while.
        (folder / "resolv.conf").write_text(f"nameserver {address}\n")
        super().__init__(folder, hold_namespace(name, folder))
        self._sshd: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """A process in its network namespace."""
        assert self.holder is not None
        return self.holder.pid

    @property
    def entrance(self) -> list[str]:
        """What a command starts with to run on this machine."""
        assert self.holder is not None
        return enter(self.holder)

    def start_sshd(self, config: Path) -> None:
        """Start its SSH server."""
        with (self.folder / "sshd.log").open("ab") as log:
            self._sshd = subprocess.Popen(
                [*WITH_US, *self.entrance, find("sshd") or "sshd", "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def run(self, *command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program on it, in this folder, in its network and against its daemon; errors come with the output."""
        where = [f"--wd={folder}"] if folder else []
        return subprocess.run(
            [*self.entrance, *where, *command], env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def close(self) -> None:
        """End everything on it."""
        self.stop()
        for pid in [*self.contained(), *self.helpers()]:  # a daemon that was killed has left them
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._sshd is not None:
            self._sshd.terminate()
            self._sshd.wait()
        assert self.holder is not None
        end_holder(self.holder)


class Cloud:
    """The machines. Once started they are in no swarm, and only the manager has the images; `close` ends them."""

    image = images.PROJECT

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cloud-", dir="/tmp"))
        self.folder.chmod(0o755)
        _sweep_memory()
        if _available_gigabytes() > MEMORY_GIGABYTES:
            options = ("-o", f"size={DISK_GIGABYTES}g,mode=755")
            call("mount", "-t", "tmpfs", *options, f"{IN_MEMORY}{os.getpid()}", str(self.folder))
        # 198.18.0.0/15 is set aside for tests of network devices: nobody's real addresses are hidden.
        self._net = f"198.{random.choice((18, 19))}.{random.randrange(256)}"
        self.here = f"{self._net}.1"
        self._switch: subprocess.Popen[bytes] | None = None
        self.ssh_config = self.folder / "ssh_config"
        self.manager = self._node("manager", 10)
        self.workers = [self._node("vm_new1", 11), self._node("vm_new2", 12)]
        self.nodes = [self.manager, *self.workers]
        self._builder = Daemon(self.manager.folder)

    def _node(self, name: str, number: int) -> Node:
        folder = self.folder / name
        folder.mkdir()
        return Node(folder, name, f"{self._net}.{number}")

    def build(self) -> None:
        """Build the images where the manager will find them."""
        self._builder.start()
        try:
            images.build(self._builder.docker)
        finally:
            self._builder.stop()

    def start(self) -> None:
        """Start everything; the images have been built."""
        self._connect()
        for node in self.nodes:
            node.start()
        self._open_ssh()

    def _connect(self) -> None:
        """The bridge is in a namespace as well: this machine's firewall does not see what passes it."""
        self._switch = hold_network()
        uplink = f"cloud{self._switch.pid}"
        call("ip", "link", "add", uplink, "type", "veth", "peer", "name", "uplink", "netns", str(self._switch.pid))
        call("ip", "address", "add", f"{self.here}/24", "dev", uplink)
        call("ip", "link", "set", uplink, "up")
        call("ip", "link", "add", BRIDGE, "type", "bridge", where=self._switch)
        call("ip", "link", "set", "uplink", "master", BRIDGE, "up", where=self._switch)
        call("ip", "link", "set", BRIDGE, "up", where=self._switch)
        for node in self.nodes:
            cable = ("ip", "link", "add", node.name, "type", "veth", "peer", "name", "eth0", "netns", str(node.pid))
            call(*cable, where=self._switch)
            call("ip", "link", "set", node.name, "master", BRIDGE, "up", where=self._switch)
            for command in (
                ("address", "add", f"{node.address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
                ("route", "add", "default", "via", self.here),
            ):
                call("ip", *command, where=node.holder)

    def cut(self, node: Node) -> None:
        """Nothing reaches the node or leaves it, and nobody is told."""
        call("ip", "link", "set", node.name, "nomaster", where=self._switch)

    def heal(self, node: Node) -> None:
        """Plug the cable in again."""
        call("ip", "link", "set", node.name, "master", BRIDGE, where=self._switch)

    def _open_ssh(self) -> None:
        key, host_key = self.folder / "key", self.folder / "host_key"
        for path in (key, host_key):
            call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path))
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
        config = ["StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "LogLevel ERROR", f"IdentityFile {key}"]
        for node in self.nodes:
            settings = [
                "Port 22", f"ListenAddress {node.address}", f"HostKey {host_key}", "UsePAM no", "StrictModes no",
                f"AuthorizedKeysFile {key}.pub", "PasswordAuthentication no", "PermitRootLogin yes",
                f"PidFile {node.folder / 'sshd.pid'}", f"SetEnv DOCKER_HOST=unix://{node.socket}",
                "Subsystem sftp internal-sftp",
            ]  # fmt: skip
            (node.folder / "sshd_config").write_text("\n".join(settings) + "\n")
            node.start_sshd(node.folder / "sshd_config")
            config += [f"Host {node.name}", f"  HostName {node.address}", "  User root"]
        self.ssh_config.write_text("\n".join(config) + "\n")
        home = self.manager.folder / "home/.ssh"
        home.mkdir(mode=0o700)
        shutil.copy(self.ssh_config, home / "config")
        for node in self.nodes:
            wait_until(lambda node=node: self._lets_in(node), f"SSH to {node.name}", START_SECONDS)  # type: ignore[misc]

    def _lets_in(self, node: Node) -> bool:
        done = subprocess.run(["ssh", "-F", self.ssh_config, node.name, "true"], capture_output=True, check=False)
        return done.returncode == 0

    def join_all(self) -> None:
        """Have the operator's scripts make a swarm of the machines and bring the image; done twice, it does nothing."""
        hosts = [node.name for node in self.workers]
        for script, *options in (("join.sh", "--database-here"), ("bring.sh", "--image", self.image)):
            self.operate(script, *options, *hosts)

    def part(self) -> None:
        """Back to the beginning: no swarm, no image on the workers."""
        for node in self.nodes:
            with suppress(DockerError):
                node.docker("swarm", "leave", "--force")
        for node in self.workers:
            with suppress(DockerError):
                node.docker("image", "rm", "--force", self.image)

    def operate(self, script: str, *arguments: str) -> str:
        """Run one of the scripts in swarm/ on the manager; what it printed."""
        done = subprocess.run(
            [*self.manager.entrance, "bash", str(ROOT / "swarm" / script), *arguments],
            env=self.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        """For the scripts of an operator, on the manager."""
        return {**self.manager.environment(), "SSH_OPTIONS": f"-F {self.ssh_config}"}

    def close(self) -> None:
        """End everything and remove it."""
        self._builder.stop()
        for node in self.nodes:
            node.close()
        if self._switch is not None:
            end_holder(self._switch)
        for mount in sorted(_mounts_at(self.folder), reverse=True):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def hold_namespace(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """A process with a network, a host name and mounts of its own, which end with us: then nobody holds the other end
    of its input. What is written into the home directory there stays in `folder`. The daemon's configuration is as
    prepare.sh leaves it where it has installed Docker."""
    for part in ("home", "work", "etc_docker"):
        (folder / part).mkdir()
    (folder / "etc_docker" / "daemon.json").write_text('{"no-new-privileges": true}\n')
    Path("/etc/docker").mkdir(exist_ok=True)  # as any Docker makes it; here it is only a place to mount on
    home = Path.home()
    setup = [
        f"echo {name} >/proc/sys/kernel/hostname",
        f"mount -t overlay overlay -o lowerdir={home},upperdir={folder}/home,workdir={folder}/work {home}",
        f"mount --bind {folder}/resolv.conf /etc/resolv.conf",
        f"mount --bind {folder}/etc_docker /etc/docker",
        "echo",
        "exec cat",
    ]
    return hold(["unshare", "--net", "--uts", "--mount", "sh", "-ec", "\n".join(setup)])


def enter(holder: subprocess.Popen[bytes]) -> list[str]:
    """What a command starts with to run in the holder's namespaces."""
    return ["nsenter", *(f"--{kind}=/proc/{holder.pid}/ns/{file}" for kind, file in NAMESPACES.items())]


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


def _sweep_memory() -> None:
    """What tests that were killed have left in memory."""
    for line in Path("/proc/mounts").read_text().splitlines():
        source, folder, *_ = line.split()
        if source.startswith(IN_MEMORY) and not Path("/proc", source.removeprefix(IN_MEMORY)).exists():
            subprocess.run(["umount", "--lazy", folder], capture_output=True, check=False)


def _mounts_at(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    mounts = [line.split()[4] for line in lines]
    return [mount for mount in mounts if mount == str(folder) or mount.startswith(f"{folder}/")]


def _available_gigabytes() -> float:
    """The memory that nobody uses."""
    numbers = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(numbers["MemAvailable"].split()[0]) / 1e6
