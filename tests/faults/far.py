"""A season whose database and store are reached over a network that fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from demo.servers import S3Server
from tests.faults.network import Network, TcpProxy, missing_for_network
from tests.faults.own_postgis import own_postgis
from tests.faults.season import Products, Season
from tests.support.environment import skip_unless
from tests.support.running import Outcome, Running


@dataclass(frozen=True)
class Far:
    """A season and the network; database and store have an address that is reached from both its sides."""

    season: Season
    network: Network

    def start(self, card: str, *options: str, env: Mapping[str, str] | None = None) -> Running:
        """Start a worker behind the router."""
        with self.network.inside():
            return self.season.start(card, *options, env={**self._direct, **(env or {})})

    def start_here(self, card: str, *options: str) -> Running:
        """Start a worker on the database's side."""
        return self.season.start(card, *options, env=self._direct)

    def run_here(self, card: str, *options: str) -> Outcome:
        """Run a worker on the database's side to its end."""
        return self.season.run(card, *options, env=self._direct)

    @property
    def _direct(self) -> dict[str, str]:
        """No proxy of this machine is in the way to the store."""
        return {"no_proxy": self.network.here, "NO_PROXY": self.network.here}


@contextmanager
def far_season(products: Products, store: S3Server, folder: Path, numbers: Mapping[str, int]) -> Iterator[Far]:
    """A network, the own cluster listening at its near end, and so many scenes of each card."""
    skip_unless(missing_for_network())
    address = urlsplit(store.endpoint)
    assert address.hostname is not None
    assert address.port is not None
    with (
        Network() as network,
        own_postgis(network.here) as server,
        TcpProxy((address.hostname, address.port), network.here) as way_to_store,
    ):
        season = Season(products, server, store, folder, numbers)
        season.workspace.s3["host"] = f"http://{way_to_store.host}:{way_to_store.port}"
        try:
            yield Far(season, network)
        finally:
            season.close()
