"""A server that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import unquote

NOTHING = b"<?xml version='1.0'?><ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>"
NOTHING += b"</ListBucketResult>"
"""A listing of nothing."""


@dataclass(frozen=True)
class Asked:
    """A request: its path with its query, unquoted, and its headers by their names in lower case."""

    target: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    body: bytes = NOTHING
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Scripted:
    """The server; a context manager. `endpoint` goes into s3_config.json as the host."""

    def __init__(self, answer: Callable[[Asked], Answer] = lambda _: Answer()) -> None:
        self.asked: list[Asked] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = Asked(unquote(self.path), {name.lower(): value for name, value in self.headers.items()})
                owner.asked.append(asked)
                made = answer(asked)
                self.send_response(made.status)
                for name, value in ({"Content-Length": str(len(made.body))} | made.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(made.body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it so)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
