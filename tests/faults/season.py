"""A season to inject faults into: tiny scenes of the three cards, what other programs have in the catalogue, an oracle.

The products are made once per session (`Products`); every season uploads and registers those that it needs. Ids of
scenes and parcels depend on nothing but their order, rows not even on that, so one oracle serves all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import shapely

from demo import products, tables
from demo.servers import Postgis, S3Server
from tests.faults import checker
from tests.support.ground import GRID, cell, classes, footprint, ground, radar, red
from tests.support.running import NOTHING_LEFT, Outcome, Running
from tests.support.scenes import s2_reference
from tests.support.workspace import Workspace

SHAPE = (200, 200)
CARDS = ("s2", "bs", "c6")
SCENES_OF_A_CARD = 4
PARCELS = 40
CHUNKS = 6
"""Chunks of a scene: 40 parcels, 7 at a time."""
ROWS = {"s2": 3 * PARCELS, "bs": 2 * PARCELS, "c6": 2 * PARCELS}
FIRST_DAY = datetime(2020, 4, 1, 5, 23, 45)
AREA = "season"
WHERE = footprint(ground(shape=SHAPE))


def parcels() -> list[shapely.Polygon]:
    """Squares of 20 x 20 pixels that do not touch each other, all over the scenes."""
    return [cell(4 + 28 * (i % 7), 4 + 28 * (i // 7), 20, 20) for i in range(PARCELS)]


@dataclass(frozen=True)
class Product:
    """A scene as the store and the catalogue have it. `keys`: band or file name -> key in the bucket."""

    card: str
    reference: str
    moment: datetime
    keys: Mapping[str, str]

    def again(self, number: int) -> Product:
        """The same pixels under another reference."""
        old, new = {
            "s2": ("_R122_", f"_R{number % 143 + 1:03d}_"),
            "bs": ("_023340_", f"_{number:06d}_"),
            "c6": ("__20200326T052345_", f"__2020{number // 25 % 12 + 1:02d}{number % 25 + 1:02d}T000000_"),
        }[self.card]
        reference = self.reference.replace(old, new)
        assert reference != self.reference
        bare, renamed = self.reference.removesuffix(".SAFE"), reference.removesuffix(".SAFE")
        return Product(
            self.card, reference, self.moment, {n: key.replace(bare, renamed) for n, key in self.keys.items()}
        )


class Products:
    """The scenes of all seasons as files below `folder`: four of each card, one a day, the cards in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all = [self._make(number, card) for number in range(SCENES_OF_A_CARD) for card in CARDS]
        self.oracle: dict[str, str] = {}
        """Reference -> fingerprint of the rows, once a run without faults has been made."""

    def _make(self, number: int, card: str) -> Product:
        moment = FIRST_DAY + timedelta(days=3 * number + CARDS.index(card))
        seed = 10 * number + CARDS.index(card)
        if card == "s2":
            reference = s2_reference(moment)
            bands = {
                "B04": red(seed, SHAPE),
                "B08": red(seed + 500, SHAPE),
                "SCL": classes(seed, (SHAPE[0] // 2, SHAPE[1] // 2)),
            }
            keys = products.write_s2(self.folder, reference, bands, GRID)
        elif card == "bs":
            time = f"{moment:%Y%m%dT%H%M%S}"
            reference = f"S1A_IW_GRDH_1SDV_{time}_{time}_023340_0289E6_6558_CARD_BS"
            keys = products.write_bs(self.folder, reference, moment, radar(seed, SHAPE), GRID)
        else:
            reference = f"S1B_{moment:%Y%m%dT%H%M%S}__1A__20200326T052345_CARD-COH6"
            keys = {"tif": products.write_c6(self.folder, reference, moment, radar(seed, SHAPE), GRID)}
        return Product(card, reference, moment, keys)

    def of(self, card: str, number: int) -> list[Product]:
        """The first so many of a card."""
        return [product for product in self.all if product.card == card][:number]

    def put(self, workspace: Workspace, chosen: Collection[Product]) -> None:
        """Upload these."""
        for product in chosen:
            for key in product.keys.values():
                workspace.write(key, (self.folder / key).read_bytes())


class Season:
    """Some scenes of each card in a workspace of their own, to be extracted whatever happens.

    `scenes`: card -> ids, oldest first. `products`: id -> product. In the catalogue there are also rows of other
    programs, among them one `inprogress`, that nobody may touch.
    """

    def __init__(
        self,
        made: Products,
        postgis: Postgis,
        store: S3Server,
        folder: Path,
        numbers: Mapping[str, int],
        name: str | None = None,
    ) -> None:
        self.workspace = Workspace(postgis, store, folder, name=name)
        self.scenes: dict[str, list[int]] = {card: [] for card in numbers}
        self.products: dict[int, Product] = {}
        self.oracle: dict[int, str] = {}
        self._written = ""
        self._originals = dict(numbers)
        chosen = [product for card, number in numbers.items() for product in made.of(card, number)]
        made.put(self.workspace, chosen)
        for product in sorted(chosen, key=lambda product: product.moment):
            self.add(product, made.oracle.get(product.reference, ""))
        tables.add_aoi(self.workspace.connection, AREA, footprint(ground(200, shape=SHAPE)))
        self.workspace.args["name"] = AREA
        self.workspace.add_parcels(parcels())
        for name, time, status in (
            ("of another program", "2020-04-02T10:00:00", "inprogress"),
            ("with a word of its own", "2020-04-02T10:00:00", "Obsolete"),
            ("of another year", "2019-04-02T10:00:00", "ingested"),
        ):
            tables.add_scene(
                self.workspace.connection, f"S2 {name}", datetime.fromisoformat(time), "s2", WHERE, status=status
            )
        self.workspace.extraction["max_attempts"] = 5
        self.workspace.extraction["retry_pause_seconds"] = 0.1
        self.remember()

    def add(self, product: Product, fingerprint: str, reference: str | None = None) -> int:
        """Register a scene and what its rows have to be; its id."""
        number = tables.add_scene(
            self.workspace.connection, reference or product.reference, product.moment, product.card, WHERE
        )
        self.scenes.setdefault(product.card, []).append(number)
        self.products[number] = product
        self.oracle[number] = fingerprint
        return number

    def add_again(self, card: str, number: int) -> list[int]:
        """Register so many more scenes of a card, whose pixels are those of the card's first ones; their ids."""
        first = self.scenes[card][: self._originals[card]]
        originals = [self.products[scene] for scene in first]
        fingerprints = [self.oracle[scene] for scene in first]
        copies = len(self.scenes[card]) - len(first)
        added = []
        for i in range(copies, copies + number):
            product = originals[i % len(originals)]
            copied = product.again(i)
            for name, key in product.keys.items():
                self.workspace.write(copied.keys[name], self.workspace.read(key))
            added.append(self.add(copied, fingerprints[i % len(originals)]))
        self.remember()
        return added

    def forget(self, scene: int) -> None:
        """This scene is no longer in the catalogue, because the test has removed it."""
        product = self.products.pop(scene)
        self.scenes[product.card].remove(scene)
        del self.oracle[scene]
        self.remember()

    def remember(self) -> None:
        """The catalogue is now as the test wants it: what is in it besides our statuses has to stay."""
        self._before = checker.catalogue(self.workspace)

    def key(self, scene: int, file: str) -> str:
        """This file of this scene, as the spoilt store wants it named: a regular expression."""
        return re.escape(self.products[scene].keys[file]) + "$"

    @property
    def all(self) -> list[int]:
        """The ids of all scenes."""
        return sorted(self.products)

    def short(self, **extraction: Any) -> None:
        """Time limits scaled down from minutes to seconds, so that a fault is over within a test; and more settings."""
        self.workspace.extraction.update(
            {
                "retry_pause_seconds": 0.1,
                "outage_pause_seconds": 0.1,
                "database_wait_seconds": 10,
                "server_settings": {
                    "tcp_keepalives_idle": "5",
                    "tcp_keepalives_interval": "2",
                    "tcp_keepalives_count": "3",
                    "tcp_user_timeout": "8s",
                    "lock_timeout": "2s",
                },
            }
            | extraction
        )
        self.workspace.db_config["database"]["connection"] |= {
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 8000,
            "connect_timeout": 5,
        }

    def start(self, card: str, *options: str, env: Mapping[str, str] | None = None) -> Running:
        """Start a worker of this card."""
        self._configure()
        return self.workspace.start(card, *options, env=env, configure=False)

    def run(self, card: str, *options: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run a worker of this card to its end."""
        self._configure()
        return self.workspace.run(card, *options, env=env, configure=False)

    def _configure(self) -> None:
        """Write the configuration if it has changed: other workers that are just starting read the same files."""
        config = json.dumps([self.workspace.db_config, self.workspace.s3_config])
        if config != self._written:
            self.workspace.write_config()
            self._written = config

    def finish(self) -> None:
        """Let clean workers do what is left; they have to end well."""
        workers = [self.start(card, "--all") for card, scenes in self.scenes.items() if scenes]
        for worker in workers:
            outcome = worker.wait()
            assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
            assert NOTHING_LEFT in outcome.stdout

    def attempts(self, scene: int | None = None) -> list[dict[str, Any]]:
        """The log's rows, of all scenes or of one, oldest first."""
        rows = checker.attempts(self.workspace)
        return [row for row in rows if scene is None or row["obsid"] == scene]

    def outcomes(self, scene: int | None = None) -> list[str | None]:
        """How the attempts ended, oldest first; None: still open."""
        return [row["outcome"] for row in self.attempts(scene)]

    def statuses(self) -> dict[int, str]:
        """Scene -> status, of our scenes."""
        return {n: row.status for n, row in checker.catalogue(self.workspace).items() if n in self.products}

    def check(
        self,
        *,
        extracted: Collection[int] | None = None,
        lost: int | None = None,
        times: int = 1,
        quiet: bool = True,
    ) -> None:
        """I1 to I8. extracted: exactly these scenes (None: all); lost: so many attempts were lost (None: any number);
        times: how often each was extracted; quiet: no worker runs any more."""
        checker.check(
            self.workspace,
            self.oracle,
            self._before,
            extracted=self.all if extracted is None else extracted,
            lost=lost,
            most_attempts=int(self.workspace.extraction["max_attempts"]),
            times=times,
            quiet=quiet,
        )

    def close(self) -> None:
        """Remove everything."""
        self.workspace.close()


def make_oracle(made: Products, postgis: Postgis, store: S3Server, folder: Path) -> None:
    """Run all scenes once without faults, and keep the fingerprints of their rows."""
    season = Season(made, postgis, store, folder, dict.fromkeys(CARDS, SCENES_OF_A_CARD))
    try:
        for card in CARDS:
            assert season.run(card, "--all").code == 0
        found = checker.fingerprints(season.workspace)
        for number, product in season.products.items():
            assert found[number].startswith(f"{ROWS[product.card]} rows"), found[number]
            made.oracle[product.reference] = found[number]
    finally:
        season.close()
