"""Indices of pixels, decibels, clear pixels and class histograms, by the real command: each number is what rasterstats
says about an array that numpy has made."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import rasterstats
from affine import Affine
from shapely.geometry.base import BaseGeometry

from demo.metadata import all_bands, metadata
from extractors.config import ENGINE_NAMES
from tests.acceptance.test_meaning import add_product
from tests.support.ground import GRID, Array, cell, optical, squares
from tests.support.scenes import Scene, Signatures, zonal
from tests.support.workspace import Workspace

# Of rasterstats and the affine package.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

FINE, COARSE = (Affine(pixel, 0, GRID.left, 0, -pixel, GRID.top) for pixel in (10, 20))
CLEAR = (4, 5, 6, 7)


def on_fine(array: Array) -> Array:
    """Pixels of 20 m as four of 10 m."""
    return np.repeat(np.repeat(array, 2, axis=0), 2, axis=1)


def shifted(array: Array) -> Array:
    return np.where(array == 0, np.nan, array.astype(np.float32) - 1000)


def assert_close(found: Signatures, wanted: Signatures) -> None:
    """Counts equal, all others but for rounding to 32 bits."""
    assert found.keys() == wanted.keys()
    for key, numbers in wanted.items():
        assert found[key][0] == numbers[0], key
        assert found[key] == pytest.approx(numbers, rel=1e-5, abs=1e-6), key


def scene_with_clouds(workspace: Workspace) -> Scene:
    """Baseline 04.00, with B05; SCL cloudy over the lower half, and all clear over the first parcel."""
    bands = optical()
    bands["SCL"][15:] = np.where(bands["SCL"][15:] == 0, 0, 9)
    bands["SCL"][:5, :5] = 4
    bands["B04"][0:20, 20:30] = 1000  # 0, after the shift
    bands["B05_20m"] = np.random.default_rng(5).integers(900, 4000, (30, 30), dtype=np.uint16)
    return add_product(workspace, "2022-04-01T10:00:31", "0400", metadata("04.00", all_bands()), bands=bands)


def wanted_of(scene: Scene, parcels: dict[int, BaseGeometry], mask: Array | None) -> Signatures:
    """The statistics of B4 and the indices; mask: of these pixels (10 m) only."""
    red, infrared, edge = (shifted(array) for array in (
        scene.bands["B04"], scene.bands["B08"], on_fine(scene.bands["B05_20m"]),
    ))  # fmt: skip
    with np.errstate(all="ignore"):
        layers = {"B4": red, "NDV": (infrared - red) / (infrared + red), "R": edge / red}
    wanted: Signatures = {}
    for label, values in layers.items():
        values[~np.isfinite(values)] = np.nan
        if mask is not None:
            values[~mask] = np.nan
        wanted |= zonal(parcels, label, values, FINE, nodata=np.nan)
    return wanted


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_indices_clear_pixels_and_histograms(workspace: Workspace, engine: str) -> None:
    workspace.args.update(startdate="2022-01-01", enddate="2023-01-01")
    parcels = workspace.add_parcels([*squares(49), cell(1, 1, 50, 50)])
    scene = scene_with_clouds(workspace)
    workspace.tables.update(clear_results_table="clear", hists_table="hists")
    workspace.extraction["s2"] = {
        "radiometry": "harmonised", "bands": ["B04"], "engine": engine, "chunk_size": 20, "verified_parcels": 50,
        "indices": {"NDV": "ndvi", "R": "B05 / B04"},
    }  # fmt: skip
    refused = workspace.run("s2")
    assert refused.code == 2  # histograms are of SCL
    workspace.extraction["s2"]["bands"] = ["B04", "SCL"]
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr

    classes = scene.bands["SCL"]
    everything = wanted_of(scene, parcels, None)
    assert_close(workspace.signatures(scene), everything | zonal(parcels, "SC", classes, COARSE))
    clear = wanted_of(scene, parcels, np.isin(on_fine(classes), CLEAR))
    assert {label for _, label in clear} == {"B4", "NDV", "R"}
    assert len(clear) < len(everything)
    assert_close(workspace.signatures(scene, "clear"), clear)
    counted = rasterstats.zonal_stats(list(parcels.values()), classes, affine=COARSE, nodata=0, categorical=True)
    expected = {
        pid: {str(key): pixels for key, pixels in row.items()} for pid, row in zip(parcels, counted, strict=True) if row
    }
    found = workspace.query("SELECT pid, hist::text FROM hists WHERE obsid = %s", scene.id)
    assert {pid: json.loads(text) for pid, text in found} == expected

    (log,) = workspace.log(scene)
    assert log["chunks_recomputed"] == 0
    assert log["rows_written"] == {
        "B4": 50, "SC": sum(label == "SC" for _, label in zonal(parcels, "SC", classes, COARSE)),
        **{label: sum(other == label for _, other in everything) for label in ("NDV", "R")},
        **{f"{label} clear": sum(other == label for _, other in clear) for label in ("B4", "NDV", "R")},
    }  # fmt: skip
    assert log["parcels_without_row"]["B4 clear"] == {"not_clear": 50 - log["rows_written"]["B4 clear"]}
    assert log["settings"]["sources"] == {"B4": "B04", "SC": "SCL", "NDV": "nd(B08, B04)", "R": "B05 / B04"}
    assert log["settings"]["clear_classes"] == [4, 5, 6, 7]
    # Bands that are only needed for indices stand there by their names.
    assert log["settings"]["harmonised"]["offsets"] == {"B4": -1000, "SC": 0, "B08": -1000, "B05": -1000}


def test_other_classes_and_bands_without_scl(workspace: Workspace) -> None:
    """SCL is fetched for the clear pixels, and has no rows."""
    workspace.args.update(startdate="2022-01-01", enddate="2023-01-01")
    parcels = workspace.add_parcels(squares(49))
    scene = scene_with_clouds(workspace)
    workspace.tables["clear_results_table"] = "clear"
    workspace.extraction["s2"] = {"bands": ["B08"], "clear_classes": [9]}
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    cloudy = np.isin(on_fine(scene.bands["SCL"]), [9])
    assert_close(workspace.signatures(scene), zonal(parcels, "B8", scene.bands["B08"], FINE))
    assert_close(
        workspace.signatures(scene, "clear"), zonal(parcels, "B8", np.where(cloudy, scene.bands["B08"], 0), FINE)
    )
    assert workspace.log(scene)[0]["settings"]["clear_classes"] == [9]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_backscatter_in_decibels_and_its_ratio(workspace: Workspace, engine: str) -> None:
    """Decibels are of pixels; the ratio is one of linear values. What has no logarithm is nodata."""
    parcels = workspace.add_parcels(squares(49))
    random = np.random.default_rng(3)
    bands = {
        "VV": random.uniform(0.4, 0.6, (60, 60)).astype(np.float32),
        "VH": random.uniform(0.05, 0.15, (60, 60)).astype(np.float32),
    }
    bands["VV"][2:5, 2:8] = 0
    bands["VH"][2:8, 2:8] = -0.1
    scene = workspace.add_bs(bands=bands)
    workspace.extraction["bs"] = {"backscatter_unit": "db", "indices": {"CR": "VH / VV"}, "engine": engine}
    outcome = workspace.run("bs")
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    wanted: Signatures = {}
    vv, vh = bands["VV"], bands["VH"]
    with np.errstate(all="ignore"):
        layers: dict[str, Any] = {"VV": 10 * np.log10(vv), "VH": 10 * np.log10(vh), "CR": np.where(vv, vh / vv, np.nan)}
    for label, values in layers.items():
        values[~np.isfinite(values)] = np.nan
        wanted |= zonal(parcels, label, values, FINE, nodata=np.nan)
    assert len(wanted) == 3 * 49 - 1  # the first one has no VH
    assert_close(workspace.signatures(scene), wanted)
    (log,) = workspace.log(scene)
    assert log["parcels_without_row"] == {"VV": {}, "VH": {"nodata": 1}, "CR": {}}
    assert log["settings"]["backscatter_unit"] == "db"
    assert log["chunks_recomputed"] == 0


def test_a_scene_without_one_of_the_bands_has_no_such_index(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(4))
    scene = workspace.add_bs(
        reference="S1A_IW_GRDH_1SSV_20200401T052345_20200401T052410_031936_03AFC4_1234_CARD_BS",
        bands={"VV": np.full((60, 60), 0.5, np.float32)},
    )
    workspace.extraction["bs"] = {"indices": {"CR": "VH / VV"}}
    outcome = workspace.run("bs")
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    assert {label for _, label in workspace.signatures(scene)} == {"VV"}
    assert workspace.log(scene)[0]["rows_written"] == {"VV": len(parcels)}


def test_an_index_of_raw_numbers_is_refused(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    workspace.add_s2()
    workspace.extraction["s2"] = {"indices": {"NDV": "ndvi"}}
    outcome = workspace.run("s2")
    assert outcome.code == 2
    (line,) = outcome.errors
    assert "db_config.json: extraction.indices: " in line
    assert '"radiometry": "harmonised"' in line
    workspace.extraction["s2"] = {"radiometry": "harmonised", "indices": {"B4": "ndvi"}}
    outcome = workspace.run("s2")
    assert outcome.code == 2
    (line,) = outcome.errors
    assert "B04 has the label B4 as well" in line


def test_the_label_of_an_index_must_fit_into_its_column(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    workspace.add_s2()
    workspace.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, std real, min real,"
        " max real, p25 real, p50 real, p75 real)"
    )
    workspace.extraction["s2"] = {
        "radiometry": "harmonised", "radiometry_fallback": "baseline", "indices": {"NDV": "ndvi"},
    }  # fmt: skip
    outcome = workspace.run("s2")
    assert outcome.code == 2
    (line,) = outcome.errors
    assert "holds 2 characters, but the labels have 3" in line
