"""The work on one scene: files in, encoded rows out. It sets no status, handles no signal and ends no process."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import rasterio
import rasterstats

from extractors import failpoints
from extractors.database.copy import add_result, parcel_chunk
from extractors.database.parcels import Box, Selection
from extractors.database.results import Rows
from extractors.database.slots import download_slot
from extractors.delivery import content_is_final, find, refused_alone
from extractors.errors import (
    UnusableSceneError,
)
from extractors.logs import progress
from extractors.model import PARTNERS, Clock, ParcelCounts, Product, Scene, StatisticsRequest
from extractors.products import manifest
from extractors.products.manifest import Checksums
from extractors.raster.bands import Band
from extractors.raster.decoding import Decoding
from extractors.resources import Resources
from extractors.signatures import ChunkResult
from extractors.statistics.rules import shaped, with_enough_pixels

log = logging.getLogger(__name__)

# The part of a scene's memory that rows may take, those of all tables together.
ROWS_SHARE = 4
# What the numbers depend on, for the log row of an attempt that has read pixels.
VERSIONS = {"gdal": rasterio.__gdal_version__, "rasterstats": rasterstats.__version__}


def extract_scene(scene: Scene, resources: Resources, folder: Path, counts: ParcelCounts, clock: Clock) -> Rows | None:
    """Download a claimed scene, select its parcels and compute their statistics: the rows to publish, to be closed.

    None: no parcel meets the footprint and the AOI. Files go into `folder`, which belongs to this attempt alone; what
    came of the parcels, and the seconds of each step, go into `counts`. clock: stopped while the worker waits for the
    store, or for a download slot. Raises SceneError, OutageError, ConfigurationError.
    """
    card, parcels, settings = resources.card, resources.parcels, resources.config.extraction
    begin(scene, resources, counts)
    with counts.step("parcels"):
        if not parcels.meet(scene):
            return None
    with counts.step("download"), clock.paused(f"looking for scene {scene.id} in the store"):
        store, product = find(scene, resources)
    failpoints.reach("s3_listed")
    objects = {folder / item.file_name: item for item in product.objects}
    occupied = partial(parcels.boxes_with_parcels, scene)
    with (
        ExitStack() as on_failure,
        refused_alone(store, resources.start),
        content_is_final(store, product.objects),
        Decoding(product.bands, folder, card.format, resources.limits, occupied) as images,
    ):
        rows = on_failure.enter_context(Rows(folder, most_in_memory(resources)))
        with downloading(scene, resources, counts, clock):
            known = manifest.fetch(store, product.manifest, folder) if product.manifest else {}
            arrived = counted(clock, images.arrived, known)
            store.download(objects, f"scene {scene.id}", arrived, settings.deadline_seconds)
        say_downloaded([item.size for item in product.objects], counts)
        srid = look_at(images.bands, resources, counts)
        check_place(images.bands, parcels.footprint_bounds(scene, srid))
        request = harmonised(product, folder, resources.request, counts)
        with selected(scene, resources, srid, folder, counts) as selection, counts.step("statistics"):
            rows.selected = selection.total
            rows.pids.extend(selection.pids)
            chunks = (shaped(parcel_chunk(block, srid), resources.rules) for block in selection.blocks)
            for chunk in with_progress(images.compute(chunks, request), selection.total, scene):
                with_enough_pixels(chunk, resources.rules)
                counts.add(chunk)
                add_result(rows, resources.tables.of_results, scene.id, chunk)
        on_failure.pop_all()
    say_computed(counts)
    return rows


def most_in_memory(resources: Resources) -> int:
    """Bytes of rows of each table that are kept in memory."""
    # Two tables at least: with one, as much as ever.
    share = ROWS_SHARE * max(2, len(resources.tables.of_results))
    return min(resources.config.extraction.spool_megabytes * 1_000_000, resources.limits.memory // share)


def begin(scene: Scene, resources: Resources, counts: ParcelCounts) -> None:
    """Say what is going to be done; what the scene's name promises, and what its numbers will mean, goes into `counts`.
    Raises UnusableSceneError."""
    counts.settings |= resources.config.extraction.meaning(resources.card.code) | {"engine": resources.request.engine}
    promised = resources.card.bands(scene.reference)
    request = resources.request
    counts.bands = request.labels([layer for layer in request.layers if {*layer.bands} <= {*promised}])
    log.info("claimed for %s, observed %s", resources.tables.results, scene.obstime)
    resources.card.check_reference(scene.reference)
    resources.parcels.require_footprint(scene)
    count_parcels_without_geometry(resources, counts)


@contextmanager
def downloading(scene: Scene, resources: Resources, counts: ParcelCounts, clock: Clock) -> Iterator[None]:
    """A block in which this worker may download; its time is the store's, or that of others who download."""
    slots = resources.store_config.s3.fleet_downloads
    with (
        counts.step("download"),
        clock.paused(f"downloading scene {scene.id}"),
        download_slot(resources.database, slots),
    ):
        yield


def count_parcels_without_geometry(resources: Resources, counts: ParcelCounts) -> None:
    """Parcels that no scene ever meets are counted and named, so that nobody looks for their rows in vain."""
    counts.null_geometries, counts.empty_geometries = resources.parcels.without_geometry()
    if counts.null_geometries or counts.empty_geometries:
        log.warning(
            "%d parcels have no geometry and %d an empty one: no scene meets them",
            counts.null_geometries,
            counts.empty_geometries,
        )


def counted(clock: Clock, arrived: Callable[[Path], object], known: Checksums) -> Callable[[Path], None]:
    """The same function, with its time counted, after the file was compared with what is known of it."""

    def running(path: Path) -> None:
        with clock.running():
            manifest.check(path, known)
            arrived(path)

    return running


def say_downloaded(sizes: list[int], counts: ParcelCounts) -> None:
    """All files are there, with the sizes and checksums that the store announces."""
    failpoints.reach("files_verified")
    log.info("downloaded %d files, %.1f MB in %.1f s", len(sizes), sum(sizes) / 1e6, counts.seconds["download"])


def look_at(bands: list[Band], resources: Resources, counts: ParcelCounts) -> int:
    """What the files say of themselves goes into `counts`: which bands there are, and what their numbers depend on.
    Returns the number of their CRS."""
    names = {band.name: band for band in bands}
    layers = [layer for layer in resources.request.layers if {*layer.bands} <= names.keys()]
    if not layers:
        wanted = ", ".join(layer.band for layer in resources.request.layers)
        raise UnusableSceneError(f"the product has {', '.join(names)}, and none of the bands wanted ({wanted})")
    labels = {layer.bands[0]: layer.label for layer in resources.request.layers if len(layer.bands) == 1}
    counts.bands = resources.request.labels(layers)
    by_label = {layer.label: layer.bands[0] for layer in layers if len(layer.bands) == 1}
    # Bands that have no label stand there by their names.
    by_label |= {band: band for layer in layers for band in layer.bands if band not in by_label.values()}
    missing = (PARTNERS[name] for name in names if name in PARTNERS)
    counts.absent = tuple(labels[name] for name in missing if name not in names and name in labels)
    counts.settings |= {
        "srid": bands[0].srid,
        "bands": {label: names[band].settings for label, band in by_label.items()},
    }
    for label, band in by_label.items():
        said = {key: value for key, value in names[band].settings.items() if key != "number"}
        if said:
            log.info("%s: the file declares %s", label, said)
    for label in counts.absent:
        log.info("the product has no %s", label)
    return bands[0].srid


def harmonised(product: Product, folder: Path, request: StatisticsRequest, counts: ParcelCounts) -> StatisticsRequest:
    """The request, with every band shifted by what the product says of it; what it says goes into `counts`.
    Raises UnusableSceneError if it says nothing of a band that should have an offset."""
    if product.radiometry is None:
        return request
    found = product.radiometry(folder)
    shifts = {band: found.offset_of(band) for layer in request.layers for band in layer.bands}
    # Bands that have no label stand there by their names.
    labels = {layer.label: layer.band for layer in request.layers if layer.formula is None}
    labels |= {band: band for band in shifts.keys() - labels.values()}
    offsets = {label: shifts[band] for label, band in labels.items()}
    counts.settings["harmonised"] = {"baseline": found.baseline, "offsets": offsets, "read_from": found.origin}
    log.info("harmonised by %s: baseline %s, offsets %s", found.origin, found.baseline, offsets)
    return replace(request, shifts=shifts)


def check_place(bands: list[Band], footprint: Box | None) -> None:
    """Raise UnusableSceneError if a band lies elsewhere than the catalogue's footprint: one of them is wrong, and all
    parcels would seem to lie outside. (Less than that may be: footprints are rough.)"""
    for band in bands:
        west, south, east, north = band.grid.bounds
        if footprint and (
            west >= footprint[2] or east <= footprint[0] or south >= footprint[3] or north <= footprint[1]
        ):
            raise UnusableSceneError(
                f"the image does not meet the catalogue's footprint: {band.name} is at {_in_words(band.grid.bounds)}, "
                f"the footprint at {_in_words(footprint)} (west, south, east, north in EPSG:{band.srid}); fix the one "
                "that is wrong"
            )


def _in_words(box: Box) -> str:
    return ", ".join(f"{side:.7g}" for side in box)


def say_computed(counts: ParcelCounts) -> None:
    """All statistics are there. Infinite pixels, which a sound product has not, are left out of them, not silently."""
    if counts.not_finite:
        counts.settings["not_finite_pixels"] = dict(counts.not_finite)
        listing = ", ".join(f"{label} {pixels}" for label, pixels in counts.not_finite.items())
        log.warning("infinite pixels of parcels, left out like nodata: %s; see how the product was made", listing)
    log.info("computed statistics in %.1f s", counts.seconds["statistics"])


@contextmanager
def selected(scene: Scene, resources: Resources, srid: int, folder: Path, counts: ParcelCounts) -> Iterator[Selection]:
    """The scene's parcels in the CRS of this number, kept in a file in `folder` until the block ends."""
    counts.versions |= VERSIONS
    if resources.start.by_fraction:
        counts.versions["exactextract"] = metadata.version("exactextract")
    with ExitStack() as stack:
        with counts.step("parcels"):
            chunk_size = resources.config.extraction.chunk_size
            selection = stack.enter_context(resources.parcels.select(scene, srid, chunk_size, folder))
        failpoints.reach("parcels_selected")
        log.info("selected %d parcels in %.1f s, in EPSG:%d", selection.total, counts.seconds["parcels"], srid)
        yield selection


def with_progress(results: Iterator[ChunkResult], total: int, scene: Scene) -> Iterator[ChunkResult]:
    """The results as they come, with a progress bar where somebody looks at a terminal."""
    with progress(total, "parcel", f"scene {scene.id}") as bar:
        for result in results:
            failpoints.reach("chunk_computed")
            yield result
            failpoints.reach("chunk_spooled")
            bar.update(result.parcels)
