"""`operations backup` and `verify`: what is saved is of one moment and whole, and what is restored is the same."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.servers import postgis_binaries
from tests.support.environment import ROOT, environment
from tests.support.ground import squares
from tests.support.roles import PASSWORD, create_role
from tests.support.running import wait_until
from tests.support.small_disk import SmallDisk
from tests.support.workspace import Workspace

SAVED = ("aois", "dias_catalogue", "extraction_log", "hists", "parcels", "scene_source", "signatures")
THROW_AWAY = "SELECT count(*) FROM pg_database WHERE datname LIKE 'parcel_extraction_verify_%'"


@pytest.fixture
def season(workspace: Workspace) -> Iterator[Workspace]:
    """Two scenes are extracted, one is at work by a worker that died, and one is to be done."""
    workspace.tables["hists_table"] = "hists"
    workspace.extraction.update({"max_attempts": 3, "retry_pause_seconds": 0})
    workspace.add_parcels(squares(5))
    assert workspace.operate("setup").code == 0
    for day in (1, 2):
        workspace.add_s2(f"2020-04-0{day}T10:00:31")
    assert workspace.run("s2", "--all").code == 0
    for day in (3, 4):
        workspace.add_s2(f"2020-04-0{day}T10:00:31")
    died = workspace.start("s2", env={"EXTRACTION_FAILPOINT": "claim_committed=hang"})
    wait_until(lambda: bool(workspace.one("SELECT count(*) FROM dias_catalogue WHERE status = 'inprogress'")), "claim")
    died.kill()
    wait_until(lambda: not workspace.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "its end")
    yield workspace
    assert workspace.one(THROW_AWAY) == 0


def content(workspace: Workspace) -> dict[str, list[tuple[Any, ...]]]:
    return {table: sorted(workspace.query(f"SELECT r::text FROM {table} r")) for table in SAVED}


def files(workspace: Workspace, folder: Path | None = None) -> set[str]:
    return {path.name for path in (folder or workspace.cwd).iterdir()} - {"db_config.json", "s3_config.json", "data"}


def drop(workspace: Workspace) -> None:
    """All that was saved."""
    workspace.query(f"DROP TABLE {', '.join(SAVED)} CASCADE")


def tool(workspace: Workspace, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a plain command against the test's own server."""
    server = workspace.postgis
    where = {
        "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": server.password,
        "PATH": f"{postgis_binaries()}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=workspace.cwd, env=environment(**where), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def fake(workspace: Workspace, name: str, script: str) -> Path:
    """A folder with a program in place of a real one."""
    folder = workspace.folder / "tools"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


def test_dropped_and_restored(season: Workspace) -> None:
    """Everything is as it was, and the next worker goes on: with the dead one's scene, then with the last."""
    before = content(season)
    outcome = season.operate("backup", "--out", "season.dump")
    assert outcome.code == 0, outcome.output
    assert files(season) == {"season.dump", "season.dump.json"}
    assert stat.S_IMODE((season.cwd / "season.dump").stat().st_mode) == 0o600
    noted = json.loads((season.cwd / "season.dump.json").read_text())
    assert {one["name"]: one["rows"] for one in noted["sums"]} == {name: len(rows) for name, rows in before.items()}
    drop(season)
    tool(season, "pg_restore", "--exit-on-error", "--dbname", season.database, "season.dump")
    assert content(season) == before
    again = season.operate("backup", "--out", "again.dump")
    assert again.code == 0, again.output
    assert json.loads((season.cwd / "again.dump.json").read_text())["sums"] == noted["sums"]
    assert season.run("s2", "--all").code == 0
    assert season.query("SELECT status, count(*) FROM dias_catalogue GROUP BY 1") == [("extracted", 4)]
    outcomes = "SELECT array_agg(outcome ORDER BY run_id) FROM extraction_log"
    assert season.one(outcomes) == ["extracted", "extracted", "lost", "extracted", "extracted"]
    assert season.rows() == 2 * len(before["signatures"])


def test_verify_finds_what_differs(season: Workspace) -> None:
    """A row that was changed, by the least there is, or added, or a table that is lacking."""
    assert season.operate("backup", "--out", "season.dump").code == 0
    outcome = season.operate("verify", "--file", "season.dump")
    assert (outcome.code, len(outcome.stdout.splitlines())) == (0, len(SAVED)), outcome.output
    assert all(line.startswith("ok ") for line in outcome.stdout.splitlines())
    season.query(
        "UPDATE signatures SET mean = mean * (1 + 1.5e-7)"
        " WHERE ctid = (SELECT ctid FROM signatures WHERE band = 'B4' ORDER BY pid, obsid LIMIT 1)"
    )
    season.query("INSERT INTO scene_source VALUES (1, NULL, 'elsewhere/')")
    tables = [part for name in SAVED if name != "hists" for part in ("--table", name)]
    tool(season, "pg_dump", "-Fc", *tables, "--file", "season.dump", season.database)
    outcome = season.operate("verify", "--file", "season.dump")
    assert outcome.code == 1, outcome.output
    differing = [line.split()[1] for line in outcome.stdout.splitlines() if line.startswith("DIFFERS")]
    assert differing == ["public.hists:", "public.scene_source:", "public.signatures:"]


def test_while_workers_write(season: Workspace) -> None:
    """Dump and sums are of the same moment, though the last is read when much has been written."""
    slow = fake(
        season, "pg_dump",
        f'case "$1" in --version) ;; *) touch {season.folder}/began; '
        f"while [ ! -e {season.folder}/go ]; do sleep 0.1; done;; esac\n"
        f'exec {postgis_binaries()}/pg_dump "$@"',
    )  # fmt: skip
    running = season.start_python("-m", "operations", "backup", "--out", "season.dump", "--tools", str(slow))
    wait_until((season.folder / "began").exists, "the beginning of the dump")
    before = content(season)
    assert season.run("s2", "--all").code == 0
    assert content(season)["signatures"] != before["signatures"]
    (season.folder / "go").touch()
    outcome = running.wait()
    assert outcome.code == 0, outcome.output
    noted = json.loads((season.cwd / "season.dump.json").read_text())
    assert {one["name"]: one["rows"] for one in noted["sums"]} == {name: len(rows) for name, rows in before.items()}
    outcome = season.operate("verify", "--file", "season.dump")
    assert outcome.code == 0, outcome.output


@pytest.mark.parametrize("change", ["TRUNCATE signatures", "DROP TABLE hists"])
def test_nobody_empties_a_table_meanwhile(change: str, season: Workspace) -> None:
    """Also not between its dump and its sums, which would be those of another table."""
    meddling = fake(
        season, "pg_dump",
        f'PATH={postgis_binaries()}:$PATH; [ "$1" = --version ] && exec pg_dump --version\n'
        'pg_dump "$@" || exit\n'
        f"psql --dbname \"$2\" -v ON_ERROR_STOP=1 -c \"SET lock_timeout = '1s'\" -c '{change}' >&2\n"
        f"echo $? > {season.folder}/ended",
    )  # fmt: skip
    meddling = meddling.rename(season.folder / "meddling")
    outcome = season.operate("backup", "--out", "season.dump", "--tools", str(meddling))
    assert outcome.code == 0, outcome.output
    outcome = season.operate("verify", "--file", "season.dump")
    assert outcome.code == 0, outcome.output
    assert int((season.folder / "ended").read_text()) != 0


def test_what_belongs_to_it(workspace: Workspace) -> None:
    """Partitions, tables of other configurations, what parcels inherit from or a view reads, types of extensions; in
    other schemas and with any names."""
    workspace.query('CREATE SCHEMA "Nl.x"; CREATE EXTENSION hstore; CREATE TABLE unrelated AS SELECT 1')
    workspace.query('ALTER TABLE parcels ADD COLUMN tags hstore; ALTER TABLE parcels SET SCHEMA "Nl.x"')
    workspace.query('ALTER TABLE "Nl.x".parcels RENAME TO "all ""*"; CREATE VIEW parcels AS TABLE "Nl.x"."all ""*"')
    workspace.query(
        'INSERT INTO "Nl.x"."all ""*" (wkb_geometry, tags) SELECT ST_GeomFromText(%s, %s), %s',
        squares(1)[0].wkt, workspace.parcel_srid, "a=>b",
    )  # fmt: skip
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.tables["results_table"] = "by_scene"
    assert workspace.operate("setup", "--partitioned", "3").code == 0
    outcome = workspace.operate("backup", "--out", "season.dump")
    assert outcome.code == 0, outcome.output
    noted = {
        f"{one['schema']}.{one['name']}" for one in json.loads((workspace.cwd / "season.dump.json").read_text())["sums"]
    }
    assert {'Nl.x.all "*', "public.signatures", "public.by_scene_0"} <= noted
    assert not {"public.unrelated", "public.spatial_ref_sys", "public.parcels"} & noted
    outcome = workspace.operate("verify", "--file", "season.dump")
    assert outcome.code == 0, outcome.output
    assert "ok public.signatures: 2 rows" in outcome.stdout or "ok public.signatures: 3 rows" in outcome.stdout


def test_what_it_needs_is_in_it_or_named(season: Workspace) -> None:
    """Sequences that no column owns, in schemas without tables; extensions of defaults, constraints and types; a table
    of statuses."""
    season.query(
        "CREATE SCHEMA numbers; CREATE SEQUENCE numbers.others START 4711; ALTER TABLE dias_catalogue ADD number bigint"
        " DEFAULT nextval('numbers.others'); CREATE EXTENSION btree_gist; CREATE EXTENSION hstore;"
        'CREATE EXTENSION "uuid-ossp"; ALTER TABLE parcels ADD code uuid DEFAULT uuid_generate_v4(), ADD tags hstore[],'
        " ADD EXCLUDE USING gist (ogc_fid WITH =);"
        "CREATE TABLE states AS SELECT DISTINCT status FROM dias_catalogue;"
        "ALTER TABLE states ADD PRIMARY KEY (status);"
        "ALTER TABLE dias_catalogue ADD FOREIGN KEY (status) REFERENCES states"
    )
    outcome = season.operate("backup", "--out", "season.dump")
    assert outcome.code == 0, outcome.output
    noted = json.loads((season.cwd / "season.dump.json").read_text())
    assert set(noted["extensions"]) == {"postgis", "btree_gist", "hstore", "uuid-ossp"}
    outcome = season.operate("verify", "--file", "season.dump")
    assert outcome.code == 0, outcome.output
    assert "ok public.states" in outcome.stdout


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "CREATE TYPE state AS ENUM ('ingested', 'inprogress', 'extracted');"
            "ALTER TABLE dias_catalogue ALTER status DROP DEFAULT, ALTER status TYPE state USING status::text::state",
            "type public.state",
        ),
        (
            "CREATE DOMAIN state AS varchar(12); ALTER TABLE dias_catalogue ALTER status TYPE state",
            "type public.state",
        ),
        (
            "CREATE FUNCTION code() RETURNS integer LANGUAGE sql AS 'SELECT 1';"
            "ALTER TABLE parcels ADD code integer DEFAULT code()",
            "function public.code()",
        ),
        (
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER tell BEFORE INSERT ON dias_catalogue FOR EACH ROW EXECUTE FUNCTION tell()",
            "function public.tell()",
        ),
        (
            "CREATE FUNCTION half(real) RETURNS real IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 2';"
            "CREATE INDEX ON signatures (half(mean))",
            "function public.half(real)",
        ),
        (
            "CREATE TABLE others (code integer); ALTER TABLE parcels ENABLE ROW LEVEL SECURITY;"
            "CREATE POLICY few ON parcels USING (ogc_fid IN (SELECT code FROM others))",
            "table public.others",
        ),
    ],
)
def test_what_no_archive_of_tables_holds(statement: str, named: str, workspace: Workspace) -> None:
    """Such an archive could not be restored, so none is made."""
    workspace.add_parcels(squares(1))
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query(statement)
    for options in ((), ("--dry-run",)):
        outcome = workspace.operate("backup", "--out", "season.dump", *options)
        assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.output
        assert named in outcome.errors[0]
    assert files(workspace) == set()


@pytest.mark.parametrize(("verb", "name"), [("backup", "pg_dump"), ("verify", "pg_restore")])
def test_tools_that_cannot_be_used(verb: str, name: str, season: Workspace) -> None:
    """Older than the server, absent, or in a container that is not there: the remedy is said, and nothing is made."""
    file = ("--out", "new.dump") if verb == "backup" else ("--file", "season.dump")
    assert season.operate("backup", "--out", "season.dump").code == 0
    old = fake(season, name, f'echo "{name} ({"PostgreSQL"}) 9.6.24"')
    for where in (("--tools", str(old)), ("--tools", str(season.folder)), ("--container", "nothing")):
        outcome = season.operate(verb, *file, *where)
        assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.output
        assert name in outcome.errors[0] or "docker" in outcome.errors[0]
        if where[0] == "--tools":
            assert "--container" in outcome.errors[0]
            assert "postgresql-client-" in outcome.errors[0]
    assert files(season) == {"season.dump", "season.dump.json"}


def test_no_password_where_others_see_it(season: Workspace) -> None:
    """Neither on the command line of a tool, nor in a log line with all details; it is in the tool's environment."""
    season.db_config["database"]["connection"] |= {"sslmode": "prefer", "sslpassword": season.secret_key}
    seen = season.folder / "seen"
    folder = fake(
        season, "pg_dump",
        f'echo "$@" "{{$PGPASSWORD}}" >> {seen}; [ -z "$PGSERVICEFILE" ] || stat -c %a "$PGSERVICEFILE" >> {seen}\n'
        f'exec {postgis_binaries()}/pg_dump "$@"',
    )  # fmt: skip
    outcome = season.operate("backup", "--out", "season.dump", "--tools", str(folder), "-v")
    assert outcome.code == 0, outcome.output
    text = seen.read_text()
    assert text.count(season.postgis.password) == text.count("{" + season.postgis.password + "}") == 1
    assert season.secret_key not in text
    assert "sslmode=prefer" in text
    assert text.splitlines()[-1] == "600"


def test_a_file_that_is_there(season: Workspace) -> None:
    (season.cwd / "season.dump").write_text("theirs")
    outcome = season.operate("backup", "--out", "season.dump")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert (season.cwd / "season.dump").read_text() == "theirs"
    # One that fails leaves it, too.
    failing = fake(
        season, "pg_dump", '[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 99" || { echo half; exit 1; }'
    )
    outcome = season.operate("backup", "--out", "season.dump", "--replace", "--tools", str(failing))
    assert (outcome.code, len(outcome.errors)) == (1, 1), outcome.output
    assert (season.cwd / "season.dump").read_text() == "theirs"
    assert files(season) == {"season.dump"}
    said = season.operate("backup", "--out", "season.dump", "--replace", "--dry-run")
    assert [line.split()[2] for line in said.stdout.splitlines() if "_" not in line] == [
        "public.aois:", "public.hists:", "public.parcels:", "public.signatures:"
    ]  # fmt: skip
    assert files(season) == {"season.dump"}
    assert season.operate("backup", "--out", "season.dump", "--replace").code == 0
    assert season.operate("verify", "--file", "season.dump").code == 0


def test_a_full_disk(season: Workspace, disk: SmallDisk) -> None:
    disk.fill(but=4096)
    outcome = season.operate("backup", "--out", str(disk.folder / "season.dump"))
    assert (outcome.code, len(outcome.errors)) == (75, 1), outcome.output
    assert disk.files == []


BUSY = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'parcel-extraction backup%'"


def sleeping(name: str) -> str:
    """A tool that is connected with the server and takes long. (Unlike the real ones, psql cancels nothing when it is
    told to end; so its server looks whether it is there.)"""
    return (
        f'[ "$1" = --version ] && exec {postgis_binaries()}/{name} --version\n'
        "export PGOPTIONS='-c client_connection_check_interval=200'\n"
        f"exec {postgis_binaries()}/psql --dbname \"$2\" --command 'SELECT pg_sleep(600)'"
    )


def test_a_signal_while_saving(season: Workspace) -> None:
    options = ("--out", "season.dump", "--tools", str(fake(season, "pg_dump", sleeping("pg_dump"))))
    running = season.start_python("-m", "operations", "backup", *options)
    wait_until(lambda: bool(season.one(BUSY)), "the tool")
    running.send(signal.SIGTERM)
    assert running.wait(30).code == 128 + signal.SIGTERM
    assert "Traceback" not in running.stderr
    wait_until(lambda: not season.one(BUSY), "the end of the tool's session")
    assert files(season) == set()


def test_a_signal_while_restoring(season: Workspace) -> None:
    """And what one that was killed has left is removed by the next one."""
    assert season.operate("backup", "--out", "season.dump").code == 0
    options = ("--file", "season.dump", "--tools", str(fake(season, "pg_restore", sleeping("pg_restore"))))
    restoring = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'pg_restore'"
    killed = season.start_python("-m", "operations", "verify", *options)
    wait_until(lambda: bool(season.one(restoring)), "the tool")
    assert season.operate("verify", *options).code == 75
    killed.kill()
    assert season.one(THROW_AWAY) == 1
    before = season.one(restoring)
    running = season.start_python("-m", "operations", "verify", *options)
    wait_until(lambda: season.one(restoring) not in (None, before), "the tool once more")
    running.send(signal.SIGTERM)
    assert running.wait(30).code == 128 + signal.SIGTERM
    assert "Traceback" not in running.stderr
    assert season.one(restoring) is None


def test_a_damaged_archive(season: Workspace) -> None:
    assert season.operate("backup", "--out", "season.dump").code == 0
    archive = season.cwd / "season.dump"
    archive.write_bytes(archive.read_bytes()[:-2000])
    outcome = season.operate("verify", "--file", "season.dump")
    assert (outcome.code, len(outcome.errors)) == (1, 1), outcome.output
    (season.cwd / "season.dump.json").unlink()
    outcome = season.operate("verify", "--file", "season.dump")
    assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.output


def test_rights(season: Workspace) -> None:
    """One who may read saves; to make a database takes more."""
    role = f"reader_of_{season.database}"
    create_role(season, role)
    season.db_config["database"]["connection"] |= {"dbuser": role, "dbpasswd": PASSWORD}
    season.query(f"GRANT CONNECT ON DATABASE {season.database} TO {role}; GRANT USAGE ON SCHEMA public TO {role}")
    try:
        season.query(f"GRANT SELECT ON aois, dias_catalogue, extraction_log, hists, parcels, signatures TO {role}")
        outcome = season.operate("backup", "--out", "season.dump")
        assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.output
        assert "scene_source" in outcome.errors[0]
        season.query(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        season.query(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}")
        outcome = season.operate("backup", "--out", "season.dump")
        assert outcome.code == 0, outcome.output
        outcome = season.operate("verify", "--file", "season.dump")
        assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.output
        assert "CREATEDB" in outcome.errors[0]
    finally:
        season.query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_in_a_container(season: Workspace) -> None:
    """With a stand-in for docker: the tools of the container of a service, through the server's own socket."""
    server = season.postgis
    folder = fake(
        season, "docker",
        f'echo "$@" >> {season.folder}/asked\n'
        'if [ "$1" = ps ]; then echo 0123abc; exit; fi\n'
        'while [ "$1" != 0123abc ]; do shift; done; shift\n'
        f'PGHOST={server.host} PGPORT={server.port} PATH={postgis_binaries()}:$PATH exec "$@"',
    )  # fmt: skip
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    for arguments in (("backup", "--out"), ("verify", "--file")):
        running = season.start_python(
            "-m", "operations", *arguments, "season.dump", "--container", "stack_db", env=path
        )
        outcome = running.wait()
        assert outcome.code == 0, outcome.output
    asked = (season.folder / "asked").read_text()
    assert "label=com.docker.swarm.service.name=stack_db" in asked
    season.assert_no_secret(asked)
    # Killing docker's client ends nothing in the container.
    fake(
        season,
        "docker",
        'if [ "$1" = ps ]; then echo 0123abc; exit; fi\n'
        'while [ "$1" != 0123abc ]; do shift; done; shift\n'
        f"export PGHOST={server.host} PGPORT={server.port} PATH={postgis_binaries()}:$PATH\n"
        '[ "$2" = --version ] && exec "$@"\n'
        "setsid psql --dbname \"$3\" --command 'SELECT pg_sleep(600)' & exec sleep 60",
    )
    options = ("--out", "new.dump", "--container", "stack_db")
    running = season.start_python("-m", "operations", "backup", *options, env=path)
    wait_until(lambda: bool(season.one(BUSY)), "the tool")
    running.send(signal.SIGTERM)
    assert running.wait(40).code == 128 + signal.SIGTERM
    wait_until(lambda: not season.one(BUSY), "the end of the tool's session")


def test_the_plain_commands(season: Workspace) -> None:
    """Those of the page, word for word but for the names of tables and databases."""
    section = (ROOT / "docs/operations.md").read_text().partition("\n## backup\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    names = {
        "parcels_2018_s2_signatures": "signatures", "parcels_2018": "parcels", "aoi_table": "aois",
        "sentinel_restored": f"{season.database}_restored", "sentinel": season.database,
    }  # fmt: skip
    text = re.sub("|".join(rf"\b{name}\b" for name in names), lambda found: names[found[0]], block)
    try:
        tool(season, "sh", "-e", "-c", text)
        with season.postgis.connect(names["sentinel_restored"]) as connection, connection.cursor() as cursor:
            for table in set(SAVED) - {"hists"}:
                cursor.execute(f"SELECT r::text FROM {table} r")
                assert sorted(cursor.fetchall()) == content(season)[table], table
        connection.close()
    finally:
        season.postgis.drop_database(names["sentinel_restored"])
