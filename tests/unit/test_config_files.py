"""Configuration files that are none, that are too much, or that say too much to others: refused in words, exit 2, or
warned of once."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extractors.config import read_database_config, read_store_config
from extractors.config.json_file import LARGEST_FILE_BYTES
from extractors.errors import ConfigurationError
from tests.support.configuration import (
    CANARY,
    SMALLEST_DATABASE,
    SMALLEST_STORE,
    changed,
    refused,
    without_others_words,
)
from tests.support.environment import ROOT

Read = Callable[[Any], Any]
READERS = {"db": (read_database_config, SMALLEST_DATABASE), "s3": (read_store_config, SMALLEST_STORE)}
both = pytest.mark.parametrize(("read", "document"), READERS.values(), ids=READERS)


def said_of(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert message.startswith(f"{path}: ")
    assert len(message) < 1000
    assert CANARY not in message
    return message.removeprefix(f"{path}: ")


# No file of ours


COMMANDS = {"worker": ("extractors.s2", "--db-config"), "download": ("download_with_boto3", "--s3-config")}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe(command: str, tmp_path: Path) -> None:
    """Nobody writes into it: opened like a file, it would be waited for without a word."""
    path = tmp_path / "config.json"
    os.mkfifo(path)
    module, option = COMMANDS[command]
    more = ["list", "x"] if command == "download" else []
    done = subprocess.run(
        [sys.executable, "-m", module, option, path, *more],
        cwd=ROOT, text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"{path}: cannot be read: it is a pipe" in done.stderr


@both
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_no_regular_file(read: Any, document: Any, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert said_of(read, path).startswith("cannot be read: ")


@both
def test_a_file_without_end(read: Any, document: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document) + " " * LARGEST_FILE_BYTES)
    assert said_of(read, path).startswith("cannot be read: it is larger than 1 MB")
    path.write_text(json.dumps(document).ljust(LARGEST_FILE_BYTES))
    read(path)


@both
def test_a_link_to_a_file(read: Any, document: Any, tmp_path: Path) -> None:
    """As secrets of containers are mounted by some."""
    (tmp_path / "there").write_text(json.dumps(document))
    (tmp_path / "config.json").symlink_to("there")
    read(tmp_path / "config.json")


# No JSON of ours

BROKEN: dict[str, bytes] = {
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "nested and closed": b"[" * 900 + b"]" * 900,
    "nested in a setting": b'{"database": {"connection": {"zzz": ' + b"[" * 100 + b"]" * 100 + b"}}}",
    "a number without end": b'{"database": ' + b"9" * 100_000 + b"}",
    "a NUL between": b'{"database": \0}',
    "UTF-16": json.dumps(SMALLEST_DATABASE).encode("utf-16"),
    "UTF-32": json.dumps(SMALLEST_DATABASE).encode("utf-32"),
    "no text": bytes(range(256)),
    "only a byte order mark": b"\xef\xbb\xbf",
    "two documents": b"{} {}",
    "an endless key": b'{"' + b"k" * 900_000 + b'": 1}',
    "a key with escapes": rb'{"\u001b[2J\n": 1}',
    "half a character in a key": rb'{"\ud83d": 1}',
}


@both
@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken(read: Any, document: Any, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    said_of(read, path)


@both
def test_nesting_is_named(read: Any, document: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(BROKEN["nested lists"])
    assert "too deeply" in said_of(read, path)


@both
def test_keys_that_are_written_twice(read: Any, document: Any, tmp_path: Path) -> None:
    """JSON's readers take the last one, people the first one."""
    text = json.dumps(document)
    path = tmp_path / "config.json"
    for once, twice in (('"host":', '"host": "elsewhere", "host":'), ("{", '{"s3": {}, "database": {}, ')):
        path.write_text(text.replace(once, twice, 1))
        assert " is written twice; remove one of them" in said_of(read, path)


@pytest.mark.parametrize("text", ["\0", f"{CANARY}\0", "\ud83d", f"{CANARY}\udcff"])
@pytest.mark.parametrize(
    "key", ["connection.dbpasswd", "connection.host", "connection.sslmode", "args.name", "tables.parcel_id"]
)
def test_texts_that_nobody_can_send(key: str, text: str, database: Read, tmp_path: Path) -> None:
    said = refused(database, changed(SMALLEST_DATABASE, f"database.{key}", text), tmp_path)
    assert said.startswith(f"db_config.json: database.{key}: ")
    assert said.isprintable()


@pytest.mark.parametrize("text", ["\0", f"{CANARY}\0", f"{CANARY}\ud83d"])
@pytest.mark.parametrize("key", ["secret_key", "access_key", "bucket", "ca_file"])
def test_texts_that_no_store_understands(key: str, text: str, store: Read, tmp_path: Path) -> None:
    said = refused(store, changed(SMALLEST_STORE, f"s3.{key}", text), tmp_path)
    assert said.startswith(f"s3_config.json: s3.{key}: ")


def test_texts_in_lists_and_settings(database: Read, tmp_path: Path) -> None:
    document = changed(SMALLEST_DATABASE, "extraction.server_settings", {"lock_timeout": "1s\0"})
    said = refused(database, document, tmp_path)
    assert said.startswith("db_config.json: extraction.server_settings.lock_timeout: ")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400 + ".0"])
@pytest.mark.parametrize(
    ("read", "document", "key"),
    [
        (read_database_config, SMALLEST_DATABASE, "extraction.retry_pause_seconds"),
        (read_database_config, SMALLEST_DATABASE, "extraction.absent_retry_hours"),
        (read_store_config, SMALLEST_STORE, "s3.retry_seconds"),
    ],
)
def test_numbers_that_are_none(number: str, read: Any, document: Any, key: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(changed(document, key, "HERE")).replace('"HERE"', number))
    said_of(read, path)


@pytest.mark.parametrize("key", ["hostaddr=192.0.2.1 sslmode", " sslmode", "sslmode ", ""])
def test_keys_that_hold_another_one(key: str, database: Read, tmp_path: Path) -> None:
    """psycopg2 would write it into a string of parameters as it is."""
    document = json.loads(json.dumps(SMALLEST_DATABASE))
    document["database"]["connection"][key] = "disable"
    assert "unknown key" in refused(database, document, tmp_path)


@pytest.mark.parametrize("value", [["require"], {"a": "b"}])
def test_parameters_that_are_no_text(value: Any, database: Read, tmp_path: Path) -> None:
    said = refused(database, changed(SMALLEST_DATABASE, "database.connection.sslmode", value), tmp_path)
    assert said.startswith("db_config.json: database.connection.sslmode: ")


# What it says to others

STORE_URLS = {
    "name and password": f"http://jo:{CANARY}@data.example",
    "a name": f"https://{CANARY}@data.example/",
    "an empty name": f"https://:{CANARY}@data.example",
    "a question": f"https://data.example/?X-Amz-Signature={CANARY}",
    "a fragment": f"https://data.example/#{CANARY}",
    "a letter that is none": f"https://jo:{CANARY}@data\u2100.example",
    "a broken address": f"https://jo:{CANARY}@[::1",
    "a port that is none": f"https://data.example:{CANARY}",
    "a port too high": "https://data.example:99999",
    "no host": "https:///bucket",
    "escapes": "https://data\x1b[2J.example",
}


@pytest.mark.parametrize("url", STORE_URLS.values(), ids=STORE_URLS)
def test_a_store_s_url_holds_no_secret(url: str, store: Read, tmp_path: Path) -> None:
    said = refused(store, changed(SMALLEST_STORE, "s3.host", url), tmp_path)
    assert without_others_words(said).startswith("s3_config.json: s3.host: ")
    assert said.isprintable()


@pytest.mark.parametrize(
    "url", ["http://data.example", "https://data.example:8443/path/", "http://[::1]:9000", "http://127.0.0.1:9"]
)
def test_urls_of_stores(url: str, store: Read) -> None:
    assert store(changed(SMALLEST_STORE, "s3.host", url)).s3.host == url


@pytest.mark.parametrize("name", [f"postgresql://jo:{CANARY}@db.example/cbm", f"postgres://x/?password={CANARY}"])
def test_a_database_s_name_is_no_url(name: str, database: Read, tmp_path: Path) -> None:
    """The server would repeat it, as the name of a database that does not exist."""
    said = refused(database, changed(SMALLEST_DATABASE, "database.connection.dbname", name), tmp_path)
    assert said.startswith("db_config.json: database.connection.dbname: this text cannot be used (")


def test_secrets_among_the_parameters_are_not_in_the_text_of_a_configuration(database: Read) -> None:
    config = database(changed(SMALLEST_DATABASE, "database.connection.sslpassword", f"{CANARY}-of-the-key"))
    for shown in (repr(config), str(config), repr(config.connection), f"{config.connection}"):
        assert CANARY not in shown
    assert config.connection.libpq()["sslpassword"] == f"{CANARY}-of-the-key"


EXPOSED = {
    "all may read": (0o644, True),
    "all may write": (0o602, True),
    "the group may read": (0o640, False),
    "nobody else": (0o600, False),
}


@both
@pytest.mark.parametrize(("mode", "warned"), EXPOSED.values(), ids=EXPOSED)
def test_secrets_that_all_may_read(
    read: Any, document: Any, mode: int, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    path.chmod(mode)
    with caplog.at_level(logging.WARNING, "extractors.config"):
        read(path)
        read(path)
    assert len(caplog.messages) == (1 if warned else 0)
    for message in caplog.messages:
        assert message.startswith(f"{path}: ")
        assert "chmod" in message


def test_without_secrets_all_may_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database, store = tmp_path / "db.json", tmp_path / "s3.json"
    database.write_text(json.dumps(changed(SMALLEST_DATABASE, "database.connection.dbpasswd", "")))
    store.write_text(json.dumps({"s3": {"host": "http://store", "bucket": "b"}}))
    for path in (database, store):
        path.chmod(0o644)
    with caplog.at_level(logging.WARNING, "extractors.config"):
        read_database_config(database)
        read_store_config(store)
    assert caplog.messages == []


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
