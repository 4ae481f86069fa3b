"""Who may import whom: the layers of the package, read from its sources, those under TYPE_CHECKING included.

    commands -> worker -> attempt -> scene -> resources -> database, products, raster, statistics -> base files

The package `operations` may import all of these, and none of them imports it.

Heavy libraries are behind one door, which attempt.py opens when there is a scene to work on.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.support.environment import ROOT

PACKAGE = "extractors"
OPERATIONS = "operations"
DOWNLOAD = "download_with_boto3"
COMMANDS = {f"{PACKAGE}.s2", f"{PACKAGE}.bs", f"{PACKAGE}.c6", f"{PACKAGE}.c1", DOWNLOAD}
BASE = {
    "model",
    "errors",
    "text",
    "config",
    "logs",
    "backoff",
    "failpoints",
    "health",
    "signatures",
    "labels",
    "indices",
}
BASE_PACKAGES = {"config"}
"""Base files that have become too long for one."""
WINGS = ("database", "products", "raster", "statistics", "runtime")
WORKING = {"base", "database", "products", "raster", "statistics"}

MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "database": {"base"},
    "products": {"base"},
    "statistics": {"base"},
    "raster": {"base", "statistics"},
    "runtime": {"base"},
    "resources": WORKING,
    "delivery": WORKING | {"resources"},
    "scene": WORKING | {"resources", "delivery"},
    "start_checks": WORKING | {"resources", "delivery"},
    "attempt": WORKING | {"resources", "scene", "start_checks", "runtime"},
    "worker": WORKING | {"resources", "attempt", "runtime"},
    "command": WORKING | {"resources", "attempt", "worker", "runtime"},
    "operations": WORKING | {"resources", "scene", "attempt", "worker", "runtime", "command"},
}
"""Layer -> other layers that its modules may import. Modules of a wing, and base files, may import their own layer."""

DOOR, HEAVY_CODE = f"{PACKAGE}.attempt", (f"{PACKAGE}.scene", f"{PACKAGE}.start_checks")
"""The one import inside a function: where it stands, and what it opens, each once."""
OTHER_DOOR = f"{OPERATIONS}.doors"
"""That of the other package, through which its verbs are loaded, and what few of them need."""
HEAVY_OPERATIONS = {f"{OPERATIONS}.{name}" for name in ("outlines", "drawing", "ingest", "catalogue", "sources")}
"""Its modules that may load heavy libraries, and packages of such modules."""
STARTS_AT_ONCE = f"{PACKAGE}.health"
"""Runs every few seconds in a container, and may load parts of the standard library only when it needs them."""
HEAVY_LIBRARIES = {"numpy", "pandas", "geopandas", "shapely", "rasterio", "boto3", "botocore", "pyproj", "matplotlib"}
WITH_THE_OUTSIDE = {"psycopg2", "boto3", "botocore", "os", "io", "pathlib", "tempfile", "socket", "subprocess"}
"""What the statistics do without: they know neither files nor tables."""

When = Literal["loaded", "typing", "inside"]


@dataclass(frozen=True)
class Import:
    """What is imported (a module, or something of one), and when: as the module is `loaded`, for type checkers only, or
    inside a function."""

    name: str
    when: When = "loaded"


Imports = Mapping[str, Sequence[Import]]
"""Module -> its imports."""


# Reading


def imports_of(source: str, module: str, is_package: bool = False) -> list[Import]:
    """All imports of a module, with dots in front of a name resolved."""
    return list(_imports(ast.parse(source), module if is_package else module.rpartition(".")[0], "loaded"))


def _imports(node: ast.AST, package: str, when: When) -> Iterator[Import]:
    match node:
        case ast.Import(names=names):
            yield from (Import(alias.name, when) for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            origin = ".".join([*above, module] if module else above)
            yield from (Import(f"{origin}.{alias.name}", when) for alias in names)
        case ast.Call(func=function, args=[name, *_]) if ast.unparse(function).split(".")[-1] in {
            "import_module",
            "__import__",
        }:
            yield Import(str(name.value) if isinstance(name, ast.Constant) else ast.unparse(name), "inside")
        case ast.If(test=test, body=body, orelse=orelse) if ast.unparse(test).split(".")[-1] == "TYPE_CHECKING":
            for statement in body:
                yield from _imports(statement, package, "typing" if when == "loaded" else when)
            for statement in orelse:
                yield from _imports(statement, package, when)
            return
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, package, "inside" if inside else when)


def read_package() -> dict[str, list[Import]]:
    """The imports of all modules of the package, and of the command beside it."""
    found = {DOWNLOAD: imports_of((ROOT / f"{DOWNLOAD}.py").read_text(), DOWNLOAD)}
    for path in sorted([*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / OPERATIONS).rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        found[module] = imports_of(path.read_text(), module, is_package)
    return found


# Judging: each of these gives what is wrong, in words; nothing if all is well


def layer(module: str) -> str:
    """The layer of one of our modules; empty if it has none."""
    if module in COMMANDS:
        return "command"
    if module.partition(".")[0] == OPERATIONS:
        return OPERATIONS
    first = module.split(".")[1] if "." in module else ""
    if module == PACKAGE or (first in BASE and (module.count(".") == 1 or first in BASE_PACKAGES)):
        return "base"
    if first in WINGS:
        return first
    return first if first in MAY_IMPORT and module.count(".") == 1 else ""


def ours(imports: Imports, name: str) -> str:
    """The module of ours that an import loads: `a.b.c` may be a module, or something of a module `a.b`."""
    while name and name not in imports:
        name = name.rpartition(".")[0]
    return name


def without_a_layer(imports: Imports) -> list[str]:
    return [f"{module} belongs to no layer" for module in imports if not layer(module)]


def wrong_directions(imports: Imports) -> list[str]:
    """Imports of a layer that the importing module's layer may not import."""
    found = []
    for module, names in imports.items():
        allowed = MAY_IMPORT.get(layer(module), set()) | ({layer(module)} - {"command"})
        targets = {target for one in names if (target := ours(imports, one.name)) and target != module}
        found += [f"{module} imports {target}" for target in sorted(targets) if layer(target) not in allowed]
    return found


def circles(imports: Imports) -> list[str]:
    """Ways along imports that lead back to where they began, each from its first module in the alphabet."""
    graph = {
        module: sorted({target for one in names if (target := ours(imports, one.name)) and target != module})
        for module, names in imports.items()
    }
    found: set[tuple[str, ...]] = set()
    done: set[str] = set()

    def follow(path: tuple[str, ...]) -> None:
        for target in graph[path[-1]]:
            if target in path:
                circle = path[path.index(target) :]
                first = circle.index(min(circle))
                found.add((*circle[first:], *circle[: first + 1]))
            elif target not in done:
                follow((*path, target))
        done.add(path[-1])

    for module in graph:
        if module not in done:
            follow((module,))
    return [" -> ".join(circle) for circle in sorted(found)]


def imports_inside(imports: Imports) -> list[str]:
    """Imports inside functions, but for the one door and what may be late where all has to be quick."""
    found = []
    for module, names in imports.items():
        inside = [one.name for one in names if one.when == "inside"]
        if module == DOOR:
            for heavy in HEAVY_CODE:
                opened = [name for name in inside if ours(imports, name) == heavy]
                inside = [name for name in inside if name not in opened] + opened[1:]
        if module == OTHER_DOOR:
            inside = inside[1:]
        if module == STARTS_AT_ONCE:
            inside = [name for name in inside if name.split(".")[0] not in sys.stdlib_module_names]
        found += [f"{module} imports {name} inside a function" for name in inside]
    return found


def is_light(module: str) -> bool:
    """Whether a module must load none of the heavy libraries."""
    return (
        (
            layer(module) in {"command", "worker", "attempt", "resources", "base", "runtime", "database"}
            and module not in {DOWNLOAD, f"{PACKAGE}.database.copy"}
        )
        or (layer(module) == OPERATIONS and ".".join(module.split(".")[:2]) not in HEAVY_OPERATIONS)
        or module in {f"{PACKAGE}.products", f"{PACKAGE}.products.card", f"{PACKAGE}.products.layouts"}
    )


def heavy_imports(imports: Imports) -> list[str]:
    """The ways by which light modules load a heavy library as they are loaded."""
    return [
        " -> ".join(way) for module in imports if is_light(module) for way in _ways_to_heavy(imports, (module,), set())
    ]


def _ways_to_heavy(imports: Imports, path: tuple[str, ...], seen: set[str]) -> Iterator[tuple[str, ...]]:
    for one in imports[path[-1]]:
        if one.when != "loaded":
            continue
        target = ours(imports, one.name)
        if not target and one.name.split(".")[0] in HEAVY_LIBRARIES:
            yield (*path, one.name.split(".")[0])
        elif target and target not in seen:
            seen.add(target)
            yield from _ways_to_heavy(imports, (*path, target), seen)


def statistics_with_the_outside(imports: Imports) -> list[str]:
    return [
        f"{module} imports {one.name}"
        for module, names in imports.items()
        if layer(module) == "statistics"
        for one in names
        if one.name.split(".")[0] in WITH_THE_OUTSIDE
    ]


CHECKS: list[Callable[[Imports], list[str]]] = [
    without_a_layer,
    wrong_directions,
    circles,
    imports_inside,
    heavy_imports,
    statistics_with_the_outside,
]
