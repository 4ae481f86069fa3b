"""What came of a scene's parcels: for each band, parcels selected = rows written + parcels without a row."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import numpy as np

from extractors.model import ParcelCounts
from extractors.signatures import ChunkResult, Signatures


def counts() -> ParcelCounts:
    return ParcelCounts(
        bands=("B4", "SC"),
        parcels_selected=10,
        rows_written=Counter({"B4": 7, "SC": 10}),
        parcels_without_row={"B4": Counter({"outside": 2, "nodata": 1}), "SC": Counter()},
        chunks_recomputed=1,
        null_geometries=3,
        empty_geometries=1,
        seconds={"download": 1.23456, "publish": 0.0},
        versions={"gdal": "3.10.3"},
    )


def rows(label: str, *pids: int) -> Signatures:
    return Signatures(label, np.array(pids, np.int64), np.ones((len(pids), 8)))


def test_chunks_add_up() -> None:
    total = ParcelCounts(bands=("B4", "SC"))
    total.add(
        ChunkResult(
            3,
            np.array([1, 2, 3]),
            [rows("B4", 1, 2), rows("SC", 1), rows("SC", 3)],
            {"B4": {"nodata": np.array([3])}, "SC": {"no_pixel": np.array([2])}},
        )
    )
    total.add(
        ChunkResult(
            2,
            np.array([4]),
            [rows("SC", 4)],
            {"B4": {"nodata": np.array([4]), "not_polygon": np.array([5])}, "SC": {"not_polygon": np.array([5])}},
            recomputed=True,
        )
    )
    assert total.in_words() == (
        "B4: 2 of 5 parcels (2 nodata, 1 not_polygon); SC: 3 of 5 parcels (1 no_pixel, 1 not_polygon)"
    )
    assert total.chunks_recomputed == 1
    for band in total.bands:
        assert total.rows_written[band] + sum(total.parcels_without_row[band].values()) == total.parcels_selected


def test_rows_of_clear_pixels_are_counted_beside_the_others() -> None:
    total = ParcelCounts(bands=("B4", "B4 clear"))
    result = ChunkResult(3, np.array([1, 2, 3]), [rows("B4", 1, 2, 3)], clear=[rows("B4", 1, 2)])
    result.clear_without_row = {"B4": {"not_clear": np.array([3])}}
    total.add(result)
    assert total.in_words() == "B4: 3 of 3 parcels; B4 clear: 2 of 3 parcels (1 not_clear)"


def test_the_counts_in_words() -> None:
    assert counts().in_words() == "B4: 7 of 10 parcels (1 nodata, 2 outside); SC: 10 of 10 parcels"
    assert ParcelCounts(bands=("VV",)).in_words() == "VV: 0 of 0 parcels"


def test_the_counts_in_the_log_s_columns() -> None:
    columns = counts().as_parameters()
    assert columns["settings"] is None  # nothing is known of what they depend on
    columns = dataclasses.replace(counts(), settings={"rows_kept": 7}).as_parameters()
    assert (columns.pop("parcels_selected"), columns.pop("chunks_recomputed")) == (10, 1)
    assert {name: json.loads(text) for name, text in columns.items()} == {
        "rows_written": {"B4": 7, "SC": 10},
        "parcels_without_row": {"B4": {"outside": 2, "nodata": 1}, "SC": {}},
        "parcels_without_geometry": {"null": 3, "empty": 1},
        "seconds": {"download": 1.235, "publish": 0.0},
        "versions": {"gdal": "3.10.3"},
        "settings": {"rows_kept": 7},
    }


def test_an_attempt_that_wrote_nothing_says_so() -> None:
    columns = counts().without_rows().as_parameters()
    assert columns["parcels_selected"] == columns["chunks_recomputed"] == 0
    assert json.loads(columns["rows_written"]) == {"B4": 0, "SC": 0}
    assert json.loads(columns["parcels_without_row"]) == {"B4": {}, "SC": {}}
    assert json.loads(columns["parcels_without_geometry"]) == {"null": 3, "empty": 1}
    assert json.loads(columns["seconds"]) == {"download": 1.235, "publish": 0.0}
