"""Bands in files: written with rasterio or byte by byte into a temporary folder, and opened as the worker does."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from demo.products import Grid, write_bs, write_c6, write_s2
from extractors.errors import SceneError
from extractors.model import BandFile, ImageFormat
from extractors.raster import grids
from extractors.raster.grids import GridBands, Part
from extractors.raster.images import ImageFile
from extractors.raster.integrity import check_integrity
from extractors.raster.scene_bands import scene_bands
from extractors.statistics.grid import Grid as PixelGrid
from extractors.statistics.grid import Polygons, PolygonsOnGrid

UTM33 = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_100_000)
FIVE_BY_FOUR = np.arange(1, 21, dtype=np.float32).reshape(4, 5)


def write(path: Path, *arrays: Any, descriptions: tuple[str | None, ...] = (), **profile: Any) -> Path:
    """A GeoTIFF of one band per array; profile: what is not as usual."""
    profile = {"crs": UTM33, "transform": NORTH_UP, "dtype": "float32"} | profile
    rows, columns = np.shape(arrays[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", height=rows, width=columns, count=len(arrays), **profile
        ) as file:  # fmt: skip
            for number, array in enumerate(arrays, 1):
                file.write(np.asarray(array), number)
            for number, text in enumerate(descriptions, 1):
                if text is not None:
                    file.set_band_description(number, text)
    return path


@contextmanager
def open_bands(folder: Path, *files: BandFile, driver: str = "GTiff") -> Iterator[list[GridBands]]:
    """The bands of files that are all there."""
    with scene_bands(files, folder, ImageFormat(driver, 0)) as scene:
        yield scene.grids()


def opening(folder: Path, *files: BandFile, driver: str = "GTiff") -> str:
    """What opening them says; fails if they open."""
    with pytest.raises(SceneError) as caught, open_bands(folder, *files, driver=driver):
        pass
    message = str(caught.value)
    assert "\n" not in message
    return message


def indexes(folder: Path, *files: BandFile) -> dict[str, int]:
    """Band name -> number in its file."""
    with open_bands(folder, *files) as groups:
        return {band.name: band.stored.index for group in groups for band in group.bands}


def on(grid: PixelGrid, *shapes: shapely.Geometry) -> PolygonsOnGrid:
    """Polygons on a grid."""
    return Polygons(np.array(shapes, dtype=object)).on(grid)


# JPEG 2000: ISO 15444-1, annex I. A box is its length (4 bytes, itself included), its kind and its content.

SIGNATURE = bytes.fromhex("0000000c 6a502020 0d0a870a")
FILE_TYPE = bytes.fromhex("00000014 66747970 6a703220 00000000 6a703220")
CODESTREAM = bytes.fromhex("ff4f ff51 0102 0304 ff90 ffd9")


def box(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    return (8 + len(content) if length is None else length).to_bytes(4) + kind + content


def long_box(kind: bytes, content: bytes) -> bytes:
    """The form for more than 4 GB: length 1, and the real one in the 8 bytes after the kind."""
    return (1).to_bytes(4) + kind + (16 + len(content)).to_bytes(8) + content


WHOLE = {
    "the codestream at the end": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM),
    "other boxes before it": SIGNATURE + FILE_TYPE + box(b"asoc", b"GML") + box(b"jp2c", CODESTREAM),
    "a box after it": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM) + box(b"uuid", bytes(20)),
    "length 0, to the end of the file": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM, length=0),
    "a long length": SIGNATURE + FILE_TYPE + long_box(b"jp2c", CODESTREAM),
    "a long length before it": SIGNATURE + long_box(b"ftyp", b"jp2 ") + box(b"jp2c", CODESTREAM),
    "an empty box before it": SIGNATURE + FILE_TYPE + box(b"free", b"") + box(b"jp2c", CODESTREAM),
}

BROKEN = {
    "the signature only": SIGNATURE,
    "cut within a box's header": SIGNATURE + FILE_TYPE[:5],
    "cut within a box": SIGNATURE + FILE_TYPE[:-1],
    "cut between the boxes": SIGNATURE + FILE_TYPE,
    "cut within the codestream's header": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM)[:8],
    "cut within the codestream": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM)[:-6],
    "cut one byte before its end": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM)[:-1],
    "length 0, cut": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM[:-2], length=0),
    "length 0, one byte missing": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM[:-1], length=0),
    "a long length, cut": (SIGNATURE + FILE_TYPE + long_box(b"jp2c", CODESTREAM))[:-1],
    "a long length, cut within it": (SIGNATURE + FILE_TYPE + long_box(b"jp2c", CODESTREAM))[:42],
    "its last bytes are zeros": SIGNATURE + FILE_TYPE + box(b"jp2c", CODESTREAM[:-2] + b"\0\0"),
    "a box of impossible length": SIGNATURE + box(b"ftyp", b"", length=7) + box(b"jp2c", CODESTREAM),
    "no codestream": SIGNATURE + FILE_TYPE + box(b"uuid", bytes(20)),
    "zeros instead of boxes": SIGNATURE + bytes(100),
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_a_whole_jpeg2000_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "B04.jp2"
    path.write_bytes(content)
    check_integrity(path, "JP2OpenJPEG")


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_jpeg2000_file_that_has_lost_its_end(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "B04.jp2"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=rf"^B04\.jp2 is cut short: .* within its {len(content)} bytes; replace the"):
        check_integrity(path, "JP2OpenJPEG")


@pytest.mark.parametrize(
    "content",
    [b"", SIGNATURE[:5], b"<?xml version='1.0'?><Error/>", CODESTREAM, b"II*\0" + bytes(50)],
    ids=["empty", "the start of a signature", "an error page", "a bare codestream", "a TIFF"],
)
def test_not_a_jpeg2000_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "B04.jp2"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"^B04\.jp2 is not a JPEG 2000 file; see what the store holds"):
        check_integrity(path, "JP2OpenJPEG")


@pytest.fixture(scope="module")
def jpeg2000(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real file: 64 x 64 pixels of noise, lossless."""
    noise = np.random.default_rng(1).integers(1, 10_000, (64, 64), dtype=np.uint16)
    root = tmp_path_factory.mktemp("jp2")
    reference = "S2A_MSIL2A_20201001T103031_N0214_R108_T33TWM_20201001T135108"
    keys = write_s2(root, reference, {"B04": noise}, Grid(32633, 500_000, 5_100_000, 10))
    return (root / keys["B04"]).read_bytes()


def test_a_real_jpeg2000_file_is_read_as_written(jpeg2000: bytes, tmp_path: Path) -> None:
    path = tmp_path / "B04.jp2"
    path.write_bytes(jpeg2000)
    noise = np.random.default_rng(1).integers(1, 10_000, (64, 64), dtype=np.uint16)
    parcel = shapely.box(500_000, 5_099_980, 500_020, 5_100_000)
    with open_bands(tmp_path, BandFile("B04", "B04.jp2"), driver="JP2OpenJPEG") as (group,):
        (band,) = group.bands
        assert (band.name, band.srid, band.grid, band.nodata) == ("B04", 32633, PixelGrid(NORTH_UP, (64, 64)), 0)
        polygons = on(group.grid, parcel)
        for tile in group.tiles_under(polygons):
            tile()
        (part,) = group.parts(polygons)
    # Decoded where it lies: the array is that of the whole band.
    assert part.polygons is not None
    assert (part.chosen, part.polygons.grid) == (slice(0, 1), group.grid)
    (array,) = part.arrays
    assert array.tolist() == noise.tolist()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_real_jpeg2000_file_that_was_cut(kept: float, jpeg2000: bytes, tmp_path: Path) -> None:
    # GDAL would read the missing part as zeros, which is nodata, without an error.
    path = tmp_path / "B04.jp2"
    path.write_bytes(jpeg2000[: int(kept * len(jpeg2000))])
    assert "cut short" in opening(tmp_path, BandFile("B04", "B04.jp2"), driver="JP2OpenJPEG")


def test_a_file_that_is_decoded_is_opened_as_it_arrives(jpeg2000: bytes, tmp_path: Path) -> None:
    files = [BandFile(name, f"{name}.jp2") for name in ("B04", "B08")]
    with scene_bands(files, tmp_path, ImageFormat("JP2OpenJPEG", 0)) as scene:
        (tmp_path / "B04.jp2").write_bytes(jpeg2000)
        (red,) = scene.arrived(tmp_path / "B04.jp2")
        assert [band.name for band in red.bands] == ["B04"]
        (((tile,), bounds),) = red.all_tiles()
        assert bounds == (500_000, 5_099_360, 500_640, 5_100_000)
        tile()
        with pytest.raises(SceneError, match=r"^B08\.jp2 is missing$"):
            scene.grids()
        (tmp_path / "B08.jp2").write_bytes(jpeg2000)
        (both,) = scene.grids()
        assert [band.name for band in both.bands] == ["B04", "B08"]
        # What has been decoded already is the same.
        (((first, second), _),) = both.all_tiles()
        assert first == tile
        assert first.band.array.any()
        assert not second.band.array.any()
        # Bands can be chosen; which of them are asked for decides of the order.
        (both,) = scene.grids(["B08", "B04"])
        assert [band.name for band in both.bands] == ["B08", "B04"]
        (one,) = scene.grids(["B08"])
        assert [band.name for band in one.bands] == ["B08"]


def test_a_broken_file_is_refused_as_it_arrives(tmp_path: Path) -> None:
    path = tmp_path / "B04.jp2"
    path.write_bytes(b"<?xml version='1.0'?><Error/>")
    with (
        scene_bands([BandFile("B04", "B04.jp2")], tmp_path, ImageFormat("JP2OpenJPEG", 0)) as scene,
        pytest.raises(SceneError, match=r"^B04\.jp2 is not a JPEG 2000 file"),
    ):
        scene.arrived(path)


def test_a_file_that_is_read_by_windows_can_wait_for_the_others(tmp_path: Path) -> None:
    path = envi(tmp_path)
    header = path.with_suffix(".hdr")
    text = header.read_text()
    header.unlink()
    with scene_bands([BandFile("VV", path.name)], tmp_path, ImageFormat("ENVI", 0)) as scene:
        assert scene.arrived(path) == []
        header.write_text(text)
        assert scene.arrived(header) == []
        (group,) = scene.grids()
        assert list(group.all_tiles()) == []
        assert group.tiles_under(on(group.grid, shapely.box(*group.grid.bounds))) == []


# ENVI

HEADER = """ENVI
description = {Gamma0_VV - Unit: intensity}
samples = 5
lines = 4
bands = 1
header offset = 0
file type = ENVI Standard
data type = 4
interleave = bsq
byte order = 1
band names = { Gamma0_VV }
map info = {UTM,1.5,1.5,500005.0,5099995.0,10.0,10.0,33,North,WGS84,units=Meters}
"""


def envi(folder: Path, header: str | None = HEADER, size: int = 80) -> Path:
    path = folder / "Gamma0_VV.img"
    path.write_bytes(bytes(size))
    if header is not None:
        path.with_suffix(".hdr").write_text(header)
    return path


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (HEADER, 80),
        (HEADER.replace("header offset = 0", "header offset = 16"), 96),
        (HEADER.replace("header offset = 0\n", ""), 80),
        (HEADER.replace("header offset = 0", "Header Offset = 16"), 96),
        (HEADER.replace("header offset = 0", "header_offset   = 16"), 96),
        (HEADER.replace("header offset = 0", "header offset = 0\nHEADER OFFSET = 16"), 96),
        (HEADER.replace("header offset = 0", "remark = {\nheader offset = 16 }"), 80),
        (HEADER.replace("header offset = 0", "; header offset = 16"), 80),
        (HEADER.replace("bands = 1\n", ""), 80),
        (HEADER.replace("data type = 4", "data type = 1"), 20),
        (HEADER.replace("data type = 4", "data type = 2"), 40),
        (HEADER.replace("data type = 4", "data type = 3"), 80),
        (HEADER.replace("data type = 4", "data type = 5"), 160),
        (HEADER.replace("data type = 4", "data type = 12"), 40),
        (HEADER.replace("data type = 4", "data type = 13"), 80),
        (HEADER.replace("\n", "\r\n"), 80),
        (HEADER.replace(" = ", "="), 80),
        (HEADER.replace("samples = 5", "  samples   =  5  "), 80),
    ],
    ids=[
        "as SNAP writes it", "offset", "no offset", "capitals", "an underscore", "twice", "in braces", "a remark",
        "no bands", "uint8", "int16", "int32", "float64",
        "uint16", "uint32", "lines of Windows", "no spaces", "many spaces",
    ],
)  # fmt: skip
def test_an_envi_file_has_the_size_that_its_header_announces(header: str, size: int, tmp_path: Path) -> None:
    path = envi(tmp_path, header, size)
    check_integrity(path, "ENVI")
    for wrong in (size - 1, size // 2, 0, size + 1):
        path.write_bytes(bytes(wrong))
        with pytest.raises(SceneError, match=rf"^Gamma0_VV\.img has {wrong} bytes, but its header announces {size} \("):
            check_integrity(path, "ENVI")


@pytest.mark.parametrize("value", ["16", "0", "8 "])
@pytest.mark.parametrize(
    "name",
    [
        "header offset",
        "Header Offset",
        "HEADER_OFFSET",
        " header offset",
        "header  offset",
        "header\toffset",
        "header offset\t",
        "x = {\n}\nheader offset",
        "x = {\nheader offset",
    ],
)
def test_an_envi_header_is_read_as_gdal_reads_it(name: str, value: str, tmp_path: Path) -> None:
    """Accepted if the size is that which GDAL reads: then it has the pixels that were written; refused otherwise."""
    pixels = FIVE_BY_FOUR.astype(">f4").tobytes()
    for skipped in (0, 8, 16):
        path = envi(tmp_path, HEADER.replace("header offset = 0", f"{name} = {value}"))
        path.write_bytes(bytes(skipped) + pixels)
        try:
            with open_bands(tmp_path, BandFile("VV", path.name), driver="ENVI") as (group,):
                (part,) = group.parts(on(group.grid, shapely.box(500_000, 5_099_960, 500_050, 5_100_000)))
        except SceneError:
            assert skipped != int(value) or "x = {" in name or "  " in name or "\t" in name
        else:
            assert part.arrays[0].tolist() == FIVE_BY_FOUR.tolist()


def test_an_envi_header_that_gdal_does_not_read_to_its_end(tmp_path: Path) -> None:
    """It stops at very long lines."""
    long = "x = " + "y" * 20_000
    path = envi(tmp_path, HEADER.replace("header offset = 0", f"{long}\nheader offset = 16"), 96)
    assert "is not understood by GDAL" in opening(tmp_path, BandFile("VV", path.name), driver="ENVI")


@pytest.mark.parametrize(
    "line",
    ["header offset = -16", "header offset = 16 bytes", "header offset = {16}", "header offset = 4294967312",
     "header offset = \u0661\u0666"],
)  # fmt: skip
def test_an_envi_header_with_an_offset_that_is_no_number(line: str, tmp_path: Path) -> None:
    for size in (80, 96):
        path = envi(tmp_path, None, size)
        path.with_suffix(".hdr").write_text(HEADER.replace("header offset = 0", line), encoding="utf-8")
        opening(tmp_path, BandFile("VV", path.name), driver="ENVI")


@pytest.mark.parametrize(
    ("change", "size", "words"),
    [
        (("bands = 1\n", "bands = 2\n"), 160, "announces 2 bands, uncompressed"),
        (("interleave = bsq\n", "interleave = bip\nBANDS = 2\n"), 160, "announces 2 bands, uncompressed"),
        (("interleave = bsq\n", "file compression = 1\n"), 80, "announces 1 bands, compressed"),
        (("interleave = bsq\n", "File Compression = 1\n"), 80, "announces 1 bands, compressed"),
        (("interleave = bsq\n", "x = " + " " * 70_000 + "\n"), 80, "over 65,536 bytes"),
    ],
    ids=["two bands", "bip", "compressed", "compressed, in capitals", "70 kB of blanks"],
)
def test_an_envi_file_holds_one_band_uncompressed(
    change: tuple[str, str], size: int, words: str, tmp_path: Path
) -> None:
    path = envi(tmp_path, HEADER.replace(*change), size)
    assert words in opening(tmp_path, BandFile("VV", path.name), driver="ENVI")


def test_an_envi_header_of_blanks_takes_no_time(tmp_path: Path) -> None:
    """Sixty thousand: an expression that tries every way to match them would take minutes."""
    path = envi(tmp_path, HEADER + " " * 60_000 + "x")
    with open_bands(tmp_path, BandFile("VV", path.name), driver="ENVI"):
        pass


def test_an_envi_file_without_its_header(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"^Gamma0_VV\.hdr is missing: without its header Gamma0_VV\.img cannot be"):
        check_integrity(envi(tmp_path, header=None), "ENVI")


@pytest.mark.parametrize("header", ["", "<?xml version='1.0'?><Error/>", "\0" * 80, "samples = 5"])
def test_an_envi_header_that_is_none(header: str, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"^Gamma0_VV\.hdr is not an ENVI header; see what the store holds"):
        check_integrity(envi(tmp_path, header), "ENVI")


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace("samples = 5\n", ""),
        HEADER.replace("lines = 4\n", ""),
        HEADER.replace("data type = 4\n", ""),
        HEADER.replace("data type = 4", "data type = 6"),
        HEADER.replace("samples = 5", "samples = five"),
        "ENVI",
    ],
    ids=["no samples", "no lines", "no type", "complex pixels", "samples in words", "nothing else"],
)
def test_an_envi_header_that_says_too_little(header: str, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"^Gamma0_VV\.hdr lacks samples, lines or a usable data type; replace the"):
        check_integrity(envi(tmp_path, header), "ENVI")


def test_an_envi_image_of_snap_is_read_as_written(tmp_path: Path) -> None:
    reference = "S1A_IW_GRDH_1SDV_20180821T052345_20180821T052410_023340_0289E6_6558_CARD_BS"
    grid = Grid(32733, 500_000, 5_100_000, 10)
    keys = write_bs(tmp_path, reference, datetime(2018, 8, 21), {"VV": FIVE_BY_FOUR}, grid)
    parcel = shapely.box(500_010, 5_099_970, 500_030, 5_099_990)
    with open_bands(tmp_path, BandFile("VV", keys["Gamma0_VV.img"]), driver="ENVI") as (group,):
        assert (group.bands[0].srid, group.grid.transform) == (32733, NORTH_UP)
        (part,) = group.parts(on(group.grid, parcel))
    (array,) = part.arrays
    assert array.tolist() == [[7, 8], [12, 13]]


# Formats


def test_a_missing_file(tmp_path: Path) -> None:
    assert opening(tmp_path, BandFile("VV", "coherence.tif")) == "coherence.tif is missing"


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG", "ENVI"])
def test_only_the_card_s_own_format_is_opened(driver: str, tmp_path: Path) -> None:
    # A VRT names other files, which could be any on this host.
    source = write(tmp_path / "source.tif", FIVE_BY_FOUR)
    path = tmp_path / "Gamma0_VV.img"
    path.write_text(
        f'<VRTDataset rasterXSize="5" rasterYSize="4"><VRTRasterBand dataType="Float32" band="1"><SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    path.with_suffix(".hdr").write_text("not a header either")
    assert "see what the store holds under this name" in opening(tmp_path, BandFile("VV", path.name), driver=driver)


def test_a_geotiff_that_was_cut(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.tif", np.ones((200, 200), np.float32)).read_bytes()
    path = tmp_path / "coherence.tif"
    path.write_bytes(whole[: len(whole) // 2])
    with open_bands(tmp_path, BandFile("VV", "coherence.tif")) as (group,):
        everything = on(group.grid, shapely.box(500_000, 5_098_000, 502_000, 5_100_000))
        with pytest.raises(SceneError, match=r"^coherence\.tif cannot be read as GTiff \(") as caught:
            list(group.parts(everything))
    assert "\n" not in str(caught.value)


def test_a_geotiff_that_has_lost_its_header(tmp_path: Path) -> None:
    path = tmp_path / "coherence.tif"
    path.write_bytes(b"II*\0" + bytes(100))
    assert opening(tmp_path, BandFile("VV", path.name)).startswith("coherence.tif cannot be read as GTiff (")


# CRS and grids


def test_no_crs(tmp_path: Path) -> None:
    path = write(tmp_path / "coherence.tif", FIVE_BY_FOUR, crs=None)
    assert opening(tmp_path, BandFile("VV", path.name)) == (
        "coherence.tif has no CRS with an EPSG code (none at all); replace the object"
    )


def test_a_crs_that_nobody_else_knows(tmp_path: Path) -> None:
    odd = CRS.from_proj4("+proj=tmerc +lat_0=1 +lon_0=2 +k=0.5 +x_0=3 +y_0=4 +ellps=WGS84 +units=m")
    path = write(tmp_path / "coherence.tif", FIVE_BY_FOUR, crs=odd)
    assert opening(tmp_path, BandFile("VV", path.name)).startswith("coherence.tif has no CRS with an EPSG code (")


@pytest.mark.parametrize(
    "transform",
    [
        Affine(10, 1, 500_000, 1, -10, 5_100_000),
        Affine(10, 0, 500_000, 0, 10, 5_099_960),
        Affine(-10, 0, 500_050, 0, -10, 5_100_000),
        Affine(0, 10, 500_000, -10, 0, 5_100_000),
    ],
    ids=["rotated", "south up", "mirrored", "turned on its side"],
)
def test_a_grid_that_is_not_north_up(transform: Affine, tmp_path: Path) -> None:
    path = write(tmp_path / "coherence.tif", FIVE_BY_FOUR, transform=transform)
    assert opening(tmp_path, BandFile("VV", path.name)).startswith(
        "coherence.tif is not on a north-up grid (transform ("
    )


def test_bands_in_different_crs(tmp_path: Path) -> None:
    write(tmp_path / "vv.tif", FIVE_BY_FOUR)
    write(tmp_path / "vh.tif", FIVE_BY_FOUR, crs=CRS.from_epsg(32634))
    assert opening(tmp_path, BandFile("VV", "vv.tif"), BandFile("VH", "vh.tif")) == (
        "the bands are in different CRS (VV in EPSG:32633, VH in EPSG:32634); they must share one"
    )


def test_bands_on_one_grid_belong_together(tmp_path: Path) -> None:
    write(tmp_path / "b04.tif", np.ones((4, 4)))
    write(tmp_path / "scl.tif", np.ones((2, 2)), transform=NORTH_UP @ Affine.scale(2))
    write(tmp_path / "b08.tif", np.ones((4, 4)))
    files = [BandFile("B04", "b04.tif"), BandFile("SCL", "scl.tif"), BandFile("B08", "b08.tif")]
    with open_bands(tmp_path, *files) as (fine, coarse):
        assert [band.name for band in fine.bands] == ["B04", "B08"]
        assert [band.name for band in coarse.bands] == ["SCL"]
        assert (fine.grid.shape, coarse.grid.shape) == ((4, 4), (2, 2))
        assert (fine.grid.transform.a, coarse.grid.transform.a) == (10, 20)


def test_the_same_transform_but_another_size_is_another_grid(tmp_path: Path) -> None:
    write(tmp_path / "vv.tif", np.ones((4, 4)))
    write(tmp_path / "vh.tif", np.ones((4, 3)))
    with open_bands(tmp_path, BandFile("VV", "vv.tif"), BandFile("VH", "vh.tif")) as groups:
        assert [group.grid.shape for group in groups] == [(4, 4), (4, 3)]


# Pixels


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex_int16"])
def test_complex_pixels(dtype: str, tmp_path: Path) -> None:
    path = write(tmp_path / "coherence.tif", np.ones((4, 5), np.complex64), dtype=dtype)
    assert (
        opening(tmp_path, BandFile("VV", path.name))
        == f"coherence.tif holds {dtype} pixels, which have no such statistics"
    )


@pytest.mark.parametrize("index", [0, 2, 3])
def test_too_few_bands(index: int, tmp_path: Path) -> None:
    path = write(tmp_path / "coherence.tif", FIVE_BY_FOUR)
    assert opening(tmp_path, BandFile("VV", path.name, index)) == (
        f"coherence.tif has 1 band(s): no band {index} for VV; replace the object"
    )


# The band by its description

TWO = (FIVE_BY_FOUR, FIVE_BY_FOUR)


@pytest.mark.parametrize(
    ("descriptions", "expected"),
    [
        (("coh_VH_01Apr2020", "coh_VV_01Apr2020"), {"VV": 2, "VH": 1}),
        (("coh_VV_01Apr2020", "coh_VH_01Apr2020"), {"VV": 1, "VH": 2}),
        (("vv", "vh"), {"VV": 1, "VH": 2}),
        (("mask", "VH", "VV"), {"VV": 3, "VH": 2}),
        ((), {"VV": 2, "VH": 1}),
        ((None, "coh_VV"), {"VV": 2, "VH": 1}),
        (("coh_VV", None), {"VV": 1, "VH": 2}),
        (("coh_HV_01Apr2020", "coh_HH_01Apr2020"), {"HH": 2, "HV": 1}),
        ((None, "coh_HH"), {"HH": 2, "HV": 1}),
        (("coh_VV",), {"VV": 1}),
        (("coh_HH", None, None), {"HH": 1}),
        (("mask", "coh_VV"), {"VV": 2}),
        (("VV", "VV"), {"VV": 2, "VH": 1}),
        (("VV", "VH", "VV"), {"VV": 2, "VH": 1}),
        (("coherence of VV and VH", None), {"VV": 2, "VH": 1}),
        ((None, "coherence of VV and VH"), {"VV": 2, "VH": 1}),
    ],
    ids=[
        "VH first", "VV first", "in small letters", "a third band", "none", "only one, as numbered",
        "only one, against the numbers", "HV first", "only HH", "one band", "one band of three", "one beside a mask",
        "the same name twice", "one name twice, one once", "both names in band 1",
        "both names in band 2",
    ],
)  # fmt: skip
def test_descriptions_come_before_numbers_if_they_name_every_band_once(
    descriptions: tuple[str | None, ...], expected: dict[str, int], tmp_path: Path
) -> None:
    path = write(tmp_path / "coherence.tif", *[FIVE_BY_FOUR] * (len(descriptions) or 2), descriptions=descriptions)
    assert (
        indexes(tmp_path, BandFile("VV", path.name, 2, described=True), BandFile("VH", path.name, 1, described=True))
        == expected
    )


def test_numbers_hold_if_descriptions_are_not_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "coherence.tif", *TWO, descriptions=("VH", "VV"))
    assert indexes(tmp_path, BandFile("VV", path.name, 1), BandFile("VH", path.name, 2)) == {"VV": 1, "VH": 2}


def test_the_described_band_is_the_one_that_is_read(tmp_path: Path) -> None:
    reference = "S1B_20200401T052345__1A__20200326T052345_CARD-COH6"
    both = {"VV": FIVE_BY_FOUR, "VH": np.divide(FIVE_BY_FOUR, 100)}
    grid = Grid(32633, 500_000, 5_100_000, 10)
    path = tmp_path / write_c6(tmp_path, reference, datetime(2020, 4, 1), both, grid, order=("VV", "VH"))
    files = [BandFile("VV", path.name, 2, described=True), BandFile("VH", path.name, 1, described=True)]
    with open_bands(path.parent, *files) as (group,):
        (part,) = group.parts(on(group.grid, shapely.box(500_000, 5_099_990, 500_020, 5_100_000)))
    vv, vh = part.arrays
    assert vv.tolist() == [[1, 2]]
    assert vh.tolist() == [[np.float32(0.01), np.float32(0.02)]]


# What files declare, for the log


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", {"number": 1}),
        ("data ignore value = 0\n", {"number": 1}),
        ("data ignore value = nan\n", {"number": 1}),
        ("data ignore value = -9999\n", {"number": 1, "nodata": "-9999"}),
        ("data gain values = {1.0}\ndata offset values = {0.0}\n", {"number": 1}),
        ("data gain values = {1.0E-4}\n", {"number": 1, "scale": 1e-4, "offset": 0}),
        ("data offset values = {-2}\n", {"number": 1, "scale": 1, "offset": -2}),
    ],
    ids=["nothing", "0", "NaN", "another value", "as SNAP writes it", "a gain", "an offset"],
)
@pytest.mark.parametrize("scaled", [True, False])
def test_what_is_recorded(header: str, expected: dict[str, Any], scaled: bool, tmp_path: Path) -> None:
    path = envi(tmp_path, HEADER + header)
    with scene_bands([BandFile("VV", path.name)], tmp_path, ImageFormat("ENVI", 0, scaled)) as scene:
        (band,) = scene.bands()
    assert band.settings == (
        expected if scaled else {name: value for name, value in expected.items() if name not in ("scale", "offset")}
    )
    json.dumps(band.settings, allow_nan=False)


# Windows


Read = Callable[..., list[Part]]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[GridBands]:
    """A raster of 4 x 5 pixels whose values count from 1, and a band with a hundred times that."""
    write(tmp_path / "raster.tif", FIVE_BY_FOUR, FIVE_BY_FOUR * 100)
    with open_bands(tmp_path, BandFile("VV", "raster.tif", 1), BandFile("VH", "raster.tif", 2)) as (group,):
        yield group


@pytest.fixture
def read(group: GridBands) -> Read:
    """The windows for some geometries."""
    return lambda *shapes: list(group.parts(on(group.grid, *shapes)))


def pixel(column: int, row: int) -> shapely.Polygon:
    """The outline of one pixel, 1 m within its edges."""
    left, top = 500_000 + 10 * column, 5_100_000 - 10 * row
    return shapely.box(left + 1, top - 9, left + 9, top - 1)


def grid_of(part: Part) -> PixelGrid:
    assert part.polygons is not None
    return part.polygons.grid


def test_the_window_holds_the_pixels_that_the_geometries_touch(read: Read) -> None:
    (part,) = read(pixel(1, 1), pixel(3, 2))
    vv, vh = part.arrays
    assert part.chosen == slice(0, 2)
    assert grid_of(part) == PixelGrid(Affine(10, 0, 500_010, 0, -10, 5_099_990), (2, 3))
    assert vv.tolist() == [[7, 8, 9], [12, 13, 14]]
    assert vh.tolist() == [[700, 800, 900], [1200, 1300, 1400]]


def test_the_window_is_cut_to_the_raster(read: Read) -> None:
    (part,) = read(shapely.box(499_000, 5_099_985, 500_015, 5_101_000))
    assert part.arrays[0].tolist() == [[1, 2], [6, 7]]
    assert grid_of(part).bounds == (500_000, 5_099_980, 500_020, 5_100_000)


def test_geometries_outside_need_no_window(read: Read) -> None:
    assert read(pixel(5, 0), pixel(9, 9)) == [Part(slice(0, 2), None, [])]
    assert read(pixel(-1, 0)) == [Part(slice(0, 1), None, [])]
    assert read() == []


def test_a_large_window_is_split_until_it_fits(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    corners = (pixel(0, 0), pixel(1, 0), pixel(3, 3), pixel(4, 3), pixel(4, 0))
    assert [part.chosen for part in read(*corners)] == [slice(0, 5)]
    monkeypatch.setattr(grids, "LARGEST_WINDOW_PIXELS", 4)
    parts = read(*corners)
    # 5 -> 2 + 3; the first two are neighbours; 3 -> 1 + 2; these two span four rows of one column
    assert [part.chosen for part in parts] == [slice(0, 2), slice(2, 3), slice(3, 5)]
    assert [part.arrays[0].tolist() for part in parts] == [[[1, 2]], [[19]], [[5], [10], [15], [20]]]


def test_a_large_parcel_is_read_piece_by_piece(group: GridBands, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[int] = []
    original = ImageFile.read

    def watched(self: ImageFile, index: int, rows: slice, columns: slice, into: Any = None) -> Any:
        windows.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return original(self, index, rows, columns, into)

    monkeypatch.setattr(ImageFile, "read", watched)
    monkeypatch.setattr(grids, "LARGEST_WINDOW_PIXELS", 10)
    monkeypatch.setattr(grids, "CELL", 3)
    (part,) = read(shapely.box(500_000, 5_099_960, 500_050, 5_100_000))
    assert [sorted(array.ravel().tolist()) for array in part.arrays] == [
        sorted((FIVE_BY_FOUR * factor).ravel().tolist()) for factor in (1, 100)
    ]
    assert max(windows) <= 9
    assert sum(windows) == 2 * FIVE_BY_FOUR.size
