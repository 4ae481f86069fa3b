"""`operations report` where tables are large, parcels are few in a large table, or configurations differ."""

from __future__ import annotations

from datetime import date, timedelta

from tests.operations.test_report import Reader
from tests.support.ground import squares
from tests.support.running import Outcome
from tests.support.workspace import Workspace


def report(workspace: Workspace, *options: str, **limits: int) -> Outcome:
    """Make `x.html` where these constants of the overview have other values."""
    program = (
        "import sys\nfrom operations import command, overview\n"
        f"assert vars(overview).keys() >= set({sorted(limits)!r})\nvars(overview).update({limits!r})\n"
        f"sys.exit(command.main({['report', '--out', 'x.html', *options]!r}))"
    )
    outcome = workspace.start_python("-c", program).wait()
    assert outcome.code == 0, outcome.output
    return outcome


def page(workspace: Workspace) -> Reader:
    return Reader(workspace.cwd / "x.html")


def is_left_out(workspace: Workspace) -> bool:
    """Whether the page says so; then it has no charts."""
    said = "no index on pid" in (workspace.cwd / "x.html").read_text()
    assert bool(page(workspace).charts) != said
    return said


def add_observed(workspace: Workspace, scenes: int) -> None:
    """Scenes that are extracted, each with a row of parcel 1."""
    for number in range(scenes):
        day = date(2020, 4, 1) + timedelta(days=5 * number)
        scene = workspace.add_row(f"S2A_MSIL2A_{day:%Y%m%d}T100031_X", f"{day}T10:00:31", status="extracted")
        for label, mean in (("B4", 400.0), ("B8", 3000.0), ("SC", 4.0)):
            workspace.query(
                "INSERT INTO signatures (pid, obsid, band, count, mean) VALUES (1, %s, %s, 9, %s)", scene, label, mean
            )


def test_open_partitions_are_not_walked_through(workspace: Workspace) -> None:
    """Closed ones have an index on the parcels, however large they are."""
    workspace.add_parcels(squares(2))
    first = workspace.add_row("not of these dates", "2019-04-01T10:00:31", status="extracted")
    assert workspace.operate("setup", "--partitioned", "3").code == 0
    add_observed(workspace, 4 - first)
    assert "made order: of public.signatures_0" in workspace.operate("index").stdout
    workspace.query("UPDATE pg_class SET reltuples = 1e8 WHERE oid = 'signatures_0'::regclass")
    report(workspace, "--parcel", "1")
    assert not is_left_out(workspace)
    for rows, left_out in (("12e6", False), ("16e6", True)):
        workspace.query(f"UPDATE pg_class SET reltuples = {rows} WHERE oid = 'signatures_3'::regclass")
        report(workspace, "--parcel", "1")
        assert is_left_out(workspace) == left_out


def test_tables_whose_rows_nobody_has_counted(workspace: Workspace) -> None:
    """Their size tells how many there may be."""
    workspace.add_parcels(squares(2))
    assert workspace.operate("setup").code == 0
    add_observed(workspace, 2)
    workspace.query("DROP INDEX IF EXISTS signatures_pid_idx")
    workspace.query("UPDATE pg_class SET reltuples = -1 WHERE oid = 'signatures'::regclass")
    report(workspace, "--parcel", "1")
    assert not is_left_out(workspace)
    report(workspace, "--parcel", "1", MOST_UNINDEXED=50)
    assert is_left_out(workspace)


def test_months_without_any_observation(workspace: Workspace) -> None:
    """Those of scenes that failed, those without a scene, and all of a CARD of which nothing came."""
    workspace.add_parcels(squares(2))
    assert workspace.operate("setup").code == 0
    add_observed(workspace, 1)
    workspace.add_row("failed", "2020-06-01T10:00:31", status="failed")
    workspace.add_row("failed, too", "2020-05-01T05:23:45", card="c6", status="failed")
    report(workspace)
    rows = page(workspace).rows
    for name, shares in (("Sentinel-2 (s2)", [50, 100, 100]), ("Coherence, 6 days (c6)", [100, 100, 100])):
        _, *months = rows[f"Completeness/{name}"]
        expected = [(f"2020-{month:02}", f"{share}%") for month, share in zip((4, 5, 6), shares, strict=True)]
        assert [(month, none) for month, _, _, none, *_ in months] == expected
    assert "Completeness/Backscatter (bs)" not in rows
    # Of a table that is not read, nothing is said.
    workspace.query("ALTER TABLE signatures RENAME TO others")
    report(workspace)
    assert not [name for name in page(workspace).rows if name.startswith("Completeness/")]


def test_a_small_area_in_a_large_table_of_parcels(workspace: Workspace) -> None:
    """Few of the pages that are looked at first hold any of its parcels."""
    workspace.add_parcels(squares(2000))
    workspace.query("ANALYZE parcels")
    workspace.query(
        "UPDATE aois SET wkb_geometry = ST_Transform(box, ST_SRID(wkb_geometry)) FROM ("
        "SELECT ST_SetSRID(ST_Extent(wkb_geometry)::geometry, %s) AS box FROM parcels WHERE ogc_fid <= 21) few",
        workspace.parcel_srid,
    )
    for limits in ({}, {"CANDIDATES": 50}):
        report(workspace, **limits)
        assert "of 21 parcels of the area, drawn at random" in (workspace.cwd / "x.html").read_text()
