"""F19: an object is missing, access is forbidden, the endpoint is wrong, the keys expire half-way.

Injected by a server in front of the store, and by hosts that do not exist. Asserted: only a store that answers can say
that an object is missing, and then only that scene is `notfound`; everything else leaves the scenes `ingested` and
uncounted, ends the worker (75 after five times in a row, 2 at once where the configuration is certainly wrong), and
touches five scenes at most, and none if it is so from the beginning, so that one bad key cannot mark a whole catalogue.
"""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from demo.servers import free_port
from tests.faults.conftest import MakeSeason
from tests.faults.season import FIRST_DAY, Season
from tests.faults.spoilt_store import OF_PRODUCTS, SpoiltStore
from tests.support.scenes import s2_reference

MORE = 8
"""Scenes of the catalogue beyond those of the season: more than may be touched."""
IN_A_ROW = 5


@pytest.fixture
def long_season(make_season: MakeSeason) -> Season:
    """Four s2 scenes, and eight that wait behind them in the catalogue."""
    season = make_season(s2=4)
    season.short(outages_in_a_row=IN_A_ROW, max_attempts=2)
    for day in range(MORE):
        moment = FIRST_DAY + timedelta(days=100 + day)
        season.workspace.add_row(s2_reference(moment), f"{moment:%Y-%m-%dT%H:%M:%S}")
    season.remember()
    return season


def assert_untouched(season: Season) -> None:
    """Every scene is `ingested` as before, at most five were tried, none of it counts."""
    words = season.workspace.query("SELECT DISTINCT status FROM dias_catalogue WHERE reference LIKE 'S2A%%'")
    assert words == [("ingested",)]
    attempts = season.attempts()
    assert {attempt["outcome"] for attempt in attempts} <= {"given_back"}
    assert len({attempt["obsid"] for attempt in attempts}) <= IN_A_ROW
    assert {attempt["attempt"] for attempt in attempts} <= {1}
    season.check(extracted=set())


def test_f19_missing_objects(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """One band answers 404 after it was listed; another product is not listed at all. Those two are `notfound`, at the
    first attempt, and the others are extracted.

    Without: failure_classes
    """
    season = make_season(s2=4)
    season.short()
    spoilt.serve(season.workspace)
    lacking, absent, *others = season.scenes["s2"]
    spoilt.error(re.escape(season.products[lacking].keys["B08"]), 404, "NoSuchKey")
    empty = (
        b"<?xml version='1.0'?><ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>"
    )
    spoilt.answer(
        f"list-type.*{re.escape(season.products[absent].reference.removesuffix('.SAFE'))}",
        200,
        empty + b"</ListBucketResult>",
    )
    outcome = season.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (1, 2)
    assert [season.workspace.status(scene) for scene in (lacking, absent)] == ["notfound"] * 2
    assert season.outcomes(lacking) == season.outcomes(absent) == ["notfound"]
    season.check(extracted=set(others))


@pytest.mark.parametrize("requests", ["", OF_PRODUCTS])
@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (400, "ExpiredToken"), (403, "RequestTimeTooSkewed")],
)
def test_f19_forbidden(long_season: Season, spoilt: SpoiltStore, status: int, code: str, requests: str) -> None:
    """Every request is refused for a reason that may pass: keys that have expired, clocks that differ.

    Without: failure_classes
    Without: proof
    """
    spoilt.serve(long_season.workspace)
    spoilt.error(requests, status, code)
    outcome = long_season.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert long_season.outcomes() == (["given_back"] * IN_A_ROW if requests else [])
    assert code in outcome.errors[0]
    assert_untouched(long_season)


@pytest.mark.parametrize("requests", ["", OF_PRODUCTS])
def test_f19_wrong_keys(long_season: Season, spoilt: SpoiltStore, requests: str) -> None:
    """The store knows no such key: certainly the configuration, so 2 at the first scene, or before it.

    Without: failure_classes
    Without: proof
    """
    spoilt.serve(long_season.workspace)
    spoilt.error(requests, 403, "InvalidAccessKeyId")
    outcome = long_season.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert long_season.outcomes() == (["given_back"] if requests else [])
    assert_untouched(long_season)


def test_f19_keys_that_expire_half_way(long_season: Season, spoilt: SpoiltStore) -> None:
    """Two scenes are extracted, then every object is forbidden: those two stay, and new keys finish the season.

    Without: failure_classes
    """
    season = long_season
    spoilt.serve(season.workspace)
    first, second, third, fourth = season.scenes["s2"]
    for scene in (third, fourth):
        for name in season.products[scene].keys.values():
            spoilt.error(re.escape(name), 403, "AccessDenied")
    outcome = season.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert season.outcomes() == ["extracted"] * 2 + ["given_back"] * IN_A_ROW
    assert {season.workspace.status(scene) for scene in (third, fourth)} == {"ingested"}
    season.check(extracted={first, second})

    spoilt.heal()
    for scene in (third, fourth):
        assert season.run("s2").code == 0
        assert season.outcomes(scene)[-1] == "extracted"
    assert {attempt["attempt"] for attempt in season.attempts()} == {1}
    season.check()


@pytest.mark.parametrize("host", ["http://no-such-store.invalid", "http://127.0.0.1:{closed}"])
def test_f19_endpoint_that_is_not_there(long_season: Season, host: str) -> None:
    """A name that nobody resolves, a port that nobody listens on: it may come back, so 75 after five times.

    Without: proof
    """
    long_season.workspace.s3.update({"host": host.format(closed=free_port()), "retry_seconds": 0})
    outcome = long_season.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert long_season.outcomes() == []
    assert_untouched(long_season)


@pytest.mark.parametrize("requests", ["", OF_PRODUCTS])
@pytest.mark.parametrize(
    ("card", "status", "body"),
    [
        ("s2", 200, b"<html>It works!</html>"),
        ("s2", 404, b"<html>Not Found</html>"),
        ("bs", 404, b""),
        ("c6", 200, b""),
    ],
)
def test_f19_endpoint_that_is_no_store(
    make_season: MakeSeason, spoilt: SpoiltStore, card: str, status: int, body: bytes, requests: str
) -> None:
    """A web server answers: no scene may become `notfound` because of it.

    Without: failure_classes
    Without: proof
    """
    season = make_season(**{card: 2})
    season.short(max_attempts=2)
    spoilt.serve(season.workspace, retry_seconds=0)
    spoilt.answer(requests, status, body)
    outcome = season.run(card, "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert set(season.statuses().values()) == {"ingested"}
    assert season.outcomes() == (["given_back"] if requests else [])
    season.check(extracted=set())
