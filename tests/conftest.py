"""Servers for the tests: one PostGIS cluster and one S3 server for the whole session, ended by process id.

Every test gets a database and a bucket of its own (`workspace`), or shares one with its module (`shared_workspace`).
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.servers import Postgis, S3Server
from extractors.config import ENGINE_NAMES
from tests.faults.season import Products, make_oracle
from tests.faulty_s3 import FaultyS3
from tests.support.certificates import Authority
from tests.support.environment import skip_unless
from tests.support.radosgw import RadosGateway, missing
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.workspace import Workspace


def pytest_addoption(parser: pytest.Parser) -> None:
    """--engine: what the workers of all tests compute with, unless a test says so itself. --without: a mechanism of
    the workers to be switched off, to see that its test then fails. --swarm: also what needs a swarm (in CI always)."""
    parser.addoption("--engine", choices=ENGINE_NAMES)
    parser.addoption("--swarm", action="store_true", help="run the tests on a swarm of three machines, made for them")
    parser.addoption("--without", metavar="MECHANISM", help="workers run with this off: see tests/faults/README.md")


def pytest_configure(config: pytest.Config) -> None:
    """A SIGTERM (a time limit, a cancelled job) ends the servers as Ctrl-C does: fixtures are torn down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "owner(why): workers own the database, as their making tables is the subject")
    if config.getoption("--engine"):
        Workspace.preset = {"engine": config.getoption("--engine")}
    Workspace.without = config.getoption("--without")


@pytest.fixture(scope="session")
def postgis() -> Iterator[Postgis]:
    """A throw-away cluster; not below pytest's own folder, which the server's user may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="postgis-"))
    folder.chmod(0o755)
    try:
        with Postgis(folder / "cluster") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(log=tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture(scope="session")
def season_products(postgis: Postgis, store: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Products:
    """The scenes as files, and what a run without faults, with every mechanism on, makes of them."""
    made = Products(tmp_path_factory.mktemp("products"))
    without, Workspace.without = Workspace.without, None
    try:
        make_oracle(made, postgis, store, tmp_path_factory.mktemp("oracle"))
    finally:
        Workspace.without = without
    return made


@pytest.fixture
def workspace(postgis: Postgis, store: S3Server, tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(postgis, store, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_workspace(
    postgis: Postgis, store: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """For tests that look at one run from several sides."""
    made = Workspace(postgis, store, tmp_path_factory.mktemp("shared"))
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 2 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    with small_disk(folder) as made:
        yield made


@pytest.fixture(scope="session")
def gateway() -> Iterator[RadosGateway]:
    """Ceph's own S3 server, with no users and no buckets at first."""
    absent = missing()
    skip_unless(f"not installed: {absent}" if absent else "")
    # Paths of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="rgw-") as folder, RadosGateway(Path(folder)) as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody knows but who is told."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def proxy(store: S3Server) -> Iterator[FaultyS3]:
    """A way to the S3 server that can be spoilt; point `workspace.s3["host"]` at its endpoint."""
    with FaultyS3(store.endpoint) as server:
        yield server
