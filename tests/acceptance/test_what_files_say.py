"""What a file says of itself is heard: nodata, masks, scale and offset, polarisations, its CRS, infinite pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely.geometry.base import BaseGeometry

from demo import tables
from demo.products import Grid
from tests.support.ground import GRID, SHAPE, Array, cell, ground, optical, radar, squares
from tests.support.scenes import COLUMNS, Scene, Signatures, assert_same, zonal
from tests.support.workspace import Workspace

FILL = float(np.finfo("float32").min)
LONGITUDE_LATITUDE = (
    'GEOGCS["WGS84(DD)", DATUM["WGS84", SPHEROID["WGS84", 6378137.0, 298.257223563]], PRIMEM["Greenwich", 0.0], '
    'UNIT["degree", 0.017453292519943295], AXIS["Geodetic longitude", EAST], AXIS["Geodetic latitude", NORTH], '
    'AUTHORITY["EPSG","4326"]]'
)
"""As SNAP writes it."""


def geotiff(workspace: Workspace, scene: Scene, *arrays: Array, **options: Any) -> None:
    """Put another GeoTIFF in the place of a coherence image. descriptions, scale, offset, mask: of its bands."""
    path = workspace.folder / "other.tif"
    said = {name: options.pop(name, None) for name in ("descriptions", "scale", "offset", "mask")}
    rows, columns = arrays[0].shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", height=rows, width=columns, count=len(arrays), dtype=arrays[0].dtype,
            **{"crs": CRS.from_epsg(GRID.epsg), "transform": GRID.transform, **options},
        ) as file,
    ):  # fmt: skip
        for number, array in enumerate(arrays, 1):
            file.write(array, number)
            if said["descriptions"]:
                file.set_band_description(number, said["descriptions"][number - 1])
        if said["scale"] is not None:
            file.scales, file.offsets = [said["scale"]] * len(arrays), [said["offset"]] * len(arrays)
        if said["mask"] is not None:
            file.write_mask(said["mask"])
    workspace.write(scene.keys["tif"], path.read_bytes())


def envi(workspace: Workspace, scene: Scene, polarisation: str, array: Array, header: dict[str, str]) -> None:
    """Put another image, and some other lines of its header, in the place of a backscatter image."""
    workspace.write(scene.keys[f"Gamma0_{polarisation}.img"], array.tobytes())
    key = scene.keys[f"Gamma0_{polarisation}.hdr"]
    lines = [line for line in workspace.read(key).decode().splitlines() if line.split(" = ")[0] not in header]
    workspace.write(key, "\n".join([*lines, *(f"{name} = {value}" for name, value in header.items()), ""]).encode())


def expected(parcels: Mapping[int, BaseGeometry], grid: Grid = GRID, /, **bands: Any) -> Signatures:
    """What rasterstats says of pixels in which 0 is nodata."""
    result: Signatures = {}
    for label, array in bands.items():
        result |= zonal(parcels, label, array, Affine(*grid.transform[:6]))
    return result


def scaled(signatures: Signatures, scale: float, offset: float = 0) -> Signatures:
    found = {}
    for key, numbers in signatures.items():
        rest = [x * scale + (0 if name == "std" else offset) for name, x in zip(COLUMNS[1:], numbers[1:], strict=True)]
        found[key] = (numbers[0], *rest)
    return found


def extracted(workspace: Workspace, card: str, scene: Scene) -> dict[str, Any]:
    """Run the worker: one scene, no error. Returns its log row."""
    outcome = workspace.run(card)
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    (log,) = workspace.log(scene)
    assert log["outcome"] == "extracted"
    assert log["chunks_recomputed"] == 0
    return log


# Nodata


@pytest.mark.parametrize("value", ["-9999", "-9999.0", "7.5"])
def test_bs_data_ignore_value(workspace: Workspace, value: str) -> None:
    """The parcel in the corner holds it only; 0 and NaN stay nodata as well."""
    parcels = workspace.add_parcels(squares(9))
    bands = radar()
    scene = workspace.add_bs(bands=bands)
    bands["VV"][:9, :9] = bands["VV"][12, ::3] = 0
    pixels = bands["VV"].copy()
    pixels[:9, :9] = pixels[12, ::3] = float(value)
    pixels[4, 20], bands["VV"][4, 20] = np.nan, 0
    pixels[5, 20] = bands["VV"][5, 20] = 0
    envi(workspace, scene, "VV", pixels.astype(">f4"), {"data ignore value": value})
    log = extracted(workspace, "bs", scene)
    assert_same(workspace.signatures(scene), expected(parcels, **bands))
    assert log["parcels_without_row"] == {"VV": {"nodata": 1}, "VH": {}}


@pytest.mark.parametrize("value", [-9999.0, FILL, np.inf], ids=["-9999", "the least float32", "infinite"])
def test_c6_nodata(workspace: Workspace, value: float) -> None:
    parcels = workspace.add_parcels(squares(9))
    bands = radar()
    for array in bands.values():
        array[:9, :9] = array[12, ::3] = 0
    scene = workspace.add_c6(bands=bands)
    filled = [np.where(bands[name] == 0, np.float32(value), bands[name]) for name in ("VH", "VV")]
    geotiff(workspace, scene, *filled, nodata=value)
    log = extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), expected(parcels, **bands))
    assert log["parcels_without_row"] == {"VV": {"nodata": 1}, "VH": {"nodata": 1}}


def test_c6_internal_mask(workspace: Workspace) -> None:
    """What lies under it looks like any other pixels."""
    parcels = workspace.add_parcels(squares(9))
    bands = radar()
    scene = workspace.add_c6(bands=bands)
    mask = np.full(SHAPE, 255, np.uint8)
    mask[:9, :9] = mask[12, ::3] = 0
    geotiff(workspace, scene, bands["VH"].copy(), bands["VV"].copy(), mask=mask)
    for array in bands.values():
        array[mask == 0] = 0
    extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), expected(parcels, **bands))


@pytest.mark.parametrize(("order", "dtype"), [("product", "uint16"), ("product", "float32"), ("historical", "int16")])
def test_c6_alpha_band(workspace: Workspace, order: str, dtype: str) -> None:
    """A sibling: the mask is a band of its own, which is no polarisation."""
    workspace.extraction["coherence_band_order"] = order
    parcels = workspace.add_parcels(squares(9))
    numbers = (radar()["VV"] * 10_000).astype(dtype)
    scene = workspace.add_c6()
    alpha = np.full(SHAPE, 255, dtype)
    alpha[:9, :9] = 0
    geotiff(workspace, scene, numbers.copy(), alpha, alpha="yes", descriptions=("coh_VV", ""))
    numbers[alpha == 0] = 0
    log = extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), expected(parcels, VV=numbers))
    assert "no VH" in log["detail"]


def test_c6_a_band_that_is_taken_for_a_mask(workspace: Workspace) -> None:
    """A sibling: some writers mark the last band of several so, whatever is in it."""
    parcels = workspace.add_parcels(squares(9))
    bands = radar()
    scene = workspace.add_c6(bands=bands)
    geotiff(workspace, scene, bands["VH"], bands["VV"], alpha="yes", descriptions=("coh_VH", "coh_VV"))
    extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), expected(parcels, **bands))


def test_the_engine_rasterstats_hears_it_too(workspace: Workspace) -> None:
    workspace.extraction["engine"] = "rasterstats"
    test_c6_nodata(workspace, -9999.0)


# Scale and offset


@pytest.mark.parametrize(("gain", "offset"), [("1.0E-4", "0.0"), ("0.5", "-3.0")])
def test_bs_gain_and_offset(workspace: Workspace, gain: str, offset: str) -> None:
    parcels = workspace.add_parcels(squares(9))
    scene = workspace.add_bs()
    numbers = {name: np.random.default_rng(7).integers(0, 2000, SHAPE).astype("uint16") for name in ("VV", "VH")}
    for name, array in numbers.items():
        header = {"data type": "12", "data gain values": f"{{{gain}}}", "data offset values": f"{{{offset}}}"}
        envi(workspace, scene, name, array.astype(">u2"), header)
    extracted(workspace, "bs", scene)
    assert_same(workspace.signatures(scene), scaled(expected(parcels, **numbers), float(gain), float(offset)))


def test_c6_scale(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(9))
    scene = workspace.add_c6()
    numbers = {name: (array * 10_000).astype("int16") for name, array in radar().items()}
    for array in numbers.values():
        array[3, 3:6] = 0
    geotiff(workspace, scene, numbers["VH"], numbers["VV"], scale=1e-4, offset=0.25)
    extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), scaled(expected(parcels, **numbers), 1e-4, 0.25))


@pytest.mark.parametrize("scale", [0.0, -1e-4])
def test_c6_a_scale_that_cannot_be(workspace: Workspace, scale: float) -> None:
    """A sibling: all pixels would be one number, or coherence below 0."""
    workspace.extraction.update(max_attempts=5, retry_pause_seconds=0)
    workspace.add_parcels(squares(3))
    scene = workspace.add_c6()
    geotiff(workspace, scene, np.ones(SHAPE, "int16"), np.ones(SHAPE, "int16"), scale=scale, offset=0.0)
    outcome = workspace.run("c6")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert workspace.status(scene) == "failed"
    (log,) = workspace.log(scene)
    assert f"{scale} x pixel" in log["detail"]


# Polarisations


def test_c6_bands_described_as_hv_and_hh(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(9))
    bands = radar()
    scene = workspace.add_c6(bands=bands)
    geotiff(workspace, scene, bands["VH"], bands["VV"], descriptions=("coh_HV_01Apr2020", "coh_HH_01Apr2020"))
    log = extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), expected(parcels, HH=bands["VV"], HV=bands["VH"]))
    assert log["rows_written"] == {"HH": 9, "HV": 9}


def test_c6_historical_order_is_one_of_vv_and_vh(workspace: Workspace) -> None:
    """A sibling: the setting says which of the two comes first, not that HH is VV."""
    workspace.extraction["coherence_band_order"] = "historical"
    test_c6_bands_described_as_hv_and_hh(workspace)


def test_c6_one_band(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(9))
    bands = radar()
    scene = workspace.add_c6(bands=bands)
    geotiff(workspace, scene, bands["VV"], descriptions=("coh_VV_01Apr2020",))
    log = extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), expected(parcels, VV=bands["VV"]))
    assert log["rows_written"] == {"VV": 9}
    assert "no VH" in log["detail"]


def test_c6_one_band_that_nothing_names(workspace: Workspace) -> None:
    """A sibling: it could be either, so it is none."""
    workspace.extraction.update(max_attempts=5, retry_pause_seconds=0)
    workspace.add_parcels(squares(3))
    scene = workspace.add_c6()
    geotiff(workspace, scene, radar()["VV"])
    outcome = workspace.run("c6")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert [log["outcome"] for log in workspace.log(scene)] == ["failed"]
    assert workspace.rows() == 0


def test_c6_only_one_of_two_bands_is_described(workspace: Workspace) -> None:
    """A sibling: what it says holds, and the other one is its partner."""
    parcels = workspace.add_parcels(squares(9))
    bands = radar()
    scene = workspace.add_c6(bands=bands)
    geotiff(workspace, scene, bands["VV"], bands["VH"], descriptions=("coh_VV_01Apr2020", ""))
    extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), expected(parcels, **bands))


@pytest.mark.parametrize(
    ("mode", "there", "absent"),
    [("1SSV", ["VV"], "VH"), ("1SSH", ["HH"], "HV"), ("1SDH", ["HH", "HV"], None), ("1SDV", ["VV", "VH"], None)],
)
def test_bs_polarisations_by_the_name(workspace: Workspace, mode: str, there: list[str], absent: str | None) -> None:
    parcels = workspace.add_parcels(squares(9))
    bands = dict(zip(there, radar().values(), strict=False))
    scene = workspace.add_bs(
        bands=bands, reference=f"S1A_IW_GRDH_{mode}_20200401T052345_20200401T052410_023340_0289E6_6558_CARD_BS"
    )
    log = extracted(workspace, "bs", scene)
    assert_same(workspace.signatures(scene), expected(parcels, **bands))
    assert log["rows_written"] == dict.fromkeys(there, 9)
    assert ("no " in log["detail"]) == (absent is not None)
    assert absent is None or f"no {absent}" in log["detail"]


def test_bs_what_the_name_promises_must_be_there(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_bs()
    for part in ("img", "hdr"):
        workspace.remove(scene.keys[f"Gamma0_VH.{part}"])
    assert workspace.run("bs").code == 1
    assert workspace.status(scene) == "notfound"


@pytest.mark.parametrize("card", ["bs", "c6"])
def test_labels_of_the_api(workspace: Workspace, card: str) -> None:
    workspace.extraction["band_labels"] = "api"
    workspace.add_parcels(squares(2))
    bands = {"HH": radar()["VV"], "HV": radar()["VH"]}
    if card == "bs":
        reference = "S1A_IW_GRDH_1SDH_20200401T052345_20200401T052410_023340_0289E6_6558_CARD_BS"
        scene = workspace.add_bs(bands=bands, reference=reference)
    else:
        scene = workspace.add_c6(bands=bands, order=("HV", "HH"))
    extracted(workspace, card, scene)
    assert {band for _, band in workspace.signatures(scene)} == {f"HH{card[0]}", f"HV{card[0]}"}


def test_a_label_wider_than_its_column(workspace: Workspace) -> None:
    """The line has the statement that helps; after it the scene is extracted."""
    workspace.extraction["band_labels"] = "api"
    workspace.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, std real, min real, "
        "max real, p25 real, p50 real, p75 real)"
    )
    workspace.add_parcels(squares(2))
    scene = workspace.add_c6()
    outcome = workspace.run("c6")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert workspace.status(scene) == "ingested"
    statement = outcome.errors[0].split("(ALTER TABLE")[1].split("),")[0]
    workspace.query(f"ALTER TABLE {statement}")
    extracted(workspace, "c6", scene)


# The CRS


def parcels_in(workspace: Workspace, srid: int) -> None:
    """Have an empty parcel table in another CRS."""
    workspace.query("DROP TABLE parcels")
    tables.create_parcels(workspace.connection, "parcels", srid)
    workspace.parcel_srid = srid


@pytest.mark.parametrize("wkt", [True, False], ids=["with SNAP's WKT", "with the map info alone"])
def test_bs_in_longitude_and_latitude(workspace: Workspace, wkt: bool) -> None:
    step = 1e-4
    grid = Grid(4326, 15.0, 46.0, step)
    shapes = [cell(2 + 8 * (i % 7), 2 + 8 * (i // 7), grid=grid, inset=0.2 * step) for i in range(9)]
    parcels_in(workspace, 4326)
    parcels = workspace.add_parcels(shapes)
    bands = radar()
    scene = workspace.add_bs(bands=bands)
    where = shapely.box(14.999, 45.993, 15.007, 46.001).wkt
    workspace.query("UPDATE dias_catalogue SET footprint = ST_GeomFromText(%s, 4326)", where)
    workspace.query("UPDATE aois SET wkb_geometry = ST_Transform(ST_GeomFromText(%s, 4326), 4326)", where)
    header = {
        "map info": f"{{Geographic Lat/Lon,1.5,1.5,{15 + step / 2},{46 - step / 2},{step},{step},WGS84,units=Degrees}}",
        "coordinate system string": f"{{{LONGITUDE_LATITUDE}}}",
    }
    for name in bands:
        envi(workspace, scene, name, bands[name].astype(">f4"), header)
        if not wkt:
            text = workspace.read(scene.keys[f"Gamma0_{name}.hdr"]).decode().splitlines()
            kept = [line for line in text if not line.startswith("coordinate")]
            workspace.write(scene.keys[f"Gamma0_{name}.hdr"], "\n".join([*kept, ""]).encode())
    extracted(workspace, "bs", scene)
    assert_same(workspace.signatures(scene), expected(parcels, grid, **bands))


def test_c6_in_a_crs_of_esri(workspace: Workspace) -> None:
    """A sibling: Europe Albers Equal Area Conic, which only ESRI has a number for."""
    crs = CRS.from_string("ESRI:102013")
    parcels_in(workspace, 102013)
    grid = Grid(102013, 0.0, 2_000_000.0, 10.0)
    parcels = workspace.add_parcels(squares(9, grid=grid))
    bands = radar()
    scene = workspace.add_c6(bands=bands)
    geotiff(workspace, scene, bands["VH"], bands["VV"], crs=crs, transform=grid.transform)
    where = "ST_Transform(ST_GeomFromText(%s, 102013), 4326)"
    workspace.query(f"UPDATE dias_catalogue SET footprint = {where}", ground(grid=grid).wkt)
    workspace.query(f"UPDATE aois SET wkb_geometry = {where}", ground(1000, grid=grid).wkt)
    extracted(workspace, "c6", scene)
    assert_same(workspace.signatures(scene), expected(parcels, grid, **bands))


# Infinite pixels


@pytest.mark.parametrize(("kind", "large"), [(">f4", np.inf), (">f4", 1e30), (">f8", 1e300)])
@pytest.mark.parametrize("engine", ["scanline", "rasterstats"])
def test_infinite_pixels(workspace: Workspace, engine: str, kind: str, large: float) -> None:
    """One of each sign in one parcel, a parcel that holds nothing else, NaN in a third: no number is harmed, the judge
    agrees, and the log tells them from nodata. Numbers that no statistics can hold are as good as infinite."""
    workspace.extraction["engine"] = engine
    parcels = workspace.add_parcels(squares(9))
    bands = radar()
    scene = workspace.add_bs(bands=bands)
    pixels = bands["VV"].astype("f8")
    pixels[4, 4], pixels[5, 5] = large, -large
    pixels[:9, 9:17] = large
    pixels[:9, 17:25] = np.nan
    envi(workspace, scene, "VV", pixels.astype(kind), {"data type": {">f4": "4", ">f8": "5"}[kind]})
    bands["VV"][~(np.abs(pixels) < 1e15)] = 0
    outcome = workspace.run("bs")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), expected(parcels, **bands))
    (log,) = workspace.log(scene)
    assert log["chunks_recomputed"] == 0
    assert log["parcels_without_row"] == {"VV": {"not_finite": 1, "nodata": 1}, "VH": {}}
    assert any("VV 38" in line for line in outcome.stderr.splitlines() if " WARNING " in line)


# Sentinel-2


def test_s2_scale_is_not_heard(workspace: Workspace, tmp_path: Path) -> None:
    """Raw digital numbers: what a JPEG 2000 file says of a scale is another setting's."""
    parcels = workspace.add_parcels(squares(9))
    bands = optical()
    scene = workspace.add_s2(bands=bands)
    path = tmp_path / "B04.jp2"
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", height=60, width=60, count=1, dtype="uint16", crs=CRS.from_epsg(GRID.epsg),
        transform=GRID.transform, QUALITY="100", REVERSIBLE="YES", WRITE_METADATA="YES",
    ) as file:  # fmt: skip
        file.write(bands["B04"], 1)
        file.scales, file.offsets = [1e-4], [-0.1]
    workspace.write(scene.keys["B04"], path.read_bytes())
    extracted(workspace, "s2", scene)
    assert_same(workspace.signatures(scene), scene.expected(parcels))
