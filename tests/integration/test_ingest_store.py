"""The store as a source: what its folders and the heads of its files tell."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from demo.metadata import metadata
from demo.servers import S3Server
from extractors.config import Directory, Store
from extractors.errors import ConfigurationError
from extractors.model import StoredObject
from extractors.products.directory import DirectoryStore
from extractors.products.source import Source
from extractors.products.store import open_source
from operations.sources import store as sources
from operations.sources.outlines import OutlineError
from operations.sources.products import CARDS, Batch, Box, Question
from operations.sources.store import StoreSource, read_metadata
from tests.support.announced import OTHERS, PRODUCTS, Announced
from tests.support.bucket import Bucket
from tests.support.ground import GRID

START, END = dt.datetime(2020, 1, 1), dt.datetime(2021, 1, 1)
BOX = (14.9, 45.9, 15.1, 46.1)
BY_CARD = {product.card: product for product in reversed(PRODUCTS)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "eodata"
    for kind in ("Sentinel-1", "Sentinel-2"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "others").write_bytes(b"of others")
    return folder


@pytest.fixture(params=["bucket", "directory"])
def opened(request: pytest.FixtureRequest, root: Path, store: S3Server) -> Iterator[Source]:
    """Either kind of store, with what is in the folder when the test asks for it."""
    for product in (BY_CARD["c6"], PRODUCTS[0]):
        product.write(root)
    if request.param == "directory":
        yield open_source(Directory(directory=str(root), retry_seconds=0))
        return
    bucket = Bucket(store, f"b{root.parent.name.replace('_', '')[-30:]}".lower())
    bucket.upload(root)
    settings = {"access_key": "k", "secret_key": "s", "host": store.endpoint, "bucket": bucket.bucket}
    yield open_source(Store.model_validate(settings | {"retry_seconds": 0}))
    bucket.drop_bucket()


def ask(root: Path, *cards: str, known: Collection[str] = (), boxes: Collection[Box] = (BOX,)) -> Batch:
    """All batches in one."""
    source = StoreSource(Directory(directory=str(root), retry_seconds=0), "s3_config.json")
    asked = Question([CARDS[code] for code in cards], START, END, list(boxes), lambda names: set(known) & set(names))
    whole = Batch()
    for batch in source.batches(asked):
        whole.found += batch.found
        whole.refused += batch.refused
        whole.known += batch.known
        whole.elsewhere += batch.elsewhere
        whole.share += batch.share
    assert whole.share == pytest.approx(1)
    return whole


# What stores can be asked


def test_folders_and_pieces_of_objects(opened: Source) -> None:
    assert opened.list_folders("") == ["Sentinel-1", "Sentinel-2"]
    assert opened.list_folders("Sentinel-2/MSI/L2A/2020/") == ["04"]
    assert opened.list_folders("Sentinel-3/") == []
    assert opened.list_folders("Sentinel-1/SAR/CARD-COH6/2020/04/07/") == [BY_CARD["c6"].name]
    (item,) = opened.list_objects("Sentinel-1/others")
    assert opened.read(item, 0, 100) == b"of others"
    assert opened.read(item, 3, 4) == b"othe"
    assert opened.read(item, 7, 100) == b"rs"
    assert opened.read(item, 9, 100) == b""


def test_many_folders(root: Path, store: S3Server) -> None:
    """More than one page of them."""
    bucket = Bucket(store, f"many{root.parent.name.replace('_', '')[-30:]}".lower())
    for number in range(1100):
        bucket.write(f"day/{number:04d}/a", b"")
    settings = {"access_key": "k", "secret_key": "s", "host": store.endpoint, "bucket": bucket.bucket}
    assert len(open_source(Store.model_validate(settings)).list_folders("day/")) == 1100
    bucket.drop_bucket()


# Outlines


@pytest.mark.parametrize("card", ["s2", "bs", "c6", "c1"])
def test_only_the_heads_of_files_are_read(root: Path, card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int]] = []
    product = BY_CARD[card]
    product.write(root)
    before = type(open_source(Directory(directory=str(root)))).read

    def counted(self: Source, item: StoredObject, start: int, length: int) -> bytes:
        content: bytes = before(self, item, start, length)
        read.append((item.file_name, len(content)))
        return content

    monkeypatch.setattr("extractors.products.directory.DirectoryStore.read", counted)
    (found,) = ask(root, card).found
    assert found.reference == product.name
    assert sum(size for _, size in read) <= 3 * sources.HEADER_BYTES
    assert not any(name.endswith((".img", ".jp2")) for name, _ in read)


def test_a_directory_at_the_end_of_a_tiff(root: Path) -> None:
    """As it is after somebody has changed it, far from the beginning."""
    product = BY_CARD["c6"]
    product.write(root)
    (path,) = root.rglob("*.tif")
    noise = np.random.default_rng(1).uniform(0, 1, (2, 600, 600)).astype("float32")
    with rasterio.open(path) as small:
        profile = small.profile | {"height": 600, "width": 600}
    with rasterio.open(path, "w", **profile) as large:
        large.write(noise)
    with rasterio.open(path, "r+") as changed:
        changed.update_tags(note="x" * 40_000)
    content = path.read_bytes()
    assert len(content) > 1_000_000
    assert int.from_bytes(content[4:8], "little") > len(content) - 100_000
    (found,) = ask(root, "c6").found
    west, _, east, _ = found.outline.bounds
    assert east - west > 5 * (product.outline.bounds[2] - product.outline.bounds[0])


@pytest.mark.parametrize(
    ("form", "late"),
    [
        ({}, False),
        ({"tiled": True, "blockxsize": 128, "blockysize": 128}, False),
        ({"BIGTIFF": "YES"}, False),
        ({"compress": "deflate"}, True),
    ],
    ids=["in strips", "in small tiles", "BigTIFF", "its directory at the end"],
)
def test_a_tiff_of_real_size(root: Path, form: dict[str, Any], late: bool) -> None:
    """Lists of its strips or tiles lie before what says where it is, and are longer than one piece that is read."""
    product = BY_CARD["c6"]
    product.write(root)
    (path,) = root.rglob("*.tif")
    with rasterio.open(path) as small:
        profile = {key: small.profile[key] for key in ("driver", "dtype", "count", "crs", "transform")}
    path.unlink()
    with rasterio.open(path, "w", **profile, height=14_300, width=11_300, SPARSE_OK=True, **form) as large:
        large.update_tags(note="x" * 100_000)
    if late:
        with rasterio.open(path, "r+") as changed:
            changed.update_tags(note="x" * 150_000)
    with rasterio.open(path) as whole:
        wanted = sources._outline_of(path, "GTiff", "")
        assert whole.shape == (14_300, 11_300)
    read: list[tuple[int, int]] = []
    before = DirectoryStore.read

    def counted(self: DirectoryStore, item: StoredObject, start: int, length: int) -> bytes:
        content = before(self, item, start, length)
        read.append((start, len(content)))
        return content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DirectoryStore, "read", counted)
        (found,) = ask(root, "c6").found
    assert found.outline.equals(wanted)
    assert sum(size for _, size in read) <= 4 * sources.HEADER_BYTES
    assert len({start for start, _ in read}) == len(read)


def test_what_lies_in_another_zone_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product = PRODUCTS[0]
    Announced("s2", product.name.replace("T33TWM", "T54SUE"), product.start).write(root)
    product.write(root)
    asked: list[str] = []
    listing = Source.list_product

    def noted(self: Source, prefix: str) -> list[StoredObject]:
        asked.append(prefix)
        return listing(self, prefix)

    monkeypatch.setattr(Source, "list_product", noted)
    batch = ask(root, "s2")
    assert [found.reference for found in batch.found] == [product.name]
    assert len(batch.elsewhere) == 1
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("tile", "box", "may"),
    [
        ("T33TWM", BOX, True),
        ("T33TWM", (11.9, 45.9, 11.95, 46.1), True),
        ("T33TWM", (-70.0, 45.9, -60.0, 46.1), False),
        ("T33TWM", (14.9, -46.1, 15.1, -45.9), False),
        ("T01WCP", (179.0, 65.0, 180.0, 66.0), True),
        ("T60WWT", (-180.0, 65.0, -179.0, 66.0), True),
        ("T32VKM", (4.0, 58.0, 5.0, 59.0), True),
        ("T31XEG", (15.0, 78.0, 16.0, 79.0), True),
    ],
)
def test_zones(tile: str, box: Box, may: bool) -> None:
    assert sources._may_meet(PRODUCTS[0].name.replace("T33TWM", tile), [box]) is may


def test_what_is_known_is_not_looked_at(root: Path) -> None:
    for product in PRODUCTS[:2]:
        product.write(root)
    name = PRODUCTS[0].name
    batch = ask(root, "s2", known=[name.removesuffix(".SAFE")])
    assert batch.known == [("s2", name)]
    assert [found.reference for found in batch.found] == [PRODUCTS[1].name]


def test_days_beyond_the_dates_are_not_looked_at(root: Path) -> None:
    OTHERS[2].write(root)
    batch = ask(root, "s2")
    assert not (batch.found or batch.refused or batch.known or batch.elsewhere)


# What cannot be used


@pytest.mark.parametrize(
    ("card", "ending", "content", "reason"),
    [
        ("s2", "MTD_MSIL2A.xml", b"<a>", "is no XML"),
        ("s2", "MTD_MSIL2A.xml", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "document type"),
        ("s2", "MTD_MSIL2A.xml", metadata(), "no list of positions"),
        ("s2", "MTD_MSIL2A.xml", metadata(start="yesterday", outline=[(14, 45), (15, 45), (15, 46)]), "start of"),
        ("s2", "MTD_MSIL2A.xml", metadata(outline=[(14, 45), (15, 45), (15, 246)]), "no degrees"),
        ("bs", ".hdr", b"ENVI\nnothing", "cannot be read"),
        ("bs", ".hdr", None, "there is no Gamma0_"),
        ("c6", ".tif", b"no tiff", "cannot be read"),
        ("c6", ".tif", b"", "cannot be read"),
        ("c6", ".tif", b"II\x2b\x00\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\x7f", "cannot be read"),
        ("c1", ".tif", None, "has no"),
    ],
)
def test_products_that_are_broken(root: Path, card: str, ending: str, content: bytes | None, reason: str) -> None:
    product = BY_CARD[card]
    product.write(root)
    for path in root.rglob(f"*{ending}"):
        path.unlink()
        (path.with_name("other") if content is None else path).write_bytes(content or b"")
    (refused,) = ask(root, card).refused
    assert (refused.card, refused.name) == (card, product.name)
    assert reason in refused.reason


def test_a_header_without_a_place(root: Path) -> None:
    product = BY_CARD["bs"]
    product.write(root)
    for path in root.rglob("*.hdr"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith(("map info", "coordinate"))]
        path.write_text("\n".join(lines))
    (refused,) = ask(root, "bs").refused
    assert "does not say where" in refused.reason


def test_folders_that_are_no_products(root: Path) -> None:
    product = PRODUCTS[0]
    product.write(root)
    (root / product.folder).with_name("S2A_MSIL1C_20200401T100031_N0209_R122_T33TWM_20200401T1.SAFE").mkdir()
    (root / product.folder).with_name("$(reboot)").mkdir()
    batch = ask(root, "s2")
    assert [refused.reason for refused in batch.refused] == ["is not the name of a product of card s2"] * 2
    assert len(batch.found) == 1


def test_an_empty_store_is_the_wrong_one(root: Path) -> None:
    (root / "Sentinel-1" / "others").unlink()
    with pytest.raises(ConfigurationError, match="Sentinel-1"):
        ask(root, "bs")


def test_a_store_of_one_satellite(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What it has is taken; that the rest is not there is said once."""
    PRODUCTS[0].write(root)
    (root / "Sentinel-1" / "others").unlink()
    source = StoreSource(Directory(directory=str(root), retry_seconds=0), "s3_config.json")
    for _ in range(2):
        batches = list(source.batches(Question(list(CARDS.values()), START, END, [BOX], lambda _: set())))
        assert [found.reference for batch in batches for found in batch.found] == [PRODUCTS[0].name]
        assert sum(batch.share for batch in batches) == pytest.approx(1)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "Sentinel-1/" in line
    (root / "Sentinel-2" / "others").unlink()
    shutil.rmtree(root / "Sentinel-2" / "MSI")
    with pytest.raises(ConfigurationError, match="Sentinel-"):
        ask(root, *CARDS)


def test_positions_are_latitude_and_longitude() -> None:
    start, outline = read_metadata(metadata(outline=[(14, 45), (16, 45), (16, 46), (14, 46), (14, 45)]))
    assert start == "2020-04-01T10:00:31.024Z"
    assert outline.bounds == (14, 45, 16, 46)
    with pytest.raises(OutlineError):
        read_metadata(b"")
    assert GRID.epsg == 32633
