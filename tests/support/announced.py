"""The same products as files, in an OData catalogue, and as items of a STAC API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import mapping

from demo import products
from demo.metadata import metadata
from demo.products import Grid
from tests.support.ground import GRID, footprint, ground, optical, radar
from tests.support.odata import entry

FAR_AWAY = Grid(epsg=32633, left=499980.0, top=5500020.0, pixel=10.0)
"""In the same zone, and outside the area."""
KINDS = {"s2": "S2MSI2A", "bs": "CARD-BS", "c6": "CARD-COH6", "c1": "CARD-COH12"}


@dataclass(frozen=True)
class Announced:
    """A product. start: as services write it. collection: the folder of Sentinel-2 products that it is in; safe:
    whether its own ends so. described: whether it has its metadata. grid: where it lies."""

    card: str
    name: str
    start: str
    collection: str = "L2A"
    safe: bool = True
    described: bool = True
    grid: Grid = GRID

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.start).replace(tzinfo=None)

    @property
    def outline(self) -> shapely.Polygon:
        """What is seen, which in radar images is less than the whole image."""
        margin = 0 if self.card == "s2" else -10
        found = shapely.from_wkt(footprint(ground(margin, grid=self.grid), self.grid.epsg))
        assert isinstance(found, shapely.Polygon)
        return found

    @property
    def folder(self) -> str:
        """What its keys start with."""
        day, bare = self.moment.strftime("%Y/%m/%d"), self.name.removesuffix(".SAFE")
        if self.card == "s2":
            return f"Sentinel-2/MSI/{self.collection}/{day}/{bare}{'.SAFE' if self.safe else ''}"
        return f"Sentinel-1/SAR/{KINDS[self.card]}/{day}/{bare}"

    def write(self, root: Path) -> None:
        """Its files, under their keys."""
        match self.card:
            case "s2":
                layout: dict[str, Any] = {"collection": self.collection, "safe": self.safe}
                products.write_s2(root, self.name, optical(), self.grid, **layout)
                if self.described:
                    corners = list(self.outline.exterior.coords)
                    content = metadata(start=self.start, outline=[(x, y) for x, y in corners])
                    (root / self.folder / "MTD_MSIL2A.xml").write_bytes(content)
            case "bs":
                products.write_bs(root, self.name, self.moment, radar(), self.grid)
            case _:
                days = 6 if self.card == "c6" else 12
                products.write_c6(root, self.name, self.moment, radar(), self.grid, days=days)

    def entry(self) -> dict[str, Any]:
        """In an OData catalogue."""
        return entry(self.name, self.start, self.outline.wkt, kind=KINDS[self.card], path=self.folder)

    def item(self) -> dict[str, Any]:
        """In a STAC API."""
        links = [{"rel": "enclosure", "type": "application/x-directory", "href": f"s3://eodata/{self.folder}/"}]
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": self.name.removesuffix(".SAFE"),
            "collection": "sentinel-2-l2a",
            "geometry": json.loads(json.dumps(mapping(self.outline))),
            "bbox": list(self.outline.bounds),
            "properties": {"datetime": self.start, "platform": "sentinel-2a", "processing:version": "02.14"},
            "links": links,
            "assets": {"B04_10m": {"href": f"s3://eodata/{self.folder}/B04_10m.jp2"}},
        }


def sentinel_2(start: str, number: int = 214, **more: Any) -> Announced:
    moment = datetime.fromisoformat(start)
    stamp = f"{moment:%Y%m%dT%H%M%S}"
    return Announced("s2", f"S2A_MSIL2A_{stamp}_N{number:04d}_R122_T33TWM_{stamp[:8]}T135108.SAFE", start, **more)


PRODUCTS = (
    sentinel_2("2020-04-01T10:00:31.024Z"),
    sentinel_2("2020-06-10T10:00:29.024Z", described=False),
    sentinel_2("2020-06-30T10:00:31.999Z", 500, collection="L2A_N0500"),
    sentinel_2("2020-08-01T10:00:31.024Z", 9999, safe=False),
    Announced(
        "bs",
        "S1A_IW_GRDH_1SDV_20200401T052345_20200401T052410_023340_0289E6_6558_CARD_BS",
        "2020-04-01T05:23:45.812Z",
    ),
    Announced("c6", "S1B_20200407T052345__1A__20200401T052345_CARD-COH6", "2020-04-07T05:23:45.536Z"),
    Announced("c1", "S1A_20200407T052345__1A__20200326T052345_20200326T052410_CARD-COH12", "2020-04-07T05:23:45.536Z"),
)
OTHERS = (
    sentinel_2("2020-04-01T10:01:31.024Z", grid=FAR_AWAY),
    Announced(
        "bs",
        "S1A_IW_GRDH_1SDV_20200401T052355_20200401T052420_023340_0289E6_6559_CARD_BS",
        "2020-04-01T05:23:55.812Z",
        grid=FAR_AWAY,
    ),
    sentinel_2("2019-12-31T10:00:31.024Z"),
)
"""Outside the area, or the dates."""
