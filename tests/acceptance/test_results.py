"""The results table, the histograms and the log: what is written, into which tables, all or nothing."""

from __future__ import annotations

import pytest

from tests.support.ground import cell, classes, optical, red, squares
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

ORDER = ["pid", "obsid", "band", "count", "mean", "std", "min", "max", "p25", "p50", "p75"]
COLUMNS = (
    "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"
)


@pytest.mark.owner("the worker makes the tables")
def test_table_is_created_if_absent(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(16))  # three chunks of at most seven
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    columns = dict(workspace.query(COLUMNS, "signatures"))
    assert list(columns) == ORDER
    assert {columns[name] for name in ORDER[3:]} == {"real"}
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_other_order_stdev_narrow_band_and_an_extra_column(workspace: Workspace) -> None:
    workspace.query(
        "CREATE TABLE signatures (note text, p75 real, p50 real, p25 real, max real, min real, stdev real,"
        " mean real, count real, band char(2), obsid int, pid int)"
    )
    parcels = workspace.add_parcels(squares(9))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene, std="stdev"), scene.expected(parcels))
    assert workspace.query("SELECT DISTINCT note FROM signatures") == [(None,)]


def test_wider_columns_and_a_primary_key(workspace: Workspace) -> None:
    """As another published schema has it: `count int4`, `band char(3)`, a key of three columns."""
    workspace.query(
        "CREATE TABLE signatures (pid bigint, obsid bigint, band char(3), count int4, mean double precision,"
        " std double precision, min real, max real, p25 real, p50 real, p75 real, PRIMARY KEY (pid, obsid, band))"
    )
    parcels = workspace.add_parcels(squares(9))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_api_labels_in_one_table_for_all_cards(workspace: Workspace) -> None:
    workspace.extraction["band_labels"] = "api"
    workspace.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(3), count real, mean real, std real,"
        " min real, max real, p25 real, p50 real, p75 real)"
    )
    workspace.add_parcels(squares(5))
    expected = {"s2": {"B04", "B08", "SC"}, "bs": {"VVb", "VHb"}, "c6": {"VVc", "VHc"}}
    for scene in (workspace.add_s2(), workspace.add_bs(), workspace.add_c6()):
        assert workspace.run(scene.card).code == 0
        assert {band for _, band in workspace.signatures(scene)} == expected[scene.card]
        (log,) = workspace.log(scene)
        assert log["rows_written"] == dict.fromkeys(expected[scene.card], 5)


@pytest.mark.owner("the worker makes the tables")
def test_api_labels_into_a_table_created_for_them(workspace: Workspace) -> None:
    workspace.extraction["band_labels"] = "api"
    workspace.add_parcels(squares(5))
    scene = workspace.add_bs()
    assert workspace.run("bs").code == 0
    assert {band for _, band in workspace.signatures(scene)} == {"VVb", "VHb"}


def test_labels_that_do_not_fit_are_refused_at_once(workspace: Workspace) -> None:
    workspace.extraction["band_labels"] = "api"
    workspace.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, std real,"
        " min real, max real, p25 real, p50 real, p75 real)"
    )
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "band" in outcome.errors[0]
    assert workspace.status(scene) == "ingested"


def test_extracted_anew_replaces_the_old_rows(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(9))
    scene, other = workspace.add_s2("2020-04-01T10:00:31"), workspace.add_s2("2020-04-02T10:00:31")
    assert workspace.run("s2", "--all").code == 0
    untouched = workspace.signatures(other)
    # A parcel has gone since (its rows stay), one is new, and the pixels are others.
    gone = next(iter(parcels))
    kept = {key: row for key, row in workspace.signatures(scene).items() if key[0] == gone}
    workspace.query("DELETE FROM parcels WHERE ogc_fid = %s", gone)
    parcels = {pid: shape for pid, shape in parcels.items() if pid != gone}
    parcels |= workspace.add_parcels([cell(50, 50, 4, 4)])
    again = workspace.add_s2("2020-04-01T10:00:31", bands=optical(77), reference=scene.reference + "X")
    for band, key in scene.keys.items():
        workspace.write(key, workspace.read(again.keys[band]))
    workspace.query("DELETE FROM dias_catalogue WHERE id = %s", again.id)
    workspace.ingest(scene)

    assert workspace.run("s2", "--all").code == 0

    assert_same(workspace.signatures(scene), again.expected(parcels) | kept)
    assert workspace.signatures(other) == untouched
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["extracted", "extracted"]


def test_rows_that_another_program_left_are_replaced(workspace: Workspace) -> None:
    """A scene that the former scripts left half done has rows, but no line in the log."""
    workspace.tables["hists_table"] = "hists"
    parcels = workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, std real,"
        " min real, max real, p25 real, p50 real, p75 real)"
    )
    workspace.query("CREATE TABLE hists (pid int, obsid int, hist json)")
    for pid in (next(iter(parcels)), 4711):
        workspace.query("INSERT INTO signatures VALUES (%s, %s, 'B4', 1, 1, 1, 1, 1, 1, 1, 1)", pid, scene.id)
        workspace.query("INSERT INTO hists VALUES (%s, %s, '{}')", pid, scene.id)
    assert workspace.run("s2").code == 0
    # What cannot be ours (a parcel that is not selected now: another area of interest, say) stays.
    assert workspace.query("DELETE FROM signatures WHERE pid = 4711 RETURNING pid") == [(4711,)]
    assert workspace.query("DELETE FROM hists WHERE pid = 4711 RETURNING pid") == [(4711,)]
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert [pid for (pid,) in workspace.query("SELECT pid FROM hists ORDER BY pid")] == sorted(parcels)


def test_all_rows_or_none(workspace: Workspace) -> None:
    """The database refuses the very last parcel: nothing of the scene is there, and the catalogue says so."""
    pids = list(workspace.add_parcels(squares(16)))
    workspace.query(
        "CREATE TABLE signatures (pid int CHECK (pid <> %s), obsid int, band char(2), count real, mean real, std real,"
        " min real, max real, p25 real, p50 real, p75 real)",
        max(pids),
    )
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    # What is wrong with the table is so for every scene, and for the user to fix.
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert workspace.rows() == 0
    assert workspace.status(scene) == "ingested"
    assert workspace.files() == []
    (log,) = workspace.log(scene)
    assert log["outcome"] == "given_back"
    assert log["detail"] in outcome.errors[0]


def test_log_row(workspace: Workspace) -> None:
    workspace.add_parcels([*squares(8), cell(40, 2, 0.3, 0.3, inset=0)])
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    (log,) = workspace.log(scene)
    host, _, process = log["worker"].rpartition(":")
    assert host
    assert process.isdigit()
    assert log["finished_at"] >= log["started_at"]
    wanted = {
        "reference": scene.reference,
        "card": "s2",
        "aoi": "my_aoi",
        "outcome": "extracted",
        "parcels_selected": 9,
        "rows_written": {"B4": 8, "B8": 8, "SC": 8},
        "parcels_without_row": {band: {"no_pixel": 1} for band in ("B4", "B8", "SC")},
    }
    assert {name: log[name] for name in wanted} == wanted
    assert log["results"] == "public.signatures"
    assert set(log["seconds"]) >= {"download", "parcels", "statistics", "publish"}
    assert set(log["versions"]) >= {"gdal", "rasterstats"}
    assert all(log["versions"].values())


# Histograms


def histogram(scene_classes: list[int]) -> dict[str, int]:
    return {str(number): scene_classes.count(number) for number in set(scene_classes) if number != 0}


def test_histograms_of_the_scene_classes(workspace: Workspace) -> None:
    workspace.tables["hists_table"] = "hists"
    bands = {"B04": red(), "B08": red(2), "SCL": classes()}
    bands["SCL"][1, 1] = 0  # part of the first parcel
    pids = list(workspace.add_parcels([*squares(9), cell(56, 56, 4, 4), cell(40, 2, 0.3, 0.3, inset=0)]))
    scene = workspace.add_s2(bands=bands)

    assert workspace.run("s2").code == 0

    found = dict(workspace.query("SELECT pid, hist FROM hists WHERE obsid = %s", scene.id))
    # 6 x 6 pixels of 10 m are 3 x 3 of 20 m; the last two parcels hold class 0 only and no pixel at all.
    wanted = {}
    for index, pid in enumerate(pids[:9]):
        column, row = 1 + 4 * (index % 7), 1 + 4 * (index // 7)
        wanted[pid] = histogram(bands["SCL"][row : row + 3, column : column + 3].ravel().tolist())
    assert found == wanted
    assert sum(wanted[pids[0]].values()) == 8
    assert dict(workspace.query(COLUMNS, "hists")) == {"pid": "integer", "obsid": "integer", "hist": "json"}


def test_histogram_table_without_its_column(workspace: Workspace) -> None:
    workspace.tables["hists_table"] = "hists"
    workspace.query("CREATE TABLE hists (pid int, obsid int)")
    workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "hists" in outcome.errors[0]
    assert workspace.status(scene) == "ingested"


def test_histograms_are_replaced_with_the_rows(workspace: Workspace) -> None:
    workspace.tables["hists_table"] = "hists"
    workspace.add_parcels(squares(9))
    scene = workspace.add_s2()
    found = []
    for _ in range(2):
        workspace.ingest(scene)
        assert workspace.run("s2").code == 0
        found.append(workspace.query("SELECT pid, hist FROM hists ORDER BY pid"))
    assert len(found[0]) == 9
    assert all(sum(hist.values()) > 0 for _, hist in found[0])
    assert found[0] == found[1]


def test_no_histograms_unless_asked_for(workspace: Workspace) -> None:
    workspace.add_parcels(squares(2))
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert workspace.one("SELECT to_regclass('hists') IS NULL")


@pytest.mark.owner("whether the worker makes a table is the subject")
@pytest.mark.parametrize("card", ["bs", "c6"])
def test_radar_has_no_histograms(workspace: Workspace, card: str) -> None:
    workspace.tables["hists_table"] = "hists"
    workspace.add_parcels(squares(2))
    scene = workspace.add_bs() if card == "bs" else workspace.add_c6()
    assert workspace.run(card).code == 0
    assert workspace.rows(scene) == 4
    assert workspace.one("SELECT to_regclass('hists') IS NULL")
