"""Where a scene's product comes from: the store that has it, what is found there, and whose fault it is if nothing
usable comes."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from extractors.config import Directory
from extractors.database.places import PLACES_TABLE, Places
from extractors.errors import (
    ConfigurationError,
    DeliveryError,
    SceneError,
    SceneNotFoundError,
    StoreUnavailableError,
    UnusableSceneError,
)
from extractors.model import Product, Scene, StoredObject
from extractors.products.source import Source
from extractors.products.store import open_source
from extractors.resources import Resources, Start

log = logging.getLogger(__name__)

# A product has up to 5 GB. Larger than this, a listing is wrong.
MOST_BYTES = 100_000_000_000


def folder_of_scenes(start: Start) -> str:
    """What the keys of all scenes of this kind begin with: nothing in particular if there is a table that says where
    they lie. (It would lie beside the catalogue.)"""
    try:
        catalogue = None if start.database is None else start.reader.catalogue
    except ConfigurationError:  # which another check says
        catalogue = None
    if start.database is not None and catalogue is not None and Places(start.database, catalogue).any():
        return ""
    return start.card.first_folder


def open_store(start: Start, bucket: str | None = None) -> Source:
    """The store, or another bucket of it; one client serves all scenes of a worker."""
    settings = start.store_config.s3
    if bucket is None or isinstance(settings, Directory) or bucket == settings.bucket:
        bucket = None
    elif bucket not in start.stores:
        settings = settings.model_copy(update={"bucket": bucket})
    if bucket not in start.stores:
        start.stores[bucket] = open_source(settings, str(start.options.s3_config))
    return start.stores[bucket]


def find(scene: Scene, resources: Resources) -> tuple[Source, Product]:
    """The scene's product, and the store that has it. A store that has none of its kind is the wrong one, or a
    directory that is not mounted; a bucket that only a row of a table names is that row's fault."""
    card, place = resources.card, resources.places.of(scene)
    store = open_store(resources.start, place and place.bucket)
    usual = open_store(resources.start)
    try:
        with refused_alone(store, resources.start):
            product = card.find(replace(scene, prefix=place and place.prefix), store, resources.config.extraction)
    except SceneNotFoundError:
        if store is usual:
            store.check(folder_of_scenes(resources.start))
        raise
    except (ConfigurationError, StoreUnavailableError) as error:
        if store is usual or not (error.answered or isinstance(error, ConfigurationError)):
            raise
        usual.holds("")
        raise SceneError(f"{PLACES_TABLE} says that the product lies in {store.name}: {error}") from error
    if place is not None:
        log.info("%s says that it lies in %s under %s", PLACES_TABLE, store.name, place.prefix)
    check_size(product)
    return store, product


def check_size(product: Product) -> None:
    """Raise DeliveryError if the store lists more than a product can have."""
    size = sum(item.size for item in product.objects)
    if size > MOST_BYTES:
        raise DeliveryError(
            f"the store lists {len(product.objects)} objects with {size / 1e9:,.0f} GB in all, more than any product "
            f"has ({MOST_BYTES / 1e9:,.0f} GB); see the objects there"
        )


@contextmanager
def refused_alone(store: Source, start: Start) -> Iterator[None]:
    """A block in which what the store refuses is the scene's own fault, if it serves other objects just now: then the
    scene must not stop the others. Else it is an outage, or the configuration's fault, as it seemed."""
    try:
        yield
    except (StoreUnavailableError, ConfigurationError) as error:
        if not error.answered or not store.serves_others(folder_of_scenes(start)):
            raise
        alone = SceneError(f"{error} (but other objects are served, so this is about the scene's alone)")
        alone.pause = error.pause
        raise alone from error


@contextmanager
def content_is_final(store: Source, objects: Sequence[StoredObject]) -> Iterator[None]:
    """A block in which an error in the content of files is final if they are for certain what lies in the store, and
    only then: otherwise another download may help. If they cannot even be read again, it is no error in them."""
    try:
        yield
    except SceneError as error:
        if type(error) not in {SceneError, UnusableSceneError}:
            raise
        store.confirm(objects)
        kind = UnusableSceneError if all(store.is_exact(item) for item in objects) else SceneError
        raise kind(str(error)) from error
