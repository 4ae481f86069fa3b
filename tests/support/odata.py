"""An OData catalogue that keeps, and breaks, the rules of the Copernicus Data Space's.

A list without an order is in any order, repetitions included; products with the same start come in another order with
each question. At most 1,000 products are given at once, nothing from the 10,000th on; the link to the next page is
missing at times; what is not understood is refused.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5

import shapely

from tests.support.serving import Handler, Served

MOST_AT_ONCE, MOST_SKIPPED, USUAL = 1000, 10_000, 20
CONDITIONS = {
    "collection": r"Collection/Name eq '([\w-]+)'",
    "kind": r"Attributes/OData\.CSC\.StringAttribute/any\(att:att/Name eq 'productType' and "
    r"att/OData\.CSC\.StringAttribute/Value eq '([\w-]+)'\)",
    "from": r"ContentDate/Start ge (\S+Z)",
    "to": r"ContentDate/Start lt (\S+Z)",
    "published": r"PublicationDate ge (\S+Z)",
    "deleted": r"DeletionDate ge (\S+Z)",
    "area": r"OData\.CSC\.Intersects\(area=geography'SRID=4326;(POLYGON\(\([^()]+\)\))'\)",
    "names": r"Name eq '[^']+'(?: or Name eq '[^']+')*",
}


def entry(
    name: str,
    start: str,
    outline: str,
    *,
    kind: str = "S2MSI2A",
    path: str | None = None,
    published: str = "2021-01-01T00:00:00.000Z",
    **more: Any,
) -> dict[str, Any]:
    """A product as the service tells of it. outline: WKT. path: below the bucket `eodata`."""
    return {
        "@odata.mediaContentType": "application/octet-stream",
        "Id": str(uuid5(NAMESPACE_URL, f"{name}{published}{more.get('DeletionDate')}")),
        "Name": name,
        "ContentLength": 0,
        "PublicationDate": published,
        "Online": True,
        "S3Path": f"/eodata/{path}" if path else None,
        "Checksum": [],
        "ContentDate": {"Start": start, "End": start},
        "Footprint": f"geography'SRID=4326;{outline}'",
        "GeoFootprint": None,
        "kind": kind,
        "shape": shapely.from_wkt(outline),
        "moment": _moment(start),
    } | more


@dataclass
class Faults:
    """What the server does wrong. throttled: every so many-th request is answered with 429. cut: every so many-th
    answer ends in its middle. counts_more: as many more products are counted than there are. longest_page: no
    page has more. repeats: the first page always. broken: every so many-th request is answered with 502."""

    throttled: int = 0
    cut: int = 0
    counts_more: int = 0
    longest_page: int = MOST_AT_ONCE
    repeats: bool = False
    no_count: bool = False
    broken: int = 0


@dataclass
class Catalogue:
    """What the server knows. asked: the questions it was asked, as (resource, parameters)."""

    products: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[dict[str, Any]] | None = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


class _Handler(Handler):
    owner: ODataServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.owner.answer(self)


class ODataServer(Catalogue, Served):
    """The server; a context manager. `url`: what to ask."""

    def __init__(self) -> None:
        Catalogue.__init__(self)
        self._random = random.Random(13)
        self._requests = 0
        Served.__init__(self, _Handler)

    @property
    def url(self) -> str:
        return f"{self.endpoint}/odata/v1"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self._requests += 1
        faults = self.faults
        parts = urlsplit(handler.path)
        resource = parts.path.removeprefix("/odata/v1/")
        parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers: dict[str, str] = {}
        if faults.throttled and self._requests % faults.throttled == 0:
            status, content = 429, {"detail": "too many requests"}
            headers["Retry-After"] = "0"
        elif faults.broken and self._requests % faults.broken == 0:
            status, content = 502, {"detail": "bad gateway"}
            headers["Retry-After"] = "0"
        else:
            self.asked.append((resource, parameters))
            status, content = self._look(resource, parameters)
        body = json.dumps(content).encode()
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(body)), "Content-Type": "application/json"} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        if faults.cut and self._requests % faults.cut == 0:
            handler.wfile.write(body[: len(body) // 2])
            handler.close_connection = True
            return
        handler.wfile.write(body)

    def _look(self, resource: str, parameters: dict[str, str]) -> tuple[int, dict[str, Any]]:
        known = {"Products": self.products, "DeletedProducts": self.deleted}.get(resource)
        if known is None:
            return 404, {"detail": "Not Found"}
        top, skip = int(parameters.get("$top", USUAL)), int(parameters.get("$skip", 0))
        if not 0 <= top <= MOST_AT_ONCE or not 0 <= skip <= MOST_SKIPPED:
            return 422, {"detail": [{"msg": "Input should be less than or equal to the limit"}]}
        wanted = _conditions(parameters.get("$filter", ""))
        if wanted is None:
            return 400, {"detail": "Invalid field or operator in $filter"}
        found = [product for product in known if _meets(product, wanted)]
        self._random.shuffle(found)
        if parameters.get("$orderby") == "ContentDate/Start asc":
            found.sort(key=lambda product: product["ContentDate"]["Start"])
        elif found:
            found = self._random.choices(found, k=len(found))
        skipped = 0 if self.faults.repeats else skip
        page = found[skipped : skipped + min(top, self.faults.longest_page)]
        answer: dict[str, Any] = {"@odata.context": "$metadata#Products"}
        if parameters.get("$count", "").lower() == "true" and not self.faults.no_count:
            answer["@odata.count"] = len(found) + self.faults.counts_more
        answer["value"] = [
            {k: v for k, v in product.items() if k not in {"kind", "shape", "moment"}} for product in page
        ]
        if skip + top < min(len(found), MOST_SKIPPED) and self._random.random() < 0.5:
            answer["@odata.nextLink"] = f"{self.url}/{resource}?$skip={skip + top}"
        return 200, answer


def _conditions(text: str) -> dict[str, Any] | None:
    """What a filter asks for; None if it cannot be understood."""
    found: dict[str, Any] = {}
    while text:
        for name, pattern in CONDITIONS.items():
            match = re.match(rf"(?:{pattern})(?: and |$)", text)
            if match:
                found[name] = _value(name, match[1] if match.re.groups else match[0])
                text = text[match.end() :]
                break
        else:
            return None
    return found


def _meets(product: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(_holds(product, name, value) for name, value in wanted.items())


def _holds(product: dict[str, Any], name: str, value: Any) -> bool:
    match name:
        case "from":
            return bool(product["moment"] >= value)
        case "to":
            return bool(product["moment"] < value)
        case "collection":
            return bool(value == ("SENTINEL-2" if product["kind"] == "S2MSI2A" else "SENTINEL-1"))
        case "kind":
            return bool(value == product["kind"])
        case "published":
            return bool(_moment(product["PublicationDate"]) >= value)
        case "deleted":
            return bool(_moment(product["DeletionDate"]) >= value)
        case "area":
            return bool(product["shape"].intersects(value))
        case _:
            return bool(product["Name"] in value)


def _value(name: str, text: str) -> Any:
    """What a condition compares with."""
    if name == "area":
        return shapely.from_wkt(text)
    if name == "names":
        return set(re.findall(r"'([^']+)'", text))
    return text if name in {"collection", "kind"} else _moment(text)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def many(number: int, outline: str, *, at_once: int = 90) -> Iterator[dict[str, Any]]:
    """Products of Sentinel-2 over a year, so many of them with the same start, as of one pass."""
    for each in range(number):
        start = datetime(2020, 1, 1, 10, 0, 31, 24_000) + timedelta(
            minutes=(each // at_once) * at_once * 500_000 // number
        )
        tile = f"33T{chr(65 + each % 24 // 1 % 8)}{chr(65 + each // 8 % 20)}"
        name = f"S2A_MSIL2A_{start:%Y%m%dT%H%M%S}_N0214_R122_T{tile}_{2021 + each % 60:04d}0101T{each % 86400:06d}.SAFE"
        yield entry(name, f"{start.isoformat(timespec='milliseconds')}Z", outline)
