"""`python -m operations ingest`: the catalogue is filled from whatever tells of products, once for each of them."""

from __future__ import annotations

import csv
import json
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import shapely
from psycopg2 import sql
from psycopg2.errors import InsufficientPrivilege

from demo.servers import Postgis
from extractors.health import verdict
from operations.sources.products import bare
from tests.support.announced import OTHERS, PRODUCTS, Announced, sentinel_2
from tests.support.environment import ROOT, skip_unless
from tests.support.ground import squares
from tests.support.odata import Faults, ODataServer
from tests.support.roles import PASSWORD, create_role, run_psql, worker_role
from tests.support.running import Outcome, wait_until
from tests.support.stac import StacServer, missing
from tests.support.workspace import Workspace

pytestmark = pytest.mark.owner("the catalogue is filled, which workers may not")

SUMMARY = re.compile(r"(\w+): (\d+) found: (\d+) (?:would be )?new, (\d+) known, (\d+) refused, (\d+) outside")
Row = tuple[Any, ...]


@pytest.fixture
def server() -> Iterator[ODataServer]:
    with ODataServer() as made:
        made.products += [product.entry() for product in (*PRODUCTS, *OTHERS)]
        yield made


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All products as files."""
    root = tmp_path_factory.mktemp("eodata")
    for product in (*PRODUCTS, *OTHERS):
        product.write(root)
    return root


@pytest.fixture(scope="module")
def stac(postgis: Postgis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StacServer]:
    skip_unless(f"not installed: {missing()}" if missing() else "")
    with StacServer(postgis, tmp_path_factory.mktemp("stac")) as made:
        made.add([product.item() for product in (*PRODUCTS, *OTHERS) if product.card == "s2"])
        yield made


def ingest(workspace: Workspace, *options: str, code: int = 0) -> Outcome:
    """Run the command; without -v it may never show a traceback."""
    outcome = workspace.start_python("-m", "operations", "ingest", *options).wait()
    assert "Traceback" not in outcome.output
    workspace.assert_no_secret(outcome.output)
    assert outcome.code == code, outcome.output
    return outcome


def counts(outcome: Outcome) -> dict[str, dict[str, int]]:
    """What the summary says by card; it always adds up."""
    found = {}
    for card, *numbers in SUMMARY.findall(outcome.stdout):
        all_of_them, new, known, refused, outside = map(int, numbers)
        assert all_of_them == new + known + refused + outside
        found[card] = {"found": all_of_them, "new": new, "known": known, "refused": refused, "outside": outside}
    return found


def rows(workspace: Workspace) -> dict[str, Row]:
    """Reference -> (sensor, card, status, time to the second, footprint)."""
    columns = "reference, sensor, card, status, date_trunc('second', obstime), ST_AsEWKB(footprint)"
    made = workspace.query(f"SELECT {columns} FROM dias_catalogue")
    found = {row[0]: (*row[1:5], shapely.from_wkb(bytes(row[5]))) for row in made}
    assert len(found) == len(made)
    return found


def places(workspace: Workspace) -> dict[str, tuple[str | None, str]]:
    query = "SELECT reference, bucket, prefix FROM scene_source JOIN dias_catalogue ON id = obsid"
    return {reference: (bucket, prefix) for reference, bucket, prefix in workspace.query(query)}


def expected(product: Announced) -> Row:
    return (product.name[1:3], product.card, "ingested", product.moment.replace(microsecond=0))


def assert_all(workspace: Workspace, products: tuple[Announced, ...] = PRODUCTS, *, inside: bool = False) -> None:
    """The catalogue has these products, and each as its source tells. inside: footprints may be larger."""
    found = rows(workspace)
    assert found.keys() == {product.name for product in products}
    for product in products:
        *rest, outline = found[product.name]
        assert tuple(rest) == expected(product)
        assert isinstance(outline, shapely.Polygon)
        assert shapely.get_srid(outline) == 4326
        if inside and product.card != "s2":
            assert outline.buffer(1e-9).contains(product.outline)
        overlap = outline.intersection(product.outline).area / outline.union(product.outline).area
        assert overlap > 0.9


# Each source


@pytest.mark.parametrize("kind", ["bucket", "directory"])
def test_from_the_store_and_the_workers_find_what_it_has_found(workspace: Workspace, tree: Path, kind: str) -> None:
    if kind == "directory":
        workspace.s3_config["s3"] = {"directory": str(tree)}
    else:
        workspace.upload(tree)
    counted = counts(ingest(workspace, "--from", "store"))
    assert counted["s2"] == {"found": 5, "new": 4, "known": 0, "refused": 0, "outside": 1}
    assert counted["bs"] == {"found": 2, "new": 1, "known": 0, "refused": 0, "outside": 1}
    assert counted["c6"]["new"] == counted["c1"]["new"] == 1
    assert_all(workspace, inside=True)
    assert places(workspace) == {product.name: (None, product.folder + "/") for product in PRODUCTS}
    again = counts(ingest(workspace, "--from", "store"))
    assert {card: numbers["new"] for card, numbers in again.items()} == dict.fromkeys(("s2", "bs", "c6", "c1"), 0)
    workspace.add_parcels(squares(3))
    for card in ("s2", "bs", "c6", "c1"):
        workspace.tables["results_table"] = f"signatures_{card}"
        assert workspace.run(card, "--all").code == 0
    assert workspace.query("SELECT DISTINCT status FROM dias_catalogue") == [("extracted",)]


def test_from_odata_and_again(workspace: Workspace, server: ODataServer) -> None:
    workspace.s3["bucket"] = "eodata"
    outcome = ingest(workspace, "--from", "odata", "--url", server.url)
    assert sum(numbers["new"] for numbers in counts(outcome).values()) == len(PRODUCTS)
    assert_all(workspace)
    assert places(workspace) == {product.name: (None, product.folder + "/") for product in PRODUCTS}
    before = rows(workspace)
    again = counts(ingest(workspace, "--from", "odata", "--url", server.url))
    assert sum(numbers["new"] for numbers in again.values()) == 0
    assert sum(numbers["known"] for numbers in again.values()) == len(PRODUCTS)
    assert rows(workspace).keys() == before.keys()


def test_another_bucket_is_written_down(workspace: Workspace, server: ODataServer) -> None:
    ingest(workspace, "--from", "odata", "--url", server.url, "--card", "c6")
    assert [bucket for bucket, _ in places(workspace).values()] == ["eodata"]


def test_products_that_have_moved(workspace: Workspace, server: ODataServer) -> None:
    """Where they lie by now is written down, unless somebody has read them, or is just reading them."""
    workspace.s3["bucket"] = "eodata"
    asked = ("--from", "odata", "--url", server.url)
    ingest(workspace, *asked)
    before = places(workspace)
    statuses = dict(
        zip(before, ("ingested", "notfound", "failed", "extracted", "inprogress", "notfound"), strict=False)
    )
    for name, status in statuses.items():
        workspace.query("UPDATE dias_catalogue SET status = %s WHERE reference = %s", status, name)
    entries = {bare(product["Name"]): product for product in server.products}
    for name in statuses:
        entries[bare(name)]["S3Path"] = "/archive/" + before[name][1].rstrip("/")
    # Of this one, nobody knew where it was.
    unknown = list(statuses)[-1]
    workspace.query(
        "DELETE FROM scene_source WHERE obsid = (SELECT id FROM dias_catalogue WHERE reference = %s)", unknown
    )
    # What was written by hand is the same place.
    same = list(before)[-1]
    assert same not in statuses
    workspace.query(
        "UPDATE scene_source SET bucket = ' ', prefix = rtrim(prefix, '/') WHERE prefix = %s", before[same][1]
    )
    known = places(workspace)
    tried = ingest(workspace, *asked, "--dry-run")
    assert places(workspace) == known
    outcome = ingest(workspace, *asked)
    for one in (tried, outcome):
        assert sum(map(int, re.findall(r"\((\d+) of them moved\)", one.stdout))) == 4
    moved = {name for name, status in statuses.items() if status not in {"extracted", "inprogress"}}
    assert places(workspace) == known | {name: ("archive", before[name][1]) for name in moved}
    assert {name: row[2] for name, row in rows(workspace).items() if name in statuses} == statuses
    # So is the configured bucket.
    workspace.query("UPDATE scene_source SET bucket = 'eodata' WHERE bucket = ' '")
    assert "moved" not in ingest(workspace, *asked).stdout


def operate(workspace: Workspace, verb: str, *options: str) -> Outcome:
    outcome = workspace.operate(verb, *options)
    assert outcome.code == 0, outcome.output
    return outcome


def test_tables_in_partitions_get_room_for_new_scenes(workspace: Workspace, tree: Path) -> None:
    """In all tables of results, whosever configuration they are in; a worker finds room at once."""
    workspace.upload(tree)
    workspace.add_parcels(squares(3))
    for name in ("radar", "signatures"):
        workspace.tables["results_table"] = name
        operate(workspace, "setup", "--partitioned", "2")
    workspace.query("SELECT setval('dias_catalogue_id_seq', 40)")
    outcome = ingest(workspace, "--from", "store")
    assert outcome.warnings == []
    for card, name in (("s2", "signatures"), ("bs", "radar")):
        workspace.tables["results_table"] = name
        assert workspace.run(card, "--all").code == 0
        partitions = "SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass"
        bounds = workspace.query(partitions, name)
        # From the first scene that there ever was.
        assert len(bounds) == (40 + len(PRODUCTS)) // 2 + 2
        indexes = f"SELECT count(*) FROM pg_index WHERE indrelid IN ({partitions})"
        assert workspace.one(indexes, name) == len(bounds)
    before = workspace.one("SELECT count(*) FROM pg_class")
    operate(workspace, "setup")
    assert workspace.one("SELECT count(*) FROM pg_class WHERE relispartition AND relkind = 'r'") == 2 * len(bounds)
    assert workspace.one("SELECT count(*) FROM pg_class") == before


def test_numbers_of_scenes_that_leap(workspace: Workspace, tree: Path) -> None:
    """There are more partitions to be made than one transaction takes, and each new scene has one."""
    workspace.upload(tree)
    workspace.add_parcels(squares(3))
    operate(workspace, "setup", "--partitioned", "2")
    workspace.query("SELECT setval('dias_catalogue_id_seq', 300)")
    assert ingest(workspace, "--from", "store").warnings == []
    assert len(rows(workspace)) == len(PRODUCTS)
    together = "SELECT max(number) FROM (SELECT count(*) AS number FROM pg_inherits GROUP BY xmin::text) by_transaction"
    # Each has an index, which is inherited likewise.
    assert workspace.one(together) <= 200
    assert workspace.run("s2", "--all").code == 0


def test_partitions_that_ingest_may_not_make(workspace: Workspace, tree: Path, role: str) -> None:
    """It says so, and what has to be done."""
    workspace.upload(tree)
    workspace.add_parcels(squares(3))
    connection = workspace.db_config["database"]["connection"]
    limited, owner = dict(connection), workspace.postgis.connection_config(workspace.database)
    connection |= owner
    operate(workspace, "setup", "--partitioned", "2")
    connection |= limited
    (line,) = ingest(workspace, "--from", "store").warnings
    assert "signatures" in line
    assert "operations setup" in line
    connection |= owner
    operate(workspace, "setup")
    assert workspace.run("s2", "--all").code == 0


def test_partitions_in_a_schema_that_ingest_may_not_use(workspace: Workspace, tree: Path, role: str) -> None:
    """They keep no scene from being added."""
    workspace.upload(tree)
    workspace.add_parcels(squares(3))
    connection = workspace.db_config["database"]["connection"]
    limited, owner = dict(connection), workspace.postgis.connection_config(workspace.database)
    workspace.query("CREATE SCHEMA other")
    workspace.tables["results_table"] = "other.signatures"
    connection |= owner
    operate(workspace, "setup", "--partitioned", "2")
    connection |= limited
    workspace.tables["results_table"] = "signatures"
    (line,) = ingest(workspace, "--from", "store").warnings
    assert "other.signatures" in line
    assert len(rows(workspace)) == len(PRODUCTS)


def test_partitions_belong_to_whom_the_table_belongs(workspace: Workspace, tree: Path, role: str) -> None:
    """Whoever makes them, such as a superuser: the owner is to index and extend the table."""
    workspace.upload(tree)
    workspace.add_parcels(squares(3))
    connection = workspace.db_config["database"]["connection"]
    connection |= workspace.postgis.connection_config(workspace.database)
    operate(workspace, "setup", "--partitioned", "2")
    partitions = (
        "SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'signatures'::regclass"
    )
    before = workspace.one(partitions)
    workspace.query(sql.SQL("ALTER TABLE signatures OWNER TO {}").format(sql.Identifier(role)))
    assert ingest(workspace, "--from", "store").warnings == []
    added = workspace.one(f"{partitions} AND relowner = %s::regrole", role)
    assert added == workspace.one(partitions) - before > 0
    workspace.query(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(role)))


@pytest.mark.parametrize("kind", ["csv", "json lines"])
def test_from_a_file(workspace: Workspace, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "products"
    records = [{"name": p.name, "start": p.start, "footprint": p.outline.wkt} for p in (*PRODUCTS, *OTHERS)]
    with path.open("w", newline="") as file:
        if kind == "csv":
            writer = csv.DictWriter(file, ["footprint", "name", "start", "of_others"])
            writer.writeheader()
            writer.writerows(records)
        else:
            records[0]["footprint"] = json.loads(shapely.to_geojson(PRODUCTS[0].outline))
            file.write("\n".join(map(json.dumps, records)))
    counted = counts(ingest(workspace, "--from", "file", "--file", str(path)))
    assert sum(numbers["new"] for numbers in counted.values()) == len(PRODUCTS)
    assert_all(workspace)
    assert workspace.one("SELECT to_regclass('scene_source') IS NULL")


@pytest.mark.parametrize("service", ["odata", "stac"])
def test_the_sources_agree(
    workspace: Workspace, server: ODataServer, stac: StacServer, tree: Path, service: str
) -> None:
    """The store and a service bring the same rows; what one has brought, the others know."""
    workspace.upload(tree)
    cards = ("s2",) if service == "stac" else ("s2", "bs", "c6", "c1")
    url = {"stac": stac.url, "odata": server.url}
    ingest(workspace, "--from", "store")
    of_store = {reference: row for reference, row in rows(workspace).items() if row[1] in cards}
    workspace.query("DELETE FROM dias_catalogue")
    ingest(workspace, "--from", service, "--url", url[service])
    of_service = rows(workspace)
    assert of_store.keys() == of_service.keys()
    for reference, row in of_service.items():
        assert row[:-1] == of_store[reference][:-1]
        ours, theirs = of_store[reference][-1], row[-1]
        assert ours.intersection(theirs).area / ours.union(theirs).area > 0.9
        if row[1] != "s2":
            assert ours.buffer(1e-9).contains(theirs)
    for other in ("odata", "stac"):
        new = counts(ingest(workspace, "--from", other, "--url", url[other], "--card", "s2"))["s2"]["new"]
        assert new == 0


# Rows


def test_nothing_is_written_with_dry_run(workspace: Workspace, server: ODataServer) -> None:
    outcome = ingest(workspace, "--from", "odata", "--url", server.url, "--dry-run")
    assert "4 would be new" in outcome.stdout
    assert counts(outcome)["s2"]["new"] == 4
    assert rows(workspace) == {}
    assert workspace.one("SELECT to_regclass('scene_source') IS NULL")


def test_known_with_and_without_safe_and_without_a_unique_index(workspace: Workspace, server: ODataServer) -> None:
    workspace.query("ALTER TABLE dias_catalogue DROP CONSTRAINT dias_catalogue_reference_key")
    workspace.add_row(PRODUCTS[0].name.removesuffix(".SAFE"), status="extracted")
    workspace.add_row(PRODUCTS[1].name, status="failed")
    for _ in range(2):
        ingest(workspace, "--from", "odata", "--url", server.url, "--card", "s2")
        assert workspace.one("SELECT count(*) FROM dias_catalogue") == 4
    assert sorted(row[0] for row in workspace.query("SELECT status FROM dias_catalogue"))[:2] == ["extracted", "failed"]


def test_two_at_once_add_nothing_twice(workspace: Workspace, server: ODataServer) -> None:
    workspace.query("ALTER TABLE dias_catalogue DROP CONSTRAINT dias_catalogue_reference_key")
    server.products += [sentinel_2(f"2020-05-{1 + n % 28:02d}T10:{n // 28:02d}:31.024Z").entry() for n in range(1500)]
    command = ("-m", "operations", "ingest", "--from", "odata", "--url", server.url, "--card", "s2")
    outcomes = [running.wait() for running in [workspace.start_python(*command) for _ in range(3)]]
    assert [outcome.code for outcome in outcomes] == [0, 0, 0]
    assert sum(counts(outcome)["s2"]["new"] for outcome in outcomes) == 1504
    assert workspace.query("SELECT count(*), count(DISTINCT reference) FROM dias_catalogue") == [(1504, 1504)]


@pytest.mark.parametrize(
    ("column", "type_of"),
    [("footprint", "geometry(Polygon,3035) USING ST_Transform(footprint, 3035)"), ("status", "varchar(24)")],
    ids=["another SRID", "a wider status"],
)
def test_other_catalogues(workspace: Workspace, server: ODataServer, column: str, type_of: str) -> None:
    workspace.query(f"ALTER TABLE dias_catalogue ALTER COLUMN {column} TYPE {type_of}")
    workspace.query("ALTER TABLE dias_catalogue ALTER COLUMN status DROP DEFAULT")
    assert counts(ingest(workspace, "--from", "odata", "--url", server.url))["s2"]["new"] == 4
    assert workspace.query("SELECT DISTINCT status FROM dias_catalogue") == [("ingested",)]
    # Workers look at all vertices with every claim.
    assert workspace.one("SELECT max(ST_NPoints(footprint)) FROM dias_catalogue") < 300


def test_a_list_that_lies_elsewhere_is_noticed(workspace: Workspace, tmp_path: Path) -> None:
    """As when latitude and longitude are swapped: names of these products do not tell."""
    swapped = "POLYGON((45 14, 45 16, 47 16, 47 14, 45 14))"
    name = "S1B_20200407T052345__1A__20200401T052345_CARD-COH6"
    (tmp_path / "list.csv").write_text(f'name,start,footprint\n{name},2020-04-07T05:23:45Z,"{swapped}"\n')
    outcome = ingest(workspace, "--from", "file", "--file", str(tmp_path / "list.csv"))
    assert counts(outcome)["c6"]["outside"] == 1
    assert [line for line in outcome.warnings if "longitude" in line]


def test_what_the_service_has_deleted(workspace: Workspace, server: ODataServer) -> None:
    for product, status in zip(PRODUCTS[:3], ("ingested", "extracted", "inprogress"), strict=True):
        workspace.add_row(product.name, status=status)
    assert server.deleted is not None
    server.deleted += [entry | {"DeletionDate": "2021-03-01T00:00:00.000Z"} for entry in server.products[:3]]
    del server.products[:3]
    outcome = ingest(workspace, "--from", "odata", "--url", server.url, "--card", "s2")
    statuses = [workspace.one("SELECT status FROM dias_catalogue WHERE reference = %s", p.name) for p in PRODUCTS[:3]]
    assert statuses == ["superseded", "extracted", "inprogress"]
    late = next(line for line in outcome.warnings if "had begun" in line and "after" in line)
    assert PRODUCTS[1].name in late
    assert PRODUCTS[2].name in late
    assert PRODUCTS[0].name not in late


# A role of its own

INGEST_SCRIPT = ROOT / "swarm" / "ingest_role.sql"
INGEST_GRANTS = re.findall(r"^GRANT (.*?) ON (.*?) TO ", INGEST_SCRIPT.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def role(workspace: Workspace) -> Iterator[str]:
    """The user of `ingest` has the rights that swarm/ingest_role.sql gives, and no others."""
    name = f"ingest_of_{workspace.database}"
    create_role(workspace, name)
    run_psql(workspace, INGEST_SCRIPT, {"ingest": name, "aois": "aois"})
    connection = workspace.db_config["database"]["connection"]
    before = dict(connection)
    connection |= {"dbuser": name, "dbpasswd": PASSWORD}
    yield name
    connection |= before
    workspace.query(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def something_of_everything(workspace: Workspace, server: ODataServer) -> None:
    """New products, one that lies elsewhere by now, and one that the source has taken back; where they lie is told."""
    workspace.query("TRUNCATE dias_catalogue, scene_source")
    workspace.add_row(PRODUCTS[0].name)
    elsewhere = workspace.add_row(PRODUCTS[1].name)
    workspace.query("INSERT INTO scene_source VALUES (%s, NULL, 'elsewhere/')", elsewhere)
    assert server.deleted is not None
    entry = next(entry for entry in server.products if entry["Name"] == PRODUCTS[0].name)
    server.deleted.append(entry | {"DeletionDate": "2021-03-01T00:00:00.000Z"})
    server.products.remove(entry)


def test_a_role_that_may_fill_the_catalogue_and_no_more(workspace: Workspace, server: ODataServer, role: str) -> None:
    something_of_everything(workspace, server)
    ingest(workspace, "--from", "odata", "--url", server.url)
    assert len(rows(workspace)) == len(PRODUCTS)
    assert rows(workspace)[PRODUCTS[0].name][2] == "superseded"
    assert len(places(workspace)) == len(PRODUCTS) - 1
    for beyond in ("DELETE FROM dias_catalogue", "UPDATE dias_catalogue SET card = 'bs'", "SELECT 1 FROM parcels"):
        with pytest.raises(InsufficientPrivilege), closing(workspace.postgis.connect(workspace.database)) as ours:
            ours.cursor().execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            ours.cursor().execute(beyond)


@pytest.mark.parametrize(
    "number", range(len(INGEST_GRANTS)), ids=[" ".join(f"{a} ON {b}".split()) for a, b in INGEST_GRANTS]
)
def test_each_right_of_that_role_is_needed(workspace: Workspace, server: ODataServer, role: str, number: int) -> None:
    rights, where = INGEST_GRANTS[number]
    names = {
        ":catalogue": "dias_catalogue", ":places": "scene_source", ":aois": "aois", ":aoi_field": "name",
        ':"DBNAME"': workspace.database, ':"postgis"': "public", ":numbers": "dias_catalogue_id_seq",
    }  # fmt: skip
    something_of_everything(workspace, server)
    for right in re.findall(r"(\w+)(?: (\(.*?\)))?(?:,\s+|$)", rights, re.DOTALL):
        text = f"{' '.join(right)} ON {where}"
        for name, true_name in names.items():
            text = text.replace(name, true_name)
        workspace.query(sql.SQL("REVOKE " + text + " FROM {}").format(sql.Identifier(role)))
        ingest(workspace, "--from", "odata", "--url", server.url, code=2)
        workspace.query(sql.SQL("GRANT " + text + " TO {}").format(sql.Identifier(role)))
    ingest(workspace, "--from", "odata", "--url", server.url)


@pytest.mark.parametrize("maker", ["script", "setup", "ingest"])
def test_workers_that_are_there_may_read_the_table_of_places(
    workspace: Workspace, server: ODataServer, maker: str
) -> None:
    """Whoever makes it; they look into it as soon as it is there."""
    workspace.add_parcels(squares(1))
    with worker_role(workspace) as role:
        workspace.query("DROP TABLE IF EXISTS scene_source")
        if maker == "script":
            run_psql(workspace, INGEST_SCRIPT, {"ingest": role, "aois": "aois"})
        else:
            worker = workspace.db_config["database"]["connection"]
            owner = {"dbuser": workspace.postgis.user, "dbpasswd": workspace.postgis.password}
            workspace.db_config["database"]["connection"] = worker | owner
            if maker == "setup":
                assert workspace.operate("setup").code == 0
            else:
                ingest(workspace, "--from", "odata", "--url", server.url)
            workspace.db_config["database"]["connection"] = worker
        may = "SELECT has_column_privilege(%s, 'scene_source', %s, %s)"
        for column in ("obsid", "bucket", "prefix"):
            assert workspace.one(may, role, column, "SELECT")
        assert workspace.one(may, role, "prefix", "INSERT") == (maker == "script")


# What cannot be used


def test_a_watching_ingest_takes_what_comes_and_outlasts_an_outage(
    workspace: Workspace, server: ODataServer, tmp_path: Path
) -> None:
    """And it is seen to be alive as a worker is, as long as it runs."""
    late = server.products.pop(0)
    server.faults = Faults(throttled=5)
    running = workspace.start_python(
        "-m", "operations", "ingest", "--from", "odata", "--url", server.url, "--card", "s2", "--watch", "0.5",
        env={"HEALTH_FILE": str(tmp_path / "health")},
    )  # fmt: skip
    wait_until(lambda: len(rows(workspace)) == 3, "the first products")
    sessions = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%operations'"
    assert workspace.query(f"SELECT pg_terminate_backend(pid) {sessions}") == [(True,)]
    late["PublicationDate"] = "2021-02-01T00:00:00.000Z"
    server.products.append(late)
    wait_until(lambda: len(rows(workspace)) == 4, "the product that came later")
    assert verdict(str(tmp_path / "health")) is None
    assert json.loads((tmp_path / "health").read_text())["doing"] in {"pausing", "ingesting from odata"}
    running.send(signal.SIGTERM)
    outcome = running.wait()
    assert outcome.code == 128 + 15
    assert any("looking again" in line for line in outcome.warnings)
    assert verdict(str(tmp_path / "health")) is not None


def test_products_that_cannot_be_used_are_refused_with_a_reason(workspace: Workspace, server: ODataServer) -> None:
    names: dict[str, dict[str, Any]] = {
        "S2A_MSIL1C_20200401T100031_N0214_R122_T33TWM_20200401T135108.SAFE": {},
        "S2A_MSIL2A_20200402T100031_N0214_R122_T33TWM_20200402T135108.SAFE": {
            "Footprint": "geography'SRID=4326;POINT(1 2)'"
        },
        "S2A_MSIL2A_20200403T100031_N0214_R122_T33TWM_20200403T135108.SAFE": {"Footprint": None},
        "S2A_MSIL2A_20200404T100031_N0214_R122_T33TWM_20200404T135108.SAFE'; DROP TABLE aois; --": {},
        "S2A_MSIL2A_20200405T100031_N0214_R122_T33TWM_20200405T135108.SAFE\x1b[2J\n": {},
    }
    for name, wrong in names.items():
        server.products.append(PRODUCTS[0].entry() | {"Name": name, "Id": name} | wrong)
    outcome = ingest(workspace, "--from", "odata", "--url", server.url, "--card", "s2")
    assert counts(outcome)["s2"] == {"found": 9, "new": 4, "known": 0, "refused": 5, "outside": 0}
    assert "\x1b" not in outcome.output
    assert_all(workspace, tuple(product for product in PRODUCTS if product.card == "s2"))
    assert any("POLYGON" in line for line in outcome.warnings)


def test_a_list_of_which_nothing_can_be_used(workspace: Workspace) -> None:
    """That is no success, until one line of it can be used; one that has nothing in it is."""
    path = workspace.cwd / "list.csv"
    path.write_text("name,start,footprint\n")
    ingest(workspace, "--from", "file", "--file", "list.csv")
    good = PRODUCTS[0]
    path.write_text(f'name,start,footprint\n,2020-04-01,POINT\n{good.name},2020-04-01,"POINT(1 2)"\n')
    for options in ((), ("--dry-run",), ("--card", "s2")):
        outcome = ingest(workspace, "--from", "file", "--file", "list.csv", *options, code=1)
        assert counts(outcome)["s2"] == {"found": 1, "new": 0, "known": 0, "refused": 1, "outside": 0}
        (error,) = outcome.errors
        assert "refused" in error
    with path.open("a") as file:
        file.write(f'{PRODUCTS[1].name},2020-04-01,"{good.outline.wkt}"\n')
    ingest(workspace, "--from", "file", "--file", "list.csv")
    assert rows(workspace).keys() == {PRODUCTS[1].name}


def test_a_watching_ingest_goes_on_after_a_list_of_which_nothing_can_be_used(workspace: Workspace) -> None:
    """And says so; what is put right is found the next time."""
    path = workspace.cwd / "list.csv"
    path.write_text("name,start,footprint\n,2020-04-01,POINT\n")
    running = workspace.start_python(
        "-m", "operations", "ingest", "--from", "file", "--file", "list.csv", "--watch", "0.5"
    )
    wait_until(lambda: "looking again" in running.stderr, "the first look")
    path.write_text(f'name,start,footprint\n{PRODUCTS[0].name},2020-04-01,"{PRODUCTS[0].outline.wkt}"\n')
    wait_until(lambda: len(rows(workspace)) == 1, "the line that can be used")
    running.send(signal.SIGTERM)
    assert running.wait().code == 128 + 15


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--from", "file"], "--file"),
        (["--from", "store", "--url", "https://host/"], "--url"),
        (["--from", "odata", "--url", "https://user:canary@host/"], "--url"),
        (["--from", "stac", "--card", "bs"], "--card"),
        (["--from", "file", "--file", "absent.csv"], "absent.csv"),
    ],
)
def test_options_that_cannot_be(workspace: Workspace, options: list[str], word: str) -> None:
    outcome = ingest(workspace, *options, code=2)
    (error,) = outcome.errors
    assert word in error
    assert "canary" not in outcome.output


def test_a_file_that_is_no_list_of_products(workspace: Workspace) -> None:
    workspace.cwd.joinpath("list.csv").write_text("identifier,footprint\nx,y\n")
    (error,) = ingest(workspace, "--from", "file", "--file", "list.csv", code=2).errors
    assert "name, start" in error


def test_a_service_that_gives_less_than_it_says(workspace: Workspace, server: ODataServer) -> None:
    server.faults = Faults(counts_more=1)
    outcome = ingest(workspace, "--from", "odata", "--url", server.url, "--card", "c6", code=75)
    (error,) = outcome.errors
    assert "gives" in error
    assert counts(outcome) == {}
