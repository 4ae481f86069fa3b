"""A STAC API as a source: a real one, and what others do wrong."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from demo.servers import Postgis
from extractors.backoff import Backoff
from extractors.errors import ConfigurationError, ExtractionError
from operations.sources import service, stac
from operations.sources.products import CARDS, Batch, Found, Question
from operations.sources.service import ServiceError
from operations.sources.stac import StacSource
from tests.support.announced import OTHERS, PRODUCTS, sentinel_2
from tests.support.environment import skip_unless
from tests.support.scripted import Answer, Asked, Scripted
from tests.support.stac import StacServer, missing

BOX = (14.9, 45.9, 15.1, 46.1)
START, END = dt.datetime(2020, 1, 1), dt.datetime(2021, 1, 1)
TWO_DAYS = [
    sentinel_2(f"2020-05-{1 + n // 120:02d}T{n % 24:02d}:{n // 24 % 60:02d}:31.024Z", n % 9) for n in range(240)
]


@pytest.fixture(scope="module")
def server(postgis: Postgis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StacServer]:
    skip_unless(f"not installed: {missing()}" if missing() else "")
    with StacServer(postgis, tmp_path_factory.mktemp("stac")) as made:
        made.add([product.item() for product in (*PRODUCTS[:4], OTHERS[0], OTHERS[2], *TWO_DAYS)])
        yield made


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(service, "RETRY_SECONDS", 2.0)
    monkeypatch.setattr(service, "PAUSES", Backoff(first=0.02, longest=0.1))
    monkeypatch.setattr(service, "LONGEST_PAUSE_SECONDS", 0.5)


def question() -> Question:
    return Question([CARDS["s2"]], START, END, [BOX], lambda _: set())


def found(url: str) -> list[Found]:
    batches = list(StacSource(url).batches(question()))
    assert sum(batch.share for batch in batches) == pytest.approx(1)
    assert not any(batch.refused for batch in batches)
    return [product for batch in batches for product in batch.found]


# A real one


def test_all_of_a_real_service_and_none_twice(server: StacServer) -> None:
    wanted = sorted(product.name for product in (*PRODUCTS[:4], *TWO_DAYS))
    assert len(set(wanted)) == len(wanted)
    assert sorted(product.reference for product in found(server.url)) == wanted


def test_a_last_page_that_is_just_full(server: StacServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac, "PAGE", 120)
    monkeypatch.setattr(stac, "WINDOW", dt.timedelta(days=1))
    assert len(found(server.url)) == 244


def test_what_a_product_says(server: StacServer) -> None:
    by_name = {product.reference: product for product in found(server.url)}
    for product in PRODUCTS[:4]:
        one = by_name[product.name]
        assert (one.card, one.obstime) == ("s2", product.moment)
        assert one.place == ("eodata", product.folder + "/")
        assert one.outline.equals_exact(product.outline, 1e-6) or one.outline.equals(product.outline)


# What services do wrong


class Service:
    """A STAC API with a list of pages; `next`: what the link of a page leads to."""

    def __init__(self, pages: list[list[dict[str, Any]]], **more: Any) -> None:
        self.pages, self.more = pages, more
        self.before: Callable[[Asked], Answer | None] = lambda _: None
        self.leads_to: Callable[[int], int | None] = lambda page: page + 1 if page + 1 < len(pages) else None
        self.host = ""

    def __call__(self, asked: Asked) -> Answer:
        spoilt = self.before(asked)
        if spoilt is not None:
            return spoilt
        if not asked.target.startswith("/search"):
            return self.json({
                "type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "d", "conformsTo": [],
                "links": [
                    {"rel": "search", "href": f"{self.host}/search", "type": "application/geo+json", "method": "POST"}
                ],
            })  # fmt: skip
        page = int(asked.target.partition("page=")[2] or 0)
        following = self.leads_to(page)
        links = [] if following is None else [{"rel": "next", "href": f"{self.host}/search?page={following}"}]
        return self.json({"type": "FeatureCollection", "features": self.pages[page], "links": links} | self.more)

    def json(self, content: Any) -> Answer:
        return Answer(json.dumps(content).encode(), headers={"Content-Type": "application/json"})


def asked_of(made: Service) -> list[Batch]:
    with Scripted(made) as server:
        made.host = server.endpoint
        return list(StacSource(server.endpoint).batches(question()))


@pytest.fixture(autouse=True)
def one_window(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Of services that say the same whatever they are asked."""
    if "server" not in request.fixturenames:
        monkeypatch.setattr(stac, "WINDOW", dt.timedelta(days=400))


ITEMS = [product.item() for product in TWO_DAYS[:10]]


def test_pages_and_their_links() -> None:
    (batch,) = asked_of(Service([ITEMS[:4], ITEMS[4:8], ITEMS[8:]]))
    assert len(batch.found) == 10


@pytest.mark.parametrize(
    ("made", "word"),
    [
        (Service([ITEMS[:5]], numberMatched=10), "announces 10 items"),
        (Service([ITEMS[:5]], numberReturned=10), "announces 10 items on a page"),
        (Service([ITEMS[:5], ITEMS[:5]]), "repeats"),
    ],
    ids=["fewer than matched", "fewer than returned", "the same page twice"],
)
def test_less_than_it_says_is_an_error(made: Service, word: str) -> None:
    with pytest.raises(ServiceError, match=word) as raised:
        asked_of(made)
    assert raised.value.exit_code == 75


def test_a_link_that_leads_back_is_an_error() -> None:
    made = Service([ITEMS[:5], ITEMS[5:]])
    made.leads_to = lambda page: 1 - page
    with pytest.raises(ServiceError, match="repeats"):
        asked_of(made)


def test_a_full_page_without_a_link_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stac, "PAGE", 10)
    with pytest.raises(ServiceError, match="full page"):
        asked_of(Service([ITEMS]))


def test_a_service_that_throttles_now_and_then() -> None:
    """429 with a pause, for a search by POST as well."""
    made, refusals = Service([ITEMS[:5], ITEMS[5:]]), iter([True, False] * 100)
    made.before = lambda _: Answer(b"", 429, {"Retry-After": "0"}) if next(refusals) else None
    (batch,) = asked_of(made)
    assert len(batch.found) == 10


@pytest.mark.parametrize("wanted", ["0.2", "100000", "soon"])
def test_a_service_that_only_throttles_is_asked_for_so_long(wanted: str) -> None:
    """All pauses together, whatever it asks for; then one line says so."""
    made = Service([ITEMS])
    asked: list[Asked] = []

    def throttle(one: Asked) -> Answer:
        asked.append(one)
        return Answer(b"", 429, {"Retry-After": wanted})

    made.before = throttle
    with pytest.raises(ServiceError, match=r"\(status 429\) within 2 s"):
        asked_of(made)
    assert len(asked) > 2
    if wanted != "soon":
        # By two seconds with pauses of 0.2 or 0.5.
        assert len(asked) <= (11 if wanted == "0.2" else 5)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"", 429, {"Retry-After": "100000"}),
        Answer(b'{"type": "Catalog", ', 200, {"Content-Length": "1000"}),
        Answer(b"<html>", 200),
    ],
    ids=["throttles for ever", "cuts", "is something else"],
)
def test_a_service_that_never_answers(answer: Answer) -> None:
    made = Service([ITEMS])
    made.before = lambda _: answer
    with pytest.raises(ExtractionError) as raised:
        asked_of(made)
    assert raised.value.exit_code in {2, 75}


@pytest.mark.parametrize("content", [None, [], {}, {"features": 7}, {"type": "Catalog"}, {"links": [{}]}], ids=str)
def test_a_search_that_is_answered_with_something_else(content: Any) -> None:
    """For the library, some of these are empty lists: nothing would be found, and nothing said."""
    made = Service([ITEMS])
    made.before = lambda asked: made.json(content) if asked.target.startswith("/search") else None
    with pytest.raises(ServiceError, match="answer"):
        asked_of(made)


@pytest.mark.parametrize("content", [{}, {"hello": 1}, {"type": "Feature"}], ids=str)
def test_what_is_no_api(content: Any) -> None:
    made = Service([ITEMS])
    made.before = lambda _: made.json(content)
    with pytest.raises(ConfigurationError, match="no STAC API"):
        asked_of(made)


def test_an_answer_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed, it is small: no more of it is unpacked than an answer can have."""
    monkeypatch.setattr(service, "MOST_BYTES", 1_000_000)
    body = gzip.compress(json.dumps({"type": "FeatureCollection", "features": [], "links": []}).encode() + b" " * 10**8)
    made = Service([ITEMS])
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    made.before = lambda asked: Answer(body, headers=headers) if asked.target.startswith("/search") else None
    with pytest.raises(ServiceError, match="over 1,000,000 bytes"):
        asked_of(made)


def test_a_refusal() -> None:
    made = Service([ITEMS])
    made.before = lambda _: Answer(b'{"detail": "no such collection"}', 400)
    with pytest.raises(ConfigurationError, match="400"):
        asked_of(made)


def test_links_lead_to_no_other_host() -> None:
    made = Service([ITEMS[:5], ITEMS[5:]])
    with Scripted() as other, Scripted(made) as server:
        made.host = other.endpoint.replace("127.0.0.1", "localhost")
        with pytest.raises(ServiceError, match="another host"):
            list(StacSource(server.endpoint).batches(question()))
        assert not other.asked


def test_nor_do_redirections() -> None:
    made = Service([ITEMS])
    with Scripted() as other, Scripted(made) as server:
        leads = other.endpoint.replace("127.0.0.1", "localhost")
        made.before = lambda _: Answer(b"", 302, {"Location": f"{leads}/"})
        with pytest.raises(ServiceError, match="another host"):
            list(StacSource(server.endpoint).batches(question()))
        assert not other.asked


def test_ghosts_are_refused() -> None:
    item = ITEMS[0] | {"properties": ITEMS[0]["properties"] | {"processing:version": "99.05"}}
    (batch,) = asked_of(Service([[item, *ITEMS[1:]]]))
    assert [refused.name for refused in batch.refused] == [item["id"]]
    assert len(batch.found) == 9


@pytest.mark.parametrize(
    "href",
    [
        "s3://eodata/../secret/{id}.SAFE/",
        "https://host/{id}.SAFE/",
        "s3://eodata/another.SAFE/",
        "s3://eodata/{id}\n.SAFE",
    ],
)
def test_a_link_to_no_place_of_the_product(href: str) -> None:
    item = ITEMS[0] | {"links": [{"rel": "enclosure", "href": href.format(id=ITEMS[0]["id"])}]}
    (batch,) = asked_of(Service([[item]]))
    assert [product.place for product in batch.found] == [None]
