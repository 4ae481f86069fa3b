"""Field cases of the store, with the real worker: whose fault it is, what it costs, and stores as they are."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from demo.products import envi_header
from tests.faulty_s3 import FaultyS3
from tests.support.certificates import Authority
from tests.support.environment import ROOT
from tests.support.ground import GRID, SHAPE, squares
from tests.support.radosgw import RadosGateway
from tests.support.running import wait_until
from tests.support.scenes import Scene, assert_same
from tests.support.scripted import Answer, Scripted
from tests.support.tls_proxy import TlsProxy
from tests.support.workspace import Workspace

MANY_ATTEMPTS = 5
DEADLINE_SECONDS = 8
"""Enough for a worker to load its libraries on a busy machine."""
# As of a worker that is at some scene.
SLOT = "SELECT pg_advisory_lock(1128418561, 999999), pg_advisory_lock(1128418562, 0)"


@pytest.fixture
def tls_proxy(workspace: Workspace, authority: Authority) -> Iterator[TlsProxy]:
    """TLS in front of the store, which the worker trusts."""
    with TlsProxy(workspace.store.endpoint, authority.certify("127.0.0.1")) as proxy:
        workspace.s3.update({"host": proxy.endpoint, "ca_file": str(authority.ca_file)})
        yield proxy


def add_scene(workspace: Workspace, card: str = "s2") -> Scene:
    workspace.add_parcels(squares(5))
    return {"s2": workspace.add_s2, "bs": workspace.add_bs, "c6": workspace.add_c6}[card]()


def assert_extracted(workspace: Workspace, scene: Scene) -> None:
    """All signatures, at the first attempt."""
    pids = [pid for (pid,) in workspace.query("SELECT ogc_fid FROM parcels ORDER BY 1")]
    assert_same(workspace.signatures(scene), scene.expected(dict(zip(pids, squares(5), strict=True))))
    assert [(attempt["outcome"], attempt["attempt"]) for attempt in workspace.log(scene)] == [("extracted", 1)]
    assert workspace.files() == []


def assert_given_back(workspace: Workspace, *scenes: Scene) -> None:
    """As if nothing had been."""
    for scene in scenes:
        assert workspace.status(scene) == "ingested"
        assert {(attempt["outcome"], attempt["attempt"]) for attempt in workspace.log(scene)} <= {("given_back", 1)}
    assert workspace.rows() == 0
    assert workspace.files() == []


# 6 and 7: TLS


def test_flipped_bits_do_not_count_against_the_scene(workspace: Workspace, tls_proxy: TlsProxy) -> None:
    """Nine bodies with a record whose checksum does not fit: three of each file, as pauses grow."""
    scene = add_scene(workspace)
    workspace.s3["retry_seconds"] = 120
    for name in ("B04", "B08", "SCL"):
        tls_proxy.spoil("flip", times=3, key=name)
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert tls_proxy.done("flip") == 9
    assert_extracted(workspace, scene)


def test_flipped_bits_for_longer_are_an_outage(workspace: Workspace, tls_proxy: TlsProxy) -> None:
    scene = add_scene(workspace)
    tls_proxy.spoil("flip", key="B04")
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert_given_back(workspace, scene)


@pytest.mark.parametrize("fault", ["eof", "alert"])
def test_handshakes_that_fail_are_tried_again(workspace: Workspace, tls_proxy: TlsProxy, fault: str) -> None:
    scene = add_scene(workspace)
    workspace.s3["retry_seconds"] = 20
    tls_proxy.spoil(fault, times=5)  # type: ignore[arg-type]
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_extracted(workspace, scene)


@pytest.mark.parametrize("fault", ["eof", "alert"])
def test_handshakes_that_always_fail_are_an_outage(workspace: Workspace, tls_proxy: TlsProxy, fault: str) -> None:
    scene = add_scene(workspace)
    tls_proxy.spoil(fault)  # type: ignore[arg-type]
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert_given_back(workspace, scene)


def test_a_certificate_that_nobody_vouches_for(workspace: Workspace, tls_proxy: TlsProxy) -> None:
    scene = add_scene(workspace)
    del workspace.s3["ca_file"]
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "s3_config.json: s3.ca_file" in outcome.errors[0]
    assert_given_back(workspace, scene)


# 8: an outage's time


@pytest.fixture
def slow(workspace: Workspace, proxy: FaultyS3) -> FaultyS3:
    """The store would be asked again for much longer than the deadline."""
    workspace.s3.update({"host": proxy.endpoint, "retry_seconds": 1000})
    workspace.extraction["deadline_seconds"] = DEADLINE_SECONDS
    return proxy


def test_a_download_that_trickles_is_an_outage(workspace: Workspace, slow: FaultyS3) -> None:
    """Two bytes a second, for ever: no time limit of a socket is reached."""
    scene = add_scene(workspace)
    slow.spoil("_B04_", "trickle")
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert "has not delivered" in outcome.errors[0]
    assert_given_back(workspace, scene)
    slow.heal()
    assert workspace.run("s2").code == 0


def test_a_store_that_is_busy_for_longer_than_the_deadline_is_an_outage(workspace: Workspace, slow: FaultyS3) -> None:
    scene = add_scene(workspace)
    slow.spoil("_B04_", "503")
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert_given_back(workspace, scene)


def test_a_listing_for_longer_than_the_deadline_is_an_outage(workspace: Workspace, slow: FaultyS3) -> None:
    scene = add_scene(workspace)
    workspace.s3["retry_seconds"] = DEADLINE_SECONDS + 2
    slow.spoil("list-type", "503")
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert_given_back(workspace, scene)


def test_a_download_may_take_as_long_as_the_computing(workspace: Workspace, slow: FaultyS3) -> None:
    """Both together take longer than the deadline."""
    scene = add_scene(workspace)
    slow.spoil("_B04_", "stall", times=1)
    at_work = workspace.folder / "at work"
    failpoint = {"EXTRACTION_FAILPOINT": "chunk_computed=touch", "EXTRACTION_FAILPOINT_FILE": str(at_work)}
    worker = workspace.start("s2", env=failpoint)
    assert slow.stalled.wait(60)
    time.sleep(6)
    slow.go_on.set()
    wait_until(at_work.exists, "a worker that computes")
    time.sleep(6)
    at_work.unlink()
    outcome = worker.wait()
    assert (outcome.code, outcome.errors) == (0, [])
    assert_extracted(workspace, scene)


def test_waiting_for_a_download_slot_is_outside_the_deadline(workspace: Workspace) -> None:
    scene = add_scene(workspace)
    workspace.s3["fleet_downloads"] = 1
    workspace.extraction["deadline_seconds"] = 5
    other = workspace.connect()
    other.cursor().execute(SLOT)
    worker = workspace.start("s2")
    wait_until(lambda: "waiting for one of 1 download slots" in worker.stderr, "a worker that waits for its slot")
    time.sleep(6)
    other.close()
    outcome = worker.wait()
    assert (outcome.code, outcome.errors) == (0, [])
    assert_extracted(workspace, scene)


# 9: what cannot pass is tried once


def test_an_etag_that_is_no_md5(workspace: Workspace, proxy: FaultyS3) -> None:
    scene = add_scene(workspace)
    workspace.s3["host"] = proxy.endpoint
    workspace.extraction.update({"max_attempts": MANY_ATTEMPTS, "retry_pause_seconds": 0})
    proxy.etag = "0" * 32
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "s3.etag_is_md5 to false in s3_config.json" in outcome.errors[0]
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["failed"]
    assert most_downloads(proxy) == 2
    assert workspace.rows() == 0

    workspace.s3["etag_is_md5"] = False
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    assert workspace.status(scene) == "extracted"


def most_downloads(proxy: FaultyS3) -> int:
    """How often the object was downloaded that was downloaded most often."""
    return max(Counter(request.target for request in proxy.requests if "?" not in request.target).values())


def without_crs(workspace: Workspace, scene: Scene) -> None:
    header = envi_header("Gamma0_VV", SHAPE, GRID)
    kept = [line for line in header.splitlines() if not line.startswith(("map info", "coordinate system"))]
    workspace.write(scene.keys["Gamma0_VV.hdr"], "\n".join(kept).encode())


def of_another_format(workspace: Workspace, scene: Scene) -> None:
    workspace.write(scene.keys["B04"], geotiff(1, GRID.epsg))


def not_georeferenced(workspace: Workspace, scene: Scene) -> None:
    workspace.write(scene.keys["tif"], geotiff(2, None))


def geotiff(bands: int, crs: int | None) -> bytes:
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=bands, dtype="float32",
            crs=None if crs is None else CRS.from_epsg(crs), transform=GRID.transform,
        ) as file:  # fmt: skip
            for number in range(1, bands + 1):
                file.write(np.ones(SHAPE, dtype="float32"), number)
                file.set_band_description(number, f"coh_{('VH', 'VV')[number - 1]}_01Apr2020")
        return bytes(memory.read())


Spoil = Callable[[Workspace, Scene], None]
SPOILT: list[tuple[str, Spoil]] = [("bs", without_crs), ("c6", not_georeferenced), ("s2", of_another_format)]


@pytest.mark.parametrize(("card", "spoil"), SPOILT, ids=lambda value: getattr(value, "__name__", value))
def test_content_that_cannot_be_used_is_tried_once(
    workspace: Workspace, proxy: FaultyS3, card: str, spoil: Spoil
) -> None:
    """Size and checksum agree: another download brings the same."""
    scene = add_scene(workspace, card)
    spoil(workspace, scene)
    workspace.s3["host"] = proxy.endpoint
    workspace.extraction.update({"max_attempts": MANY_ATTEMPTS, "retry_pause_seconds": 0})
    outcome = workspace.run(card, "--all")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert workspace.status(scene) == "failed"
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["failed"]
    assert most_downloads(proxy) == 1


@pytest.mark.parametrize(("card", "spoil"), SPOILT, ids=lambda value: getattr(value, "__name__", value))
def test_content_that_may_have_been_damaged_on_its_way_is_tried_again(
    workspace: Workspace, card: str, spoil: Spoil
) -> None:
    """Without a checksum, over plain HTTP."""
    scene = add_scene(workspace, card)
    spoil(workspace, scene)
    workspace.s3["etag_is_md5"] = False
    workspace.extraction.update({"max_attempts": 2, "retry_pause_seconds": 0})
    assert workspace.run(card, "--all").code == 1
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["error", "failed"]


# 4: nothing there


def test_a_bucket_of_others(workspace: Workspace) -> None:
    """No scene becomes `notfound` because of it."""
    scenes = [workspace.add_s2(f"2020-04-{day:02}T10:00:31") for day in range(1, 5)]
    workspace.add_parcels(squares(5))
    for key in workspace.stored():
        workspace.remove(key)
    workspace.write("photos/holiday.jpg", b"1")
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "s3_config.json: s3.bucket" in outcome.errors[0]
    assert "holds nothing under Sentinel-2/" in outcome.errors[0]
    assert_given_back(workspace, *scenes)


# 14: stores as they are


def test_a_store_that_sends_us_on(workspace: Workspace) -> None:
    scene = add_scene(workspace)
    with Scripted(lambda _: Answer(b"", 301, {"Location": "https://elsewhere.example/DIAS"})) as server:
        workspace.s3["host"] = server.endpoint
        outcome = workspace.run("s2")
        assert len(server.asked) == 1
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "https://elsewhere.example/DIAS" in outcome.errors[0]
    assert_given_back(workspace, scene)


def directory_of(workspace: Workspace) -> Path:
    """All that is in the bucket, as a directory, which the configuration names."""
    root = workspace.folder / "eodata"
    for key in workspace.stored():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(workspace.read(key))
    workspace.s3_config["s3"] = {"directory": str(root)}
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_a_directory_is_read_in_place(workspace: Workspace, card: str) -> None:
    scene = add_scene(workspace, card)
    root = directory_of(workspace)
    before = contents(root)
    outcome = workspace.run(card)
    assert (outcome.code, outcome.errors) == (0, [])
    assert_extracted(workspace, scene)
    assert contents(root) == before


def test_a_directory_in_which_nothing_is_mounted(workspace: Workspace) -> None:
    scene = add_scene(workspace)
    root = directory_of(workspace)
    shutil.rmtree(root)
    root.mkdir()
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "s3_config.json: s3.directory" in outcome.errors[0]
    assert_given_back(workspace, scene)


def test_a_file_in_a_directory_that_is_still_being_written(workspace: Workspace) -> None:
    """Half of it is there at the first attempt, all of it at the second."""
    scene = add_scene(workspace)
    root = directory_of(workspace)
    file = root / scene.keys["B04"]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    workspace.extraction.update({"max_attempts": MANY_ATTEMPTS, "retry_pause_seconds": 0})
    assert workspace.run("s2").code == 1
    assert workspace.status(scene) == "ingested"
    file.write_bytes(whole)
    assert workspace.run("s2").code == 0
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["error", "extracted"]


def test_a_directory_and_a_host(workspace: Workspace) -> None:
    workspace.s3["directory"] = "/eodata"
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "s3.directory" in outcome.errors[0]
    assert "host, bucket" in outcome.errors[0]


def test_people_look_into_a_directory_as_into_a_bucket(workspace: Workspace) -> None:
    workspace.write("p/a.img", b"12345")
    root = directory_of(workspace)
    command = str(ROOT / "download_with_boto3.py")
    listed = workspace.start_python(command, "list", "p/").wait()
    assert (listed.code, listed.stdout) == (0, "            5  p/a.img\n")
    assert workspace.start_python(command, "get", "p/a.img").wait().code == 0
    copy = workspace.cwd / "a.img"
    assert not copy.is_symlink()
    assert copy.read_bytes() == b"12345"
    assert contents(root) == {"p/a.img": b"12345"}


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_the_bucket_of_a_tenant_of_cephs(workspace: Workspace, gateway: RadosGateway, card: str) -> None:
    """Which anybody may read; once with keys of another tenant's, once without any."""
    scene = add_scene(workspace, card)
    owner, name = gateway.user(f"owner-{card}", f"proj{card}"), "eodata"
    client = gateway.bucket(owner, name, public=True)
    for key in workspace.stored():
        client.put_object(Bucket=name, Key=key, Body=workspace.read(key))
    reader = None if card == "s2" else gateway.user(f"reader-{card}")
    workspace.s3_config["s3"] = gateway.settings(reader, f"proj{card}:{name}")
    outcome = workspace.run(card)
    assert (outcome.code, outcome.errors) == (0, [])
    assert_extracted(workspace, scene)
