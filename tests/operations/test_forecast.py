"""`operations forecast`: before a burst from catalogue and parcels, after it from what happened."""

from __future__ import annotations

import json
from typing import Any

import pytest
import shapely

from operations.forecast import Estimate, Forecast, as_text
from tests.support.ground import squares
from tests.support.redo import corrected
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


def test_scenes_that_are_done_again(workspace: Workspace) -> None:
    """They are told, and are no part of what a scene takes."""
    workspace.add_parcels(squares(5))
    for day in (1, 2):
        workspace.add_s2(f"2020-04-0{day}T10:00:31")
    assert workspace.run("s2", "--all").code == 0
    before = forecast(workspace)["s2"]
    assert before["redone"] == 0
    assert "done again" not in workspace.operate("forecast").stdout
    for _ in range(2):
        assert workspace.operate("redo", "--parcels", corrected(workspace, 1)).code == 0
        assert workspace.run("s2", "--redo").code == 0
    assert forecast(workspace)["s2"] == before | {"redone": 1}
    assert "1 scenes have been done again" in workspace.operate("forecast").stdout


@pytest.mark.parametrize(
    ("left", "seconds", "words"),
    [
        (0, 10, "no time"),
        (5, 10, "under a minute"),
        (12, 10, "2.0 minutes"),
        (18, 10, "0.1 hours"),
        (720, 10, "2.0 hours"),
    ],
)
def test_a_short_time_is_not_none(left: int, seconds: float, words: str) -> None:
    one = Forecast("s2", left, 0, Estimate(1, 1, 1, 1, seconds), None)
    assert as_text(one, 1)[-1].startswith(f"  1 workers: {words} for those to be done")


def test_parcels_in_several_rows_of_the_area_count_once(workspace: Workspace) -> None:
    workspace.add_parcels(squares(12))
    workspace.add_row("one")
    before = forecast(workspace)["s2"]["expected_per_scene"]
    assert before["parcels"] == 12
    workspace.query("INSERT INTO aois SELECT * FROM aois")
    assert forecast(workspace)["s2"]["expected_per_scene"] == before


def test_each_card_has_its_own_table(workspace: Workspace) -> None:
    """What has happened is known of all, whichever of their configurations is asked; and of no other table."""
    parcels = workspace.add_parcels(squares(5))
    workspace.add_s2()
    workspace.add_s2("2020-04-06T10:00:31")
    workspace.add_bs()
    workspace.add_c6()
    for card in ("bs", "c6", "s2"):
        workspace.tables["results_table"] = f"signatures_{card}"
        assert workspace.run(card).code == 0
    # Others do the same scenes into a table of their own; of radar before, of Sentinel-2 after this.
    workspace.query(
        "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, finished_at, outcome, status,"
        " parcels_selected, rows_written) SELECT obsid, reference, card, aoi, 'public.others', worker, finished_at,"
        " outcome, status, 1000, rows_written FROM extraction_log"
    )
    workspace.query("UPDATE extraction_log SET run_id = DEFAULT WHERE results <> 'public.others' AND card <> 's2'")
    for table in ("signatures_s2", "signatures_bs"):
        workspace.tables["results_table"] = table
        found = forecast(workspace)
        for card, bands in (("bs", 2), ("c6", 2)):
            measured = found[card]["measured_per_scene"]
            assert (measured["parcels"], measured["rows"]) == (len(parcels), bands * len(parcels))
            assert measured["rows"] == found[card]["expected_per_scene"]["rows"]
        # Of this one, the table that is configured goes before the newest.
        assert found["s2"]["measured_per_scene"]["parcels"] == (len(parcels) if table == "signatures_s2" else 1000)
    workspace.query("DELETE FROM extraction_log WHERE results = 'public.others'")


def test_like_is_compared_with_like(workspace: Workspace) -> None:
    """Rows of indices and of clear pixels are expected as well as counted; those of classes are not clear."""
    workspace.add_parcels(squares(5))
    workspace.tables.update(hists_table="hists", clear_results_table="clear")
    workspace.extraction.update(
        radiometry="harmonised",
        radiometry_fallback="baseline",
        clear_classes=list(range(12)),
        s2={"indices": {"NDV": "ndvi"}},
    )
    workspace.extraction["bs"] = {"indices": {"CR": "VH / VV"}}
    workspace.add_s2()
    workspace.add_bs()
    before = forecast(workspace)
    assert before["s2"]["expected_per_scene"]["rows"] == (4 + 3) * 5
    assert before["bs"]["expected_per_scene"]["rows"] == 3 * 5
    assert workspace.run("s2").code == 0
    assert workspace.rows() + workspace.rows(table="clear") == 7 * 5
    assert forecast(workspace)["s2"]["measured_per_scene"]["rows"] == 7 * 5


def test_bands_that_only_one_card_has(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    workspace.extraction["bands"] = ["B04"]
    workspace.add_row("one")
    workspace.add_row("two", card="bs")
    assert list(forecast(workspace)) == ["s2"]
    assert forecast(workspace)["s2"]["expected_per_scene"]["rows"] == 5
    refused = workspace.operate("forecast", "--card", "bs")
    assert (refused.code, len(refused.errors)) == (2, 1)
    assert "bs has no band B04" in refused.errors[0]


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


def test_bands_of_indices_are_downloaded_too(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.add_row("one")
    workspace.extraction["s2"] = {"bands": ["B04", "B08", "SCL"]}
    expected = forecast(workspace)["s2"]["expected_per_scene"]
    workspace.extraction.update(radiometry="harmonised", radiometry_fallback="baseline")
    workspace.extraction["s2"] = {"bands": ["SCL"], "indices": {"NDV": "ndvi"}}
    found = forecast(workspace)["s2"]["expected_per_scene"]
    assert found["download_bytes"] == expected["download_bytes"]
    assert found["rows"] == 2 * 3


def test_rows_in_partitions_are_as_large_as_they_are(workspace: Workspace) -> None:
    """Whether somebody has counted those of the whole table, or of its partitions only."""
    workspace.add_parcels(squares(3))
    workspace.add_s2()
    assert workspace.operate("setup", "--partitioned", "2").code == 0
    assert workspace.run("s2").code == 0
    workspace.query("INSERT INTO signatures (pid, obsid) SELECT number, 1 FROM generate_series(1, 120000) number")
    (partition,) = workspace.query("SELECT DISTINCT tableoid::regclass::text FROM signatures")[0]
    for counted in (partition, "signatures"):
        workspace.query(f"ANALYZE {counted}")
        measured = forecast(workspace)["s2"]["measured_per_scene"]
        size = workspace.one("SELECT pg_total_relation_size(%s::regclass)", partition) / workspace.rows()
        assert measured["results_bytes"] / measured["rows"] == pytest.approx(size, rel=0.01)


def test_it_makes_nothing(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    relations = "SELECT array_agg(relname::text ORDER BY 1) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = workspace.one(relations)
    assert forecast(workspace) == {}
    assert "no scene" in workspace.operate("forecast").stdout
    assert workspace.one(relations) == before


@pytest.mark.parametrize(
    ("spoil", "key"),
    [("DROP TABLE parcels", "database.tables.parcel_table"), ("DELETE FROM aois", "database.args.name")],
)
def test_what_it_needs(spoil: str, key: str, workspace: Workspace) -> None:
    workspace.query(spoil)
    outcome = workspace.operate("forecast")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert f" {key}: " in outcome.errors[0]
