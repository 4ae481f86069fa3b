"""The cloud, made once for all tests here; they run in CI, and elsewhere on request (--swarm)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from demo.servers import S3Server
from tests.faults.network import TcpProxy, skip_unless
from tests.faults.own_postgis import own_postgis
from tests.faults.season import Products, Season
from tests.swarm.cloud import Cloud, missing
from tests.swarm.stack import STACK_CONNECTION, Burst, configure, database_of, deployed


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """Three machines; the manager has the images, and there is no swarm yet."""
    if not os.environ.get("CI") and not request.config.getoption("--swarm"):
        pytest.skip("takes a Docker engine and some minutes: --swarm")
    skip_unless(missing())
    made = Cloud()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def swarm(cloud: Cloud) -> Cloud:
    """The same as a swarm whose workers have the image."""
    cloud.join_all()
    return cloud


@pytest.fixture
def far_store(cloud: Cloud, store: S3Server) -> Iterator[TcpProxy]:
    """The S3 server, at an address that the cloud reaches."""
    address = urlsplit(store.endpoint)
    assert address.hostname is not None
    assert address.port is not None
    with TcpProxy((address.hostname, address.port), cloud.here) as way:
        yield way


class MakeBurst(Protocol):
    """A stack, deployed without workers as yet, and a season for it."""

    def __call__(self, card: str, scenes: int, *, inside: bool = False, **variables: str) -> Burst: ...


@pytest.fixture
def make_burst(
    swarm: Cloud, season_products: Products, store: S3Server, far_store: TcpProxy, tmp_path: Path
) -> Iterator[MakeBurst]:
    """inside: the database is the stack's; otherwise it is a server elsewhere. Keywords: variables of the shell."""
    with ExitStack() as stack:

        def make(card: str, scenes: int, *, inside: bool = False, **variables: str) -> Burst:
            name = f"t{uuid.uuid4().hex[:12]}"
            outside = None if inside else stack.enter_context(own_postgis(swarm.here))
            connection = STACK_CONNECTION if outside is None else outside.connection_config(name)
            folder = tmp_path / "deployed"
            configure(folder, connection, f"http://{far_store.host}:{far_store.port}", name)
            variables = {"PG_SPAT": "1" if inside else "0"} | variables
            burst_stack = stack.enter_context(deployed(swarm, card, folder, **variables, REPLICAS="0"))
            server: Any = outside or database_of(burst_stack)
            season = Season(season_products, server, store, tmp_path / "season", {card: 4}, name)
            stack.callback(season.close)
            season.add_again(card, scenes - 4)
            return Burst(burst_stack, season, far_store, variables)

        yield make
