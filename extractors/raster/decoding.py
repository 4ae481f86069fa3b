"""The images of a scene at work: opened and decoded as the files arrive, then chunk after chunk of parcels computed.

Nothing heavy is loaded before the first file is there: GDAL takes a second, during which files can come already.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from extractors.products.card import Card, Product
from extractors.raster.pool import Pool

if TYPE_CHECKING:
    from extractors.database.parcels import ParcelChunk
    from extractors.raster.bands import GridBands, SceneBands
    from extractors.raster.chunks import ChunkResult, How

# Enough that no core waits for the database, few enough that parcels do not pile up in memory.
CHUNKS_AHEAD_PER_CORE = 4

# Which of some boxes (west, south, east, north in the CRS with this EPSG code) may hold parcels, by position.
Occupied = Callable[[int, Sequence[tuple[float, float, float, float]]], Sequence[int]]


class Imagery:
    """A scene's bands and the threads that work on them; both are ended with the block."""

    def __init__(self, card: Card, product: Product, folder: Path, cores: int, occupied: Occupied) -> None:
        self._card = card
        self._product = product
        self._folder = folder
        self._cores = cores
        self._occupied = occupied
        self._pool = Pool(cores)
        self._stack = ExitStack()
        self._bands: SceneBands | None = None

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Files are closed when no thread reads any more.
        with self._stack:
            self._pool.__exit__(kind, error, traceback)

    def arrived(self, path: Path) -> None:
        """Start decoding the tiles of this file that hold parcels, while other files still come and the database
        selects the parcels. What goes wrong in a tile is reported to the chunk that needs it."""
        grids = self._opened().arrived(path)
        if not grids:
            return
        tiles = [tile for group in grids for tile in group.all_tiles()]
        for index in self._occupied(grids[0].bands[0].epsg, [bounds for _, bounds in tiles]):
            self._pool.prepare(tiles[index][0])

    def grids(self) -> "list[GridBands]":
        """All bands; their files must be there now."""
        return self._opened().grids()

    def compute(self, chunks: "Iterable[ParcelChunk]", how: "How") -> "Iterator[ChunkResult]":
        """Results in the order of the chunks, of which only a few are under way at any time: memory stays bounded."""
        from extractors.raster.chunks import compute, needs

        grids = self.grids()
        running: deque[Future[ChunkResult]] = deque()
        for chunk in chunks:
            running.append(self._pool.submit(compute, chunk, grids, how, needs=needs(chunk, grids)))
            if len(running) > CHUNKS_AHEAD_PER_CORE * self._cores:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def _opened(self) -> "SceneBands":
        if self._bands is None:
            from extractors.raster.bands import scene_bands

            files = self._product.bands(self._folder)
            self._bands = self._stack.enter_context(scene_bands(files, self._card.driver, self._card.nodata))
        return self._bands
