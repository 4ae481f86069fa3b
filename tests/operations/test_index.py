"""`operations index`: makes what is lacking while others write, once, and finishes what was interrupted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.ground import squares
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace

INDEXES = """
SELECT i.indrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indexrelid
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> 'spatial_ref_sys' ORDER BY 1, 2"""


def indexes(workspace: Workspace) -> list[tuple[Any, ...]]:
    return workspace.query(INDEXES)


@pytest.fixture
def extracted(workspace: Workspace) -> Scene:
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    workspace.tables["hists_table"] = "hists"
    assert workspace.run("s2").code == 0
    return scene


def test_what_is_lacking(workspace: Workspace, extracted: Scene) -> None:
    workspace.query("DROP INDEX parcels_wkb_geometry_idx; DROP INDEX extraction_log_pauses")
    before = indexes(workspace)
    said = workspace.operate("index", "--dry-run")
    assert indexes(workspace) == before
    outcome = workspace.operate("index")
    assert outcome.code == 0, outcome.output
    assert said.stdout.replace("lacking", "made") == outcome.stdout
    made = [
        (table, text.partition(" USING ")[2])
        for table, text, _, _ in indexes(workspace)
        if (table, text) not in {row[:2] for row in before}
    ]
    assert made == [
        ("dias_catalogue", "btree (card, obstime, id) WHERE ((status)::text = 'ingested'::text)"),
        ("dias_catalogue", "btree (card, obstime, id) WHERE ((status)::text = 'inprogress'::text)"),
        ("extraction_log", "btree (retry_after) WHERE (retry_after IS NOT NULL)"),
        ("hists", "btree (pid)"),
        ("parcels", "gist (wkb_geometry)"),
        ("signatures", "btree (pid)"),
    ]
    # Without statistics, the planner may pass over an index.
    known = {table for (table,) in workspace.query("SELECT tablename::text FROM pg_stats WHERE schemaname = 'public'")}
    assert {table for table, _ in made} <= known
    after = indexes(workspace)
    assert "made" not in workspace.operate("index").stdout
    assert indexes(workspace) == after
    (advice,) = [line for line in workspace.run("s2", "--check").stdout.splitlines() if " indexes: " in line]
    assert "CREATE INDEX" not in advice


def test_one_that_was_interrupted(workspace: Workspace, extracted: Scene) -> None:
    """It is of no use, and is made anew; others' leftovers stay."""
    workspace.operate("index")
    workspace.query("CREATE INDEX theirs ON signatures (mean)")
    workspace.query(
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid IN ('theirs'::regclass, 'signatures_pid_idx'::regclass)"
    )
    before = {row[1]: row[3] for row in indexes(workspace)}
    outcome = workspace.operate("index")
    assert outcome.code == 0, outcome.output
    (line,) = [line for line in outcome.stdout.splitlines() if line.startswith("made")]
    assert "signatures: (pid)" in line
    after = {row[1]: (row[2], row[3]) for row in indexes(workspace)}
    assert after.keys() == before.keys()
    changed = {text for text, (_, number) in after.items() if before[text] != number}
    assert changed == {"CREATE INDEX signatures_pid_idx ON public.signatures USING btree (pid)"}
    assert [text for text, (valid, _) in after.items() if not valid] == [
        "CREATE INDEX theirs ON public.signatures USING btree (mean)"
    ]


def test_while_others_write(workspace: Workspace, extracted: Scene) -> None:
    """Somebody's open transaction is waited for, and keeps nobody from writing."""
    workspace.query("SET lock_timeout = '20s'")
    other = workspace.connect()
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO signatures (pid, obsid, band) VALUES (1, 77, 'B4')")
        running = workspace.start_python("-m", "operations", "index")
        workspace.query("SELECT pg_sleep(2)")
        assert running.process.poll() is None
        workspace.query("INSERT INTO signatures (pid, obsid, band) VALUES (2, 77, 'B4')")
        # Two at once would be in each other's way.
        assert workspace.operate("index").code == 75
        other.commit()
    other.close()
    assert running.wait().code == 0
    assert all(valid for _, _, valid, _ in indexes(workspace))


def test_closing_partitions(workspace: Workspace) -> None:
    """Only those whose scenes are done and to which none can come. Rows stay what they are, in another order."""
    parcels = workspace.add_parcels(squares(4))
    scenes = [workspace.add_s2(f"2020-04-{day:02}T10:00:31") for day in range(1, 9)]
    assert workspace.operate("setup", "--partitioned", "3").code == 0
    assert workspace.run("s2", "--all").code == 0
    workspace.ingest(scenes[4])
    clustered = (
        "SELECT array_agg(c.relname::text ORDER BY c.relname)"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE indisclustered"
    )
    # 1 to 2 and 6 to 8 are complete; of 3 to 5 one is to be done, and 9 to 11 is to come.
    for _ in range(2):
        assert workspace.operate("index").code == 0
        assert workspace.one(clustered) == ["signatures_0"]
    workspace.add_row("next", status="extracted")
    assert workspace.operate("index").code == 0
    assert workspace.one(clustered) == ["signatures_0", "signatures_6"]
    assert workspace.query("SELECT pid FROM ONLY signatures_6") == workspace.query(
        "SELECT pid FROM signatures_6 ORDER BY 1"
    )
    for scene in scenes:
        assert_same(workspace.signatures(scene), scene.expected(parcels))
    # A scene of a closed one can be extracted again.
    workspace.ingest(scenes[0])
    assert workspace.run("s2", "--all").code == 0
    assert_same(workspace.signatures(scenes[0]), scenes[0].expected(parcels))


def test_a_partition_that_is_being_read(workspace: Workspace) -> None:
    """It stays open until the next time: whoever waited for its reader would keep all others waiting as well."""
    workspace.add_parcels(squares(4))
    for day in range(1, 5):
        workspace.add_row(f"scene {day}", f"2020-04-{day:02}T10:00:31", status="extracted")
    assert workspace.operate("setup", "--partitioned", "3").code == 0
    workspace.query("INSERT INTO signatures (pid, obsid, band) SELECT pid, 1, 'B4' FROM generate_series(4, 1, -1) pid")
    reader = workspace.connect()
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM signatures_0")
        outcome = workspace.start_python("-m", "operations", "index").wait(60)
        assert outcome.code == 0, outcome.output
        assert "signatures_0 stays open: it is being read" in outcome.stdout
        workspace.query("SET lock_timeout = '1s'")
        assert workspace.query("SELECT pid FROM signatures_0") == [(4,), (3,), (2,), (1,)]
    reader.close()
    outcome = workspace.operate("index")
    assert "made order: of public.signatures_0" in outcome.stdout
    assert workspace.query("SELECT pid FROM signatures_0") == [(1,), (2,), (3,), (4,)]
