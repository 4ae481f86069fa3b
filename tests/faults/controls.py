"""Sees every fault test fail: `python -m tests.faults.controls [part of a test's name ...]`.

A test's docstring ends with `Without: NAME`, the mechanism that it guards, or with several such lines ("none": it is a
control itself, or what it guards cannot be switched off). For each of them pytest runs once with `--without NAME`
(tests/faults/without.py), which has to make it fail. Prints a table; exit code 1 if any test passed without its
mechanism, or could not be run at all. With `--list` only the table of tests and mechanisms.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = re.compile(r"^\s*Without: (\w+)\s*$", re.MULTILINE)
LONGEST_RUN_SECONDS = 1800


@dataclass(frozen=True)
class Guard:
    """A test, and the mechanism without which it has to fail."""

    file: Path
    test: str
    mechanism: str

    @property
    def node(self) -> str:
        """As pytest names it."""
        return f"{self.file.relative_to(ROOT)}::{self.test}"


def guards(folder: Path) -> list[Guard]:
    """All that the docstrings below a folder say."""
    return [Guard(file, test, name) for file, test, names in said(folder) for name in names if name != "none"]


def said(folder: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """Every test below a folder, and what its docstring names."""
    for file in sorted(folder.glob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield file, node.name, WITHOUT.findall(ast.get_docstring(node) or "")


def verdict(guard: Guard) -> tuple[str, float]:
    """Run a test without its mechanism. `failed`: it has seen that; of several cases of a test, one is enough."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--without", guard.mechanism]
        command += [f"--junitxml={report}", guard.node]
        try:
            subprocess.run(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LONGEST_RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "no end", time.monotonic() - began
        seconds = time.monotonic() - began
        if not report.exists():
            return "not run", seconds
        cases = ET.parse(report).getroot().findall(".//testcase")
    if not cases or any(case.find("error") is not None for case in cases):
        return "not run", seconds  # a fixture or the name of the mechanism, not the test
    failures = sum(case.find("failure") is not None for case in cases)
    if failures:
        return ("failed" if failures == len(cases) else f"failed, {failures} of {len(cases)}"), seconds
    return ("skipped" if all(case.find("skipped") is not None for case in cases) else "PASSED"), seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="See that every fault test fails without the mechanism it guards.")
    parser.add_argument("part", nargs="*", help="only tests whose name or mechanism holds one of these (default: all)")
    parser.add_argument("--list", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    chosen = [
        guard
        for guard in guards(Path(__file__).parent)
        if not options.part or any(part in f"{guard.node} {guard.mechanism}" for part in options.part)
    ]
    print("| test | without | result | seconds |\n|---|---|---|---|")
    results = []
    for guard in chosen:
        result, seconds = ("", 0.0) if options.list else verdict(guard)
        results.append(result)
        print(f"| {guard.node} | {guard.mechanism} | {result} | {seconds:.0f} |", flush=True)
    if options.list:
        return 0
    bad = [result for result in results if not result.startswith("failed")]
    print(f"\n{len(results) - len(bad)} of {len(results)} tests failed as they should")
    return 1 if bad or not results else 0


if __name__ == "__main__":
    sys.exit(main())
