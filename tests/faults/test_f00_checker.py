"""The checker itself: a season without faults passes, and everything that it looks for is found when it is there."""

from __future__ import annotations

import pytest

from tests.faults import checker
from tests.faults.checker import OUR_LOCKS
from tests.faults.season import Season

DAMAGE = {
    "I1": "INSERT INTO signatures SELECT * FROM signatures WHERE obsid = 2 LIMIT 1",
    "I2": "UPDATE signatures SET p25 = p25 + 1 WHERE obsid = 2 AND pid = 7",
    "I2: ": "DELETE FROM signatures WHERE obsid = 2 AND pid = 7",
    "I3": "INSERT INTO signatures (pid, obsid) VALUES (1, 99)",
    "I4": f"SELECT pg_advisory_xact_lock({OUR_LOCKS}, 2)",
    "I5": "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, attempt, outcome, finished_at)"
    " VALUES (2, '', '', '', '', '', 1, 'extracted', now())",
    "I5: an": "UPDATE extraction_log SET finished_at = NULL WHERE obsid = 2",
    "balance": "UPDATE extraction_log SET parcels_selected = parcels_selected + 1 WHERE obsid = 2",
    "I5: more": "UPDATE extraction_log SET attempt = 6 WHERE obsid = 2",
    "1 attempts were lost": "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, attempt,"
    " outcome, finished_at) VALUES (2, '', '', '', '', '', 1, 'lost', now())",
    "I6: scene": "UPDATE dias_catalogue SET obstime = now() WHERE id = 2",
    "I6: rows": "DELETE FROM dias_catalogue WHERE status = 'Obsolete'",
    "another program's": "UPDATE dias_catalogue SET status = 'ingested' WHERE status = 'Obsolete'",
    "a status": "UPDATE dias_catalogue SET status = 'odd' WHERE id = 2",
    "instead of": "UPDATE dias_catalogue SET status = 'failed' WHERE id = 2",
    "I8": "UPDATE extraction_log SET detail = 'the key is SECRET' WHERE obsid = 2",
}


def test_f00_a_season_without_faults(season: Season, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the same with one thing wrong, whatever it is.

    Without: none
    """
    season.finish()
    season.check(lost=0)
    monkeypatch.setattr(checker, "REST_SECONDS", 0.1)
    for wrong, statement in DAMAGE.items():
        _fails_after(season, wrong, statement)
    season.check(lost=0)
    left, printed = season.workspace.data / "left", season.workspace.folder / "output0" / "stdout"
    left.touch()
    with pytest.raises(AssertionError, match="I7"):
        season.check(lost=0)
    left.unlink()
    printed.write_text(season.workspace.postgis.password)
    with pytest.raises(AssertionError, match="I8"):
        season.check(lost=0)


def _secret(season: Season) -> str:
    return season.workspace.secret_key


def _fails_after(season: Season, wrong: str, statement: str) -> None:
    """The statement is part of a transaction that does not last."""
    season.workspace.query("BEGIN")
    try:
        season.workspace.query(statement.replace("SECRET", _secret(season)))
        with pytest.raises(AssertionError, match=wrong):
            season.check(lost=0)
    finally:
        season.workspace.query("ROLLBACK")
