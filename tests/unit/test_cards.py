"""The three CARDs: which references are theirs, and which objects of the store make up a product.

Real names are those of products that exist (or existed); made-up ones keep to the published grammar.
"""

from __future__ import annotations

import datetime as dt

import pytest

from extractors import bs, c1, c6, s2
from extractors.config import Extraction, Store
from extractors.errors import ObjectNotFoundError, SceneError, SceneNotFoundError
from extractors.labels import BANDS, PRESETS, label, layers
from extractors.model import BandFile, Scene, StoredObject
from extractors.products.card import Card
from extractors.products.store import ObjectStore


class Listing(ObjectStore):
    """A store whose listing is in memory; remembers what it was asked for."""

    def __init__(self, *keys: str) -> None:
        super().__init__(Store(host="http://127.0.0.1", bucket="eodata", anonymous=True))
        self.objects = [StoredObject(key, 5, "") for key in sorted(keys)]
        self.asked: list[str] = []

    def list_objects(self, prefix: str, most: int | None = None) -> list[StoredObject]:
        self.asked.append(prefix)
        return [item for item in self.objects if item.key.startswith(prefix)]


def scene(reference: str, obstime: dt.datetime = dt.datetime(2020, 10, 1, 10, 30, 31)) -> Scene:
    return Scene(7, reference, obstime, 1)


def keys(card: Card, reference: str, store: Listing, obstime: dt.datetime | None = None) -> list[str]:
    """The keys that make up the product."""
    wanted = scene(reference) if obstime is None else scene(reference, obstime)
    return [item.key for item in card.find(wanted, store, Extraction()).objects]


# References

ACCEPTED: list[tuple[Card, str]] = [
    (s2.CARD, "S2A_MSIL2A_20201001T103031_N0214_R108_T32UNF_20201001T135108.SAFE"),
    (s2.CARD, "S2A_MSIL2A_20201001T103031_N0214_R108_T32UNF_20201001T135108"),
    (s2.CARD, "S2B_MSIL2A_20210521T101559_N0300_R065_T33UUB_20210521T131630.SAFE"),
    (s2.CARD, "S2A_MSIL2A_20211231T105441_N0301_R051_T32VMH_20211231T135006.SAFE"),
    (s2.CARD, "S2A_MSIL2A_20180401T105031_N0207_R051_T31UFS_20180401T144530.SAFE"),
    (s2.CARD, "S2A_MSIL2A_20190807T073621_N0213_R092_T38SND_20190807T102313.SAFE"),
    (s2.CARD, "S2A_MSIL2A_20230405T105031_N0509_R051_T31UFS_20230405T162253.SAFE"),
    (s2.CARD, "S2A_MSIL2A_20180601T102021_N0500_R065_T32UPC_20230902T045008.SAFE"),
    (s2.CARD, "S2A_MSIL2A_20220128T152641_N0510_R025_T18NWL_20240507T153036.SAFE"),
    (s2.CARD, "S2B_MSIL2A_20250120T210529_N0511_R071_T01CCV_20250121T000408.SAFE"),
    (s2.CARD, "S2C_MSIL2A_20250120T210529_N0511_R071_T01CCV_20250121T000408.SAFE"),
    (bs.CARD, "S1A_IW_GRDH_1SDV_20240206T041137_20240206T041202_052433_06574A_9703_CARD_BS"),
    (bs.CARD, "S1A_IW_GRDH_1SDV_20180821T052345_20180821T052410_023340_0289E6_6558_CARD_BS"),
    (bs.CARD, "S1B_IW_GRDH_1SDV_20190301T172436_20190301T172501_015164_01C5BF_40F5_CARD_BS"),
    (c6.CARD, "S1B_20190620T053154__1A__20190614T053223_CARD-COH6"),
    (c6.CARD, "S1A_20240101T010035__1A__20231226T010010_20231226T010035_CARD-COH6"),
    (c1.CARD, "S1A_20240101T010035__1A__20231220T010010_20231220T010035_CARD-COH12"),
]


@pytest.mark.parametrize(("card", "reference"), ACCEPTED, ids=[reference for _, reference in ACCEPTED])
def test_real_references_are_accepted_by_their_card_only(card: Card, reference: str) -> None:
    card.check_reference(reference)
    for other in {one.code: one for one in (s2.CARD, bs.CARD, c6.CARD, c1.CARD)}.values():
        if other is not card:
            with pytest.raises(SceneError):
                other.check_reference(reference)


S2 = "S2A_MSIL2A_20201001T103031_N0214_R108_T32UNF_20201001T135108"
BS = "S1A_IW_GRDH_1SDV_20180821T052345_20180821T052410_023340_0289E6_6558_CARD_BS"
C6 = "S1B_20190620T053154__1A__20190614T053223_CARD-COH6"
C1 = "S1A_20240101T010035__1A__20231220T010010_20231220T010035_CARD-COH12"

HOSTILE = [
    "",
    ".",
    "..",
    "../../../etc/passwd",
    "/",
    "{good}/",
    "/{good}",
    "{good}/..",
    "../{good}",
    "{good}/../../other",
    "{good}\n",
    "\n{good}",
    " {good}",
    "{good} ",
    "{good}\0",
    "{good}.SAFE.SAFE",
    "{good}.safe",
    "{good}.zip",
    "{good}*",
    "{good}?x=1",
    "{good}#x",
    "{good}%2e%2e",
    "{good};DROP TABLE aois",
    "{good}'",
    '{good}"',
    "{good}\\",
    "{good}$(reboot)",
    "{good}\u202e",
    "{lower}",
]


@pytest.mark.parametrize(
    ("card", "good"), [(s2.CARD, S2), (bs.CARD, BS), (c6.CARD, C6), (c1.CARD, C1)], ids=["s2", "bs", "c6", "c1"]
)
@pytest.mark.parametrize("pattern", HOSTILE, ids=ascii)
def test_hostile_references_are_refused(pattern: str, card: Card, good: str) -> None:
    reference = pattern.format(good=good, lower=good.lower())
    with pytest.raises(SceneError) as caught:
        card.check_reference(reference)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(f" is not a product name of card {card.code}; fix it in the catalogue")


@pytest.mark.parametrize(
    ("card", "reference"),
    [
        (s2.CARD, f"{S2}{S2}"),
        (s2.CARD, S2.replace("MSIL2A", "MSIL1C")),
        (s2.CARD, S2.replace("S2A", "S2E")),
        (s2.CARD, S2.replace("S2A", "S3A")),
        (s2.CARD, S2.replace("20201001T103031", "2020100T103031")),
        (s2.CARD, S2.replace("N0214", "N214")),
        (s2.CARD, S2.replace("T32UNF", "T32unf")),
        # Digits, but not ASCII ones: Arabic-Indic and fullwidth.
        (s2.CARD, S2.replace("2020", "\u0662\u0660\u0662\u0660", 1)),
        (s2.CARD, S2.replace("N0214", "N\uff10\uff12\uff11\uff14")),
        (bs.CARD, BS.replace("CARD_BS", "CARD-BS")),
        (bs.CARD, BS.replace("CARD_BS", "COG.SAFE")),
        (bs.CARD, BS.replace("1SDV", "1SDÜ")),
        (bs.CARD, "S1A__CARD_BS"),
        (bs.CARD, f"S1A_{'x' * 101}_CARD_BS"),
        (c6.CARD, "S1A_20240101T010035__1A__20231220T010010_20231220T010035_CARD-COH12"),
        (c6.CARD, C6.replace("CARD-COH6", "CARD_COH6")),
        (c6.CARD, f"{C6}.tif"),
    ],
    ids=lambda value: value.code if isinstance(value, Card) else ascii(value),
)
def test_names_of_other_products_are_refused(card: Card, reference: str) -> None:
    with pytest.raises(SceneError):
        card.check_reference(reference)


def test_a_long_reference_is_not_shown_whole() -> None:
    with pytest.raises(SceneError) as caught:
        s2.CARD.check_reference("x" * 10_000)
    assert len(str(caught.value)) < 200
    assert "'..." in str(caught.value)


# Sentinel-2

DAY = "Sentinel-2/MSI/L2A/2020/10/01"
GRANULE = "GRANULE/L2A_T32UNF_A027561_20201001T103028"
"""Its time is not that of the product, so that it cannot be composed."""


def product(folder: str, granule: str = GRANULE, prefix: str = "") -> list[str]:
    """Keys as a product has them, those of bands that nobody asks for among them."""
    images = f"{folder}/{granule}/IMG_DATA"
    stem = f"{prefix}T32UNF_20201001T103031"
    return [
        f"{folder}/",
        f"{folder}/MTD_MSIL2A.xml",
        f"{folder}/manifest.safe",
        f"{folder}/{granule}/MTD_TL.xml",
        f"{folder}/{granule}/QI_DATA/MSK_CLDPRB_20m.jp2",
        f"{folder}/{granule}/QI_DATA/T32UNF_20201001T103031_PVI.jp2",
        *(f"{images}/R10m/{stem}_{band}_10m.jp2" for band in ("AOT", "B02", "B03", "B04", "B08", "TCI")),
        *(f"{images}/R20m/{stem}_{band}_20m.jp2" for band in ("B02", "B04", "B8A", "SCL")),
        *(f"{images}/R60m/{stem}_{band}_60m.jp2" for band in ("B02", "B04", "SCL")),
    ]


def wanted(folder: str, granule: str = GRANULE, prefix: str = "") -> list[str]:
    images = f"{folder}/{granule}/IMG_DATA"
    return [
        f"{images}/R10m/{prefix}T32UNF_20201001T103031_B04_10m.jp2",
        f"{images}/R10m/{prefix}T32UNF_20201001T103031_B08_10m.jp2",
        f"{images}/R20m/{prefix}T32UNF_20201001T103031_SCL_20m.jp2",
    ]


@pytest.mark.parametrize("stored", [f"{S2}.SAFE", S2], ids=["stored with .SAFE", "stored without"])
@pytest.mark.parametrize("reference", [f"{S2}.SAFE", S2], ids=["asked with .SAFE", "asked without"])
def test_s2_with_and_without_safe(reference: str, stored: str) -> None:
    assert keys(s2.CARD, reference, Listing(*product(f"{DAY}/{stored}"))) == wanted(f"{DAY}/{stored}")


def test_s2_looks_first_where_the_reference_says() -> None:
    both = Listing(*product(f"{DAY}/{S2}"), *product(f"{DAY}/{S2}.SAFE"))
    assert keys(s2.CARD, S2, both) == wanted(f"{DAY}/{S2}")
    assert keys(s2.CARD, f"{S2}.SAFE", both) == wanted(f"{DAY}/{S2}.SAFE")
    assert both.asked == [f"{DAY}/{S2}/", f"{DAY}/{S2}.SAFE/"]


def test_s2_reprocessed_products_lie_in_another_collection() -> None:
    folder = f"Sentinel-2/MSI/L2A_N0500/2020/10/01/{S2}.SAFE"
    assert keys(s2.CARD, S2, Listing(*product(folder))) == wanted(folder)


def test_s2_files_before_2018_have_a_prefix() -> None:
    folder = f"{DAY}/{S2}.SAFE"
    assert keys(s2.CARD, S2, Listing(*product(folder, prefix="L2A_"))) == wanted(folder, prefix="L2A_")


def test_s2_date_is_that_of_the_reference() -> None:
    # The catalogue's obstime may be of the day before or after.
    store = Listing(*product(f"{DAY}/{S2}.SAFE"))
    assert keys(s2.CARD, S2, store, dt.datetime(2020, 9, 30, 23, 59)) == wanted(f"{DAY}/{S2}.SAFE")


def test_s2_a_date_that_does_not_exist() -> None:
    store = Listing()
    with pytest.raises(SceneError, match="has no date in its name"):
        keys(s2.CARD, S2.replace("20201001T", "20201301T", 1), store)
    assert store.asked == []


def test_s2_a_complete_product_is_taken_before_an_incomplete_one() -> None:
    incomplete = [key for key in product(f"{DAY}/{S2}.SAFE") if "SCL_20m" not in key]
    complete = f"Sentinel-2/MSI/L2A_N0500/2020/10/01/{S2}.SAFE"
    assert keys(s2.CARD, S2, Listing(*incomplete, *product(complete))) == wanted(complete)


def test_s2_nothing_there() -> None:
    # A product whose name begins the same way is another product.
    store = Listing(*product(f"{DAY}/{S2}_2.SAFE"))
    with pytest.raises(SceneNotFoundError) as caught:
        keys(s2.CARD, S2, store)
    assert str(caught.value) == f"no product {S2}, with or without .SAFE, in L2A or L2A_N0500 of its date"
    assert len(store.asked) == 4


def test_s2_a_band_is_missing() -> None:
    folder = f"{DAY}/{S2}.SAFE"
    some = [key for key in product(folder) if not key.endswith(("_B08_10m.jp2", "_SCL_20m.jp2"))]
    with pytest.raises(SceneNotFoundError) as caught:
        keys(s2.CARD, S2, Listing(*some))
    assert str(caught.value) == f"{folder}/ lacks B08, SCL"


def test_s2_two_granules() -> None:
    folder = f"{DAY}/{S2}.SAFE"
    other = "GRANULE/L2A_T32UNF_A027561_20201001T103029"
    with pytest.raises(SceneError, match=r"^the product holds 2 files for B04: ") as caught:
        keys(s2.CARD, S2, Listing(*product(folder), *product(folder, granule=other)))
    assert not isinstance(caught.value, SceneNotFoundError)


@pytest.mark.parametrize(
    "key",
    [
        "{images}/R10m/T32UNF_20201001T103031_B04_10m.jp2.aux.xml",
        "{images}/R10m/old/T32UNF_20201001T103031_B04_10m.jp2",
        "{images}/R20m/T32UNF_20201001T103031_B04_10m.jp2",
        "{images}/R10m/T32UNF_20201001T103031_B04_20m.jp2",
        "{folder}/IMG_DATA/R10m/T32UNF_20201001T103031_B04_10m.jp2",
        "{folder}/preview/{granule}/IMG_DATA/R10m/T32UNF_B04_10m.jp2",
    ],
)
def test_s2_neighbours_of_a_band_are_not_taken_for_it(key: str) -> None:
    folder = f"{DAY}/{S2}.SAFE"
    neighbour = key.format(images=f"{folder}/{GRANULE}/IMG_DATA", folder=folder, granule=GRANULE)
    assert keys(s2.CARD, S2, Listing(*product(folder), neighbour)) == wanted(folder)


def test_s2_band_files() -> None:
    found = s2.CARD.find(scene(S2), Listing(*product(f"{DAY}/{S2}.SAFE")), Extraction())
    assert found.bands == (
        BandFile("B04", "T32UNF_20201001T103031_B04_10m.jp2"),
        BandFile("B08", "T32UNF_20201001T103031_B08_10m.jp2"),
        BandFile("SCL", "T32UNF_20201001T103031_SCL_20m.jp2"),
    )
    assert [item.file_name for item in found.objects] == [band.file_name for band in found.bands]
    assert found.manifest is not None and found.manifest.file_name == "manifest.safe"


# Backscatter

EVENING = dt.datetime(2018, 8, 21, 5, 23, 45)
BS_DATA = f"Sentinel-1/SAR/CARD-BS/2018/08/21/{BS}/{BS}.data"
BS_KEYS = [f"{BS_DATA}/Gamma0_{band}.{part}" for band in ("VV", "VH") for part in ("img", "hdr")]


def test_bs_keys() -> None:
    others = [f"{BS_DATA}/", f"{BS_DATA}/Gamma0_VV.img.aux.xml", f"{BS_DATA}/tie_point_grids/latitude.img"]
    assert keys(bs.CARD, BS, Listing(*BS_KEYS, *others), EVENING) == BS_KEYS


def test_bs_date_is_that_of_the_observation() -> None:
    with pytest.raises(ObjectNotFoundError) as caught:
        keys(bs.CARD, BS, Listing(*BS_KEYS), dt.datetime(2018, 8, 22))
    assert str(caught.value) == (f"bucket eodata has nothing under Sentinel-1/SAR/CARD-BS/2018/08/22/{BS}/{BS}.data/")


@pytest.mark.parametrize("lost", [0, 1, 2, 3], ids=["VV image", "VV header", "VH image", "VH header"])
def test_bs_a_file_is_missing(lost: int) -> None:
    rest = [key for number, key in enumerate(BS_KEYS) if number != lost]
    with pytest.raises(SceneNotFoundError) as caught:
        keys(bs.CARD, BS, Listing(*rest), EVENING)
    name = BS_KEYS[lost].rsplit("/", 1)[-1]
    assert str(caught.value) == f"bucket eodata has no {name} under {BS_DATA}/"
    assert caught.value.status == "notfound"


def test_bs_band_files() -> None:
    found = bs.CARD.find(scene(BS, EVENING), Listing(*BS_KEYS), Extraction())
    assert found.bands == (BandFile("VV", "Gamma0_VV.img"), BandFile("VH", "Gamma0_VH.img"))


@pytest.mark.parametrize(
    ("mode", "bands"),
    [
        ("1SDV", ("VV", "VH")),
        ("1SSV", ("VV",)),
        ("1SDH", ("HH", "HV")),
        ("1SSH", ("HH",)),
        ("1SVV", ("VV",)),  # a part of a dual one
        ("1SHV", ("HV",)),
        ("1ADV", ("VV", "VH")),
        ("anything", ("VV", "VH")),
    ],
)
def test_bs_has_the_polarisations_that_its_name_promises(mode: str, bands: tuple[str, ...]) -> None:
    reference = BS.replace("1SDV", mode)
    folder = f"Sentinel-1/SAR/CARD-BS/2018/08/21/{reference}/{reference}.data"
    all_keys = [f"{folder}/Gamma0_{band}.{part}" for band in ("VV", "VH", "HH", "HV") for part in ("img", "hdr")]
    found = bs.CARD.find(scene(reference, EVENING), Listing(*all_keys), Extraction())
    assert tuple(file.name for file in found.bands) == bands == bs.CARD.bands(reference)
    assert [item.file_name for item in found.objects] == [
        f"Gamma0_{band}.{part}" for band in bands for part in ("img", "hdr")
    ]
    # What is promised must be there.
    lacking = [key for key in all_keys if not key.endswith(f"{bands[-1]}.img")]
    with pytest.raises(SceneNotFoundError, match=rf"has no Gamma0_{bands[-1]}\.img under"):
        bs.CARD.find(scene(reference, EVENING), Listing(*lacking), Extraction())


# Coherence

C6_DAY = dt.datetime(2019, 6, 20, 5, 31, 54)
C6_KEY = f"Sentinel-1/SAR/CARD-COH6/2019/06/20/{C6}/{C6}.tif"


def test_c6_takes_the_image_and_not_its_neighbour() -> None:
    assert keys(c6.CARD, C6, Listing(C6_KEY, f"{C6_KEY}.aux.xml"), C6_DAY) == [C6_KEY]
    with pytest.raises(ObjectNotFoundError):
        keys(c6.CARD, C6, Listing(f"{C6_KEY}.aux.xml"), C6_DAY)


def test_c6_bands_are_found_by_description_else_vh_comes_first() -> None:
    found = c6.CARD.find(scene(C6, C6_DAY), Listing(C6_KEY), Extraction())
    assert found.bands == (
        BandFile("VV", f"{C6}.tif", 2, described=True),
        BandFile("VH", f"{C6}.tif", 1, described=True),
    )


def test_c6_in_the_historical_order_vv_comes_first_whatever_the_file_says() -> None:
    historical = Extraction(coherence_band_order="historical")
    found = c6.CARD.find(scene(C6, C6_DAY), Listing(C6_KEY), historical)
    assert found.bands == (BandFile("VV", f"{C6}.tif", 1), BandFile("VH", f"{C6}.tif", 2))


def test_c1_is_filed_beside_c6() -> None:
    """A real key."""
    key = f"Sentinel-1/SAR/CARD-COH12/2024/01/01/{C1}/{C1}.tif"
    assert keys(c1.CARD, C1, Listing(key), dt.datetime(2024, 1, 1, 1, 0, 35)) == [key]
    found = c1.CARD.find(scene(C1, dt.datetime(2024, 1, 1)), Listing(key), Extraction())
    assert [(band.name, band.index) for band in found.bands] == [("VV", 2), ("VH", 1)]


# Labels and bands


@pytest.mark.parametrize("code", BANDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_band_has_a_label_of_its_own(code: str, preset: str) -> None:
    names = [band for band in BANDS[code] if "_" not in band]
    found = layers(code, preset, [(band, None) for band in names])
    assert [band for band, _ in found] == names
    assert {len(label) for _, label in found} <= {2, 3}
    # At another resolution, it is the same label.
    others = [band for band in BANDS[code] if "_" in band]
    assert [label(code, band, preset) for band in others] == [dict(found)[band[:3]] for band in others]


def test_labels_are_those_of_the_established_databases() -> None:
    assert layers("s2", "classic") == (("B04", "B4"), ("B08", "B8"), ("SCL", "SC"))
    assert layers("s2", "api") == (("B04", "B04"), ("B08", "B08"), ("SCL", "SC"))
    for code in ("bs", "c6", "c1"):
        assert layers(code, "classic") == (("VV", "VV"), ("VH", "VH"), ("HH", "HH"), ("HV", "HV"))
    assert layers("bs", "api") == (("VV", "VVb"), ("VH", "VHb"), ("HH", "HHb"), ("HV", "HVb"))
    for code in ("c6", "c1"):
        assert layers(code, "api") == (("VV", "VVc"), ("VH", "VHc"), ("HH", "HHc"), ("HV", "HVc"))


def test_labels_of_other_bands() -> None:
    wanted = [(band, None) for band in ("B01", "B02", "B8A", "B09", "B11", "B12", "AOT", "WVP", "SCL_60m")]
    assert [name for _, name in layers("s2", "classic", wanted)] == [
        "B1", "B2", "B8A", "B9", "B11", "B12", "AOT", "WVP", "SC",
    ]  # fmt: skip
    assert [name for _, name in layers("s2", "api", wanted)] == [
        "B01", "B02", "B8A", "B09", "B11", "B12", "AOT", "WVP", "SC",
    ]  # fmt: skip


def test_the_native_resolution_need_not_be_named() -> None:
    wanted = [("B02_10m", None), ("B02_20m", "finer?"), ("B11_20m", None), ("AOT", None), ("AOT_10m", "AOT10")]
    assert [band for band, _ in layers("s2", "classic", wanted)] == ["B02", "B02_20m", "B11", "AOT", "AOT_10m"]


def bands_found(*wanted: str) -> tuple[list[str], tuple[BandFile, ...]]:
    extraction = Extraction.model_validate({"bands": {band: f"L{band}" for band in wanted}})
    folder = f"{DAY}/{S2}.SAFE"
    found = s2.CARD.find(scene(S2), Listing(*product(folder)), extraction)
    images = [item.key for item in found.objects]
    return [key.rpartition("IMG_DATA/")[2] for key in images], found.bands


def test_s2_any_bands_at_any_resolution() -> None:
    stem = "T32UNF_20201001T103031"
    keys_found, bands = bands_found("B02", "B02_20m", "B8A", "SCL_60m")
    assert keys_found == [
        f"R10m/{stem}_B02_10m.jp2", f"R20m/{stem}_B02_20m.jp2", f"R20m/{stem}_B8A_20m.jp2", f"R60m/{stem}_SCL_60m.jp2",
    ]  # fmt: skip
    assert [band.name for band in bands] == ["B02", "B02_20m", "B8A", "SCL_60m"]


def test_s2_one_file_however_many_labels() -> None:
    keys_found, bands = bands_found("B04", "B04_10m")
    assert keys_found == ["R10m/T32UNF_20201001T103031_B04_10m.jp2"]
    assert bands == (BandFile("B04", "T32UNF_20201001T103031_B04_10m.jp2"),)


def test_s2_a_band_that_older_products_lack() -> None:
    with pytest.raises(SceneNotFoundError, match=r"/ lacks B01_20m$"):
        bands_found("B04", "B01_20m")


def test_bs_only_what_is_wanted() -> None:
    found = bs.CARD.find(scene(BS, EVENING), Listing(*BS_KEYS), Extraction.model_validate({"bands": ["VH", "HV"]}))
    assert [item.file_name for item in found.objects] == ["Gamma0_VH.img", "Gamma0_VH.hdr"]
    with pytest.raises(SceneError, match="the product has VV, VH, and none of these is among the bands wanted"):
        bs.CARD.find(scene(BS, EVENING), Listing(*BS_KEYS), Extraction.model_validate({"bands": ["HH"]}))
