"""Reading and checking the two files. Whatever is wrong with them is a `ConfigurationError` of one line: file, key,
remedy."""

import json
import logging
import re
import stat
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import psycopg2.extensions
from pydantic import BaseModel, ValidationError

from extractors.config.database import Connection, DatabaseFile
from extractors.config.json_file import named, read_document
from extractors.config.store import KEYS, Directory, DirectoryFile, Store, StoreFile, contradiction, without_empty_keys
from extractors.config.values import nearest
from extractors.errors import ConfigurationError

log = logging.getLogger(__name__)

# Of keys and values that are shown; a file may hold anything.
LONGEST_SHOWN = 120
# What makes others than its owner able to read a file, or to change where it sends our secrets.
FOR_ALL = stat.S_IROTH | stat.S_IWOTH

File = TypeVar("File", DatabaseFile, StoreFile, DirectoryFile)


def read_database_config(path: Path) -> DatabaseFile:
    """Read and check `db_config.json`; raises ConfigurationError."""
    document, mode = read_document(path, "db")
    config = _validated(path, document, DatabaseFile)
    for key, value in (config.connection.model_extra or {}).items():
        where = f"{path}: database.connection.{named(key)}"
        if key in {"user", "password"}:
            raise ConfigurationError(f"{where}: write `db{key.replace('password', 'passwd')}` instead of `{key}`")
        try:
            # What psycopg2 would swallow without a word: `database` for `dbname`, any key without a value, a key that
            # holds another one with its value.
            if key == "database" or not re.fullmatch(r"\w+", key):
                raise psycopg2.ProgrammingError(key)  # noqa: TRY301
            psycopg2.extensions.make_dsn(**{key: "" if value is None else str(value)})
        except psycopg2.ProgrammingError as error:
            raise ConfigurationError(
                f"{where}: unknown key, neither ours nor one of libpq's connection parameters; "
                f"{nearest(key, list(Connection.model_fields))}"
            ) from error
        if isinstance(value, dict | list):
            raise ConfigurationError(f"{where}: this {_KINDS[type(value)]} cannot be used; write a text or a number")
    if config.connection.holds_secrets:
        _warn_of_readers(path, mode)
    return config


def read_store_config(path: Path) -> StoreFile | DirectoryFile:
    """Read and check `s3_config.json`; raises ConfigurationError."""
    document, mode = read_document(path, "s3")
    document = without_empty_keys(document)
    section = document.get("s3") if isinstance(document, dict) else None
    if isinstance(section, dict) and "directory" in section:
        others = [key for key in Store.model_fields if key in section and key not in Directory.model_fields]
        if others:
            raise ConfigurationError(
                f"{path}: s3.directory: a directory has no {', '.join(others)}; remove them, or remove directory"
            )
        return _validated(path, document, DirectoryFile)
    config = _validated(path, document, StoreFile)
    problem = contradiction(config.s3)
    if problem is not None:
        raise ConfigurationError(f"{path}: {problem}")
    if config.s3.secret_key is not None:
        _warn_of_readers(path, mode)
    return config


@cache
def _warn_of_readers(path: Path, mode: int) -> None:
    """Say once that others than its owner may read or change a file with secrets in it."""
    if mode & FOR_ALL:
        log.warning(
            "%s: secrets are in it, and every user of this machine may read or change it (mode %o); chmod 600 it, and "
            'run as its owner (a container with --user "$(id -u):$(id -g)")',
            path,
            mode,
        )


def _validated(path: Path, document: Any, model: type[File]) -> File:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_one_line(error, model, document)}") from error


def _one_line(error: ValidationError, model: type[BaseModel], document: Any) -> str:
    """The first problem in words: key, what is wrong, what to write. Never the value of a secret."""
    # An unknown key says more than the missing key that it was meant to be.
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if isinstance(part, str)]
    key = named(*location) or "the file"
    owner, field = _field(model, location)
    example = json.dumps(field.examples[0]) if field is not None and field.examples else "an object {...}"
    if first["type"] == "extra_forbidden":
        elsewhere = ["directory"] if owner is Store else []
        return f"{key}: unknown key; {nearest(location[-1], [*owner.model_fields, *elsewhere])}"
    if first["type"] == "missing":
        return f"{key} is missing; add it, for example {json.dumps(location[-1])}: {example}"
    if first["type"] == "value_error" and not (field is not None and field.examples):  # a rule over several keys
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    value: Any = document
    for part in location:
        value = value.get(part) if isinstance(value, dict) else None
    # Whole objects may hold secrets, and so may whatever stands where one is expected.
    showable = field is not None and field.examples and not _is_secret(location) and not isinstance(value, dict | list)
    # A URL may have a password in it, and so may a string of parameters.
    showable = showable and not (isinstance(value, str) and re.search("[@?#=]|://", value))
    shown = _short(json.dumps(value)) if showable else f"this {_KINDS.get(type(value), 'value')}"
    return (
        f"{key}: {shown} cannot be used ({first['msg'].removeprefix('Value error, ')}); write, for example, {example}"
    )


def _field(model: type[BaseModel], location: list[str]) -> tuple[type[BaseModel], Any]:
    """The section that holds the key at `location`, and the key's field (None where there is none)."""
    owner: type[BaseModel] = model
    field = None
    for part in location:
        if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            owner = field.annotation
        field = owner.model_fields.get(part)
    if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        owner = field.annotation
    return owner, field


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


_KINDS = {dict: "object", list: "list", str: "text", bool: "value", int: "number", float: "number"}


def _is_secret(location: list[str]) -> bool:
    return any(part in {"dbpasswd", *KEYS} for part in location)
