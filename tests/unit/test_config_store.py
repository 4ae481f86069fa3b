"""What `s3_config.json` may say, and the one line for everything that it may not: file, key, remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extractors.config import (
    DirectoryFile,
    read_store_config,
)
from tests.support.configuration import (
    ABSENT,
    CANARY,
    SMALLEST_STORE,
    ReadStore,
    changed,
    refused,
    without_others_words,
)


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


@pytest.mark.parametrize("empty", [ABSENT, None, ""])
def test_without_keys_boto3_looks_for_them_itself(empty: Any, store: ReadStore) -> None:
    settings = store(changed(changed(SMALLEST_STORE, "s3.access_key", empty), "s3.secret_key", empty)).s3
    assert (settings.access_key, settings.secret_key) == (None, None)


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


@pytest.mark.parametrize("key", ["s3.access_key", "s3.secret_key"])
def test_a_key_that_is_a_number_is_not_shown(key: str, store: ReadStore, tmp_path: Path) -> None:
    message = refused(store, changed(SMALLEST_STORE, key, 7337733), tmp_path)
    assert message.startswith(f"s3_config.json: {key}: this number cannot be used (")
    assert "7337733" not in message


@pytest.mark.parametrize(
    "document",
    [[SMALLEST_STORE], {"s3": ["access", CANARY]}, {"s3": f"http://key:{CANARY}@store"}],
    ids=["the whole in a list", "keys in a list", "keys in a URL"],
)
def test_a_store_s_secret_in_an_odd_place_is_not_shown(document: Any, store: ReadStore, tmp_path: Path) -> None:
    assert refused(store, document, tmp_path).startswith("s3_config.json: ")
