"""A directory as the store: the same keys, read in place; nothing in it is changed, copied or removed."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extractors.config import Directory
from extractors.errors import (
    ConfigurationError,
    DeliveryError,
    ObjectNotFoundError,
    StoreUnavailableError,
    UnusableSceneError,
)
from extractors.model import StoredObject
from extractors.products.directory import DirectoryStore
from extractors.products.store import open_source
from tests.integration.stores import Bucket

KEYS = ["p/B.img", "p/a b+c.img", "p/a/c.img", "p/ü/ß.img", "p.txt", "q/d.img"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "eodata"
    for key in KEYS:
        (made / key).parent.mkdir(parents=True, exist_ok=True)
        (made / key).write_text(key)
    return made


def store_at(root: Path | str, **changes: Any) -> DirectoryStore:
    settings = Directory.model_validate({"directory": str(root), "retry_seconds": 0} | changes)
    store = open_source(settings)
    assert isinstance(store, DirectoryStore)
    return store


def all_in(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_it_lists_what_a_bucket_with_the_same_keys_lists(root: Path, bucket: Bucket) -> None:
    for key in KEYS:
        bucket.put(key, key.encode())
    (root / "p" / "empty").mkdir()
    for prefix in ("", "p", "p/", "p/a", "p/a/", "p/a/c.img", "p/a/c.img/", "r/", "r/s/t"):
        listed = store_at(root).list_objects(prefix)
        assert [(item.key, item.size) for item in listed] == [
            (item.key, item.size) for item in bucket.store().list_objects(prefix)
        ], prefix


def test_files_are_read_in_place(root: Path, folder: Path) -> None:
    before = all_in(root)
    store = store_at(root)
    arrived: list[str] = []
    items = store.find_all(["p/a/c.img", "p/B.img"], "p/")
    store.download({folder / item.file_name: item for item in items}, arrived=lambda path: arrived.append(path.name))
    assert arrived == ["B.img", "c.img"]
    assert all_in(folder) == {"B.img": "p/B.img", "c.img": "p/a/c.img"}
    assert all(path.is_symlink() for path in folder.iterdir())
    shutil.rmtree(folder)
    assert all_in(root) == before


def test_a_directory_that_is_named_from_here(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    store = store_at("eodata")
    (item,) = store.list_objects("q/")
    store.download({folder / "d.img": item})
    monkeypatch.chdir("/")
    assert (folder / "d.img").read_text() == "q/d.img"


def test_links_are_followed(root: Path, tmp_path: Path) -> None:
    """As people mount some years here and others there."""
    (tmp_path / "elsewhere" / "one").mkdir(parents=True)
    (tmp_path / "elsewhere" / "one" / "e.img").write_text("e")
    (root / "r").symlink_to(tmp_path / "elsewhere")
    (root / "q" / "broken.img").symlink_to(tmp_path / "nowhere")
    (root / "q" / "loop").symlink_to(root / "q")
    store = store_at(root)
    assert [item.key for item in store.list_objects("r/")] == ["r/one/e.img"]
    assert store.list_objects("q/")[0].key == "q/d.img"


def test_what_is_missing(root: Path, folder: Path) -> None:
    store = store_at(root)
    with pytest.raises(ObjectNotFoundError, match=rf"^directory {root} has no e\.img under q/$"):
        store.find_all(["q/e.img"], "q/")
    with pytest.raises(ObjectNotFoundError, match=rf"^directory {root} has nothing under r/$"):
        store.find_all(["r/e.img"], "r/")
    assert store.list_objects(f"p/{'x' * 300}/") == []
    items = {folder / item.file_name: item for item in store.list_objects("q/")}
    (root / "q" / "d.img").unlink()
    with pytest.raises(
        ObjectNotFoundError, match=rf"^the file is not in directory {root} \(while looking for q/d\.img"
    ):
        store.download(items)


def test_a_file_that_is_still_being_written(root: Path, folder: Path) -> None:
    """Another attempt may find it whole; and errors in it may be those of a file that is not."""
    store = store_at(root)
    (item,) = store.list_objects("q/")
    (root / "q" / "d.img").write_text("more")
    with pytest.raises(DeliveryError, match="4 bytes now, 7 when it was listed"):
        store.download({folder / "d.img": item})
    assert not store.is_exact(item)


def test_a_product_has_an_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.products.source.MOST_OBJECTS_OF_A_PRODUCT", 3)
    with pytest.raises(UnusableSceneError, match="more than 3 objects under p/"):
        store_at(root).list_product("p/")
    assert len(store_at(root).list_product("q/")) == 1


# Is it mounted?


@pytest.mark.parametrize("name", ["nowhere", "eodata/p.txt"])
def test_no_directory(name: str, root: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^s3_config\.json: s3\.directory: .* is no directory; mount it"):
        store_at(root.parent / name)


def test_a_directory_in_which_nothing_is_mounted(root: Path, tmp_path: Path) -> None:
    (root / "Sentinel-2" / "MSI").mkdir(parents=True)
    store_at(root).check("p/")
    with pytest.raises(ConfigurationError) as caught:
        store_at(root).check("Sentinel-2/")
    assert str(caught.value) == (
        f"s3_config.json: s3.directory: directory {root} holds nothing under Sentinel-2/; see whether it is the right "
        "one"
    )


def test_a_mount_that_is_broken_is_an_outage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(root)
    scandir, failures = os.scandir, iter([True, True, False])

    def broken(path: Any) -> Iterator[Any]:
        if next(failures, False):
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(StoreUnavailableError, match=r"cannot be read while listing q/ .*Transport endpoint"):
        store.list_objects("q/")
    assert [item.key for item in store_at(root, retry_seconds=60).list_objects("q/")] == ["q/d.img"]


def test_a_mount_that_does_not_answer_is_an_outage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.products.source.LONGEST_ANSWER_SECONDS", 0.2)
    store = store_at(root)
    hung, release = os.scandir, threading.Event()

    def hangs(path: Any) -> Any:
        release.wait(30)
        return hung(path)

    monkeypatch.setattr(os, "scandir", hangs)
    with pytest.raises(StoreUnavailableError, match="does not answer while listing q/"):
        store.list_objects("q/")
    release.set()


def test_a_file_that_cannot_be_read_is_no_broken_file(root: Path) -> None:
    """Asked after an error in the content: reading /proc/self/mem from its beginning is an input/output error."""
    store = store_at(root)
    (item,) = store.list_objects("q/")
    store.confirm([item])
    (root / "q" / "mem").symlink_to("/proc/self/mem")
    with pytest.raises(StoreUnavailableError, match=r"while reading q/mem .*Input/output error"):
        store.confirm([item, StoredObject("q/mem", 0, "")])
