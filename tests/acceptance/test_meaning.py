"""Settings that change what the numbers mean: each does what it says, and cannot be mixed into a table by accident."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from affine import Affine
from shapely.geometry.base import BaseGeometry

from demo.metadata import all_bands, metadata
from extractors.config import ENGINE_NAMES
from tests.faults.acts import Gate
from tests.support.ground import GRID, Array, cell, optical, squares
from tests.support.running import Outcome
from tests.support.scenes import COLUMNS, Scene, Signatures, assert_same, s2_reference, zonal
from tests.support.workspace import Workspace

# Settings of one card


def test_each_command_uses_the_settings_of_its_card(workspace: Workspace) -> None:
    """One file for all cards, one table; `band_labels` shows whose settings were used."""
    workspace.add_parcels(squares(4))
    workspace.extraction.update({"band_labels": "api", "s2": {"band_labels": "classic"}, "bs": {}})
    cards = {"s2": workspace.add_s2(), "bs": workspace.add_bs(), "c6": workspace.add_c6()}
    for card, scene in cards.items():
        outcome = workspace.run(card)
        assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
        labels = {label for _, label in workspace.signatures(scene)}
        assert labels == {"s2": {"B4", "B8", "SC"}, "bs": {"VVb", "VHb"}, "c6": {"VVc", "VHc"}}[card]


def test_settings_of_other_cards_are_checked_as_well(workspace: Workspace) -> None:
    workspace.extraction["bs"] = {"chunk_size": 0}
    outcome = workspace.run("s2")
    assert outcome.code == 2
    (line,) = outcome.errors
    assert "db_config.json: extraction.bs.chunk_size: 0 cannot be used" in line


# One table, one meaning


@dataclass(frozen=True)
class Case:
    """A setting that changes numbers: its card, two values of it, and how a log row has them."""

    card: str
    first: dict[str, Any]
    other: dict[str, Any]
    words: tuple[str, str]

    def add(self, workspace: Workspace, obstime: str) -> Scene:
        """A scene of the card."""
        scene: Scene = getattr(workspace, f"add_{self.card}")(obstime)
        return scene


CASES = {
    "radiometry": Case(
        "s2",
        {},
        {"radiometry": "harmonised", "radiometry_fallback": "baseline"},
        ("radiometry raw", "radiometry harmonised"),
    ),
    "band behind a label": Case(
        "s2", {"bands": ["B04", "SCL"]}, {"bands": {"B08": "B4", "SCL": "SC"}}, ("B4 from B04", "B4 from B08")
    ),
    "index behind a label": Case(
        "s2",
        {"radiometry": "harmonised", "radiometry_fallback": "baseline", "indices": {"I": "ndvi"}},
        {"radiometry": "harmonised", "radiometry_fallback": "baseline", "indices": {"I": "B08 / B04"}},
        ("I from nd(B08, B04)", "I from B08 / B04"),
    ),
    "unit of backscatter": Case(
        "bs", {}, {"backscatter_unit": "db"}, ("backscatter_unit linear", "backscatter_unit db")
    ),
    "inward buffer": Case("s2", {}, {"inward_buffer_m": 10}, ("inward_buffer_m 0", "inward_buffer_m 10.0")),
    "least area": Case("bs", {}, {"min_area_m2": 20.5}, ("min_area_m2 0", "min_area_m2 20.5")),
    "least pixels": Case("c6", {"min_pixels": 2}, {}, ("min_pixels 2", "min_pixels 0")),
    "order of coherence bands": Case(
        "c6",
        {},
        {"coherence_band_order": "historical"},
        ("coherence_band_order product", "coherence_band_order historical"),
    ),
}
CASES |= {
    f"pixel rule {rule}": Case(
        card, {"pixel_rule": "centre"}, {"pixel_rule": rule}, ("pixel_rule centre", f"pixel_rule {rule}")
    )
    for card, rule in (("bs", "all_touched"), ("s2", "fraction"))
}
EARLY, LATE = "2020-04-01T05:23:45", "2020-04-07T05:23:45"


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


def extracted(workspace: Workspace, case: Case, settings: dict[str, Any], *options: str) -> Outcome:
    outcome = tried(workspace, case, settings, *options)
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    return outcome


def tried(workspace: Workspace, case: Case, settings: dict[str, Any], *options: str) -> Outcome:
    workspace.extraction[case.card] = settings
    return workspace.run(case.card, *options)


def refused(workspace: Workspace, case: Case, *words: str) -> None:
    """The other settings end a worker before its first claim, and `--check` says the same."""
    attempts = workspace.one("SELECT count(*) FROM extraction_log")
    outcome = tried(workspace, case, case.other)
    assert outcome.code == 2, outcome.stderr
    (line,) = outcome.errors
    for word in (
        "db_config.json: database.tables.results_table: public.signatures ",
        *words,
        f"this worker is set to {case.words[1]}; write another results_table, or start with --accept-mixed",
    ):
        assert word in line
    assert workspace.one("SELECT count(*) FROM extraction_log") == attempts
    checked = tried(workspace, case, case.other, "--check")
    assert checked.code == 2
    (failed,) = [text for text in checked.stdout.splitlines() if text.startswith("FAILED")]
    assert failed.startswith("FAILED meaning of numbers: ")
    for word in words:
        assert word in failed


def test_other_settings_for_another_scene(workspace: Workspace, case: Case) -> None:
    workspace.add_parcels(squares(4))
    first, second = case.add(workspace, EARLY), case.add(workspace, LATE)
    extracted(workspace, case, case.first)
    refused(workspace, case, f"holds scene {first.id} with {case.words[0]}")
    assert workspace.status(second) == "ingested"
    assert workspace.rows(second) == 0
    # The remedies.
    outcome = extracted(workspace, case, case.other, "--accept-mixed")
    assert f"this worker is set to {case.words[1]}: accepted" in outcome.stderr
    assert workspace.rows(second) == workspace.rows(first)
    # Whoever comes now without it does not fit, whatever the settings.
    case.add(workspace, LATE.replace("07", "13"))
    refused(workspace, case, f"holds scene {first.id} with {case.words[0]}")
    outcome = tried(workspace, case, case.first)
    assert outcome.code == 2
    assert f"holds scene {second.id} with {case.words[1]}" in outcome.errors[0]
    workspace.tables["results_table"] = "others"
    extracted(workspace, case, case.other)


def test_other_settings_for_the_same_scene(workspace: Workspace, case: Case) -> None:
    workspace.add_parcels(squares(4))
    scene = case.add(workspace, EARLY)
    extracted(workspace, case, case.first)
    (log,) = workspace.log(scene)
    workspace.ingest(scene)
    refused(workspace, case, f"holds scene {scene.id} with {case.words[0]}")
    # Computed again with what is accepted, the table has one meaning: what counts is the last time.
    extracted(workspace, case, case.other, "--accept-mixed")
    case.add(workspace, LATE)
    extracted(workspace, case, case.other)
    assert log["settings"] != workspace.log(scene)[1]["settings"]


def test_a_table_that_was_made_anew(workspace: Workspace, case: Case) -> None:
    """The log still has the rows of its predecessor."""
    workspace.add_parcels(squares(4))
    case.add(workspace, EARLY), case.add(workspace, LATE), case.add(workspace, LATE.replace("07", "13"))
    extracted(workspace, case, case.first)
    workspace.query("DROP TABLE signatures")
    extracted(workspace, case, case.other)
    extracted(workspace, case, case.other)


def test_another_worker_with_other_settings_is_at_a_scene(workspace: Workspace, case: Case) -> None:
    workspace.add_parcels(squares(4))
    first, _ = case.add(workspace, EARLY), case.add(workspace, LATE)
    gate = Gate(workspace.folder, "parcels_selected")
    workspace.extraction[case.card] = case.first
    at_work = workspace.start(case.card, env=gate.env)
    gate.wait(at_work)
    refused(workspace, case, f"is being given scene {first.id} by another worker with {case.words[0]}")
    at_work.kill()
    # A dead one writes nothing any more.
    extracted(workspace, case, case.other)


def test_scenes_of_another_card_mean_nothing(workspace: Workspace, case: Case) -> None:
    workspace.add_parcels(squares(4))
    case.add(workspace, EARLY)
    extracted(workspace, case, case.first)
    workspace.query("UPDATE extraction_log SET card = 'xx'")
    workspace.query("UPDATE dias_catalogue SET card = 'xx'")
    case.add(workspace, LATE)
    extracted(workspace, case, case.other)


def test_rows_of_the_first_version(workspace: Workspace) -> None:
    """Its log says nothing of the order of coherence bands."""
    workspace.add_parcels(squares(4))
    workspace.add_c6(EARLY), workspace.add_c6(LATE)
    assert workspace.run("c6").code == 0
    workspace.query("UPDATE extraction_log SET settings = NULL")
    workspace.extraction["coherence_band_order"] = "historical"
    assert workspace.run("c6").code == 0


def test_rows_of_a_version_before_are_raw(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    scenes = workspace.add_s2(EARLY), workspace.add_s2(LATE)
    assert workspace.run().code == 0
    workspace.query("UPDATE extraction_log SET settings = NULL")
    refused(workspace, CASES["radiometry"], f"holds scene {scenes[0].id} with radiometry raw")
    # Raw ones belong there.
    assert tried(workspace, CASES["radiometry"], {}).code == 0


def test_rows_of_another_program_are_raw(workspace: Workspace) -> None:
    """The log knows nothing of them; the table is one that others have made."""
    workspace.add_parcels(squares(4))
    foreign, _ = workspace.add_s2(EARLY, status="extracted"), workspace.add_s2(LATE)
    workspace.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, std real, min real,"
        " max real, p25 real, p50 real, p75 real)"
    )
    case = CASES["radiometry"]
    # Without any rows there is nothing to be mixed with.
    assert "ok meaning of numbers: radiometry harmonised" in tried(workspace, case, case.other, "--check").stdout
    workspace.query("INSERT INTO signatures (pid, obsid, band) VALUES (1, %s, 'B4')", foreign.id)
    assert tried(workspace, case, case.other, "--check").code == 2  # the log is still to be made
    workspace.run("s2", "--scene", "nothing")
    refused(workspace, case, f"may hold scene {foreign.id} of another program, with radiometry raw")
    assert tried(workspace, case, case.first).code == 0


# Other tables of results

TABLES = {"clear_results_table": "clear", "hists_table": "hists", "gaps_table": "gaps"}


@dataclass(frozen=True)
class Swap:
    """What a second worker is set to instead, and how it is refused: the key, and words."""

    tables: dict[str, str]
    settings: dict[str, Any]
    key: str
    words: str


SWAPS = {
    "clear rows into the results table": Swap(
        {"results_table": "clear"}, {}, "results_table", "pixels clear, and this worker is set to pixels all"
    ),
    "all rows into the clear table": Swap(
        {"results_table": "x", "clear_results_table": "signatures"},
        {},
        "clear_results_table",
        "pixels all, and this worker is set to pixels clear",
    ),
    "other classes": Swap(
        {"results_table": "x", "gaps_table": "y"},
        {"clear_classes": [4, 5]},
        "clear_results_table",
        "clear_classes [4, 5, 6, 7], and this worker is set to clear_classes [4, 5]",
    ),
    "other pixels under the histograms": Swap(
        {"results_table": "x", "clear_results_table": "y", "gaps_table": "z"},
        {"inward_buffer_m": 5},
        "hists_table",
        "inward_buffer_m 0, and this worker is set to inward_buffer_m 5.0",
    ),
    "gaps of another results table": Swap(
        {"results_table": "x", "clear_results_table": "y"},
        {},
        "gaps_table",
        "results_table public.signatures, and this worker is set to results_table public.x",
    ),
}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=list(SWAPS))
def test_tables_beside_the_results_table(swap: Swap, workspace: Workspace) -> None:
    workspace.add_parcels([*squares(4), cell(40, 40, 0.3, 0.3, inset=0)])
    bands = optical()
    bands["SCL"][:] = 4
    first, second = workspace.add_s2(EARLY, bands=bands), workspace.add_s2(LATE, bands=bands)
    workspace.tables.update(TABLES)
    assert workspace.run().code == 0
    assert workspace.log(first)[0]["settings"]["tables"] == {
        "clear_results": "public.clear", "hists": "public.hists", "gaps": "public.gaps",
    }  # fmt: skip
    # The same again is no mixing.
    assert workspace.run("s2", "--check").code == 0
    workspace.tables.update(swap.tables)
    if swap.tables == {"results_table": "clear"}:
        del workspace.tables["clear_results_table"], workspace.tables["gaps_table"]
    workspace.extraction["s2"] = swap.settings
    outcome = workspace.run()
    assert outcome.code == 2, outcome.stderr
    (line,) = outcome.errors
    assert f"database.tables.{swap.key}: public." in line
    assert f"holds scene {first.id} with {swap.words}; write another {swap.key}, or start with --accept-mixed" in line
    assert (workspace.status(second), workspace.log(second)) == ("ingested", [])
    # A scene that another worker is at says it as well.
    workspace.query(
        "UPDATE extraction_log SET finished_at = NULL, outcome = NULL; UPDATE dias_catalogue SET status = 'inprogress'"
        " WHERE id = %s; SELECT pg_advisory_lock(1128418561, %s)",
        *(first.id, first.id),
    )
    assert f"is being given scene {first.id} by another worker with {swap.words}" in workspace.run().errors[0]
    workspace.query(
        "UPDATE extraction_log SET finished_at = now(), outcome = 'extracted'; UPDATE dias_catalogue SET"
        " status = 'extracted' WHERE id = %s; SELECT pg_advisory_unlock_all()",
        first.id,
    )
    accepted = workspace.run("s2", "--accept-mixed")
    assert accepted.code == 0, accepted.stderr
    assert f"{swap.words}: accepted" in accepted.stderr


def test_other_classes_do_not_matter_to_a_results_table(workspace: Workspace) -> None:
    """Nor does whether there is a table for clear pixels."""
    workspace.add_parcels(squares(4))
    workspace.add_s2(EARLY), workspace.add_s2(LATE), workspace.add_s2(LATE.replace("07", "13"))
    workspace.tables["clear_results_table"] = "clear"
    assert workspace.run().code == 0
    workspace.tables["clear_results_table"] = "other"
    workspace.extraction["s2"] = {"clear_classes": [4]}
    assert workspace.run().code == 0
    del workspace.tables["clear_results_table"]
    assert workspace.run().code == 0


# Radiometry


def optical_shifted(shift: int) -> dict[str, Array]:
    """The same ground in every product, its numbers higher by `shift`; nodata stays nodata."""
    bands = optical()
    for band in ("B04", "B08"):
        bands[band] = np.where(bands[band] == 0, 0, bands[band] + shift).astype(np.uint16)
    return bands


def add_product(workspace: Workspace, obstime: str, baseline: str, content: bytes | None, **more: Any) -> Scene:
    """An s2 scene with this number in its name, and its metadata if there are any."""
    moment = datetime.fromisoformat(obstime)
    reference = s2_reference(moment).replace("N0214", f"N{baseline}")
    assert f"N{baseline}" in reference
    scene = workspace.add_s2(obstime, reference=reference, **more)
    if content is not None:
        workspace.write(f"{scene.keys['B04'].partition('/GRANULE/')[0]}/MTD_MSIL2A.xml", content)
    return scene


def harmonised(workspace: Workspace, **more: Any) -> Outcome:
    workspace.extraction["s2"] = {"radiometry": "harmonised", **more}
    return workspace.run("s2", "--all")


def shifted(signatures: Signatures, **shifts: float) -> Signatures:
    """Every value but count and std moved, by label."""
    return {
        (pid, label): tuple(
            value + (0 if name in {"count", "std"} else shifts.get(label, 0))
            for name, value in zip(COLUMNS, numbers, strict=True)
        )
        for (pid, label), numbers in signatures.items()
    }


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_change_of_baseline(workspace: Workspace, engine: str) -> None:
    """Raw, the same ground differs by 1,000; harmonised, it is the same. Some of its numbers are below the offset."""
    parcels = workspace.add_parcels(squares(49))
    old = add_product(workspace, "2020-04-01T10:00:31", "0301", metadata("03.01"), bands=optical_shifted(0))
    new = add_product(
        workspace, "2020-04-06T10:00:31", "0400", metadata("04.00", all_bands()), bands=optical_shifted(1000)
    )
    workspace.extraction["engine"] = engine
    for table, radiometry, step in (("raw", "raw", 1000), ("harmonised", "harmonised", 0)):
        workspace.tables["results_table"] = table
        outcome = harmonised(workspace, radiometry=radiometry)
        assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
        before, after = workspace.signatures(old, table), workspace.signatures(new, table)
        assert_same(before, old.expected(parcels))
        assert_same(after, shifted(before, B4=step, B8=step))
        assert {key: numbers[2] for key, numbers in before.items()} == {
            key: numbers[2] for key, numbers in after.items()
        }
        for scene in (old, new):
            log = workspace.log(scene)[-1]
            assert log["settings"]["radiometry"] == radiometry
            assert log["chunks_recomputed"] == 0
            workspace.ingest(scene)
    said = [workspace.log(scene)[-1]["settings"]["harmonised"] for scene in (old, new)]
    assert [one["baseline"] for one in said] == ["03.01", "04.00"]
    assert said[0]["offsets"] == {"B4": 0, "B8": 0, "SC": 0}
    assert said[1]["offsets"] == {"B4": -1000, "B8": -1000, "SC": 0}
    assert all(
        one["read_from"].endswith(f"{scene.reference}/MTD_MSIL2A.xml")
        for one, scene in zip(said, (old, new), strict=True)
    )
    assert "harmonised" not in workspace.log(old)[0]["settings"]


def test_numbers_below_the_offset_and_nodata(workspace: Workspace) -> None:
    """Reflectances below zero are numbers like others; nodata is what was 0 in the file, and not what becomes 0."""
    parcels = workspace.add_parcels([cell(2, 2), cell(10, 2), cell(18, 2)])
    bands = optical()
    bands["B04"][:] = 3000
    bands["B04"][2:8, 2:8] = 1000
    bands["B04"][2:8, 10:16] = 400
    bands["B04"][2:8, 18:24] = 0
    scene = add_product(workspace, "2020-04-01T10:00:31", "0400", metadata("04.00", all_bands()), bands=bands)
    assert harmonised(workspace).code == 0
    found = {pid: numbers for (pid, label), numbers in workspace.signatures(scene).items() if label == "B4"}
    first, second, third = parcels
    assert found == {first: (36, *[0] * 7), second: (36, -600, 0, *[-600] * 5)}
    assert workspace.log(scene)[0]["parcels_without_row"]["B4"] == {"nodata": 1}
    assert third not in found


def test_the_metadata_decide_and_not_the_date(workspace: Workspace) -> None:
    """Collection 1 of 2018 is shifted, CloudFerro's own processing is not; each band by its own offset."""
    workspace.args.update(startdate="2018-01-01", enddate="2024-01-01")
    parcels = workspace.add_parcels(squares(4))
    offsets: dict[int | str, int | float | str] = {7: -500, 3: -1250.5}
    cases: list[tuple[Scene, dict[str, float]]] = [
        (
            add_product(
                workspace, "2018-08-31T10:40:19", "0500", metadata("05.00", all_bands()), collection="L2A_N0500"
            ),
            {"B4": -1000.0, "B8": -1000.0},
        ),
        (add_product(workspace, "2022-08-31T10:40:19", "9999", metadata("99.99"), safe=False), {}),
        (
            add_product(workspace, "2023-08-31T10:40:19", "0511", metadata("05.11", offsets, psd=15)),
            {"B4": -1250.5, "B8": -500},
        ),
        # The name says one thing, the product another.
        (
            add_product(workspace, "2019-08-31T10:40:19", "0206", metadata("04.00", all_bands())),
            {"B4": -1000.0, "B8": -1000.0},
        ),
    ]
    outcome = harmonised(workspace)
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    for scene, shifts in cases:
        assert_same(workspace.signatures(scene), shifted(scene.expected(parcels), **shifts))


def test_without_metadata(workspace: Workspace) -> None:
    """The scene fails, unless the name may be believed."""
    parcels = workspace.add_parcels(squares(4))
    scenes = {
        baseline: add_product(workspace, f"2020-04-{day:02}T10:00:31", baseline, None)
        for day, baseline in enumerate(("0301", "0400", "9999"), 1)
    }
    outcome = harmonised(workspace)
    assert outcome.code == 1
    for scene in scenes.values():
        assert workspace.status(scene) == "failed"
        assert 'write "radiometry_fallback": "baseline"' in workspace.log(scene)[0]["detail"]
        workspace.ingest(scene)
    workspace.assert_no_rows()
    assert harmonised(workspace, radiometry_fallback="baseline").code == 0
    for baseline, scene in scenes.items():
        shift = -1000 if baseline == "0400" else 0
        assert_same(workspace.signatures(scene), shifted(scene.expected(parcels), B4=shift, B8=shift))
        said = workspace.log(scene)[-1]["settings"]["harmonised"]
        assert (said["baseline"], said["read_from"]) == (f"{baseline[:2]}.{baseline[2:]}", "the product's name")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html/>", "is not the metadata of a level 2A product"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + metadata().partition(b"\n")[2], "declares a document type"),
        (metadata("04.00", {3: -1000}), "lists offsets, and none for B08"),
    ],
)
def test_metadata_that_cannot_be_used(workspace: Workspace, content: bytes, words: str) -> None:
    """The checksum agrees, so trying again is in vain; and what is there goes before the name."""
    workspace.add_parcels(squares(4))
    workspace.extraction["max_attempts"] = 5
    scene = add_product(workspace, "2020-04-01T10:00:31", "0400", content)
    outcome = harmonised(workspace, radiometry_fallback="baseline")
    assert outcome.code == 1
    assert workspace.status(scene) == "failed"
    (log,) = workspace.log(scene)
    assert words in log["detail"]
    workspace.assert_no_rows()
    assert workspace.files() == []


def test_a_histogram_counts_classes_as_they_are(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    workspace.tables["hists_table"] = "hists"
    scene = add_product(workspace, "2020-04-01T10:00:31", "0400", metadata("04.00", all_bands()))
    assert harmonised(workspace).code == 0
    classes = {int(name) for (hist,) in workspace.query("SELECT hist FROM hists") for name in hist}
    assert classes
    assert classes <= set(range(1, 12))
    assert workspace.rows(scene, "hists") == 4


# Bands


def many_bands() -> dict[str, Array]:
    """Some at 10, 20 and 60 m, each with pixels of its own."""
    random = np.random.default_rng(7)
    sizes = {"B02": 60, "B02_20m": 30, "B8A_20m": 30, "B01_60m": 10, "AOT_20m": 30, "AOT_60m": 10}
    more = {name: random.integers(1, 9_000, (size, size), dtype=np.uint16) for name, size in sizes.items()}
    return optical() | more


def zones(parcels: Mapping[int, BaseGeometry], label: str, array: Array) -> Signatures:
    pixel = GRID.pixel * 60 / array.shape[0]
    return zonal(parcels, label, array, Affine(pixel, 0, GRID.left, 0, -pixel, GRID.top))


@pytest.mark.parametrize("preset", ["classic", "api"])
def test_a_list_of_bands(workspace: Workspace, preset: str) -> None:
    parcels = workspace.add_parcels(squares(9))
    bands = many_bands()
    scene = workspace.add_s2(bands=bands)
    workspace.extraction.update(band_labels=preset, s2={"bands": ["B8A", "B01", "B02", "AOT", "SCL"]})
    outcome = workspace.run()
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    assert "downloaded 5 files" in outcome.stderr
    names = {"B8A": "B8A_20m", "B1": "B01_60m", "B2": "B02", "AOT": "AOT_20m", "SC": "SCL"}
    expected: Signatures = {}
    for label, name in names.items():
        expected |= zones(parcels, label if preset == "classic" or label[2:] else label.replace("B", "B0"), bands[name])
    assert_same(workspace.signatures(scene), expected)
    (log,) = workspace.log(scene)
    assert len(log["settings"]["sources"]) == len(log["rows_written"]) == 5


@pytest.mark.owner("the table is made as wide as these labels")
def test_bands_with_labels_of_their_own(workspace: Workspace) -> None:
    """Two resolutions of one band, and one file under two labels; the table gets room for the longest."""
    parcels = workspace.add_parcels(squares(9))
    bands = many_bands()
    scene = workspace.add_s2(bands=bands)
    workspace.extraction["bands"] = {
        "B02": "blue", "B02_10m": "b", "B02_20m": "blue-20", "AOT_60m": "aerosols", "SCL": "SC", "SCL_20m": "classes",
    }  # fmt: skip
    workspace.tables["hists_table"] = "hists"
    outcome = workspace.run()
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    assert "downloaded 4 files" in outcome.stderr
    expected: Signatures = {}
    for label, name in {
        "blue": "B02", "b": "B02", "blue-20": "B02_20m", "aerosols": "AOT_60m", "SC": "SCL", "classes": "SCL",
    }.items():  # fmt: skip
        expected |= zones(parcels, label, bands[name])
    assert_same(workspace.signatures(scene), expected)
    assert workspace.rows(scene, "hists") == 9


def test_harmonised_bands(workspace: Workspace) -> None:
    """Each reflectance by the offset of its band, at whatever resolution; AOT is none."""
    parcels = workspace.add_parcels(squares(9))
    bands = many_bands()
    offsets: dict[int | str, int | float | str] = {number: -100 * number for number in range(13)}
    scene = add_product(workspace, "2020-04-01T10:00:31", "0400", metadata("04.00", offsets), bands=bands)
    assert harmonised(workspace, bands=["B01", "B02_20m", "B8A", "AOT"]).code == 0
    expected: Signatures = {}
    for label, name in {"B1": "B01_60m", "B2": "B02_20m", "B8A": "B8A_20m", "AOT": "AOT_20m"}.items():
        expected |= zones(parcels, label, bands[name])
    assert_same(workspace.signatures(scene), shifted(expected, B1=0, B2=-100, B8A=-800))


@pytest.mark.owner("the table is made as wide as these labels")
@pytest.mark.parametrize("card", ["bs", "c6"])
def test_radar_bands(workspace: Workspace, card: str) -> None:
    parcels = workspace.add_parcels(squares(9))
    scene = getattr(workspace, f"add_{card}")(EARLY)
    workspace.extraction[card] = {"bands": {"VH": "cross", "HH": "HH"}}
    outcome = workspace.run(card)
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    found = workspace.signatures(scene)
    assert_same(found, zones(parcels, "cross", scene.bands["VH"]))
    # One that has none of the bands wanted is no success.
    other = getattr(workspace, f"add_{card}")(LATE)
    workspace.extraction[card] = {"bands": ["HV"]}
    assert workspace.run(card).code == 1
    assert workspace.status(other) == "failed"
    assert "none of" in workspace.log(other)[0]["detail"]


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        (["B02", "B02_20m"], "B02 and B02_20m have the same label B2"),
        (["VV"], "s2 has no band VV"),
        (["B02", "long"], "there is no band long"),
        ({"B02": "blue", "SCL": "SC"}, "holds 2 characters, but the labels have 4; widen it (ALTER TABLE"),
        (["B04", "B08"], "histograms are of SCL, which is not among extraction.bands"),
    ],
)
def test_bands_that_are_refused(workspace: Workspace, bands: Any, words: str) -> None:
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, std real, min real,"
        " max real, p25 real, p50 real, p75 real)"
    )
    workspace.tables["hists_table"] = "hists"
    workspace.extraction["bands"] = bands
    for options in ((), ("--check",)):
        outcome = workspace.run("s2", *options)
        assert outcome.code == 2
        assert words in outcome.output
    assert workspace.status(scene) == "ingested"


def test_a_product_that_lacks_a_band(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.extraction["bands"] = ["B04", "B01_20m"]
    assert workspace.run().code == 1
    assert workspace.status(scene) == "notfound"
    assert workspace.log(scene)[0]["detail"].endswith("lacks B01_20m")


# 12-day coherence


@pytest.mark.parametrize(("preset", "end"), [("classic", ""), ("api", "c")])
def test_c1(workspace: Workspace, preset: str, end: str) -> None:
    parcels = workspace.add_parcels(squares(9))
    scene = workspace.add_c1()
    other = workspace.add_c6("2020-04-02T05:23:45")
    workspace.extraction["band_labels"] = preset
    outcome = workspace.run("c1", "--all")
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    expected = zones(parcels, f"VV{end}", scene.bands["VV"]) | zones(parcels, f"VH{end}", scene.bands["VH"])
    assert_same(workspace.signatures(scene), expected)
    assert workspace.status(other) == "ingested"
    assert workspace.log(scene)[0]["settings"]["coherence_band_order"] == "product"
