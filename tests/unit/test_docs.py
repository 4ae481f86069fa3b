"""The pages name all that there is to set and to see, their links lead somewhere, and their examples can be used."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from extractors import config, errors
from extractors.health import VARIABLE
from extractors.runtime.options import read_options
from operations.options import VERBS
from operations.options import read_options as read_operations_options
from operations.status import NUMBERS
from tests.support.environment import ROOT

PAGES = [ROOT / name for name in ("README.md", "DESIGN.md", "CHANGELOG.md", "SECURITY.md")]
PAGES += [ROOT / "docs" / name for name in ("configuration.md", "operating.md", "operations.md", "troubleshooting.md")]
PAGES += [ROOT / folder / "README.md" for folder in ("swarm", "benchmarks", "tests/faults")]
STATUSES = {"ingested", "inprogress", "extracted", "no_parcels", "notfound", "failed", "superseded"}
OUTCOMES = {"extracted", "no_parcels", "notfound", "absent", "failed", "error", "lost", "claim_lost", "given_back"}
OUTCOMES |= {"superseded", "redone"}
DEADLINE = 70


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def section(text: str, title: str) -> str:
    """What stands between a heading and the next one."""
    found = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[2]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of all tables, by each name in code that their first cell holds; the other cells."""
    table: dict[str, list[str]] = {}
    for line in re.findall(r"^\| (.*) \|$", text, re.MULTILINE):
        first, *others = line.split(" | ")
        table |= dict.fromkeys(re.findall(r"`([^`]+)`", first) or [first], others)
    return table


@pytest.mark.parametrize(
    ("title", "model"),
    [
        ("database.connection", config.Connection),
        ("database.tables", config.Tables),
        ("database.args", config.Args),
        ("extraction", config.Extraction),
        ("s3", config.Store),
        ("A directory as the store", config.Directory),
    ],
)
def test_every_key_with_its_default(title: str, model: type[BaseModel]) -> None:
    explained = rows(section(page("configuration.md"), title))
    for key, field in model.model_fields.items():
        default = explained[key][0].strip("`")
        if field.is_required():
            assert default == "required", key
        elif field.default not in (None, config.NO_SECRET):
            shown = json.dumps(field.default) if isinstance(field.default, bool) else str(field.default)
            shown = "{}" if isinstance(field.default, BaseModel) or field.default == () else shown
            assert default == shown, key


def test_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_options("s2", ["--help"])
    usage = capsys.readouterr().out
    text = section(page("operating.md"), "Options")
    for option in set(re.findall(r"--[a-z][a-z0-9-]+", usage)) - {"--help"}:
        assert re.search(rf"`{option}\b", text), option
    variables = re.findall(r"\b[A-Z][A-Z0-9_]*[A-Z0-9]\b", usage.rpartition("environment:")[2])
    assert "DB_CONFIG" in variables
    for variable in (*variables, VARIABLE):
        assert re.search(rf"`{variable}\b", text), variable


def all_errors(kind: type[errors.ExtractionError] = errors.ExtractionError) -> list[type[errors.ExtractionError]]:
    return [kind, *(one for below in kind.__subclasses__() for one in all_errors(below))]


def test_every_status_outcome_and_exit_code() -> None:
    text = page("operating.md")
    statuses = STATUSES | {kind.status for kind in all_errors() if issubclass(kind, errors.SceneError)}
    assert statuses <= rows(section(text, "Statuses")).keys()
    assert statuses - {"ingested", "inprogress"} <= OUTCOMES <= rows(section(text, "Outcomes")).keys()
    codes = {str(kind.exit_code) for kind in all_errors()} | {"0", str(DEADLINE), "128 + number"}
    assert codes <= rows(section(text, "Exit codes")).keys()


def test_every_column_of_the_log() -> None:
    created = re.search(
        r"-- :create_log\n(.*?)\n\)", (ROOT / "extractors/database/sql/tables.sql").read_text(), re.DOTALL
    )
    assert created is not None
    columns = set(re.findall(r"^    (\w+)", created[1], re.MULTILINE))
    assert {"run_id", "versions"} <= columns <= rows(section(page("operating.md"), "The log table")).keys()


def anchors(text: str) -> set[str]:
    """What headings can be linked to by, as GitHub makes it."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", [str(path.relative_to(ROOT)) for path in PAGES])
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    text = path.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text):
        target = link[0] or link[1]
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(Path(there).read_text()), target


def test_examples_of_the_configuration() -> None:
    """Each is one of the files, or goes beside `database` in the first of them."""
    database, store, more, directory = (
        json.loads(block)
        for block in re.findall(r"^```json\n(.*?)^```", page("configuration.md"), re.DOTALL | re.MULTILINE)
    )
    config.DatabaseFile.model_validate(database)
    config.DatabaseFile.model_validate(database | more)
    config.StoreFile.model_validate(store)
    config.DirectoryFile.model_validate(directory)


def test_every_threat_names_a_test_that_exists() -> None:
    """SECURITY.md: no row promises what nobody has seen."""
    defended = (ROOT / "SECURITY.md").read_text().partition("## What is defended\n")[2].partition("\n## ")[0]
    table = [line for line in defended.splitlines() if line.startswith("| ") and not line.startswith("| threat |")]
    assert len(re.findall("^### ", defended, re.MULTILINE)) == 6
    assert len(table) > 20
    for line in table:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", line.split(" | ")[2])
        assert named, line
        for file, test in named:
            assert (ROOT / file).is_file(), file
            assert not test or f"\ndef {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_every_file_that_security_names_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    for name in set(re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|sh|lock|yml))`", text)):
        if name.startswith("tests/"):
            continue
        assert (ROOT / name).exists() or (ROOT / "extractors" / name).exists(), name


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_the_operations(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_operations_options([verb, "--help"])
    text = page("operations.md")
    assert f"[`{verb}`](#{verb})" in text
    common = text.partition("\n## ")[0]
    options = set(re.findall(r"--[a-z][a-z0-9-]+", capsys.readouterr().out)) - {"--help"}
    assert {"--db-config", "--log-format"} <= options
    for option in options:
        assert re.search(rf"`{option}\b", section(text, verb)) or re.search(rf"`{option}\b", common), option


def test_every_number_that_a_condition_can_be_on() -> None:
    assert NUMBERS.keys() <= rows(section(page("operations.md"), "status")).keys()
