"""`operations setup`: from an empty database to one that workers can use, and nothing that others made is changed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import pytest
import shapely
from psycopg2 import sql
from shapely.geometry.base import BaseGeometry

from demo import tables
from extractors.database.schema import MADE_HERE
from operations.outlines import read_outline
from tests.support.ground import GRID, ground, squares
from tests.support.roles import PASSWORD, create_role, run_script
from tests.support.running import Outcome, wait_until
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

EVERYTHING = """
SELECT format('%s %s %s %s %s', n.nspname, c.relname, c.relkind, c.relacl,
              (SELECT string_agg(concat_ws(' ', attname, atttypid::regtype, atttypmod, attnotnull, attacl::text), ', '
                                 ORDER BY attnum)
               FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_(toast|temp)|^pg_catalog|^information_schema'
ORDER BY 1"""


@pytest.fixture
def empty(workspace: Workspace) -> Workspace:
    """A database with nothing in it."""
    workspace.query("DROP TABLE dias_catalogue, aois, parcels; DROP EXTENSION postgis CASCADE")
    return workspace


@pytest.fixture
def role(workspace: Workspace) -> Iterator[str]:
    """The name of a role that is gone afterwards."""
    name = f"worker{uuid.uuid4().hex[:8]}"
    yield name
    if workspace.one("SELECT count(*) FROM pg_roles WHERE rolname = %s", name):
        workspace.query(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def lines(outcome: Outcome) -> list[tuple[str, str]]:
    """Of each line on standard output, the first word and the rest."""
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in outcome.stdout.splitlines()]


def words(outcome: Outcome) -> set[str]:
    return {word for word, _ in lines(outcome)}


def everything(workspace: Workspace) -> list[Any]:
    return workspace.query(EVERYTHING)


def setup(workspace: Workspace, *options: str) -> Outcome:
    outcome = workspace.operate("setup", *options)
    assert outcome.code == 0, outcome.output
    return outcome


def test_from_nothing_to_a_scene(empty: Workspace) -> None:
    """setup, parcels, setup --aoi parcels, a scene: a worker needs nothing else, and makes nothing."""
    first = setup(empty)
    assert {"made", "lacking"} == words(first)
    assert not empty.one("SELECT to_regclass('signatures') IS NOT NULL")
    tables.create_parcels(empty.connection, "parcels", GRID.epsg)
    parcels = empty.add_parcels(squares(9))
    second = setup(empty, "--aoi", "parcels")
    assert "lacking" not in words(second), second.stdout
    scene = empty.add_s2()
    before = everything(empty)
    assert empty.run("s2").code == 0
    assert_same(empty.signatures(scene), scene.expected(parcels))
    assert everything(empty) == before


def test_twice_changes_nothing(empty: Workspace) -> None:
    setup(empty)
    tables.create_parcels(empty.connection, "parcels", GRID.epsg)
    empty.add_parcels(squares(9))
    empty.tables["hists_table"] = "hists"
    setup(empty, "--aoi", "parcels", "--partitioned", "10")
    before, area = everything(empty), empty.query("SELECT * FROM aois")
    again = setup(empty, "--aoi", "parcels", "--partitioned", "10")
    assert words(again) == {"ok"}, again.stdout
    assert (everything(empty), empty.query("SELECT * FROM aois")) == (before, area)
    assert empty.operate("setup", "--check").code == 0


def test_several_at_once(empty: Workspace) -> None:
    """One makes each thing, the others find it."""
    running = [empty.start_python("-m", "operations", "setup") for _ in range(3)]
    for outcome in [one.wait() for one in running]:
        assert (outcome.code, outcome.errors) == (0, []), outcome.output
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'dias_catalogue'"
    before = empty.one(indexes)
    empty.query("DROP TABLE dias_catalogue, aois, scene_source")
    setup(empty)
    assert empty.one(indexes) == before


def test_several_at_once_with_parcels(empty: Workspace) -> None:
    """The same of area, partitions and views."""
    setup(empty)
    tables.create_parcels(empty.connection, "parcels", GRID.epsg)
    empty.add_parcels(squares(9))
    options = ("setup", "--aoi", "parcels", "--partitioned", "10")
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 1128418561"
    with closing(empty.connect()) as other, other.cursor() as cursor:
        # Whoever makes tables: all three have looked when they begin.
        cursor.execute("SELECT pg_advisory_lock(1128418561, 0)")
        running = [empty.start_python("-m", "operations", *options) for _ in range(3)]
        wait_until(lambda: empty.one(waiting) == 3, "all three come to what they make")
    for outcome in [one.wait() for one in running]:
        # What others are just making can be an outage.
        assert outcome.code in {0, 75}, outcome.output
    assert empty.one("SELECT count(*) FROM aois") == 1
    assert empty.operate("setup", "--check").code == 0


def test_what_others_made_stays(workspace: Workspace) -> None:
    """Their tables, whatever they lack; a view in place of the catalogue."""
    workspace.query("ALTER TABLE dias_catalogue RENAME TO theirs")
    workspace.query("CREATE VIEW dias_catalogue AS SELECT * FROM theirs")
    workspace.add_parcels(squares(3))
    before = set(everything(workspace))
    setup(workspace, "--aoi", "parcels")
    assert before <= set(everything(workspace))
    assert workspace.one("SELECT count(*) FROM aois") == 1
    made = {line[0].split()[1] for line in set(everything(workspace)) - before}
    assert {"scene_source", "signatures", "extraction_log"} <= made


@pytest.mark.parametrize("option", ["--check", "--dry-run"])
def test_looking_changes_nothing(option: str, empty: Workspace) -> None:
    for make in (
        lambda: None,
        lambda: setup(empty),
        lambda: tables.create_parcels(empty.connection, "parcels", GRID.epsg),
        lambda: empty.add_parcels(squares(3)),
    ):
        make()
        before = everything(empty)
        asked = empty.operate("setup", option, "--role", "nobody")
        assert asked.code == (2 if option == "--check" else 0), asked.output
        assert everything(empty) == before
        assert "lacking" in words(asked)
        assert "made" not in words(asked)
    assert not empty.one("SELECT count(*) FROM pg_roles WHERE rolname = 'nobody'")


@pytest.mark.parametrize("option", ["--check", "--dry-run"])
def test_tables_of_the_names_and_no_postgis(option: str, empty: Workspace) -> None:
    """Their geometries can only be something else; all the same, it is said what there is."""
    empty.query("CREATE TABLE dias_catalogue (id integer, footprint text); CREATE TABLE parcels (wkb_geometry bytea)")
    before = everything(empty)
    asked = empty.operate("setup", option, "--aoi", "parcels", "--role", "nobody")
    assert (asked.code, asked.errors) == (2 if option == "--check" else 0, [])
    assert everything(empty) == before
    found = [rest for word, rest in lines(asked) if word == "lacking"]
    assert [rest.partition(":")[0] for rest in found] == ["PostGIS", "catalogue", "AOI table", "parcel table"]
    assert ["made without PostGIS" in rest for rest in found] == [False, True, False, True]


def test_a_log_of_an_earlier_version(workspace: Workspace) -> None:
    """It gets the column and the indexes that came later, and keeps its rows."""
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query("ALTER TABLE extraction_log DROP COLUMN settings")
    for name in ("results", "pauses", "open"):
        workspace.query(f"DROP INDEX IF EXISTS extraction_log_{name}")
    assert workspace.operate("setup", "--check").code == 2
    outcome = setup(workspace)
    assert sum(word == "made" for word, _ in lines(outcome)) == 7, (
        outcome.stdout
    )  # and the table of places, and the views
    assert workspace.log(scene)[0]["outcome"] == "extracted"
    assert workspace.one(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'extraction_log'::regclass AND attname = 'settings'"
    )
    assert words(setup(workspace)) == {"ok"}


def has(workspace: Workspace, table: str, column: str) -> bool:
    query = "SELECT count(*) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"
    return bool(workspace.one(query, table, column))


@pytest.mark.parametrize("partitioned", [(), ("--partitioned",)], ids=["plain", "partitioned"])
@pytest.mark.parametrize("of_card", [False, True])
def test_statistics_that_come_later(of_card: bool, partitioned: tuple[str, ...], workspace: Workspace) -> None:
    """Own tables get their columns, with rows and without; of any CARD; the rows that are there stay."""
    workspace.tables["clear_results_table"] = "clear"
    parcels = workspace.add_parcels(squares(3))
    first, later = workspace.add_s2(), workspace.add_s2("2020-04-06T10:00:31")
    setup(workspace, *partitioned)
    assert workspace.run("s2", "--scene", first.reference).code == 0
    before = workspace.signatures(first)
    own = {"extra_statistics": ["p10", "pixels"]}
    workspace.extraction.update({"s2": own} if of_card else own)
    assert workspace.run("s2", "--check").code == 2
    if of_card:
        setup(workspace, "--card", "bs")
    for option in ("--check", "--dry-run"):
        asked = workspace.operate("setup", option)
        assert asked.code == (2 if option == "--check" else 0)
        assert sum(word == "lacking" and rest.startswith("columns: p10, pixels") for word, rest in lines(asked)) == 2
        assert not has(workspace, "signatures", "pixels")
    setup(workspace)
    assert words(setup(workspace)) == {"ok"}
    assert workspace.run("s2", "--all").code == 0
    assert workspace.signatures(first) == before
    assert_same(workspace.signatures(later), later.expected(parcels))
    for table in ("signatures", "clear"):
        filled = workspace.query(sql.SQL("SELECT DISTINCT obsid, pixels > 0 AND p10 IS NOT NULL FROM {}").format(
            sql.Identifier(table)))  # fmt: skip
        assert sorted(filled) == [(first.id, False), (later.id, True)]


def test_statistics_that_come_later_and_tables_of_others(workspace: Workspace) -> None:
    """These stay as they are, and what is lacking is said."""
    workspace.add_parcels(squares(3))
    setup(workspace)
    workspace.query("COMMENT ON TABLE signatures IS NULL")
    workspace.extraction["extra_statistics"] = ["p10"]
    before = everything(workspace)
    for options in ((), ("--check",)):
        outcome = workspace.operate("setup", *options)
        assert outcome.code == (2 if options else 0)
        assert any(word == "lacking" and "ADD COLUMN p10" in rest for word, rest in lines(outcome))
        assert everything(workspace) == before


def test_labels_of_indices_have_room(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.extraction.update(radiometry="harmonised", radiometry_fallback="baseline")
    workspace.extraction["s2"] = {"indices": {"NDVI": "ndvi"}}
    workspace.add_s2()
    setup(workspace)
    assert workspace.run("s2").code == 0
    assert workspace.one("SELECT count(*) FROM signatures WHERE band = 'NDVI'") == 3


def test_tables_in_schemas_with_odd_names(empty: Workspace) -> None:
    empty.query('CREATE SCHEMA "My Tables"')
    empty.tables.update(
        catalogue_table="My Tables.Scenes", aoi_table="My Tables.a'oi", results_table='My Tables."quoted"'
    )
    empty.args.update(aoi_field="the name")
    setup(empty)
    tables.create_parcels(empty.connection, "parcels", GRID.epsg)
    empty.add_parcels(squares(3))
    setup(empty, "--aoi", "parcels")
    assert empty.one("""SELECT "the name" FROM "My Tables"."a'oi" """) == "my_aoi"
    assert empty.one("""SELECT count(*) FROM "My Tables".extraction_log""") == 0
    assert empty.one("""SELECT count(*) FROM "My Tables".scene_source""") == 0
    assert empty.run("s2").code == 0


def test_the_catalogue_has_the_indexes_that_claims_need(empty: Workspace) -> None:
    setup(empty)
    tables.create_parcels(empty.connection, "parcels", GRID.epsg)
    empty.add_parcels(squares(3))
    setup(empty, "--aoi", "parcels")
    asked = empty.run("s2", "--check")
    (advice,) = [line for line in asked.stdout.splitlines() if " indexes: " in line]
    assert "CREATE INDEX" not in advice


# The area


def area(workspace: Workspace) -> BaseGeometry:
    (found,) = workspace.query("SELECT ST_AsBinary(wkb_geometry) FROM aois WHERE name = 'my_aoi'")
    return shapely.from_wkb(bytes(found[0]))


def parcels_in_degrees(workspace: Workspace) -> BaseGeometry:
    (found,) = workspace.query("SELECT ST_AsBinary(ST_Transform(ST_Union(wkb_geometry), 4326)) FROM parcels")
    return shapely.from_wkb(bytes(found[0]))


@pytest.mark.parametrize("spread", [0.0, 3_000.0, 400_000.0])
def test_around_the_parcels(spread: float, workspace: Workspace) -> None:
    """All parcels lie within, wherever they are; and there are not many vertices."""
    workspace.query("DELETE FROM aois")
    moved = [shapely.affinity.translate(one, spread * (i % 3), spread * (i // 3)) for i, one in enumerate(squares(9))]
    workspace.add_parcels(moved)
    setup(workspace, "--aoi", "parcels")
    found = area(workspace)
    assert shapely.is_valid(found)
    assert found.contains(parcels_in_degrees(workspace))
    assert shapely.get_num_coordinates(found) < 5_000


@pytest.mark.parametrize(
    "spoil", ["DELETE FROM parcels", "UPDATE parcels SET wkb_geometry = NULL", "DROP TABLE parcels"]
)
def test_around_no_parcels(spoil: str, workspace: Workspace) -> None:
    workspace.query("DELETE FROM aois")
    workspace.add_parcels(squares(2))
    workspace.query(spoil)
    outcome = workspace.operate("setup", "--aoi", "parcels")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "parcel_table" in outcome.errors[0]


@pytest.mark.parametrize("name", ["area.gpkg", "area.geojson", "area.shp"])
@pytest.mark.parametrize("epsg", [GRID.epsg, 4326, 3035])
def test_from_a_file(name: str, epsg: int, workspace: Workspace, tmp_path: Path) -> None:
    """Whatever its CRS: the area is where the file says."""
    workspace.query("DELETE FROM aois")
    wanted = geopandas.GeoSeries([ground(1000), shapely.affinity.translate(ground(10), 9000, 0)], crs=GRID.epsg)
    points = [*wanted.to_crs(epsg), shapely.Point(0, 0)] if name != "area.shp" else [*wanted.to_crs(epsg)]
    geopandas.GeoDataFrame(geometry=geopandas.GeoSeries(points, crs=epsg)).to_file(tmp_path / name)
    setup(workspace, "--aoi", str(tmp_path / name))
    expected = shapely.union_all(wanted.segmentize(100).to_crs(4326).to_numpy())
    found = area(workspace)
    assert shapely.is_valid(found)
    assert found.symmetric_difference(expected).area < expected.area * 1e-4


def test_an_outline_that_winds_twice(tmp_path: Path) -> None:
    """Where edges cross, all that they enclose is the area: of 300,000 such corners that is found in seconds."""
    path = tmp_path / "area.geojson"
    around = [(0, 0), (8, 0), (8, 8), (0, 8), (0, -1), (5, -1), (5, 5), (2, 5), (2, 1)]
    corners = [(15 + x / 100, 46 + y / 100) for x, y in around]
    geopandas.GeoSeries([shapely.Polygon(corners)], crs=4326).to_file(path)
    found = read_outline(path)
    assert shapely.is_valid(found)
    assert found.contains(shapely.box(15.021, 46.011, 15.049, 46.049))
    assert found.contains(shapely.box(15.051, 46.051, 15.079, 46.079))


@pytest.mark.parametrize("srid", [None, 3035])
@pytest.mark.parametrize("kind", ["Polygon", "MultiPolygon", "Geometry"])
def test_into_a_table_of_others(kind: str, srid: int | None, workspace: Workspace, tmp_path: Path) -> None:
    """In its form and its SRID."""
    of_type = f"geometry({kind}, {srid})" if srid else "geometry"
    workspace.query(f"DROP TABLE aois; CREATE TABLE aois (gid serial PRIMARY KEY, name text, wkb_geometry {of_type})")
    parts = geopandas.GeoSeries([ground(100), shapely.affinity.translate(ground(100), 9000, 0)], crs=GRID.epsg)
    geopandas.GeoDataFrame(geometry=parts).to_file(tmp_path / "area.gpkg")
    setup(workspace, "--aoi", str(tmp_path / "area.gpkg"))
    rows = workspace.query("SELECT ST_SRID(wkb_geometry), ST_NumGeometries(wkb_geometry) FROM aois")
    assert {row[0] for row in rows} == {srid or 4326}
    assert sum(row[1] for row in rows) == 2
    assert len(rows) == (2 if kind == "Polygon" and srid else 1)


def without_crs(path: Path) -> None:
    geopandas.GeoDataFrame(geometry=[ground()]).to_file(path)
    path.with_suffix(".prj").unlink(missing_ok=True)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize(
    ("name", "write", "word"),
    [
        ("none.gpkg", lambda path: None, "no such file"),
        ("text.gpkg", lambda path: path.write_text("nothing"), "cannot be read"),
        ("area.shp", without_crs, "coordinate reference system"),
        (
            "points.gpkg",
            lambda path: geopandas.GeoDataFrame(geometry=[shapely.Point(1, 1)], crs=4326).to_file(path),
            "no polygon",
        ),
        (
            "layers.gpkg",
            lambda path: [
                geopandas.GeoDataFrame(geometry=[ground()], crs=GRID.epsg).to_file(path, layer=layer)
                for layer in ("one", "two")
            ],
            "layers",
        ),
    ],
)
def test_files_that_cannot_be_used(name: str, write: Any, word: str, workspace: Workspace, tmp_path: Path) -> None:
    workspace.query("DELETE FROM aois")
    write(tmp_path / name)
    outcome = workspace.operate("setup", "--aoi", str(tmp_path / name))
    assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.output
    assert name in outcome.errors[0]
    assert word in outcome.errors[0]
    assert workspace.one("SELECT count(*) FROM aois") == 0


# Partitions


def test_partitions(workspace: Workspace) -> None:
    """For all scenes of the catalogue, and some that come; each with what a table made by a worker has."""
    parcels = workspace.add_parcels(squares(4))
    workspace.query("ALTER SEQUENCE dias_catalogue_id_seq RESTART 95")
    scenes = [workspace.add_s2(f"2020-04-{day:02}T10:00:31") for day in range(1, 11)]
    setup(workspace, "--partitioned", "8")
    assert workspace.one("SELECT relkind FROM pg_class WHERE relname = 'signatures'") == "p"
    assert workspace.one("SELECT obj_description('signatures'::regclass)") == MADE_HERE
    bounds = workspace.query(
        "SELECT pg_get_expr(relpartbound, oid), relreplident FROM pg_class WHERE relispartition AND relkind = 'r'"
    )
    assert {row[1] for row in bounds} == {"f"}
    assert sorted(row[0] for row in bounds) == sorted(
        f"FOR VALUES FROM ({first}) TO ({first + 8})" for first in (88, 96, 104, 112)
    )
    assert workspace.run("s2", "--all").code == 0
    for scene in scenes:
        assert_same(workspace.signatures(scene), scene.expected(parcels))
    # Scenes that come: another setup makes room for them.
    for _ in range(20):
        workspace.add_row(f"later{uuid.uuid4().hex}", status="extracted")
    later = workspace.add_s2("2020-05-01T10:00:31")
    assert workspace.run("s2", "--scene", later.reference).code == 2
    setup(workspace)
    assert workspace.run("s2", "--scene", later.reference).code == 0
    assert_same(workspace.signatures(later), later.expected(parcels))


def test_while_others_make_indexes(workspace: Workspace) -> None:
    """Who makes none need not wait for them: whoever only looks, or adds partitions."""
    workspace.add_parcels(squares(1))
    setup(workspace, "--partitioned", "3")
    workspace.query("SELECT pg_advisory_lock(1128418565, 0)")
    setup(workspace, "--check")
    for number in range(9):
        workspace.add_row(f"scene {number}")
    assert "made partitions: " in setup(workspace).stdout
    workspace.query("DROP INDEX extraction_log_pauses")
    asked = workspace.operate("setup", "--check")
    assert (asked.code, "lacking index on public.extraction_log" in asked.stdout) == (2, True), asked.output
    assert workspace.operate("setup").code == 75
    workspace.query("SELECT pg_advisory_unlock(1128418565, 0)")
    assert "made index on public.extraction_log" in setup(workspace).stdout


def test_partitions_of_a_table_with_columns_of_others(workspace: Workspace) -> None:
    """Those that are computed are computed in new partitions, too."""
    workspace.add_parcels(squares(4))
    setup(workspace, "--partitioned", "2")
    workspace.query("ALTER TABLE signatures ADD COLUMN twice double precision GENERATED ALWAYS AS (2 * mean) STORED")
    scenes = [workspace.add_s2(f"2020-04-{day:02}T10:00:31") for day in range(1, 6)]
    setup(workspace)
    workspace.query("INSERT INTO signatures (pid, obsid, mean) VALUES (1, %s, 3)", scenes[-1].id)
    assert workspace.one("SELECT twice FROM signatures") == 6


def partitions(workspace: Workspace, table: str = "signatures") -> int:
    return int(workspace.one("SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass", table))


def many_scenes(workspace: Workspace, number: int) -> None:
    """Rows of the catalogue that no worker wants."""
    workspace.query(
        "INSERT INTO dias_catalogue (obstime, reference, sensor, card, status, footprint) SELECT '2020-04-01', "
        "'scene ' || number, '2A', 's2', 'extracted', NULL FROM generate_series(1, %s) number",
        number,
    )


def test_many_partitions_and_an_interruption(workspace: Workspace) -> None:
    """They are made some at a time, as no server has locks for thousands; another setup goes on where one has ended."""
    workspace.add_parcels(squares(4))
    many_scenes(workspace, 250)
    # So the 200th cannot be made.
    workspace.query("CREATE TABLE signatures_200 (a integer)")
    ended = workspace.operate("setup", "--partitioned", "1")
    assert (ended.code, len(ended.errors)) == (2, 1), ended.output
    assert "signatures_200" in ended.errors[0]
    before = partitions(workspace)
    assert 1 < before < 199
    workspace.query("DROP TABLE signatures_200")
    asked = workspace.operate("setup", "--partitioned", "1", "--check")
    assert asked.code == 2
    assert any(word == "lacking" and rest.startswith(f"partitions: {251 - before} of ") for word, rest in lines(asked))
    setup(workspace, "--partitioned", "1")
    assert partitions(workspace) == 251
    assert words(setup(workspace, "--partitioned", "1")) == {"ok"}
    together = "SELECT max(number) FROM (SELECT count(*) AS number FROM pg_inherits GROUP BY xmin::text) by_transaction"
    # Each has an index, which is inherited likewise.
    assert workspace.one(together) <= 200


def test_tables_without_partitions_that_an_interruption_has_left(workspace: Workspace) -> None:
    """It is said that they lack some, and they get them."""
    workspace.add_parcels(squares(4))
    workspace.tables["hists_table"] = "hists"
    workspace.query("CREATE TABLE signatures_plain (a integer)")
    assert workspace.operate("setup", "--partitioned", "10").code == 2
    workspace.query("DROP TABLE signatures_plain")
    assert workspace.one("SELECT relkind FROM pg_class WHERE relname = 'signatures'") == "r"
    before = everything(workspace)
    asked = workspace.operate("setup", "--partitioned", "10", "--check")
    assert (asked.code, everything(workspace)) == (2, before)
    assert sum(word == "lacking" and rest.startswith("partitions: ") for word, rest in lines(asked)) == 2, asked.stdout
    setup(workspace, "--partitioned", "10")
    assert words(setup(workspace, "--partitioned", "10")) == {"ok"}
    assert (partitions(workspace), partitions(workspace, "hists")) == (2, 2)


@pytest.mark.parametrize(
    "spoil",
    [
        "GRANT SELECT ON signatures TO PUBLIC",
        "GRANT SELECT (pid) ON signatures TO PUBLIC",
        "CREATE TRIGGER mine BEFORE UPDATE ON signatures FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE PUBLICATION mine FOR TABLE signatures",
        "CREATE VIEW mine AS SELECT * FROM signatures",
        "COMMENT ON TABLE signatures IS NULL",
    ],
    ids=["rights", "rights on a column", "a trigger", "a publication", "a view", "made by others"],
)
def test_a_table_that_somebody_uses_gets_no_partitions(spoil: str, workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    workspace.query("CREATE TABLE signatures_plain (a integer)")
    assert workspace.operate("setup", "--partitioned").code == 2
    workspace.query(f"DROP TABLE signatures_plain; {spoil}")
    before = set(everything(workspace))
    outcome = setup(workspace, "--partitioned")
    assert any(word == "lacking" and rest.startswith("partitions: ") for word, rest in lines(outcome)), outcome.stdout
    assert before <= set(everything(workspace))


def test_partitions_of_tables_with_long_names(workspace: Workspace) -> None:
    """Names that differ only behind what partitions can have of them; those made by earlier versions stay."""
    workspace.add_parcels(squares(4))
    scenes = [workspace.add_s2(f"2020-04-{day:02}T10:00:31") for day in (1, 2)]
    begin = "ä" * 24 + "_one_of_these"
    for name in (f"{begin}1", f"{begin}2"):
        workspace.tables["results_table"] = name
        setup(workspace, "--partitioned", "1")
        assert partitions(workspace, name) == 3
        assert workspace.run("s2", "--all").code == 0
        for scene in scenes:
            workspace.ingest(scene)
    first, *_, last = [row[0] for row in workspace.query(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass ORDER BY 1", f"{begin}2"
    )]  # fmt: skip
    workspace.query(sql.SQL("ALTER TABLE {} RENAME TO earlier").format(sql.Identifier(first.strip('"'))))
    many_scenes(workspace, 2)
    setup(workspace)
    assert workspace.one("SELECT to_regclass('earlier') IS NOT NULL")
    assert len(last.strip('"').encode()) <= 63


def test_a_table_with_rows_gets_no_partitions(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    before = everything(workspace)
    workspace.query("DROP TABLE IF EXISTS scene_source")
    outcome = setup(workspace, "--partitioned")
    assert any(word == "lacking" and rest.startswith("partitions: ") for word, rest in lines(outcome)), outcome.stdout
    made = ("scene_source", "scene_source_pkey", "signatures_wide", "signatures_observations", "extraction_progress")
    assert [line for line in everything(workspace) if line[0].split()[1] not in made] == before


# The role


def as_role(workspace: Workspace, role: str) -> None:
    workspace.db_config["database"]["connection"].update(dbuser=role, dbpasswd=PASSWORD)


@pytest.mark.parametrize("partitioned", [(), ("--partitioned",)], ids=["plain", "partitioned"])
def test_a_worker_with_this_role(partitioned: tuple[str, ...], workspace: Workspace, role: str, tmp_path: Path) -> None:
    """It has what it needs, in a database that lets nobody in without a grant."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    workspace.tables["hists_table"] = "hists"
    workspace.query(
        sql.SQL(
            "REVOKE ALL ON DATABASE {} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;"
            " REVOKE ALL ON spatial_ref_sys FROM PUBLIC"
        ).format(sql.Identifier(workspace.database))
    )
    owner = dict(workspace.db_config["database"]["connection"])
    as_role(workspace, role)
    workspace.write_config()
    theirs = tmp_path / "theirs.json"
    theirs.write_text((workspace.cwd / "db_config.json").read_text())
    theirs.chmod(0o600)
    workspace.db_config["database"]["connection"].update(owner)
    outcome = setup(workspace, "--role", role, "--role-config", str(theirs), *partitioned)
    assert PASSWORD not in outcome.output
    assert "GRANT SELECT" not in outcome.stdout
    assert sum(word == "granted:" for word, _ in lines(outcome)) > 8
    as_role(workspace, role)
    asked = workspace.run("s2", "--check")
    assert asked.code == 0, asked.output
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    for verb in ("status", "forecast"):
        looked = workspace.operate(verb)
        assert (looked.code, looked.errors) == (0, []), looked.output
    # And again, so that rows are replaced.
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    # But nothing else.
    assert workspace.one("SELECT has_table_privilege(%s, 'dias_catalogue', 'DELETE')", role) is False
    assert (
        workspace.one("SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = %s", role) is False
    )


def test_a_role_where_there_is_no_schema_public(workspace: Workspace, role: str) -> None:
    """It works in those in which the tables and PostGIS are, and needs no other."""
    parcels = workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.query(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))
    workspace.query("ALTER SCHEMA public RENAME TO theirs")
    workspace.query(
        sql.SQL("ALTER DATABASE {} SET search_path = theirs; SET search_path = theirs").format(
            sql.Identifier(workspace.database)
        )
    )
    outcome = setup(workspace, "--role", role)
    assert not any("public" in rest for word, rest in lines(outcome) if word == "granted:")
    as_role(workspace, role)
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_a_role_without_a_password_is_not_made(workspace: Workspace, role: str) -> None:
    """Nobody is there to type one."""
    workspace.add_parcels(squares(5))
    refused = workspace.operate("setup", "--role", role)
    assert (refused.code, len(refused.errors)) == (2, 1)
    assert "--role-config" in refused.errors[0]
    assert not workspace.one("SELECT count(*) FROM pg_roles WHERE rolname = %s", role)


RIGHTS = """
SELECT 'database', '', privilege_type FROM pg_database, aclexplode(datacl)
WHERE datname = current_database() AND grantee = %(role)s::regrole
UNION SELECT 'schema', nspname, privilege_type FROM pg_namespace, aclexplode(nspacl) WHERE grantee = %(role)s::regrole
UNION SELECT relname, '', privilege_type FROM pg_class, aclexplode(relacl) WHERE grantee = %(role)s::regrole
UNION SELECT relname, attname, privilege_type FROM pg_attribute JOIN pg_class c ON c.oid = attrelid, aclexplode(attacl)
WHERE grantee = %(role)s::regrole
"""


@pytest.mark.parametrize("schema", ["", "theirs."])
@pytest.mark.parametrize("others", [{}, {"hists_table": "hists", "clear_results_table": "clear", "gaps_table": "gaps"}])
def test_the_rights_are_those_of_the_script(
    others: dict[str, str], schema: str, workspace: Workspace, role: str
) -> None:
    """A role of operations/sql/worker_role.sql has the same ones, for the same tables."""
    workspace.query("CREATE SCHEMA theirs")
    workspace.tables.update(others, results_table=f"{schema}Signatures", parcel_table=f"{schema}parcels")
    if schema:
        workspace.query("ALTER TABLE parcels SET SCHEMA theirs")
    tables.add_parcels(workspace.connection, f"{schema}parcels", squares(5), GRID.epsg)
    if others:
        setup(workspace)
        workspace.query("CREATE TABLE redo_list (obsid integer)")
    workspace.query(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))
    setup(workspace, "--role", role)
    found: list[set[tuple[Any, ...]]] = []
    for one in (role, f"other_{role}"):
        if one != role:
            create_role(workspace, one)
            run_script(workspace, one, workspace.tables)
        with workspace.connection.cursor() as cursor:
            cursor.execute(RIGHTS, {"role": one})
            found.append(set(cursor.fetchall()))
    workspace.query(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(f"other_{role}")))
    assert found[0] == found[1]
    assert len(found[0]) > 40


def test_a_superuser_is_no_role_for_workers(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    outcome = workspace.operate("setup", "--role", workspace.postgis.user)
    assert any(word == "lacking" and workspace.postgis.user in rest for word, rest in lines(outcome))
    assert "granted:" not in words(outcome)
