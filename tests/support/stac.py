"""A real STAC API, as the Copernicus Data Space runs one: stac-fastapi over pgSTAC, in an environment of its own.

`python -m venv .stac-server && .stac-server/bin/pip install -r tests/support/stac_server.txt`, or STAC_PYTHON names
another Python that has these packages. It starts in a few seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from demo.servers import Postgis, free_port, wait_for
from tests.support.environment import ROOT

START_SECONDS = 60.0
COLLECTION = {
    "type": "Collection",
    "stac_version": "1.1.0",
    "id": "sentinel-2-l2a",
    "description": "Sentinel-2 level 2A",
    "license": "other",
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [["2015-01-01T00:00:00Z", None]]}},
    "links": [],
}


def python() -> Path:
    """The Python that has the server's packages."""
    return Path(os.environ.get("STAC_PYTHON") or ROOT / ".stac-server" / "bin" / "python")


def missing() -> str:
    """What is not installed."""
    return "" if python().exists() else f"{python()} (see tests/support/stac.py)"


class StacServer:
    """The server, in a database of its own; a context manager. `url`: what to ask."""

    def __init__(self, postgis: Postgis, folder: Path) -> None:
        self._postgis, self._folder = postgis, folder
        self._database = f"stac{uuid.uuid4().hex[:12]}"
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        postgis.create_database(self._database)
        reaching = {
            "PGHOST": postgis.host, "PGPORT": postgis.port, "PGUSER": postgis.user, "PGPASSWORD": postgis.password,
            "PGDATABASE": self._database,
        }  # fmt: skip
        self._environment = os.environ | {name: str(value) for name, value in reaching.items()}
        self._environment |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        self._log = folder / "stac.log"
        self._pypgstac("migrate")
        self._load("collections", [COLLECTION])
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    python(), "-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app", "--host", "127.0.0.1",
                    "--port", str(self._port), "--log-level", "warning",
                ],
                env=self._environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._wait()

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """Items, in place of those with the same ids."""
        self._load("items", items)

    def _load(self, kind: str, records: Sequence[dict[str, Any]]) -> None:
        path = self._folder / f"{kind}.ndjson"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        self._pypgstac("load", kind, str(path), "--method", "upsert")

    def _pypgstac(self, *arguments: str) -> None:
        done = subprocess.run(
            [python().parent / "pypgstac", *arguments],
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _wait(self) -> None:
        try:
            wait_for(f"{self.url}/_mgmt/ping", self._process, START_SECONDS)
        except OSError:
            self.stop()
            raise AssertionError(self._log.read_text()) from None

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._postgis.drop_database(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
