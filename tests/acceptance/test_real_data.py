"""Five real acquisitions and 88 real polygons through the real command, every number against rasterstats."""

from __future__ import annotations

import json
import os
import warnings
from datetime import datetime, timedelta
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterstats
from affine import Affine

from demo import tables
from tests.acceptance.test_indices_and_clouds import assert_close
from tests.support.environment import ROOT
from tests.support.ground import Array, footprint
from tests.support.scenes import Signatures, assert_same, s2_reference, zonal
from tests.support.workspace import Workspace

REAL = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared")) / "real"

pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"the real acquisitions are not at {REAL} (SHARED_DIR names another folder)"
)


def as_jp2(array: Array, transform: Affine, crs: object, path: Path) -> bytes:
    """Lossless JPEG 2000 on the raster's own grid, whose pixels are not quite square."""
    options = {"QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        width=array.shape[1],
        height=array.shape[0],
        count=1,
        dtype=array.dtype,
        crs=crs,
        transform=transform,
        **options,
    ) as file:
        file.write(array, 1)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), array)
        assert file.transform.almost_equals(transform, precision=1e-9)
    return path.read_bytes()


def without_index(signatures: Signatures) -> Signatures:
    """Those of bands, which agree to the last bit but for rounding."""
    return {key: numbers for key, numbers in signatures.items() if key[1] != "NDV"}


def test_every_number_equals_rasterstats(workspace: Workspace, tmp_path: Path) -> None:
    land_use = geopandas.read_file(REAL / "land_use.gpkg")
    assert len(land_use) == 88
    assert land_use.crs.to_epsg() == 32633
    parcels = workspace.add_parcels(list(land_use.geometry))
    everything = footprint(land_use.union_all().envelope.buffer(500))
    tables.add_aoi(workspace.connection, "slovenia", everything)
    workspace.args["name"] = "slovenia"
    workspace.extraction["chunk_size"] = 30
    workspace.tables.update(clear_results_table="clear", hists_table="hists")
    workspace.extraction["s2"] = {
        "radiometry": "harmonised", "radiometry_fallback": "baseline", "indices": {"NDV": "ndvi"},
    }  # fmt: skip

    wanted: dict[int, Signatures] = {}
    wanted_clear: dict[int, Signatures] = {}
    wanted_hists: dict[int, dict[int, dict[str, int]]] = {}
    for number in range(5):
        moment = datetime(2020, 5, 1, 10, 0, 31) + timedelta(days=10 * number)
        reference = s2_reference(moment)
        granule = (
            f"Sentinel-2/MSI/L2A/{moment:%Y/%m/%d}/{reference}/GRANULE/"
            f"L2A_T33TWM_A027561_{moment:%Y%m%dT%H%M%S}/IMG_DATA"
        )
        scene = tables.add_scene(workspace.connection, reference, moment, "s2", everything)
        wanted[scene], wanted_clear[scene] = {}, {}
        bands: dict[str, Array] = {}
        for band, label in (("B04", "B4"), ("B08", "B8")):
            with rasterio.open(REAL / f"scene{number}_{band}.tif") as file:
                array, transform, crs = file.read(1), file.transform, file.crs
            bands[label] = array
            body = as_jp2(array, transform, crs, tmp_path / "band.jp2")
            workspace.write(f"{granule}/R10m/T33TWM_{moment:%Y%m%dT%H%M%S}_{band}_10m.jp2", body)
            wanted[scene] |= zonal(parcels, label, array, transform)
        # Level 1C has no scene classification: one is made, with a corner of nodata.
        made = np.random.default_rng(number).integers(1, 12, (51, 50), dtype=np.uint8)
        made[:10, :10] = 0
        body = as_jp2(made, transform @ Affine.scale(2), crs, tmp_path / "scl.jp2")
        workspace.write(f"{granule}/R20m/T33TWM_{moment:%Y%m%dT%H%M%S}_SCL_20m.jp2", body)
        wanted[scene] |= zonal(parcels, "SC", made, transform @ Affine.scale(2))
        with np.errstate(all="ignore"):
            red, infrared = (np.where(bands[label], bands[label], np.nan).astype(np.float32) for label in ("B4", "B8"))
            index = (infrared - red) / (infrared + red)
        wanted[scene] |= zonal(parcels, "NDV", index, transform, nodata=np.nan)
        rows, columns = bands["B4"].shape
        clear = np.isin(np.repeat(np.repeat(made, 2, axis=0), 2, axis=1)[:rows, :columns], (4, 5, 6, 7))
        for label, values, nodata in (("B4", bands["B4"], 0), ("B8", bands["B8"], 0), ("NDV", index, np.nan)):
            wanted_clear[scene] |= zonal(
                parcels, label, np.where(clear, values, values.dtype.type(nodata)), transform, nodata
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            counted = rasterstats.zonal_stats(
                list(parcels.values()), made, affine=transform @ Affine.scale(2), nodata=0, categorical=True
            )
        wanted_hists[scene] = {
            pid: {str(key): pixels for key, pixels in row.items()}
            for pid, row in zip(parcels, counted, strict=True)
            if row
        }

    outcome = workspace.run("s2", "--all")

    assert (outcome.code, outcome.errors) == (0, [])
    for scene, numbers in wanted.items():
        assert workspace.status(scene) == "extracted"
        assert_close(workspace.signatures(scene), numbers)
        assert_same(without_index(workspace.signatures(scene)), without_index(numbers))
        assert_close(workspace.signatures(scene, "clear"), wanted_clear[scene])
        assert_same(without_index(workspace.signatures(scene, "clear")), without_index(wanted_clear[scene]))
        hists = workspace.query("SELECT pid, hist::text FROM hists WHERE obsid = %s", scene)
        assert {pid: json.loads(text) for pid, text in hists} == wanted_hists[scene]
        assert workspace.query("SELECT chunks_recomputed FROM extraction_log WHERE obsid = %s", scene) == [(0,)]
    assert workspace.rows() == sum(map(len, wanted.values()))
    # Some of the 88 are smaller than a pixel or hold only nodata: each of them is counted, in every band.
    (log,) = workspace.log(next(iter(wanted)))
    for band in ("B4", "B8", "SC"):
        missing = sum(log["parcels_without_row"].get(band, {}).values())
        assert log["parcels_selected"] == 88 == log["rows_written"][band] + missing
