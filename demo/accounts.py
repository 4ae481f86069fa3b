"""Does every parcel that was selected have a row, or a reason for none, in every scene, band and table?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from psycopg2 import sql

from demo.stage import CARDS, CLEAR, gaps_table, results_table

if TYPE_CHECKING:
    from psycopg2.extensions import connection

UNTOLD = {"outside", "no_id"}  # reasons that the table of gaps leaves out

LOG_SQL = """
SELECT obsid, reference, parcels_selected, rows_written, parcels_without_row
FROM extraction_log WHERE card = %s AND outcome = 'extracted'"""

ROWS_SQL = "SELECT obsid, trim(band) || %s, count(*) FROM {table} GROUP BY 1, 2"

GAPS_SQL = """
SELECT obsid, label, reason, count(*) FROM {table}, unnest(string_to_array(bands, ',')) AS label GROUP BY 1, 2, 3"""


def check_accounts(database: connection) -> tuple[int, list[str]]:
    """Compare the log with the rows that are there; returns the number of accounts, and what is wrong with any."""
    accounts, wrong = 0, []
    with database, database.cursor() as cursor:
        for card in CARDS:
            rows: Counter[tuple[int, str]] = Counter()
            tables = {"": results_table(card)} | ({" clear": CLEAR} if card == "s2" else {})
            for suffix, table in tables.items():
                cursor.execute(sql.SQL(ROWS_SQL).format(table=sql.Identifier(table)), (suffix,))
                rows.update({(obsid, band): number for obsid, band, number in cursor})
            cursor.execute(sql.SQL(GAPS_SQL).format(table=sql.Identifier(gaps_table(card))))
            gaps = Counter({(obsid, band, reason): number for obsid, band, reason, number in cursor})
            cursor.execute(LOG_SQL, (card,))
            for obsid, reference, selected, written, without in cursor.fetchall():
                for band in sorted({*written, *without}):
                    accounts += 1
                    reasons, there = without.get(band, {}), rows.pop((obsid, band), 0)
                    if there != written.get(band, 0) or there + sum(reasons.values()) != selected:
                        wrong.append(f"{reference} {band}: {selected} selected, {there} rows, without: {reasons}")
                    told = {} if band.endswith(" clear") else {k: n for k, n in reasons.items() if k not in UNTOLD}
                    listed = {reason: gaps.pop((obsid, band, reason), 0) for reason in told}
                    if listed != told:
                        wrong.append(f"{reference} {band}: without a row {told}, in the table of gaps {listed}")
            wrong += [f"rows of {card} that no log row tells of: {key}" for key in (*rows, *gaps)]
    return accounts, wrong
