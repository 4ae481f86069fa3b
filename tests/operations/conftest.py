"""Commands of these tests, many and small, find the libraries loaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.workspace import Workspace


@pytest.fixture(scope="package", autouse=True)
def _preloaded() -> Iterator[None]:
    Workspace.preloaded = True
    yield
    Workspace.preloaded = False
