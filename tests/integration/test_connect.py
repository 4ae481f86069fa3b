"""Reaching the database: refused at once, waited for, and what its reports mean."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest

from demo.servers import free_port
from extractors.config import DatabaseFile, TableName
from extractors.database.connection import Database
from extractors.database.schema import find
from extractors.errors import ConfigurationError, DatabaseUnavailableError, ExtractionError
from tests.integration.conftest import Ground

WRONG = "canary-wrong-password"


def connect(ground: Ground, wait_seconds: float = 0, **changes: Any) -> Database:
    """A session with other parameters of the connection."""
    connection = ground.config["database"]["connection"] | changes
    document = {
        "database": ground.config["database"] | {"connection": connection},
        "extraction": {"database_wait_seconds": wait_seconds},
    }
    return Database(DatabaseFile.model_validate(document), "db_config.json")


def asked(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.transaction("testing") as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(seconds: float) -> None:
        pytest.fail(f"waited {seconds} s")

    monkeypatch.setattr("extractors.database.connection.time.sleep", never)


def test_a_session_is_in_utc_and_says_who_it_is(ground: Ground) -> None:
    with connect(ground, options="-c timezone=Asia/Tokyo") as database:
        assert database._connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE
        assert asked(database, "SELECT current_setting('timezone'), current_setting('application_name')") == [
            ("UTC", "parcel-extraction")
        ]
        assert not database.closed
    assert database.closed


def test_further_parameters_reach_the_server(ground: Ground) -> None:
    with connect(ground, application_name="worker 3", options="-c work_mem=7MB") as database:
        assert asked(database, "SELECT current_setting('application_name'), current_setting('work_mem')") == [
            ("worker 3", "7MB")
        ]


def test_a_password_from_the_environment(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", ground.postgis.password)
    connect(ground, dbpasswd=None).close()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"nonsense": "1"}, "extraction.server_settings: the database knows no setting nonsense; fix its name"),
        ({"lock_timeout": "soon"}, "extraction.server_settings: the database does not take them ("),
        ({"max_connections": "7"}, "extraction.server_settings: the database does not take them ("),
    ],
    ids=["unknown", "odd value", "not of a session"],
)
def test_settings_that_the_server_does_not_take(setting: dict[str, str], message: str, ground: Ground) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ground.database(**setting)
    assert str(caught.value).startswith(f"db_config.json: {message}")


def test_another_session_in_place_of_one_that_broke(ground: Ground) -> None:
    database = ground.database()
    ground.query("SELECT pg_terminate_backend(%s)", (before := database._connection.info.backend_pid))
    with pytest.raises(DatabaseUnavailableError):
        asked(database, "SELECT 1")
    assert database.closed
    database.reopen()
    assert not database.closed
    assert asked(database, "SELECT pg_backend_pid()") != [(before,)]


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
        ({"options": "-c statement_timeuot=5s"}, "statement_timeuot"),
        ({"options": "-c statement_timeout=soon"}, "statement_timeout"),
        ({"service": "nowhere"}, "nowhere"),
    ],
    ids=[
        "wrong password",
        "no password",
        "unknown user",
        "unknown database",
        "odd sslmode",
        "no SSL",
        "a setting that nobody knows",
        "a value that cannot be",
        "an unknown service",
    ],
)
def test_a_server_that_refuses_us_is_not_waited_for(
    changes: dict[str, Any], words: str, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    with pytest.raises(ConfigurationError) as caught:
        connect(ground, 600, **changes)
    message = str(caught.value)
    assert message.startswith(
        "db_config.json: database.connection: no connection to the database server at "
        f"127.0.0.1:{ground.postgis.port} can be made ("
    )
    assert words in message
    assert message.endswith(
        "); fix what that names: dbname, dbuser, dbpasswd, TLS settings, or the server's access rules"
    )
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
                connect(ground, dbuser=user, dbpasswd=user)
    finally:
        ground.query(f"GRANT CONNECT ON DATABASE {ground.name} TO PUBLIC")
        ground.query("DROP ROLE silent, outsider")


def test_a_setting_that_the_user_may_not_change(ground: Ground) -> None:
    ground.query("CREATE ROLE humble LOGIN PASSWORD 'humble'")
    try:
        with pytest.raises(ConfigurationError, match="log_statement"):
            connect(ground, 600, dbuser="humble", dbpasswd="humble", options="-c log_statement=all")
    finally:
        ground.query("DROP ROLE humble")


@pytest.mark.parametrize("sslmode", ["prefer", "disable"])
def test_another_kind_of_server(sslmode: str, ground: Ground) -> None:
    """Somebody else answers at the port, and speaks first."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve() -> None:
        while True:
            try:
                incoming, _ = listener.accept()
            except OSError:
                return
            with incoming:
                incoming.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                incoming.recv(1000)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
            connect(ground, 600, port=port, sslmode=sslmode)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_nobody_there(ground: Ground) -> None:
    port = free_port()
    with pytest.raises(DatabaseUnavailableError) as caught:
        connect(ground, port=port)
    message = str(caught.value)
    assert message.startswith(f"no database at 127.0.0.1:{port} within 0 s (")
    assert message.endswith("); start it, or fix host and port in db_config.json")
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
        connect(ground, 60, port=free_port())
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
    database = connect(ground, 60, port=port)
    assert pauses == 3
    assert caplog.messages == [f"waiting up to 60 s for the database at 127.0.0.1:{port}"]
    database.close()
    ends[0]()


# Transactions


def test_a_transaction_is_committed_at_its_end(ground: Ground) -> None:
    with ground.database().transaction("testing") as cursor:
        cursor.execute("CREATE TABLE noted (number int)")
        assert ground.one("SELECT to_regclass('noted')") is None
    assert ground.one("SELECT to_regclass('noted')") == "noted"


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt], ids=lambda kind: kind.__name__)
def test_a_transaction_is_rolled_back_on_any_error(error: type[BaseException], ground: Ground) -> None:
    database = ground.database()
    with pytest.raises(error), database.transaction("testing") as cursor:
        cursor.execute("CREATE TABLE noted (number int)")
        raise error
    assert ground.one("SELECT to_regclass('noted')") is None
    # The session is good for the next one.
    assert asked(database, "SELECT 1") == [(1,)]


def test_a_transaction_that_is_left_early_is_committed(ground: Ground) -> None:
    def leave(database: Database) -> None:
        with database.transaction("testing") as cursor:
            cursor.execute("CREATE TABLE noted (number int)")
            return

    leave(ground.database())
    assert ground.one("SELECT to_regclass('noted')") == "noted"


def test_why_a_session_has_ended_amid_a_query_is_told(ground: Ground) -> None:
    """Rolling back fails then ("connection already closed"), which must not hide the reason. Which of the two that the
    server and its end give, is libpq's choice."""
    database = ground.database()
    number = database._connection.info.backend_pid

    def terminate() -> None:
        while not ground.one("SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'", number):
            pass
        ground.query("SELECT pg_terminate_backend(%s)", number)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(DatabaseUnavailableError) as caught, database.transaction("testing") as cursor:
        cursor.execute("SELECT pg_sleep(60)")
    thread.join()
    assert re.match(
        r"the database connection broke while testing \((terminating connection due to administrator command|"
        r"server closed the connection unexpectedly)",
        str(caught.value),
    )
    assert "already closed" not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg2.OperationalError)


def test_an_error_of_ours_is_not_hidden_by_a_session_that_has_ended(ground: Ground) -> None:
    database = ground.database()
    with pytest.raises(ZeroDivisionError), database.transaction("testing"):
        ground.query("SELECT pg_terminate_backend(%s)", database._connection.info.backend_pid)
        _ = 1 / 0


def test_a_query_is_cancelled_by_another_thread(ground: Ground) -> None:
    database = ground.database()
    timer = threading.Timer(0.3, database.cancel)
    timer.start()
    with pytest.raises(DatabaseUnavailableError, match=r"could not go on while testing .*user request"):
        asked(database, "SELECT pg_sleep(60)")
    assert not database.closed


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
    database = ground.database(statement_timeout="100ms")
    with pytest.raises(ExtractionError) as caught, database.transaction("testing") as cursor:
        cursor.execute(statement)
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_right_that_is_lacking(ground: Ground, database: Database) -> None:
    with database.transaction("testing") as cursor:
        cursor.execute("SET SESSION ROLE pg_monitor")
    with (
        pytest.raises(ConfigurationError, match=r"the database user lacks a right while testing \(.*\); GRANT it"),
        database.transaction("testing") as cursor,
    ):
        cursor.execute("DELETE FROM dias_catalogue")


def test_what_is_no_table(ground: Ground, database: Database) -> None:
    ground.query("CREATE SEQUENCE numbers")
    ground.query("CREATE VIEW areas AS SELECT * FROM aois")
    with database.transaction("testing") as cursor:
        assert find(cursor, TableName("numbers"), "").absent
        assert find(cursor, TableName("nothing"), "").absent
        assert not find(cursor, TableName("areas"), "").absent
        assert find(cursor, TableName("areas"), "").name == TableName("areas", "public")
        assert find(cursor, TableName("AOIS", "PUBLIC"), "").name == TableName("aois", "public")
