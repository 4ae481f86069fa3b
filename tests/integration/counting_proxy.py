"""A reverse proxy in front of the S3 server that counts how many requests and connections there are at one time.

Answers are held back a moment, so that everything that may overlap does.
"""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from tests.support.serving import Handler, Peak, Served

HOLD_SECONDS = 0.03
PASSED_ON = ("content-type", "content-length", "content-range", "last-modified", "etag", "accept-ranges")


class CountingProxy(Served):
    """A context manager; `endpoint` goes into the configuration as the host."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.requests = Peak()
        self.connections = Peak()
        super().__init__(_Handler)


class _Handler(Handler):
    """One connection, kept open between its requests as stores do."""

    owner: CountingProxy
    protocol_version = "HTTP/1.1"
    timeout = 10

    def handle(self) -> None:
        with self.owner.connections:
            super().handle()

    def do_GET(self) -> None:
        with self.owner.requests:
            time.sleep(HOLD_SECONDS)
            connection = http.client.HTTPConnection(self.owner.upstream, timeout=60)
            try:
                wanted = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection"}}
                connection.request(self.command, self.path, headers=wanted)
                answer = connection.getresponse()
                body = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() in PASSED_ON:
                        self.send_header(name, value)
                if answer.getheader("Content-Length") is None:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            finally:
                connection.close()

    def do_HEAD(self) -> None:
        self.do_GET()
