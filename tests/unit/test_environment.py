"""No variable of the package comes from outside into a test: the list is complete, and what is in it is removed."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import OF_LIBRARIES, ROOT, WORKER_VARIABLES, environment

SOURCES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("extractors/**/*.py"), *ROOT.glob("operations/**/*.py"), ROOT / "download_with_boto3.py"]
)
READER = "environment"
"""What the package calls a function or a mapping that gives the values of variables."""

STARTS_TOOLS = Path("operations/tools.py")
"""Hands all variables on, to the programs that it starts."""


def variables(source: str) -> set[str]:
    """The variables that a module reads; raises LookupError for a use of the environment that is not understood."""
    tree = ast.parse(source)
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = set()
    for name in _names_read(tree, None):
        value = name.value if isinstance(name, ast.Constant) else constants.get(ast.unparse(name))
        if not isinstance(value, str):
            raise LookupError(f"line {name.lineno}: which variable is {ast.unparse(name)}?")
        found.add(value)
    return found


def _names_read(node: ast.AST, above: ast.AST | None) -> Iterator[ast.expr]:
    """The expressions that name a variable which is read."""
    if isinstance(node, ast.FunctionDef) and node.name == READER:
        return  # its calls count
    for child in ast.iter_child_nodes(node):
        if _is_environment(child):
            yield from _name_read(child, node, above)
        yield from _names_read(child, node)


def _is_environment(node: ast.AST) -> bool:
    return ast.unparse(node) in {"os.environ", "os.getenv", READER} if isinstance(node, ast.expr) else False


def _name_read(use: ast.AST, parent: ast.AST, above: ast.AST | None) -> Iterator[ast.expr]:
    match parent, above:
        case (ast.Call(func=function, args=[name, *_]), _) if function is use:
            yield name
        case ast.Attribute(attr="get"), ast.Call(args=[name, *_]):
            yield name
        case ast.Subscript(slice=name, ctx=ast.Load()), _:
            yield name
        case ast.Compare(left=name, ops=[ast.In() | ast.NotIn()]), _:
            yield name
        case (ast.Attribute(attr="setdefault"), ast.Call()) | (ast.Subscript(ctx=ast.Store() | ast.Del()), _):
            pass  # written, not read
        case ast.arguments(), _:
            pass  # the default of a parameter: what is done with that counts
        case _:
            raise LookupError(f"line {getattr(use, 'lineno', 0)}: what is read by {ast.unparse(above or parent)}?")


def test_the_list_is_that_of_the_package() -> None:
    read: dict[str, set[str]] = {}
    for path in SOURCES:
        source = (ROOT / path).read_text()
        if path == STARTS_TOOLS:
            source = source.replace("dict(os.environ)", "{}")
        for name in variables(source):
            read.setdefault(name, set()).add(str(path))
    known = set(WORKER_VARIABLES)
    unknown = {name: read[name] for name in read.keys() - known if not name.startswith(OF_LIBRARIES)}
    assert unknown == {}, "not in tests/support/environment.py"
    assert known - read.keys() == set(), "nothing reads these"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os\nfile = os.environ.get('FILE')", {"FILE"}),
        ("import os\nNAME = 'FILE'\ndef read():\n    return os.environ[NAME]", {"FILE"}),
        ("import os\nwanted = 'ALL' in os.environ or os.getenv('SOME', '')", {"ALL", "SOME"}),
        ("def read(environment=os.environ):\n    return environment.get('FILE', '')", {"FILE"}),
        ("def environment(name):\n    return os.environ.get(name)\nfile = environment('FILE') or ''", {"FILE"}),
        ("os.environ['ONE'] = '1'; os.environ.setdefault('TWO', '2')", set()),
    ],
)
def test_what_reads_a_variable(source: str, found: set[str]) -> None:
    assert variables(source) == found


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef read(name):\n    return os.environ[name]",
        "import os\nkept = dict(os.environ)",
        "import os\nos.environ.pop('FILE')",
        "import os\nnames = [name for name in os.environ]",
        "import os\nfile = os.environ.get(f'FILE_{1}')",
    ],
)
def test_what_might_read_any_variable_is_no_way_round_the_list(source: str) -> None:
    with pytest.raises(LookupError, match="line "):
        variables(source)


def test_commands_are_started_without_what_comes_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    outside = {*WORKER_VARIABLES, "PGPASSWORD", "AWS_ACCESS_KEY_ID", "GDAL_DATA"}
    for name in outside:
        monkeypatch.setenv(name, "from outside")
    assert "from outside" not in environment().values()
    assert environment(ALL="1")["ALL"] == "1"


def test_in_this_process_there_is_nothing_either() -> None:
    """An outer worker's variables, set in the shell that starts the tests."""
    assert os.environ.keys() & set(WORKER_VARIABLES) == set()
