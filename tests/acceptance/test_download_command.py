"""`download_with_boto3.py list PREFIX` and `... get KEY [FILE]`, for people."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.faulty_s3 import FaultyS3
from tests.support.environment import ROOT
from tests.support.running import Outcome, Running, wait_until
from tests.support.workspace import Workspace

BODY = bytes(range(256)) * 400
KEY = "Sentinel-2/MSI/L2A/2020/04/01/one/B04.jp2"


@pytest.fixture(autouse=True)
def objects(workspace: Workspace, proxy: FaultyS3) -> None:
    workspace.write(KEY, BODY)
    workspace.write("Sentinel-2/MSI/L2A/2020/04/01/one/B08.jp2", BODY[:7])
    workspace.write("Sentinel-2/MSI/L2A/2020/04/01/two words/ü.jp2", b"")
    workspace.write("Sentinel-1/else", b"1")
    workspace.s3["host"] = proxy.endpoint


def start(workspace: Workspace, *arguments: str) -> Running:
    (workspace.cwd / "db_config.json").unlink(missing_ok=True)  # the command has no use for it
    return workspace.start_python(str(ROOT / "download_with_boto3.py"), *arguments)


def run(workspace: Workspace, *arguments: str) -> Outcome:
    outcome = start(workspace, *arguments).wait()
    assert "Traceback" not in outcome.output
    workspace.assert_no_secret(outcome.output)
    return outcome


def names(workspace: Workspace) -> set[str]:
    """What is in the working directory besides the configuration."""
    return {path.name for path in workspace.cwd.iterdir()} - {"s3_config.json", "db_config.json"}


def test_list(workspace: Workspace) -> None:
    outcome = run(workspace, "list", "Sentinel-2/MSI/L2A/2020/04/01/")
    assert outcome.code == 0
    lines = [line.split(maxsplit=1) for line in outcome.stdout.splitlines()]
    assert lines == [
        [str(len(BODY)), KEY],
        ["7", "Sentinel-2/MSI/L2A/2020/04/01/one/B08.jp2"],
        ["0", "Sentinel-2/MSI/L2A/2020/04/01/two words/ü.jp2"],
    ]


def test_list_more_than_one_page(workspace: Workspace, proxy: FaultyS3) -> None:
    proxy.page_size = 2
    for number in range(7):
        workspace.write(f"many/{number}", b"")
    outcome = run(workspace, "list", "many/")
    assert [line.split()[1] for line in outcome.stdout.splitlines()] == [f"many/{number}" for number in range(7)]
    assert proxy.asked_for("list-type") == 4


def test_list_nothing(workspace: Workspace) -> None:
    outcome = run(workspace, "list", "Sentinel-3/")
    assert (outcome.code, outcome.stdout) == (0, "")


def test_get(workspace: Workspace) -> None:
    outcome = run(workspace, "get", KEY)
    assert (outcome.code, outcome.errors) == (0, [])
    assert (workspace.cwd / "B04.jp2").read_bytes() == BODY
    assert names(workspace) == {"B04.jp2"}


def test_get_under_another_name(workspace: Workspace, tmp_path: Path) -> None:
    target = tmp_path / "some file"
    target.write_bytes(b"an older one")
    assert run(workspace, "get", KEY, str(target)).code == 0
    assert target.read_bytes() == BODY
    assert names(workspace) == set()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("some")] == ["some file"]


def test_a_pipe_or_device_is_not_replaced(workspace: Workspace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    outcome = run(workspace, "get", KEY, str(tmp_path / "pipe"))
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert (tmp_path / "pipe").is_fifo()


def test_another_configuration(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write_config()
    (workspace.cwd / "s3_config.json").rename(tmp_path / "mine.json")
    arguments = ("--s3-config", str(tmp_path / "mine.json"), "get", KEY)
    outcome = workspace.start_python(str(ROOT / "download_with_boto3.py"), *arguments, configure=False).wait()
    assert outcome.code == 0
    assert (workspace.cwd / "B04.jp2").read_bytes() == BODY


def test_missing_key(workspace: Workspace) -> None:
    outcome = run(workspace, "get", "Sentinel-2/none.jp2")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert "Sentinel-2/none.jp2" in outcome.errors[0]
    assert names(workspace) == set()


def test_missing_bucket(workspace: Workspace) -> None:
    workspace.s3["bucket"] = "no-such-bucket"
    for arguments in (("get", KEY), ("list", "S")):
        outcome = run(workspace, *arguments)
        assert (outcome.code, len(outcome.errors)) == (2, 1)
        assert "no-such-bucket" in outcome.errors[0]
    assert names(workspace) == set()


def test_store_that_is_down(workspace: Workspace, proxy: FaultyS3) -> None:
    proxy.refuse()
    outcome = run(workspace, "get", KEY)
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert names(workspace) == set()


def test_configuration_that_is_missing(workspace: Workspace) -> None:
    outcome = workspace.start_python(str(ROOT / "download_with_boto3.py"), "list", "S", configure=False).wait()
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "s3_config.json" in outcome.errors[0]


def test_wrong_bytes_never_get_the_final_name(workspace: Workspace, proxy: FaultyS3) -> None:
    """What was there before is still there, and nothing lies beside it."""
    (workspace.cwd / "B04.jp2").write_bytes(b"an older one")
    proxy.spoil("B04", "wrong")
    outcome = run(workspace, "get", KEY)
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert KEY in outcome.errors[0]
    assert (workspace.cwd / "B04.jp2").read_bytes() == b"an older one"
    assert names(workspace) == {"B04.jp2"}


def test_body_that_is_always_cut(workspace: Workspace, proxy: FaultyS3) -> None:
    proxy.spoil("B04", "cut")
    outcome = run(workspace, "get", KEY)
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert KEY in outcome.errors[0]
    assert names(workspace) == set()


def test_body_that_is_cut_once(workspace: Workspace, proxy: FaultyS3) -> None:
    workspace.s3["retry_seconds"] = 60
    proxy.spoil("B04", "cut", times=1)
    assert run(workspace, "get", KEY).code == 0
    assert (workspace.cwd / "B04.jp2").read_bytes() == BODY


def test_killed_half_way(workspace: Workspace, proxy: FaultyS3) -> None:
    """Under the final name there is the whole file or none, even after a kill."""
    proxy.spoil("B04", "stall")
    command = start(workspace, "get", KEY)
    wait_until(proxy.stalled.is_set, "the download that hangs")
    assert not (workspace.cwd / "B04.jp2").exists()
    command.kill()
    assert not (workspace.cwd / "B04.jp2").exists()


def test_large_object_in_parts(workspace: Workspace) -> None:
    """Beyond 8 MiB boto3 fetches in parts; the whole is the same, byte by byte."""
    body = hashlib.sha256(b"seed").digest() * (1 << 19)  # 16 MiB
    workspace.write("large", body)
    assert run(workspace, "get", "large").code == 0
    assert (workspace.cwd / "large").read_bytes() == body
