"""`operations forecast`: before a burst from catalogue and parcels, after it from what happened."""

from __future__ import annotations

import json
from typing import Any

import pytest
import shapely

from tests.support.ground import squares
from tests.support.workspace import Workspace


def forecast(workspace: Workspace, *options: str) -> dict[str, Any]:
    outcome = workspace.operate("forecast", "--json", *options)
    assert outcome.code == 0, outcome.output
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def test_before_and_after(workspace: Workspace) -> None:
    """The parcels of each scene are counted within footprint and AOI, as workers select them."""
    near = squares(12)
    workspace.add_parcels([*near, *(shapely.affinity.translate(one, 300_000, 0) for one in near)])
    for day in range(1, 4):
        workspace.add_s2(f"2020-04-{day:02}T10:00:31")
    workspace.add_row("elsewhere", "2019-04-01T10:00:31")
    before = forecast(workspace)["s2"]
    assert (before["left"], before["done"], before["measured_per_scene"]) == (3, 0, None)
    expected = before["expected_per_scene"]
    assert (expected["parcels"], expected["rows"]) == (len(near), 3 * len(near))
    assert workspace.run("s2").code == 0
    after = forecast(workspace, "--workers", "1")["s2"]
    assert (after["left"], after["done"]) == (2, 1)
    assert after["expected_per_scene"] == expected
    measured = after["measured_per_scene"]
    assert measured["parcels"] == len(near)
    assert measured["rows"] == workspace.rows()
    # What happened goes before what was expected.
    assert after["hours_left"] == pytest.approx(2 * measured["seconds"] / 3600, abs=1e-3)
    text = workspace.operate("forecast").stdout
    assert "2 scenes to be done, 1 done" in text
    assert "so far" in text


def test_more_workers_take_less_time(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.add_row("one", card="bs")
    one, eight = (forecast(workspace, "--workers", number)["bs"]["hours_left"] for number in ("1", "8"))
    assert one == pytest.approx(8 * eight, rel=0.05)
    slow = forecast(workspace, "--workers", "1", "--rate", "1")["bs"]["hours_left"]
    assert slow > 10 * one
    assert forecast(workspace)["bs"]["expected_per_scene"]["rows"] == 2 * 3
    assert list(forecast(workspace)) == ["bs"]
    assert list(forecast(workspace, "--card", "s2")) == ["s2"]


def test_more_bands_are_more_to_download(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.add_row("one")
    few = forecast(workspace)["s2"]["expected_per_scene"]
    workspace.extraction["s2"] = {"bands": ["B02", "B03", "B04", "B08", "B05", "SCL"]}
    many = forecast(workspace)["s2"]["expected_per_scene"]
    assert many["download_bytes"] == pytest.approx(few["download_bytes"] * 4.25 / 2)
    assert many["rows"] == 2 * few["rows"]


def test_it_makes_nothing(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    relations = "SELECT array_agg(relname::text ORDER BY 1) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = workspace.one(relations)
    assert forecast(workspace) == {}
    assert "no scene" in workspace.operate("forecast").stdout
    assert workspace.one(relations) == before


@pytest.mark.parametrize("spoil", ["DROP TABLE parcels", "DELETE FROM aois"])
def test_what_it_needs(spoil: str, workspace: Workspace) -> None:
    workspace.query(spoil)
    outcome = workspace.operate("forecast")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "setup --aoi parcels" in outcome.errors[0]
