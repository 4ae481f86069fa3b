"""What has to hold after every fault, whatever it was; the oracle is a run without faults on the same data.

I1 no signature twice                        I5 the log tells it: one extraction per scene, no open attempt, accounts
                                                that balance
I2 extracted scenes hold the oracle's rows   I6 the catalogue keeps what others wrote into it
I3 other scenes hold no row                  I7 nothing is left in the scratch directory
I4 at rest nothing is held                   I8 no secret is in any log
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.accounts import assert_balanced
from tests.support.workspace import Workspace

OUR_LOCKS = 1128418561
"""The first half of the key of every advisory lock that a worker takes."""
WORDS = {"ingested", "inprogress", "extracted", "no_parcels", "notfound", "failed"}
"""The statuses that a worker sets."""
REST_SECONDS = 10.0
"""How long a server may take to notice that a process has died whose connections are on the same machine."""

FINGERPRINT = """
SELECT obsid, count(*), md5(string_agg(concat_ws(' ', pid, trim(band), count, mean, std, min, max, p25, p50, p75), ','
                                       ORDER BY pid, band))
FROM signatures GROUP BY obsid"""
TWICE = "SELECT pid, obsid, band FROM signatures GROUP BY pid, obsid, band HAVING count(*) > 1"
CATALOGUE = "SELECT id, to_jsonb(d) - 'status', status FROM dias_catalogue d"
LOCKS = """
SELECT l.objid FROM pg_locks l JOIN pg_database b ON b.oid = l.database
WHERE l.locktype = 'advisory' AND l.classid = %s AND b.datname = current_database()"""
TRANSACTIONS = """
SELECT pid, application_name, query FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%%'"""


@dataclass(frozen=True)
class Row:
    """A row of the catalogue: everything but its status, and its status."""

    rest: Mapping[str, Any]
    status: str


Catalogue = Mapping[int, Row]
Oracle = Mapping[int, str]
"""Scene -> fingerprint of its rows."""


def catalogue(workspace: Workspace) -> dict[int, Row]:
    """The catalogue as it is."""
    return {number: Row(rest, status) for number, rest, status in workspace.query(CATALOGUE)}


def fingerprints(workspace: Workspace) -> dict[int, str]:
    """For every scene with rows: their number and a digest of them in order, without the scene's id."""
    if not workspace.one("SELECT to_regclass('signatures') IS NOT NULL"):
        return {}
    return {number: f"{rows} rows, {digest}" for number, rows, digest in workspace.query(FINGERPRINT)}


def attempts(workspace: Workspace) -> list[dict[str, Any]]:
    """The log, oldest attempt first."""
    if not workspace.one("SELECT to_regclass('extraction_log') IS NOT NULL"):
        return []
    return [row[0] for row in workspace.query("SELECT to_json(l) FROM extraction_log l ORDER BY run_id")]


def check(
    workspace: Workspace,
    oracle: Oracle,
    before: Catalogue,
    *,
    extracted: Collection[int],
    lost: int | None = None,
    most_attempts: int | None = None,
    times: int = 1,
    quiet: bool = True,
) -> None:
    """All of I1 to I8.

    extracted: exactly these scenes of the oracle have the status. before: the catalogue as the test made it.
    lost: so many attempts were lost. times: how often they were extracted, because the test set them back.
    quiet: no worker runs any more, so nothing may be held or left.
    """
    check_rows(workspace, oracle, extracted)
    check_catalogue(workspace, oracle, before, extracted)
    check_log(workspace, [scene for scene in extracted for _ in range(times)], lost, most_attempts, quiet)
    if quiet:
        check_rest(workspace)
        check_scratch(workspace)
    check_secrets(workspace)


def check_rows(workspace: Workspace, oracle: Oracle, extracted: Collection[int]) -> None:
    """I1, I2 and I3: every extracted scene once and whole, no other scene at all."""
    if workspace.one("SELECT to_regclass('signatures') IS NOT NULL"):
        assert workspace.query(TWICE) == [], "I1: signatures are there twice"
    found = fingerprints(workspace)
    wanted = {number: oracle[number] for number in extracted}
    assert {n: found.get(n) for n in wanted} == wanted, "I2: rows of extracted scenes are not those of the oracle"
    assert found.keys() == wanted.keys(), "I3: scenes that are not extracted have rows"


def check_catalogue(workspace: Workspace, oracle: Oracle, before: Catalogue, extracted: Collection[int]) -> None:
    """I6, and which scenes are extracted."""
    now = catalogue(workspace)
    assert before.keys() <= now.keys(), "I6: rows of the catalogue have gone"
    for number, row in before.items():
        assert now[number].rest == row.rest, f"I6: scene {number} has been changed"
        if number not in oracle:
            assert now[number].status == row.status, f"I6: scene {number} is another program's"
    statuses = {number: now[number].status for number in oracle if number in now}
    assert set(statuses.values()) <= WORDS, "I6: a status that nobody knows"
    got = {number for number, status in statuses.items() if status == "extracted"}
    assert got == set(extracted), f"extracted {sorted(got)} instead of {sorted(extracted)}: {statuses}"


def check_log(
    workspace: Workspace, extracted: Collection[int], lost: int | None, most_attempts: int | None, quiet: bool
) -> None:
    """I5: exactly one extraction for every scene named, no attempt open, none beyond the limit."""
    log = attempts(workspace)
    done = Counter(attempt["obsid"] for attempt in log if attempt["outcome"] == "extracted")
    wanted = Counter(extracted)
    assert done == wanted, (
        "I5: the log does not tell of one extraction per extracted scene: "
        f"too many {dict(done - wanted)}, too few {dict(wanted - done)}"
    )
    if quiet:
        assert [attempt for attempt in log if attempt["finished_at"] is None] == [], "I5: an attempt is still open"
    if most_attempts is not None:
        beyond = [attempt for attempt in log if attempt["attempt"] > most_attempts]
        assert beyond == [], f"I5: more than {most_attempts} attempts"
    if lost is not None:
        gone = [attempt for attempt in log if attempt["outcome"] == "lost"]
        assert len(gone) == lost, f"{len(gone)} attempts were lost instead of {lost}: {gone}"
    assert_balanced(workspace)


def check_rest(workspace: Workspace) -> None:
    """I4: no scene is held, by status, lock or transaction."""
    end = time.monotonic() + REST_SECONDS
    # A server learns of a killed client a moment after its death.
    while (held := [*workspace.query(LOCKS, OUR_LOCKS), *workspace.query(TRANSACTIONS)]) and time.monotonic() < end:
        time.sleep(0.05)
    assert held == [], "I4: locks or transactions are left"
    tried = {attempt["obsid"] for attempt in attempts(workspace)}
    in_progress = {number for number, row in catalogue(workspace).items() if row.status == "inprogress"}
    assert tried & in_progress == set(), "I4: scenes of ours are still in progress"


def check_scratch(workspace: Workspace) -> None:
    """I7: nothing is left of any scene's files."""
    assert workspace.files() == [], "I7: the scratch directory is not empty"


def check_secrets(workspace: Workspace) -> None:
    """I8: neither password nor secret key in what was printed, in the log table or in the server's log."""
    texts = {str(path): path.read_text(errors="replace") for path in workspace.folder.glob("output*/std*")}
    texts["extraction_log"] = str(attempts(workspace))
    texts["the server's log"] = workspace.postgis.log.read_text(errors="replace")
    for where, text in texts.items():
        for secret in (workspace.postgis.password, workspace.secret_key):
            assert secret not in text, f"I8: a secret is in {where}"
