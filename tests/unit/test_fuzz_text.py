"""Made-up configuration files, references, keys, log lines and health files: each is used or refused in words, nothing
else comes of it.

In CI the same 1000 of each. By hand, new ones for as long as one likes:

    HYPOTHESIS_PROFILE=explore python -m pytest tests/unit/test_fuzz_text.py
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg2.extensions
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors import bs, c1, c6, health, s2
from extractors.config import (
    DatabaseFile,
    DirectoryFile,
    Extraction,
    StoreFile,
    read_database_config,
    read_store_config,
)
from extractors.errors import ConfigurationError, ExtractionError, SceneError, UnusableSceneError, one_line
from extractors.logs import JsonLines, SceneContext, TextLines
from extractors.model import Outcome, Scene, StoredObject
from extractors.products.card import Card
from extractors.products.source import Source
from extractors.products.store import open_source
from extractors.text import printable, say
from tests.support.configuration import CANARY, SMALLEST_DATABASE, SMALLEST_STORE

FEWER = max(1, settings.default.max_examples // 50) if settings.default else 20
"""For what takes milliseconds."""
CARDS: tuple[Card, ...] = (s2.CARD, bs.CARD, c6.CARD, c1.CARD)
USUAL = {
    "s2": "S2A_MSIL2A_20200601T052345_N0214_R122_T33TWM_20200601T135108.SAFE",
    "bs": "S1A_IW_GRDH_1SDV_20200601T052345_20200601T052410_032840_03CDDF_DC1C_CARD_BS",
    "c6": "S1B_20200601T052345__1A__20200526T052345_CARD-COH6",
    "c1": "S1A_20200601T052345__1A__20200520T052345_20200520T052410_CARD-COH12",
}
SAFE_KEY = re.compile(r"[A-Za-z0-9_.:/-]+", re.ASCII)

# Configuration

odd_texts = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Lu"])),
    st.sampled_from(
        [
            f"http://jo:{CANARY}@store", f"postgresql://jo:{CANARY}@db/x", f"https://s/?t={CANARY}", "http://[::1",
            "https://a:b", "http://\u2100", "::1", "a.b", "..", "/", "%s", "{x}", "\0", "\ud83d", "2020-01-01", "1e999",
            "true", "0x10", "scanline", "require", "\x1b[2J",
        ]
    ),
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | odd_texts
values = st.recursive(
    scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(odd_texts, below, max_size=3), max_leaves=8
)
KNOWN_KEYS = (
    "host", "dbname", "dbuser", "dbpasswd", "port", "sslmode", "sslpassword", "options", "connect_timeout", "user",
    "password", "database", "aoi_table", "hists_table", "parcel_id", "name", "startdate", "enddate", "extraction",
    "chunk_size", "server_settings", "cores", "engine", "s3", "access_key", "secret_key", "session_token", "bucket",
    "region", "ca_file", "directory", "anonymous", "addressing", "retry_seconds", "connections",
)  # fmt: skip
keys = st.sampled_from(KNOWN_KEYS) | odd_texts


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a document."""
    yield path
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*path, key))


@st.composite
def changed_documents(draw: st.DrawFn, whole: dict[str, Any]) -> Any:
    """A document with up to three things set, added or removed."""
    document: Any = copy.deepcopy(whole)
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from([place for place in places(document) if place] or [("s3",)]))
        section = document
        for key in parents:
            section = section[key]
        if not isinstance(section, dict):
            break
        what = draw(st.sampled_from(["set", "add", "remove"]))
        if what == "remove":
            section.pop(last, None)
        elif what == "set" or not isinstance(section.get(last), dict):
            section[last if what == "set" else draw(keys)] = draw(values)
        else:
            section[last][draw(keys)] = draw(values)
    return document


@st.composite
def files(draw: st.DrawFn, whole: dict[str, Any]) -> bytes:
    """A file: a changed document, with some bytes of it changed, or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    text = json.dumps(draw(changed_documents(whole)), ensure_ascii=draw(st.booleans()))
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 3))] = draw(
            st.sampled_from([b"", b"{", b"}", b"[", b'"', b",", b"\0", b"\xff", b"\\u0000", b"NaN", b"9" * 5000])
            | st.binary(max_size=3)
        )
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + bytes(content)


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.touch(0o600)
        yield file


def assert_in_words(error: ExtractionError, path: Path, content: bytes, whole: dict[str, Any]) -> None:
    """One that people understand, without secrets: neither those in URLs, nor those that are where they belong."""
    message = str(error)
    assert message.startswith(f"{path}: ")
    assert len(message) < 1500
    assert f"jo:{CANARY}" not in message
    assert f"t={CANARY}" not in message
    if content.count(CANARY.encode()) == json.dumps(whole).count(CANARY):
        assert CANARY not in message
    assert printable(message).isprintable()


@given(content=files(SMALLEST_DATABASE))
def test_database_configurations(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        config = read_database_config(path)
    except ConfigurationError as error:
        assert_in_words(error, path, content, SMALLEST_DATABASE)
        return
    assert isinstance(config, DatabaseFile)
    # What becomes of it: a string of parameters, which libpq can read, and statements.
    made = psycopg2.extensions.make_dsn(
        **{key: "" if value is None else value for key, value in config.connection.libpq().items()}
    )
    assert psycopg2.extensions.parse_dsn(made)
    made.encode()
    secret = config.connection.dbpasswd.get_secret_value()
    assert len(secret) < 4 or secret in json.dumps(SMALLEST_STORE) or secret not in repr(config.connection)
    assert config.args.startdate < config.args.enddate
    assert config.extraction.deadline_seconds < float("inf")


@given(content=files(SMALLEST_STORE))
def test_store_configurations(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        config = read_store_config(path)
    except ConfigurationError as error:
        assert_in_words(error, path, content, SMALLEST_STORE)
        return
    assert isinstance(config, StoreFile | DirectoryFile)
    if isinstance(config, StoreFile):
        assert "@" not in config.s3.host.split("/")[2]
        assert config.s3.host.isprintable()


@settings(max_examples=FEWER)
@given(document=changed_documents(SMALLEST_STORE))
def test_stores_that_are_opened(path: Path, document: Any) -> None:
    """boto3 takes what we take, or it is refused as configuration."""
    path.write_text(json.dumps(document))
    try:
        open_source(read_store_config(path).s3, str(path))
    except ExtractionError as error:
        assert f"jo:{CANARY}" not in one_line(error)


# References and keys

moments = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30))


@st.composite
def references(draw: st.DrawFn, card: Card) -> str:
    """What is a product's name, nearly one, or anything."""
    kind = draw(st.sampled_from(["good", "changed", "any"]))
    if kind == "any":
        return draw(st.text(max_size=200))
    good = draw(st.sampled_from([USUAL[card.code]]) | st.from_regex(card.reference, fullmatch=True))
    if kind == "good":
        return good
    at = draw(st.integers(0, len(good)))
    change = draw(
        st.sampled_from(["/", "..", "\n", "\0", "\x1b", "%", "{", "\u0661", "../../x", ""]) | st.text(max_size=3)
    )
    return good[:at] + change + good[at + draw(st.integers(0, 2)) :]


@st.composite
def listings(draw: st.DrawFn, card: Card) -> list[str]:
    """What a store may list below a prefix: what is looked for, with hostile names among it."""
    parts = st.sampled_from(
        [
            "/GRANULE/", "GRANULE/", "x/IMG_DATA/", "IMG_DATA/", "R10m/", "R20m/", "..", "../", "/", "\n", "\x1b[2J",
            "\0", "T33TWM_20200601T052345_B04_10m.jp2", "L2A_T33TWM_20200601T052345_B08_10m.jp2",
            "T33TWM_20200601T052345_SCL_20m.jp2", "Gamma0_VV.img", "Gamma0_VV.hdr", "Gamma0_VH.img", "Gamma0_VH.hdr",
            ".tif", ".data/",
        ]
    ) | st.text(max_size=3)  # fmt: skip
    found = draw(st.lists(st.lists(parts, max_size=6).map("".join), max_size=8))
    if draw(st.booleans()):
        found += ["GRANULE/x/IMG_DATA/R10m/T33TWM_20200601T052345_B04_10m.jp2"]
        found += ["GRANULE/\n/IMG_DATA/R10m/L2A_T33TWM_20200601T052345_B08_10m.jp2"]
        found += ["GRANULE/../IMG_DATA/R20m/T33TWM_20200601T052345_SCL_20m.jp2"]
    return found


class Listed(Source):
    """A store that lists the same below every prefix, and remembers what it was asked."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__("store", "s3.host", 0)
        self._names = names
        self.asked: list[str] = []

    def list_objects(self, prefix: str, most: int | None = None) -> list[StoredObject]:
        self.asked.append(prefix)
        return [StoredObject(prefix + name, 1, "") for name in self._names]

    def find_all(self, keys: Sequence[str], prefix: str) -> tuple[StoredObject, ...]:
        self.asked += keys
        return super().find_all(keys, prefix)

    def _never(self, *_: Any, **__: Any) -> Any:
        raise AssertionError

    holds = list_folders = read = download = is_exact = confirm = _failure = _never


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.code)
@given(data=st.data())
def test_references_and_keys(card: Card, data: st.DataObject) -> None:
    """A reference is refused or leads to keys of its own product only, whatever the store lists there; the files have
    plain names, so that they stay in their folder."""
    reference = data.draw(references(card))
    try:
        card.check_reference(reference)
    except UnusableSceneError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000
        return
    names = data.draw(listings(card))
    if card.code in {"c6", "c1"} and data.draw(st.booleans()):
        names.append(f"{reference}.tif")
    store = Listed(names)
    scene = Scene(1, reference, data.draw(moments), 1)
    try:
        product = card.find(scene, store, Extraction())
    except SceneError as error:
        assert Outcome("failed", "failed", one_line(error)).reason.isprintable()
    else:
        for item in product.objects:
            assert SAFE_KEY.fullmatch(item.file_name), item.file_name
            assert item.file_name not in {".", ".."}
        assert {band.file_name for band in product.bands} <= {item.file_name for item in product.objects}
    for asked in store.asked:
        assert SAFE_KEY.fullmatch(asked)
        assert asked.startswith(card.first_folder)
        assert ".." not in asked.split("/")
        assert reference.removesuffix(".SAFE") in asked


# Log lines, output, the log table, the health file


@given(text=st.text(), reference=st.text(), kind=st.sampled_from([RuntimeError, OSError, KeyError, UnicodeError]))
def test_log_lines(text: str, reference: str, kind: type[Exception]) -> None:
    context = SceneContext()
    try:
        raise kind(text)
    except Exception:
        error = sys.exc_info()
    record = logging.LogRecord("extractors.x", logging.ERROR, "", 1, "%s: %s", (text, reference), error)
    with context.about(Scene(7, reference, dt.datetime(2020, 1, 1), 1)):
        context.filter(record)
    first, *others = TextLines().format(record).split("\n")
    assert first.isprintable()
    assert all(line.startswith("  | ") and line.isprintable() for line in others)
    line = JsonLines({}).format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == f"{text}: {reference}"


@given(text=st.text(), encoding=st.sampled_from(["utf-8", "latin-1", "ascii", "cp1252"]))
def test_output_and_details(text: str, encoding: str) -> None:
    class Terminal(StringIO):
        pass

    terminal = Terminal()
    with patch.object(sys, "stdout", terminal), patch.object(Terminal, "encoding", encoding):
        say(text)
    shown = terminal.getvalue()
    shown.encode(encoding)
    assert shown.endswith("\n")
    assert shown[:-1].isprintable()
    assert Outcome("failed", "failed", text).reason == printable(printable(text))


beats = st.fixed_dictionaries(
    {}, optional={"pid": values, "born": values, "doing": values, "by": values}
) | st.fixed_dictionaries({"pid": st.integers(-5, 5), "born": odd_texts, "doing": odd_texts, "by": st.floats()})


@given(content=beats.map(json.dumps).map(str.encode) | st.binary(max_size=200))
def test_health_files(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    wrong = health.verdict(str(path))
    assert wrong is not None
