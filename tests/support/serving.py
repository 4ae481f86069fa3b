"""What the tests' own HTTP servers have in common: on loopback, in threads of their own, ended with the block."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Handler(BaseHTTPRequestHandler):
    """One connection. `owner`, which a subclass declares, is the server, where tests read: nothing is logged."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it so)
        pass


class Served:
    """A server; a context manager. Its constructor, which comes last in that of a subclass, lets it listen."""

    def __init__(self, handler: type[Handler]) -> None:
        self._handler = type("Owned", (handler,), {"owner": self})
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.listen()

    @property
    def endpoint(self) -> str:
        """What goes into s3_config.json as the host."""
        return f"http://127.0.0.1:{self.port}"

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def refuse(self) -> None:
        """Refuse connections until `listen` is called again."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def close(self) -> None:
        """End it; a subclass lets go of what hangs before."""
        self.refuse()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Peak:
    """How many at once: now, and at most so far; and how many in all."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self.now -= 1
