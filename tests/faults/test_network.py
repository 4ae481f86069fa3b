"""The tools of `network.py` do what the fault tests take for granted, and leave nothing behind."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import get_args

import psycopg2
import pytest

from tests.faults.network import LOOPBACK, Lost, Network, TcpProxy, missing_for_network
from tests.support.environment import skip_unless
from tests.support.workspace import Workspace


def echo(connection: socket.socket) -> None:
    try:
        while data := connection.recv(1000):
            connection.sendall(data)
    except OSError:
        pass
    finally:
        connection.close()


class EchoServer:
    """Sends everything back; and notes what came."""

    def __init__(self, host: str) -> None:
        self._socket = socket.create_server((host, 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    server = EchoServer(LOOPBACK)
    with TcpProxy(server.address) as proxy:
        yield proxy
    server.close()


def ask(connection: socket.socket, text: bytes = b"hello") -> bytes:
    connection.sendall(text)
    return connection.recv(1000)


def test_proxy(proxy: TcpProxy) -> None:
    """Forwards, delays, swallows, resets, refuses, and recovers.

    Without: none
    """
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as connection:
        assert ask(connection) == b"hello"
        proxy.delay_seconds = 0.2
        started = time.monotonic()
        assert ask(connection) == b"hello"
        assert time.monotonic() - started >= 0.4
        proxy.delay_seconds = 0.0

        proxy.cut()
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ask(connection)
        proxy.heal()
        with pytest.raises(TimeoutError):  # what was cut stays cut
            ask(connection)

    with socket.create_connection((proxy.host, proxy.port), timeout=5) as connection:
        assert ask(connection) == b"hello"
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            connection.recv(1000)
    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection((proxy.host, proxy.port), timeout=5) as connection,
    ):
        connection.recv(1000)
    assert len(proxy.connects) == 3
    proxy.heal()
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as connection:
        assert ask(connection) == b"hello"


@pytest.mark.parametrize("when", get_args(Lost))
def test_lost_commit(workspace: Workspace, when: Lost) -> None:
    """Exactly one COMMIT is lost: with its effect, or only its answer.

    Without: none
    """
    workspace.query("CREATE TABLE t (x int)")
    with TcpProxy((workspace.postgis.host, workspace.postgis.port)) as proxy:
        connection = workspace.postgis.connect(workspace.database, port=proxy.port)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (1)")
            connection.commit()
            cursor.execute("INSERT INTO t VALUES (2)")
            loss = proxy.lose_commit(when)
            with pytest.raises(psycopg2.OperationalError):
                connection.commit()
        assert loss.happened.is_set()
        connection.close()
        connection = workspace.postgis.connect(workspace.database, port=proxy.port)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (3)")
        connection.commit()
        connection.close()
    wanted = [1, 3] if when == "before" else [1, 2, 3]
    assert [x for (x,) in workspace.query("SELECT x FROM t ORDER BY x")] == wanted


# Interfaces of networks that tests make (`Network`, and the swarm's `Cloud`): others may run beside this one.
OF_TESTS = re.compile(r"\b(faults|cloud)\d+\b")


def state_of_this_machine() -> list[str]:
    """Interfaces, addresses, routes and firewall rules, without what a test that runs beside this one has."""
    commands = (
        ["ip", "-oneline", "address"],
        ["ip", "route"],
        ["iptables", "--list-rules"],
        ["iptables", "--list-rules", "--table", "nat"],
    )
    # How long an address remains valid changes all the time.
    return [
        re.sub(r"\b\d+sec\b", "", line)
        for command in commands
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        if not OF_TESTS.search(line)
    ]


def is_known(address: str) -> bool:
    """Whether this machine still has it, or a way to its network."""
    network = address.rpartition(".")[0] + "."
    return any(
        network in subprocess.run(["ip", what], capture_output=True, text=True, check=True).stdout
        for what in ("address", "route")
    )


TALK = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)
for line in sys.stdin:
    connection.sendall(line.encode())
    try:
        print(connection.recv(100).decode(), end="", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("fails", [False, True])
def test_network(fails: bool) -> None:
    """Packets pass, are dropped, and pass again; forgotten connections stay dead; this machine is as it was, even if a
    test fails while a program still runs inside.

    Without: none
    """
    skip_unless(missing_for_network())
    before = state_of_this_machine()
    programs: list[subprocess.Popen[str]] = []
    try:
        with Network() as network:
            server = EchoServer(network.here)

            def talk() -> subprocess.Popen[str]:
                with network.inside():
                    programs.append(
                        subprocess.Popen(
                            [sys.executable, "-c", TALK, *map(str, server.address)],
                            stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE,
                            text=True,
                        )
                    )
                return programs[-1]

            def say(program: subprocess.Popen[str]) -> str:
                assert program.stdin is not None
                assert program.stdout is not None
                program.stdin.write("hello\n")
                program.stdin.flush()
                return program.stdout.readline().strip()

            assert state_of_this_machine() == before, "the firewall is not ours to change"
            assert is_known(network.here)
            first = talk()
            assert say(first) == "hello"
            if fails:
                raise RuntimeError("a test fails")
            network.cut()
            assert say(first) == "TimeoutError"
            network.heal()

            network.forget_idle(1)
            second = talk()
            assert say(second) == "hello"
            time.sleep(2.5)
            assert say(second) == "TimeoutError"
            server.close()
    except RuntimeError:
        assert fails
        server.close()
    finally:
        for program in programs:
            program.kill()
            program.communicate()
    assert state_of_this_machine() == before
    assert not is_known(network.here)
