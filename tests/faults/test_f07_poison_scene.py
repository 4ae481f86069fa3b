"""F7: a scene that fails whenever it is tried.

Injected: the oldest scene has an image that cannot be decoded, in a store whose ETags are no MD5s (uploads in parts),
so that a damaged download looks the same and another one might help. Asserted: it is `failed` after exactly
`max_attempts`, with growing pauses between the attempts, during which all others are extracted; a person who sets it
back to `ingested` gives it all its attempts anew. Where the MD5 says that the object itself is like that, it is tried
once.
"""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.faults.conftest import MakeSeason
from tests.faults.spoilt_store import SpoiltStore

ATTEMPTS = 4
PAUSE = 0.5


@pytest.fixture
def in_parts(spoilt: SpoiltStore) -> SpoiltStore:
    """A store of objects that were uploaded in parts."""
    spoilt.plain_md5 = False
    return spoilt


def test_f07_poison_scene(make_season: MakeSeason, in_parts: SpoiltStore) -> None:
    """Tried so many times and no more.

    Without: attempts
    """
    season = make_season(s2=3)
    season.short(max_attempts=ATTEMPTS, retry_pause_seconds=PAUSE)
    in_parts.serve(season.workspace)
    poison, *others = season.scenes["s2"]
    key = season.products[poison].keys["B08"]
    sound = season.workspace.read(key)
    # Its beginning is sound: the file opens, and fails when it is decoded.
    season.workspace.write(key, sound[:400] + bytes(len(sound) - 400))
    outcome = season.start("s2", "--all").wait(40)
    assert outcome.code == 1, outcome.stderr
    season.check(extracted=others, lost=0)
    assert season.statuses()[poison] == "failed"
    attempts = season.attempts(poison)
    assert [attempt["outcome"] for attempt in attempts] == ["error"] * (ATTEMPTS - 1) + ["failed"]
    assert [attempt["attempt"] for attempt in attempts] == list(range(1, ATTEMPTS + 1))

    # Mended and set back, it is tried anew.
    season.workspace.write(key, sound)
    season.workspace.ingest(poison)
    season.finish()
    season.check()
    assert season.attempts(poison)[-1]["attempt"] == 1


def test_f07_what_lies_in_the_store_for_certain_is_tried_once(make_season: MakeSeason) -> None:
    """The object's MD5 is that of what cannot be decoded: no further download would bring anything else.

    Without: final
    """
    season = make_season(s2=3)
    season.short(max_attempts=ATTEMPTS, retry_pause_seconds=PAUSE)
    poison, *others = season.scenes["s2"]
    key = season.products[poison].keys["B08"]
    sound = season.workspace.read(key)
    season.workspace.write(key, sound[:400] + bytes(len(sound) - 400))
    assert season.start("s2", "--all").wait(40).code == 1
    season.check(extracted=others, lost=0)
    assert season.outcomes(poison) == ["failed"]


def test_f07_pauses_grow(make_season: MakeSeason, in_parts: SpoiltStore) -> None:
    """The worker does other scenes first, and comes back when the pause is over.

    Without: back_off
    """
    season = make_season(s2=3)
    season.short(max_attempts=ATTEMPTS, retry_pause_seconds=PAUSE)
    in_parts.serve(season.workspace)
    poison, *others = season.scenes["s2"]
    season.workspace.write(season.products[poison].keys["B08"], b"no image at all" * 100)
    assert season.run("s2", "--all").code == 1
    attempts = season.attempts(poison)
    assert len(attempts) == ATTEMPTS
    for number, (attempt, following) in enumerate(pairwise(attempts)):
        pause = moment(attempt["retry_after"]) - moment(attempt["finished_at"])
        assert 0.8 <= pause.total_seconds() / (PAUSE * 2**number) <= 1.2
        assert moment(following["started_at"]) >= moment(attempt["retry_after"])
    assert attempts[-1]["retry_after"] is None
    # What was claimed before its first pause was over were others, though they are younger. (Both, on a fast machine.)
    order = [attempt["obsid"] for attempt in season.attempts()]
    assert order[:2] == [poison, others[0]]
    assert set(order) == {poison, *others}


def moment(text: Any) -> datetime:
    return datetime.fromisoformat(text)
