"""A JSON file of the configuration, read as text: a regular file that is short, and says one thing only."""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from extractors.errors import ConfigurationError, one_line

LARGEST_FILE_BYTES = 1_000_000
# What we have is nested four times.
DEEPEST_NESTING = 20


class _UnusableError(Exception):
    """What is wrong with a file, and how to fix it."""


def read_document(path: Path, option: str) -> tuple[Any, int]:
    """What a file says, and its mode."""
    try:
        content, mode = _content(path)
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_no_number)
        _check_texts(document)
        return document, mode  # noqa: TRY300
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: no such file; copy {path.name}.example to it and fill it in, or name another with "
            f"--{option}-config"
        ) from error
    except PermissionError as error:
        raise ConfigurationError(
            f"{path}: cannot be read by user {os.geteuid()}; change its permissions, or run as its owner (a container "
            'with --user "$(id -u):$(id -g)")'
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error}; see its permissions and encoding (UTF-8)"
        ) from error
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); fix it there"
        ) from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: nested too deeply; remove what does not belong there") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: a number in it has too many digits ({one_line(error)}); fix it") from error
    except _UnusableError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _content(path: Path) -> tuple[bytes, int]:
    """A regular file's content and mode. Nothing else is read: a pipe might never say anything, a device never end."""
    with open(path, "rb", opener=_at_once) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise _UnusableError(
                f"cannot be read: it is {'a pipe' if stat.S_ISFIFO(mode) else 'a device'}; name a file"
            )
        content = file.read(LARGEST_FILE_BYTES + 1)
    if len(content) > LARGEST_FILE_BYTES:
        raise _UnusableError("cannot be read: it is larger than 1 MB; name the file that is meant")
    return content, stat.S_IMODE(mode)


def _at_once(file: str, flags: int) -> int:
    return os.open(file, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of equal keys its readers take the last, people the first."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _UnusableError(f"the key {named(key)} is written twice; remove one of them")
        found[key] = value
    return found


def _no_number(name: str) -> None:
    """NaN and Infinity, which Python's reader takes and JSON has not."""
    raise _UnusableError(f"not valid JSON: {name} is no number; write one")


def _check_texts(document: Any) -> None:
    """Refuse what neither database nor store could be sent: NUL, and halves of characters."""
    remaining: list[tuple[tuple[str, ...], Any]] = [((), document)]
    while remaining:
        where, value = remaining.pop()
        if len(where) > DEEPEST_NESTING:
            raise RecursionError
        if isinstance(value, dict):
            remaining += [((*where, key), below) for key, below in value.items()]
            value = "".join(value)
        elif isinstance(value, list):
            remaining += [((*where, str(number)), below) for number, below in enumerate(value)]
        if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            key = named(*where) or "the file"
            raise _UnusableError(f"{key}: a character in it cannot be used (NUL, or half a one); remove it")


def named(*keys: str) -> str:
    """Keys as they are shown, from the outermost to the innermost. Where a name should be, there may be a URL with a
    password in it, or a book."""
    return ".".join(key if re.fullmatch(r"[\w .-]{1,63}", key) else "(no name)" for key in keys)
