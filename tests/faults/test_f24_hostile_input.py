"""F24: names, references and files that were made to do harm, or that nobody thought of.

Injected through the configuration, the catalogue and the store: table names, areas and columns with quotes and SQL in
them, references that lead out of a folder or hold control characters, virtual rasters under other names, headers of
200,000 x 200,000 pixels, a password with blanks and percent signs. Asserted: taken literally or refused with a reason;
nothing outside the scratch directory is read or written, no table is harmed, memory stays bounded, no secret is shown.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from psycopg2 import sql

from demo import tables
from tests.faults import checker
from tests.faults.conftest import MakeSeason
from tests.faults.season import SHAPE, WHERE, Season
from tests.faults.spoilt_store import SpoiltStore
from tests.support.ground import GRID, footprint, ground
from tests.support.running import Running, wait_until

MEMORY_BYTES = 700_000_000
"""What a worker on these scenes may use at most; without anything special it is a third of that."""
HUGE = 200_000
SMALL_TILE = 785
"""In a huge image, as many tiles as JPEG 2000 can have: the decoder takes 10 kB for each, before it has read one."""
BLOCK = 20_480
"""Rows and columns of a block of 1.7 GB."""
CANARY = "canary-of-a-private-file"


def rename(season: Season, old: str, new: str) -> None:
    season.workspace.query(sql.SQL("ALTER TABLE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


# Names


def test_f24_names_of_tables(make_season: MakeSeason) -> None:
    """Every table and the column of the areas have names that end a quoted name and begin a statement.

    Without: quoting
    """
    season = make_season(s2=1, bs=1)
    names = {
        "catalogue_table": ("dias_catalogue", 'cat"; DROP TABLE aois; --'),
        "parcel_table": ("parcels", "par'cels\\'; DROP TABLE dias_catalogue; --"),
        "aoi_table": ("aois", "{aois} $1 :name"),
        "results_table": ("signatures", 'x"; DROP TABLE y; --'),
        "hists_table": ("hists", "COPY x FROM PROGRAM 'id'"),
    }
    for setting, (usual, hostile) in names.items():
        season.workspace.tables[setting] = hostile
        if setting not in ("results_table", "hists_table"):  # those the worker makes
            rename(season, usual, hostile)
    season.workspace.query("""CREATE TABLE y (); ALTER TABLE "{aois} $1 :name" RENAME name TO "na""me'; --" """)
    season.workspace.args["aoi_field"] = "na\"me'; --"
    for card in ("s2", "bs"):
        outcome = season.run(card, "--all")
        assert (outcome.code, outcome.errors) == (0, [])
    for usual, hostile in names.values():
        rename(season, hostile, usual)
    assert season.workspace.rows(table="hists") > 0
    assert season.workspace.one("SELECT to_regclass('y') IS NOT NULL")
    season.check()


@pytest.mark.parametrize("name", ["x%s", "x%(obsid)s", "a.b.c", "x" * 64, "\0", "  ", "x\0y"])
def test_f24_names_that_are_none(make_season: MakeSeason, name: str) -> None:
    """Refused at the start, before a session is opened.

    Without: none
    """
    season = make_season(bs=1)
    season.workspace.tables["results_table"] = name
    outcome = season.run("bs")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "results_table" in outcome.errors[0]
    assert "\0" not in outcome.output
    assert season.attempts() == []


def test_f24_names_of_areas(make_season: MakeSeason) -> None:
    """An area's name is a value, whatever is in it.

    Without: none
    """
    season = make_season(bs=4)
    outline = footprint(ground(200, shape=SHAPE))
    for name in ("O'Brien", "'); DROP TABLE aois; --", "%s %(aoi)s %%", "\\' OR 1=1; {aoi}"):
        tables.add_aoi(season.workspace.connection, name, outline)
        season.workspace.args["name"] = name
        outcome = season.run("bs")
        assert (outcome.code, outcome.errors) == (0, []), name
    season.check()


# References

GOOD = "S2A_MSIL2A_20200601T052345_N0214_R122_T33TWM_20200601T135108"
REFERENCES = {
    "s2": [
        "../../etc/passwd",
        "A" * 120,
        f"{GOOD}/../../../x",
        f"../{GOOD}",
        f"{GOOD[:30]}\n{GOOD[30:]}",
        f"{GOOD}.SAFE.SAFE",
        GOOD.replace("20200601T052345", "20209999T052345"),
        GOOD.replace("20200601T052345", "\u0662\u0660200601T052345"),
        "\x1b[2J\x1b]0;owned\x07",
        "%s%n%(message)s {0.__class__}",
        "2020-06-01T00:00:00Z ERROR forged\n2020-06-01T00:00:00Z INFO [scene 1] extracted",
    ],
    "bs": ["S1A_../../x_CARD_BS", "S1A_/etc/passwd_CARD_BS", "S1A_x%00_CARD_BS", "S1A_x\n_CARD_BS", "S1A__CARD_BS/.."],
    "c6": ["S1B_../x__1A__20200326T052345_CARD-COH6", "S1B_20200401T052345\r__1A__20200326T052345_CARD-COH6"],
}


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_f24_references(make_season: MakeSeason, spoilt: SpoiltStore, card: str) -> None:
    """None of them reaches the store or the disk; each scene fails once, in one line of printable text.

    Without: reference_check
    """
    season = make_season(**{card: 1})
    season.short()
    spoilt.serve(season.workspace, retry_seconds=0)
    hostile = []
    for number, reference in enumerate(REFERENCES[card]):
        rows = season.workspace.query(
            "INSERT INTO dias_catalogue (obstime, reference, sensor, card, footprint)"
            " VALUES (timestamp '2020-06-01' + %s * interval '1 day', %s, '1A', %s, ST_GeomFromText(%s, 4326))"
            " RETURNING id",
            number,
            reference,
            card,
            WHERE,
        )
        hostile.append(rows[0][0])
        season.oracle[hostile[-1]] = ""
    season.remember()
    season.workspace.write_config()
    before = files_outside(season)

    outcome = season.run(card, "--all")

    assert outcome.code == 1
    lines = [re.match(r"20\d\d-\d\d-\d\dT[0-9:]{8}Z ([A-Z]+) ", line) for line in outcome.stderr.split("\n")[:-1]]
    assert [line[1] for line in lines if line].count("ERROR") == len(hostile)
    assert None not in lines, outcome.stderr  # every line is one of ours
    assert outcome.stderr.replace("\n", "").isprintable()
    for scene in hostile:
        assert season.outcomes(scene) == ["failed"]
    (good,) = season.scenes[card]
    sound = season.products[good].reference.removesuffix(".SAFE")
    _, *others = [request.target for request in spoilt.requests if sound not in request.target]
    assert others == []  # but the look at the store before the first claim
    assert files_outside(season) == before
    season.check(extracted={good})


def files_outside(season: Season) -> set[Path]:
    """Every path of the test but the data directory and what commands print."""
    root = season.workspace.folder
    written = {season.workspace.data, *root.glob("output*")}
    return {path for path in root.parent.rglob("*") if not {path, *path.parents} & written}


# Files


def raw_vrt(source: Path) -> bytes:
    """A virtual raster that shows a file's bytes as the two bands of a coherence image."""
    rows, columns = SHAPE
    band = (
        '<VRTRasterBand dataType="Float32" band="{}" subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">'
        f"{source}</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>4</PixelOffset>"
        f"<LineOffset>{4 * columns}</LineOffset></VRTRasterBand>"
    )
    return (
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}"><SRS>EPSG:{GRID.epsg}</SRS>'
        f"<GeoTransform>{GRID.left}, {GRID.pixel}, 0, {GRID.top}, 0, -{GRID.pixel}</GeoTransform>"
        f"{band.format(1)}{band.format(2)}</VRTDataset>"
    ).encode()


def remote_vrt(url: str) -> bytes:
    """A virtual raster that makes GDAL ask another server."""
    rows, columns = SHAPE
    band = f'<SimpleSource><SourceFilename relativeToVRT="0">/vsicurl/{url}</SourceFilename></SimpleSource>'
    bands = "".join(f'<VRTRasterBand dataType="Float32" band="{n}">{band}</VRTRasterBand>' for n in (1, 2))
    return f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}">{bands}</VRTDataset>'.encode()


@pytest.mark.parametrize(("card", "file"), [("s2", "B04"), ("c6", "tif")])
def test_f24_virtual_raster(make_season: MakeSeason, spoilt: SpoiltStore, tmp_path: Path, card: str, file: str) -> None:
    """Opened as what it is, it would show a private file's bytes as statistics, or ask a server of its author's choice.

    Without: driver
    """
    season = make_season(**{card: 4})
    season.short(max_attempts=1)
    spoilt.serve(season.workspace)
    private = tmp_path / "private"
    private.write_bytes(np.full(SHAPE, 0.25, "float32").tobytes() + CANARY.encode())
    local, remote, *others = season.scenes[card]
    spoilt.swap(season.key(local, file), lambda body: raw_vrt(private))
    spoilt.swap(season.key(remote, file), lambda body: remote_vrt(f"{spoilt.endpoint}/elsewhere.tif"))
    outcome = season.run(card, "--all")
    assert (outcome.code, len(outcome.errors)) == (1, 2)
    assert season.outcomes(local) == season.outcomes(remote) == ["failed"]
    assert spoilt.asked_for("elsewhere", "GET") + spoilt.asked_for("elsewhere", "HEAD") == 0
    assert CANARY not in outcome.output
    season.check(extracted=set(others))


def huge_jp2(tile: int) -> Callable[[bytes], bytes]:
    """The same codestream, whose headers announce 200,000 x 200,000 pixels in square tiles of this size."""

    def change(body: bytes) -> bytes:
        at = body.index(b"ihdr") + 4
        body = body[:at] + struct.pack(">II", HUGE, HUGE) + body[at + 8 :]
        at = body.index(b"\xff\x4f\xff\x51") + 8  # SOC, SIZ, its length and capabilities
        return body[:at] + struct.pack(">8I", HUGE, HUGE, 0, 0, tile, tile, 0, 0)[:24] + body[at + 24 :]

    return change


def huge_header(body: bytes) -> bytes:
    """An ENVI header that announces 200,000 x 200,000 pixels."""
    text = re.sub(r"(?m)^samples = \d+$", f"samples = {HUGE}", body.decode())
    return re.sub(r"(?m)^lines = \d+$", f"lines = {HUGE}", text).encode()


def peak_memory(worker: Running) -> int:
    """The most memory that a worker has used until it ended, in bytes."""
    status = Path(f"/proc/{worker.process.pid}/status")
    most = 0

    def ended() -> bool:
        nonlocal most
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        most = max(most, 1024 * int(found[1]) if found else 0)
        if most > 2 * MEMORY_BYTES:
            worker.kill()  # before the machine has no more
        return worker.process.poll() is not None

    wait_until(ended, "the end of a worker", 90)
    return most


@pytest.mark.parametrize(
    ("card", "file", "change"),
    [
        ("s2", "B04", huge_jp2(HUGE)),
        ("s2", "B04", huge_jp2(SMALL_TILE)),
        ("bs", "Gamma0_VV.hdr", huge_header),
    ],
    ids=["jp2 of one tile", "jp2 of many tiles", "ENVI"],
)
def test_f24_huge_header(
    make_season: MakeSeason, spoilt: SpoiltStore, card: str, file: str, change: Callable[[bytes], bytes]
) -> None:
    """80 GB if it were true. The scene fails, with the memory of any other. (GDAL itself refuses all but the JPEG 2000
    of many tiles.)

    Without: integrity
    """
    season = make_season(**{card: 3})
    season.short(max_attempts=1)
    spoilt.serve(season.workspace)
    huge, *others = season.scenes[card]
    spoilt.swap(season.key(huge, file), change)
    worker = season.start(card, "--all")
    most = peak_memory(worker)
    outcome = worker.wait()
    assert outcome.code == 1, outcome.stderr
    assert 0 < most < MEMORY_BYTES
    assert season.outcomes(huge) == ["failed"]
    (attempt,) = season.attempts(huge)
    assert "unexpected" not in attempt["detail"]  # refused, not stumbled over: another machine might lend the memory
    season.check(extracted=set(others))


def test_f24_huge_block(make_season: MakeSeason, spoilt: SpoiltStore, tmp_path: Path) -> None:
    """A GeoTIFF of a few kilobytes that is one block of 1.7 GB, which GDAL reads as a whole. The scene fails, with the
    memory of any other.

    Without: decoded_limit
    """
    season = make_season(c6=3)
    season.short(max_attempts=1)
    spoilt.serve(season.workspace)
    path = tmp_path / "block.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=BLOCK, height=BLOCK, count=2, dtype="float32", crs=f"EPSG:{GRID.epsg}",
        transform=GRID.transform, tiled=True, blockxsize=BLOCK, blockysize=BLOCK, SPARSE_OK="TRUE", nodata=0,
    ):  # fmt: skip
        pass
    assert path.stat().st_size < 1_000_000
    huge, *others = season.scenes["c6"]
    spoilt.swap(season.key(huge, "tif"), lambda body: path.read_bytes())
    worker = season.start("c6", "--all")
    most = peak_memory(worker)
    assert worker.wait().code == 1
    assert 0 < most < MEMORY_BYTES
    assert season.outcomes(huge) == ["failed"]
    season.check(extracted=set(others))


def test_f24_sparse_tiff(make_season: MakeSeason, spoilt: SpoiltStore, tmp_path: Path) -> None:
    """A GeoTIFF of 200,000 x 200,000 pixels in a few kilobytes, which is no fault: all of it is nodata. The parcels
    have so many pixels in it that they are counted as too large; the worker's memory is that of any other scene.

    Without: too_large
    """
    season = make_season(c6=1)
    season.short(max_attempts=1)
    spoilt.serve(season.workspace)
    path = tmp_path / "sparse.tif"
    pixel = SHAPE[0] * GRID.pixel / HUGE
    with rasterio.open(
        path, "w", driver="GTiff", width=HUGE, height=HUGE, count=2, dtype="float32", crs=f"EPSG:{GRID.epsg}",
        transform=GRID.with_pixel(pixel).transform, tiled=True, blockxsize=2048, blockysize=2048, SPARSE_OK="TRUE",
        BIGTIFF="YES", nodata=0,
    ):  # fmt: skip
        pass
    assert path.stat().st_size < 1_000_000
    (scene,) = season.scenes["c6"]
    spoilt.swap(season.key(scene, "tif"), lambda body: path.read_bytes())
    worker = season.start("c6", "--all")
    most = peak_memory(worker)
    assert worker.wait().code == 0
    assert 0 < most < MEMORY_BYTES
    (attempt,) = season.attempts(scene)
    assert attempt["outcome"] == "extracted"
    assert all(set(reasons) == {"too_large"} for reasons in attempt["parcels_without_row"].values())
    assert season.workspace.rows() == 0
    checker.check_rest(season.workspace)
    checker.check_scratch(season.workspace)


# Passwords

ODD = "two words 100%s %(x)s 'q\" \\b=;"


@pytest.fixture
def odd_role(make_season: MakeSeason) -> Iterator[Season]:
    """A season whose worker has a name and a password that end the strings they are put into."""
    season = make_season(bs=1)
    name = f"o'br\"ien %s {os.urandom(4).hex()}"
    role = sql.Identifier(name)
    season.workspace.query(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(role, sql.Literal(ODD)))
    season.workspace.db_config["database"]["connection"] |= {"dbuser": name, "dbpasswd": ODD}
    yield season
    season.workspace.query(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
    season.workspace.query(sql.SQL("DROP ROLE {}").format(role))


def test_f24_password(odd_role: Season) -> None:
    """It reaches the server as it is.

    Without: none
    """
    outcome = odd_role.run("bs", "--all", "-v")
    assert outcome.code == 0, outcome.stderr
    assert ODD not in outcome.output
    odd_role.check()


@pytest.mark.parametrize("secret", ["it is=wrong 100% canary", "%canary%zz", "' canary=1 host=nowhere"])
def test_f24_wrong_password(odd_role: Season, secret: str) -> None:
    """Refused without showing any of it: formatted into a string, libpq would repeat the part it does not understand.

    Without: none
    """
    odd_role.workspace.db_config["database"]["connection"]["dbpasswd"] = secret
    outcome = odd_role.run("bs", "-v")
    assert outcome.code == 2
    assert "canary" not in outcome.output
    assert odd_role.attempts() == []
