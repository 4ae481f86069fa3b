"""A reverse proxy in front of the S3 server that spoils chosen answers.

It is a real HTTP server on loopback: the worker talks to it as to any store. Without faults it passes every request on
and notes it; with faults it spoils the answers whose path holds a given text, for a given number of times.

    with FaultyS3(store.endpoint) as proxy:
        proxy.spoil("B04", "503", times=2)      # twice "slow down", then fine
        ...
        assert proxy.asked_for("B04") == 3
"""

from __future__ import annotations

import hashlib
import http.client
import re
import threading
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from tests.support.serving import Handler, Served

Kind = Literal["503", "403", "404", "reset", "cut", "wrong", "short", "stall", "trickle", "longer", "whole", "noisy"]

ON_BODIES = frozenset({"cut", "wrong", "short", "stall", "longer", "whole", "noisy"})
"""These spoil an object's body; `trickle` any body; the others take the place of the whole answer."""

ERRORS: dict[str, tuple[int, str]] = {
    "503": (503, "SlowDown"),
    "403": (403, "InvalidAccessKeyId"),
    "404": (404, "NoSuchKey"),
}
PASSED_ON = ("content-type", "last-modified", "content-range", "accept-ranges", "x-amz-version-id")


@dataclass
class Fault:
    """One way to spoil the answers to requests whose unquoted target holds `key`.

    times: how many answers, None = every one.
    """

    key: str
    kind: Kind
    times: int | None
    done: int = 0

    def applies(self, target: str) -> bool:
        return self.key in target and (self.times is None or self.done < self.times)


@dataclass(frozen=True)
class Request:
    """A request as it came in; `target` is the unquoted path with its query."""

    method: str
    target: str


class FaultyS3(Served):
    """The proxy; a context manager. `endpoint` goes into s3_config.json as the host."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.requests: list[Request] = []
        self.stalled = threading.Event()
        """Set as soon as an answer hangs half-way."""
        self.go_on = threading.Event()
        """Set by the test to let hanging answers run to their end."""
        self.page_size: int | None = None
        """At most so many keys in one page of a listing (None: as the store has it, 1,000)."""
        self.etag: str | None = None
        """What all objects have as their ETag, in listings and answers (None: as the store has it)."""
        self.trickle_seconds = 0.5
        """How long a body that trickles takes for one byte."""
        self.location: str | None = None
        """Where all requests are sent on to, with 301."""
        self.sent = 0
        """Bytes of bodies that clients have taken so far."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        super().__init__(_Handler)

    def spoil(self, key: str, kind: Kind, times: int | None = None) -> None:
        """Spoil the next `times` (None: all) answers to requests whose target holds `key` ("" = all)."""
        with self._lock:
            self._faults.append(Fault(key, kind, times))

    def heal(self) -> None:
        """Drop every fault."""
        with self._lock:
            self._faults.clear()

    def asked_for(self, text: str, method: str = "GET") -> int:
        """How many requests of this method had `text` in their path or query."""
        with self._lock:
            return sum(text in request.target for request in self.requests if request.method == method)

    def close(self) -> None:
        """Let go of everything that hangs, then stop."""
        self.go_on.set()
        super().close()

    def note(self, method: str, target: str) -> Fault | None:
        """Write the request down and take the fault that is due for it, if any."""
        with self._lock:
            self.requests.append(Request(method, target))
            for fault in self._faults:
                is_object = "?" not in target
                if not fault.applies(target) or (fault.kind in ON_BODIES and not is_object):
                    continue
                if fault.kind in ON_BODIES - {"short"} and method != "GET":
                    continue  # these need a body
                fault.done += 1
                return fault
        return None


class _Handler(Handler):
    """One request; HTTP/1.0, so that every answer ends its connection."""

    owner: FaultyS3

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        fault = self.owner.note(self.command, unquote(self.path))
        if self.owner.location is not None:
            self.send_response(301)
            self.send_header("Location", self.owner.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault is not None and fault.kind == "reset":
            return  # closed without a word
        if fault is not None and fault.kind in ERRORS:
            self._error(*ERRORS[fault.kind])
            return
        short = fault is not None and fault.kind == "short"
        if fault is not None and fault.kind == "whole":
            del self.headers["range"]
        status, headers, body = self._ask_upstream("GET" if short else self.command)
        if fault is None or status not in (200, 206) or (fault.kind == "longer" and self.command == "HEAD"):
            self._send(status, headers, body, len(body))
            return
        if fault.kind == "short":
            body = body[: len(body) // 2]
            headers["etag"] = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
            headers["content-length"] = str(len(body))
            self._send(status, headers, body, len(body))
        elif fault.kind in {"wrong", "noisy"}:
            middle = len(body) // 2
            # "wrong": each time the same; "noisy": each time something else.
            mask = 0x5A if fault.kind == "wrong" else fault.done
            spoilt = bytes(byte ^ mask for byte in body[middle : middle + 8])
            self._send(status, headers, body[:middle] + spoilt + body[middle + 8 :], len(body))
        elif fault.kind == "trickle":
            self._send(status, headers, b"", len(body))
            self.owner.stalled.set()
            for at in range(len(body)):
                if self.owner.go_on.wait(self.owner.trickle_seconds) or not self._write(body[at : at + 1]):
                    return
        elif fault.kind == "longer":
            # Without a length, it ends with the connection.
            self._send(status, headers, body, None)
            while self._write(b"more" * 1000):
                pass
        elif fault.kind == "whole":
            self._send(status, headers, body, len(body))
        elif fault.kind == "cut":
            self._send(status, headers, body[: len(body) // 2], len(body))
        else:
            self._send(status, headers, body[: len(body) // 2], len(body))
            self.wfile.flush()
            self.owner.stalled.set()
            self.owner.go_on.wait(600)
            self._write(body[len(body) // 2 :])

    def _ask_upstream(self, method: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.owner.upstream, timeout=60)
        try:
            wanted = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
            path = self.path
            if self.owner.page_size is not None and "list-type" in path:
                path = f"{re.sub('&max-keys=[0-9]+', '', path)}&max-keys={self.owner.page_size}"
            connection.request(method, path, headers=wanted)
            answer = connection.getresponse()
            headers, body = {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            if self.owner.etag is not None:
                headers["etag"] = f'"{self.owner.etag}"'
                body = re.sub(rb"<ETag>.*?</ETag>", f"<ETag>&quot;{self.owner.etag}&quot;</ETag>".encode(), body)
            return answer.status, headers, body
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], body: bytes, length: int | None) -> None:
        """Headers that promise `length` bytes (a HEAD keeps the store's own number; None: nothing), then `body`."""
        self.send_response(status)
        for name in (*PASSED_ON, "etag"):
            if name in headers:
                self.send_header(name, headers[name])
        if self.command == "HEAD":
            self.send_header("Content-Length", headers.get("content-length", "0"))
        elif length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self._write(body)

    def _error(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>made by the test</Message></Error>"
        self._send(status, {"content-type": "application/xml"}, body.encode(), len(body))

    def _write(self, body: bytes) -> bool:
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the worker has gone: that is what some tests want
            return False
        self.owner.sent += len(body)
        return True
