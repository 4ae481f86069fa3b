"""Keys, files, bands and labels of the three CARDs, in every layout the stores have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faulty_s3 import FaultyS3
from tests.support.ground import optical, radar, squares
from tests.support.scenes import Signatures, assert_same
from tests.support.workspace import Workspace

S2 = "S2A_MSIL2A_20200401T100031_{}_R122_T33TWM_20200401T135108"
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    ".SAFE in the catalogue and in the store": ("N0214_R122_T33TWM_20200401T135108.SAFE", {"safe": True}),
    ".SAFE in the store only": ("N0214_R122_T33TWM_20200402T135108", {"safe": True}),
    ".SAFE nowhere": ("N0214_R122_T33TWM_20200403T135108", {"safe": False}),
    ".SAFE in the catalogue only": ("N0214_R122_T33TWM_20200404T135108.SAFE", {"safe": False}),
    "collection 1": ("N0500_R122_T33TWM_20230405T135108.SAFE", {"collection": "L2A_N0500"}),
    "collection 1, N0510, no .SAFE in the catalogue": (
        "N0510_R122_T33TWM_20230406T135108",
        {"collection": "L2A_N0500"},
    ),
    "collection 1, .SAFE nowhere": ("N0500_R122_T33TWM_20230407T135108", {"collection": "L2A_N0500", "safe": False}),
    "file names with L2A_": ("N0206_R122_T33TWM_20200407T135108.SAFE", {"prefixed": True}),
}
"""What it is -> the end of the reference, and how the product is laid out in the store."""


@pytest.fixture(scope="module")
def layouts(shared_workspace: Workspace) -> dict[str, tuple[Signatures, Signatures]]:
    """One run over all of them: what was written, and what rasterstats says."""
    parcels = shared_workspace.add_parcels(squares(5))
    scenes = {
        name: shared_workspace.add_s2(
            reference=f"S2A_MSIL2A_20200401T100031_{end}", bands=optical(seed=number), **layout
        )
        for number, (name, (end, layout)) in enumerate(LAYOUTS.items())
    }
    outcome = shared_workspace.run("s2", "--all")
    assert (outcome.code, outcome.errors) == (0, [])
    return {name: (shared_workspace.signatures(scene), scene.expected(parcels)) for name, scene in scenes.items()}


@pytest.mark.parametrize("name", LAYOUTS)
def test_s2_layouts(layouts: dict[str, tuple[Signatures, Signatures]], name: str) -> None:
    assert_same(*layouts[name])


def test_s2_unexpected_neighbours(workspace: Workspace, proxy: FaultyS3) -> None:
    """Other resolutions, side files, placeholders of folders, another product with the same beginning, many pages."""
    workspace.s3["host"] = proxy.endpoint
    proxy.page_size = 3
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2(reference=S2.format("N0214") + ".SAFE")
    b04, scl = scene.keys["B04"], scene.keys["SCL"]
    product, granule = b04.split("/GRANULE/")[0], b04.split("/IMG_DATA/")[0]
    wrong = {
        b04 + ".aux.xml",
        b04.replace("R10m", "R20m").replace("_10m", "_20m"),
        b04.replace("_B04_10m.jp2", "_B04_10m.jp2.tmp"),
        b04.replace("_B04_10m.jp2", "_TCI_10m.jp2"),
        scl.replace("R20m", "R60m").replace("_20m", "_60m"),
        f"{granule}/QI_DATA/MSK_CLASSI_B04_10m.jp2",
        f"{granule}/QI_DATA/T33TWM_20200401T100031_SCL_20m.jp2",
        f"{product}/INSPIRE.xml",
        f"{product}/MTD_MSIL2A.xml",
    }
    for key in wrong - set(scene.keys.values()):
        workspace.write(key, b"nothing to see here")
    for folder in (f"{product}/", f"{product}/GRANULE/", f"{granule}/", f"{granule}/IMG_DATA/R10m/"):
        workspace.write(folder, b"")
    for key in scene.keys.values():
        other = key.replace("T135108.SAFE", "T135108_COG.SAFE").replace("L2A_T33TWM_A", "L2A_T33TWM_B")
        workspace.write(other, b"the same beginning, another product")

    outcome = workspace.run("s2")

    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_s2_date_in_the_key_is_that_of_the_reference(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2("2020-04-02T00:00:01", reference=S2.format("N0214") + ".SAFE")
    assert "/2020/04/01/" in scene.keys["B04"]
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_bs(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(12))
    scene = workspace.add_bs()
    outcome = workspace.run("bs")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert {band for _, band in workspace.signatures(scene)} == {"VV", "VH"}


def test_bs_nodata_is_zero_and_not_a_number(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(12))
    bands = radar()
    bands["VV"][:6, :] = 0
    bands["VV"][6:10, ::2] = float("nan")
    scene = workspace.add_bs(bands=bands)
    assert workspace.run("bs").code == 0
    bands["VV"][6:10, ::2] = 0  # left out alike
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_bs_date_in_the_key_is_that_of_obstime(workspace: Workspace) -> None:
    """The pass began on the evening before."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_bs(
        "2020-03-16T00:00:04",
        reference="S1A_IW_GRDH_1SDV_20200315T235959_20200316T000024_031690_03A765_9703_CARD_BS",
    )
    assert all("/2020/03/16/" in key for key in scene.keys.values())
    assert workspace.run("bs").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_c6_date_in_the_key_is_that_of_obstime(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_c6("2020-03-16T00:00:04", reference="S1B_20200315T235959__1A__20200309T235959_CARD-COH6")
    assert "/2020/03/16/" in scene.keys["tif"]
    assert workspace.run("c6").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


@pytest.mark.parametrize("order", [("VH", "VV"), ("VV", "VH")])
def test_c6_bands_by_their_descriptions(workspace: Workspace, order: tuple[str, str]) -> None:
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_c6(order=order, described=True)
    assert workspace.run("c6").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_c6_without_descriptions(workspace: Workspace) -> None:
    """Band 1 is VH then."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_c6(order=("VH", "VV"), described=False)
    assert workspace.run("c6").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_c6_historical_order(workspace: Workspace) -> None:
    """As the first scripts read it: band 1 as VV."""
    workspace.extraction["coherence_band_order"] = "historical"
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_c6(order=("VV", "VH"), described=False)
    assert workspace.run("c6").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_c6_neighbour_with_the_same_beginning(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_c6()
    workspace.write(scene.keys["tif"] + ".aux.xml", b"<PAMDataset/>")
    workspace.write(scene.keys["tif"].replace(".tif", ".dim"), b"<Dimap_Document/>")
    assert workspace.run("c6").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


# References that are none

BS = "S1A_IW_GRDH_1SDV_20200315T235959_20200316T000024_031690_03A765_9703_CARD_BS"
C6 = "S1B_20200315T235959__1A__20200309T235959_CARD-COH6"
HOSTILE = {
    "s2": [
        "../../etc/passwd",
        "/etc/passwd",
        "A" * 120,
        "",
        S2.format("N0214") + "/../../../x",
        S2.format("N0214") + ".SAFE.SAFE",
        S2.format("N0214") + "\n/x",
        S2.format("N0214").replace("S2A", "S2/"),
        S2.format("N0214").replace("MSIL2A", "MSIL1C"),
        BS,
        C6,
    ],
    "bs": [
        "..",
        "../../etc/passwd",
        "a\\b_CARD_BS",
        "S1A_../../x_CARD_BS",
        f"{BS}/x_CARD_BS",
        "A" * 120,
        C6,
        S2.format("N0214"),
    ],
    "c6": ["../../etc/passwd", "S1A_x/../../y_CARD-COH6", f"{C6} x", "A" * 120, BS, C6.replace("COH6", "COH12")],
}


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_hostile_references(workspace: Workspace, proxy: FaultyS3, card: str, tmp_path: Path) -> None:
    """Failed, with the reason; the store is not asked about them, and no path is touched."""
    workspace.add_parcels(squares(3))
    workspace.write_others()
    workspace.s3["host"] = proxy.endpoint
    rows = {reference: workspace.add_row(reference, card=card) for reference in HOSTILE[card]}
    workspace.write_config()
    before = {path for path in tmp_path.rglob("*") if "output" not in str(path)}

    outcome = workspace.run(card, "--all", configure=False)

    assert outcome.code == 1
    assert len(outcome.errors) == len(rows)
    for reference, number in rows.items():
        assert workspace.status(number) == "failed", reference
        (log,) = workspace.log(number)
        assert log["outcome"] == "failed"
        assert "reference" in log["detail"]
    # Once, whether it holds anything of the kind.
    assert len(proxy.requests) == 1
    after = {path for path in tmp_path.rglob("*") if "output" not in str(path)}
    assert after - before <= {workspace.data}
    assert workspace.files() == []
    assert workspace.rows() == 0


def test_bands_keep_apart(workspace: Workspace) -> None:
    """VV and VH, B4 and B8 are not mixed up: their numbers are far from each other."""
    workspace.add_parcels(squares(4))
    low, high = optical(), radar()
    low["B04"] = low["B04"] // 10 + 1
    low["B08"] = low["B08"] // 10 + 20_000
    scenes = [workspace.add_s2(bands=low), workspace.add_bs(bands=high), workspace.add_c6(bands=high)]
    for scene in scenes:
        assert workspace.run(scene.card).code == 0
    limits = {"B4": (1, 1_001), "B8": (20_000, 22_000), "VH": (0.05, 0.2), "VV": (0.4, 0.6)}
    for scene in scenes:
        found = {key: mean for key, (_, mean, *_) in workspace.signatures(scene).items() if key[1] in limits}
        assert len(found) == 2 * 4
        for (_, band), mean in found.items():
            assert limits[band][0] < mean < limits[band][1], (scene.card, band)
