"""The database is not trusted: what others have put there does not become the worker's doing."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pytest
from psycopg2 import sql

from tests.support.ground import squares
from tests.support.roles import GRANTS, PASSWORD, worker_role
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace


@pytest.fixture
def scene(workspace: Workspace) -> Scene:
    workspace.add_parcels(squares(5))
    workspace.extraction.update(outage_pause_seconds=0.1, outages_in_a_row=2)
    return workspace.add_s2()


@pytest.fixture
def stranger(workspace: Workspace) -> Iterator[str]:
    """A user who may connect, and has no other right."""
    role = f"stranger{uuid.uuid4().hex[:8]}"
    name = sql.Identifier(role)
    workspace.query(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(PASSWORD)))
    workspace.query(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(workspace.database), name))
    yield role
    workspace.query(sql.SQL("REASSIGN OWNED BY {0} TO CURRENT_USER; DROP OWNED BY {0}; DROP ROLE {0}").format(name))


def made(workspace: Workspace) -> None:
    """The tables that a worker makes."""
    assert workspace.run("s2", "--scene", "nothing").code == 0


# Locks


@pytest.mark.parametrize(
    "address",
    [pytest.param("127.0.0.1", marks=pytest.mark.owner("it may see addresses")), "an address that is not shown"],
)
def test_locks_of_scenes_that_somebody_else_holds(
    workspace: Workspace, scene: Scene, stranger: str, address: str
) -> None:
    made(workspace)
    session = workspace.postgis.connect(workspace.database, user=stranger, password=PASSWORD)
    with session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1128418561, i) FROM generate_series(1, 100) i")
    for options in ((), ("--all",)):
        outcome = workspace.run("s2", *options)
        assert (outcome.code, len(outcome.errors)) == (75, 1), outcome.stderr
        for word in (stranger, address, str(session.info.backend_pid), f"scene {scene.id}"):
            assert word in outcome.errors[0]
    session.close()
    assert workspace.run("s2").code == 0
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["extracted"]


def test_download_slots_that_somebody_else_holds(workspace: Workspace, scene: Scene, stranger: str) -> None:
    workspace.s3["fleet_downloads"] = 2
    session = workspace.postgis.connect(workspace.database, user=stranger, password=PASSWORD)
    with session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1128418562, i) FROM generate_series(0, 1) i")
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1), outcome.stderr
    assert stranger in outcome.errors[0]
    assert workspace.status(scene) == "ingested"
    session.close()
    assert workspace.run("s2").code == 0


# Schemas and functions


def planted(workspace: Workspace, owner: str, schema: str) -> None:
    """Another schema of this name, with functions as PostGIS's, and with tables as the configured ones."""
    name = sql.Identifier(schema)
    workspace.query(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(name, sql.Identifier(owner)))
    workspace.query(sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC").format(name))
    workspace.query(sql.SQL("CREATE TABLE {}.called (what text)").format(name))
    workspace.query(sql.SQL("GRANT ALL ON {}.called TO PUBLIC").format(name))
    for table in ("parcels", "signatures"):
        like = sql.SQL("CREATE TABLE {0}.{1} (LIKE public.{1}); GRANT ALL ON {0}.{1} TO PUBLIC")
        workspace.query(like.format(name, sql.Identifier(table)))
        workspace.query(
            sql.SQL("ALTER TABLE {}.{} OWNER TO {}").format(name, sql.Identifier(table), sql.Identifier(owner))
        )
    for function in ("st_intersects(geometry, geometry)", "st_isvalid(geometry)"):
        workspace.query(
            sql.SQL(
                "CREATE FUNCTION {0}." + function + " RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
                " INSERT INTO {0}.called VALUES ('it'); RETURN true; END $$"
            ).format(name)
        )


def test_a_schema_with_the_workers_name(workspace: Workspace, scene: Scene, stranger: str) -> None:
    made(workspace)
    with worker_role(workspace) as role:
        planted(workspace, stranger, role)
        outcome = workspace.run("s2")
        assert outcome.code == 0, outcome.stderr
        assert stranger in outcome.stderr
        assert role in outcome.stderr
        name = sql.Identifier(role)
        for table in ("called", "signatures"):
            assert workspace.one(sql.SQL("SELECT count(*) FROM {}.{}").format(name, sql.Identifier(table))) == 0
        workspace.query(sql.SQL("DROP SCHEMA {} CASCADE").format(name))
    assert_same(workspace.signatures(scene), scene.expected(dict(enumerate(squares(5), start=1))))


def test_functions_that_come_first_in_the_search_path(workspace: Workspace, scene: Scene, stranger: str) -> None:
    """Even in a schema that the database's owner has put in front."""
    made(workspace)
    workspace.query("CREATE SCHEMA tools")
    workspace.query("CREATE TABLE tools.called (what text)")
    workspace.query(
        "CREATE FUNCTION tools.st_intersects(geometry, geometry) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO tools.called VALUES ('it'); RETURN true; END $$"
    )
    workspace.query(f"ALTER DATABASE {workspace.database} SET search_path = tools, public")
    assert workspace.run("s2").code == 0
    assert workspace.one("SELECT count(*) FROM tools.called") == 0
    assert workspace.status(scene) == "extracted"


def test_the_workers_own_schema(workspace: Workspace, scene: Scene) -> None:
    """What is its own is looked into."""
    made(workspace)
    with worker_role(workspace) as role:
        name = sql.Identifier(role)
        workspace.query(sql.SQL("CREATE SCHEMA {0} AUTHORIZATION {0}").format(name))
        workspace.query(sql.SQL("ALTER TABLE public.signatures SET SCHEMA {}").format(name))
        outcome = workspace.run("s2")
        assert outcome.code == 0, outcome.stderr
        assert workspace.one(sql.SQL("SELECT count(*) FROM {}.signatures").format(name)) == 15
        workspace.query(sql.SQL("ALTER TABLE {}.signatures SET SCHEMA public").format(name))


# Rows that are hidden


@pytest.mark.parametrize("table", ["parcels", "aois", "dias_catalogue", "extraction_log", "signatures"])
def test_rows_that_a_policy_hides(workspace: Workspace, scene: Scene, table: str) -> None:
    """Three of five parcels are no finding."""
    made(workspace)
    workspace.query(f"CREATE POLICY shown ON {table} USING ({'ogc_fid < 4' if table == 'parcels' else 'true'})")
    with worker_role(workspace):
        workspace.query(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        outcome = workspace.run("s2")
        assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.stderr
        assert table in outcome.errors[0]
        assert workspace.run("s2", "--check").code == 2
    assert (workspace.status(scene), workspace.log(scene)) == ("ingested", [])


def test_a_policy_that_comes_after_the_start(workspace: Workspace, scene: Scene) -> None:
    """Behind a view, a check of the table itself would not see it."""
    made(workspace)
    workspace.query("ALTER TABLE parcels RENAME TO beneath")
    workspace.query("CREATE VIEW parcels WITH (security_invoker = true) AS SELECT * FROM beneath")
    workspace.query("CREATE POLICY shown ON beneath USING (ogc_fid < 4)")
    workspace.query("ALTER TABLE beneath ENABLE ROW LEVEL SECURITY")
    with worker_role(workspace) as role:
        workspace.query(sql.SQL("GRANT SELECT ON beneath TO {}").format(sql.Identifier(role)))
        outcome = workspace.run("s2")
        assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.stderr
    assert (workspace.status(scene), workspace.log(scene)) == ("ingested", [])


# Who may do what


@pytest.mark.owner("who is a superuser")
def test_a_superuser_is_warned_of(workspace: Workspace, scene: Scene) -> None:
    outcome = workspace.run("s2")
    assert outcome.code == 0
    assert "superuser" in outcome.stderr
    with worker_role(workspace):
        assert "superuser" not in workspace.run("s2").stderr


def test_owners_that_are_strangers_are_named(workspace: Workspace, scene: Scene, stranger: str) -> None:
    made(workspace)
    workspace.query(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(stranger)))
    workspace.query(sql.SQL("ALTER TABLE parcels OWNER TO {}").format(sql.Identifier(stranger)))
    workspace.query("CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    workspace.query(sql.SQL("ALTER FUNCTION noted() OWNER TO {}").format(sql.Identifier(stranger)))
    workspace.query("CREATE TRIGGER odd BEFORE UPDATE ON dias_catalogue FOR EACH ROW EXECUTE FUNCTION noted()")
    outcome = workspace.run("s2", "--check")
    assert outcome.code == 0, outcome.stdout
    (line,) = [line for line in outcome.stdout.splitlines() if line.startswith("ok owners: ")]
    assert f"table parcels belongs to {stranger}" in line
    assert "trigger odd of dias_catalogue" in line
    assert f"schema public lets {stranger}" in line


@pytest.mark.parametrize(
    "deed",
    [
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "ALTER ROLE {stranger} SUPERUSER",
        "CREATE TABLE mine (a integer)",
        "DELETE FROM dias_catalogue",
        "UPDATE parcels SET wkb_geometry = NULL",
        "UPDATE dias_catalogue SET reference = 'other'",
        "DELETE FROM extraction_log",
        "TRUNCATE signatures",
        "CREATE FUNCTION public.st_expand(geometry, integer) RETURNS geometry LANGUAGE sql AS 'SELECT $1'",
        "CREATE SCHEMA mine",
    ],
)
def test_what_a_trigger_cannot_do_as_the_worker(workspace: Workspace, scene: Scene, stranger: str, deed: str) -> None:
    """A trigger of somebody else tries it as rows are written: it fails, and nothing is written."""
    made(workspace)
    text = deed.replace("{stranger}", stranger)
    workspace.query(
        "CREATE FUNCTION hostile() RETURNS trigger LANGUAGE plpgsql AS $trigger$ BEGIN EXECUTE $deed$"
        + text.replace("%", "%%")
        + "$deed$; RETURN NEW; END $trigger$"
    )
    workspace.query("CREATE TRIGGER hostile BEFORE INSERT ON signatures FOR EACH ROW EXECUTE FUNCTION hostile()")
    with worker_role(workspace):
        outcome = workspace.run("s2")
    assert outcome.code == 2, outcome.stderr
    assert workspace.status(scene) == "ingested"
    assert workspace.rows() == 0
    assert not workspace.one("SELECT rolsuper FROM pg_roles WHERE rolname = %s", stranger)


# The right to the list is needed with --redo only: see tests/operations/test_redo.py.
NEEDED = [(rights, where) for rights, where in GRANTS if where != ":redo_list"]


@pytest.mark.parametrize("number", range(len(NEEDED)), ids=[" ".join(f"{a} ON {b}".split()) for a, b in NEEDED])
def test_each_right_is_needed(workspace: Workspace, scene: Scene, number: int) -> None:
    """Without any one of those that are granted, the start or its check says which is missing; with all, none is."""
    workspace.tables.update(hists_table="hists", clear_results_table="clear", gaps_table="gaps")
    workspace.query("CREATE TABLE scene_source (obsid integer PRIMARY KEY, bucket text, prefix text)")
    with worker_role(workspace) as role:
        rights, where = NEEDED[number]
        names = {
            ":log": "extraction_log",
            ":catalogue": "dias_catalogue",
            ':"DBNAME"': workspace.database,
            ':"postgis"': "public",
        }
        for name in ("aois", "parcels", "hists", "gaps"):
            names[f":{name}"] = name
        names |= {
            ":results": "signatures",
            ":clear_results": "clear",
            ":aoi_field": "name",
            ":parcel_id": "ogc_fid",
            ":places": "scene_source",
        }
        names[":parcel_geometry"] = "wkb_geometry"
        for right in re.findall(r"(\w+)(?: (\(.*?\)))?(?:, |$)", rights, re.DOTALL):
            text = f"{' '.join(right)} ON {where}"
            for name, true_name in names.items():
                text = text.replace(name, true_name)
            quoted = sql.Identifier(role)
            workspace.query(sql.SQL("REVOKE " + text + " FROM {}").format(quoted))
            outcome = workspace.run("s2", "--check")
            assert outcome.code == 2, (text, outcome.stdout)
            workspace.query(sql.SQL("GRANT " + text + " TO {}").format(quoted))
        assert workspace.run("s2", "--check").code == 0
        assert workspace.run("s2").code == 0
    assert workspace.status(scene) == "extracted"
