"""F13: the connection breaks while the worker waits for the answer to its COMMIT.

Injected: a proxy that forwards the COMMIT of the publishing transaction and loses the answer, or loses the COMMIT
itself; then it resets the connection. And a network that drops whatever goes to the worker, so that both ends believe
for a while that the connection lives. Asserted: the worker asks the log, on a new connection, what became of it, and
says the truth; the rows are there once.
"""

from __future__ import annotations

import pytest

from tests.faults.acts import Gate
from tests.faults.conftest import MakeSeason
from tests.faults.far import Far
from tests.faults.network import TcpProxy
from tests.faults.season import Season
from tests.support.running import Running, wait_until


@pytest.fixture
def season(make_season: MakeSeason) -> Season:
    return make_season(bs=2)


def test_f13_answer_lost(season: Season, way: TcpProxy) -> None:
    """Committed, and nobody says so: the log does.

    Without: journal_lookup
    """
    season.short()
    gate = Gate(season.workspace.folder, "before_commit")
    worker = season.start("bs", env=gate.env)
    gate.wait(worker)
    loss = way.lose_commit("after")
    gate.open()
    assert_reported(season, worker)
    assert loss.happened.is_set(), "the worker sent no COMMIT"


def test_f13_still_committing(season: Season, way: TcpProxy) -> None:
    """The worker asks while the server still commits: it has to wait for the end of that.

    Without: journal_lookup
    """
    season.short()
    workspace = season.workspace
    gate = Gate(workspace.folder, "claim_committed", "before_commit")
    worker = season.start("bs", env=gate.env)
    gate.wait(worker)
    workspace.query(
        "CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END'"
    )
    workspace.query(
        "CREATE CONSTRAINT TRIGGER long_commit AFTER UPDATE ON extraction_log DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.outcome = 'extracted') EXECUTE FUNCTION take_long()"
    )
    gate.open()
    gate.wait(worker)
    loss = way.lose_commit("while")
    gate.open()
    assert_reported(season, worker)
    assert loss.happened.is_set(), "the worker sent no COMMIT"


def test_f13_answers_dropped(far: Far) -> None:
    """The COMMIT arrives, what the server says to it does not; the network heals when the worker has given up.

    Without: journal_lookup
    """
    season, workspace = far.season, far.season.workspace
    season.short(database_wait_seconds=20)
    connection = workspace.db_config["database"]["connection"]
    connection.update({"tcp_user_timeout": 4000, "connect_timeout": 2})
    gate = Gate(workspace.folder, "before_commit")
    worker = far.start("bs", env=gate.env)
    gate.wait(worker)
    far.network.cut(answers_only=True)
    gate.open()
    wait_until(lambda: [*season.statuses().values()] == ["extracted"], "the COMMIT to arrive", 10)
    wait_until(lambda: "waiting up to" in worker.stderr, "the worker to give the connection up", 20)
    far.network.heal()
    assert_reported(season, worker)


def assert_reported(season: Season, worker: Running) -> None:
    """The first scene is extracted, by one attempt, and the worker knows."""
    outcome = worker.wait(40)
    assert outcome.code == 0, outcome.output
    assert outcome.errors == []
    assert season.outcomes() == ["extracted"]
    season.check(extracted={min(season.all)}, lost=0)


def test_f13_commit_lost(season: Season, way: TcpProxy) -> None:
    """The same break before the server heard of the COMMIT: nothing is written; the scene is done anew.

    Without: failure_classes
    """
    season.short()
    gate = Gate(season.workspace.folder, "before_commit")
    worker = season.start("bs", "--all", env=gate.env)
    gate.wait(worker)
    loss = way.lose_commit("before")
    gate.open()
    outcome = worker.wait(60)
    assert loss.happened.is_set(), "the worker sent no COMMIT"
    assert outcome.code == 0, outcome.output
    season.check()
    assert season.outcomes(min(season.all))[-1] == "extracted"
