"""F15: the S3 store throttles, or is down for a while.

Injected by a server in front of the store that answers 503, 500, 502 and 429 (with S3's XML and with empty bodies), or
refuses connections. Asserted: the worker waits and recovers, nothing of it counts as an attempt at a scene, the number
of requests stays bounded, pauses grow, and a store that does not come back ends the worker with 75 and no scene marked.
"""

from __future__ import annotations

import pytest

from tests.faults.conftest import MakeSeason
from tests.faults.spoilt_store import OF_PRODUCTS, SpoiltStore
from tests.support.running import wait_until

THROTTLED = [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")]


def test_f15_throttled(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """Listings and bodies are refused in every way in which a busy store does that; each time it is asked again.

    Without: retry
    """
    season = make_season(s2=4)
    season.short()
    spoilt.serve(season.workspace)
    for status, code in THROTTLED:  # more in a row than boto3 itself tries again
        spoilt.error("list-type", status, code, times=1)
        spoilt.answer("list-type", 502 if status == 500 else status, times=1)
    for status, code in THROTTLED:
        spoilt.error("_B04_10m", status, code, times=1)
        spoilt.answer("_SCL_20m", status, times=1)
    outcome = season.run("s2", "--all")
    assert (outcome.code, outcome.errors) == (0, [])
    assert season.outcomes() == ["extracted"] * 4
    # 12 answers were spoilt; of every scene 2 listings at most, and a HEAD and a GET of each of its files; one look.
    assert len(spoilt.requests) <= 12 + 8 * 4 + 1
    season.check()


def test_f15_down_for_longer_than_a_worker_asks_again(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """With --all, a scene that the store does not give is given back, uncounted, until the store is there again; while
    nobody has seen the store, none is claimed.

    Without: failure_classes
    Without: proof
    """
    season = make_season(s2=4)
    season.short(outages_in_a_row=100, max_attempts=2)
    spoilt.serve(season.workspace, retry_seconds=0)
    spoilt.refuse()
    worker = season.start("s2", "--all")
    wait_until(lambda: "(outage 3 in a row)" in worker.stderr, "three outages")
    assert season.outcomes() == []
    spoilt.reset(OF_PRODUCTS)
    spoilt.listen()
    wait_until(lambda: season.outcomes().count("given_back") >= 3, "three scenes given back")
    spoilt.heal()
    outcome = worker.wait()
    assert (outcome.code, outcome.errors) == (0, [])
    assert set(season.outcomes()) == {"given_back", "extracted"}
    assert {attempt["attempt"] for attempt in season.attempts()} == {1}
    season.check()


def test_f15_down_for_good(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """After four outages in a row the worker ends with 75. Its pauses have doubled, and it has asked a few times only.

    Without: back_off
    """
    season = make_season(s2=4)
    season.short(outages_in_a_row=4, outage_pause_seconds=0.4)
    spoilt.serve(season.workspace, retry_seconds=0)
    spoilt.error(OF_PRODUCTS, 500, "InternalError")
    outcome = season.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert season.outcomes() == ["given_back"] * 4
    # A look, then three tries of boto3 for each, and each time whether other objects are given: four requests at most.
    assert len(spoilt.requests) <= 1 + 4 * (3 + 4)
    # Pauses of 0.4, 0.8 and 1.6 s, each with jitter that may take half of it away. (Only a lower limit: machines may be
    # slow.)
    (pauses,) = season.workspace.query(
        "SELECT sum(extract(epoch FROM started_at - before))::float FROM"
        " (SELECT started_at, lag(finished_at) OVER (ORDER BY run_id) AS before FROM extraction_log) l"
    )[0]
    assert pauses >= 0.5 * (0.4 + 0.8 + 1.6)
    season.check(extracted=set())
    assert set(season.statuses().values()) == {"ingested"}


@pytest.mark.parametrize(("requests", "outcomes"), [("", []), (OF_PRODUCTS, ["given_back"])])
def test_f15_one_scene_only(make_season: MakeSeason, spoilt: SpoiltStore, requests: str, outcomes: list[str]) -> None:
    """Without --all there is nobody to wait for the store: 75 at once, and one request's worth of tries. What was down
    from the beginning has cost no claim.

    Without: failure_classes
    Without: proof
    """
    season = make_season(s2=1)
    season.short(max_attempts=1)
    spoilt.serve(season.workspace, retry_seconds=0)
    spoilt.answer(requests, 503)
    outcome = season.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert season.outcomes() == outcomes
    season.check(extracted=set())
