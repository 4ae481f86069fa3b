"""The cloud, made once for all tests here; they run in CI, and elsewhere on request (--swarm)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from demo.servers import S3Server
from tests.faults.network import TcpProxy
from tests.faults.own_postgis import OwnPostgis, own_postgis
from tests.faults.season import Products, Season
from tests.support.environment import skip_unless
from tests.swarm.cloud import Cloud, missing
from tests.swarm.stack import STACK_CONNECTION, Burst, configure, database_of, deployed

FAILURE = pytest.StashKey[Exception]()
PREPARED = pytest.StashKey[tuple[Cloud, "Future[None]"]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """If tests will need the cloud, its images are built beside the tests before them: that takes minutes."""
    wanted = any("cloud" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or not_requested(session.config) or missing() or session.config.option.collectonly:
        return
    try:
        made = Cloud()
    except (OSError, AssertionError) as error:
        session.config.stash[FAILURE] = error  # told by the fixture
        return
    pool = ThreadPoolExecutor(1)
    session.config.stash[PREPARED] = made, pool.submit(made.build)
    pool.shutdown(wait=False)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End whatever is left of the cloud, however the tests have ended."""
    if PREPARED in session.config.stash:
        made, building = session.config.stash[PREPARED]
        made.close()
        wait([building])


def not_requested(config: pytest.Config) -> str:
    """Why these tests are not to be run; empty if they are."""
    if os.environ.get("CI") or config.getoption("--swarm"):
        return ""
    return "takes a Docker engine and some minutes: --swarm"


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest) -> Cloud:
    """Three machines; the manager has the images, and there is no swarm yet."""
    if why := not_requested(request.config):
        pytest.skip(why)
    skip_unless(missing())
    if FAILURE in request.config.stash:
        raise request.config.stash[FAILURE]
    made, building = request.config.stash[PREPARED]
    building.result()
    made.start()
    return made


@pytest.fixture(scope="session")
def swarm(cloud: Cloud) -> Cloud:
    """The same as a swarm whose workers have the image."""
    cloud.join_all()
    return cloud


@pytest.fixture
def far_store(cloud: Cloud, store: S3Server) -> Iterator[TcpProxy]:
    """The S3 server, at an address that the cloud reaches."""
    with way_to(store, cloud) as way:
        yield way


def way_to(store: S3Server, cloud: Cloud) -> TcpProxy:
    """The same, as a context manager."""
    address = urlsplit(store.endpoint)
    assert address.hostname is not None
    assert address.port is not None
    return TcpProxy((address.hostname, address.port), cloud.here)


class MakeBurst(Protocol):
    """A stack, deployed without workers as yet, and a season for it."""

    def __call__(self, card: str, scenes: int, *, inside: bool = False, **variables: str) -> Burst: ...


@contextmanager
def burst_maker(cloud: Cloud, made: Products, store: S3Server, way: TcpProxy, folder: Path) -> Iterator[MakeBurst]:
    """inside: the database is the stack's; otherwise it is a server elsewhere. Keywords: variables of the shell."""
    elsewhere: list[OwnPostgis] = []
    with ExitStack() as stack:

        def make(card: str, scenes: int, *, inside: bool = False, **variables: str) -> Burst:
            name = f"t{uuid.uuid4().hex[:12]}"
            if not inside and not elsewhere:
                elsewhere.append(stack.enter_context(own_postgis(cloud.here)))
            outside = None if inside else elsewhere[0]
            connection = STACK_CONNECTION if outside is None else outside.connection_config(name)
            deployment = folder / f"{card} deployed"
            configure(deployment, connection, f"http://{way.host}:{way.port}", name)
            variables = {"PG_SPAT": "1" if inside else "0"} | variables
            burst_stack = stack.enter_context(deployed(cloud, card, deployment, **variables, REPLICAS="0"))
            server: Any = outside or database_of(burst_stack)
            season = Season(made, server, store, folder / card, {card: 4}, name)
            stack.callback(season.close)
            season.add_again(card, scenes - 4)
            return Burst(burst_stack, season, way, variables)

        yield make


@pytest.fixture
def make_burst(
    swarm: Cloud, season_products: Products, store: S3Server, far_store: TcpProxy, tmp_path: Path
) -> Iterator[MakeBurst]:
    """Bursts of a test's own."""
    with burst_maker(swarm, season_products, store, far_store, tmp_path) as make:
        yield make
