"""Which scenes are taken, in which order, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
import shapely
from psycopg2 import sql

from demo import tables
from tests.support.ground import GRID, SIDE, cell, footprint, ground, squares, to_epsg
from tests.support.running import NOTHING_LEFT, Outcome
from tests.support.workspace import Workspace

LEFT, TOP = GRID.left, GRID.top
WEST = shapely.box(LEFT - 200, TOP - SIDE - 200, LEFT + 200, TOP + 200)
EAST = shapely.box(LEFT + 400, TOP - SIDE - 200, LEFT + 800, TOP + 200)
MIDDLE = shapely.box(LEFT + 250, TOP - SIDE, LEFT + 350, TOP)
BEYOND = shapely.box(LEFT + 2000, TOP - SIDE, LEFT + 3000, TOP)
DIAGONAL = shapely.Polygon([(LEFT + 390, TOP + 120), (LEFT + 395, TOP + 900), (LEFT - 1000, TOP + 900)])
"""Its bounding box holds the north of WEST, the triangle itself passes by."""
ROW = "SELECT to_jsonb(d) - 'status' FROM dias_catalogue d ORDER BY id"
COLUMNS = (
    "SELECT column_name, data_type, character_maximum_length, column_default, is_nullable"
    " FROM information_schema.columns WHERE table_name = 'dias_catalogue' ORDER BY ordinal_position"
)


@dataclass(frozen=True)
class Season:
    """One run with --all over a catalogue with every kind of row. `scenes`: what it is -> id."""

    workspace: Workspace
    scenes: dict[str, int]
    outcome: Outcome
    rows: tuple[list[Any], list[Any]]
    columns: tuple[list[Any], list[Any]]

    def status(self, name: str) -> str:
        return self.workspace.status(self.scenes[name])


@pytest.fixture(scope="module")
def season(shared_workspace: Workspace) -> Iterator[Season]:
    """AOI `country` is two rows, WEST and EAST; `neighbour` is MIDDLE. Period: April 2020."""
    workspace = shared_workspace
    for name, area in (("country", WEST), ("country", EAST), ("neighbour", MIDDLE)):
        tables.add_aoi(workspace.connection, name, footprint(area))
    workspace.args.update({"name": "country", "startdate": "2020-04-01", "enddate": "2020-05-01"})
    workspace.add_parcels([cell(2, 2), cell(2, 40), cell(50, 2), cell(50, 40)])

    def scene(obstime: str, area: shapely.Polygon = WEST, status: str = "ingested") -> int:
        return workspace.add_s2(obstime, where=footprint(area), status=status).id

    def row(obstime: str, area: shapely.Polygon = WEST, card: str = "s2", status: str = "ingested") -> int:
        reference = f"{card} {status} {obstime}"  # nothing may touch it
        return tables.add_scene(
            workspace.connection,
            reference,
            datetime.fromisoformat(obstime),
            card,
            footprint(area),
            status=status,
        )

    scenes = {
        "late in the period": scene("2020-04-20T10:00:00"),
        "in the middle": scene("2020-04-10T10:00:00"),
        "at the first moment": scene("2020-04-01T00:00:00"),
        "at the last moment": scene("2020-04-30T23:59:59.999999"),
        "over the second part of the AOI": scene("2020-04-05T10:00:00", EAST),
        "at the end date": row("2020-05-01T00:00:00"),
        "before the period": row("2020-03-31T23:59:59.999999"),
        "over another AOI": row("2020-04-06T10:00:00", MIDDLE),
        "far away": row("2020-04-07T10:00:00", BEYOND),
        "touching by its bounding box only": row("2020-04-08T10:00:00", DIAGONAL),
        "of card bs": row("2020-04-09T10:00:00", card="bs"),
        "of card c6": row("2020-04-09T10:00:00", card="c6"),
        "inprogress": row("2020-04-02T10:00:00", status="inprogress"),
        "extracted": row("2020-04-02T10:00:00", status="extracted"),
        "failed": row("2020-04-02T10:00:00", status="failed"),
        "Obsolete": row("2020-04-02T10:00:00", status="Obsolete"),
    }
    before = workspace.query(ROW), workspace.query(COLUMNS)
    outcome = workspace.run("s2", "--all")
    after = workspace.query(ROW), workspace.query(COLUMNS)
    yield Season(workspace, scenes, outcome, (before[0], after[0]), (before[1], after[1]))


def test_season_ends_well(season: Season) -> None:
    assert (season.outcome.code, season.outcome.errors) == (0, [])
    assert season.outcome.stdout.strip() == NOTHING_LEFT


def test_taken_oldest_first(season: Season) -> None:
    taken = [number for (number,) in season.workspace.query("SELECT obsid FROM extraction_log ORDER BY run_id")]
    names = {number: name for name, number in season.scenes.items()}
    assert [names[number] for number in taken] == [
        "at the first moment",
        "over the second part of the AOI",
        "in the middle",
        "late in the period",
        "at the last moment",
    ]


@pytest.mark.parametrize("name", ["at the first moment", "at the last moment", "over the second part of the AOI"])
def test_taken(season: Season, name: str) -> None:
    assert season.status(name) == "extracted"


@pytest.mark.parametrize(
    "name",
    [
        "at the end date",
        "before the period",
        "over another AOI",
        "far away",
        "touching by its bounding box only",
        "of card bs",
        "of card c6",
    ],
)
def test_not_taken(season: Season, name: str) -> None:
    assert season.status(name) == "ingested"


@pytest.mark.parametrize("status", ["inprogress", "extracted", "failed", "Obsolete"])
def test_other_statuses_are_left_alone(season: Season, status: str) -> None:
    assert season.status(status) == status


def test_nothing_in_the_catalogue_changed_but_statuses(season: Season) -> None:
    assert season.rows[0] == season.rows[1]


def test_columns_of_the_catalogue_are_as_before(season: Season) -> None:
    assert season.columns[0] == season.columns[1]
    assert ("status", "character varying", 12) in {column[:3] for column in season.columns[1]}


def test_bounding_box_of_the_diagonal_does_touch() -> None:
    """The example above is one: only the bounding box meets the AOI."""
    assert shapely.box(*DIAGONAL.bounds).intersects(WEST)
    assert not DIAGONAL.intersects(WEST)
    assert not DIAGONAL.intersects(EAST)


def test_row_locked_by_another_session_is_skipped(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    older, younger = (workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2))
    other = workspace.connect()
    try:
        other.cursor().execute("SELECT 1 FROM dias_catalogue WHERE id = %s FOR UPDATE", (older.id,))
        assert workspace.run("s2").code == 0
        assert [workspace.status(scene) for scene in (older, younger)] == ["ingested", "extracted"]
        assert workspace.run("s2").stdout.strip() == NOTHING_LEFT
    finally:
        other.close()
    assert workspace.run("s2").code == 0
    assert workspace.status(older) == "extracted"


def test_aoi_in_another_reference_system(workspace: Workspace) -> None:
    workspace.query("DROP TABLE aois")
    tables.create_aois(workspace.connection, "aois", srid=3035)
    west = to_epsg(WEST, GRID.epsg, 3035)
    workspace.query("INSERT INTO aois (name, wkb_geometry) VALUES ('my_aoi', ST_GeomFromText(%s, 3035))", west.wkt)
    inside, outside = workspace.add_parcels([cell(2, 2), cell(40, 2)])
    taken = workspace.add_s2("2020-04-02T10:00:31", where=footprint(ground()))
    left = workspace.add_s2("2020-04-01T10:00:31", where=footprint(EAST))

    assert workspace.run("s2", "--all").code == 0

    assert [workspace.status(scene) for scene in (taken, left)] == ["extracted", "ingested"]
    assert {pid for pid, _ in workspace.signatures(taken)} == {inside}
    assert outside not in {pid for pid, _ in workspace.signatures(taken)}


def test_aoi_that_nobody_knows(workspace: Workspace) -> None:
    """Not "nothing to do": a misspelt name would look like a finished season."""
    scene = workspace.add_s2()
    workspace.args["name"] = "my_aio"
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "my_aio" in outcome.errors[0]
    assert workspace.status(scene) == "ingested"


def test_footprint_of_several_parts(workspace: Workspace) -> None:
    """Some catalogues hold them."""
    workspace.query("ALTER TABLE dias_catalogue ALTER COLUMN footprint TYPE geometry(Geometry, 4326)")
    west, east, between = workspace.add_parcels([cell(2, 2), cell(50, 2), cell(27, 2)])
    scene = workspace.add_s2(where=footprint(shapely.MultiPolygon([WEST, EAST])))
    assert workspace.run("s2").code == 0
    assert {pid for pid, _ in workspace.signatures(scene)} == {west, east}
    assert between not in {pid for pid, _ in workspace.signatures(scene)}


def test_names_with_schemas_capitals_blanks_and_quotes(workspace: Workspace) -> None:
    """Names go through one quoting helper, values are parameters."""
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    tables.add_aoi(workspace.connection, "O'Brien; DROP TABLE parcels; --", footprint(ground(1000)))
    workspace.args["name"] = "O'Brien; DROP TABLE parcels; --"
    for schema in ("catalogues", "Roi 2020"):
        workspace.query(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    for table, schema, name in (
        ("dias_catalogue", "catalogues", "DIAS"),
        ("aois", "Roi 2020", 'a"ois'),
        ("parcels", "Roi 2020", 'x"; DROP TABLE aois; --'),
    ):
        workspace.query(sql.SQL("ALTER TABLE {} RENAME TO {}").format(sql.Identifier(table), sql.Identifier(name)))
        workspace.query(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(sql.Identifier(name), sql.Identifier(schema)))
    workspace.tables.update(
        {
            "catalogue_table": "catalogues.DIAS",
            "aoi_table": 'Roi 2020.a"ois',
            "parcel_table": 'Roi 2020.x"; DROP TABLE aois; --',
            "results_table": "Roi 2020.Signatures",
            "hists_table": "Roi 2020.hists",
        }
    )

    outcome = workspace.run("s2")

    assert (outcome.code, outcome.errors) == (0, [])
    assert workspace.one('SELECT status FROM catalogues."DIAS" WHERE id = %s', scene.id) == "extracted"
    assert workspace.one('SELECT count(*) FROM "Roi 2020"."Signatures"') == 9
    assert workspace.one('SELECT count(*) FROM "Roi 2020".hists') == 3
    assert workspace.query("SELECT obsid, outcome FROM catalogues.extraction_log") == [(scene.id, "extracted")]
    assert workspace.one("SELECT to_regclass('public.extraction_log') IS NULL")


def test_two_cards_side_by_side(workspace: Workspace) -> None:
    """Each script takes its own card from the one catalogue, into the one results table."""
    parcels = workspace.add_parcels(squares(4))
    scenes = [workspace.add_s2(), workspace.add_bs(), workspace.add_c6()]
    running = [workspace.start(scene.card, "--all") for scene in scenes]
    assert [one.wait().code for one in running] == [0, 0, 0]
    assert [workspace.status(scene) for scene in scenes] == ["extracted"] * 3
    assert [workspace.rows(scene) for scene in scenes] == [3 * len(parcels), 2 * len(parcels), 2 * len(parcels)]
