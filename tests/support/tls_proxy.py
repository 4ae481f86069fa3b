"""TLS in front of the S3 server, with faults that only TLS has: it encrypts by itself, so that it can spoil what goes
over the wire.

    with TlsProxy(store.endpoint, authority.certify("127.0.0.1")) as proxy:
        proxy.spoil("flip", times=9, key="B04")     # one bit of nine bodies
        proxy.spoil("eof", times=5)                 # five handshakes
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

Kind = Literal["flip", "eof", "alert"]
HANDSHAKE = ("eof", "alert")
INTERNAL_ERROR = bytes.fromhex("15030300020250")
"""An alert as a record: fatal, internal error."""
PASSED_ON = ("content-type", "content-length", "content-range", "etag", "last-modified")


@dataclass
class Fault:
    kind: Kind
    key: str
    times: int | None
    done: int = 0


class TlsProxy:
    """The proxy; a context manager. `endpoint` goes into s3_config.json as the host."""

    def __init__(self, upstream: str, certificate: Path) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.targets: list[str] = []
        """What was asked for: unquoted paths with their queries."""
        self.handshakes = 0
        """How many were begun."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def spoil(self, kind: Kind, times: int | None = None, key: str = "") -> None:
        """Spoil the next `times` (None: all) handshakes, or bodies of objects whose key holds `key`."""
        with self._lock:
            self._faults.append(Fault(kind, key, times))

    def asked_for(self, text: str) -> int:
        with self._lock:
            return sum(text in target for target in self.targets)

    def done(self, kind: Kind) -> int:
        """How often something was spoilt like that."""
        with self._lock:
            return sum(fault.done for fault in self._faults if fault.kind == kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone does not wake up the thread.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _due(self, kinds: tuple[str, ...], target: str = "") -> Kind | None:
        with self._lock:
            for fault in self._faults:
                if fault.kind in kinds and fault.key in target and (fault.times is None or fault.done < fault.times):
                    fault.done += 1
                    return fault.kind
        return None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(60)
            try:
                fault = self._due(HANDSHAKE)
                with self._lock:
                    self.handshakes += 1
                if fault is not None:
                    client.recv(10_000)
                    if fault == "alert":
                        client.sendall(INTERNAL_ERROR)
                    return
                connection = _Connection(client, self._context)
                while target := connection.request():
                    with self._lock:
                        self.targets.append(unquote(target[0]))
                    head, body = self._ask_upstream(*target)
                    connection.send(head)
                    is_object = "?" not in target[0]
                    connection.send(body, flip=is_object and self._due(("flip",), unquote(target[0])) is not None)
            except (OSError, EOFError):
                pass  # the client has gone, or does not like what it gets: that is what some tests want

    def _ask_upstream(self, path: str, headers: dict[str, str]) -> tuple[bytes, bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            passed_on = [f"{k}: {v}\r\n" for k, v in answer.getheaders() if k.lower() in PASSED_ON]
            if answer.getheader("content-length") is None:
                passed_on.append(f"content-length: {len(body)}\r\n")
            return f"HTTP/1.1 {answer.status} as upstream\r\n{''.join(passed_on)}\r\n".encode(), body
        finally:
            connection.close()


class _Connection:
    """TLS in memory between us and a client: what goes out is seen encrypted."""

    def __init__(self, client: socket.socket, context: ssl.SSLContext) -> None:
        self._client = client
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._received = b""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
        self._flush()

    def request(self) -> tuple[str, dict[str, str]] | None:
        """The path and the headers of the next request, none of which has a body; None: there is none."""
        while b"\r\n\r\n" not in self._received:
            try:
                read = self._tls.read(65536)
            except ssl.SSLWantReadError:
                if not self._fill():
                    return None
                continue
            if not read:
                return None
            self._received += read
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        unwanted = {"host", "connection"}
        return first.split(" ")[1], {name: value for name, value in headers.items() if name.lower() not in unwanted}

    def send(self, data: bytes, *, flip: bool = False) -> None:
        """Encrypt and send; with one bit changed in the middle of what goes over the wire."""
        self._tls.write(data) if data else None
        encrypted = bytearray(self._outgoing.read())
        if flip:
            encrypted[len(encrypted) // 2] ^= 1
        self._client.sendall(encrypted)

    def _flush(self) -> None:
        self._client.sendall(self._outgoing.read())

    def _fill(self) -> bool:
        read = self._client.recv(65536)
        if not read:
            self._incoming.write_eof()
            return False
        self._incoming.write(read)
        return True
