"""The images of a scene at work: opened and decoded as the files arrive, then computed chunk by chunk."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from extractors.model import BandFile, ImageFormat, Limits, ParcelChunk, StatisticsRequest
from extractors.raster.bands import Band
from extractors.raster.chunks import ChunkTask
from extractors.raster.plan import needed, plan
from extractors.raster.pool import Pool
from extractors.raster.scene_bands import scene_bands
from extractors.signatures import ChunkResult

# Enough that no core waits for the database, few enough that parcels do not pile up in memory.
CHUNKS_AHEAD_PER_CORE = 4
VERTICES_AHEAD_PER_CORE = 500_000

# Which of some boxes (west, south, east, north in the CRS of this number) may hold parcels, by position.
Occupied = Callable[[int, Sequence[tuple[float, float, float, float]]], Sequence[int]]


class Decoding:
    """A scene's bands, and the threads that decode them and compute statistics; both end with the block.

    Methods raise SceneError for files that cannot be used.
    """

    def __init__(
        self, bands: Sequence[BandFile], folder: Path, image_format: ImageFormat, limits: Limits, occupied: Occupied
    ) -> None:
        self._limits = limits
        self._occupied = occupied
        self._stack = ExitStack()
        self._opened = scene_bands(bands, folder, image_format, limits)
        self._pool = Pool(limits.cores)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # Files are closed last, when no thread reads any more.
            self._bands = stack.enter_context(self._opened)
            stack.enter_context(self._pool)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def arrived(self, path: Path) -> None:
        """Start decoding the tiles of this file that hold parcels, while other files still arrive and the database
        selects the parcels. An error in a tile is reported to the chunks that need it."""
        grids = self._bands.arrived(path)
        if not grids:
            return
        tiles = [tile for group in grids for tile in group.all_tiles()]
        for index in self._occupied(grids[0].bands[0].srid, [bounds for _, bounds in tiles]):
            self._pool.prepare(tiles[index][0])

    @property
    def bands(self) -> list[Band]:
        """What the files hold, all in one CRS; all of them must be there now."""
        return self._bands.bands()

    def compute(self, chunks: Iterable[ParcelChunk], request: StatisticsRequest) -> Iterator[ChunkResult]:
        """Results in the order of the chunks, of which only a few are in progress at any time: memory stays bounded.

        Layers of bands that the scene has not are left out.
        """
        grids = plan(self._bands.grids(needed(request)), request)
        running: deque[tuple[int, Future[ChunkResult]]] = deque()
        vertices = 0
        for chunk in chunks:
            task = ChunkTask(chunk, grids, request)
            running.append((task.vertices, self._pool.submit(task, needs=task.needs)))
            vertices += task.vertices
            while running and (
                len(running) > CHUNKS_AHEAD_PER_CORE * self._limits.cores
                or vertices > VERTICES_AHEAD_PER_CORE * self._limits.cores
            ):
                oldest, result = running.popleft()
                vertices -= oldest
                yield result.result()
        while running:
            yield running.popleft()[1].result()
