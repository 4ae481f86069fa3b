"""F17: two bytes of an object arrive changed, its length does not.

Injected by a server in front of the store that announces the true object. GDAL reads such a file without an error (JPEG
2000 has other pixels over many parcels), so only the MD5 in the ETag tells. Asserted: refused before decoding,
downloaded once more, then an error of that scene; not one row of it is written, and a flip that passes leaves no trace.
"""

from __future__ import annotations

import pytest

from tests.faults.conftest import MakeSeason
from tests.faults.spoilt_store import SpoiltStore, flipped

FILES = {"s2": "B08", "bs": "Gamma0_VH.img", "c6": "tif"}
"""A file of each card that is spoilt."""


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_f17_flip_that_stays(make_season: MakeSeason, spoilt: SpoiltStore, card: str) -> None:
    """The spoilt scene uses up its attempts, the others equal the fault-free run.

    Without: md5_check
    """
    season = make_season(**{card: 4})
    season.short(max_attempts=2)
    spoilt.serve(season.workspace)
    first, *others = season.scenes[card]
    spoilt.spoil(season.key(first, FILES[card]), flipped)
    outcome = season.run(card, "--all")
    assert outcome.code == 1
    assert season.outcomes(first) == ["error", "failed"]
    for run in season.attempts(first):
        assert "MD5" in run["detail"]
        assert "gdal" not in run["versions"]  # refused before GDAL has seen it
    assert spoilt.asked_for(season.key(first, FILES[card])) == 2 * 2  # each attempt downloads it once more
    assert season.workspace.status(first) == "failed"
    assert season.workspace.rows(first) == 0
    season.check(extracted=set(others))


def test_f17_flip_that_passes(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """Once more, and all is well: one attempt, one more request, the rows of the fault-free run.

    Without: md5_check
    """
    season = make_season(bs=4)
    season.short()
    spoilt.serve(season.workspace)
    first, *_ = season.scenes["bs"]
    spoilt.spoil(season.key(first, FILES["bs"]), flipped, times=1)
    outcome = season.run("bs", "--all")
    assert (outcome.code, outcome.errors) == (0, [])
    assert season.outcomes(first) == ["extracted"]
    assert spoilt.asked_for(season.key(first, FILES["bs"])) == 2
    season.check()
