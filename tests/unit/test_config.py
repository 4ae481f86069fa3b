"""What the configuration files may say, and the one line for everything that they may not: file, key, remedy."""

from __future__ import annotations

import copy
import datetime as dt
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql
from pydantic import ValidationError

from extractors.config import (
    DatabaseFile,
    DirectoryFile,
    StoreFile,
    TableName,
    parse_moment,
    parse_table_name,
    read_database_config,
    read_store_config,
)
from extractors.errors import ConfigurationError

CANARY = "canary-7f3a"
"""A secret that no message may show."""

SMALLEST_DATABASE: dict[str, Any] = {
    "database": {
        "connection": {"host": "db.example", "dbname": "cbm", "dbuser": "jo", "dbpasswd": CANARY, "port": 5433},
        "tables": {"aoi_table": "aois", "parcel_table": "parcels_2020", "results_table": "sigs"},
        "args": {"aoi_field": "name", "name": "nl", "startdate": "2020-01-01", "enddate": "2021-01-01"},
    }
}
SMALLEST_STORE: dict[str, Any] = {
    "s3": {"access_key": CANARY, "secret_key": CANARY, "host": "http://data.cloudferro.com", "bucket": "DIAS"}
}
ABSENT = object()


def changed(document: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with the value at `section.section.key` set, or taken out (ABSENT)."""
    result = copy.deepcopy(document)
    *sections, last = key.split(".")
    section = result
    for name in sections:
        section = section.setdefault(name, {})
    if value is ABSENT:
        del section[last]
    else:
        section[last] = value
    return result


@pytest.fixture
def database(tmp_path: Path) -> Callable[[Any], DatabaseFile]:
    def read(document: Any) -> DatabaseFile:
        path = tmp_path / "db_config.json"
        path.write_text(json.dumps(document))
        return read_database_config(path)

    return read


@pytest.fixture
def store(tmp_path: Path) -> Callable[[Any], StoreFile]:
    def read(document: Any) -> StoreFile:
        path = tmp_path / "s3_config.json"
        path.write_text(json.dumps(document))
        found = read_store_config(path)
        assert isinstance(found, StoreFile)
        return found

    return read


CARDS = {"s2", "bs", "c6", "c1"}
"""The keys of `extraction` that hold the settings of one CARD."""

ReadDatabase = Callable[[Any], DatabaseFile]
ReadStore = Callable[[Any], StoreFile]


def refused(read: Callable[[Any], Any], document: Any, folder: Path) -> str:
    """The message, without the file that it must begin with; one line, and no secret in it."""
    with pytest.raises(ConfigurationError) as caught:
        read(document)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in message
    assert CANARY not in message
    assert message.startswith(f"{folder}/")
    return message.removeprefix(f"{folder}/")


def without_others_words(message: str) -> str:
    """With (...) for a reason in the words of a library, which differ from version to version."""
    return re.sub(r"cannot be used \((?!not a table name\)).+?\); write", "cannot be used (...); write", message)


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


def test_the_smallest_store_configuration(store: ReadStore) -> None:
    settings = store(SMALLEST_STORE).s3
    assert settings.model_dump(exclude={"secret_key"}) == {
        "access_key": CANARY, "host": "http://data.cloudferro.com", "bucket": "DIAS", "region": "default",
        "connections": 4, "retry_seconds": 300, "fleet_downloads": None, "session_token": None, "anonymous": False,
        "addressing": "path", "requester_pays": False, "ca_file": None, "etag_is_md5": True,
        "least_bytes_per_second": 1000,
    }  # fmt: skip
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == CANARY


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


@pytest.mark.parametrize("empty", [ABSENT, None, ""])
def test_without_keys_boto3_looks_for_them_itself(empty: Any, store: ReadStore) -> None:
    settings = store(changed(changed(SMALLEST_STORE, "s3.access_key", empty), "s3.secret_key", empty)).s3
    assert (settings.access_key, settings.secret_key) == (None, None)


def test_a_configuration_does_not_change(database: ReadDatabase) -> None:
    with pytest.raises(ValidationError) as caught:
        database(SMALLEST_DATABASE).args.name = "other"
    assert [problem["type"] for problem in caught.value.errors()] == ["frozen_instance"]


def test_a_secret_is_not_in_the_text_of_a_configuration(database: ReadDatabase, store: ReadStore) -> None:
    assert CANARY not in repr(database(SMALLEST_DATABASE))
    assert CANARY not in repr(store(changed(SMALLEST_STORE, "s3.access_key", "public part")))


# Table names


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("sigs", TableName("sigs")),
        ("nl.sigs", TableName("sigs", "nl")),
        ("Sigs 2020", TableName("Sigs 2020")),
        ("sigs; DROP TABLE x", TableName("sigs; DROP TABLE x")),
        ("Übersicht", TableName("Übersicht")),
        ("x" * 63, TableName("x" * 63)),
    ],
)
def test_table_names(text: str, table: TableName) -> None:
    assert parse_table_name(text) == table
    assert str(table) == text
    assert table.identifier == sql.Identifier(*text.split("."))
    assert repr(table.identifier) == f"Identifier({', '.join(map(repr, text.split('.')))})"


@pytest.mark.parametrize(
    "text", ["", " ", ".", "a.", ".a", "a.b.c", "a. ", "x" * 64, "ü" * 32, "a.\0b", "100%", 5, None, ["a"], True]
)
def test_what_is_not_a_table_name(text: Any) -> None:
    with pytest.raises(ValueError, match="not a table name"):
        parse_table_name(text)


# Dates


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-02-29", dt.datetime(2020, 2, 29)),
        (" 2020-02-29 ", dt.datetime(2020, 2, 29)),
        ("2020-02-29T10:30:31", dt.datetime(2020, 2, 29, 10, 30, 31)),
        ("2020-02-29 10:30", dt.datetime(2020, 2, 29, 10, 30)),
        ("2020-02-29T10:30:31Z", dt.datetime(2020, 2, 29, 10, 30, 31)),
        ("2020-03-01T00:30:00+02:00", dt.datetime(2020, 2, 29, 22, 30)),
        ("9999-12-31", dt.datetime(9999, 12, 31)),
    ],
)
def test_dates_are_utc(text: str, moment: dt.datetime) -> None:
    assert parse_moment(text) == moment
    assert parse_moment(text).tzinfo is None


@pytest.mark.parametrize("text", ["", "2020", "2021-02-29", "29.02.2020", "2020-2-9", "yesterday", 20200229, None, 1.5])
def test_what_is_not_a_date(text: Any) -> None:
    with pytest.raises(ValueError):
        parse_moment(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:00:00-05:00"])
def test_a_date_that_leaves_the_calendar_in_utc(text: str, database: ReadDatabase, tmp_path: Path) -> None:
    message = refused(database, changed(SMALLEST_DATABASE, "database.args.startdate", text), tmp_path)
    assert message.startswith("db_config.json: database.args.startdate: ")


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


STORE_REFUSALS: dict[str, tuple[str, Any, str]] = {
    "bucket missing": ("s3.bucket", ABSENT, 's3.bucket is missing; add it, for example "bucket": "eodata"'),
    "host missing": (
        "s3.host",
        ABSENT,
        's3.host is missing; add it, for example "host": "https://eodata.dataspace.copernicus.eu"',
    ),
    "host without a scheme": (
        "s3.host",
        "data.cloudferro.com",
        's3.host: "data.cloudferro.com" cannot be used (...); write, for '
        'example, "https://eodata.dataspace.copernicus.eu"',
    ),
    "a key misspelt": ("s3.acces_key", CANARY, "s3.acces_key: unknown key; did you mean `access_key`?"),
    "access key of another kind": (
        "s3.access_key",
        [CANARY],
        's3.access_key: this list cannot be used (...); write, for example, "s3_access_key"',
    ),
    "secret key of another kind": (
        "s3.secret_key",
        {"key": CANARY},
        's3.secret_key: this object cannot be used (...); write, for example, "s3_secret_key"',
    ),
    "secret key missing": (
        "s3.secret_key",
        ABSENT,
        "s3.access_key and s3.secret_key belong together; write both, or neither to use boto3's own sources "
        "(environment, profile)",
    ),
    "access key empty": (
        "s3.access_key",
        "",
        "s3.access_key and s3.secret_key belong together; write both, or neither to use boto3's own sources "
        "(environment, profile)",
    ),
    "no connections": (
        "s3.connections",
        0,
        "s3.connections: 0 cannot be used (...); write, for example, 4",
    ),
    "negative patience": (
        "s3.retry_seconds",
        -1,
        "s3.retry_seconds: -1 cannot be used (...); write, for example, 300",
    ),
    "two ways to address": (
        "s3.addressing",
        "host",
        's3.addressing: "host" cannot be used (...); write, for example, "path"',
    ),
    "a token of another kind": (
        "s3.session_token",
        [CANARY],
        's3.session_token: this list cannot be used (...); write, for example, "token_of_temporary_keys"',
    ),
    "no answer to a question": (
        "s3.anonymous",
        "perhaps",
        's3.anonymous: "perhaps" cannot be used (...); write, for example, true',
    ),
    "no name of a file": (
        "s3.ca_file",
        "",
        's3.ca_file: "" cannot be used (...); write, for example, "/etc/ssl/certs/ca-certificates.crt"',
    ),
    "keys for somebody without a name": (
        "s3.anonymous",
        True,
        "s3.anonymous: nobody is asked for keys then; remove access_key and secret_key, or write false",
    ),
    "a directory and a host": (
        "s3.directory",
        "/eodata",
        "s3.directory: a directory has no access_key, secret_key, host, bucket; remove them, or remove directory",
    ),
}


@pytest.mark.parametrize(("key", "value", "message"), STORE_REFUSALS.values(), ids=STORE_REFUSALS)
def test_what_s3_config_may_not_say(key: str, value: Any, message: str, store: ReadStore, tmp_path: Path) -> None:
    said = refused(store, changed(SMALLEST_STORE, key, value), tmp_path)
    assert without_others_words(said) == f"s3_config.json: {message}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"session_token": CANARY},
            "s3.session_token belongs to temporary keys; write their access_key and secret_key as well",
        ),
        (
            {"bucket": "proj1:eodata", "addressing": "virtual"},
            's3.addressing: the bucket of another tenant cannot be part of a host\'s name; write "path"',
        ),
    ],
)
def test_what_does_not_go_together(settings: dict[str, str], message: str, store: ReadStore, tmp_path: Path) -> None:
    said = refused(store, {"s3": {"host": "http://data.cloudferro.com", "bucket": "DIAS"} | settings}, tmp_path)
    assert said == f"s3_config.json: {message}"


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_token_is_none(empty: Any, store: ReadStore) -> None:
    assert store(changed(SMALLEST_STORE, "s3.session_token", empty)).s3.session_token is None


def test_a_directory_in_place_of_a_store(tmp_path: Path) -> None:
    path = tmp_path / "s3_config.json"
    path.write_text(json.dumps({"s3": {"directory": "/eodata"}}))
    read = read_store_config(path)
    assert isinstance(read, DirectoryFile)
    assert read.s3.model_dump() == {"directory": "/eodata", "retry_seconds": 300}
    assert read.s3.fleet_downloads is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"directory": ""}, 's3.directory: "" cannot be used (...); write, for example, "/eodata"'),
        ({"directory": "/eodata", "retry_second": 1}, "s3.retry_second: unknown key; did you mean `retry_seconds`?"),
        ({"directroy": "/eodata"}, "s3.directroy: unknown key; did you mean `directory`?"),
    ],
)
def test_a_directory_that_cannot_be_used(
    section: dict[str, Any], message: str, store: ReadStore, tmp_path: Path
) -> None:
    assert without_others_words(refused(store, {"s3": section}, tmp_path)) == f"s3_config.json: {message}"


def test_an_unknown_key_says_more_than_the_missing_one_that_it_was_meant_to_be(
    store: ReadStore, tmp_path: Path
) -> None:
    document = changed(changed(SMALLEST_STORE, "s3.bucket", ABSENT), "s3.buckett", "DIAS")
    assert refused(store, document, tmp_path) == "s3_config.json: s3.buckett: unknown key; did you mean `bucket`?"


@pytest.mark.parametrize("document", [[], "text", 5, None, {}], ids=["list", "text", "number", "null", "empty object"])
def test_a_document_of_another_kind(document: Any, database: ReadDatabase, store: ReadStore, tmp_path: Path) -> None:
    assert refused(database, document, tmp_path).startswith("db_config.json: ")
    assert refused(store, document, tmp_path).startswith("s3_config.json: ")


@pytest.mark.parametrize("key", ["s3.access_key", "s3.secret_key"])
def test_a_key_that_is_a_number_is_not_shown(key: str, store: ReadStore, tmp_path: Path) -> None:
    message = refused(store, changed(SMALLEST_STORE, key, 7337733), tmp_path)
    assert message.startswith(f"s3_config.json: {key}: this number cannot be used (")
    assert "7337733" not in message


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


@pytest.mark.parametrize(
    "document",
    [[SMALLEST_STORE], {"s3": ["access", CANARY]}, {"s3": f"http://key:{CANARY}@store"}],
    ids=["the whole in a list", "keys in a list", "keys in a URL"],
)
def test_a_store_s_secret_in_an_odd_place_is_not_shown(document: Any, store: ReadStore, tmp_path: Path) -> None:
    assert refused(store, document, tmp_path).startswith("s3_config.json: ")


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


# The file itself


@pytest.mark.parametrize(
    ("read", "name", "option"),
    [(read_database_config, "db_config.json", "--db-config"), (read_store_config, "s3_config.json", "--s3-config")],
    ids=["db", "s3"],
)
def test_no_file(read: Callable[[Path], Any], name: str, option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name}: no such file; copy {name}.example to it and fill it in, or name another with {option}"
    )


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_store_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: cannot be read: ")


def test_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "db_config.json"
    path.write_bytes('{"database": "Forlì"}'.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"cannot be read: .*; see its permissions and encoding \(UTF-8\)$"):
        read_database_config(path)


@pytest.mark.parametrize(
    "text",
    ["", '{"s3": {\n  "host": "x",\n}}', f"{{'s3': '{CANARY}'}}", f'{{"s3": {{"secret_key": "{CANARY}}}}}'],
    ids=["empty", "a comma too many", "the wrong quotes", "a quote missing"],
)
def test_not_json(text: str, tmp_path: Path) -> None:
    """Where, and why, are what this version of Python says of it."""
    with pytest.raises(json.JSONDecodeError) as of_python:
        json.loads(text)
    said = of_python.value
    path = tmp_path / "s3_config.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_store_config(path)
    message = str(caught.value)
    where = f"line {said.lineno}, column {said.colno} ({said.msg})"
    assert message == f"{path}: not valid JSON at {where}; fix it there"
    assert CANARY not in message
