"""Files that are what the store announces and cannot be used all the same: one attempt, one download, one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from demo import products, tables
from demo.products import Grid
from tests.faulty_s3 import FaultyS3
from tests.support.ground import GRID, SHAPE, footprint, ground, optical, radar, squares
from tests.support.workspace import Workspace

FAR = Grid(GRID.epsg, GRID.left + 100_000, GRID.top, GRID.pixel)


def refused(workspace: Workspace, card: str, scene: int) -> str:
    """Run the worker: the scene fails at once, though more attempts are allowed. Why, in the log's words."""
    workspace.extraction.update(max_attempts=5, retry_pause_seconds=0)
    outcome = workspace.run(card, "--all")
    assert (outcome.code, len(outcome.errors)) == (1, 1), outcome.stderr
    assert workspace.status(scene) == "failed"
    (log,) = workspace.log(scene)
    assert log["outcome"] == "failed"
    assert workspace.rows() == 0
    assert log["detail"] in outcome.errors[0]
    return str(log["detail"])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no CRS", "has no CRS"),
        ("south up", "is not on a north-up grid"),
        ("complex", "complex64"),
        ("another format", "cannot be read as GTiff"),
        ("a web page", "cannot be read as GTiff"),
        ("cut", "cannot be read as GTiff"),
    ],
)
def test_c6(workspace: Workspace, proxy: FaultyS3, kind: str, words: str, tmp_path: Path) -> None:
    workspace.s3["host"] = proxy.endpoint
    workspace.add_parcels(squares(9))
    scene = workspace.add_c6()
    transform = Affine(10, 0, GRID.left, 0, 10, GRID.top - 600) if kind == "south up" else GRID.transform
    path = tmp_path / "other"
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG" if kind == "another format" else "GTiff", height=60, width=60, count=2,
        dtype={"complex": "complex64", "another format": "uint16"}.get(kind, "float32"),
        crs=None if kind == "no CRS" else CRS.from_epsg(GRID.epsg), transform=transform,
    ) as file:  # fmt: skip
        file.write(np.ones((2, *SHAPE), file.dtypes[0]))
    body = {"a web page": b"<html>not here</html>", "cut": path.read_bytes()[:3_000]}.get(kind, path.read_bytes())
    workspace.write(scene.keys["tif"], body)
    assert words in refused(workspace, "c6", scene.id)
    assert proxy.asked_for(".tif") == 1


def test_bs_another_size_than_its_header_says(workspace: Workspace) -> None:
    workspace.add_parcels(squares(9))
    scene = workspace.add_bs()
    workspace.write(scene.keys["Gamma0_VV.img"], bytes(100))
    assert "Gamma0_VV.img" in refused(workspace, "bs", scene.id)


def test_s2_not_jpeg2000(workspace: Workspace) -> None:
    workspace.add_parcels(squares(9))
    scene = workspace.add_s2()
    workspace.write(scene.keys["SCL"], b"<html>not here</html>")
    assert "SCL" in refused(workspace, "s2", scene.id)


def manifest_of(content: bytes, key: str) -> bytes:
    """What a product's manifest says of one file."""
    return (
        f'<x:XFDU><dataObject><byteStream size="{len(content)}"><fileLocation href="./{key.partition(".SAFE/")[2]}"/>'
        f'<checksum checksumName="SHA3-256">{hashlib.sha3_256(content).hexdigest()}</checksum></byteStream>'
        "</dataObject></x:XFDU>"
    ).encode()


def test_s2_with_a_random_tail(workspace: Workspace) -> None:
    """Its own MD5 is right, its markers are there; only the product's manifest tells."""
    workspace.add_parcels(squares(9))
    scene = workspace.add_s2()
    key = scene.keys["B04"]
    sound = workspace.read(key)
    workspace.write(key.partition("GRANULE/")[0] + "manifest.safe", manifest_of(sound, key))
    workspace.run("s2")
    assert workspace.status(scene) == "extracted"
    workspace.query("TRUNCATE signatures; UPDATE dias_catalogue SET status = 'ingested'")
    half = len(sound) // 2
    workspace.write(key, sound[:half] + np.random.default_rng(1).bytes(len(sound) - half - 2) + sound[-2:])
    workspace.extraction.update(max_attempts=5, retry_pause_seconds=0)
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, workspace.status(scene), workspace.rows()) == (1, "failed", 0)
    assert "is not what the product's manifest.safe says" in str(workspace.log(scene)[-1]["detail"])


# The right file in the wrong place


@pytest.mark.parametrize(
    "grid",
    [
        FAR,
        Grid(GRID.epsg, GRID.left, GRID.top - 100_000, GRID.pixel),
        Grid(32733, GRID.left, GRID.top, GRID.pixel),
        Grid(32632, GRID.left, GRID.top, GRID.pixel),
    ],
    ids=["100 km east", "100 km south", "the other hemisphere", "the next zone"],
)
@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_an_image_that_does_not_meet_its_footprint(workspace: Workspace, grid: Grid, card: str) -> None:
    """Both boxes are given."""
    workspace.add_parcels(squares(9))
    scene = {
        "s2": lambda: workspace.add_s2(bands=optical(), grid=grid),
        "bs": lambda: workspace.add_bs(bands=radar(), grid=grid),
        "c6": lambda: workspace.add_c6(bands=radar(), grid=grid),
    }[card]()
    where = footprint(ground(0))
    workspace.query("UPDATE dias_catalogue SET footprint = ST_GeomFromText(%s, 4326)", where)
    reason = refused(workspace, card, scene.id)
    assert "does not meet the catalogue's footprint" in reason
    assert f"{grid.left:.7g}" in reason
    assert f"EPSG:{grid.epsg}" in reason


def test_one_band_elsewhere(workspace: Workspace, tmp_path: Path) -> None:
    """A sibling: the others meet it."""
    workspace.add_parcels(squares(9))
    scene = workspace.add_s2()
    other = products.write_s2(tmp_path, scene.reference, {"B08": scene.bands["B08"]}, FAR)
    workspace.write(scene.keys["B08"], (tmp_path / other["B08"]).read_bytes())
    assert "B08 is at" in refused(workspace, "s2", scene.id)


def test_an_image_that_meets_a_corner_of_its_footprint(workspace: Workspace) -> None:
    """Enough: footprints are rough. Parcels that lie outside are counted."""
    workspace.add_parcels(squares(9))
    scene = workspace.add_c6(grid=Grid(GRID.epsg, GRID.left + 580, GRID.top - 580, GRID.pixel))
    workspace.query("UPDATE dias_catalogue SET footprint = ST_GeomFromText(%s, 4326)", footprint(ground(0)))
    outcome = workspace.run("c6")
    assert (outcome.code, workspace.status(scene)) == (0, "extracted")
    (log,) = workspace.log(scene)
    assert log["parcels_without_row"] == {band: {"outside": 9} for band in ("VV", "VH")}
    assert len(outcome.warnings) == 1


def test_an_image_of_nothing(workspace: Workspace) -> None:
    """Extracted with 0 rows, which is a warning."""
    workspace.add_parcels(squares(9))
    scene = workspace.add_bs(bands={name: np.zeros(SHAPE, "float32") for name in ("VV", "VH")})
    outcome = workspace.run("bs")
    assert (outcome.code, workspace.status(scene), workspace.rows()) == (0, "extracted", 0)
    assert len(outcome.warnings) == 1


def test_a_footprint_across_180_degrees(workspace: Workspace) -> None:
    """Its box goes round the Earth, and meets every image."""
    grid = Grid(32701, 299_980.0, 8_100_000.0, 10.0)
    workspace.query("DROP TABLE parcels")
    tables.create_parcels(workspace.connection, "parcels", 32701)
    workspace.parcel_srid = 32701
    workspace.add_parcels(squares(3, grid=grid))
    scene = workspace.add_c6(grid=grid)
    ring = "POLYGON((179.99 -17.5, -178.9 -17.5, -178.9 -16.5, 179.99 -16.5, 179.99 -17.5))"
    workspace.query("UPDATE dias_catalogue SET footprint = ST_GeomFromText(%s, 4326)", ring)
    workspace.query("UPDATE aois SET wkb_geometry = ST_GeomFromText(%s, 4326)", ring)
    workspace.run("c6")
    assert "does not meet" not in str(workspace.log(scene)[0]["detail"])
