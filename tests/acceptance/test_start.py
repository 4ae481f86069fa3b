"""A start that proves what will be done: whatever is wrong for every scene is said before one is touched.

Each case breaks one thing. The worker ends with 2 and one line, and nothing has been touched; `--check` says the same
in the line of the check, and makes and claims nothing either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.faults.acts import Gate
from tests.support.ground import GRID, cell, squares, to_epsg
from tests.support.roles import worker_role
from tests.support.running import NOTHING_LEFT, Outcome, wait_until, warnings
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace

SIGNATURES = (
    "(pid int, obsid int, band char(2), count real, mean real, std real, min real, max real,"
    " p25 real, p50 real, p75 real)"
)
STATUSES = ("ingested", "inprogress", "extracted", "no_parcels", "notfound", "failed")
ALL_RIGHTS = (
    "SELECT ON parcels, aois, dias_catalogue, extraction_log, signatures",
    "UPDATE (status) ON dias_catalogue",
    "INSERT, UPDATE ON extraction_log",
    "INSERT, DELETE ON signatures",
)
"""As docs/configuration.md has them."""


def statuses_but(missing: str) -> str:
    return ", ".join(f"'{status}'" for status in STATUSES if status != missing)


def made(workspace: Workspace) -> None:
    """The tables that the worker makes, made by another one."""
    assert workspace.run("s2", "--scene", "nothing").code == 0


def unknown(table: str, column: str = "wkb_geometry", kind: str = "Geometry") -> Callable[[Workspace], None]:
    """The SRID that ogr2ogr invents for a CRS which it does not know; its definition is lost, in a restore, say."""

    def broken(workspace: Workspace) -> None:
        workspace.query(
            "INSERT INTO spatial_ref_sys SELECT 900914, 'own', 900914, srtext, proj4text FROM spatial_ref_sys "
            f"WHERE srid = Find_SRID('public', '{table}', '{column}')"
        )
        workspace.query(f"SELECT UpdateGeometrySRID('{table}', '{column}', 900914)")
        workspace.query("DELETE FROM spatial_ref_sys WHERE srid = 900914")

    return broken


def sql(*statements: str) -> Callable[[Workspace], None]:
    def broken(workspace: Workspace) -> None:
        for statement in statements:
            workspace.query(statement)

    return broken


def without(right: str) -> Callable[[Workspace], None]:
    """All rights but one."""

    def broken(workspace: Workspace) -> None:
        made(workspace)
        role = _stack.enter_context(worker_role(workspace, *ALL_RIGHTS))
        workspace.query(f"REVOKE {right} FROM {role}")

    return broken


_stack = ExitStack()


@pytest.fixture(autouse=True)
def _roles(workspace: Workspace) -> Iterator[None]:
    yield
    _stack.close()


def policies(workspace: Workspace) -> None:
    made(workspace)
    _stack.enter_context(worker_role(workspace, *ALL_RIGHTS))
    workspace.query("ALTER TABLE signatures ENABLE ROW LEVEL SECURITY")
    workspace.query("CREATE POLICY all_rows ON signatures USING (true) WITH CHECK (true)")


def swapped_axes(workspace: Workspace) -> None:
    """Latitude before longitude, as some services deliver it."""
    workspace.query(
        "ALTER TABLE parcels ALTER wkb_geometry TYPE geometry(Geometry, 4326)"
        " USING ST_FlipCoordinates(ST_Transform(wkb_geometry, 4326))"
    )


def metres_as_degrees(workspace: Workspace) -> None:
    workspace.query("SELECT UpdateGeometrySRID('parcels', 'wkb_geometry', 4326)")


def another_zone(workspace: Workspace) -> None:
    """Six degrees off."""
    workspace.query("SELECT UpdateGeometrySRID('parcels', 'wkb_geometry', 32632)")


def mixed(workspace: Workspace) -> None:
    """The same ground, but some parcels come from the neighbouring zone."""
    workspace.query("ALTER TABLE parcels ALTER wkb_geometry TYPE geometry")
    workspace.query("UPDATE parcels SET wkb_geometry = ST_Transform(wkb_geometry, 32632) WHERE ogc_fid IN (2, 5)")


def some_footprints(changed: str) -> Callable[[Workspace], None]:
    """A second, later scene whose footprint is written in another way."""

    def broken(workspace: Workspace) -> None:
        other = workspace.add_s2("2020-05-01T10:00:31")
        workspace.query("ALTER TABLE dias_catalogue ALTER footprint TYPE geometry")
        workspace.query(f"UPDATE dias_catalogue SET footprint = {changed} WHERE id = %s", other.id)

    return broken


def as_role(workspace: Workspace, *grants: str) -> None:
    _stack.enter_context(worker_role(workspace, *grants))


def log_of_others(workspace: Workspace) -> None:
    made(workspace)
    workspace.query("ALTER TABLE extraction_log ADD site text NOT NULL")


def no_writes(workspace: Workspace) -> None:
    workspace.write_config()  # the role and its tables
    workspace.query(f"ALTER DATABASE {workspace.database} SET default_transaction_read_only = on")


def in_a_schema(workspace: Workspace) -> None:
    """The right to the table is there, that to its schema is not."""
    made(workspace)
    workspace.query("CREATE SCHEMA land")
    as_role(workspace, *ALL_RIGHTS)
    workspace.query("ALTER TABLE parcels SET SCHEMA land")
    workspace.tables["parcel_table"] = "land.parcels"


def many_numbers(workspace: Workspace) -> None:
    workspace.query("ALTER TABLE dias_catalogue ALTER id TYPE bigint")
    workspace.query("UPDATE dias_catalogue SET id = 2147483648")


@dataclass(frozen=True)
class Broken:
    """What is broken, the check that sees it, and words of its line."""

    broken: Callable[[Workspace], object]
    check: str
    words: tuple[str, ...]


def a_view(name: str, kind: str = "VIEW") -> Callable[[Workspace], None]:
    return sql(f"CREATE TABLE beneath {SIGNATURES}", f"CREATE {kind} {name} AS SELECT * FROM beneath")


CASES: dict[str, Broken] = {
    # 1. What is wrong for every scene
    "parcels with an unknown SRID": Broken(unknown("parcels"), "parcel table", ("900914", "spatial_ref_sys")),
    "area with an unknown SRID": Broken(unknown("aois"), "area of interest", ("900914", "spatial_ref_sys")),
    "footprints with an unknown SRID": Broken(
        sql("DELETE FROM spatial_ref_sys WHERE srid = 4326"), "catalogue", ("4326", "spatial_ref_sys")
    ),
    "a definition that says nothing": Broken(
        sql("UPDATE spatial_ref_sys SET srtext = 'x', proj4text = 'x', auth_name = NULL WHERE srid = 32633"),
        "reference systems",
        ("32633", "spatial_ref_sys"),
    ),
    "obstime is text": Broken(
        sql("ALTER TABLE dias_catalogue ALTER obstime TYPE text"), "catalogue", ("obstime", "text", "timestamp")
    ),
    "obstime is a number": Broken(
        sql("ALTER TABLE dias_catalogue ALTER obstime TYPE float8 USING extract(epoch FROM obstime)"),
        "catalogue",
        ("obstime", "float8", "timestamp"),
    ),
    # 2. What will be done
    **{
        f"no right: {right}": Broken(without(right), check, words)
        for right, check, words in [
            ("INSERT ON signatures", "results table", ("GRANT INSERT", "signatures")),
            ("DELETE ON signatures", "results table", ("GRANT DELETE", "signatures")),
            ("SELECT ON signatures", "results table", ("GRANT SELECT", "signatures")),
            ("UPDATE (status) ON dias_catalogue", "catalogue", ("GRANT UPDATE (status)", "dias_catalogue")),
            ("INSERT ON extraction_log", "extraction log", ("GRANT INSERT", "extraction_log")),
            ("UPDATE ON extraction_log", "extraction log", ("GRANT UPDATE", "extraction_log")),
            ("SELECT ON parcels", "parcel table", ("parcels",)),
            ("SELECT ON aois", "area of interest", ("aois",)),
        ]
    },
    "row level security": Broken(policies, "results table", ("row level security", "signatures")),
    "a view": Broken(a_view("signatures"), "results table", ("signatures", "a view")),
    "a materialised view": Broken(
        a_view("signatures", "MATERIALIZED VIEW"), "results table", ("signatures", "a materialised view")
    ),
    "a foreign table": Broken(
        sql(
            "CREATE EXTENSION file_fdw",
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER file_fdw",
            f"CREATE FOREIGN TABLE signatures {SIGNATURES} SERVER elsewhere OPTIONS (filename '/dev/null')",
        ),
        "results table",
        ("signatures", "a foreign table"),
    ),
    "the catalogue is a materialised view": Broken(
        sql(
            "ALTER TABLE dias_catalogue RENAME TO beneath",
            "CREATE MATERIALIZED VIEW dias_catalogue AS SELECT * FROM beneath",
        ),
        "catalogue",
        ("dias_catalogue", "a materialised view"),
    ),
    "the catalogue is a view over two": Broken(
        sql(
            "ALTER TABLE dias_catalogue RENAME TO beneath",
            "CREATE VIEW dias_catalogue AS SELECT * FROM beneath UNION SELECT * FROM beneath",
        ),
        "catalogue",
        ("dias_catalogue", "a view"),
    ),
    "no partition for the scene": Broken(
        sql(
            f"CREATE TABLE signatures {SIGNATURES} PARTITION BY RANGE (obsid)",
            "CREATE TABLE later PARTITION OF signatures FOR VALUES FROM (1000) TO (2000)",
        ),
        "results table",
        ("signatures", "partition"),
    ),
    "a status that is too long": Broken(
        sql("ALTER TABLE dias_catalogue ALTER status TYPE varchar(9)"), "statuses", ("inprogress", "no_parcels", "9")
    ),
    "a type that does not know a status": Broken(
        sql(
            f"CREATE TYPE state AS ENUM ({statuses_but('no_parcels')})",
            "ALTER TABLE dias_catalogue ALTER status DROP DEFAULT, ALTER status TYPE state USING status::state",
        ),
        "statuses",
        ("'no_parcels'",),
    ),
    "a constraint that does not know a status": Broken(
        sql(f"ALTER TABLE dias_catalogue ADD CHECK (status IN ({statuses_but('notfound')}))"),
        "statuses",
        ("'notfound'",),
    ),
    "a list of statuses that lacks one": Broken(
        sql(
            f"CREATE TABLE states AS SELECT unnest(ARRAY[{statuses_but('failed')}]) AS state",
            "ALTER TABLE states ADD PRIMARY KEY (state)",
            "ALTER TABLE dias_catalogue ALTER status TYPE text, ADD FOREIGN KEY (status) REFERENCES states",
        ),
        "statuses",
        ("'failed'",),
    ),
    "a domain that does not know a status": Broken(
        sql(
            f"CREATE DOMAIN state AS varchar(12) CHECK (VALUE IN ({statuses_but('inprogress')}))",
            "ALTER TABLE dias_catalogue ALTER status TYPE state",
        ),
        "statuses",
        ("'inprogress'",),
    ),
    "a constraint that does not know a band": Broken(
        sql(f"CREATE TABLE signatures {SIGNATURES}", "ALTER TABLE signatures ADD CHECK (band IN ('B4', 'B8'))"),
        "results table",
        ("signatures", "band"),
    ),
    "ids of scenes are uuids": Broken(
        sql(
            "ALTER TABLE dias_catalogue DROP CONSTRAINT dias_catalogue_pkey, ALTER id DROP DEFAULT",
            "ALTER TABLE dias_catalogue ALTER id TYPE uuid USING gen_random_uuid()",
        ),
        "catalogue",
        ("id", "uuid", "integer"),
    ),
    "columns as GeoPackages have them": Broken(
        sql("ALTER TABLE parcels RENAME ogc_fid TO fid"), "parcel table", ("ogc_fid", "tables.parcel_id")
    ),
    "a geometry column as GeoPackages have it": Broken(
        sql("ALTER TABLE parcels RENAME wkb_geometry TO geom"),
        "parcel table",
        ("wkb_geometry", "tables.parcel_geometry"),
    ),
    "a database that takes no writes": Broken(
        no_writes,
        "writing",
        ("default_transaction_read_only",),
    ),
    "a schema that the user may not use": Broken(in_a_schema, "parcel table", ("schema land", "GRANT")),
    "no right to create": Broken(
        lambda workspace: as_role(workspace, ALL_RIGHTS[0].replace(", extraction_log, signatures", ""), ALL_RIGHTS[1]),
        "extraction log",
        ("extraction_log", "GRANT CREATE ON SCHEMA public"),
    ),
    "published rows without identity": Broken(
        sql(f"CREATE TABLE signatures {SIGNATURES}", "CREATE PUBLICATION everything FOR ALL TABLES"),
        "results table",
        ("everything", "ALTER TABLE public.signatures REPLICA IDENTITY FULL"),
    ),
    "a published catalogue without a key": Broken(
        sql(
            "ALTER TABLE dias_catalogue DROP CONSTRAINT dias_catalogue_pkey",
            "CREATE PUBLICATION scenes FOR TABLE dias_catalogue",
        ),
        "catalogue",
        ("scenes", "ALTER TABLE public.dias_catalogue REPLICA IDENTITY FULL"),
    ),
    "a key without the band": Broken(
        sql(f"CREATE TABLE signatures {SIGNATURES}", "ALTER TABLE signatures ADD PRIMARY KEY (pid, obsid)"),
        "results table",
        ("signatures", "pid, obsid;", "band"),
    ),
    "a rule that keeps rows": Broken(
        sql(
            f"CREATE TABLE signatures {SIGNATURES}",
            "CREATE RULE keep AS ON DELETE TO signatures DO INSTEAD NOTHING",
        ),
        "results table",
        ("signatures", "DROP RULE keep"),
    ),
    "a rule that keeps statuses": Broken(
        sql("CREATE RULE keep AS ON UPDATE TO dias_catalogue DO INSTEAD NOTHING"),
        "catalogue",
        ("dias_catalogue", "DROP RULE keep"),
    ),
    "a column that is computed from others": Broken(
        sql(
            f"CREATE TABLE signatures {SIGNATURES}",
            "ALTER TABLE signatures DROP p50, ADD p50 real GENERATED ALWAYS AS ((p25 + p75) / 2) STORED",
        ),
        "results table",
        ("p50", "GENERATED", "DROP EXPRESSION"),
    ),
    "a log with a column of others": Broken(
        log_of_others,
        "extraction log",
        ("site", "NOT NULL"),
    ),
    # 3. and 4. What is plausible
    "footprints with several SRIDs": Broken(
        some_footprints("ST_Transform(footprint, 32633)"), "catalogue", ("1 with 4326", "1 with 32633", "footprint")
    ),
    "footprints some of which have no SRID": Broken(
        some_footprints("ST_SetSRID(footprint, 0)"), "catalogue", ("1 with 4326, 1 with 0", "ST_SetSRID", "4326)")
    ),
    "parcels most of which have no SRID": Broken(
        sql(
            "ALTER TABLE parcels ALTER wkb_geometry TYPE geometry",
            "UPDATE parcels SET wkb_geometry = ST_SetSRID(wkb_geometry, 0) WHERE ogc_fid > 1",
        ),
        "reference systems of all parcels",
        ("1 with 32633, 5 with 0", "ST_SetSRID", "32633)"),
    ),
    "several SRIDs in one column": Broken(
        mixed, "reference systems of all parcels", ("4 with 32633", "2 with 32632", "parcels")
    ),
    "no parcels": Broken(sql("DELETE FROM parcels"), "parcel table", ("parcels",)),
    "no parcel with a geometry": Broken(
        sql("UPDATE parcels SET wkb_geometry = NULL"), "parcel table", ("parcels", "geometry")
    ),
    "swapped axes": Broken(swapped_axes, "parcels in the area", ("from 46.0", "from 14.9", "4326")),
    "metres taken for degrees": Broken(metres_as_degrees, "parcels in the area", ("from 14.9", "5.09", "4326")),
    "another zone": Broken(another_zone, "parcels in the area", ("from 14.9", "from 9.0", "32632")),
}


@pytest.fixture
def scene(workspace: Workspace) -> Scene:
    """One scene, and six parcels on it: all is well so far."""
    workspace.add_parcels(squares(6))
    return workspace.add_s2()


def lines(outcome: Outcome) -> dict[str, tuple[bool, str]]:
    """What `--check` has said: check -> whether it is ok, and what was seen or is to be done."""
    found = {}
    for line in outcome.stdout.splitlines():
        result, _, rest = line.partition(" ")
        name, _, text = rest.partition(": ")
        assert result in {"ok", "FAILED"}, line
        assert name not in found
        assert text
        found[name] = (result == "ok", text)
    return found


CATALOGUE = "SELECT md5(string_agg(d::text, ';' ORDER BY d.id)) FROM dias_catalogue d"
OBJECTS = "SELECT string_agg(oid::text, ',' ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace"


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_for_every_scene(name: str, workspace: Workspace, scene: Scene) -> None:
    case = CASES[name]
    case.broken(workspace)
    workspace.write_config()  # the role and its tables
    before = workspace.one(CATALOGUE), workspace.one(OBJECTS)

    asked = workspace.run("s2", "--check")

    assert asked.code == 2, asked.output
    seen = lines(asked)
    ok, text = seen[case.check]
    assert not ok
    for word in case.words:
        assert word in text
    assert (workspace.one(CATALOGUE), workspace.one(OBJECTS)) == before
    assert {"configuration", "database", "GDAL", "store"} <= seen.keys()  # it goes through all of them

    outcome = workspace.run("s2", "--all")

    assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.stderr
    assert outcome.errors[0].endswith(f" ERROR {text}")
    assert workspace.one(CATALOGUE) == before[0]
    if workspace.one("SELECT to_regclass('extraction_log') IS NOT NULL"):
        assert workspace.one("SELECT count(*) FROM extraction_log") == 0
    assert workspace.files() == []


@pytest.mark.owner("the worker makes its tables, and --check does not")
def test_a_sound_setup(workspace: Workspace, scene: Scene) -> None:
    """Nothing is made, claimed or warned of; the worker then makes its tables, and they are sound as well."""
    for tables in ("will be created", "a table"):
        before = workspace.one(CATALOGUE), workspace.one(OBJECTS)
        outcome = workspace.run("s2", "--check")
        assert (outcome.code, outcome.stderr) == (0, "")
        seen = lines(outcome)
        assert all(ok for ok, _ in seen.values())
        assert tables in seen["results table"][1]
        assert (workspace.one(CATALOGUE), workspace.one(OBJECTS)) == before
        assert workspace.data.exists() == (tables == "a table")
        made(workspace)
    assert workspace.run("s2").code == 0
    assert workspace.status(scene) == "extracted"


def test_documented_rights_are_enough(workspace: Workspace, scene: Scene) -> None:
    made(workspace)
    with worker_role(workspace, *ALL_RIGHTS):
        assert workspace.run("s2", "--check").code == 0
        for _ in range(2):
            workspace.ingest(scene)
            outcome = workspace.run("s2")
            assert (outcome.code, outcome.errors) == (0, [])
    assert workspace.status(scene) == "extracted"


def test_what_a_definition_lost_in_a_restore_costs(workspace: Workspace, scene: Scene) -> None:
    """Nothing: when it is back, the scene is extracted at its first attempt."""
    unknown("parcels")(workspace)
    assert workspace.run("s2").code == 2
    workspace.query(
        "INSERT INTO spatial_ref_sys SELECT 900914, 'own', 900914, srtext, proj4text FROM spatial_ref_sys"
        " WHERE srid = 32633"
    )
    assert workspace.run("s2").code == 0
    assert [(attempt["outcome"], attempt["attempt"]) for attempt in workspace.log(scene)] == [("extracted", 1)]


def test_the_crs_of_the_files_is_unknown_to_the_database(workspace: Workspace) -> None:
    """It shows when a file is there; that is no scene's fault, and ends the worker."""
    workspace.query("ALTER TABLE parcels ALTER wkb_geometry TYPE geometry")
    workspace.parcel_srid = 3035
    workspace.add_parcels([to_epsg(shape, GRID.epsg, 3035) for shape in squares(3)])
    workspace.query("DELETE FROM spatial_ref_sys WHERE srid = 32633")
    scene = workspace.add_s2()
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "32633" in outcome.errors[0]
    assert workspace.status(scene) == "ingested"
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["given_back"]


@pytest.mark.parametrize(
    "variables",
    [{"PROJ_LIB": "/usr/share/proj"}, {"PROJ_DATA": ""}, {"GDAL_SKIP": "JP2OpenJPEG"}],
    ids=["another PROJ's database", "no database", "without the driver"],
)
def test_libraries_that_are_led_astray(variables: dict[str, str], workspace: Workspace, scene: Scene) -> None:
    """It is seen once there is something to do, and before that is claimed."""
    workspace.query("UPDATE dias_catalogue SET status = 'extracted'")
    idle = workspace.run("s2", env=variables)
    assert (idle.code, idle.errors, NOTHING_LEFT in idle.stdout) == (0, [], True)
    workspace.ingest(scene)
    outcome = workspace.run("s2", "--all", env=variables)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    (name,) = variables
    assert name in outcome.errors[0]
    assert (workspace.status(scene), workspace.log(scene)) == ("ingested", [])
    asked = workspace.run("s2", "--check", env=variables)
    assert (asked.code, [check for check, (ok, _) in lines(asked).items() if not ok]) == (
        2,
        ["GDAL"] if name == "GDAL_SKIP" else ["PROJ", "accuracy"],
    )


def test_a_store_that_does_not_answer(workspace: Workspace, scene: Scene) -> None:
    """An outage: 75, whatever else is well."""
    workspace.s3["host"] = "http://127.0.0.1:9"
    asked = workspace.run("s2", "--check")
    assert (asked.code, [check for check, (ok, _) in lines(asked).items() if not ok]) == (75, ["store"])


def test_the_worst_decides(workspace: Workspace, scene: Scene) -> None:
    """A wrong configuration goes before an outage, and what hangs on it is named as such."""
    workspace.s3["host"] = "http://127.0.0.1:9"
    workspace.tables["aoi_table"] = "nowhere"
    asked = workspace.run("s2", "--check")
    failed = {check: text for check, (ok, text) in lines(asked).items() if not ok}
    assert (asked.code, failed.keys() >= {"area of interest", "reference systems", "store"}) == (2, True)
    assert "area of interest" in failed["reference systems"]


def test_without_a_database(workspace: Workspace, scene: Scene) -> None:
    workspace.db_config["database"]["connection"]["port"] = 9
    asked = workspace.run("s2", "--check")
    assert asked.code == 75
    assert not lines(asked)["database"][0]
    assert lines(asked)["GDAL"][0]


@pytest.mark.parametrize("options", [("--all",), ("--watch", "5"), ("--scene", "x")])
def test_a_check_is_nothing_else(options: tuple[str, ...], workspace: Workspace) -> None:
    outcome = workspace.run("s2", "--check", *options)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "--check" in outcome.stderr


def test_a_check_is_asked_for_on_the_command_line_only(workspace: Workspace, scene: Scene) -> None:
    assert workspace.run("s2", env={"CHECK": "1"}).code == 0
    assert workspace.status(scene) == "extracted"
    workspace.ingest(scene)
    stack = {"ALL": "1", "WATCH": "300", "SCENE": scene.reference}  # variables of a container in which somebody asks
    assert workspace.run("s2", "--check", env=stack).code == 0
    assert workspace.status(scene) == "ingested"


# What works where it was refused, or was the scene's fault


def test_dates_are_observation_times(workspace: Workspace) -> None:
    workspace.query("ALTER TABLE dias_catalogue ALTER obstime TYPE date")
    parcels = workspace.add_parcels(squares(3))
    scene = workspace.add_s2("2020-04-01T00:00:00")
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


@pytest.mark.parametrize("column", ["parcels.wkb_geometry", "aois.wkb_geometry", "dias_catalogue.footprint"])
def test_geographies(column: str, workspace: Workspace) -> None:
    table, _, name = column.partition(".")
    shapes = squares(6)
    stored = workspace.add_parcels(shapes)
    scene = workspace.add_s2()
    if table == "parcels":
        workspace.query("DROP INDEX parcels_wkb_geometry_idx")
    if table == "dias_catalogue":
        workspace.query("DROP INDEX dias_catalogue_footprint_idx")
    workspace.query(
        f"ALTER TABLE {table} ALTER {name} TYPE geography(Geometry, 4326) USING ST_Transform({name}, 4326)::geography"
    )
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(dict(zip(stored, shapes, strict=True))))
    warnings = outcome.warnings
    assert len(warnings) == (1 if table == "parcels" else 0)  # searched without an index


@pytest.mark.parametrize("number", [17, 2147483647])
def test_large_numbers_of_scenes(number: int, workspace: Workspace, scene: Scene) -> None:
    workspace.query("ALTER TABLE dias_catalogue ALTER id TYPE bigint")
    workspace.query("UPDATE dias_catalogue SET id = %s", number)
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert (workspace.status(number), workspace.rows(number)) == ("extracted", 18)


def test_a_partition_for_some_scenes(workspace: Workspace, scene: Scene) -> None:
    """Each is asked about before it is claimed."""
    workspace.query(f"CREATE TABLE signatures {SIGNATURES} PARTITION BY RANGE (obsid)")
    workspace.query(f"CREATE TABLE first PARTITION OF signatures FOR VALUES FROM ({scene.id}) TO ({scene.id + 1})")
    other = workspace.add_s2("2020-05-01T10:00:31")
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert f"scene {other.id}" in outcome.errors[0]
    assert (workspace.status(scene), workspace.rows(scene)) == ("extracted", 18)
    assert (workspace.status(other), workspace.log(other)) == ("ingested", [])
    workspace.query("CREATE TABLE others PARTITION OF signatures DEFAULT")
    assert workspace.run("s2", "--all").code == 0
    assert (workspace.status(other), workspace.rows(other)) == ("extracted", 18)


def test_a_view_that_takes_rows(workspace: Workspace, scene: Scene) -> None:
    """With a trigger, COPY can write into it; its owner does what the worker may not."""
    workspace.query(f"CREATE TABLE beneath {SIGNATURES}")
    workspace.query("CREATE VIEW signatures AS SELECT * FROM beneath")
    workspace.query(
        "CREATE FUNCTION pass_on() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS"
        " $$ BEGIN INSERT INTO beneath SELECT NEW.*; RETURN NEW; END $$"
    )
    workspace.query("CREATE TRIGGER pass_on INSTEAD OF INSERT ON signatures FOR EACH ROW EXECUTE FUNCTION pass_on()")
    for _ in range(2):
        workspace.ingest(scene)
        assert workspace.run("s2").code == 0
        assert workspace.rows(scene) == 18


def test_statuses_of_an_enumeration(workspace: Workspace, scene: Scene) -> None:
    names = statuses_but("")
    workspace.query(f"CREATE TYPE state AS ENUM ({names})")
    workspace.query("ALTER TABLE dias_catalogue ALTER status DROP DEFAULT, ALTER status TYPE state USING status::state")
    assert workspace.run("s2", "--all").code == 0
    assert workspace.status(scene) == "extracted"


def test_columns_by_configuration(workspace: Workspace) -> None:
    """As a plain `ogr2ogr parcels.gpkg` names them."""
    workspace.query("ALTER TABLE parcels RENAME ogc_fid TO fid")
    workspace.query('ALTER TABLE parcels RENAME wkb_geometry TO "Geom Ä"')
    workspace.tables.update({"parcel_id": "fid", "parcel_geometry": "Geom Ä"})
    shapes = squares(3)
    for shape in shapes:
        workspace.query('INSERT INTO parcels ("Geom Ä") VALUES (ST_GeomFromText(%s, 32633))', shape.wkt)
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(dict(zip((1, 2, 3), shapes, strict=True))))


@pytest.mark.parametrize("reference", ["char", "blank", "line end"])
def test_blanks_around_a_reference(reference: str, workspace: Workspace, scene: Scene) -> None:
    if reference == "char":
        workspace.query("ALTER TABLE dias_catalogue ALTER reference TYPE char(120)")
    else:
        end = {"blank": " ", "line end": "\r\n"}[reference]
        workspace.query("UPDATE dias_catalogue SET reference = reference || %s", end)
    assert workspace.run("s2", "--scene", scene.reference).code == 0
    assert workspace.status(scene) == "extracted"
    assert workspace.log(scene)[0]["reference"] == scene.reference


def test_parcels_that_come_while_a_worker_watches(workspace: Workspace) -> None:
    """Nothing is claimed before; a warning says so once."""
    scene = workspace.add_s2()
    worker = workspace.start("s2", "--watch", "0.2")
    try:
        wait_until(lambda: warnings(worker.stderr) != [], "the worker's warning")
        assert (workspace.status(scene), workspace.log(scene), worker.stdout) == ("ingested", [], "")
        parcels = workspace.add_parcels([*squares(5), cell(500, 500)])
        wait_until(lambda: workspace.status(scene) == "extracted", "the scene's extraction")
    finally:
        worker.kill()
    assert len(warnings(worker.stderr)) == 1
    del parcels[6]
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_parcels_of_another_kind_that_come_while_a_worker_watches(workspace: Workspace) -> None:
    """What could not be looked at when it started is looked at then."""
    scene = workspace.add_s2()
    worker = workspace.start("s2", "--watch", "0.2")
    wait_until(lambda: warnings(worker.stderr) != [], "the worker's warning")
    workspace.add_parcels([cell(50_000, 50_000)])
    outcome = worker.wait()
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert (workspace.status(scene), workspace.log(scene)) == ("ingested", [])


def test_parcels_that_vanish_during_a_burst(workspace: Workspace, scene: Scene) -> None:
    gate = Gate(workspace.folder, "claim_committed")
    workspace.extraction["outage_pause_seconds"] = 0
    worker = workspace.start("s2", "--all", env=gate.env)
    gate.wait(worker)
    workspace.query("DELETE FROM parcels")
    gate.open()
    outcome = worker.wait()
    assert outcome.code == 2
    assert (workspace.status(scene), [attempt["outcome"] for attempt in workspace.log(scene)]) == (
        "ingested",
        ["given_back"],
    )
