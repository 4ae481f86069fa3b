"""Checks of the start that need heavy libraries or the store: made once there is a scene to claim, and before it is."""

import logging
from functools import partial

from extractors.database.advice import Advice
from extractors.database.mixing import Mixing
from extractors.database.places import PLACES_TABLE
from extractors.database.plausibility import Plausibility
from extractors.delivery import folder_of_scenes, open_store
from extractors.model import Check
from extractors.raster.libraries import check_driver, check_proj, transformation_used
from extractors.resources import Start
from extractors.statistics.zonal import check_fractions

log = logging.getLogger(__name__)


def checks(start: Start) -> list[Check]:
    """What has to be seen before the first scene is claimed: of parcels and area, libraries and store."""
    return [*checks_of_libraries(start), *checks_of_database(start), Check("store", partial(check_store, start))]


def checks_of_database(start: Start) -> list[Check]:
    """What is asked of the database, if there is a session."""
    if start.database is None:
        return []
    plausibility = Plausibility(start.database, start.reader, start.config, start.database_checks)
    meaning = start.config.extraction.meaning(start.card.code)
    mixing = Mixing(start.database, start.reader, start.card.code, meaning, start.options.accept_mixed)
    accuracy = Check("accuracy", partial(check_accuracy, plausibility), ("reference systems", "PROJ"))
    return [*mixing.checks(), *plausibility.checks(), accuracy]


def checks_of_libraries(start: Start) -> list[Check]:
    """What is asked of PROJ and GDAL, and of what only some settings need."""
    checks = [Check("PROJ", check_proj), Check("GDAL", partial(check_driver, start.card.format.driver))]
    return [*checks, Check("exactextract", check_fractions)] if start.by_fraction else checks


def advice(start: Start) -> list[Check]:
    """What helps and is not necessary."""
    return [] if start.database is None else Advice(start.database, start.reader).checks()


def check_accuracy(plausibility: Plausibility) -> str:
    """Warns if PostGIS lacks a grid, and so transforms the parcels with less accuracy than it could."""
    found = plausibility.position()
    if found is None:
        return "unknown while there are no parcels"
    srid, position, result = found
    known = transformation_used(srid, position, result)
    if known is None:
        return f"unknown by which transformation PostGIS brings parcels from SRID {srid} to WGS 84"
    used, better = known
    if better is not None:
        log.warning(
            "parcels are transformed from SRID %d by %s; a better transformation exists and is not installed in the "
            "database server's PROJ: %s; install its grid (package proj-data, or projsync)",
            *(srid, used, better),
        )
    return f"parcels are transformed from SRID {srid} by {used}"


def check_store(start: Start) -> str:
    """That the store can be reached as it is configured, and holds scenes of this kind at all: in the usual folders,
    unless there is a table that says where scenes lie."""
    store, folder = open_store(start), folder_of_scenes(start)
    store.check(folder)
    return (
        f"{store.name} holds {folder}"
        if folder
        else f"{store.name} holds objects; {PLACES_TABLE} says where scenes lie"
    )
