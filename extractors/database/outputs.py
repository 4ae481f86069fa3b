"""The tables of results: which there are, what their columns must be, and whether those of a given table are so."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

from psycopg2 import sql

from extractors.config import Extraction
from extractors.database.columns import FLOATS, INTEGERS, TEXTS
from extractors.database.schema import Table
from extractors.errors import ConfigurationError
from extractors.indices import CLASSES
from extractors.labels import DEFAULT, PRESETS, label
from extractors.signatures import EXTRA_NAMES, FRACTION, NAMES

# Statistics that are numbers of pixels, and may stand in columns of integers.
WHOLE = {"count", "pixels", "nodata"}
# Columns that are written, and the types that can hold them.
RESULT_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "band": TEXTS} | {
    name: INTEGERS | FLOATS if name in WHOLE else FLOATS for name in NAMES
}
# Columns of statistics that are written only if they are asked for.
EXTRA_TYPES = {name: INTEGERS | FLOATS if name in WHOLE else FLOATS for name in EXTRA_NAMES}
HIST_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "hist": {"json", "jsonb", "text"}}
GAP_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "reason": TEXTS, "bands": TEXTS}
# The labels of the bands that are extracted unless others are asked for, of both presets.
USUAL_LABELS = {label(code, band, preset) for code in DEFAULT for band in DEFAULT[code] for preset in PRESETS}
# Columns that say of which parcel, scene and band a row is.
KEY_COLUMNS = {"pid", "obsid", "band", "reason"}
# Some established tables spell it so.
OTHER_SPELLING = {"std": "stdev"}


class Output(NamedTuple):
    """A table of results: the configuration's key, the columns that are written and the types that can hold them (None:
    `result_types`), the statement that makes it, and whether it takes classes of pixels, which only some CARDs have."""

    key: str
    types: Mapping[str, set[str]] | None
    made_by: str
    of_classes: bool = False


RESULTS, CLEAR_RESULTS, HISTS, GAPS = "results", "clear_results", "hists", "gaps"
# The tables of results: all that a scene's rows go into, in one transaction. This is the only list of them.
OUTPUTS = {
    RESULTS: Output("results_table", None, "tables.create_results"),
    CLEAR_RESULTS: Output("clear_results_table", None, "tables.create_results", of_classes=True),
    HISTS: Output("hists_table", HIST_TYPES, "tables.create_hists", of_classes=True),
    GAPS: Output("gaps_table", GAP_TYPES, "tables.create_gaps"),
}


def labels_of(name: str, labels: Collection[str], extraction: Extraction) -> Collection[str]:
    """Those of the labels that rows of a table of results have: classes have none of clear pixels."""
    if name != CLEAR_RESULTS:
        return labels
    classes = {label for band, label in extraction.layers("s2") if band.partition("_")[0] == CLASSES}
    return [one for one in labels if one not in classes]


def result_types(settings: Extraction) -> dict[str, set[str]]:
    """The columns of results that are written with these settings, and the types that can hold them."""
    wanted = {statistic.name for statistic in settings.statistics}
    types = RESULT_TYPES | {name: types for name, types in EXTRA_TYPES.items() if name in wanted}
    if settings.pixel_rule == FRACTION:
        # Shares of pixels are no integers.
        types |= dict.fromkeys(WHOLE & types.keys(), FLOATS)
    return types


def statistic_columns(types: Collection[str]) -> sql.Composed:
    """How the columns of statistics, among these, are declared."""
    names = [name for name in types if name not in KEY_COLUMNS]
    return sql.SQL(", ").join(sql.SQL("{} real").format(sql.Identifier(name)) for name in names)


def checked(table: Table, types: Mapping[str, set[str]]) -> Table:
    """A table to write into, with just the columns that are written; `types`: their names, and the types allowed."""
    if table.absent:
        return table
    lacking = [name for name in types if name in EXTRA_TYPES and name not in table.columns]
    if lacking:
        columns = ", ".join(f"ADD COLUMN {name} real" for name in lacking)
        raise ConfigurationError(
            f"{table.key}: table {table} has no column {', '.join(lacking)} (extraction.extra_statistics); ALTER TABLE "
            f"{table} {columns}, or write the name of another table"
        )
    ours = {}
    for name, allowed in types.items():
        own = OTHER_SPELLING.get(name, name)
        own = name if name in table.columns or own not in table.columns else own
        if own not in table.columns:
            raise ConfigurationError(
                f"{table.key}: table {table} has no column {name}; add it (its columns must be {', '.join(types)}), or "
                "write the name of another table"
            )
        if table.columns[own].type not in allowed:
            raise ConfigurationError(
                f"{table.key}: column {own} of table {table} has the type {table.columns[own].type}, which cannot hold "
                f"it; change it to one of {', '.join(sorted(allowed))}"
            )
        if table.columns[own].generated:
            raise ConfigurationError(
                f"{table.key}: column {own} of table {table} is GENERATED from others, so nothing can be written into "
                f"it; ALTER TABLE {table} ALTER COLUMN {own} DROP EXPRESSION"
            )
        ours[name] = table.columns[own]
    for column in table.columns.values():
        if column not in ours.values() and column.required:
            raise ConfigurationError(
                f"{table.key}: column {column.name} of table {table} is NOT NULL without a default, and nothing writes "
                "it; drop it, allow NULL or give it a default"
            )
    return replace(table, columns=ours)


def check_labels(results: Table, labels: Collection[str]) -> None:
    """Raise ConfigurationError if the bands' labels do not fit into their column, if there is one."""
    longest = max(map(len, labels), default=0)
    room = results.columns["band"].longest_text if "band" in results.columns else None
    if room is not None and room < longest:
        # Those that the other preset makes no shorter.
        unusual = set(labels) - USUAL_LABELS
        raise ConfigurationError(
            f"{results.key}: column band of table {results} holds {room} characters, but the labels have {longest}; "
            f"widen it (ALTER TABLE {results} ALTER COLUMN {results.columns['band'].name} TYPE varchar({longest})), or "
            + (
                "write shorter ones in extraction.bands (or indices)"
                if unusual
                else "write extraction.band_labels = classic"
            )
        )
