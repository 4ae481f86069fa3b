"""Views of the results: what stands in them, that an index serves them, who may open them, whose names they take."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from psycopg2 import sql

from tests.support.environment import skip_unless
from tests.support.ground import optical, squares
from tests.support.running import Outcome
from tests.support.workspace import Workspace

CLOUDS = {3, 8, 9, 10, 11}
S2 = "S2{}_MSIL2A_{}_N0214_R022_T33TVM_{}"
BS = "S1{}_IW_GRDH_1SDV_{}_{}_{:06d}_0289E6_{}_CARD_BS"


def setup(workspace: Workspace, *options: str) -> Outcome:
    outcome = workspace.operate("setup", *options)
    assert outcome.code == 0, outcome.output
    return outcome


def columns(workspace: Workspace, view: str) -> list[str]:
    found = workspace.query(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum", view
    )
    return [name for (name,) in found]


def add_rows(workspace: Workspace, scene: int, rows: Sequence[tuple[int, str, float, float]]) -> None:
    """Rows of a scene: parcel, label, pixels, mean."""
    for pid, label, count, mean in rows:
        workspace.query(
            "INSERT INTO signatures (pid, obsid, band, count, mean) VALUES (%s, %s, %s, %s, %s)",
            pid, scene, label, count, mean,
        )  # fmt: skip


def observed(workspace: Workspace, pid: int = 1) -> list[int]:
    """The scenes that stand for the passes over a parcel."""
    found = workspace.query("SELECT obsid FROM signatures_observations WHERE pid = %s ORDER BY obsid", pid)
    return [obsid for (obsid,) in found]


@pytest.mark.filterwarnings("ignore:pandas only supports SQLAlchemy")
def test_side_by_side(workspace: Workspace) -> None:
    """What a worker wrote, compared with the same made of its rows by pandas."""
    workspace.add_parcels(squares(9))
    workspace.tables["hists_table"] = "hists"
    setup(workspace)
    scenes = [workspace.add_s2(), workspace.add_s2("2020-04-06T10:00:31", bands=optical(2))]
    assert workspace.run("s2", "--all").code == 0
    workspace.query("UPDATE hists SET hist = %s WHERE pid = (SELECT min(pid) FROM hists)", '{"4": 9}')  # no cloud
    with workspace.connect() as connection:
        rows = pd.read_sql("SELECT pid, obsid, trim(band) AS band, count, mean FROM signatures", connection)
        wide = pd.read_sql("SELECT * FROM signatures_wide ORDER BY pid, obsid", connection)
        hists = {(pid, obsid): hist for pid, obsid, hist in workspace.query("SELECT * FROM hists")}
    expected = rows.pivot(index=["pid", "obsid"], columns="band", values="mean").sort_index()
    assert len(wide) == len(expected) == 18
    for label in ("B4", "B8", "SC"):
        assert wide[label].tolist() == expected[label].tolist()
    assert wide["valid_pixels"].tolist() == rows[rows.band == "B4"].sort_values(["pid", "obsid"])["count"].tolist()
    assert wide["key"].tolist() == [pid * 2**32 + obsid for pid, obsid in expected.index]
    assert set(zip(wide["obsid"], wide["reference"], strict=True)) == {(one.id, one.reference) for one in scenes}
    for row in wide.itertuples():
        hist = {int(name): number for name, number in hists[row.pid, row.obsid].items() if name != "0"}
        share = sum(number for name, number in hist.items() if name in CLOUDS) / sum(hist.values())
        assert row.cloud_share == pytest.approx(share)
    assert 0 < wide["cloud_share"].mean() < 1
    assert wide["valid_share"].isna().all()


def test_clear_pixels_have_views_of_their_own(workspace: Workspace) -> None:
    workspace.add_parcels(squares(9))
    workspace.tables.update(hists_table="hists", clear_results_table="clear")
    setup(workspace)
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert workspace.rows(scene, "clear") > 0
    rows = workspace.query("SELECT pid, mean, count FROM clear WHERE band = 'B4' ORDER BY pid")
    for view in ("clear_wide", "clear_observations"):
        query = sql.SQL('SELECT pid, "B4", valid_pixels FROM {} ORDER BY pid').format(sql.Identifier(view))
        assert workspace.query(query) == rows
        # Classes have no clear pixels.
        assert "SC" in columns(workspace, view.replace("clear", "signatures"))
        assert "SC" not in columns(workspace, view)
    shares = "SELECT pid, cloud_share FROM {} WHERE pid IN (SELECT pid FROM clear) ORDER BY pid"
    assert workspace.query(shares.format("clear_wide")) == workspace.query(shares.format("signatures_wide"))


def test_the_share_of_pixels_that_count(workspace: Workspace) -> None:
    """Where all pixels of a parcel are in a column `pixels`."""
    workspace.add_parcels(squares(1))
    setup(workspace)
    scene = workspace.add_row("a scene", card="s2")
    add_rows(workspace, scene, [(1, "B4", 30, 5.0), (1, "B8", 15, 7.0)])
    workspace.query("ALTER TABLE signatures ADD COLUMN pixels real")
    workspace.query("UPDATE signatures SET pixels = 60")
    setup(workspace)
    assert workspace.query('SELECT valid_share, "B8" FROM signatures_wide') == [(pytest.approx(45 / 120), 7.0)]


def test_keys_are_unique_or_none(workspace: Workspace) -> None:
    """Whatever the numbers are: those of large parcels would wrap, and those of negative scenes be the parcel's."""
    parcels, scenes = (7, 8, 2**31 - 1, 2**31, 2**32 + 7, -5), (1, -3)
    workspace.add_parcels(squares(1))
    setup(workspace)
    workspace.query("DROP VIEW signatures_observations, signatures_wide")
    workspace.query("ALTER TABLE signatures ALTER pid TYPE bigint")
    workspace.query("UPDATE dias_catalogue SET id = %s WHERE id = %s", scenes[1], workspace.add_row("of others"))
    workspace.query("UPDATE dias_catalogue SET id = %s WHERE id = %s", scenes[0], workspace.add_row("a scene"))
    for scene in scenes:
        add_rows(workspace, scene, [(pid, "B4", 9, 1.0) for pid in parcels])
    setup(workspace)
    found = {(pid, obsid): key for pid, obsid, key in workspace.query("SELECT pid, obsid, key FROM signatures_wide")}
    assert found.keys() == {(pid, scene) for pid in parcels for scene in scenes}
    for (pid, scene), key in found.items():
        assert key == (pid * 2**32 + scene % 2**32 if 0 <= pid < 2**31 else None)
    keys = [key for key in found.values() if key is not None]
    assert len(set(keys)) == len(keys) == 6


def test_one_scene_of_each_pass(workspace: Workspace) -> None:
    workspace.add_parcels(squares(2))
    setup(workspace)
    start, later = "20200401T100031", "20200401T101031"
    add = workspace.add_row
    # Two tiles of one datatake, and the same made anew: most pixels, then the lowest number.
    first = [add(S2.format("A", start, f"{end:04d}"), "2020-04-01T10:00:31") for end in range(4)]
    for scene, count in zip(first, (10, 30, 30, None), strict=True):
        rows = [(1, "SC", 99, 4.0)] if count is None else [(1, "B4", count, 1.0), (1, "SC", 99, 4.0)]
        add_rows(workspace, scene, rows)
    # Another platform at the same time; another datatake within two minutes.
    others = [
        add(S2.format("B", start, "x"), "2020-04-01T10:00:31"),
        add(S2.format("A", later, "x"), "2020-04-01T10:02:00"),
    ]
    for scene in others:
        add_rows(workspace, scene, [(1, "B4", 1, 1.0)])
    # Backscatter: one absolute orbit, however long it takes; then another one, and another platform.
    orbits = [
        add(BS.format(platform, f"20200401T05{minute:02d}45", f"20200401T05{minute:02d}59", orbit, minute),
            f"2020-04-01T05:{minute:02d}:45", card="bs")
        for platform, minute, orbit in (("A", 10, 7), ("A", 19, 7), ("A", 20, 8), ("B", 20, 8))
    ]  # fmt: skip
    for scene, count in zip(orbits, (5, 6, 1, 1), strict=True):
        add_rows(workspace, scene, [(1, "VV", count, 1.0), (1, "VH", 100 - count, 1.0)])
    # Coherence: what follows within two minutes; in all longer than that.
    times = ("05:00:00", "05:01:59", "05:03:59", "05:06:00")
    coherence = [add(f"coherence {time}", f"2020-04-01T{time}", card="c6") for time in times]
    for scene, count in zip(coherence, (5, 4, 6, 1), strict=True):
        add_rows(workspace, scene, [(1, "VV", count, 1.0)])
    # Another parcel has passes of its own.
    add_rows(workspace, first[0], [(2, "B4", 1, 1.0)])
    assert observed(workspace) == sorted(
        [first[1], *others, orbits[1], orbits[2], orbits[3], coherence[2], coherence[3]]
    )
    assert observed(workspace, 2) == [first[0]]
    assert columns(workspace, "signatures_observations") == columns(workspace, "signatures_wide")


@pytest.mark.parametrize("view", ["signatures_wide", "signatures_observations"])
def test_an_index_serves_a_parcel(view: str, workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    workspace.tables["hists_table"] = "hists"
    setup(workspace)
    workspace.query(
        "INSERT INTO signatures (pid, obsid, band) "
        "SELECT pid, scene, 'B4' FROM generate_series(1, 3000) pid, generate_series(1, 20) scene"
    )
    workspace.query("INSERT INTO hists (pid, obsid, hist) SELECT pid, obsid, '{}' FROM signatures")
    for table in ("signatures", "hists"):
        workspace.query(f"CREATE INDEX {table}_pid ON {table} (pid)")
        workspace.query(f"ANALYZE {table}")
    plan = workspace.one(sql.SQL("EXPLAIN (FORMAT JSON) SELECT * FROM {} WHERE pid = 77").format(sql.Identifier(view)))
    scans = {
        node["Relation Name"]: node.get("Index Name") or node["Plans"][0]["Index Name"]
        for node in nodes(plan[0]["Plan"])
        if node.get("Relation Name") in {"signatures", "hists"}
    }
    assert scans == {"signatures": "signatures_pid", "hists": "hists_pid"}, json.dumps(plan)


def nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for part in node.get("Plans", ()) for below in nodes(part))]


def test_gdal_opens_them(workspace: Workspace) -> None:
    """As QGIS does: with GDAL's driver for PostgreSQL, which the wheels of Python do not have."""
    program = shutil.which("ogrinfo")
    skip_unless("" if program else "not installed: gdal-bin")
    assert program
    workspace.add_parcels(squares(2))
    setup(workspace)
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    source = f"PG:{workspace.connection.dsn} password={workspace.postgis.password}"
    for view, expected in (("signatures_wide", 2), ("signatures_observations", 2), ("extraction_progress", 1)):
        asked = subprocess.run(
            [program, "-ro", "-so", source, view], capture_output=True, text=True, check=False, timeout=60
        )
        assert f"Feature Count: {expected}" in asked.stdout, asked.stdout + asked.stderr
        listed = {line.partition(":")[0] for line in asked.stdout.splitlines()}
        assert set(columns(workspace, view)) <= listed, asked.stdout


def test_progress_by_month(workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    workspace.add_row("one", "2020-04-30T23:59:59", status="extracted")
    workspace.add_row("two", "2020-04-01", status="failed")
    workspace.add_row("three", "2020-05-01", status="Obsolete")
    workspace.add_row("four", "2020-05-01", card="bs")
    setup(workspace)
    found = workspace.query("SELECT * FROM extraction_progress ORDER BY key")
    counted = [dict(zip(columns(workspace, "extraction_progress"), row, strict=True)) for row in found]
    assert [{name: value for name, value in one.items() if value != 0} for one in counted] == [
        {"key": 1, "card": "bs", "month": pd.Timestamp("2020-05-01").date(), "scenes": 1, "ingested": 1},
        {"key": 2, "card": "s2", "month": pd.Timestamp("2020-04-01").date(), "scenes": 2, "extracted": 1, "failed": 1},
        {"key": 3, "card": "s2", "month": pd.Timestamp("2020-05-01").date(), "scenes": 1, "others": 1},
    ]


def test_new_labels_make_them_anew(workspace: Workspace) -> None:
    """Those of the configuration, those that the log knows, and those that look like other columns."""
    workspace.add_parcels(squares(1))
    setup(workspace)
    assert "B12" not in columns(workspace, "signatures_wide")
    workspace.extraction["s2"] = {"bands": {"B04": "pid", "B08": "B12"}}
    again = setup(workspace)
    assert "made views: " in again.stdout
    assert {"pid_mean", "B12"} < set(columns(workspace, "signatures_wide"))
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    del workspace.extraction["s2"]
    setup(workspace)
    assert {"B4", "pid_mean", "B12"} < set(columns(workspace, "signatures_wide"))
    assert workspace.one("SELECT pid_mean IS NOT NULL FROM signatures_wide")


def test_what_others_made_stays(workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    workspace.query("CREATE VIEW signatures_wide AS SELECT 1 AS mine")
    workspace.query("CREATE TABLE extraction_progress (mine integer)")
    setup(workspace)
    assert columns(workspace, "signatures_wide") == columns(workspace, "extraction_progress") == ["mine"]
    assert "key" in columns(workspace, "signatures_observations")


def test_what_others_made_of_them_stays(workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    setup(workspace)
    workspace.query("CREATE VIEW theirs AS SELECT pid FROM signatures_wide")
    workspace.extraction["s2"] = {"bands": ["B04", "B12"]}
    again = setup(workspace)
    assert "lacking view: " in again.stdout
    assert "theirs" in again.stdout
    assert "B12" not in columns(workspace, "signatures_wide")
    assert "B12" in columns(workspace, "signatures_observations")


def test_a_name_that_is_too_long(workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    workspace.tables["results_table"] = "r" * 55
    asked = setup(workspace)
    assert "lacking view: " in asked.stdout
    assert columns(workspace, f"{'r' * 55}_wide")
