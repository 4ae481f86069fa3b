"""The work on one scene: files in, encoded rows out. It sets no status, handles no signal and ends no process."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import rasterio
import rasterstats

from extractors import failpoints
from extractors.database.copy import add_result, parcel_chunk
from extractors.database.parcels import Selection
from extractors.database.results import ResultsTable, Rows
from extractors.database.slots import download_slot
from extractors.logs import progress
from extractors.model import Check, ParcelCounts, Scene
from extractors.products.store import ObjectStore
from extractors.raster.decoding import Decoding
from extractors.raster.libraries import check_driver, check_proj, transformation_used
from extractors.resources import Resources, Start
from extractors.signatures import ChunkResult

log = logging.getLogger(__name__)

# What the numbers depend on, for the log row of an attempt that has read pixels.
# No key begins with this.
NO_PREFIX = "parcel-extraction asks whether there is an answer/"
VERSIONS = {"gdal": rasterio.__gdal_version__, "rasterstats": rasterstats.__version__}


def extract_scene(scene: Scene, resources: Resources, folder: Path, counts: ParcelCounts) -> Rows | None:
    """Download a claimed scene, select its parcels and compute their statistics: the rows to publish, to be closed.

    None: no parcel meets the footprint and the AOI. Files go into `folder`, which belongs to this attempt alone; what
    came of the parcels, and the seconds of each step, go into `counts`. Raises SceneError, OutageError,
    ConfigurationError.
    """
    card, parcels, settings = resources.card, resources.parcels, resources.config.extraction
    log.info("claimed for %s, observed %s", resources.tables.results, scene.obstime)
    card.check_reference(scene.reference)
    count_parcels_without_geometry(resources, counts)
    with counts.step("parcels"):
        if not parcels.meet(scene):
            return None
    with counts.step("download"):
        store = open_store(resources.start)
        product = card.find(scene, store, settings)
    failpoints.reach("s3_listed")
    objects = {folder / item.file_name: item for item in product.objects}
    occupied = partial(parcels.boxes_with_parcels, scene)
    table = ResultsTable(resources.tables.results)
    with ExitStack() as on_failure, Decoding(product.bands, folder, card.format, resources.cores, occupied) as images:
        rows = on_failure.enter_context(Rows(folder, settings.spool_megabytes * 1_000_000))
        with counts.step("download"), download_slot(resources.database, resources.store_config.s3.fleet_downloads):
            store.download(objects, f"scene {scene.id}", images.arrived)
        say_downloaded([item.size for item in product.objects], counts)
        with selected(scene, resources, images.epsg, folder, counts) as selection, counts.step("statistics"):
            rows.pids.extend(selection.pids)
            chunks = (parcel_chunk(block, images.epsg) for block in selection.blocks)
            for chunk in with_progress(images.compute(chunks, resources.request), selection.total, scene):
                counts.add(chunk)
                add_result(rows, table, scene.id, chunk)
        on_failure.pop_all()
    log.info("computed statistics in %.1f s", counts.seconds["statistics"])
    return rows


def count_parcels_without_geometry(resources: Resources, counts: ParcelCounts) -> None:
    """Parcels that no scene ever meets are counted and named, so that nobody looks for their rows in vain."""
    counts.null_geometries, counts.empty_geometries = resources.parcels.without_geometry()
    if counts.null_geometries or counts.empty_geometries:
        log.warning(
            "%d parcels have no geometry and %d an empty one: no scene meets them",
            counts.null_geometries,
            counts.empty_geometries,
        )


def checks(start: Start) -> list[Check]:
    """What has to be seen of libraries and store before the first scene is claimed."""
    return [
        Check("PROJ", check_proj),
        Check("GDAL", partial(check_driver, start.card.format.driver)),
        Check("accuracy", partial(check_accuracy, start), ("database", "reference systems", "PROJ")),
        Check("store", partial(check_store, start)),
    ]


def check_accuracy(start: Start) -> str:
    """Warns if PostGIS lacks a grid, and so transforms the parcels with less accuracy than it could."""
    found = start.database_checks.position()
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
    """That the store can be asked, as it is configured."""
    open_store(start).list_objects(NO_PREFIX)
    return f"{start.store_config.s3.bucket} at {start.store_config.s3.host}"


def open_store(start: Start) -> ObjectStore:
    """The store; one client serves all scenes of a worker."""
    if start.store is None:
        start.store = ObjectStore(start.store_config.s3, str(start.options.s3_config))
    return start.store


def say_downloaded(sizes: list[int], counts: ParcelCounts) -> None:
    """All files are there, with the sizes and checksums that the store announces."""
    failpoints.reach("files_verified")
    log.info("downloaded %d files, %.1f MB in %.1f s", len(sizes), sum(sizes) / 1e6, counts.seconds["download"])


@contextmanager
def selected(scene: Scene, resources: Resources, epsg: int, folder: Path, counts: ParcelCounts) -> Iterator[Selection]:
    """The scene's parcels in EPSG:`epsg`, kept in a file in `folder` until the block ends."""
    counts.versions |= VERSIONS
    with ExitStack() as stack:
        with counts.step("parcels"):
            chunk_size = resources.config.extraction.chunk_size
            selection = stack.enter_context(resources.parcels.select(scene, epsg, chunk_size, folder))
        failpoints.reach("parcels_selected")
        log.info("selected %d parcels in %.1f s, in EPSG:%d", selection.total, counts.seconds["parcels"], epsg)
        yield selection


def with_progress(results: Iterator[ChunkResult], total: int, scene: Scene) -> Iterator[ChunkResult]:
    """The results as they come, with a progress bar where somebody looks at a terminal."""
    with progress(total, "parcel", f"scene {scene.id}") as bar:
        for result in results:
            failpoints.reach("chunk_computed")
            yield result
            failpoints.reach("chunk_spooled")
            bar.update(result.parcels)
