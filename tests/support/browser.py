"""A real browser: Chromium without a window, spoken to by its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import websocket

SECONDS = 60.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def program() -> str | None:
    """The browser, if it is installed."""
    return next((found for found in map(shutil.which, PROGRAMS) if found), None)


class Tab:
    """One page. complaints: errors of scripts, of the console, and of whatever could not be loaded; requests: what was
    asked for."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=SECONDS, suppress_origin=True)
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask for something; returns the answer."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            received = json.loads(self._socket.recv())
            if received.get("id") == number:
                assert "error" not in received, (method, received["error"])
                found: dict[str, Any] = received["result"]
                return found
            self._hear(received)

    def open(self, file: Path, width: int, height: int = 900, scheme: str = "light") -> None:
        """Open a file in a window of this size, and wait until it is there."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.prefer(scheme)
        self._events.clear()
        self.call("Page.navigate", url=file.resolve().as_uri())
        end = time.monotonic() + SECONDS
        while "Page.loadEventFired" not in self._events:
            assert time.monotonic() < end, "the page does not come"
            self.value("1")

    def prefer(self, scheme: str) -> None:
        """Show it to people who like pages light, or dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def value(self, expression: str) -> Any:
        """What JavaScript makes of it."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse there, in pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self) -> bytes:
        """All of the page, as PNG."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def paper(self) -> bytes:
        """The page printed, as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def _hear(self, event: dict[str, Any]) -> None:
        method, what = event.get("method", ""), event.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(what["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" or (
            method == "Log.entryAdded" and what["entry"]["level"] != "verbose"
        ):
            self.complaints.append(json.dumps(what))
        elif method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])


@contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """Start one, with a tab; it is ended by its process id. folder: for what it writes."""
    found = program()
    assert found
    notes = folder / "browser.log"
    # It may run as root, and in a container with little shared memory; it asks nobody for anything.
    options = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]
    with notes.open("wb") as log:
        process = subprocess.Popen(
            [found, *options, f"--user-data-dir={folder / 'profile'}", "about:blank"], stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + SECONDS
        while (address := re.search(r"DevTools listening on (ws://\S+)", notes.read_text(errors="replace"))) is None:
            assert process.poll() is None and time.monotonic() < end, notes.read_text(errors="replace")
            time.sleep(0.1)
        with closing(Tab(address[1])) as tab:
            yield tab
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
