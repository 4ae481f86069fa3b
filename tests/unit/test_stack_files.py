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
    for card in ("s2", "ingest"):
        assert f"${{EXTRACTION_IMAGE:-{name}}}" in stack_file(card)
    for file in ("Dockerfile", "README.md", "docs/operating.md"):
        assert set(re.findall(r"parcel-extraction:[\w.]+", (ROOT / file).read_text())) == {name}


def test_every_variable_is_explained() -> None:
    text = stack_file("s2")
    comment, rest = text.split("version:")
    for name in ("port", "ingest"):
        head, body = (ROOT / f"docker_compose_{name}.yml").read_text().split("version:")
        comment, rest = comment + head, rest + body
    variables = set(re.findall(r"(?<!\$)\$\{(\w+)", rest))
    page = (ROOT / "docs/operating.md").read_text()
    assert {"REPLICAS", "PG_SPAT_PORT"} <= variables
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


# What containers may do

CONFINED = "--cap-drop ALL --security-opt no-new-privileges --read-only --tmpfs /tmp --pids-limit 512"


def test_containers_that_people_start_are_confined() -> None:
    """Every complete `docker run` of the pages and of the scripts' help."""
    found = 0
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("swarm/*")):
        text = re.sub(r"\\\n\s*", "", path.read_text())
        for line in re.findall(r"docker run -.*", text):
            assert CONFINED in line, f"{path.name}: {line}"
            assert re.search(r"/usr/src/app:ro\b", line), f"{path.name}: {line}"
            found += 1
    assert found >= 2


def services(card: str) -> dict[str, str]:
    """The services of a stack file, as text."""
    (body,) = re.findall(r"^services:\n(.*?)^\w", stack_file(card), re.DOTALL | re.MULTILINE)
    parts = re.split(r"^  (\w+):\n", body, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("card", CARDS)
def test_containers_of_the_stack_are_confined(card: str) -> None:
    found = services(card)
    assert found.keys() == {"pg_spat", "vector_extractor"}
    for text in found.values():
        assert re.search(r"limits:(\n +.*)*?\n +pids: \d+\n", text)
    assert "read_only: true" in found["vector_extractor"]
    assert "cap_drop: [ALL]" in found["vector_extractor"]
    # Ignored by `docker stack deploy`, which would look as if it held.
    assert "security_opt" not in stack_file(card)


def test_ingest_is_as_confined_as_the_workers_and_has_other_secrets() -> None:
    """Those of the stack, its own file excepted; and nobody of the stack has that."""
    (text,) = services("ingest").values()
    workers = services("s2")["vector_extractor"]
    for what in ("user:", "read_only:", "cap_drop:", "init:", "image:", "endpoint_mode:"):
        (line,) = re.findall(rf"^ +{what} .*", workers, re.MULTILINE)
        assert re.findall(rf"^ +{what} .*", text, re.MULTILINE) == [line]
    assert re.search(r"limits:(\n +.*)*?\n +pids: \d+\n", text)
    given = r"^      - source: (\w+)\n        uid: \"10001\"\n        gid: \"10001\"\n        mode: 0400"
    assert re.findall(given, workers, re.MULTILINE) == ["db_config", "s3_config"]
    assert re.findall(given, text, re.MULTILINE) == ["ingest_config", "s3_config"]
    assert "ingest_config" not in stack_file("s2")
    version = re.compile(r'^version: "3\.\d"', re.MULTILINE)
    assert version.findall(stack_file("ingest")) == version.findall(stack_file("s2"))


@pytest.mark.parametrize("card", [*CARDS, "ingest"])
def test_every_secret_can_get_another_name(card: str) -> None:
    """Under the variables that swarm/deploy.sh sets: the name of the file, or of the service."""
    (secrets,) = re.findall(r"^secrets:\n(.*)", stack_file(card), re.DOTALL | re.MULTILINE)
    found = re.findall(r"^  (\w+):\n    name: \$\{(\w+):-\}\n    file: ", secrets, re.MULTILINE)
    assert [name for name, _ in found] == re.findall(r"^  (\w+):$", secrets, re.MULTILINE)
    assert [variable for _, variable in found] == [f"{name.upper()}_SECRET" for name, _ in found]


@pytest.mark.parametrize("card", CARDS)
def test_no_port_is_published_unless_somebody_asks(card: str) -> None:
    """Docker's rules let it past the node's firewall."""
    assert "ports:" not in stack_file(card)
    assert "published:" not in stack_file(card)
    opened = (ROOT / "docker_compose_port.yml").read_text()
    assert re.findall(r"^  (?:  )?(\w+):$", opened, re.MULTILINE) == ["pg_spat", "ports"]
    version = re.compile(r'^version: "3\.\d"', re.MULTILINE)
    assert version.findall(opened) == version.findall(stack_file(card))  # else Docker takes no two files


def test_base_images_are_locked_by_digest() -> None:
    """Under the names that the Dockerfile and the stack files have."""
    locked = dict(re.findall(r"^(\w+)=(\S+)@sha256:[0-9a-f]{64}$", (ROOT / "images.lock").read_text(), re.MULTILINE))
    base = re.findall(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    database = re.findall(r"\$\{PG_SPAT_IMAGE:-(.+?)\}", stack_file("s2"))
    assert [locked] == [{"BASE_IMAGE": base[0], "PG_SPAT_IMAGE": database[0]}]
    for page in ("Dockerfile", "README.md"):
        assert 'docker build --build-arg "$(grep ^BASE_IMAGE= images.lock)" -t ' in (ROOT / page).read_text()
