"""The worker: takes scenes from `ingested` to `extracted`, one after the other.

A scene's way: claim -> download -> select parcels -> statistics, chunk by chunk -> COPY and status in one
transaction. Whatever happens on the way, the catalogue and the log tell it, no row is left behind without its
scene, and the local files are removed.
"""

import gc
import importlib
import logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from extractors import failpoints
from extractors.database.catalogue import Ending, Prospects, Scene, this_worker
from extractors.database.connection import database_errors
from extractors.database.parcels import boxes_with_parcels, meets_any, select_parcels
from extractors.database.results import Spool, encode_hists
from extractors.endings import cause_of, ending_of, prospect_in_words
from extractors.errors import ClaimLostError, ExtractionError, WorldError, one_line
from extractors.health import report
from extractors.logs import SceneLines, configure, progress
from extractors.model import Account
from extractors.patience import pause_for, sleep, wait_out
from extractors.products.card import Card
from extractors.raster.decoding import Imagery
from extractors.resources import Session
from extractors.runtime.cores import keep_libraries_single_threaded
from extractors.runtime.deadline import GRACE_SECONDS, deadline
from extractors.runtime.options import Options, read_options
from extractors.runtime.scratch import scratch
from extractors.runtime.signals import Stopped, Stopping

log = logging.getLogger(__name__)

NOTHING_TO_DO = "No image with status 'ingested' found"
# What takes long to load, and is needed as soon as there is work.
LIBRARIES = (
    "extractors.raster.bands",
    "extractors.raster.chunks",
    "extractors.statistics.scanline",
    "extractors.statistics.rasterstats",
    "geopandas",
)


def main(card: Card, arguments: Sequence[str] | None = None) -> int:
    """Run the worker's command; returns the exit code. The one place where errors become lines and codes."""
    options = read_options(card.code, arguments)
    configure(options.verbose, options.log_format, worker=this_worker(), card=card.code)
    keep_libraries_single_threaded()
    # rasterio says this of arrays that have no georeference and need none; silencing it there is not thread-safe.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    stopping = Stopping()
    try:
        report("starting")
        failpoints.arm()
        failpoints.reach("start")
        return run(card, options, stopping)
    except ExtractionError as error:
        (error.lines or log).error("%s", error, exc_info=options.verbose)
        return error.exit_code
    except Stopped as stopped:
        log.warning("%s", stopped)
        logging.shutdown()
        sys.stdout.flush()
        # A transfer thread may hang in the network; the interpreter would wait for it.
        os._exit(stopped.exit_code)
    except Exception as error:
        log.error("unexpected %s: %s; -v shows where", type(error).__name__, one_line(error), exc_info=options.verbose)
        return 1


def run(card: Card, options: Options, stopping: Stopping) -> int:
    """Take one scene, or scene after scene; 1 if any of them failed, else 0.

    What the world does to one scene may pass: with several to do, the worker pauses and goes on, until it has happened
    `outages_in_a_row` times.
    """
    with stopping.interruptible():
        session = Session(card, options)
        stopping.cancel_with(session.cancel)
        session.look_for_foreign()
    failed = idle = troubled = False
    outages = looks = 0
    while True:
        stopping.check()
        if troubled:
            # What an error refers to goes round in circles, and may include a scene's images.
            gc.collect()
            troubled = False
        try:
            report("looking for a scene")
            with stopping.cancellable():
                scene, prospects = take(session, options)
            if scene is not None:
                troubled = not extract(session, scene, stopping)
                failed |= troubled
            outages = 0
        except WorldError as error:
            stopping.check()
            forget_frames(error)
            outages += 1
            wait_out(error, outages, session, stopping)
            continue
        if scene is not None:
            idle, looks = False, 0
            if options.everything:
                continue
            return int(failed)
        pause = pause_for(prospects, looks, options)
        if pause is not None:
            looks += 1
            sleep(pause, stopping)
            continue
        if not idle:
            idle = True
            if options.scene is not None:
                log.info("%s", session.catalogue.explain(session.connection, options.scene))
            say_nothing_to_do(options)
        if options.watch_seconds is None:
            return int(failed)
        sleep(options.watch_seconds, stopping)


def forget_frames(error: BaseException) -> None:
    """Let go of what an error's traceback holds, a scene's images among it, before a pause that may be long."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    gc.collect()


def take(session: Session, options: Options) -> tuple[Scene | None, Prospects]:
    """The next scene; if there is none, what may still come."""
    scene = session.claim()
    if scene is not None:
        return scene, Prospects()
    # A worker that has outlived its deadline has stopped for good, and gives nothing back.
    longest = session.config.extraction.deadline_seconds + 2 * GRACE_SECONDS
    prospects = session.catalogue.prospects(session.connection, longest)
    if options.burst and not prospects.under_way:
        # What was under way when we claimed may have been given back before we asked for that.
        scene = session.claim()
    return scene, prospects


def say_nothing_to_do(options: Options) -> None:
    """On stdout, where other programs look for it; among lines of JSON as one of them."""
    if options.log_format == "json":
        log.info(NOTHING_TO_DO)
    else:
        print(NOTHING_TO_DO, flush=True)


def extract(session: Session, scene: Scene, stopping: Stopping) -> bool:
    """Extract a claimed scene; False if it failed. If the world failed, the configuration cannot work or we are asked
    to stop, the scene is given back and the error goes on."""
    account = Account(bands=tuple(session.labels.values()))
    lines = SceneLines(log, scene.id, scene.reference)
    report(f"working on scene {scene.id}", session.config.extraction.deadline_seconds)
    try:
        with lines.in_hand(), deadline(session.config.extraction.deadline_seconds, lines):
            with scratch(session.options.data_dir, scene.id) as folder:
                process(session, scene, folder, account, lines, stopping)
            failpoints.reach("files_removed")
    except (Exception, Stopped) as error:
        expected = isinstance(error, ExtractionError | Stopped)
        cause = cause_of(error if expected else stopping.behind(error))
        if isinstance(cause, Stopped) and not expected:
            lines.warning("after a signal, %s: %s", type(error).__name__, one_line(error))
        ending = ending_of(cause, scene, session.config.extraction)
        try:
            ours = session.release(scene, ending, account)
            published = not ours and session.published(scene)
        except ExtractionError as second:
            session.settle_later(scene, ending, account)
            message = f"{ending.reason}; it stays 'inprogress', because that cannot be written now ({second})"
            raise type(second)(message).about(lines) from error
        failpoints.reach("released")
        if published:
            lines.warning("its rows are written, though the database's answer was lost (%s)", ending.reason)
            return True
        given_back = not ending.counts
        if not ours:
            lines.warning("somebody else has set its status meanwhile, which stays")
        elif given_back:
            lines.warning("given back, its status is 'ingested' again")
        if isinstance(cause, Stopped):
            raise cause from error
        if given_back and isinstance(cause, ExtractionError):
            raise type(cause)(ending.reason).about(lines) from error
        prospect = prospect_in_words(ending, scene, session.config.extraction)
        lines.error("%s: %s%s", ending.outcome, ending.reason, prospect, exc_info=session.options.verbose)
        return False
    finally:
        session.unlock()
    return True


def process(
    session: Session, scene: Scene, folder: Path, account: Account, lines: SceneLines, stopping: Stopping
) -> None:
    """A scene's way from top to bottom."""
    most_bytes = session.config.extraction.spool_megabytes * 1_000_000
    with closing(Spool(folder, most_bytes)) as signatures, closing(Spool(folder, most_bytes)) as hists:
        rows = Rows([], signatures, hists)
        with stopping.interruptible():
            any_parcels = extract_chunks(session, scene, folder, account, lines, rows)
        status = "extracted" if any_parcels else "no_parcels"
        publish(session, scene, status, account, rows)
    if not any_parcels:
        lines.info("no_parcels: no parcel meets the footprint and the AOI")
        return
    lines.info(
        "extracted: %d signatures written in %.1f s; %s",
        account.rows_written.total(),
        account.seconds["publish"],
        account.in_words(),
    )


@dataclass
class Rows:
    """All that a scene gives to the database: parcels computed, and the encoded rows of both tables."""

    pids: list[int]
    signatures: Spool
    hists: Spool


def extract_chunks(
    session: Session, scene: Scene, folder: Path, account: Account, lines: SceneLines, rows: Rows
) -> bool:
    """All that comes before writing: download, selection, statistics. False if the scene meets no parcel."""
    # GDAL, GeoPandas and boto3 take a second to load: only now that there is work, and while the files come.
    threading.Thread(target=_load_libraries, name="loading", daemon=True).start()
    card, connection, extraction = session.card, session.connection, session.config.extraction
    lines.info("claimed for %s, observed %s", session.results.table, scene.obstime)
    card.check_reference(scene.reference)
    account.null_geometries, account.empty_geometries = session.parcels_without_geometry()
    if account.null_geometries or account.empty_geometries:
        lines.warning(
            "%d parcels have no geometry and %d an empty one: no scene meets them",
            account.null_geometries,
            account.empty_geometries,
        )

    with _step(account, "parcels"):
        any_parcels = meets_any(connection, session.catalogue, session.parcels, scene)
    if not any_parcels:
        return False

    with _step(account, "download"):
        product = card.find(scene, session.store, extraction)
    failpoints.reach("s3_listed")

    def occupied(epsg: int, boxes: Sequence[tuple[float, float, float, float]]) -> list[int]:
        return boxes_with_parcels(connection, session.catalogue, session.parcels, scene, epsg, boxes)

    with Imagery(card, product, folder, session.cores, occupied) as imagery:
        with _step(account, "download"), session.download_slot():
            objects = {folder / item.file_name: item for item in product.objects}
            session.store.download(objects, f"scene {scene.id}", imagery.arrived)
        failpoints.reach("files_verified")
        megabytes = sum(item.size for item in product.objects) / 1e6
        lines.info("downloaded %d files, %.1f MB in %.1f s", len(objects), megabytes, account.seconds["download"])
        select_and_compute(session, scene, folder, account, lines, rows, imagery)
    lines.info("computed statistics in %.1f s", account.seconds["statistics"])
    return True


def select_and_compute(
    session: Session, scene: Scene, folder: Path, account: Account, lines: SceneLines, rows: Rows, imagery: Imagery
) -> None:
    """From files that are there to encoded rows."""
    from extractors.raster.chunks import How

    card, extraction = session.card, session.config.extraction
    epsg = imagery.grids()[0].bands[0].epsg
    account.versions |= _versions()
    with ExitStack() as stack:
        with _step(account, "parcels"):
            selection = stack.enter_context(
                select_parcels(
                    session.connection, session.catalogue, session.parcels, scene, epsg, extraction.chunk_size, folder
                )
            )
        failpoints.reach("parcels_selected")
        lines.info("selected %d parcels in %.1f s, in EPSG:%d", selection.total, account.seconds["parcels"], epsg)
        bar = stack.enter_context(progress(selection.total, "parcel", f"scene {scene.id}"))
        how = How(
            session.engine, extraction.verified_parcels, session.labels, card.classified if session.hists else None
        )
        with _step(account, "statistics"):
            for result in imagery.compute(selection.chunks, how):
                failpoints.reach("chunk_computed")
                account.add(result)
                rows.pids += result.pid.tolist()
                for part in result.signatures:
                    rows.signatures.add(session.results.encode(scene.id, part), len(part.pid))
                rows.hists.add(encode_hists(scene.id, result.hists), len(result.hists))
                failpoints.reach("chunk_spooled")
                bar.update(result.parcels)


def publish(session: Session, scene: Scene, status: str, account: Account, rows: Rows) -> None:
    """All rows of the scene, its status and the end of its attempt in one transaction: all of it, or nothing."""
    connection, catalogue = session.connection, session.catalogue
    with database_errors(connection, "writing the signatures"), connection, connection.cursor() as cursor:
        with _step(account, "publish"):
            failpoints.reach("publish_begin")
            before = catalogue.extracted_before(cursor, scene)
            into_results = {aoi for aoi, table in before if table == str(session.results.table)}
            session.results.clear(cursor, scene.id, catalogue.args.name, into_results, rows.pids)
            if session.hists is not None:  # may be shared by several results tables
                session.hists.clear(cursor, scene.id, catalogue.args.name, {aoi for aoi, _ in before}, rows.pids)
            session.results.copy(cursor, rows.signatures)
            if session.hists is not None:
                session.hists.copy(cursor, rows.hists)
        if not catalogue.finish(cursor, scene, Ending(status, status, account.in_words()), account):
            raise ClaimLostError(
                "somebody else has changed the scene's status meanwhile; nothing was written, their status stays"
            )
        failpoints.reach("before_commit")
    failpoints.reach("committed")


@contextmanager
def _step(account: Account, name: str) -> Iterator[None]:
    """Add the seconds spent to a step's total."""
    started = time.monotonic()
    try:
        yield
    finally:
        account.seconds[name] = account.seconds.get(name, 0) + time.monotonic() - started


@cache
def _load_libraries() -> None:
    """Import what the work on a scene needs; an error is left to those who import it again."""
    with suppress(Exception):
        for module in LIBRARIES:
            importlib.import_module(module)
        # All this stays: the garbage collector need not go through it again and again, which took 2 % of the time.
        gc.freeze()


def _versions() -> dict[str, str]:
    import rasterio
    import rasterstats

    return {"gdal": rasterio.__gdal_version__, "rasterstats": rasterstats.__version__}
