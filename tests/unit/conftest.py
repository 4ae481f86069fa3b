"""Property tests run the same 1000 examples everywhere, so that a red build can be repeated.

`HYPOTHESIS_PROFILE=explore` looks for new ones instead, and for the smallest that fails.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from extractors.config import DatabaseFile, StoreFile, read_database_config, read_store_config
from extractors.runtime.signals import SIGNALS, Signals
from tests.support.configuration import ReadDatabase, ReadStore
from tests.support.environment import WORKER_VARIABLES

# No deadline: the first call loads GDAL, and no test asserts on time. No shrinking: it takes minutes.
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=1000, phases=[Phase.explicit, Phase.generate]
)
settings.register_profile("explore", derandomize=False, deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """rasterstats and rasterio still multiply affine transforms with `*`, of which affine 3 warns."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"))


@pytest.fixture(autouse=True)
def _no_options_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WORKER_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Its handlers, taken away afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    installed = Signals()
    installed.install()
    yield installed
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def database(tmp_path: Path) -> ReadDatabase:
    def read(document: object) -> DatabaseFile:
        path = tmp_path / "db_config.json"
        path.write_text(json.dumps(document))
        return read_database_config(path)

    return read


@pytest.fixture
def store(tmp_path: Path) -> ReadStore:
    def read(document: object) -> StoreFile:
        path = tmp_path / "s3_config.json"
        path.write_text(json.dumps(document))
        found = read_store_config(path)
        assert isinstance(found, StoreFile)
        return found

    return read
