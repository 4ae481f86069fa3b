"""F18: objects in the store have lost their end, and the store's size and MD5 agree with what is left.

Injected by a server in front of the store that lists and serves the shortened object. GDAL reads the missing part of
ENVI and JPEG 2000 files as zeros, which is nodata: half a scene would become "no data" and look extracted. Asserted:
refused with a reason at the first attempt, since another download would bring the same; 0 rows, never `no_parcels` or
`extracted`; and a mended object is extracted as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.conftest import MakeSeason
from tests.faults.spoilt_store import SpoiltStore

FILES = {"s2": "B08", "bs": "Gamma0_VH.img", "c6": "tif"}
"""A file of each card that is spoilt."""


def part(share: float) -> Callable[[bytes], bytes]:
    return lambda body: body[: int(len(body) * share)]


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_f18_truncated(make_season: MakeSeason, spoilt: SpoiltStore, card: str) -> None:
    """Two scenes of a card have lost half and a thousandth of a file.

    Without: integrity
    """
    season = make_season(**{card: 4})
    season.short(max_attempts=2)
    spoilt.serve(season.workspace)
    half, thousandth, *others = season.scenes[card]
    spoilt.swap(season.key(half, FILES[card]), part(0.5))
    spoilt.swap(season.key(thousandth, FILES[card]), part(0.999))

    outcome = season.run(card, "--all")

    assert outcome.code == 1
    for scene in (half, thousandth):
        attempts = season.attempts(scene)
        assert season.outcomes(scene) == ["failed"]
        assert spoilt.asked_for(season.key(scene, FILES[card]), "GET") == 1
        name = season.products[scene].keys[FILES[card]].rsplit("/", 1)[-1]
        assert all(name.split(".")[0] in attempt["detail"] for attempt in attempts), attempts
        assert season.workspace.status(scene) == "failed"
        assert season.workspace.rows(scene) == 0
    season.check(extracted=set(others))

    # The object is replaced, and somebody sets the scenes back, as the reason told them.
    spoilt.heal()
    for scene in (half, thousandth):
        season.workspace.ingest(scene)
    assert season.run(card, "--all").code == 0
    season.check()
