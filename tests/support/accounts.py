"""Whether nothing is lost without a word: for every scene, band and table, parcels selected = rows + reasons."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.support.database import Database

LOGS = """
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'extraction_log' AND 4 = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = c.oid
    AND a.attname IN ('outcome', 'parcels_selected', 'rows_written', 'parcels_without_row'))"""
EXTRACTED = "SELECT to_json(l) FROM \"{}\".extraction_log l WHERE outcome = 'extracted' ORDER BY run_id"
CLEAR = " clear"


def assert_balanced(database: Database) -> None:
    """What the log says of every extraction adds up, whatever has become of the tables since."""
    for (schema,) in database.query(LOGS):
        for (log,) in database.query(EXTRACTED.format(schema)):
            if log["parcels_selected"] is not None:  # written by the test itself
                selected = dict.fromkeys(log["rows_written"], log["parcels_selected"])
                assert balance(log) == selected, f"the accounts of scene {log['obsid']} do not balance: {log}"


def balance(log: dict[str, Any]) -> dict[str, int]:
    """For each band, rows and reasons together."""
    assert log["rows_written"].keys() == log["parcels_without_row"].keys(), log
    return {band: rows + sum(log["parcels_without_row"][band].values()) for band, rows in log["rows_written"].items()}


def assert_written(database: Database, tables: dict[str, str]) -> None:
    """The tables of a configuration hold exactly what the log says of the last extraction of each scene; for scenes of
    which no rows of other parcels are kept."""
    last = {log["obsid"]: log for (log,) in database.query(EXTRACTED.format("public"))}
    for scene, log in last.items():
        rows = Counter(log["rows_written"])
        found = Counter(bands_of(database, tables["results_table"], scene))
        if "clear_results_table" in tables:
            clear = bands_of(database, tables["clear_results_table"], scene)
            found.update({band + CLEAR: number for band, number in clear.items()})
        assert found == rows, (scene, log)
        if "gaps_table" in tables:
            assert gaps_of(database, tables["gaps_table"], scene) == told(log), (scene, log)


def bands_of(database: Database, table: str, scene: int) -> dict[str, int]:
    return dict(database.query(f"SELECT trim(band), count(*) FROM {table} WHERE obsid = %s GROUP BY 1", scene))


def gaps_of(database: Database, table: str, scene: int) -> Counter[tuple[str, str]]:
    """Parcels by band and reason; none of them twice."""
    query = f"SELECT pid, reason, unnest(string_to_array(bands, ',')) FROM {table} WHERE obsid = %s"
    rows = database.query(query, scene)
    assert len(set(rows)) == len(rows), "a gap is there twice"
    return Counter((band, reason) for _, reason, band in rows)


def told(log: dict[str, Any]) -> Counter[tuple[str, str]]:
    """The same as the log has it, but for what the table of gaps leaves out."""
    return Counter(
        {
            (band, reason): number
            for band, reasons in log["parcels_without_row"].items()
            for reason, number in reasons.items()
            if not band.endswith(CLEAR) and reason not in {"outside", "no_id"}
        }
    )
