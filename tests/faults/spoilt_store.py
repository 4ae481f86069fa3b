"""A way to the S3 store that can be spoilt in more ways than `tests.faulty_s3` knows, and that counts.

It stands in front of the real S3 server, as that one does. A key is a regular expression that is looked for in a
request's unquoted path and query; "" fits all. Rules are tried in the order in which they were made; the first that
fits a request and is not used up spoils its answer. `spoil` changes bytes on their way: the store announces the true
object. `swap` puts another object in the place of the true one: listing, size and ETag agree with it. In both cases
the bucket itself, which others may share, stays as it is.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from demo.servers import S3Server
from tests.support.serving import Handler, Peak, Served
from tests.support.workspace import Workspace

PASSED_ON = ("content-type", "last-modified", "content-range", "accept-ranges", "etag")
LONGEST_STALL_SECONDS = 600


@dataclass
class Answer:
    """What is sent back. `length`: what the header promises; `body` may be shorter. `reset`: no answer but an RST."""

    status: int
    headers: dict[str, str]
    body: bytes
    length: int
    reset: bool = False
    stall_at: int | None = None


@dataclass(frozen=True)
class Request:
    """A request as it came in: method, unquoted path with query, and when (monotonic clock)."""

    method: str
    target: str
    at: float

    @property
    def of_an_object(self) -> bool:
        return "?" not in self.target


@dataclass
class Rule:
    """Spoils the answers to requests that fit `key`; `times` None: every one."""

    key: str
    change: Callable[[Answer], Answer]
    times: int | None
    fits: Callable[[Request], bool]
    done: int = 0


OF_PRODUCTS = r"/\d{4}/\d\d/\d\d/"
"""Fits all requests about a product, and not the look at the store before the first claim."""


class SpoiltStore(Served):
    """The proxy; a context manager. `endpoint` goes into s3_config.json as the host."""

    def __init__(self, store: S3Server) -> None:
        self.upstream = urlsplit(store.endpoint).netloc
        self._client = store.client()
        self.requests: list[Request] = []
        self.downloads = Peak()
        """GETs of objects, counted from the request until all but the last byte is sent."""
        self.plain_md5 = True
        """False: the store's ETags are not MD5s, as after an upload in parts."""
        self.hold_seconds = 0.0
        """Every object's body takes so long, that downloads which may overlap do."""
        self.stalled = threading.Event()
        """Set as soon as an answer hangs half-way."""
        self.go_on = threading.Event()
        """Set by the test to let hanging answers run to their end."""
        self.lock = threading.Lock()
        self._rules: list[Rule] = []
        self._swaps: list[tuple[str, Callable[[bytes], bytes]]] = []
        super().__init__(_Handler)

    def serve(self, workspace: Workspace, *, retry_seconds: float = 60) -> None:
        """The workers of this workspace come here; they ask again for so long."""
        workspace.s3.update({"host": self.endpoint, "retry_seconds": retry_seconds})

    # Ways to spoil

    def answer(self, key: str, status: int, body: bytes = b"", *, times: int | None = None, after: str = "") -> None:
        """Another answer altogether, to every request that fits; after: once somebody has asked for this key."""
        kind = "text/html" if body.startswith(b"<html") else "application/xml"

        def change(_: Answer) -> Answer:
            return Answer(status, {"content-type": kind}, body, len(body))

        def fits(_: Request) -> bool:
            return any(after in request.target for request in self.requests)

        self._add(Rule(key, change, times, fits))

    def error(self, key: str, status: int, code: str, *, times: int | None = None, after: str = "") -> None:
        """An error as S3 words it."""
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>made by the test</Message></Error>"
        self.answer(key, status, text.encode(), times=times, after=after)

    def reset(self, key: str, *, times: int | None = None) -> None:
        """The connection is torn down (RST) instead of an answer."""
        self._add(Rule(key, lambda answer: replace(answer, reset=True), times, lambda request: True))

    def cut(self, key: str, at: Callable[[int], int], *, times: int | None = None) -> None:
        """An object's body of n bytes ends after at(n) of them, whatever the header has promised."""

        def change(answer: Answer) -> Answer:
            return replace(answer, body=answer.body[: at(len(answer.body))])

        self._add(Rule(key, change, times, _is_download))

    def stall(self, key: str, *, times: int | None = None) -> None:
        """An object's body hangs half-way until `go_on` is set."""
        self._add(Rule(key, lambda answer: replace(answer, stall_at=len(answer.body) // 2), times, _is_download))

    def spoil(self, key: str, change: Callable[[bytes], bytes], *, times: int | None = None) -> None:
        """Other bytes arrive; listing and headers are those of the true object. (If the length changes, Content-Length
        of the GET follows, as from a store that has lost a part.)"""

        def changed(answer: Answer) -> Answer:
            body = change(answer.body)
            return replace(answer, body=body, length=len(body))

        self._add(Rule(key, changed, times, _is_download))

    def announce(self, key: str, name: str, size: int) -> None:
        """Listings that fit give objects whose keys hold this name another size."""

        def changed(answer: Answer) -> Answer:
            pattern = rb"(<Key>[^<]*" + re.escape(name.encode()) + rb"[^<]*</Key>.*?<Size>)[0-9]+"
            body = re.sub(pattern, rb"\g<1>%d" % size, answer.body, flags=re.DOTALL)
            return replace(answer, body=body, length=len(body))

        self._add(Rule(key, changed, None, lambda request: not request.of_an_object))

    def swap(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Another object lies in the store: listing, size and ETag (an MD5) agree with it."""
        with self.lock:
            self._swaps.append((key, change))

    def heal(self) -> None:
        """Drop every rule and every swap."""
        with self.lock:
            self._rules.clear()
            self._swaps.clear()

    def _add(self, rule: Rule) -> None:
        with self.lock:
            self._rules.append(rule)

    # What was asked for

    def asked_for(self, key: str, method: str = "GET") -> int:
        """How many requests of this method fit the key."""
        with self.lock:
            return sum(
                re.search(key, request.target) is not None for request in self.requests if request.method == method
            )

    def close(self) -> None:
        self.go_on.set()
        super().close()
        self._client.close()

    # For the handler

    def note(self, request: Request) -> Rule | None:
        """Write a request down, and take the rule that is due for it."""
        with self.lock:
            self.requests.append(request)
            for rule in self._rules:
                used_up = rule.times is not None and rule.done >= rule.times
                if re.search(rule.key, request.target) and not used_up and rule.fits(request):
                    rule.done += 1
                    return rule
        return None

    def swapped(self, target: str) -> Callable[[bytes], bytes] | None:
        with self.lock:
            return next((change for key, change in self._swaps if re.search(key, target)), None)

    def fetch(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """What the store itself says."""
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            body = answer.read()
            return Answer(answer.status, found, body, int(found.get("content-length", len(body))))
        finally:
            connection.close()

    def true_answer(self, request: Request, path: str, headers: dict[str, str]) -> Answer:
        """The store's answer with the objects that were swapped."""
        change = self.swapped(request.target) if request.of_an_object else None
        if change is not None:
            # Conditions on the ETag would be about the object that we announce, which the store does not know.
            headers = {name: value for name, value in headers.items() if not name.lower().startswith(("if-", "range"))}
            answer = self.fetch("GET", path, headers)
            if answer.status == 200:
                body = change(answer.body)
                answer.headers["etag"] = f'"{_md5(body)}{self._suffix}"'
                return replace(answer, body=body, length=len(body))
            return answer
        answer = self.fetch(request.method, path, headers)
        if "etag" in answer.headers:
            answer.headers["etag"] = answer.headers["etag"][:-1] + self._suffix + '"'
        if "list-type" in request.target and answer.status == 200:
            text = re.sub(rb"<Contents>.*?</Contents>", self._listed, answer.body, flags=re.DOTALL)
            return replace(answer, body=text, length=len(text))
        return answer

    @property
    def _suffix(self) -> str:
        """What the ETag of an upload in two parts ends with."""
        return "" if self.plain_md5 else "-2"

    def _listed(self, match: re.Match[bytes]) -> bytes:
        """One object of a listing, with size and ETag of what it was swapped for."""
        entry = match[0]
        key = re.search(rb"<Key>(.*?)</Key>", entry)
        change = self.swapped(unquote(key[1].decode())) if key else None
        if key is None or change is None:
            return re.sub(rb'("|&quot;)</ETag>', self._suffix.encode() + rb"\1</ETag>", entry)
        body = change(self._client.get_object(Bucket=self._bucket(), Key=unquote(key[1].decode()))["Body"].read())
        entry = re.sub(rb"<Size>\d+</Size>", b"<Size>%d</Size>" % len(body), entry)
        return re.sub(rb"<ETag>.*?</ETag>", f"<ETag>&quot;{_md5(body)}{self._suffix}&quot;</ETag>".encode(), entry)

    def _bucket(self) -> str:
        """The bucket of the latest request: addresses are path-style."""
        with self.lock:
            return self.requests[-1].target.lstrip("/").split("/")[0].split("?")[0]


class _Handler(Handler):
    """One request; HTTP/1.0, so that every answer ends its connection."""

    owner: SpoiltStore

    def do_GET(self) -> None:
        request = Request(self.command, unquote(self.path), time.monotonic())
        rule = self.owner.note(request)
        self._answer(request, rule)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, request: Request, rule: Rule | None) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
        if not _is_download(request):
            self._send(self._true_or_spoilt(request, rule, headers))
            return
        with self.owner.downloads:
            last = self._send(self._true_or_spoilt(request, rule, headers), hold=self.owner.hold_seconds)
        # Counted as over before its last byte: whoever has that may begin with the next one at once.
        self._write(last)

    def _true_or_spoilt(self, request: Request, rule: Rule | None, headers: dict[str, str]) -> Answer:
        answer = self.owner.true_answer(request, self.path, headers)
        return answer if rule is None else rule.change(answer)

    def _send(self, answer: Answer, *, hold: float = 0.0) -> bytes:
        """Send an answer but for what is given back: the last byte of a body that is held."""
        if answer.reset:
            # Closing with a linger time of zero sends an RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return b""
        self.send_response(answer.status)
        for name in PASSED_ON:
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(answer.length))
        self.end_headers()
        if self.command == "HEAD":
            return b""
        body = answer.body
        if answer.stall_at is not None:
            self._write(body[: answer.stall_at])
            self.owner.stalled.set()
            self.owner.go_on.wait(LONGEST_STALL_SECONDS)
            body = body[answer.stall_at :]
        self._write(body[:-1])
        time.sleep(hold)
        if hold:
            return body[-1:]
        self._write(body[-1:])
        return b""

    def _write(self, body: bytes) -> None:
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the worker has gone: that is what some tests want


def flipped(body: bytes) -> bytes:
    """The same length with two other bytes in the middle."""
    middle = len(body) // 2
    return body[:middle] + bytes(byte ^ 0x5A for byte in body[middle : middle + 2]) + body[middle + 2 :]


def _is_download(request: Request) -> bool:
    return request.method == "GET" and request.of_an_object


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
