"""Workers of the acceptance tests have no rights but those that `operations setup --role` gives; in tests that are
marked `owner` they own the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.workspace import Workspace


@pytest.fixture(scope="package", autouse=True)
def _least_rights() -> Iterator[None]:
    Workspace.least_rights = Workspace.preloaded = True
    yield
    Workspace.least_rights = Workspace.preloaded = False


@pytest.fixture(autouse=True)
def _owner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("owner"):
        monkeypatch.setattr(Workspace, "least_rights", False)
