"""The SQL: in files, in named blocks, with identifiers in braces and values as parameters, and nowhere else."""

from __future__ import annotations

import ast
import re
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

import extractors
from extractors.database.results import _sql_type
from extractors.database.sql import BLOCK, statement

ROOT = Path(__file__).parents[2]
PACKAGE = Path(extractors.__file__).parent
SQL_FILES = ("catalogue", "parcels", "session", "signatures", "tables")


def blocks() -> list[tuple[str, str]]:
    """Every block as (file.name, text), read by hand."""
    found = []
    for name in SQL_FILES:
        text = (files("extractors.database.sql") / f"{name}.sql").read_text(encoding="utf-8")
        parts = BLOCK.split(text)
        assert parts[0].strip() == "", f"{name}.sql has text before its first block"
        found += [(f"{name}.{block}", body) for block, body in zip(parts[1::2], parts[2::2], strict=True)]
    return found


BLOCKS = blocks()
each_block = pytest.mark.parametrize(("name", "text"), BLOCKS, ids=[name for name, _ in BLOCKS])


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def braces(text: str) -> set[str]:
    return set(re.findall(r"\{(\w*)\}", text))


def test_the_files_are_those_of_the_package() -> None:
    assert {path.name.removesuffix(".sql") for path in PACKAGE.rglob("*.sql")} == set(SQL_FILES)


def test_no_name_is_there_twice() -> None:
    names = [name for name, _ in BLOCKS]
    assert sorted(names) == sorted(set(names))


@each_block
def test_a_block_loads_with_an_identifier_for_each_brace(name: str, text: str) -> None:
    composed = statement(name, **{placeholder: sql.Identifier(f"<{placeholder}>") for placeholder in braces(text)})
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
        statement("catalogue.nothing")
    with pytest.raises(FileNotFoundError):
        statement("nothing.claim")


def test_every_block_is_used() -> None:
    code = " ".join("\n".join(path.read_text() for path in PACKAGE.rglob("*.py")).split())
    for name, _ in BLOCKS:
        file_name, block = name.split(".")
        asked_for = [f'statement("{name}"', f'statement( "{name}"']
        if file_name == "parcels":  # as `parcels.{what}`
            asked_for += [f'_selection("{block}"']
        if block in {"create_results", "create_hists"}:
            asked_for += ['statement(f"tables.create_{kind}"']
        assert any(text in code for text in asked_for), name


# No SQL is put together in the code

LOADER = PACKAGE / "database" / "sql" / "__init__.py"
MODULES = sorted({*PACKAGE.rglob("*.py")} - {LOADER})
RUNS_SQL = {"execute", "executemany", "copy_expert", "callproc", "mogrify", "execute_values", "execute_batch"}
COMPOSERS = {"statement", "_selection"}
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
    return isinstance(argument, ast.Call) and isinstance(argument.func, ast.Name) and argument.func.id in COMPOSERS


def functions(path: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
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


COMPUTED = {"_sql_type(pid_type)", "form", "query"}
"""The texts that are computed: the type of the ids, COPY's format, and a statement whose values the driver has put in.
They are looked at below."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
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


def test_the_format_of_copy_is_one_of_two_words() -> None:
    tree = ast.parse((PACKAGE / "database" / "results.py").read_text())
    made = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "form"
    ]
    assert [ast.unparse(value) for value in made] == ["'binary' if self._is_binary else 'csv'"]


@pytest.mark.parametrize(
    ("pid_type", "expected"),
    [("int2", "integer"), ("int4", "integer"), ("int8", "bigint"), ("text; DROP TABLE x", "integer")],
)
def test_the_type_of_the_ids_is_one_of_two_words(pid_type: str, expected: str) -> None:
    assert _sql_type(pid_type) == expected


# Packaging


def setuptools() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_the_sql_files_are_packaged() -> None:
    patterns = setuptools()["package-data"]["extractors.database.sql"]
    for name in SQL_FILES:
        assert any(fnmatch(f"{name}.sql", pattern) for pattern in patterns)


def test_every_package_is_found() -> None:
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert "extractors.database.sql" in packages
    include = setuptools()["packages"]["find"]["include"]
    assert all(any(fnmatch(package, pattern) for pattern in include) for package in packages)


def test_every_folder_with_code_is_a_package() -> None:
    assert all((path.parent / "__init__.py").exists() for path in PACKAGE.rglob("*.py"))
