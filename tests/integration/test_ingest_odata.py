"""The OData catalogue as a source: complete, or a clear error, whatever the service does."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterator

import pytest

from extractors.backoff import Backoff
from extractors.errors import ConfigurationError, ExtractionError
from operations.sources import service
from operations.sources.odata import ODataSource
from operations.sources.products import CARDS, Found, Question
from operations.sources.service import ServiceError
from tests.support.certificates import Authority
from tests.support.odata import Faults, ODataServer, entry, many
from tests.support.scripted import Answer, Scripted
from tests.support.tls_proxy import TlsProxy

OUTLINE = "POLYGON ((14 45, 16 45, 16 47, 14 47, 14 45))"
BOX = (14.9, 45.9, 15.1, 46.1)
START, END = dt.datetime(2020, 1, 1), dt.datetime(2021, 1, 1)


@pytest.fixture
def server() -> Iterator[ODataServer]:
    with ODataServer() as made:
        yield made


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(service, "RETRY_SECONDS", 3.0)
    monkeypatch.setattr(service, "PAUSES", Backoff(first=0.02, longest=0.1))


def question(cards: str = "s2", known: Collection[str] = ()) -> Question:
    return Question([CARDS[code] for code in cards.split()], START, END, [BOX], lambda names: set(known) & set(names))


def names_of(source: ODataSource, asked: Question | None = None) -> list[str]:
    """The names of all products, as often as they come."""
    found: list[str] = []
    for batch in source.batches(asked or question()):
        assert not batch.refused
        found += [product.reference for product in batch.found]
    return found


def test_twenty_five_thousand_products_all_of_them_and_none_twice(server: ODataServer) -> None:
    server.products += many(25_000, OUTLINE)
    server.faults = Faults(throttled=7, cut=11, broken=13)
    wanted = [product["Name"] for product in server.products]
    assert len(set(wanted)) == 25_000
    found = names_of(ODataSource(server.url))
    assert sorted(found) == sorted(wanted)


def test_every_question_has_an_order_and_stays_below_the_limits(server: ODataServer) -> None:
    server.products += many(12_000, OUTLINE)
    assert len(names_of(ODataSource(server.url))) == 12_000
    for _, parameters in server.asked:
        assert parameters["$orderby"] == "ContentDate/Start asc"
        assert int(parameters["$skip"]) + int(parameters["$top"]) <= 10_000


def test_shares_add_up(server: ODataServer) -> None:
    server.products += many(12_000, OUTLINE)
    assert sum(batch.share for batch in ODataSource(server.url).batches(question("s2 bs"))) == pytest.approx(1)


def test_pages_shorter_than_asked_for(server: ODataServer) -> None:
    server.products += many(700, OUTLINE)
    server.faults = Faults(longest_page=100)
    assert len(set(names_of(ODataSource(server.url)))) == 700


@pytest.mark.parametrize(
    "faults",
    [Faults(counts_more=1), Faults(repeats=True, longest_page=60), Faults(no_count=True), Faults(longest_page=0)],
    ids=["counts more", "repeats a page", "does not count", "gives nothing"],
)
def test_less_than_it_says_is_an_error(server: ODataServer, faults: Faults) -> None:
    server.products += many(180, OUTLINE)
    server.faults = faults
    with pytest.raises(ServiceError, match=r"gives|count") as raised:
        names_of(ODataSource(server.url))
    assert raised.value.exit_code == 75


def test_a_service_that_only_throttles(server: ODataServer) -> None:
    server.faults = Faults(throttled=1)
    with pytest.raises(ServiceError, match="429"):
        names_of(ODataSource(server.url))


def test_a_refusal_says_what_the_service_said(server: ODataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operations.sources.odata.PAGE", 2000)
    with pytest.raises(ConfigurationError, match=r"422.*less than or equal"):
        names_of(ODataSource(server.url))


@pytest.mark.parametrize("url", ["ftp://host/odata", "https://user:canary@host/v1", "host", "https://host/?a=b"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        ODataSource(url)
    assert "canary" not in str(raised.value)


def test_a_certificate_of_a_ca_that_nobody_knows(
    server: ODataServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, as waiting changes nothing; with its CA named, all is well."""
    server.products += many(20, OUTLINE)
    with TlsProxy(server.endpoint, authority.certify("127.0.0.1")) as tls:
        url = server.url.replace(server.endpoint, tls.endpoint)
        with pytest.raises(ConfigurationError, match="REQUESTS_CA_BUNDLE"):
            names_of(ODataSource(url))
        assert tls.handshakes == 1
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.ca_file))
        assert len(names_of(ODataSource(url))) == 20
        for bundle in (f"{authority.ca_file}.absent", __file__):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
            with pytest.raises(ConfigurationError, match=r"REQUESTS_CA_BUNDLE: .* cannot be used"):
                names_of(ODataSource(url))


def test_proxies_of_the_environment(server: ODataServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that STAC and the store go through as well."""
    nothing = Answer(json.dumps({"value": [], "@odata.count": 0}).encode())
    with Scripted(lambda _: nothing) as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert names_of(ODataSource("http://catalogue.invalid/odata/v1")) == []
        assert [asked.target.split("?")[0] for asked in proxy.asked] == ["http://catalogue.invalid/odata/v1/Products"]
        server.products += many(20, OUTLINE)
        assert len(names_of(ODataSource(server.url))) == 20
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("proxy", ["http://user:canary@host:port", "socks9://user:canary@host"])
def test_a_proxy_that_is_none(proxy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ConfigurationError, match="proxy") as raised:
        names_of(ODataSource("http://catalogue.invalid/odata/v1"))
    assert "canary" not in str(raised.value) + caplog.text


def test_asked_again_it_tells_of_what_was_published_since(server: ODataServer) -> None:
    server.products += many(20, OUTLINE)
    source = ODataSource(server.url)
    assert len(names_of(source)) == 20
    server.products.clear()
    late = entry(
        "S2A_MSIL2A_20200601T100031_N0214_R122_T33TWM_20200601T135108.SAFE",
        "2020-06-01T10:00:31.024Z",
        OUTLINE,
        published="2021-02-01T00:00:00.000Z",
    )
    old = entry(
        late["Name"].replace("0214", "0212"), "2020-06-01T10:00:31.024Z", OUTLINE, published="2020-06-02T00:00:00Z"
    )
    server.products += [late, old]
    assert names_of(source) == [late["Name"]]
    # A source of its own begins at the beginning.
    assert len(names_of(ODataSource(server.url))) == 2


@pytest.mark.parametrize("resource", ["Products", "DeletedProducts"])
def test_a_date_in_the_future_hides_nothing(server: ODataServer, resource: str) -> None:
    """Nor does what was published while a round went on, in windows that had been read by then."""
    entries = {"Products": server.products, "DeletedProducts": server.deleted}[resource]
    assert entries is not None
    products = list(many(3, OUTLINE, at_once=1))
    bare = [product["Name"].removesuffix(".SAFE") for product in products]

    def ask() -> list[str]:
        if resource == "Products":
            return [name.removesuffix(".SAFE") for name in names_of(source)]
        return sorted(name for changes in source.changes(question(known=bare)) for name in changes.gone)

    now = dt.datetime.now(dt.UTC)
    moments = ["2099-01-01T00:00:00Z", (now + dt.timedelta(hours=8)).isoformat(), now.isoformat()]
    dated = [
        product | {"PublicationDate": at, "DeletionDate": at} for product, at in zip(products, moments, strict=True)
    ]
    source = ODataSource(server.url)
    entries += dated[:2]
    assert ask() == bare[:2]
    entries.append(dated[2])
    assert ask() == bare


def test_a_round_that_did_not_end_is_not_remembered(server: ODataServer) -> None:
    server.products += many(300, OUTLINE)
    server.products[0]["PublicationDate"] = "2021-06-01T00:00:00.000Z"
    source = ODataSource(server.url)
    batches = source.batches(question("s2 bs"))
    next(batches)
    server.faults = Faults(throttled=1)
    with pytest.raises(ExtractionError):
        list(batches)
    server.faults = Faults()
    assert len(names_of(source)) == 300


def test_deleted_products_but_not_those_of_which_another_is_there(server: ODataServer) -> None:
    first, second, third = [product["Name"] for product in many(3, OUTLINE, at_once=1)]
    server.products += [product for product in many(3, OUTLINE, at_once=1) if product["Name"] == second]
    assert server.deleted is not None
    for product in many(3, OUTLINE, at_once=1):
        server.deleted.append(
            product | {"DeletionDate": "2021-03-01T00:00:00.000Z", "DeletionCause": "Obsolete product"}
        )
    bare = [name.removesuffix(".SAFE") for name in (first, second)]
    (changes,) = ODataSource(server.url).changes(question(known=bare))
    assert (changes.gone, changes.again) == ({bare[0]}, {bare[1]})
    assert third not in bare


def test_a_product_that_comes_again_long_after_it_was_deleted(server: ODataServer) -> None:
    """The source is not asked for the old deletion any more."""
    (product,) = many(1, OUTLINE)
    bare = [product["Name"].removesuffix(".SAFE")]
    other = entry(product["Name"].replace("2020", "2019"), "2019-01-01T00:00:00Z", OUTLINE) | {
        "ContentDate": product["ContentDate"], "moment": product["moment"], "DeletionDate": "2021-05-01T00:00:00.000Z",
    }  # fmt: skip
    assert server.deleted is not None
    server.deleted += [product | {"DeletionDate": "2021-03-01T00:00:00.000Z"}, other]
    source, asked = ODataSource(server.url), question(known=bare)

    def ask() -> list[tuple[list[str], list[str]]]:
        list(source.batches(asked))
        return [(sorted(changes.gone), sorted(changes.again)) for changes in source.changes(asked)]

    assert ask() == [(bare, [])]
    assert ask() == [([], [])]
    server.products.append(product | {"Id": "again", "PublicationDate": "2021-05-02T00:00:00.000Z"})
    assert ask() == [([], bare)]


def test_changes_that_were_not_written_are_told_again(server: ODataServer) -> None:
    first, last = many(2, OUTLINE, at_once=1)
    assert server.deleted is not None
    server.deleted += [
        first | {"DeletionDate": "2021-03-01T00:00:00Z"},
        last | {"DeletionDate": "2021-05-01T00:00:00Z"},
    ]
    bare = [product["Name"].removesuffix(".SAFE") for product in (first, last)]
    source, asked = ODataSource(server.url), question(known=bare)
    told = source.changes(asked)
    assert next(told).gone == {*bare}
    told.close()  # type: ignore[attr-defined]
    assert [changes.gone for changes in source.changes(asked)] == [{*bare}]
    assert [changes.gone for changes in source.changes(asked)] == [{bare[1]}]


def test_a_service_without_a_list_of_deleted_products(server: ODataServer, caplog: pytest.LogCaptureFixture) -> None:
    server.deleted = None
    assert list(ODataSource(server.url).changes(question())) == []
    assert "deleted" in caplog.text


def test_an_address_with_nothing_at_it(server: ODataServer) -> None:
    with pytest.raises(ConfigurationError, match="--url"):
        list(ODataSource(server.url + "/other").batches(question()))


def test_ghosts_are_refused(server: ODataServer) -> None:
    name = "S2C_MSIL2A_20200614T112531_N9905_R037_T29SQD_20201214T130811.SAFE"
    server.products.append(entry(name, "2020-06-14T11:25:31.024Z", OUTLINE))
    (batch,) = ODataSource(server.url).batches(question())
    (refused,) = batch.refused
    assert not batch.found
    assert "N9905" in refused.reason


def test_what_a_product_says(server: ODataServer) -> None:
    name = "S1A_20200401T010035__1A__20200320T010010_20200320T010035_CARD-COH12"
    path = f"Sentinel-1/SAR/CARD-COH12/2020/04/01/{name}"
    server.products.append(entry(name, "2020-04-01T01:00:35.536999Z", OUTLINE, kind="CARD-COH12", path=path))
    (found,) = [p for batch in ODataSource(server.url).batches(question("s2 bs c6 c1")) for p in batch.found]
    assert isinstance(found, Found)
    assert (found.card, found.reference, found.obstime) == ("c1", name, dt.datetime(2020, 4, 1, 1, 0, 35, 536_000))
    assert found.place == ("eodata", path + "/")
