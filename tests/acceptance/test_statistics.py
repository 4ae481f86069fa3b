"""Which statistics are written, and which pixels are a parcel's: as it is configured, and equal to the references."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterstats
from affine import Affine
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from tests.support.environment import ROOT
from tests.support.ground import GRID, Array, cell, optical, squares
from tests.support.running import Outcome
from tests.support.scenes import LABELS, Scene
from tests.support.workspace import Workspace

EXTRA = ("p10", "p90", "sum", "majority", "pixels", "nodata")
FIRST = "pid int, obsid int, band varchar(3), count real, mean real, std real, min real, max real, p25 real, p50 real, "


def finished(workspace: Workspace, card: str = "s2", *options: str) -> Outcome:
    outcome = workspace.run(card, *options)
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    return outcome


def rasterstats_of(parcels: Mapping[int, BaseGeometry], array: Array, pixel: float, **options: Any) -> dict[int, Any]:
    """What rasterstats says about these parcels that have a valid pixel."""
    transform = Affine(pixel, 0, GRID.left, 0, -pixel, GRID.top)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rasterstats and the affine package
        rows = rasterstats.zonal_stats(list(parcels.values()), array, affine=transform, nodata=0, **options)
    return {pid: row for pid, row in zip(parcels, rows, strict=True) if row["count"]}


# Statistics that are added


def additional(parcels: Mapping[int, BaseGeometry], scene: Scene, shift: float = 0) -> dict[tuple[int, str], Any]:
    """By parcel and label, the additional statistics: of reflectances, shifted."""
    wanted = ["count", "percentile_10", "percentile_90", "sum", "majority", "nodata"]
    found = {}
    for name, array in scene.bands.items():
        pixel, offset = (20, 0.0) if name == "SCL" else (10, shift)
        everywhere = rasterstats_of(parcels, np.ones_like(array), pixel, stats="count")
        for pid, row in rasterstats_of(parcels, array, pixel, stats=wanted).items():
            percentiles = [row["percentile_10"] + offset, row["percentile_90"] + offset]
            others = [row["sum"] + offset * row["count"], row["majority"] + offset]
            found[pid, LABELS[name]] = (*percentiles, *others, everywhere[pid]["count"], row["nodata"])
    return found


def stored(workspace: Workspace, scene: Scene) -> dict[tuple[int, str], tuple[float, ...]]:
    columns = ", ".join(f'"{name}"' for name in EXTRA)
    rows = workspace.query(f"SELECT pid, rtrim(band), {columns} FROM signatures WHERE obsid = %s", scene.id)
    return {(pid, band): tuple(map(float, numbers)) for pid, band, *numbers in rows}


def assert_equal(found: Mapping[Any, tuple[float, ...]], expected: Mapping[Any, tuple[float, ...]]) -> None:
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        assert found[key] == pytest.approx(numbers, rel=1e-6, abs=1e-6), key


def made_of(number: int, seed: int = 1) -> dict[str, Array]:
    """Bands of few values, so that some are more frequent than others."""
    bands = optical(seed)
    return {name: array if name == "SCL" else (array % number).astype(array.dtype) for name, array in bands.items()}


PARCELS = [*squares(9), cell(52, 52, 8, 8)]
"""The last one lies across the corner without data."""


@pytest.mark.parametrize("kind", ["real", "numeric"], ids=["binary", "as text"])
@pytest.mark.parametrize("engine", ["scanline", "rasterstats"])
def test_additional_statistics(workspace: Workspace, engine: str, kind: str) -> None:
    parcels = workspace.add_parcels(PARCELS)
    scene = workspace.add_s2(bands=made_of(5))
    workspace.extraction.update(engine=engine, extra_statistics=list(EXTRA), verified_parcels=100)
    if kind == "numeric":
        workspace.query(f"CREATE TABLE signatures ({FIRST} p75 numeric)")
        for name in EXTRA:
            workspace.query(f'ALTER TABLE signatures ADD COLUMN "{name}" {kind}')
    finished(workspace)
    expected = additional(parcels, scene)
    assert_equal(stored(workspace, scene), expected)
    assert any(numbers[-1] for numbers in expected.values())
    assert workspace.signatures(scene).keys() == expected.keys()
    assert workspace.log(scene)[0]["chunks_recomputed"] == 0


def test_statistics_of_harmonised_pixels(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(PARCELS)
    scene = workspace.add_s2("2022-04-01T10:00:31", reference=NEW, bands=made_of(7))
    workspace.args["enddate"] = "2023-01-01"
    workspace.extraction.update(
        radiometry="harmonised", radiometry_fallback="baseline", extra_statistics=list(EXTRA), bands=["B04", "SCL"]
    )
    finished(workspace)
    expected = additional(parcels, scene, -1000)
    assert_equal(stored(workspace, scene), {key: row for key, row in expected.items() if key[1] != "B8"})


NEW = "S2A_MSIL2A_20220401T100031_N0400_R122_T33TWM_20220401T135108.SAFE"


def test_a_new_table_has_the_columns_that_are_asked_for(workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    workspace.add_s2()
    workspace.extraction["s2"] = {"extra_statistics": ["pixels", "p90"]}
    finished(workspace)
    columns = "SELECT attname, format_type(atttypid, null) FROM pg_attribute WHERE attrelid = 'signatures'::regclass"
    found = workspace.query(f"{columns} AND attnum > 11 ORDER BY attnum")
    assert found == [("p90", "real"), ("pixels", "real")]


def test_a_table_that_lacks_a_column_is_refused_with_the_remedy(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    first, second = workspace.add_s2("2020-04-01T05:23:45"), workspace.add_s2("2020-04-07T05:23:45")
    finished(workspace)
    workspace.query("ALTER TABLE signatures ADD COLUMN p10 real")
    workspace.extraction["extra_statistics"] = ["p10", "majority", "nodata"]
    attempts = workspace.one("SELECT count(*) FROM extraction_log")
    for options in ((), ("--check",)):
        outcome = workspace.run("s2", *options)
        assert outcome.code == 2
        remedy = "ALTER TABLE public.signatures ADD COLUMN majority real, ADD COLUMN nodata real"
        assert f"has no column majority, nodata (extraction.extra_statistics); {remedy}, or" in outcome.output
    assert workspace.one("SELECT count(*) FROM extraction_log") == attempts
    assert workspace.status(second) == "ingested"
    workspace.query(remedy)
    finished(workspace)
    # Both in one table: rows without them say so.
    sql = "SELECT count(*), count(p10), count(majority), count(nodata) FROM signatures WHERE obsid = %s"
    assert workspace.query(sql, first.id) == [(12, 0, 0, 0)]
    assert workspace.query(sql, second.id) == [(12, 12, 12, 12)]


def test_columns_that_are_not_asked_for_are_left_alone(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.query(f'CREATE TABLE signatures ({FIRST} p75 real, "sum" text, majority real)')
    finished(workspace)
    assert workspace.query('SELECT count(*), count("sum"), count(majority) FROM signatures') == [(12, 0, 0)]
    assert len(workspace.signatures(scene)) == 12


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["p10", "p99"], "there is no statistic p99 to add; did you mean `p90`?"),
        ("p10", "not a list of names"),
        ([1], "not a list of names"),
    ],
)
def test_statistics_that_there_are_not(workspace: Workspace, given: Any, words: str) -> None:
    workspace.extraction["bs"] = {"extra_statistics": given}
    outcome = workspace.run()
    assert outcome.code == 2
    (line,) = outcome.errors
    assert "db_config.json: extraction.bs.extra_statistics: " in line
    assert words in line


# Which pixels are a parcel's


SHIFTED = [cell(2 + 8 * i + 0.7, 3.6, 5.1, 4.2, inset=0) for i in range(6)]
"""Their edges cross pixels, of which the centres lie outside."""
OTHERS = [SHIFTED[0].boundary.buffer(4), cell(-5, 20, 8, 3), cell(20.2, 20.2, 0.2, 0.2, inset=0), PARCELS[-1]]
"""A ring with a hole, one across the image's edge, one within a pixel without its centre, one partly without data."""


def by_rule(workspace: Workspace, rule: str, card: str = "s2", **more: Any) -> tuple[dict[int, BaseGeometry], Scene]:
    parcels = workspace.add_parcels([*SHIFTED, *OTHERS])
    scene: Scene = getattr(workspace, f"add_{card}")()
    workspace.extraction[card] = {"pixel_rule": rule, "extra_statistics": ["pixels"], "verified_parcels": 100, **more}
    finished(workspace, card)
    assert workspace.log(scene)[0]["settings"]["pixel_rule"] == rule
    assert workspace.log(scene)[0]["chunks_recomputed"] == 0
    return parcels, scene


def signatures(workspace: Workspace, scene: Scene, label: str) -> dict[int, tuple[float, ...]]:
    columns = "count, mean, std, min, max, p25, p50, p75, pixels"
    rows = workspace.query(
        f"SELECT pid, {columns} FROM signatures WHERE obsid = %s AND rtrim(band) = %s", scene.id, label
    )
    return {pid: tuple(map(float, numbers)) for pid, *numbers in rows}


@pytest.mark.parametrize("engine", ["scanline", "rasterstats"])
@pytest.mark.parametrize("card", ["s2", "bs"])
def test_all_pixels_that_a_parcel_touches(workspace: Workspace, card: str, engine: str) -> None:
    if card == "s2":
        workspace.tables["hists_table"] = "hists"
    parcels, scene = by_rule(workspace, "all_touched", card, engine=engine)
    stats = ["count", "mean", "std", "min", "max", "percentile_25", "percentile_50", "percentile_75"]
    for name, array in scene.bands.items():
        pixel = 20 if name == "SCL" else 10
        everywhere = rasterstats_of(parcels, np.ones_like(array), pixel, stats="count", all_touched=True)
        rows = rasterstats_of(parcels, array, pixel, stats=stats, all_touched=True)
        expected = {pid: (*(row[stat] for stat in stats), everywhere[pid]["count"]) for pid, row in rows.items()}
        assert len(expected) == len(parcels)
        assert_equal(signatures(workspace, scene, LABELS.get(name, name)), expected)
        if name == "SCL":
            classes = rasterstats_of(parcels, array, pixel, stats="count", categorical=True, all_touched=True)
            found = dict(workspace.query("SELECT pid, hist FROM hists WHERE obsid = %s", scene.id))
            wanted = {
                pid: {str(value): n for value, n in row.items() if value != "count"} for pid, row in classes.items()
            }
            assert found == wanted


@pytest.mark.parametrize("card", ["s2", "bs"])
def test_shares_of_pixels(workspace: Workspace, card: str) -> None:
    parcels, scene = by_rule(workspace, "fraction", card)
    names = ["count", "mean", "stdev", "min", "max", "quantile(q=0.25)", "quantile(q=0.5)", "quantile(q=0.75)"]
    features = [{"type": "Feature", "properties": {}, "geometry": mapping(parcel)} for parcel in parcels.values()]
    for name, array in scene.bands.items():
        side = 600.0
        box = (GRID.left, GRID.top - side, GRID.left + side, GRID.top)

        def ask(pixels: Array, *names: str, box: tuple[float, ...] = box) -> Any:
            source = NumPyRasterSource(pixels, *box, nodata=0)
            return exact_extract(source, features, list(names), output="pandas").to_numpy(float)

        numbers = np.column_stack([ask(array, *names), ask(np.ones_like(array), "count")])
        expected = {pid: tuple(row.tolist()) for pid, row in zip(parcels, numbers, strict=True)}
        assert_equal(signatures(workspace, scene, LABELS.get(name, name)), expected)
    (log,) = workspace.log(scene)
    assert log["settings"]["engine"] == "exactextract"
    assert "exactextract" in log["versions"]


@pytest.mark.parametrize("rule", ["centre", "all_touched", "fraction"])
def test_clear_pixels_by_every_rule(workspace: Workspace, rule: str) -> None:
    """Their table has the additional columns as well, and counts all pixels of the parcel there."""
    workspace.tables["clear_results_table"] = "clear"
    parcels, scene = by_rule(workspace, rule, extra_statistics=["pixels", "nodata"])
    clear = np.isin(scene.bands["SCL"], (4, 5, 6, 7)).repeat(2, axis=0).repeat(2, axis=1)
    array = np.where(clear, scene.bands["B04"], 0)
    if rule == "fraction":
        features = [{"type": "Feature", "properties": {}, "geometry": mapping(parcel)} for parcel in parcels.values()]
        box = (GRID.left, GRID.top - 600, GRID.left + 600, GRID.top)

        def ask(pixels: Array) -> list[float]:
            source = NumPyRasterSource(pixels, *box, nodata=0)
            found: list[float] = exact_extract(source, features, ["count"], output="pandas")["count"].tolist()
            return found

        counts, pixels = ask(array), ask(np.ones_like(array))
    else:
        asked: dict[str, Any] = {"all_touched": rule == "all_touched", "stats": "count"}
        valid, all_of = (rasterstats_of(parcels, pixels, 10, **asked) for pixels in (array, np.ones_like(array)))
        counts, pixels = ([rows.get(pid, {"count": 0})["count"] for pid in parcels] for rows in (valid, all_of))
    expected = {
        pid: (count, everywhere, everywhere - count)
        for pid, count, everywhere in zip(parcels, counts, pixels, strict=True)
        if count
    }
    rows = workspace.query("SELECT pid, count, pixels, nodata FROM clear WHERE rtrim(band) = 'B4'")
    assert_equal({pid: tuple(map(float, numbers)) for pid, *numbers in rows}, expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hists": True}, "hists_table: histograms count whole pixels, and with extraction.pixel_rule fraction"),
        ({"engine": "rasterstats"}, "extraction.pixel_rule: the engine rasterstats knows no fractions of pixels"),
        ({"column": "count int"}, "column count of table public.signatures has the type int4, which cannot hold it"),
        ({"rule": "half"}, 'extraction.s2.pixel_rule: "half" cannot be used'),
    ],
    ids=["histograms", "the reference engine", "a column of integers", "no rule"],
)
def test_what_does_not_go_with_shares(workspace: Workspace, settings: dict[str, Any], words: str) -> None:
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.extraction["s2"] = {"pixel_rule": settings.get("rule", "fraction")}
    if "hists" in settings:
        workspace.tables["hists_table"] = "hists"
    if "engine" in settings:
        workspace.extraction["engine"] = settings["engine"]
    if "column" in settings:
        workspace.query(f"CREATE TABLE signatures ({FIRST.replace('count real', settings['column'])} p75 real)")
    outcome = workspace.run()
    assert outcome.code == 2
    (line,) = outcome.errors
    assert words in line
    assert workspace.status(scene) == "ingested"


def test_shares_without_the_library(workspace: Workspace, tmp_path: Path) -> None:
    """As where the package is installed without its extra."""
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.extraction["pixel_rule"] = "fraction"
    (tmp_path / "exactextract.py").write_text("raise ImportError('not installed here')\n")
    for options in ((), ("--check",)):
        outcome = workspace.run("s2", *options, env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
        assert outcome.code == 2, outcome.output
        assert "fraction needs the library exactextract, which cannot be loaded (" in outcome.output
        assert "not installed here" in outcome.output
    assert workspace.status(scene) == "ingested"
    # Who does not ask for shares does not need it.
    workspace.extraction.clear()
    finished(workspace)
