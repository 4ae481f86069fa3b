"""What is in the database after the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg2 import sql

from demo.stage import CARDS, results_table

if TYPE_CHECKING:
    from psycopg2.extensions import connection

SCENES_SQL = """
SELECT count(*), count(*) FILTER (WHERE status = 'extracted') FROM dias_catalogue WHERE card = %s"""

SIGNATURES_SQL = """
SELECT count(*), count(DISTINCT pid), array_agg(DISTINCT trim(band)) FROM {results}"""

# The bookkeeping of the workers: reasons are counted per scene and band.
WITHOUT_SQL = """
SELECT reason, sum(parcels::int)
FROM extraction_log,
     jsonb_each(parcels_without_row) AS by_band (band, reasons),
     jsonb_each_text(reasons) AS by_reason (reason, parcels)
WHERE card = %s AND outcome = 'extracted' GROUP BY reason HAVING sum(parcels::int) > 0 ORDER BY 2 DESC"""

NOT_EXTRACTED_SQL = """
SELECT c.card, c.reference, c.status, coalesce(
    (SELECT detail FROM extraction_log l WHERE l.obsid = c.id ORDER BY run_id DESC LIMIT 1), '')
FROM dias_catalogue c WHERE c.status <> 'extracted' ORDER BY c.card, c.obstime"""

HEADINGS = ("card", "scenes", "extracted", "bands", "signatures", "parcels", "without a row (reason)")


@dataclass(frozen=True)
class Summary:
    """One CARD's share of the database."""

    card: str
    scenes: int
    extracted: int
    bands: tuple[str, ...]
    signatures: int
    parcels: int
    without_row: dict[str, int]  # by reason; parcel x scene x band

    @property
    def cells(self) -> tuple[str, ...]:
        """As it stands in the table."""
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in self.without_row.items())
        return (
            self.card, f"{self.scenes}", f"{self.extracted}", " ".join(self.bands), f"{self.signatures:,}",
            f"{self.parcels:,}", f"{sum(self.without_row.values()):,}" + (f" ({reasons})" if reasons else ""),
        )  # fmt: skip


def summarise(database: connection) -> list[Summary]:
    """Count what the workers left, CARD by CARD."""
    summaries = []
    with database, database.cursor() as cursor:
        for card in CARDS:
            cursor.execute(SCENES_SQL, (card,))
            ((scenes, extracted),) = cursor.fetchall()
            cursor.execute(sql.SQL(SIGNATURES_SQL).format(results=sql.Identifier(results_table(card))))
            ((signatures, parcels, bands),) = cursor.fetchall()
            cursor.execute(WITHOUT_SQL, (card,))
            without = {str(reason): int(number) for reason, number in cursor}
            summaries.append(Summary(card, scenes, extracted, tuple(bands or ()), signatures, parcels, without))
    return summaries


def not_extracted(database: connection) -> list[str]:
    """A line for each scene that did not become `extracted`, with the reason from the log."""
    with database, database.cursor() as cursor:
        cursor.execute(NOT_EXTRACTED_SQL)
        return [" ".join(filter(None, row)) for row in cursor]


def as_text(summaries: list[Summary]) -> str:
    """A table for people; numbers to the right, and below it what the last column counts."""
    rows = [HEADINGS, *(summary.cells for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    to_the_left = {0, 3, len(HEADINGS) - 1}
    lines = [
        "  ".join(
            cell.ljust(width) if column in to_the_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    explained = "Signatures and those without a row count each parcel x scene x band that was selected."
    return "\n".join([*lines, "", explained])
