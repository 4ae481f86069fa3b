"""docs/troubleshooting.md has a row for each message with which a command ends or a scene fails, and for no other.

The messages are taken from the code, in a normal form: what is constant in them, with `…` in the place of each value
that is put in. Where the code chooses between two ends of a sentence, that makes two messages.

Not collected:
- what other programs say (PostgreSQL, GDAL, boto3, argparse, pydantic), and how a content differs from what was
  announced: both are values in messages of ours;
- what is wrong with a single product that `ingest` leaves out: nothing ends by it;
- that a scene stays `inprogress`, which is said after a message that is collected.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import importlib
import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING

from extractors.errors import ExtractionError
from tests.support.environment import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

SOURCES = [*(ROOT / "extractors").rglob("*.py"), *(ROOT / "operations").rglob("*.py"), ROOT / "download_with_boto3.py"]
STATEMENTS = ROOT / "extractors" / "database" / "sql"
VALUE = "…"
# Modules whose ValueErrors are what the validation library says of a key.
VALIDATORS = {f"extractors.config.{name}" for name in ("database", "extraction", "store", "values")}
VALIDATORS |= {"extractors.indices", "extractors.labels"}
# Functions that return a message, or all of one but the name of a file or table.
IN_WORDS = {
    "extractors.config.reading": {"_one_line"},
    "extractors.config.store": {"contradiction"},
    "extractors.database.mixing": {"_difference"},
    "extractors.database.publishing": {"_what_is_slow"},
    "extractors.raster.libraries": {"_lost"},
    "extractors.s2": {"_lacking"},
}
FOOTPRINT = "its footprint in … …; fix it"
# Messages that put nothing but a name before another one, which is collected where it is made: by a function of
# IN_WORDS, by a validator, or in `aoi.sql`. And how often: a further one may have a source that is not collected.
PASSED_ON = {
    ("extractors.config.extraction", "…: …"): 1,
    ("extractors.config.extraction", "….…: …"): 1,
    ("extractors.config.json_file", "…: …"): 1,
    ("extractors.config.reading", "…: …"): 3,
    (
        "extractors.database.mixing",
        "… …; write another …, or start with --accept-mixed if both may stand in one table",
    ): 1,
    ("extractors.database.parcels", FOOTPRINT): 1,
    ("extractors.database.publishing", "…"): 1,
    ("extractors.raster.libraries", "…"): 2,
    ("extractors.s2", "…"): 1,
}


def test_every_message_has_a_row_and_every_row_a_message() -> None:
    in_code, rows = messages(), Counter(text for text, _, _ in table())
    assert sorted(in_code - rows.keys()) == [], "messages without a row in docs/troubleshooting.md"
    assert sorted(rows.keys() - in_code) == [], "rows of messages that the code does not say"
    assert [text for text, number in rows.items() if number > 1] == [], "messages with several rows"


def test_every_row_says_what_it_means_and_what_to_do() -> None:
    for text, *cells in table():
        assert all(len(cell) > 5 for cell in cells), text


def table() -> list[tuple[str, str, str]]:
    """The rows of all tables of the page: message, meaning, remedy."""
    lines = re.findall(r"^\| (`+)(.*?)\1 \| (.*) \|$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    return [(text.strip(), *others.split(" | ", maxsplit=1)) for _, text, others in lines]


def messages() -> set[str]:
    """All of the code, without those that only pass another one on."""
    found = Counter((name, text) for path in SOURCES for name, text in _of_module(path))
    assert {passed: found[passed] for passed in PASSED_ON} == PASSED_ON
    texts = {text for _, text in found.keys() - PASSED_ON.keys()}
    assert all(re.search("[a-z]{2}", text) for text in texts), "a message whose words are somewhere else: see PASSED_ON"
    return texts | {FOOTPRINT.replace("… …", f"… {problem}") for problem in _problems()} | _of_lost_scenes()


def _of_module(path: Path) -> Iterator[tuple[str, str]]:
    """The messages of a module, with its name."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if name.endswith(".__main__"):
        return
    module, tree = importlib.import_module(name), ast.parse(path.read_text())
    said = [_argument(node, module) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    speaking = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in IN_WORDS.get(name, ())
    ]
    assert {node.name for node in speaking} == IN_WORDS.get(name, set())
    for function in speaking:
        said += [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and not _is_none(node.value)]
    for node in filter(None, said):
        for text in _texts(node, module):
            yield name, re.sub(rf"({VALUE}|\{{\w*\}}|%[sdg])+", VALUE, text)


def _argument(call: ast.Call, module: ModuleType) -> ast.expr | None:
    """The argument that is a message, if this call makes an error, or says itself what ends the command."""
    called, name = _value(call.func, module), ast.unparse(call.func)
    kind = called if isinstance(called, type) else object
    if kind.__name__ == "Meaning":
        return call.args[1]
    makes_error = (
        issubclass(kind, ExtractionError | argparse.ArgumentTypeError)
        or kind.__name__ == "_UnusableError"
        or (kind is ValueError and module.__name__ in VALIDATORS)
        or name == "parser.error"
        or (name == "log.error" and not _is_only_values(call.args[0]))
    )
    return call.args[0] if makes_error else None


def _value(node: ast.expr, module: ModuleType) -> object:
    """What a name, with dots or without, stands for in a module."""
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, module), node.attr, None)
    return getattr(module, node.id, getattr(builtins, node.id, None)) if isinstance(node, ast.Name) else None


def _is_only_values(node: ast.expr) -> bool:
    """Whether a log line repeats what an error or an outcome says."""
    return isinstance(node, ast.Constant) and set(str(node.value)) <= set("%s: ")


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and not node.value)


def _texts(node: ast.expr, module: ModuleType) -> list[str]:
    """All that an expression can say."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(_texts(part, module)[0] for part in parts)]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return ["".join(pair) for pair in itertools.product(_texts(left, module), _texts(right, module))]
        case ast.IfExp(body=one, orelse=other):
            return _texts(one, module) + _texts(other, module)
        case ast.BoolOp(values=values):
            return [text for value in values for text in _texts(value, module)]
        case ast.FormattedValue(value=ast.Call(func=ast.Attribute(value=template, attr="format"))):
            return _texts(template, module)
        case ast.Name() if isinstance(constant := _value(node, module), str):
            return [constant]
        case _:
            return [VALUE]


def _problems() -> set[str]:
    """What can be wrong with a footprint."""
    statement = re.search(r"^-- :problem\n(.*?)^END$", (STATEMENTS / "aoi.sql").read_text(), re.DOTALL | re.MULTILINE)
    assert statement is not None
    found = set()
    for said in re.findall(r"\bTHEN\s+(.*?)(?=\n +WHEN|\Z)", statement[1], re.DOTALL):
        # Literals stand between every second pair of quotes, and values between these.
        pieces = said.strip().removeprefix("concat(").split("'")
        found.add("".join(piece if i % 2 else VALUE * bool(re.search(r"\w", piece)) for i, piece in enumerate(pieces)))
    return found - {VALUE}


def _of_lost_scenes() -> set[str]:
    found = re.findall(r"outcome = 'lost', detail = '([^']+)'", (STATEMENTS / "attempts.sql").read_text())
    assert found
    return set(found)
