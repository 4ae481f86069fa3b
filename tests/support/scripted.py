"""A server that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.support.serving import Handler, Served

NOTHING = b"<?xml version='1.0'?><ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>"
NOTHING += b"</ListBucketResult>"
"""A listing of nothing."""


@dataclass(frozen=True)
class Asked:
    """A request: its path with its query, unquoted, its headers by their names in lower case, and its body."""

    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    body: bytes = NOTHING
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Scripted(Served):
    """The server; a context manager. `endpoint` goes into s3_config.json as the host."""

    def __init__(self, answer: Callable[[Asked], Answer] = lambda _: Answer()) -> None:
        self.asked: list[Asked] = []
        self.answer = answer
        super().__init__(_Handler)


class _Handler(Handler):
    owner: Scripted

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = Asked(unquote(self.path), {name.lower(): value for name, value in self.headers.items()}, body)
        self.owner.asked.append(asked)
        made = self.owner.answer(asked)
        self.send_response(made.status)
        for name, value in ({"Content-Length": str(len(made.body))} | made.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(made.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()
