"""Formulas of bands: how they are written, and what is refused."""

from __future__ import annotations

import pytest

from extractors import config
from extractors.indices import Formula, parse


@pytest.mark.parametrize(
    ("code", "text", "formula", "shown"),
    [
        ("s2", "ndvi", Formula("nd", ("B08", "B04")), "nd(B08, B04)"),
        ("s2", " ndwi ", Formula("nd", ("B03", "B08")), "nd(B03, B08)"),
        ("s2", "ndre", Formula("nd", ("B8A", "B05")), "nd(B8A, B05)"),
        ("s2", "nd ( B8A,B05_20m )", Formula("nd", ("B8A", "B05")), "nd(B8A, B05)"),
        ("s2", "B04_20m/B08", Formula("/", ("B04_20m", "B08")), "B04_20m / B08"),
        ("s2", "AOT - WVP", Formula("-", ("AOT", "WVP")), "AOT - WVP"),
        ("bs", "VH / VV", Formula("/", ("VH", "VV")), "VH / VV"),
        ("c6", "nd(HH, HV)", Formula("nd", ("HH", "HV")), "nd(HH, HV)"),
    ],
)
def test_formulas(code: str, text: str, formula: Formula, shown: str) -> None:
    found = parse(code, text)
    assert (found, str(found)) == (formula, shown)
    assert parse(code, str(found)) == found


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("s2", ""), ("s2", "B04"), ("s2", "NDVI"), ("s2", "B04 + B08"), ("s2", "B04 * B08"), ("s2", "B04 / B08 / B03"),
        ("s2", "nd(B04)"), ("s2", "nd(B04, B08, B03)"), ("s2", "nd(B04, B08"), ("s2", "nd(B04, B04)"),
        ("s2", "B05 - B05_20m"), ("s2", "B04 / SCL"), ("s2", "SCL_60m - B04"), ("s2", "B10 / B04"),
        ("s2", "B08_20m - B04"),
        ("s2", "VH / VV"), ("s2", "__import__('os')"), ("s2", "B04\n/ B08; x"), ("s2", "B\u0660\u0664 / B08"),
        ("bs", "ndvi"), ("bs", "VH / VX"), ("bs", "db(VV)"), ("c6", "B04 / B08"), ("s2", "9" * 1000),
    ],
)  # fmt: skip
def test_what_is_no_formula(code: str, text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(code, text)
    assert len(str(error.value)) < 500
    assert "\n" not in str(error.value)


def extraction(**settings: object) -> config.Extraction:
    return config.Extraction.model_validate(settings)


def test_bands_for_indices_and_for_clear_pixels_are_needed_as_well() -> None:
    settings = extraction(bands=["B02"], indices={"NDV": "ndvi", "X": "B02 / B04"}, clear_classes=[4])
    assert settings.bands_needed("s2") == ("B02", "B08", "B04", "SCL")
    assert extraction().bands_needed("s2") == ("B04", "B08", "SCL")


def test_what_the_numbers_mean() -> None:
    meaning = extraction(indices={"NDV": "ndvi"}, clear_classes=[6, 4]).meaning("s2")
    assert meaning["clear_classes"] == [4, 6]
    assert meaning["sources"] == {"B4": "B04", "B8": "B08", "SC": "SCL", "NDV": "nd(B08, B04)"}
    assert "backscatter_unit" not in meaning
    of_backscatter = extraction(bs={"backscatter_unit": "db", "indices": {"CR": "VH/VV"}}).for_card("bs").meaning("bs")
    assert of_backscatter["backscatter_unit"] == "db"
    assert of_backscatter["sources"]["CR"] == "VH / VV"


@pytest.mark.parametrize(
    ("code", "table", "own", "classes"),
    [
        ("s2", None, None, None), ("s2", None, [4], None), ("s2", "clear", None, (4, 5, 6, 7)),
        ("s2", "clear", [5], (5,)), ("bs", "clear", None, None),
    ],
)  # fmt: skip
def test_classes_count_where_there_is_a_table_for_them(
    code: str, table: str | None, own: list[int] | None, classes: tuple[int, ...] | None
) -> None:
    tables = {"aoi_table": "a", "parcel_table": "p", "results_table": "r", "clear_results_table": table}
    args = {"aoi_field": "name", "name": "x", "startdate": "2020-01-01", "enddate": "2021-01-01"}
    document = {"connection": {"host": "h", "dbname": "d", "dbuser": "u"}, "tables": tables, "args": args}
    file = config.DatabaseFile.model_validate({"database": document, "extraction": {"clear_classes": own}})
    settings = file.for_card(code).extraction
    assert settings.clear_classes == classes
    assert settings.meaning(code).get("clear_classes") == (list(classes) if classes else None)
