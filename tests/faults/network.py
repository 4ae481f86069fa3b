"""Two ways to spoil the network between a worker and its database.

`TcpProxy` stands between them as a real server on loopback, in the spirit of toxiproxy: it forwards, delays, swallows,
resets, refuses, and can lose the answer to exactly one COMMIT. It needs no privilege, but it ends the TCP connection:
what the two kernels say to each other (acknowledgements, keepalives) does not pass through it.

`Network` is for what only the kernels see. The worker runs in a network namespace of its own, behind a router that is
a second one; the router drops packets (`cut`), or forgets connections that are idle (`forget_idle`), as firewalls and
load balancers do:

    here 198.18.x.1 --- 198.18.x.2 router 198.18.x.5 --- 198.18.x.6 worker

All rules and settings are those of the two namespaces, so this machine's firewall stays untouched. The namespaces have
no names: they exist as long as the two processes in them, and these end when we do, however that comes about. With
them go the interfaces, and with these the route.
"""

from __future__ import annotations

import ctypes
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

LOOPBACK = "127.0.0.1"
LINGER_NOT = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset instead of a farewell."""
CLONE_NEWNET = 0x40000000
COMMIT = b"COMMIT"

Mode = Literal["forward", "swallow", "refuse"]
Lost = Literal["before", "while", "after"]
"""The connection of a COMMIT breaks before the server hears of it, while it commits, or after it has answered."""


# The proxy


class TcpProxy:
    """Forwards connections to `upstream`; a context manager."""

    def __init__(self, upstream: tuple[str, int], host: str = LOOPBACK) -> None:
        self.upstream = upstream
        self.connects: list[float] = []
        """When connections came in, refused ones included (`time.monotonic`)."""
        self.delay_seconds = 0.0
        """Every piece of data, in either direction, is held back so long."""
        self.mode: Mode = "forward"
        """What becomes of new connections."""
        self.overhear: Callable[[bytes], object] | None = None
        """Is told all that clients send."""
        self._pairs: set[_Pair] = set()
        self._loss: CommitLoss | None = None
        self._lock = threading.Lock()
        self._listening = socket.create_server((host, 0))
        self.host, self.port = self._listening.getsockname()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Swallow everything in both directions without a word, also what comes on new connections."""
        self.mode = "swallow"
        for pair in self._all_pairs():
            pair.swallowing.set()

    def reset(self) -> None:
        """Reset every connection there is; new ones pass."""
        for pair in self._all_pairs():
            pair.reset()

    def refuse(self) -> None:
        """Reset every connection, and new ones as soon as they come."""
        self.mode = "refuse"
        self.reset()

    def heal(self) -> None:
        """Let new connections pass. What was swallowed is lost, so a connection that was cut stays cut."""
        self.mode = "forward"
        self.delay_seconds = 0.0

    def lose_commit(self, when: Lost) -> CommitLoss:
        """Break the connection on which the next COMMIT comes: this COMMIT is lost, or only the answer to it."""
        self._loss = CommitLoss(when)
        return self._loss

    def take_loss(self) -> CommitLoss | None:
        """The loss that is due, if any: it happens to one connection only."""
        with self._lock:
            loss, self._loss = self._loss, None
            return loss

    def drop(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.discard(pair)

    def close(self) -> None:
        # Shutting down wakes the thread that accepts; closing alone would not.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all_pairs(self) -> list[_Pair]:
        with self._lock:
            return list(self._pairs)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return  # closed
            self.connects.append(time.monotonic())
            if self.mode == "refuse":
                _reset(client)
                continue
            try:
                server = socket.create_connection(self.upstream, timeout=10)
            except OSError:
                _reset(client)  # nobody there: what a closed port says
                continue
            pair = _Pair(self, client, server)
            if self.mode == "swallow":
                pair.swallowing.set()
            with self._lock:
                self._pairs.add(pair)
            pair.start()


class CommitLoss:
    """One COMMIT that gets lost; `happened` is set when it is."""

    def __init__(self, when: Lost) -> None:
        self.when = when
        self.happened = threading.Event()


class _Pair:
    """One connection through the proxy: the client's socket, the server's, and a thread that looks at both."""

    def __init__(self, proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
        self.swallowing = threading.Event()
        self._proxy, self._client, self._server = proxy, client, server
        self._loss: CommitLoss | None = None
        self._ending = threading.Event()
        for one in (client, server):
            one.settimeout(10)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def reset(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                open_ones = [one for one in (self._client, self._server) if one.fileno() >= 0]
                readable, _, _ = select.select(open_ones, [], [], 0.02)
                for source in readable:
                    data = source.recv(1 << 16)
                    if not data or not self._pass_on(source, data):
                        return
        except OSError:
            pass  # one side has gone: the other one is told by the reset
        finally:
            _reset(self._client)
            _reset(self._server)
            self._proxy.drop(self)

    def _pass_on(self, source: socket.socket, data: bytes) -> bool:
        """False if this connection has come to its end."""
        if self.swallowing.is_set():
            return True
        if self._proxy.delay_seconds:
            self._ending.wait(self._proxy.delay_seconds)
        if source is self._client:
            if self._proxy.overhear is not None:
                self._proxy.overhear(data)
            # A query comes alone and whole, because psycopg2 sends the next one only when the last was answered.
            if data[:1] == b"Q" and data[5 : 5 + len(COMMIT)].upper() == COMMIT:
                self._loss = self._proxy.take_loss()
                if self._loss is not None and self._loss.when == "before":
                    self._loss.happened.set()
                    return False
            self._server.sendall(data)
            if self._loss is not None and self._loss.when == "while":
                # The server's side stays open until it has answered, so that it commits in peace.
                self._loss.happened.set()
                _reset(self._client)
        elif self._loss is not None:
            # The answer to the COMMIT: it is done, and nobody will hear of it.
            self._loss.happened.set()
            return False
        else:
            self._client.sendall(data)
        return True


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
    one.close()


# The namespaces


class Network:
    """A network behind a router that can fail; a context manager. Programs started `inside()` live in it.

    `here` is this machine's address as it is seen from inside, `there` the worker's as it is seen from here.
    """

    def __init__(self) -> None:
        # 198.18.0.0/15 is set aside for tests of network devices: nobody's real addresses are hidden.
        self._net = f"198.{random.choice((18, 19))}.{random.randrange(256)}"
        self.here, self.there = f"{self._net}.1", f"{self._net}.6"
        self._holders: list[subprocess.Popen[bytes]] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def cut(self, *, answers_only: bool = False) -> None:
        """Drop every packet, without a word to anybody; or only those that go to the worker."""
        self._on_router("iptables", "-I", "FORWARD", *(("-o", "far") if answers_only else ()), "-j", "DROP")

    def drop_large(self, size: int) -> None:
        """Drop packets of more bytes than that, without a word: an overlay that promises more than it can carry."""
        self._on_router("iptables", "-I", "FORWARD", "-m", "length", "--length", f"{size + 1}:65535", "-j", "DROP")

    def heal(self) -> None:
        """Let everything pass again."""
        self._on_router("iptables", "-F", "FORWARD")

    def forget_idle(self, seconds: int) -> None:
        """Forget connections that are idle for so long, and drop without a word what still comes on them."""
        self._set("netfilter/nf_conntrack_tcp_loose", 0)
        self._set("netfilter/nf_conntrack_tcp_timeout_established", seconds)
        self._on_router("iptables", "-I", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Programs started in this block live behind the router. Only this thread enters, and only for the block."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path(f"/proc/{self._worker.pid}/ns/net").open("rb") as away,
        ):
            _enter(away.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def close(self) -> None:
        """End the two namespaces; a program that still runs inside keeps its own, but no way out of it."""
        for holder in self._holders:
            end_holder(holder)
        end = time.monotonic() + 10
        # The kernel takes a namespace apart a little later.
        while self._holders and Path(f"/sys/class/net/{self._interface}").exists() and time.monotonic() < end:
            time.sleep(0.02)
        self._holders.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _build(self) -> None:
        self._router, self._worker = self._hold(), self._hold()
        self._interface = f"faults{self._router.pid}"
        router = str(self._router.pid)
        call("ip", "link", "add", self._interface, "type", "veth", "peer", "name", "near", "netns", router)
        self._on_router("ip", "link", "add", "far", "type", "veth", "peer", "name", "near", "netns",
                        str(self._worker.pid))  # fmt: skip
        for where, interface, address in (
            (None, self._interface, f"{self._net}.1/30"),
            (self._router, "near", f"{self._net}.2/30"),
            (self._router, "far", f"{self._net}.5/30"),
            (self._worker, "near", f"{self._net}.6/30"),
        ):
            call("ip", "address", "add", address, "dev", interface, where=where)
            call("ip", "link", "set", interface, "up", where=where)
        call("ip", "link", "set", "lo", "up", where=self._worker)
        call("ip", "route", "add", "default", "via", f"{self._net}.5", where=self._worker)
        call("ip", "route", "add", f"{self._net}.4/30", "via", f"{self._net}.2")
        self._set("ipv4/ip_forward", 1)

    def _hold(self) -> subprocess.Popen[bytes]:
        self._holders.append(hold_network())
        return self._holders[-1]

    def _on_router(self, *command: str) -> None:
        call(*command, where=self._router)

    def _set(self, name: str, value: int) -> None:
        call("sh", "-c", f"echo {value} > /proc/sys/net/{name}", where=self._router)


def hold_network() -> subprocess.Popen[bytes]:
    """A process in a new network namespace that ends when we do: then nobody holds the other end of its input."""
    return hold(["unshare", "--net", "sh", "-c", "echo; exec cat"])


def hold(command: list[str]) -> subprocess.Popen[bytes]:
    """A process that holds namespaces: it prints a line when they are made, and ends with its input."""
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"\n", "no namespace could be made"
    return holder


def end_holder(holder: subprocess.Popen[bytes]) -> None:
    """End namespaces, with what is in them."""
    holder.kill()
    holder.wait()
    if holder.stdin is not None:
        holder.stdin.close()


def missing_for_network() -> str:
    """Why no `Network` can be made here; empty if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    programs = [name for name in ("ip", "iptables", "nsenter", "unshare") if shutil.which(name) is None]
    return f"not installed: {', '.join(programs)} (Debian: iproute2, iptables, util-linux)" if programs else ""


def call(*command: str, where: subprocess.Popen[bytes] | None = None) -> None:
    """Run a program that has to succeed, in the namespace of a holder if one is given."""
    if where is not None:
        command = ("nsenter", f"--net=/proc/{where.pid}/ns/net", *command)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


def _enter(namespace: int) -> None:
    """setns(2) for this thread; Python has it from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
