"""Seasons for the fault tests, and what stands between them and their database and store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.servers import Postgis, S3Server
from tests.faults.far import Far, far_season
from tests.faults.network import TcpProxy
from tests.faults.season import CARDS, SCENES_OF_A_CARD, Products, Season
from tests.faults.spoilt_store import SpoiltStore

MakeSeason = Callable[..., Season]


@pytest.fixture
def make_season(season_products: Products, postgis: Postgis, store: S3Server, tmp_path: Path) -> Iterator[MakeSeason]:
    """A function for seasons of another size: make_season(s2=1, c6=2)."""
    with _seasons(season_products, postgis, store, tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def make_shared_season(
    season_products: Products, postgis: Postgis, store: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeSeason]:
    """The same for tests that look at one run from several sides."""
    with _seasons(season_products, postgis, store, tmp_path_factory.mktemp("shared")) as make:
        yield make


@pytest.fixture
def season(make_season: MakeSeason) -> Season:
    """Twelve scenes, four of each card."""
    return make_season(**dict.fromkeys(CARDS, SCENES_OF_A_CARD))


@pytest.fixture
def spoilt(store: S3Server) -> Iterator[SpoiltStore]:
    """A way to the store that can be spoilt; `spoilt.serve(season.workspace)` sends its workers that way."""
    with SpoiltStore(store) as server:
        yield server


@pytest.fixture
def way(season: Season) -> Iterator[TcpProxy]:
    """The way of the workers of `season` to their database."""
    connection = season.workspace.db_config["database"]["connection"]
    with TcpProxy((connection["host"], connection["port"])) as proxy:
        connection["host"], connection["port"] = proxy.host, proxy.port
        yield proxy


@pytest.fixture
def far(season_products: Products, store: S3Server, tmp_path: Path) -> Iterator[Far]:
    """A season of one bs scene, whose database and store are reached over a network that fails."""
    with far_season(season_products, store, tmp_path / "season", {"bs": 1}) as far:
        yield far


@contextmanager
def _seasons(products: Products, postgis: Postgis, store: S3Server, folder: Path) -> Iterator[MakeSeason]:
    made: list[Season] = []

    def make(**numbers: int) -> Season:
        made.append(Season(products, postgis, store, folder / f"season{len(made)}", numbers))
        return made[-1]

    yield make
    for season in made:
        season.close()
