"""The SQL: in files, in named blocks, with identifiers in braces and values as parameters, and nowhere else."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

import extractors
import operations
import operations.sql
from extractors.database.sql import BLOCK, statement

ROOT = Path(__file__).parents[2]
PACKAGE, OPERATIONS = Path(extractors.__file__).parent, Path(operations.__file__).parent
SQL_FILES = (
    "aoi", "attempts", "checks", "connection", "duplicates", "parcels", "places", "queue", "redo", "results", "slots",
    "tables",
)  # fmt: skip
OPERATIONS_FILES = (
    "archive", "area", "forecast", "indexes", "ingest", "listing", "partitions", "progress", "report", "retry", "role",
    "session", "setup", "views",
)  # fmt: skip


def blocks(package: str, names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Every block as (file.name, text), read by hand."""
    found = []
    for name in names:
        text = (files(package) / f"{name}.sql").read_text(encoding="utf-8")
        parts = BLOCK.split(text)
        assert parts[0].strip() == "", f"{name}.sql has text before its first block"
        found += [(f"{name}.{block}", body) for block, body in zip(parts[1::2], parts[2::2], strict=True)]
    return found


BLOCKS = blocks("extractors.database.sql", SQL_FILES)
OF_OPERATIONS = blocks("operations.sql", OPERATIONS_FILES)
ALL_BLOCKS = [*BLOCKS, *OF_OPERATIONS]
each_block = pytest.mark.parametrize(("name", "text"), ALL_BLOCKS, ids=[name for name, _ in ALL_BLOCKS])


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def statement_of(name: str) -> Callable[..., sql.Composed]:
    """What loads a block."""
    return operations.sql.statement if name.partition(".")[0] in OPERATIONS_FILES else statement


def braces(text: str) -> set[str]:
    return set(re.findall(r"\{(\w*)\}", text))


def test_the_files_are_those_of_the_package() -> None:
    assert {path.name.removesuffix(".sql") for path in PACKAGE.rglob("*.sql")} == set(SQL_FILES)
    # One more is for psql.
    wanted = {*OPERATIONS_FILES, "worker_role"}
    assert {path.name.removesuffix(".sql") for path in OPERATIONS.rglob("*.sql")} == wanted


def test_no_name_is_there_twice() -> None:
    names = [name for name, _ in ALL_BLOCKS]
    assert sorted(names) == sorted(set(names))


@each_block
def test_a_block_loads_with_an_identifier_for_each_brace(name: str, text: str) -> None:
    composed = statement_of(name)(
        name, **{placeholder: sql.Identifier(f"<{placeholder}>") for placeholder in braces(text)}
    )
    # What is left after the identifiers went in holds no brace any more.
    rest = "".join(part.string for part in composed.seq if isinstance(part, sql.SQL))
    assert "{" not in rest
    assert "}" not in rest
    assert {part.strings[0] for part in composed.seq if isinstance(part, sql.Identifier)} == {
        f"<{placeholder}>" for placeholder in braces(text)
    }


@each_block
def test_a_block_says_what_it_is_for(name: str, text: str) -> None:
    purpose = text.split("\n", 1)[0]
    assert re.match(r"-- \S.{15,}", purpose), name


@each_block
def test_braces_hold_a_name_and_values_are_named_parameters(name: str, text: str) -> None:
    code = without_comments(text)
    assert "{}" not in code
    assert code.count("{") == code.count("}") == len(re.findall(r"\{[a-z_]+\}", code))
    assert code.count("%") == len(re.findall(r"%\([a-z_]+\)s", code))
    # A parameter that is quoted by hand would be a text with quotes in it.
    assert not [literal for literal in re.findall(r"'[^']*'", code) if "%" in literal]


@each_block
def test_a_block_is_one_statement(name: str, text: str) -> None:
    body = re.sub(r"\$\$.*?\$\$", "", without_comments(text), flags=re.DOTALL)
    assert ";" not in body.strip().rstrip(";"), name


def test_an_unknown_block() -> None:
    with pytest.raises(KeyError):
        statement("queue.nothing")
    with pytest.raises(FileNotFoundError):
        statement("nothing.claim")


def test_every_block_is_used() -> None:
    code = "\n".join(path.read_text() for path in [*PACKAGE.rglob("*.py"), *OPERATIONS.rglob("*.py")])
    used = re.findall(r'(?:(?:statement|shared)\(|Output\("\w+", \w+,)\s*"([a-z_.]+)"', code)
    assert set(used) == {name for name, _ in ALL_BLOCKS}


def test_what_the_aoi_is_stands_in_one_place() -> None:
    """Whatever looks for scenes or parcels puts it in."""
    code = {name: without_comments(text) for name, text in BLOCKS}
    assert [name for name, text in code.items() if "{aois}" in text] == [
        "aoi.areas", "checks.try_area", "checks.area_to_fix", "checks.area_box", "tables.count_aois"
    ]  # fmt: skip
    assert [name for name, text in code.items() if "ST_Segmentize({" in text] == ["aoi.in_srid"]
    assert {name for name, text in code.items() if "{areas}" in text} == {
        "queue.claim", "queue.claimable", "queue.explain", "queue.waiting", "queue.foreign", "queue.any_wanted",
        "queue.excluded", "parcels.selection", "duplicates.newer", "duplicates.older", "duplicates.passed_over",
    }  # fmt: skip


# No SQL is put together in the code

LOADERS = {PACKAGE / "database" / "sql" / "__init__.py", OPERATIONS / "sql" / "__init__.py"}
MODULES = sorted({*PACKAGE.rglob("*.py"), *OPERATIONS.rglob("*.py")} - LOADERS)
RUNS_SQL = {"execute", "executemany", "copy_expert", "callproc", "mogrify", "execute_values", "execute_batch"}
COMPOSERS = {"statement", "shared", "_selection"}
"""What a call that runs SQL may be given: these return `psycopg2.sql.Composed`."""


def calls(tree: ast.AST, names: set[str]) -> list[ast.Call]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in names:
                found.append(node)
    return found


def is_constant_or_composed(argument: ast.expr, function: ast.AST) -> bool:
    if isinstance(argument, ast.Constant):
        return isinstance(argument.value, str)
    if isinstance(argument, ast.Name):  # a local name for such a thing
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == argument.id
        ]
        return bool(values) and all(is_constant_or_composed(value, ast.Module([], [])) for value in values)
    return isinstance(argument, ast.Call) and ast.unparse(argument.func) in COMPOSERS


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sql_comes_from_the_files(path: Path) -> None:
    in_functions = [(call, function) for function in functions(path) for call in calls(function, RUNS_SQL)]
    assert {call.lineno for call, _ in in_functions} == {
        call.lineno for call in calls(ast.parse(path.read_text()), RUNS_SQL)
    }
    for call, function in in_functions:
        shown = f"{path.name}:{call.lineno}: {ast.unparse(call)[:100]}"
        assert call.args, shown
        assert is_constant_or_composed(call.args[0], function), shown


def test_that_test_sees_what_it_looks_for() -> None:
    for text in (
        'cursor.execute(f"SELECT {x}")',
        'cursor.execute("SELECT %s" % x)',
        'cursor.execute("SELECT {}".format(x))',
        'cursor.execute("SELECT " + x)',
        "cursor.execute(text)",
        'text = f"SELECT {x}"; cursor.execute(text)',
        'text = "SELECT 1"; text = "SELECT %s" % x; cursor.execute(text)',
        'cursor.copy_expert(f"COPY {x}", file)',
    ):
        tree = ast.parse(text)
        (call,) = calls(tree, RUNS_SQL)
        assert not is_constant_or_composed(call.args[0], tree), text


COMPUTED = {"query"}
"""The text that is computed: a statement whose values the driver has put in. It is looked at below."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_raw_sql_is_a_constant(path: Path) -> None:
    # `sql.SQL(...)` puts its text into a statement unquoted.
    for call in calls(ast.parse(path.read_text()), {"SQL"}):
        argument = ast.unparse(call.args[0])
        assert isinstance(call.args[0], ast.Constant) or argument in COMPUTED, f"{path.name}: {argument}"


def test_a_query_within_copy_is_one_that_the_driver_made() -> None:
    tree = ast.parse((PACKAGE / "database" / "parcels.py").read_text())
    made = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "query"
    ]
    assert [ast.unparse(value).split("(")[0] for value in made] == ["cursor.mogrify"]


# Packaging


def setuptools() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_the_sql_files_are_packaged() -> None:
    patterns = setuptools()["package-data"]["extractors.database.sql"]
    assert setuptools()["package-data"]["operations.sql"] == patterns
    for name in (*SQL_FILES, *OPERATIONS_FILES):
        assert any(fnmatch(f"{name}.sql", pattern) for pattern in patterns)


def test_every_package_is_found() -> None:
    parts = [*PACKAGE.rglob("__init__.py"), *OPERATIONS.rglob("__init__.py")]
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in parts}
    assert {"extractors.database.sql", "operations.sql"} <= packages
    include = setuptools()["packages"]["find"]["include"]
    assert all(any(fnmatch(package, pattern) for pattern in include) for package in packages)


def test_every_folder_with_code_is_a_package() -> None:
    assert all((path.parent / "__init__.py").exists() for path in PACKAGE.rglob("*.py"))
