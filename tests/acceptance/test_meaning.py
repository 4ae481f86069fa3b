"""Settings that change what the numbers mean: each does what it says, and cannot be mixed into a table by accident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.acts import Gate
from tests.support.ground import squares
from tests.support.running import Outcome
from tests.support.scenes import Scene
from tests.support.workspace import Workspace

# Settings of one card


def test_each_command_uses_the_settings_of_its_card(workspace: Workspace) -> None:
    """One file for all cards, one table; `band_labels` shows whose settings were used."""
    workspace.add_parcels(squares(4))
    workspace.extraction.update({"band_labels": "api", "s2": {"band_labels": "classic"}, "bs": {}})
    cards = {"s2": workspace.add_s2(), "bs": workspace.add_bs(), "c6": workspace.add_c6()}
    for card, scene in cards.items():
        outcome = workspace.run(card)
        assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
        labels = {label for _, label in workspace.signatures(scene)}
        assert labels == {"s2": {"B4", "B8", "SC"}, "bs": {"VVb", "VHb"}, "c6": {"VVc", "VHc"}}[card]


def test_settings_of_other_cards_are_checked_as_well(workspace: Workspace) -> None:
    workspace.extraction["bs"] = {"chunk_size": 0}
    outcome = workspace.run("s2")
    assert outcome.code == 2
    (line,) = outcome.errors
    assert "db_config.json: extraction.bs.chunk_size: 0 cannot be used" in line


# One table, one meaning


@dataclass(frozen=True)
class Case:
    """A setting that changes numbers: its card, two values of it, and how a log row has them."""

    card: str
    first: dict[str, Any]
    other: dict[str, Any]
    words: tuple[str, str]

    def add(self, workspace: Workspace, obstime: str) -> Scene:
        """A scene of the card."""
        scene: Scene = getattr(workspace, f"add_{self.card}")(obstime)
        return scene


CASES = {
    "order of coherence bands": Case(
        "c6",
        {},
        {"coherence_band_order": "historical"},
        ("coherence_band_order product", "coherence_band_order historical"),
    ),
}
EARLY, LATE = "2020-04-01T05:23:45", "2020-04-07T05:23:45"


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def extracted(workspace: Workspace, case: Case, settings: dict[str, Any], *options: str) -> Outcome:
    outcome = tried(workspace, case, settings, *options)
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    return outcome


def tried(workspace: Workspace, case: Case, settings: dict[str, Any], *options: str) -> Outcome:
    workspace.extraction[case.card] = settings
    return workspace.run(case.card, *options)


def refused(workspace: Workspace, case: Case, *words: str) -> None:
    """The other settings end a worker before its first claim, and `--check` says the same."""
    attempts = workspace.one("SELECT count(*) FROM extraction_log")
    outcome = tried(workspace, case, case.other)
    assert outcome.code == 2, outcome.stderr
    (line,) = outcome.errors
    for word in (
        "db_config.json: database.tables.results_table: public.signatures ",
        *words,
        f"this worker is set to {case.words[1]}; write another results_table, or start with --accept-mixed",
    ):
        assert word in line
    assert workspace.one("SELECT count(*) FROM extraction_log") == attempts
    checked = tried(workspace, case, case.other, "--check")
    assert checked.code == 2
    (failed,) = [text for text in checked.stdout.splitlines() if text.startswith("FAILED")]
    assert failed.startswith("FAILED meaning of numbers: ")
    for word in words:
        assert word in failed


def test_other_settings_for_another_scene(workspace: Workspace, case: Case) -> None:
    workspace.add_parcels(squares(4))
    first, second = case.add(workspace, EARLY), case.add(workspace, LATE)
    extracted(workspace, case, case.first)
    refused(workspace, case, f"holds scene {first.id} with {case.words[0]}")
    assert workspace.status(second) == "ingested"
    assert workspace.rows(second) == 0
    # The remedies.
    outcome = extracted(workspace, case, case.other, "--accept-mixed")
    assert f"this worker is set to {case.words[1]}: accepted" in outcome.stderr
    assert workspace.rows(second) == workspace.rows(first)
    # Whoever comes now without it does not fit, whatever the settings.
    case.add(workspace, LATE.replace("07", "13"))
    refused(workspace, case, f"holds scene {first.id} with {case.words[0]}")
    outcome = tried(workspace, case, case.first)
    assert outcome.code == 2
    assert f"holds scene {second.id} with {case.words[1]}" in outcome.errors[0]
    workspace.tables["results_table"] = "others"
    extracted(workspace, case, case.other)


def test_other_settings_for_the_same_scene(workspace: Workspace, case: Case) -> None:
    workspace.add_parcels(squares(4))
    scene = case.add(workspace, EARLY)
    extracted(workspace, case, case.first)
    (log,) = workspace.log(scene)
    workspace.ingest(scene)
    refused(workspace, case, f"holds scene {scene.id} with {case.words[0]}")
    # Computed again with what is accepted, the table has one meaning: what counts is the last time.
    extracted(workspace, case, case.other, "--accept-mixed")
    case.add(workspace, LATE)
    extracted(workspace, case, case.other)
    assert log["settings"] != workspace.log(scene)[1]["settings"]


def test_a_table_that_was_made_anew(workspace: Workspace, case: Case) -> None:
    """The log still has the rows of its predecessor."""
    workspace.add_parcels(squares(4))
    case.add(workspace, EARLY), case.add(workspace, LATE), case.add(workspace, LATE.replace("07", "13"))
    extracted(workspace, case, case.first)
    workspace.query("DROP TABLE signatures")
    extracted(workspace, case, case.other)
    extracted(workspace, case, case.other)


def test_another_worker_with_other_settings_is_at_a_scene(workspace: Workspace, case: Case) -> None:
    workspace.add_parcels(squares(4))
    first, _ = case.add(workspace, EARLY), case.add(workspace, LATE)
    gate = Gate(workspace.folder, "parcels_selected")
    workspace.extraction[case.card] = case.first
    at_work = workspace.start(case.card, env=gate.env)
    gate.wait(at_work)
    refused(workspace, case, f"is being given scene {first.id} by another worker with {case.words[0]}")
    at_work.kill()
    # A dead one writes nothing any more.
    extracted(workspace, case, case.other)


def test_scenes_of_another_card_mean_nothing(workspace: Workspace, case: Case) -> None:
    workspace.add_parcels(squares(4))
    case.add(workspace, EARLY)
    extracted(workspace, case, case.first)
    workspace.query("UPDATE extraction_log SET card = 'xx'")
    workspace.query("UPDATE dias_catalogue SET card = 'xx'")
    case.add(workspace, LATE)
    extracted(workspace, case, case.other)


def test_rows_of_the_first_version(workspace: Workspace) -> None:
    """Its log says nothing of the order of coherence bands."""
    workspace.add_parcels(squares(4))
    workspace.add_c6(EARLY), workspace.add_c6(LATE)
    assert workspace.run("c6").code == 0
    workspace.query("UPDATE extraction_log SET settings = NULL")
    workspace.extraction["coherence_band_order"] = "historical"
    assert workspace.run("c6").code == 0
