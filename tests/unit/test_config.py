"""What the configuration files may say, and the one line for everything that they may not: file, key, remedy."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from extractors.config import (
    StoreFile,
    TableName,
    read_database_config,
    read_store_config,
)
from tests.support.configuration import (
    ABSENT,
    CANARY,
    SMALLEST_DATABASE,
    SMALLEST_STORE,
    ReadDatabase,
    ReadStore,
    changed,
    refused,
    without_others_words,
)

CARDS = {"s2", "bs", "c6", "c1"}
"""The keys of `extraction` that hold the settings of one CARD."""


# What holds


def test_the_smallest_database_configuration(database: ReadDatabase) -> None:
    config = database(SMALLEST_DATABASE)
    assert config.connection.libpq() == {
        "host": "db.example", "dbname": "cbm", "user": "jo", "port": 5433, "password": CANARY,
    }  # fmt: skip
    assert config.tables.aoi_table == TableName("aois")
    assert config.tables.parcel_table == TableName("parcels_2020")
    assert config.tables.results_table == TableName("sigs")
    assert config.tables.catalogue_table == TableName("dias_catalogue")
    assert config.tables.hists_table is None
    assert (config.args.aoi_field, config.args.name) == ("name", "nl")
    assert config.args.startdate == dt.datetime(2020, 1, 1)
    assert config.args.enddate == dt.datetime(2021, 1, 1)
    assert config.extraction.model_dump(exclude=CARDS) == {
        "chunk_size": 2000, "engine": "scanline", "verified_parcels": 5, "cores": None, "band_labels": "classic",
        "coherence_band_order": "product", "database_wait_seconds": 60, "max_attempts": 5, "retry_pause_seconds": 30,
        "outages_in_a_row": 5, "outage_pause_seconds": 5, "absent_retry_hours": None, "deadline_seconds": 7200,
        "spool_megabytes": 256, "memory_megabytes": None, "server_settings": {}, "radiometry": "raw",
        "radiometry_fallback": None, "bands": None, "extra_statistics": None, "pixel_rule": "centre",
        "indices": (), "clear_classes": None, "backscatter_unit": "linear",
        "inward_buffer_m": 0, "min_area_m2": 0, "min_pixels": 0, "duplicates": "all",
    }  # fmt: skip
    assert all(config.for_card(card).extraction == config.extraction for card in CARDS)


@pytest.mark.parametrize("host", ["::1", "/var/run/postgresql", "one,two", "127.0.0.1", "pg_spat"])
def test_hosts_as_libpq_takes_them(host: str, database: ReadDatabase) -> None:
    assert database(changed(SMALLEST_DATABASE, "database.connection.host", host)).connection.host == host


def test_everything_that_can_be_said(database: ReadDatabase) -> None:
    document = changed(SMALLEST_DATABASE, "database.tables.hists_table", "nl.hists")
    document = changed(document, "database.tables.catalogue_table", "public.scenes")
    document["extraction"] = {
        "chunk_size": 1, "engine": "rasterstats", "verified_parcels": 0, "cores": 1, "band_labels": "api",
        "coherence_band_order": "historical", "database_wait_seconds": 0, "max_attempts": 1, "retry_pause_seconds": 0,
        "outages_in_a_row": 1, "outage_pause_seconds": 0, "absent_retry_hours": 72, "deadline_seconds": 1,
        "spool_megabytes": 0, "memory_megabytes": 100, "server_settings": {"lock_timeout": "2s"},
        "radiometry": "harmonised", "radiometry_fallback": "baseline", "bands": {"B02": "blue", "B11_60m": "B11"},
        "extra_statistics": ["p90", "pixels"], "pixel_rule": "all_touched",
        "indices": {"NDV": "ndvi"}, "clear_classes": [5, 4], "backscatter_unit": "db",
        "inward_buffer_m": 10, "min_area_m2": 3000, "min_pixels": 8, "duplicates": "newest",
    }  # fmt: skip
    config = database(document)
    assert config.tables.hists_table == TableName("hists", "nl")
    assert config.tables.catalogue_table == TableName("scenes", "public")
    found = config.extraction.model_dump(exclude=CARDS)
    assert found == document["extraction"] | {
        "bands": (("B02", "blue"), ("B11_60m", "B11")), "indices": (("NDV", "ndvi"),), "clear_classes": (4, 5),
        "extra_statistics": ("p90", "pixels"),
    }  # fmt: skip
    assert [statistic.name for statistic in config.extraction.statistics[8:]] == ["p90", "pixels"]
    assert config.extraction.layers("s2") == (("B02", "blue"), ("B11_60m", "B11"))


def test_a_list_of_bands_has_the_labels_of_the_preset(database: ReadDatabase) -> None:
    document = changed(SMALLEST_DATABASE, "extraction", {"band_labels": "api", "bands": ["VH", "VV"]})
    extraction = database(document).extraction
    assert extraction.layers("bs") == (("VH", "VHb"), ("VV", "VVb"))
    assert extraction.layers("c6") == (("VH", "VHc"), ("VV", "VVc"))
    # Each card uses its own; what is for all need not fit every card.
    with pytest.raises(ValueError, match=r"^s2 has no band VH; known: B01, "):
        extraction.layers("s2")


def test_settings_of_one_card_go_before_those_for_all(database: ReadDatabase) -> None:
    document = changed(SMALLEST_DATABASE, "extraction", {
        "chunk_size": 10, "max_attempts": 2, "server_settings": {"jit": "on"},
        "s2": {"chunk_size": 2000}, "c6": {"coherence_band_order": "historical", "server_settings": {}},
        "bs": {},
    })  # fmt: skip
    config = database(document)
    extraction = {card: config.for_card(card).extraction for card in CARDS}
    # Also where a card's own value is the default, or an empty object.
    assert {card: found.chunk_size for card, found in extraction.items()} == {"s2": 2000, "bs": 10, "c6": 10, "c1": 10}
    assert [card for card, found in extraction.items() if found.coherence_band_order == "historical"] == ["c6"]
    assert [card for card, found in extraction.items() if not found.server_settings] == ["c6"]
    assert {found.max_attempts for found in extraction.values()} == {2}


def test_the_examples_that_come_with_the_package_need_only_be_filled_in(store: ReadStore) -> None:
    root = Path(__file__).parents[2]
    assert read_database_config(root / "db_config.json.example").connection.port == 5432
    example = json.loads((root / "s3_config.json.example").read_text())
    assert store(changed(example, "s3.host", "https://eodata.dataspace.copernicus.eu")).s3.connections == 4


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "s3_config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(SMALLEST_STORE).encode())
    found = read_store_config(path)
    assert isinstance(found, StoreFile)
    assert found.s3.bucket == "DIAS"


def test_names_outside_ascii(database: ReadDatabase) -> None:
    document = changed(SMALLEST_DATABASE, "database.args.name", "Provincia di Forlì")
    assert database(document).args.name == "Provincia di Forlì"


def test_without_a_port(database: ReadDatabase) -> None:
    assert database(changed(SMALLEST_DATABASE, "database.connection.port", ABSENT)).connection.libpq()["port"] == 5432


def test_a_port_in_quotes(database: ReadDatabase) -> None:
    assert database(changed(SMALLEST_DATABASE, "database.connection.port", "5434")).connection.libpq()["port"] == 5434


@pytest.mark.parametrize("password", [ABSENT, None, ""])
def test_without_a_password_libpq_looks_for_one_itself(password: Any, database: ReadDatabase) -> None:
    config = database(changed(SMALLEST_DATABASE, "database.connection.dbpasswd", password))
    assert "password" not in config.connection.libpq()


def test_further_parameters_of_libpq_are_handed_on(database: ReadDatabase) -> None:
    document = changed(SMALLEST_DATABASE, "database.connection.sslmode", "require")
    document = changed(document, "database.connection.connect_timeout", 3)
    assert database(document).connection.libpq() == {
        "host": "db.example", "dbname": "cbm", "user": "jo", "port": 5433, "password": CANARY, "sslmode": "require",
        "connect_timeout": 3,
    }  # fmt: skip


def test_a_configuration_does_not_change(database: ReadDatabase) -> None:
    with pytest.raises(ValidationError) as caught:
        database(SMALLEST_DATABASE).args.name = "other"
    assert [problem["type"] for problem in caught.value.errors()] == ["frozen_instance"]


def test_a_secret_is_not_in_the_text_of_a_configuration(database: ReadDatabase, store: ReadStore) -> None:
    assert CANARY not in repr(database(SMALLEST_DATABASE))
    assert CANARY not in repr(store(changed(SMALLEST_STORE, "s3.access_key", "public part")))


# What does not hold

DATABASE_REFUSALS: dict[str, tuple[str, Any, str]] = {
    "host missing": (
        "database.connection.host",
        ABSENT,
        'database.connection.host is missing; add it, for example "host": "ip.of.the.dbserver"',
    ),
    "user missing": (
        "database.connection.dbuser",
        ABSENT,
        'database.connection.dbuser is missing; add it, for example "dbuser": "database_user"',
    ),
    "connection missing": (
        "database.connection",
        ABSENT,
        'database.connection is missing; add it, for example "connection": an object {...}',
    ),
    "table missing": (
        "database.tables.results_table",
        ABSENT,
        'database.tables.results_table is missing; add it, for example "results_table": '
        '"table_with_extracted_signatures"',
    ),
    "date missing": (
        "database.args.enddate",
        ABSENT,
        'database.args.enddate is missing; add it, for example "enddate": "2019-01-01"',
    ),
    "a key misspelt": (
        "database.connection.dbpassword",
        CANARY,
        "database.connection.dbpassword: unknown key, neither ours nor one of libpq's connection parameters; did you "
        "mean `dbpasswd`?",
    ),
    "a name as libpq has it": (
        "database.connection.user",
        "jo",
        "database.connection.user: write `dbuser` instead of `user`",
    ),
    "a password as libpq has it": (
        "database.connection.password",
        CANARY,
        "database.connection.password: write `dbpasswd` instead of `password`",
    ),
    "a key like none": (
        "database.connection.zzz",
        1,
        "database.connection.zzz: unknown key, neither ours nor one of libpq's connection parameters; known here: "
        "host, dbname, dbuser, dbpasswd, port",
    ),
    "a table's key misspelt": (
        "database.tables.result_table",
        "sigs",
        "database.tables.result_table: unknown key; did you mean `results_table`?",
    ),
    "an argument's key misspelt": (
        "database.args.start_date",
        "2020-01-01",
        "database.args.start_date: unknown key; did you mean `startdate`?",
    ),
    "a section misspelt": ("extractions", {}, "extractions: unknown key; did you mean `extraction`?"),
    "a section of another kind": ("zzz", {}, "zzz: unknown key; known here: database, extraction"),
    "a setting misspelt": (
        "extraction.chunksize",
        5,
        "extraction.chunksize: unknown key; did you mean `chunk_size`?",
    ),
    "host empty": (
        "database.connection.host",
        "",
        'database.connection.host: "" cannot be used (...); write, for example, "ip.of.the.dbserver"',
    ),
    "host with a port": (
        "database.connection.host",
        "127.0.0.1:5433",
        'database.connection.host: "127.0.0.1:5433" cannot be used (...); write, for example, "ip.of.the.dbserver"',
    ),
    "host as a URL, with a password": (
        "database.connection.host",
        f"postgresql://jo:{CANARY}@db.example/cbm",
        'database.connection.host: this text cannot be used (...); write, for example, "ip.of.the.dbserver"',
    ),
    "host in brackets": (
        "database.connection.host",
        "[::1]",
        'database.connection.host: "[::1]" cannot be used (...); write, for example, "ip.of.the.dbserver"',
    ),
    "host with a blank": (
        "database.connection.host",
        "db.example ",
        'database.connection.host: "db.example " cannot be used (...); write, for example, "ip.of.the.dbserver"',
    ),
    "column name empty": (
        "database.tables.parcel_id",
        "",
        'database.tables.parcel_id: "" cannot be used (...); write, for example, "ogc_fid"',
    ),
    "port in words": (
        "database.connection.port",
        "five",
        'database.connection.port: "five" cannot be used (...); write, for example, 5432',
    ),
    "port too high": (
        "database.connection.port",
        65_536,
        "database.connection.port: 65536 cannot be used (...); write, for example, 5432",
    ),
    "password of another kind": (
        "database.connection.dbpasswd",
        [CANARY],
        'database.connection.dbpasswd: this list cannot be used (...); write, for example, "database_passwd"',
    ),
    "table name of three parts": (
        "database.tables.parcel_table",
        "a.b.c",
        'database.tables.parcel_table: "a.b.c" cannot be used (not a table name); write, for example, '
        '"table_with_parcels"',
    ),
    "not a date": (
        "database.args.startdate",
        "01.01.2020",
        'database.args.startdate: "01.01.2020" cannot be used (...); write, for example, "2018-01-01"',
    ),
    "dates in the wrong order": (
        "database.args.enddate",
        "2019-01-01",
        "database.args: startdate 2020-01-01 is not before enddate 2019-01-01; write an enddate after it (the enddate "
        "itself is not included)",
    ),
    "the same date twice": (
        "database.args.enddate",
        "2020-01-01",
        "database.args: startdate 2020-01-01 is not before enddate 2020-01-01; write an enddate after it (the enddate "
        "itself is not included)",
    ),
    "chunks of nothing": (
        "extraction.chunk_size",
        0,
        "extraction.chunk_size: 0 cannot be used (...); write, for example, 2000",
    ),
    "an engine that does not exist": (
        "extraction.engine",
        "warp",
        'extraction.engine: "warp" cannot be used (...); write, for example, "scanline"',
    ),
    "an engine of another card": (
        "extraction.c6",
        {"engine": "warp"},
        'extraction.c6.engine: "warp" cannot be used (...); write, for example, "scanline"',
    ),
    "a setting of a card misspelt": (
        "extraction.bs",
        {"chunksize": 5},
        "extraction.bs.chunksize: unknown key; did you mean `chunk_size`?",
    ),
    "a radiometry that does not exist": (
        "extraction.s2",
        {"radiometry": "reflectance"},
        'extraction.s2.radiometry: "reflectance" cannot be used (...); write, for example, "harmonised"',
    ),
    "indices that are none": (
        "extraction",
        {"indices": ["ndvi"]},
        "extraction.indices: this list cannot be used (...); write, for example, "
        '{"NDV": "ndvi", "NDR": "nd(B8A, B05)"}',
    ),
    "an index of a band that there is not": (
        "extraction.s2",
        {"indices": {"NDV": "nd(B08, B10)"}},
        "extraction: s2.indices: NDV: s2 has no band B10",
    ),
    "an index with the label of a band": (
        "extraction.s2",
        {"bands": ["B04"], "indices": {"B4": "ndvi"}},
        "extraction: s2.indices: B04 has the label B4 as well; give the index another",
    ),
    "an index of one CARD for another": (
        "extraction.bs",
        {"indices": {"NDV": "ndvi"}},
        "extraction: bs.indices: NDV: 'ndvi' is none; write nd(a, b), a / b or a - b, of two bands",
    ),
    "a class that there is not": (
        "extraction",
        {"clear_classes": [4, 12]},
        "extraction.clear_classes: this list cannot be used (...); write, for example, [4, 5, 6, 7]",
    ),
    "a unit that there is not": (
        "extraction.bs",
        {"backscatter_unit": "dB"},
        'extraction.bs.backscatter_unit: "dB" cannot be used (...); write, for example, "db"',
    ),
    "bands that are none": (
        "extraction.bands",
        "B04",
        'extraction.bands: "B04" cannot be used (...); write, for example, ["B02", "B04", "B08", "SCL"]',
    ),
    "no bands": (
        "extraction.s2",
        {"bands": []},
        'extraction.s2.bands: this list cannot be used (...); write, for example, ["B02", "B04", "B08", "SCL"]',
    ),
    "two bands with one label": (
        "extraction.s2",
        {"bands": ["B02", "B02_20m"]},
        "extraction: s2.bands: B02 and B02_20m have the same label B2; give them others: an object band -> label",
    ),
    "a band twice": (
        "extraction.s2",
        {"bands": ["B02", "B02_10m"]},
        "extraction: s2.bands: B02 and B02 have the same label B2; give them others: an object band -> label",
    ),
    "one label, of the preset and of one's own": (
        "extraction.s2",
        {"bands": {"B02": "B3", "B03": "B3"}},
        "extraction: s2.bands: B02 and B03 have the same label B3; give them others: an object band -> label",
    ),
    "a card that does not exist": ("extraction.s3", {}, "extraction.s3: unknown key; did you mean `s2`?"),
    "settings of a card that are none": (
        "extraction.s2",
        5,
        "extraction.s2: this number cannot be used (...); write, for example, an object {...}",
    ),
    "labels that do not exist": (
        "extraction.band_labels",
        "long",
        'extraction.band_labels: "long" cannot be used (...); write, for example, "classic"',
    ),
}


@pytest.mark.parametrize(("key", "value", "message"), DATABASE_REFUSALS.values(), ids=DATABASE_REFUSALS)
def test_what_db_config_may_not_say(key: str, value: Any, message: str, database: ReadDatabase, tmp_path: Path) -> None:
    said = refused(database, changed(SMALLEST_DATABASE, key, value), tmp_path)
    assert without_others_words(said) == f"db_config.json: {message}"


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("extraction.engine", "warp", ("scanline", "rasterstats")),
        ("extraction.band_labels", "long", ("classic", "api")),
        ("extraction.chunk_size", 0, (" 1)",)),
        ("extraction.bs", {"radiometry": "raw"}, ("extraction.bs.radiometry: unknown key",)),
        ("extraction.bands", ["B10"], ("there is no band B10", "did you mean `B1")),
        ("extraction.s2", {"bands": ["VV"]}, ("there is no band VV",)),
        ("extraction.bs", {"bands": ["B04"]}, ("there is no band B04", "HH, HV, VH, VV")),
        ("extraction.s2", {"bands": ["B08_20m"]}, ("there is no band B08_20m", "did you mean")),
        ("extraction.bands", ["B04", 5], ("neither a list of bands nor an object band -> label",)),
        ("extraction.bands", {"B04": ""}, ("the label of B04 must be 1 to 63 characters",)),
        ("extraction.bands", {"B04": "B 4"}, ("the label of B04", "no blanks")),
        ("extraction.bands", {"B04": "B4,B8"}, ("the label of B04", "commas")),
        ("extraction.bands", {"B04": "b\n"}, ("the label of B04",)),
        ("extraction.bands", {"B04": "ü"}, ("the label of B04",)),
        ("extraction.bands", {"B04": "x" * 64}, ("the label of B04",)),
        ("extraction.bands", {"B04": None}, ("the label of B04",)),
        ("extraction.chunk_size", 1_000_001, ("1000000",)),
        ("database.connection.port", 65_536, ("65535",)),
    ],
)
def test_choices_and_limits_are_named(
    key: str, value: Any, named: tuple[str, ...], database: ReadDatabase, tmp_path: Path
) -> None:
    said = refused(database, changed(SMALLEST_DATABASE, key, value), tmp_path)
    for text in named:
        assert text in said


def test_an_unknown_key_says_more_than_the_missing_one_that_it_was_meant_to_be(
    store: ReadStore, tmp_path: Path
) -> None:
    document = changed(changed(SMALLEST_STORE, "s3.bucket", ABSENT), "s3.buckett", "DIAS")
    assert refused(store, document, tmp_path) == "s3_config.json: s3.buckett: unknown key; did you mean `bucket`?"


@pytest.mark.parametrize("document", [[], "text", 5, None, {}], ids=["list", "text", "number", "null", "empty object"])
def test_a_document_of_another_kind(document: Any, database: ReadDatabase, store: ReadStore, tmp_path: Path) -> None:
    assert refused(database, document, tmp_path).startswith("db_config.json: ")
    assert refused(store, document, tmp_path).startswith("s3_config.json: ")


def test_a_password_that_is_a_number_is_not_shown(database: ReadDatabase, tmp_path: Path) -> None:
    message = refused(database, changed(SMALLEST_DATABASE, "database.connection.dbpasswd", 7337733), tmp_path)
    assert message.startswith("db_config.json: database.connection.dbpasswd: this number cannot be used (")
    assert "7337733" not in message


SECRETS_IN_ODD_PLACES: dict[str, Any] = {
    "the whole in a list": [SMALLEST_DATABASE],
    "the database in a list": {"database": [SMALLEST_DATABASE["database"]]},
    "a URL for the database": {"database": f"postgresql://jo:{CANARY}@db.example/cbm"},
    "a URL for the connection": changed(
        SMALLEST_DATABASE, "database.connection", f"postgresql://jo:{CANARY}@db.example/cbm"
    ),
    "the connection in a list": changed(SMALLEST_DATABASE, "database.connection", ["jo", CANARY]),
}


@pytest.mark.parametrize("document", SECRETS_IN_ODD_PLACES.values(), ids=SECRETS_IN_ODD_PLACES)
def test_a_secret_in_an_odd_place_is_not_shown(document: Any, database: ReadDatabase, tmp_path: Path) -> None:
    assert refused(database, document, tmp_path).startswith("db_config.json: ")


def test_a_misspelt_key_without_a_value(database: ReadDatabase, tmp_path: Path) -> None:
    message = refused(database, changed(SMALLEST_DATABASE, "database.connection.hsot", None), tmp_path)
    assert message == (
        "db_config.json: database.connection.hsot: unknown key, neither ours nor one of libpq's connection "
        "parameters; did you mean `host`?"
    )


def test_the_other_name_of_dbname(database: ReadDatabase, tmp_path: Path) -> None:
    # psycopg2 takes `database` for `dbname`, but not both.
    message = refused(database, changed(SMALLEST_DATABASE, "database.connection.database", "cbm"), tmp_path)
    assert message.startswith("db_config.json: database.connection.database: ")
