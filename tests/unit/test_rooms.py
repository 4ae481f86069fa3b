"""Who may import whom: the layers of the package, read from its sources, those under TYPE_CHECKING included.

    commands -> worker -> attempt -> scene -> resources -> database, products, raster, statistics -> base files

Heavy libraries are behind one door, which attempt.py opens when there is a scene to work on.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from tests.support.environment import ROOT, environment

PACKAGE = "extractors"
DOWNLOAD = "download_with_boto3"
COMMANDS = {f"{PACKAGE}.s2", f"{PACKAGE}.bs", f"{PACKAGE}.c6", DOWNLOAD}
BASE = {"model", "errors", "config", "logs", "backoff", "failpoints", "health", "signatures"}
WINGS = ("database", "products", "raster", "statistics", "runtime")

MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "database": {"base"},
    "products": {"base"},
    "statistics": {"base"},
    "raster": {"base", "statistics"},
    "runtime": {"base"},
    "resources": {"base", "database", "products", "raster", "statistics"},
    "scene": {"base", "database", "products", "raster", "statistics", "resources"},
    "attempt": {"base", "database", "products", "raster", "statistics", "resources", "scene", "runtime"},
    "worker": {"base", "database", "products", "raster", "statistics", "resources", "attempt", "runtime"},
    "command": {"base", "database", "products", "raster", "statistics", "resources", "attempt", "runtime", "worker"},
}
"""Layer -> other layers that its modules may import. Modules of a wing, and base files, may import their own layer."""

DOOR, HEAVY_CODE = f"{PACKAGE}.attempt", f"{PACKAGE}.scene"
"""The one import inside a function: where it stands, and what it opens."""
STARTS_AT_ONCE = f"{PACKAGE}.health"
"""Runs every few seconds in a container, and may load parts of the standard library only when it needs them."""
HEAVY_LIBRARIES = {"numpy", "pandas", "geopandas", "shapely", "rasterio", "boto3", "botocore", "pyproj"}
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
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
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
    first = module.split(".")[1] if "." in module else ""
    if module == PACKAGE or (first in BASE and module.count(".") == 1):
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
            inside = [name for name in inside if ours(imports, name) != HEAVY_CODE] + [
                name for name in inside if ours(imports, name) == HEAVY_CODE
            ][1:]
        if module == STARTS_AT_ONCE:
            inside = [name for name in inside if name.split(".")[0] not in sys.stdlib_module_names]
        found += [f"{module} imports {name} inside a function" for name in inside]
    return found


def is_light(module: str) -> bool:
    """Whether a module must load none of the heavy libraries."""
    return (
        layer(module) in {"command", "worker", "attempt", "resources", "base", "runtime", "database"}
        and module not in {DOWNLOAD, f"{PACKAGE}.database.copy"}
    ) or module in {f"{PACKAGE}.products", f"{PACKAGE}.products.card", f"{PACKAGE}.products.layouts"}


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


# The package


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package(check: Callable[[Imports], list[str]]) -> None:
    assert check(read_package()) == []


def test_light_modules_load_nothing_heavy() -> None:
    """What the sources do not show: a light library might itself load a heavy one."""
    light = [module for module in read_package() if is_light(module)]
    assert f"{PACKAGE}.s2" in light
    assert loaded_by(light) == {}


def test_heavy_modules_do() -> None:
    """The control: a heavy module, imported in the same way, is found to load what it loads."""
    found = loaded_by([f"{PACKAGE}.errors", f"{PACKAGE}.raster.bands"])
    assert list(found) == [f"{PACKAGE}.raster.bands"]
    assert {"numpy", "rasterio"} <= found[f"{PACKAGE}.raster.bands"]


def loaded_by(modules: Iterable[str]) -> dict[str, set[str]]:
    """Module -> heavy libraries that came with it, as these modules are imported one after the other."""
    code = (
        "import importlib, sys\n"
        "before = set()\n"
        "for module in sys.argv[2:]:\n"
        "    importlib.import_module(module)\n"
        "    now = set(sys.argv[1].split(',')) & sys.modules.keys()\n"
        "    print(module, *sorted(now - before))\n"
        "    before = now\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(HEAVY_LIBRARIES), *modules],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {module: set(libraries) for module, *libraries in lines if libraries}


# The checks themselves: a small package in which all is well, and the same with one thing wrong

SOUND: dict[str, list[Import]] = {
    DOWNLOAD: [Import("extractors.products.store.ObjectStore"), Import("extractors.runtime.options.read_options")],
    "extractors": [],
    "extractors.s2": [Import("extractors.products.card.Card"), Import("extractors.worker.main")],
    "extractors.bs": [Import("extractors.worker.main")],
    "extractors.worker": [
        Import("extractors.attempt.attempt"),
        Import("extractors.resources.Resources"),
        Import("extractors.runtime.signals.Stopping"),
    ],
    "extractors.attempt": [
        Import("extractors.resources.Resources"),
        Import("extractors.runtime.scratch.scratch"),
        Import("extractors.scene", "inside"),
    ],
    "extractors.scene": [Import("extractors.raster.bands.scene_bands"), Import("extractors.resources.Resources")],
    "extractors.resources": [
        Import("extractors.database.connection.connect"),
        Import("extractors.products.store.ObjectStore", "typing"),
    ],
    "extractors.database": [],
    "extractors.database.connection": [Import("psycopg2.sql"), Import("extractors.errors.OutageError")],
    "extractors.database.copy": [Import("numpy"), Import("extractors.database.connection")],
    "extractors.products": [],
    "extractors.products.card": [Import("extractors.model.Product")],
    "extractors.products.store": [Import("boto3")],
    "extractors.raster": [],
    "extractors.raster.bands": [Import("rasterio"), Import("extractors.statistics.zonal.compute")],
    "extractors.statistics": [],
    "extractors.statistics.zonal": [Import("numpy"), Import("extractors.signatures.Signatures")],
    "extractors.runtime": [],
    "extractors.runtime.options": [Import("argparse")],
    "extractors.runtime.scratch": [Import("extractors.failpoints")],
    "extractors.runtime.signals": [Import("signal")],
    "extractors.model": [Import("geopandas", "typing"), Import("extractors.signatures.ChunkResult", "typing")],
    "extractors.signatures": [Import("numpy", "typing")],
    "extractors.errors": [],
    "extractors.failpoints": [Import("extractors.errors.ConfigurationError")],
    "extractors.health": [Import("logging", "inside")],
}


def and_also(module: str, name: str, when: When = "loaded") -> dict[str, list[Import]]:
    """The small package with one import more."""
    return SOUND | {module: [*SOUND.get(module, []), Import(name, when)]}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_sound_package_passes(check: Callable[[Imports], list[str]]) -> None:
    assert check(SOUND) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("extractors.errors", "extractors.database.connection"),
        ("extractors.model", "extractors.worker"),
        ("extractors.database.connection", "extractors.products.card.Card"),
        ("extractors.database.connection", "extractors.raster"),
        ("extractors.products.card", "extractors.database.connection.connect"),
        ("extractors.raster.bands", "extractors.products.card"),
        ("extractors.raster.bands", "extractors.database.connection"),
        ("extractors.statistics.zonal", "extractors.raster.bands"),
        ("extractors.runtime.options", "extractors.products.card"),
        ("extractors.resources", "extractors.runtime.options.Options"),
        ("extractors.scene", "extractors.runtime.scratch"),
        ("extractors.scene", "extractors.attempt"),
        ("extractors.worker", "extractors.scene"),
        ("extractors.worker", "extractors.s2.CARD"),
        ("extractors.bs", "extractors.s2.CARD"),
        ("extractors.products.card", "download_with_boto3.ObjectStore"),
        (DOWNLOAD, "extractors.s2"),
    ],
)
@pytest.mark.parametrize("when", ["loaded", "typing", "inside"])
def test_a_wrong_direction_is_found(module: str, name: str, when: When) -> None:
    wrong = and_also(module, name, when)
    assert wrong_directions(wrong) == [f"{module} imports {ours(wrong, name)}"]


def test_a_module_without_a_layer_is_found() -> None:
    assert without_a_layer(and_also("extractors.miscellaneous", "os")) == [
        "extractors.miscellaneous belongs to no layer"
    ]
    assert without_a_layer(and_also("extractors.model.scenes", "os")) == ["extractors.model.scenes belongs to no layer"]


@pytest.mark.parametrize("when", ["loaded", "typing", "inside"])
def test_a_circle_is_found(when: When) -> None:
    assert circles(and_also("extractors.signatures", "extractors.model.Scene", when)) == [
        "extractors.model -> extractors.signatures -> extractors.model"
    ]
    assert circles(and_also("extractors.database.connection", "extractors.database.copy.copy", when)) == [
        "extractors.database.connection -> extractors.database.copy -> extractors.database.connection"
    ]
    assert circles(and_also("extractors.errors", "extractors.worker", when)) != []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("extractors.worker", "json"),
        ("extractors.worker", "extractors.attempt"),
        ("extractors.attempt", "extractors.scene.extract_scene"),  # a second door
        ("extractors.attempt", "extractors.raster.bands"),
        ("extractors.health", "psutil"),
        ("extractors.health", "extractors.logs"),
        ("extractors.database.copy", "numpy"),
    ],
)
def test_an_import_inside_a_function_is_found(module: str, name: str) -> None:
    assert imports_inside(and_also(module, name, "inside")) == [f"{module} imports {name} inside a function"]


def test_a_heavy_import_is_found() -> None:
    assert heavy_imports(and_also("extractors.errors", "numpy.typing.NDArray"))[0].endswith(
        "extractors.errors -> numpy"
    )
    assert heavy_imports(and_also("extractors.resources", "extractors.products.store.ObjectStore")) == [
        "extractors.s2 -> extractors.worker -> extractors.attempt -> extractors.resources -> "
        "extractors.products.store -> boto3",
        "extractors.bs -> extractors.worker -> extractors.attempt -> extractors.resources -> "
        "extractors.products.store -> boto3",
        "extractors.worker -> extractors.attempt -> extractors.resources -> extractors.products.store -> boto3",
        "extractors.attempt -> extractors.resources -> extractors.products.store -> boto3",
        "extractors.resources -> extractors.products.store -> boto3",
    ]
    assert heavy_imports(and_also("extractors.database.connection", "extractors.database.copy.copy")) != []
    assert heavy_imports(and_also("extractors.attempt", "extractors.scene")) != []
    assert heavy_imports(and_also("extractors.products.store", "numpy")) == []  # it may


def test_statistics_with_files_or_tables_are_found() -> None:
    assert statistics_with_the_outside(and_also("extractors.statistics.zonal", "psycopg2.sql")) == [
        "extractors.statistics.zonal imports psycopg2.sql"
    ]
    assert statistics_with_the_outside(and_also("extractors.statistics.zonal", "pathlib.Path", "typing")) != []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.b as c, d", [Import("a.b"), Import("d")]),
        ("from a import b, c", [Import("a.b"), Import("a.c")]),
        ("from . import b\nfrom .c import d\nfrom ..e import f", [Import("p.q.b"), Import("p.q.c.d"), Import("p.e.f")]),
        ("try:\n    import a\nexcept ImportError:\n    import b", [Import("a"), Import("b")]),
        ("class A:\n    import b", [Import("b")]),
        ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", [Import("a", "typing"), Import("b")]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import a", [Import("typing"), Import("a", "typing")]),
        ("def f():\n    if x:\n        import a", [Import("a", "inside")]),
        ("class A:\n    async def f(self):\n        from a import b", [Import("a.b", "inside")]),
        ("def f():\n    if TYPE_CHECKING:\n        import a", [Import("a", "inside")]),
        ("a = importlib.import_module('a.b')", [Import("a.b", "inside")]),
        ("for name in NAMES:\n    import_module(name)", [Import("name", "inside")]),
        ("a = __import__('a')", [Import("a", "inside")]),
    ],
)
def test_imports_are_read(source: str, found: list[Import]) -> None:
    assert imports_of(source, "p.q.module") == found


def test_imports_of_a_package_are_read() -> None:
    assert imports_of("from . import a\nfrom .b import c", "p.q", is_package=True) == [
        Import("p.q.a"),
        Import("p.q.b.c"),
    ]
