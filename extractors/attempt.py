"""One attempt at one scene: extract it, then publish its rows or give it back. The unit that any scheduler can run."""

import gc
import logging
import warnings
from contextlib import closing
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import NamedTuple

import psycopg2

from extractors import failpoints
from extractors.backoff import Backoff
from extractors.config import Extraction
from extractors.database.results import Rows
from extractors.database.server_errors import translated
from extractors.errors import (
    BROKEN_DISK,
    NO_ROOM,
    ClaimLostError,
    ConfigurationError,
    DiskError,
    DiskFullError,
    EntryLostError,
    ExtractionError,
    NoDatabaseError,
    OutageError,
    SceneError,
    SceneNotFoundError,
    StoreUnavailableError,
    is_of_network,
    one_line,
)
from extractors.logs import about
from extractors.model import ABSENT, GIVEN_BACK, REDONE, SUPERSEDED, Clock, Outcome, ParcelCounts, Scene
from extractors.resources import Resources
from extractors.runtime.cores import keep_libraries_single_threaded
from extractors.runtime.deadline import Deadline
from extractors.runtime.scratch import scratch
from extractors.runtime.signals import Signals, Stopped

log = logging.getLogger(__name__)

LONGEST_RETRY_PAUSE_SECONDS = 900.0
# How long a worker that watches looks for products which are catalogued before they are stored.
HOURS_OF_WATCHING = 72.0


def attempt(resources: Resources, scene: Scene, signals: Signals | None = None) -> Outcome:
    """Try a claimed scene once. Whatever happens, catalogue and log say it, no row is left without its scene, and the
    local files are removed; the outcome says it too: nothing is raised."""
    signals = signals or Signals()
    counts = ParcelCounts()
    deadline = Deadline(f"working on scene {scene.id}", resources.config.extraction.deadline_seconds)
    with about(scene):
        try:
            with deadline.running():
                outcome = extract_and_publish(resources, scene, counts, signals, deadline)
                failpoints.reach("files_removed")
        except (Exception, Stopped) as error:
            outcome = give_back(resources, scene, error, counts, signals)
        finally:
            resources.queue.unlock()
    if outcome.exit_code:
        # Exceptions form reference cycles that keep images alive.
        gc.collect()
    return outcome


def extract_and_publish(
    resources: Resources, scene: Scene, counts: ParcelCounts, signals: Signals, clock: Clock
) -> Outcome:
    """The way of a scene that meets no trouble."""
    with scratch(resources.options.data_dir, scene.id) as folder:
        with signals.interruptible():
            leaving = () if scene.redo is None else resources.parcels.leaving(scene)
            rows = heavy_code().scene.extract_scene(scene, resources, folder, counts, clock)
        kind = status = "no_parcels" if rows is None else "extracted"
        if scene.redo is not None:
            kind = REDONE
        outcome = Outcome(kind, status, counts.in_words())
        with closing(rows or Rows(folder, 0)) as rows:
            # Their rows go, with those of the parcels that were selected.
            rows.pids.extend(leaving)
            if scene.redo is not None and scene.redo.pids is not None:
                counts.settings |= {"parcels_listed": len(scene.redo.pids), "parcels_left": len(leaving)}
            outcome = resources.queue.publishing.publish(scene, outcome, counts, rows)
    if outcome.kind == SUPERSEDED:
        log.info("superseded: %s; nothing was written", outcome.reason)
    elif kind == "no_parcels":
        log.info("no_parcels: no parcel meets the footprint and the AOI")
    else:
        log.info(
            "%s: %d signatures written in %.1f s; %s",
            kind,
            counts.rows_written.total(),
            counts.seconds["publish"],
            outcome.reason,
        )
        if leaving:
            log.info(
                "of %d parcels listed, %d have no rows any more: they do not meet the scene now, or are gone",
                *(counts.settings["parcels_listed"], len(leaving)),
            )
        if not counts.rows_written.total() and scene.redo is None:
            log.warning("extracted, and yet not one of its parcels has a row: see the reasons")
    return outcome


class HeavyCode(NamedTuple):
    """What lies behind the door."""

    scene: ModuleType
    start_checks: ModuleType


@cache
def heavy_code() -> HeavyCode:
    """The one door to GDAL, GeoPandas and boto3. They take a second to load, so it is opened with the first scene: a
    worker that finds nothing to do never waits for them."""
    keep_libraries_single_threaded()
    # rasterio says this of arrays that have no georeference and need none; silencing it there is not thread-safe.
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    try:
        from extractors import scene, start_checks  # noqa: PLC0415 (the one door)
    except Exception as error:
        raise ConfigurationError(f"a library cannot be loaded ({one_line(error)}); install the package anew") from error
    # All that was loaded stays: the garbage collector need not go through it again and again (2 % of the time).
    gc.freeze()
    return HeavyCode(scene, start_checks)


def give_back(
    resources: Resources, scene: Scene, error: BaseException, counts: ParcelCounts, signals: Signals
) -> Outcome:
    """Write down how an attempt failed, in catalogue and log table, and say it."""
    expected = isinstance(error, ExtractionError | Stopped)
    cause = error if expected else signals.behind(error)
    if isinstance(cause, Stopped) and not expected:
        log.warning("after a signal, %s: %s", type(error).__name__, one_line(error))
    settings = resources.config.extraction
    outcome = outcome_of(cause, scene.attempt, settings, pause_for_product(resources, scene))
    if resources.options.everything and isinstance(cause_of(cause), StoreUnavailableError | DiskFullError):
        # It may be about this scene alone: others first.
        outcome = replace(outcome, retry_after=settings.retry_pause_seconds)
    try:
        ours = resources.queue.give_back(scene, outcome, counts)
        published = None if ours else resources.queue.publishing.published(scene)
    except ExtractionError as second:
        log.debug("while giving it back:", exc_info=second)
        resources.queue.settle_later(scene, outcome, counts)
        stays = "'inprogress'" if scene.redo is None else "in the list"
        reason = f"{outcome.reason}; it stays {stays}, because that cannot be written now ({second})"
        return outcome_of(type(second)(reason), scene.attempt, settings)
    failpoints.reach("released")
    if published:
        done = (
            "its rows are written"
            if published.kind in {"extracted", REDONE}
            else f"{published.kind}: {published.reason}"
        )
        log.warning("%s, though the database's answer was lost (%s)", done, outcome.reason)
        return published
    traceback = error if resources.options.verbose and not isinstance(cause, Stopped) else None
    if isinstance(cause, EntryLostError):
        log.info("%s", outcome.reason)
        return outcome
    if not ours:
        what = "set its status meanwhile, which stays" if scene.redo is None else "listed it anew meanwhile"
        log.warning("somebody else has %s", what)
    if outcome.counts:
        again = next_attempt_in_words(outcome, scene.attempt, settings.max_attempts)
        log.error("%s: %s%s", outcome.kind, outcome.reason, again, exc_info=traceback)
    elif outcome.kind == ABSENT:
        log.warning("%s; it is looked for again in about %.0f s", outcome.reason, outcome.retry_after)
    elif ours:
        back = "its status is 'ingested' again" if scene.redo is None else "it stays in the list"
        log.warning("given back, %s", back, exc_info=traceback)
    return outcome


def pause_for_product(resources: Resources, scene: Scene) -> float | None:
    """Seconds until a product is looked for again that the store does not have; None: not any more."""
    settings = resources.config.extraction
    hours = settings.absent_retry_hours
    if hours is None:
        hours = 0.0 if resources.options.watch_seconds is None else HOURS_OF_WATCHING
    remaining = hours * 3600 - scene.waited
    if remaining <= 0:
        return None
    return min(max(settings.retry_pause_seconds, scene.waited / 4), LONGEST_RETRY_PAUSE_SECONDS, remaining)


def outcome_of(
    error: BaseException, attempt: int, settings: Extraction, pause_for_product: float | None = None
) -> Outcome:
    """What becomes of a scene whose `attempt`-th attempt ended with this error. Only what lies in the scene itself
    counts against it. pause_for_product: seconds until one is looked for again that was not found; None: never."""
    cause = cause_of(error)
    reason = one_line(cause)
    if isinstance(cause, Stopped):
        return Outcome(GIVEN_BACK, "ingested", reason, cause.exit_code, ends_worker=True)
    if isinstance(cause, OutageError | ConfigurationError):
        final = isinstance(cause, ConfigurationError | NoDatabaseError)
        return Outcome(GIVEN_BACK, "ingested", reason, cause.exit_code, ends_worker=final)
    if isinstance(cause, EntryLostError):
        return Outcome(GIVEN_BACK, "ingested", reason)
    if isinstance(cause, ClaimLostError):
        return Outcome("claim_lost", "ingested", reason, cause.exit_code)
    if isinstance(cause, SceneNotFoundError) and pause_for_product is not None:
        return Outcome(ABSENT, "ingested", reason, retry_after=pause_for_product)
    if not cause.retryable or attempt >= settings.max_attempts:
        return Outcome(cause.status, cause.status, reason, cause.exit_code)
    pause = max(Backoff(settings.retry_pause_seconds, LONGEST_RETRY_PAUSE_SECONDS).limit(attempt), cause.pause)
    return Outcome("error", "ingested", reason, cause.exit_code, retry_after=pause)


def exit_code_of(error: Exception, verbose: bool) -> int:
    """Say in one line what ends a command; returns its exit code. The one place where errors become lines and codes."""
    cause = error if isinstance(error, ExtractionError) else cause_of(error)
    log.error("%s", cause, exc_info=error if verbose else None)
    return cause.exit_code


def cause_of(error: BaseException) -> Stopped | OutageError | ConfigurationError | SceneError:
    """What an error means for a scene: one of ours, or the reason of an unexpected one in words."""
    if isinstance(error, Stopped | OutageError | ConfigurationError | SceneError):
        return error
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return DiskFullError(f"no room for the scene's files ({error.strerror}); make some, or name another --data-dir")
    if isinstance(error, OSError) and error.errno in BROKEN_DISK:
        return DiskError(f"a disk cannot be read or written ({one_line(error)}); see what is wrong with it")
    if isinstance(error, psycopg2.Error):
        return translated(error, "working on the scene")
    if is_of_network(error):
        return OutageError(f"the network failed ({type(error).__name__}: {one_line(error)}); see database and store")
    if isinstance(error, MemoryError):
        return SceneError(f"memory was short ({one_line(error)}); give the worker more, or fewer extraction.cores")
    return SceneError(f"unexpected {type(error).__name__}: {one_line(error)}; -v shows where")


def next_attempt_in_words(outcome: Outcome, attempt: int, most: int) -> str:
    """Which attempt that was, and when the next one may begin; as the end of a sentence."""
    if outcome.retry_after is not None:
        return f"; attempt {attempt} of {most}, the next one in about {outcome.retry_after:.0f} s"
    return f"; attempt {attempt} of {most}" if attempt > 1 else ""
