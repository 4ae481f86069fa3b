"""With nothing but the two files of the design, in an empty folder: one scene per run, oldest first, then nothing."""

import pytest

from tests.support.ground import optical, squares
from tests.support.running import NOTHING_LEFT
from tests.support.workspace import Workspace


@pytest.mark.owner("the worker makes the tables")
def test_one_scene_per_run_oldest_first(workspace: Workspace) -> None:
    workspace.add_parcels(squares(10))
    youngest = workspace.add_s2("2018-06-01T10:00:31", bands=optical(1))
    second_by_id = workspace.add_s2("2018-05-01T10:00:31", bands=optical(2))
    workspace.query("UPDATE dias_catalogue SET id = 1000 WHERE id = %s", second_by_id.id)
    first_by_id = workspace.add_s2(
        "2018-05-01T10:00:31", bands=optical(3), reference=second_by_id.reference.replace("T33TWM", "T33TVM")
    )
    connection = workspace.db_config["database"]["connection"]
    workspace.db_config = {
        "database": {
            "connection": {key: connection[key] for key in ("host", "dbname", "dbuser", "dbpasswd", "port")},
            "tables": {
                "aoi_table": "aois",
                "parcel_table": "parcels",
                "results_table": "signatures",
            },
            "args": {
                "aoi_field": "aoi_name",  # as in the example; the AOI table's column is `name`
                "name": "my_aoi",
                "startdate": "2018-01-01",
                "enddate": "2019-01-01",
            },
        }
    }
    workspace.s3_config = {
        "s3": {key: workspace.s3[key] for key in ("access_key", "secret_key", "host", "bucket")},
    }

    for number in (first_by_id.id, 1000, youngest.id):
        ready = workspace.one("SELECT count(*) FROM dias_catalogue WHERE status = 'ingested'")
        outcome = workspace.run("s2")
        assert (outcome.code, outcome.errors) == (0, [])
        assert workspace.status(number) == "extracted"
        assert workspace.rows(number) == 30
        assert workspace.one("SELECT count(*) FROM dias_catalogue WHERE status = 'ingested'") == ready - 1

    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert outcome.stdout.strip() == NOTHING_LEFT
    assert workspace.files() == []


def test_standard_output_holds_nothing_but_the_message(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    assert outcome.stdout == ""
    about_the_scene = [line for line in outcome.stderr.splitlines() if scene.reference in line]
    assert about_the_scene
    assert all(str(scene.id) in line.replace(scene.reference, "") for line in about_the_scene)


def test_a_run_with_nothing_to_do_needs_no_store(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.s3["host"] = "http://127.0.0.1:9"
    outcome = workspace.run("s2")
    assert outcome.code == 0
    assert outcome.stdout.strip() == NOTHING_LEFT
