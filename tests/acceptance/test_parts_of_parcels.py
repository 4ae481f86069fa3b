"""Parcels of several parts: empty ones, and ones far apart."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from psycopg2 import sql

from tests.support.ground import GRID, Array, cell, classes, red, squares
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

TILE = 10_980
"""Pixels of a whole tile's side."""


@pytest.mark.parametrize("chunk_size", [2000, 7, 1])
@pytest.mark.parametrize("engine", ["scanline", "rasterstats"])
def test_empty_parts(workspace: Workspace, chunk_size: int, engine: str) -> None:
    """Three rows for each, and no chunk is computed twice."""
    workspace.extraction.update(chunk_size=chunk_size, engine=engine)
    parcels = dict(workspace.add_parcels(squares(20)))
    other = cell(2 + 8 * 5 - 1, 2 + 8 * 2)
    rings = {pid: geometry.wkt.removeprefix("POLYGON ") for pid, geometry in {**parcels, 0: other}.items()}
    odd = {
        8: f"MULTIPOLYGON(EMPTY,{rings[8]})",
        9: f"MULTIPOLYGON({rings[9]},EMPTY,EMPTY)",
        10: f"MULTIPOLYGON(EMPTY,{rings[10]},{rings[0]},EMPTY)",
        11: f"GEOMETRYCOLLECTION(POLYGON EMPTY,MULTIPOLYGON(EMPTY,{rings[11]}))",
    }
    workspace.query("ALTER TABLE parcels ALTER wkb_geometry TYPE geometry")
    for pid, wkt in odd.items():
        workspace.query("UPDATE parcels SET wkb_geometry = ST_GeomFromText(%s, %s) WHERE ogc_fid = %s", wkt, 32633, pid)
    parcels[10] = parcels[10].union(other)
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    (log,) = workspace.log(scene)
    assert log["chunks_recomputed"] == 0
    assert log["rows_written"] == {"B4": 20, "B8": 20, "SC": 20}


def test_two_pieces_seventy_kilometres_apart(workspace: Workspace) -> None:
    """800 pixels of 10 m in a whole tile, and 200 of 20 m; a neighbour in between; one that really is too large."""
    first, last = cell(500, 700, 20, 20), cell(500 + 7000, 700 + 7000, 20, 20)
    workspace.add_parcels([shapely.MultiPolygon([first, last]), cell(4000, 4000), cell(10, 10, 9000, 9000)])
    area = sql.SQL("ST_MakeEnvelope(%s, %s, %s, %s, 32633)")
    side = TILE * GRID.pixel
    workspace.query(
        sql.SQL("UPDATE aois SET wkb_geometry = ST_Transform({}, 4326)").format(area),
        GRID.left, GRID.top - side, GRID.left + side, GRID.top,
    )  # fmt: skip
    fine: dict[str, Array] = {name: np.full((TILE, TILE), 7, np.uint16) for name in ("B04", "B08")}
    coarse: Array = np.full((TILE // 2, TILE // 2), 4, np.uint8)
    for number, corner in enumerate((500, 7500)):
        pieces = slice(corner + 200, corner + 220), slice(corner, corner + 20)
        for name, array in fine.items():
            array[pieces] = red(number + len(name), (20, 20)) + 1
        halves = slice(corner // 2 + 100, corner // 2 + 110), slice(corner // 2, corner // 2 + 10)
        coarse[halves] = classes(number, (10, 10)) + 1
    scene = workspace.add_s2(bands={**fine, "SCL": coarse})
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    found = workspace.signatures(scene)
    for band, array, number in (("B4", fine["B04"], 800), ("B8", fine["B08"], 800), ("SC", coarse, 200)):
        share = TILE // len(array)  # 1 or 2: pixels of 10 or 20 m
        pixels = np.concatenate(
            [
                array[top // share : (top + 20) // share, left // share : (left + 20) // share].ravel()
                for top, left in ((700, 500), (7700, 7500))
            ]
        )
        assert found[1, band][0] == number == len(pixels)
        assert found[1, band][1] == pytest.approx(pixels.mean(), rel=1e-6)
        assert found[1, band][3:5] == (pixels.min(), pixels.max())
        assert found[2, band][:2] == ((36, 7) if band != "SC" else (9, 4))
    (log,) = workspace.log(scene)
    assert log["parcels_without_row"]["B4"] == {"too_large": 1}
    assert log["chunks_recomputed"] == 0
