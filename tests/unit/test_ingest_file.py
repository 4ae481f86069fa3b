"""A file as a source: lines that can be used, and those that cannot, with their numbers."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from extractors.errors import ConfigurationError
from operations.sources.file import FileSource
from operations.sources.products import CARDS, Batch, Question, zone_of

NAME = "S2A_MSIL2A_20200401T100031_N0214_R122_T33TWM_20200401T135108"
C6 = "S1B_20200407T052345__1A__20200401T052345_CARD-COH6"
OUTLINE = "POLYGON((14 45, 16 45, 16 47, 14 47, 14 45))"


def read(path: Path, text: str | bytes, *cards: str) -> Batch:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    asked = [CARDS[code] for code in cards or CARDS]
    whole = Batch()
    for batch in FileSource(path).batches(Question(asked, dt.datetime.min, dt.datetime.max, [], lambda _: set())):
        whole.found += batch.found
        whole.refused += batch.refused
        whole.share += batch.share
    return whole


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        ("2020-04-01T10:00:31", "2020-04-01T10:00:31"),
        ("2020-04-01 10:00:31.024Z", "2020-04-01T10:00:31.024"),
        ("2020-04-01T12:00:31.024999+02:00", "2020-04-01T10:00:31.024"),
        ("2020-04-01", "2020-04-01T00:00:00"),
    ],
)
def test_times_are_utc(tmp_path: Path, start: str, wanted: str) -> None:
    (found,) = read(tmp_path / "list", json.dumps({"name": NAME, "start": start, "footprint": OUTLINE})).found
    assert found.reference == NAME + ".SAFE"
    assert found.obstime == dt.datetime.fromisoformat(wanted)


def test_lines_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    good = {"name": NAME, "start": "2020-04-01", "footprint": OUTLINE}
    lines = [json.dumps(good), "{", "[1]", "", json.dumps(good | {"name": 7}), json.dumps(good | {"start": None})]
    lines += [json.dumps(good | {"footprint": {"type": "Point"}}), json.dumps(good | {"name": "../etc"}), "{" * 20_000]
    batch = read(tmp_path / "list", "\n".join(lines))
    assert len(batch.found) == 1
    assert [refused.name for refused in batch.refused] == [
        "line 2", "line 3", "line 5", NAME + ".SAFE", NAME + ".SAFE", "../etc", "line 9",
    ]  # fmt: skip


def test_a_table_with_a_mark_of_order_quotes_and_more_columns(tmp_path: Path) -> None:
    text = f'\ufefffootprint,cloud,name,start\r\n"{OUTLINE}",7,{C6},2020-04-07T05:23:45Z\r\n,,{NAME},2020-04-01\r\n'
    batch = read(tmp_path / "list", text)
    assert [found.reference for found in batch.found] == [C6]
    assert [refused.reason for refused in batch.refused] == ["its outline is missing"]
    assert batch.share == pytest.approx(1, abs=0.5)


def test_swapped_coordinates_are_noticed(tmp_path: Path) -> None:
    """By the tile in the name: of a swapped outline, nobody would see why it does not meet the area."""
    swapped = "POLYGON((45 14, 45 16, 47 16, 47 14, 45 14))"
    batch = read(tmp_path / "list", f'name,start,footprint\n{NAME},2020-04-01,"{swapped}"\n')
    assert not batch.found
    assert "longitude comes first" in batch.refused[0].reason


def test_zones_are_made_once() -> None:
    """That took as long as all the rest of a line."""
    zones = [zone_of(name) for name in (NAME, NAME.replace("2020", "2021"), NAME.replace("T33TWM", "T34TWM"))]
    assert zones[0] is zones[1]
    assert zones[2] not in (None, zones[0])


def test_quotes_that_are_lacking(tmp_path: Path) -> None:
    batch = read(tmp_path / "list", f"name,start,footprint\n{NAME},2020-04-01,{OUTLINE}\n")
    assert (batch.refused[0].name, "quotes" in batch.refused[0].reason) == ("line 2", True)
    rest = f'{NAME},2020-04-01,"{OUTLINE}"\n' * 3
    for open_still in (f'"{NAME},2020-04-01,{OUTLINE}\n', f'{NAME},"2020-04-01,{OUTLINE}\n'):
        with pytest.raises(ConfigurationError, match="line"):
            read(tmp_path / "list", f"name,start,footprint\n{open_still}{rest}")


def test_other_cards_are_left_out(tmp_path: Path) -> None:
    text = f'name,start,footprint\n{C6},2020-04-07,"{OUTLINE}"\n{NAME},2020-04-01,"{OUTLINE}"\n'
    assert [found.card for found in read(tmp_path / "list", text, "s2").found] == ["s2"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"name,start\n", b"a;b\n"])
def test_files_that_are_no_lists(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError, match="list"):
        read(tmp_path / "list", content)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        list(FileSource(tmp_path).batches(Question([], dt.datetime.min, dt.datetime.max, [], lambda _: set())))
