"""The package keeps to its layers (tests/support/rooms.py), and the checks of that find what does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest

from tests.support.environment import ROOT, environment
from tests.support.rooms import (
    CHECKS,
    DOWNLOAD,
    HEAVY_LIBRARIES,
    OPERATIONS,
    OTHER_DOOR,
    PACKAGE,
    Import,
    Imports,
    When,
    circles,
    heavy_imports,
    imports_inside,
    imports_of,
    is_light,
    ours,
    read_package,
    statistics_with_the_outside,
    without_a_layer,
    wrong_directions,
)

# The package


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package(check: Callable[[Imports], list[str]]) -> None:
    assert check(read_package()) == []


def test_light_modules_load_nothing_heavy() -> None:
    """What the sources do not show: a light library might itself load a heavy one."""
    light = [module for module in read_package() if is_light(module)]
    assert {f"{PACKAGE}.s2", f"{OPERATIONS}.status"} <= {*light}
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
    "operations": [],
    "operations.command": [Import("extractors.attempt.exit_code_of"), Import("operations.doors.module")],
    "operations.doors": [Import("importlib.import_module"), Import("f'operations.{name}'", "inside")],
    "operations.outlines": [Import("geopandas")],
    "operations.status": [Import("extractors.database.connection.Database")],
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
        ("extractors.worker", "operations.command"),
        ("extractors.s2", "operations.status.run"),
        ("extractors.errors", "operations"),
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
        ("operations.status", "json"),
        (OTHER_DOOR, "json"),
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
        "operations.command -> extractors.attempt -> extractors.resources -> extractors.products.store -> boto3",
    ]
    assert heavy_imports(and_also("extractors.database.connection", "extractors.database.copy.copy")) != []
    assert heavy_imports(and_also("extractors.attempt", "extractors.scene")) != []
    assert heavy_imports(and_also("extractors.products.store", "numpy")) == []  # it may
    assert heavy_imports(and_also("operations.status", "operations.outlines.read")) != []
    assert heavy_imports(and_also("operations.outlines", "shapely")) == []


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
