"""Reaching the database: refused at once, waited for, and what its reports mean."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

from demo.servers import free_port
from extractors.config import Connection, TableName
from extractors.database.connection import connect, database_errors, find_table
from extractors.errors import ConfigurationError, DatabaseUnavailableError, ExtractionError
from tests.integration.conftest import Ground, Session

WRONG = "canary-wrong-password"


def parameters(ground: Ground, **changes: Any) -> Connection:
    return Connection.model_validate(ground.config["database"]["connection"] | changes)


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(seconds: float) -> None:
        pytest.fail(f"waited {seconds} s")

    monkeypatch.setattr("extractors.database.connection.time.sleep", never)


def test_a_session_is_in_utc_and_says_who_it_is(ground: Ground) -> None:
    session = connect(parameters(ground, options="-c timezone=Asia/Tokyo"), 0, "db_config.json")
    with session, session.cursor() as cursor:
        cursor.execute("SELECT current_setting('timezone'), current_setting('application_name')")
        assert cursor.fetchone() == ("UTC", "parcel-extraction")
    assert session.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE
    session.close()


def test_further_parameters_reach_the_server(ground: Ground) -> None:
    session = connect(parameters(ground, application_name="worker 3", options="-c work_mem=7MB"), 0, "db_config.json")
    with session, session.cursor() as cursor:
        cursor.execute("SELECT current_setting('application_name'), current_setting('work_mem')")
        assert cursor.fetchone() == ("worker 3", "7MB")
    session.close()


def test_a_password_from_the_environment(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", ground.postgis.password)
    connect(parameters(ground, dbpasswd=None), 0, "db_config.json").close()


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dbpasswd": WRONG}, 'password authentication failed for user "postgres"'),
        ({"dbpasswd": ""}, "no password supplied"),
        ({"dbuser": "nobody"}, 'password authentication failed for user "nobody"'),
        ({"dbname": "nothing"}, 'database "nothing" does not exist'),
        ({"sslmode": "sometimes"}, 'invalid sslmode value: "sometimes"'),
        ({"sslmode": "require"}, "server does not support SSL, but SSL was required"),
    ],
    ids=["wrong password", "no password", "unknown user", "unknown database", "odd sslmode", "no SSL"],
)
def test_a_server_that_refuses_us_is_not_waited_for(
    changes: dict[str, Any], words: str, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    with pytest.raises(ConfigurationError) as caught:
        connect(parameters(ground, **changes), 600, "db_config.json")
    message = str(caught.value)
    assert message.startswith(
        f"db_config.json: database.connection: the database server at 127.0.0.1:{ground.postgis.port} refuses the "
        "connection ("
    )
    assert words in message
    assert message.endswith("); mend dbname, dbuser, dbpasswd or the server's access rules")
    assert "\n" not in message
    assert WRONG not in message
    assert ground.postgis.password not in message


def test_a_user_who_may_not_log_in(ground: Ground) -> None:
    ground.query("CREATE ROLE silent PASSWORD 'silent'")
    ground.query("CREATE ROLE outsider LOGIN PASSWORD 'outsider'")
    ground.query(f"REVOKE CONNECT ON DATABASE {ground.name} FROM PUBLIC")
    try:
        for user, words in (("silent", "is not permitted to log in"), ("outsider", "permission denied for database")):
            with pytest.raises(ConfigurationError, match=words):
                connect(parameters(ground, dbuser=user, dbpasswd=user), 0, "db_config.json")
    finally:
        ground.query(f"GRANT CONNECT ON DATABASE {ground.name} TO PUBLIC")
        ground.query("DROP ROLE silent, outsider")


def test_nobody_there(ground: Ground) -> None:
    port = free_port()
    with pytest.raises(DatabaseUnavailableError) as caught:
        connect(parameters(ground, port=port), 0, "db_config.json")
    message = str(caught.value)
    assert message.startswith(f"no database at 127.0.0.1:{port} within 0 s (")
    assert message.endswith("); start it, or mend host and port in db_config.json")
    assert "\n" not in message


def test_waiting_ends(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)

    monkeypatch.setattr("extractors.database.connection.time.sleep", sleep)
    monkeypatch.setattr("extractors.database.connection.time.monotonic", lambda: now)
    with pytest.raises(DatabaseUnavailableError, match="within 60 s"):
        connect(parameters(ground, port=free_port()), 60, "db_config.json")
    assert now == pytest.approx(60)
    assert 6 < len(pauses) < 30
    assert max(pauses) <= 10


def forward(port: int, target: int) -> Callable[[], None]:
    """Pass one connection to `port` on to `target`; returns what ends it."""
    listener = socket.create_server(("127.0.0.1", port))
    sockets = [listener]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass

    def accept() -> None:
        incoming, _ = listener.accept()
        outgoing = socket.create_connection(("127.0.0.1", target))
        sockets.extend([incoming, outgoing])
        threading.Thread(target=pump, args=(outgoing, incoming), daemon=True).start()
        pump(incoming, outgoing)
        outgoing.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()

    def end() -> None:
        thread.join(10)
        for one in sockets:
            one.close()

    return end


def test_a_database_that_starts_late_is_waited_for(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    ends: list[Callable[[], None]] = []
    pauses = 0

    def third_time(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 3:
            ends.append(forward(port, ground.postgis.port))

    monkeypatch.setattr("extractors.database.connection.time.sleep", third_time)
    session = connect(parameters(ground, port=port), 60, "db_config.json")
    assert pauses == 3
    assert caplog.messages == [f"waiting up to 60 s for the database at 127.0.0.1:{port}"]
    session.close()
    ends[0]()


# What its reports mean


@pytest.mark.parametrize(
    ("statement", "kind", "words"),
    [
        ("SELECT * FROM nowhere", ConfigurationError, "the database lacks something while testing"),
        ("SELECT nothing FROM aois", ConfigurationError, "the database lacks something while testing"),
        ("SELECT st_nothing()", ConfigurationError, "the database lacks something while testing"),
        ("INSERT INTO nowhere.x VALUES (1)", ConfigurationError, "while testing"),
        ("SELECT 'x'::int", ConfigurationError, "the table does not take what it should while testing"),
        ("INSERT INTO dias_catalogue (id) VALUES (1)", ConfigurationError, "the table does not take what it should"),
        ("SELECT pg_sleep(5)", DatabaseUnavailableError, "the database could not go on while testing"),
        ("SELECT pg_terminate_backend(pg_backend_pid())", DatabaseUnavailableError, "the database connection broke"),
        (
            "SELECT ST_Transform('SRID=4326;POINT(0 95)'::geometry, 32633)",
            ConfigurationError,
            "while testing (transform",
        ),
    ],
)
def test_reports_of_the_database(statement: str, kind: type[ExtractionError], words: str, ground: Ground) -> None:
    session = ground.connect(options="-c statement_timeout=100")
    with (
        pytest.raises(ExtractionError) as caught,
        database_errors(session, "testing"),
        session,
        session.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_right_that_is_lacking(ground: Ground) -> None:
    session = ground.connect()
    with session, session.cursor() as cursor:
        cursor.execute("SET SESSION ROLE pg_monitor")
    with (
        pytest.raises(ConfigurationError, match=r"the database user lacks a right while testing \(.*\); GRANT it"),
        database_errors(session, "testing"),
        session,
        session.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM dias_catalogue")


def test_what_is_no_table(ground: Ground, session: Session) -> None:
    ground.query("CREATE SEQUENCE numbers")
    ground.query("CREATE VIEW areas AS SELECT * FROM aois")
    assert find_table(session, TableName("numbers")) is None
    assert find_table(session, TableName("nothing")) is None
    assert find_table(session, TableName("areas")) == TableName("areas", "public")
    assert find_table(session, TableName("AOIS", "PUBLIC")) == TableName("aois", "public")
