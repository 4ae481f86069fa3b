"""The product's own metadata: the offset of each band, from real files of each baseline and from ones made up."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from demo.metadata import BAND_IDS, all_bands, metadata
from extractors import s2
from extractors.config import Extraction
from extractors.errors import SceneError, UnusableSceneError
from extractors.model import Product, Scene
from extractors.products import metadata as reading
from extractors.products.metadata import radiometry_of_name, read_radiometry
from tests.support.environment import ROOT
from tests.unit.test_cards import DAY, S2, Listing, product, scene, wanted

REAL = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared")) / "metadata"
FILES = sorted(REAL.glob("*__MTD_MSIL2A.xml"))


@pytest.mark.skipif(not FILES, reason=f"real metadata are not at {REAL} (SHARED_DIR names another folder)")
def test_real_files() -> None:
    """Baselines 02.07 to 05.09, Collection 1, and one of CloudFerro's own processing."""
    found = {path.name.split("_")[3]: read_radiometry(path, "there") for path in FILES}
    assert len(found) == len(FILES) >= 10
    with_offset = {name for name, read in found.items() if set(read.offsets.values()) == {-1000.0}}
    without = {name for name, read in found.items() if set(read.offsets.values()) == {0.0}}
    assert with_offset == {"N0400", "N0500", "N0509"}
    assert with_offset | without == found.keys()
    assert "N9999" in without
    for name, read in found.items():
        assert read.offsets.keys() == set(BAND_IDS)
        assert read.baseline == f"{name[1:3]}.{name[3:]}"
        assert read.origin == "there"


def read(content: bytes, folder: Path) -> dict[str, float]:
    path = folder / "MTD_MSIL2A.xml"
    path.write_bytes(content)
    return dict(read_radiometry(path, "there").offsets)


def test_without_a_list_there_is_no_offset(tmp_path: Path) -> None:
    assert read(metadata("03.01"), tmp_path) == dict.fromkeys(BAND_IDS, 0.0)
    assert read(metadata("99.99"), tmp_path) == dict.fromkeys(BAND_IDS, 0.0)
    # The list decides, and not the number.
    assert read(metadata("99.05", all_bands()), tmp_path) == dict.fromkeys(BAND_IDS, -1000.0)
    assert read(metadata("05.00"), tmp_path) == dict.fromkeys(BAND_IDS, 0.0)


@pytest.mark.parametrize("psd", [14, 15])
@pytest.mark.parametrize("indent", ["", "\n      "])
def test_every_band_has_its_own_offset_in_any_order(psd: int, indent: str, tmp_path: Path) -> None:
    numbers = [7, 0, 12, 8, 3, 1, 2, 11, 10, 9, 6, 5, 4]
    offsets: dict[int | str, int | float | str] = {number: -1000 - number for number in numbers}
    found = read(metadata("05.11", offsets, psd=psd, indent=indent), tmp_path)
    assert found == {band: -1000.0 - number for number, band in enumerate(BAND_IDS)}
    assert (found["B04"], found["B08"], found["B8A"], found["B09"]) == (-1003, -1007, -1008, -1009)


def test_another_prefix_or_none(tmp_path: Path) -> None:
    """Elements are known by their local names."""
    content = metadata("04.00", all_bands())
    assert read(content.replace(b"n1:", b"other:").replace(b":n1", b":other"), tmp_path)["B04"] == -1000
    assert read(content.replace(b"n1:", b"").replace(b"xmlns:n1", b"xmlns"), tmp_path)["B04"] == -1000


def test_a_band_of_which_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "MTD_MSIL2A.xml"
    path.write_bytes(metadata("04.00", {3: -1000, 8: -900}))
    found = read_radiometry(path, "there")
    assert [found.offset_of(band) for band in ("B04", "B04_20m", "B8A", "SCL", "AOT", "WVP_60m")] == [
        -1000, -1000, -900, 0, 0, 0,
    ]  # fmt: skip
    with pytest.raises(UnusableSceneError, match="there lists offsets, and none for B08"):
        found.offset_of("B08_10m")


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><Level-2A_User_Product><PROCESSING_BASELINE>&i;</PROCESSING_BASELINE></Level-2A_User_Product>"
).encode()
OUTSIDE = (
    b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    b"<Level-2A_User_Product><PROCESSING_BASELINE>&e;</PROCESSING_BASELINE></Level-2A_User_Product>"
)
WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is no XML"),
    "cut": (metadata("04.00", all_bands())[:-40], "is no XML"),
    "not XML": (b"<html><body>Not found<br></body></html>", "is no XML"),
    "zeros": (bytes(2000), "is no XML"),
    "an encoding that does not exist": (metadata().replace(b"UTF-8", b"UTF-9"), "is no XML"),
    "an encoding that cannot be": (metadata().replace(b"UTF-8", b"utf-7"), "is no XML"),
    "entities": (LAUGHS, "declares a document type"),
    "an entity from outside": (OUTSIDE, "declares a document type"),
    "a document type from outside": (
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">' + metadata().partition(b"\n")[2],
        "declares a document type",
    ),
    "another document": (b"<Level-1C_User_Product/>", "is not the metadata of a level 2A product"),
    "no baseline": (
        metadata().replace(b"PROCESSING_BASELINE", b"BASELINE"),
        "is not the metadata of a level 2A product",
    ),
    "no number": (metadata("04.00", {3: "minus"}), "lists the offset 'minus' for band '3'"),
    "an infinite offset": (metadata("04.00", {3: "-inf"}), "lists the offset '-inf' for band '3'"),
    "no offset": (metadata("04.00", {3: ""}), "lists the offset '' for band '3'"),
    "no such band": (metadata("04.00", {13: -1000}), "lists the offset '-1000' for band '13'"),
    "a band by name": (metadata("04.00", {"B04": -1000}), "lists the offset '-1000' for band 'B04'"),
    "a band in other digits": (metadata("04.00", {"\u0663": -1000}), "lists the offset '-1000' for band"),
    "no band": (
        metadata("04.00", {3: -1000}).replace(b' band_id="3"', b""),
        "lists the offset '-1000' for band None",
    ),
    "two offsets for a band": (
        metadata("04.00", {"3": -1000, "03": -900}),
        "lists two offsets for B04: -1000 and -900",
    ),
    "another scale": (metadata("04.00", all_bands(), quantification=1000), "is multiplied by '1000', not 10000"),
    "no scale": (metadata("04.00", all_bands(), quantification=""), "is multiplied by '', not 10000"),
}


@pytest.mark.parametrize(("content", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_used(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableSceneError, match=re.escape(words)) as caught:
        read(content, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(UnusableSceneError, match=r"has 5,00\d,\d{3} bytes"):
        read(metadata("04.00", all_bands()) + b" " * 5_000_000, tmp_path)


def test_the_same_offset_twice_is_one(tmp_path: Path) -> None:
    assert read(metadata("04.00", {"3": -1000, "03": "-1000.0"}), tmp_path) == {"B04": -1000.0}


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [
        ("0204", 0), ("0301", 0), ("0399", 0), ("0400", -1000), ("0500", -1000), ("0511", -1000), ("9899", -1000),
        ("9900", 0), ("9999", 0),
    ],
)  # fmt: skip
def test_what_the_name_tells(baseline: str, offset: int) -> None:
    name = S2.replace("N0214", f"N{baseline}")
    found = radiometry_of_name(f"Sentinel-2/MSI/L2A_N0500/2020/10/01/{name}.SAFE/")
    assert found.baseline == f"{baseline[:2]}.{baseline[2:]}"
    assert found.offsets == dict.fromkeys(BAND_IDS, offset)


# Finding it


def found(*keys: str, fallback: str | None = None) -> tuple[list[str], object]:
    settings = Extraction.model_validate({"radiometry": "harmonised", "radiometry_fallback": fallback})
    product_found = s2.CARD.find(Scene(*vars(scene(S2)).values()), Listing(*keys), settings)
    return keys_of(product_found), product_found.radiometry


def keys_of(product_found: Product) -> list[str]:
    return [item.key for item in product_found.objects]


def test_it_is_part_of_the_product_only_if_it_is_wanted() -> None:
    folder = f"{DAY}/{S2}.SAFE"
    keys, radiometry = found(*product(folder))
    assert keys == [*wanted(folder), f"{folder}/MTD_MSIL2A.xml"]
    assert radiometry is not None
    raw = s2.CARD.find(scene(S2), Listing(*product(folder)), Extraction())
    assert keys_of(raw) == wanted(folder)
    assert raw.radiometry is None


def test_it_may_lie_deeper() -> None:
    folder = f"{DAY}/{S2}.SAFE"
    others = [key for key in product(folder) if not key.endswith("MTD_MSIL2A.xml")]
    deeper = [f"{folder}/more/MTD_MSIL2A.xml", f"{folder}/more/and/MTD_MSIL2A.xml"]
    assert found(*others, *deeper)[0][-1] == deeper[0]
    # Others are other files.
    with pytest.raises(SceneError, match=r"has no MTD_MSIL2A\.xml"):
        found(*others, f"{folder}/MTD_MSIL2A.xml.bak", f"{folder}/OLD_MTD_MSIL2A.xml")


def test_without_it_the_name_may_be_believed() -> None:
    folder = f"{DAY}/{S2}.SAFE"
    others = [key for key in product(folder) if not key.endswith("MTD_MSIL2A.xml")]
    with pytest.raises(SceneError, match='write "radiometry_fallback": "baseline"'):
        found(*others)
    keys, radiometry = found(*others, fallback="baseline")
    assert keys == wanted(folder)
    assert radiometry is not None
    # Where it is, it is read.
    assert found(*product(folder), fallback="baseline")[0][-1] == f"{folder}/MTD_MSIL2A.xml"


def test_one_that_is_too_large_is_not_even_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 4)
    with pytest.raises(UnusableSceneError, match="has 5 bytes"):
        found(*product(f"{DAY}/{S2}.SAFE"))
