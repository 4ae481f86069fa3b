"""The stack files, without a swarm."""

from __future__ import annotations

import re

import pytest

from extractors import __version__
from tests.support.environment import ROOT

CARDS = ("s2", "bs", "c6", "c1")


def stack_file(card: str) -> str:
    return (ROOT / f"docker_compose_{card}.yml").read_text()


@pytest.mark.parametrize("card", CARDS)
def test_they_differ_by_one_word(card: str) -> None:
    words = re.split(r"(\s)", stack_file(card))
    others = re.split(r"(\s)", stack_file("s2"))
    assert len(words) == len(others)
    different = [(one, other) for one, other in zip(words, others, strict=True) if one != other]
    assert different == ([] if card == "s2" else [(f"extractors.{card}", "extractors.s2")])


def test_the_image_has_the_version_of_the_package() -> None:
    name = f"parcel-extraction:{__version__}"
    assert f"${{EXTRACTION_IMAGE:-{name}}}" in stack_file("s2")
    for file in ("Dockerfile", "README.md", "docs/operating.md"):
        assert set(re.findall(r"parcel-extraction:[\w.]+", (ROOT / file).read_text())) == {name}


def test_every_variable_is_explained() -> None:
    text = stack_file("s2")
    comment, rest = text.split("version:")
    variables = set(re.findall(r"(?<!\$)\$\{(\w+)", rest))
    page = (ROOT / "docs/operating.md").read_text()
    assert "REPLICAS" in variables
    for variable in variables:
        assert re.search(rf"\b{variable}\b", comment), variable
        assert f"`{variable}`" in page, variable


def test_the_lock_files_hold_everything_with_hashes() -> None:
    for name in ("requirements.lock", "requirements-build.lock"):
        text = (ROOT / name).read_text()
        pinned = re.findall(r"^[\w.-]+==\S+.*$", text, re.MULTILINE)
        assert pinned
        assert all(line.endswith("\\") for line in pinned), "a package without a hash"
        assert "://" not in text
    wanted = re.search(r"\ndependencies = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert wanted is not None
    for package in re.findall(r'"([\w-]+)', wanted[1]):
        assert re.search(rf"^{package}==", (ROOT / "requirements.lock").read_text(), re.MULTILINE), package
