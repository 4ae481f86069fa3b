"""For each fault: one clear line, the right exit code, a truthful catalogue, no file, no row, no secret."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from demo.servers import S3Server
from tests.faulty_s3 import FaultyS3
from tests.support.ground import radar, red, squares
from tests.support.running import Outcome, wait_until
from tests.support.scenes import Scene
from tests.support.small_disk import SmallDisk
from tests.support.workspace import Workspace

DONE, SCENE_FAILED, FIX_IT, NOT_THERE = 0, 1, 2, 75


def assert_clean(workspace: Workspace, scene: Scene, outcome: Outcome, code: int, status: str) -> str:
    """What holds after every fault; gives back the one error line."""
    assert outcome.code == code, outcome.stderr
    assert len(outcome.errors) == 1, outcome.stderr
    assert workspace.status(scene) == status
    assert workspace.files() == []
    assert workspace.rows() == 0
    assert workspace.one("SELECT count(*) FROM dias_catalogue WHERE status = 'inprogress'") == 0
    for attempt in workspace.log(scene):
        workspace.assert_no_secret(str(attempt))
        assert attempt["finished_at"] is not None
    return outcome.errors[0]


def assert_logged(workspace: Workspace, scene: Scene, outcome: str, about: str) -> None:
    """One attempt in the log, with a reason that matches the pattern `about`."""
    (attempt,) = workspace.log(scene)
    assert attempt["outcome"] == outcome
    assert re.search(about, attempt["detail"]), attempt["detail"]


@pytest.fixture
def scene(workspace: Workspace) -> Scene:
    """A sound s2 scene over five parcels."""
    workspace.add_parcels(squares(5))
    return workspace.add_s2()


# The database and its tables


def test_database_that_is_not_there(workspace: Workspace, scene: Scene) -> None:
    workspace.db_config["database"]["connection"]["port"] = 9
    line = assert_clean(workspace, scene, workspace.run("s2"), NOT_THERE, "ingested")
    assert "127.0.0.1" in line
    assert workspace.log(scene) == []


def test_wrong_password(workspace: Workspace, scene: Scene) -> None:
    workspace.db_config["database"]["connection"]["dbpasswd"] = "certainly-not-this-one"
    outcome = workspace.run("s2")
    line = assert_clean(workspace, scene, outcome, FIX_IT, "ingested")
    assert "dbpasswd" in line
    assert "certainly-not-this-one" not in outcome.output
    assert workspace.log(scene) == []


def test_database_of_another_name(workspace: Workspace, scene: Scene) -> None:
    workspace.db_config["database"]["connection"]["dbname"] = "no_such_database"
    line = assert_clean(workspace, scene, workspace.run("s2"), FIX_IT, "ingested")
    assert "no_such_database" in line


def test_results_table_without_a_column(workspace: Workspace, scene: Scene, proxy: FaultyS3) -> None:
    workspace.s3["host"] = proxy.endpoint
    workspace.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, std real,"
        " min real, max real, p25 real, p50 real)"
    )
    line = assert_clean(workspace, scene, workspace.run("s2"), FIX_IT, "ingested")
    assert "p75" in line
    assert "signatures" in line
    assert proxy.requests == []  # said before any download


@pytest.mark.parametrize("table", ["parcels", "aois", "dias_catalogue"])
def test_missing_table(workspace: Workspace, scene: Scene, proxy: FaultyS3, table: str) -> None:
    workspace.s3["host"] = proxy.endpoint
    workspace.query(f"ALTER TABLE {table} RENAME TO elsewhere")
    outcome = workspace.run("s2")
    workspace.query(f"ALTER TABLE elsewhere RENAME TO {table}")
    line = assert_clean(workspace, scene, outcome, FIX_IT, "ingested")
    assert table in line
    assert proxy.requests == []


def test_parcel_table_without_its_key(workspace: Workspace, scene: Scene) -> None:
    workspace.query("ALTER TABLE parcels RENAME COLUMN ogc_fid TO gid")
    line = assert_clean(workspace, scene, workspace.run("s2"), FIX_IT, "ingested")
    assert "ogc_fid" in line
    assert "parcels" in line


# The store


def test_wrong_bucket(workspace: Workspace, scene: Scene) -> None:
    workspace.s3["bucket"] = "no-such-bucket"
    line = assert_clean(workspace, scene, workspace.run("s2"), FIX_IT, "ingested")
    assert "no-such-bucket" in line


@pytest.mark.parametrize("card", ["bs", "c6"])
def test_wrong_bucket_is_no_missing_object(workspace: Workspace, card: str) -> None:
    """A missing bucket answers 404 as well: that must not mark scene after scene as `notfound`."""
    workspace.add_parcels(squares(5))
    radar_scene = workspace.add_bs() if card == "bs" else workspace.add_c6()
    workspace.s3["bucket"] = "no-such-bucket"
    line = assert_clean(workspace, radar_scene, workspace.run(card), FIX_IT, "ingested")
    assert "no-such-bucket" in line


@pytest.fixture
def strict_store(store: S3Server) -> Iterator[Callable[[], None]]:
    """Call it, and from then on the S3 server checks keys; afterwards it believes everybody again."""

    def checks_keys(number: str) -> None:
        request = urllib.request.Request(
            f"{store.endpoint}/moto-api/reset-auth", number.encode(), {"Content-Type": "text/plain"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            assert answer.status == 200

    yield lambda: checks_keys("0")
    checks_keys("inf")


@pytest.mark.parametrize("card", ["s2", "bs"])
def test_wrong_keys(workspace: Workspace, strict_store: Callable[[], None], card: str) -> None:
    workspace.add_parcels(squares(5))
    one = workspace.add_s2() if card == "s2" else workspace.add_bs()
    strict_store()
    line = assert_clean(workspace, one, workspace.run(card), FIX_IT, "ingested")
    assert "access_key" in line
    assert "secret_key" in line


def test_right_keys_are_taken_by_the_same_store(
    workspace: Workspace, scene: Scene, store: S3Server, strict_store: Callable[[], None]
) -> None:
    """The control to the test before: with keys that the store knows, the scene is extracted."""
    iam = boto3.client(
        "iam",
        endpoint_url=store.endpoint,
        region_name="us-east-1",
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
    )
    iam.create_user(UserName=workspace.bucket)
    policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    iam.put_user_policy(UserName=workspace.bucket, PolicyName="s3", PolicyDocument=policy)
    key = iam.create_access_key(UserName=workspace.bucket)["AccessKey"]
    iam.close()
    workspace.s3.update({"access_key": key["AccessKeyId"], "secret_key": key["SecretAccessKey"]})
    strict_store()

    outcome = workspace.run("s2")

    assert (outcome.code, workspace.status(scene)) == (DONE, "extracted")
    assert key["SecretAccessKey"] not in outcome.output


@pytest.mark.parametrize("band", ["B04", "B08", "SCL"])
def test_missing_object(workspace: Workspace, scene: Scene, band: str) -> None:
    workspace.remove(scene.keys[band])
    line = assert_clean(workspace, scene, workspace.run("s2"), SCENE_FAILED, "notfound")
    assert_logged(workspace, scene, "notfound", band)
    assert band in line
    assert scene.reference in line
    assert str(scene.id) in line.replace(scene.reference, "")


def test_missing_product(workspace: Workspace, scene: Scene) -> None:
    for key in workspace.stored():
        workspace.remove(key)
    workspace.write("Sentinel-2/MSI/L2A/2019/01/01/another.jp2", b"")
    assert_clean(workspace, scene, workspace.run("s2"), SCENE_FAILED, "notfound")
    assert_logged(workspace, scene, "notfound", scene.reference.removesuffix(".SAFE"))


@pytest.mark.parametrize("name", ["Gamma0_VV.hdr", "Gamma0_VH.hdr", "Gamma0_VH.img"])
def test_missing_radar_file(workspace: Workspace, name: str) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_bs()
    workspace.remove(scene.keys[name])
    line = assert_clean(workspace, scene, workspace.run("bs"), SCENE_FAILED, "notfound")
    assert_logged(workspace, scene, "notfound", re.escape(name))
    assert name in line


def test_missing_coherence(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_c6()
    workspace.remove(scene.keys["tif"])
    workspace.write(scene.keys["tif"] + ".aux.xml", b"<PAMDataset/>")  # a neighbour with the same beginning
    assert_clean(workspace, scene, workspace.run("c6"), SCENE_FAILED, "notfound")
    assert_logged(workspace, scene, "notfound", re.escape(f"{scene.reference}.tif"))


# Objects that are not what they should be


@pytest.mark.parametrize(
    ("band", "left"),
    [("B04", lambda n: n // 2), ("B08", lambda n: n - 2), ("SCL", lambda n: int(n * 0.9)), ("B04", lambda n: 0)],
    ids=["half a B04", "B08 without its end marker", "90 % of SCL", "an empty B04"],
)
def test_truncated_jp2(workspace: Workspace, scene: Scene, band: str, left: Callable[[int], int]) -> None:
    """The object itself is cut short, so that its size and MD5 agree with what the store says."""
    body = workspace.read(scene.keys[band])
    workspace.write(scene.keys[band], body[: left(len(body))])
    assert_clean(workspace, scene, workspace.run("s2"), SCENE_FAILED, "failed")
    assert_logged(workspace, scene, "failed", band)


@pytest.mark.parametrize(("band", "part"), [("VV", 0.5), ("VH", 0.5), ("VV", 0.999)])
def test_truncated_img(workspace: Workspace, band: str, part: float) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_bs()
    key = scene.keys[f"Gamma0_{band}.img"]
    body = workspace.read(key)
    workspace.write(key, body[: int(len(body) * part)])
    assert_clean(workspace, scene, workspace.run("bs"), SCENE_FAILED, "failed")
    assert_logged(workspace, scene, "failed", f"Gamma0_{band}")


def test_truncated_header(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_bs()
    workspace.write(scene.keys["Gamma0_VV.hdr"], b"ENVI\nsamples = 60\n")
    assert_clean(workspace, scene, workspace.run("bs"), SCENE_FAILED, "failed")
    assert_logged(workspace, scene, "failed", "Gamma0_VV")


def test_truncated_tif(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_c6()
    body = workspace.read(scene.keys["tif"])
    workspace.write(scene.keys["tif"], body[: len(body) // 2])
    assert_clean(workspace, scene, workspace.run("c6"), SCENE_FAILED, "failed")
    assert_logged(workspace, scene, "failed", re.escape(scene.reference))


def test_text_named_jp2(workspace: Workspace, scene: Scene) -> None:
    workspace.write(scene.keys["B04"], b"Dear user, this product is being restored from tape.\n" * 40)
    assert_clean(workspace, scene, workspace.run("s2"), SCENE_FAILED, "failed")
    assert_logged(workspace, scene, "failed", "B04")


def test_virtual_raster_named_jp2(workspace: Workspace, scene: Scene, tmp_path: Path) -> None:
    """GDAL would open it and read any local file through it."""
    local = tmp_path / "private"
    local.write_bytes(b"\x01\x02" * 60 * 60)
    workspace.write(
        scene.keys["B04"],
        f"""<VRTDataset rasterXSize="60" rasterYSize="60"><SRS>EPSG:32633</SRS>
        <GeoTransform>499980, 10, 0, 5100000, 0, -10</GeoTransform>
        <VRTRasterBand dataType="UInt16" band="1" subClass="VRTRawRasterBand">
        <SourceFilename relativeToVRT="0">{local}</SourceFilename><ImageOffset>0</ImageOffset>
        <PixelOffset>2</PixelOffset><LineOffset>120</LineOffset></VRTRasterBand></VRTDataset>""".encode(),
    )
    assert_clean(workspace, scene, workspace.run("s2"), SCENE_FAILED, "failed")
    assert_logged(workspace, scene, "failed", "B04")


# The disk


@pytest.mark.parametrize("card", ["s2", "bs"])
def test_disk_full(workspace: Workspace, disk: SmallDisk, card: str) -> None:
    """There is room for the scene, but not for all of it."""
    disk.fill(but=64 * 1024)
    workspace.add_parcels(squares(5))
    shape = (240, 240)
    if card == "s2":
        bands = {"B04": red(1, shape), "B08": red(2, shape), "SCL": red(3, (120, 120)).astype("uint8")}
        big = workspace.add_s2(bands=bands)
    else:
        big = workspace.add_bs(bands=radar(1, shape))
    outcome = workspace.run(card, "--data-dir", str(disk.folder))
    line = assert_clean(workspace, big, outcome, NOT_THERE, "ingested")
    assert disk.files == []
    assert str(disk.folder) in line
    assert_logged(workspace, big, "given_back", "no room")


def test_disk_that_fills_meanwhile(workspace: Workspace, disk: SmallDisk, proxy: FaultyS3) -> None:
    """There is room when the download begins; before its end somebody else has taken it."""
    workspace.add_parcels(squares(5))
    scene = workspace.add_bs(bands=radar(1, (240, 240)))
    workspace.s3["host"] = proxy.endpoint
    proxy.spoil("Gamma0_VH.img", "stall", times=1)
    worker = workspace.start("bs", "--data-dir", str(disk.folder))
    wait_until(proxy.stalled.is_set, "the download that hangs")
    disk.fill()
    proxy.go_on.set()
    assert_clean(workspace, scene, worker.wait(), NOT_THERE, "ingested")
    assert disk.files == []
    assert_logged(workspace, scene, "given_back", "no room")


def test_data_folder_that_cannot_be_made(workspace: Workspace, scene: Scene) -> None:
    (workspace.cwd / "a file").write_text("no folder")
    outcome = workspace.run("s2", "--data-dir", "a file/data")
    line = assert_clean(workspace, scene, outcome, FIX_IT, "ingested")
    assert "a file" in line


# More than one scene, and the way it is said


def test_wrong_keys_touch_one_scene_only(workspace: Workspace, strict_store: Callable[[], None]) -> None:
    """Even with --all: what is wrong for one scene is wrong for every other."""
    workspace.add_parcels(squares(5))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2, 3)]
    strict_store()
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (FIX_IT, 1)
    assert {workspace.status(scene) for scene in scenes} == {"ingested"}
    assert [len(workspace.log(scene)) for scene in scenes[1:]] == [0, 0]


def test_traceback_only_when_asked_for(workspace: Workspace, scene: Scene) -> None:
    workspace.write(scene.keys["B04"], b"no image")
    outcome = workspace.run("s2", "-v")
    assert outcome.code == SCENE_FAILED
    assert "Traceback" in outcome.stderr
    assert outcome.stdout == ""
