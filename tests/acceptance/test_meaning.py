"""Settings that change what the numbers mean: each does what it says, and cannot be mixed into a table by accident."""

from __future__ import annotations

from tests.support.ground import squares
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
