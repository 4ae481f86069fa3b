"""F16: bodies that end early, hang, are torn off, or are another object's.

Injected by a server in front of the store: cut after 0, 1, n/2 and n-1 of n bytes, an RST instead of an answer, a body
that hangs half-way, a short body with matching headers. Asserted: no file has its final name before it is whole, what
passes is waited out without counting, what stays wrong costs that scene its attempts and no other scene anything.
"""

from __future__ import annotations

import pytest

from tests.faults.conftest import MakeSeason
from tests.faults.spoilt_store import SpoiltStore
from tests.support.running import wait_until

FILES = {"s2": "B08", "bs": "Gamma0_VH.img", "c6": "tif"}
"""A file of each card that is spoilt."""


def test_f16_bodies_that_end_early(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """Each scene's red band ends elsewhere, more often than boto3 tries by itself; the first one's SCL is reset.

    Without: retry
    """
    season = make_season(s2=4)
    season.short()
    spoilt.serve(season.workspace)
    cuts = [lambda n: 0, lambda n: 1, lambda n: n // 2, lambda n: n - 1]
    for scene, at in zip(season.scenes["s2"], cuts, strict=True):
        spoilt.cut(season.key(scene, "B04"), at, times=4)
    spoilt.reset(season.key(season.scenes["s2"][0], "SCL"), times=4)
    outcome = season.run("s2", "--all")
    assert (outcome.code, outcome.errors) == (0, [])
    assert season.outcomes() == ["extracted"] * 4
    season.check()


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_f16_a_file_has_its_name_only_when_whole(make_season: MakeSeason, spoilt: SpoiltStore, card: str) -> None:
    """While a body hangs half-way, nothing in the scratch folder has the name of its object.

    Killed at that moment, the worker leaves nothing that another one would take for a whole file.

    Without: rescue
    """
    season = make_season(**{card: 4})
    season.short()
    spoilt.serve(season.workspace)
    first, *_ = season.scenes[card]
    spoilt.stall(season.key(first, FILES[card]), times=1)
    worker = season.start(card, "--all")
    wait_until(spoilt.stalled.is_set, "a body that hangs")
    assert season.workspace.files() != []
    wanted = season.products[first].keys[FILES[card]].rsplit("/", 1)[-1]
    assert [path for path in season.workspace.files() if path.name == wanted] == []
    worker.kill()
    spoilt.go_on.set()
    assert season.run(card, "--all").code == 0
    season.check(lost=1)


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_f16_body_that_is_always_short(make_season: MakeSeason, spoilt: SpoiltStore, card: str) -> None:
    """Half of the object with headers that agree, of a store whose ETags are no MD5s: the listing's size tells, before
    anything is decoded. Downloaded once more each time, and the scene fails after its attempts; the others do not.

    Without: size_check
    """
    season = make_season(**{card: 4})
    season.short(max_attempts=2)
    spoilt.serve(season.workspace)
    first, *others = season.scenes[card]
    spoilt.plain_md5 = False
    spoilt.spoil(season.key(first, FILES[card]), lambda body: body[: len(body) // 2])
    outcome = season.run(card, "--all")
    assert outcome.code == 1
    assert season.outcomes(first) == ["error", "failed"]
    assert all("bytes arrived of" in run["detail"] for run in season.attempts(first))
    assert spoilt.asked_for(season.key(first, FILES[card])) == 2 * 2
    assert season.workspace.status(first) == "failed"
    season.check(extracted=set(others))
