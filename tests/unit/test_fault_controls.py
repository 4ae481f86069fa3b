"""That no fault test, and no switch of a mechanism, is left out of the controls."""

from __future__ import annotations

from pathlib import Path

from tests.faults import controls
from tests.faults.without import MECHANISMS

SAID = list(controls.said(Path(controls.__file__).parent))


def test_every_fault_test_says_what_it_guards() -> None:
    assert [test for _, test, names in SAID if not names] == []


def test_only_mechanisms_that_there_are() -> None:
    assert {name for _, _, names in SAID for name in names} == {"none", *MECHANISMS}
