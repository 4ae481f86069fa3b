"""A store that sends no more than so many bytes per second, as those in a cloud do; for measuring on one machine."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

BYTES_AT_ONCE = 256 * 1024
SHORTEST_PAUSE_SECONDS = 0.01


class _Limit:
    """What all connections together may send."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at = time.monotonic()

    async def take(self, size: int) -> None:
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + size / self._rate
        if self._free_at - now > SHORTEST_PAUSE_SECONDS:
            await asyncio.sleep(self._free_at - now)


@contextmanager
def slowed(endpoint: str, megabytes_per_second: float) -> Iterator[str]:
    """The address at which a store on this machine answers at this speed, while the block lasts."""
    loop = asyncio.new_event_loop()
    limit = _Limit(megabytes_per_second * 1e6)
    there = urlsplit(endpoint)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: _Limit | None) -> None:
        with suppress(OSError):
            while data := await reader.read(BYTES_AT_ONCE):
                if limit is not None:
                    await limit.take(len(data))
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(forward(reader, to_store, None), forward(from_store, writer, limit))

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, name="slow store")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
