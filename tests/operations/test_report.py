"""`operations report` and `plot`: what the page says, compared with the tables; that it is safe and whole; and what a
browser makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

from benchmarks import page as season
from demo import tables
from tests.support.browser import Tab, browser, program
from tests.support.environment import skip_unless
from tests.support.ground import squares
from tests.support.workspace import Workspace

PARCELS = 60
NASTY = "</script><img src=x onerror=alert(1)>&<!--"
TABLES_AND_ROWS = """
SELECT n.nspname, c.relname, c.relkind, c.relacl::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' ORDER BY 1, 2"""


@pytest.fixture(scope="module")
def filled(shared_workspace: Workspace) -> Workspace:
    """A season of some parcels, without products behind it; the name of one scene is an attack."""
    made = shared_workspace
    made.query("DROP TABLE parcels, aois")
    tables.create_aois(made.connection)
    tables.create_parcels(made.connection, "parcels", 4326)
    made.args["name"] = "benchmark"
    assert made.operate("setup").code == 0
    season.fill(made.connect(), PARCELS)
    target = made.one("SELECT min(id) FROM dias_catalogue WHERE card = 's2'")
    made.query("UPDATE dias_catalogue SET reference = left(reference, 27) || %s WHERE id = %s", NASTY, target)
    made.query("UPDATE extraction_log SET detail = '<b>' || detail || '</script>' WHERE detail IS NOT NULL")
    return made


@pytest.fixture(scope="module")
def page(filled: Workspace) -> Path:
    file = filled.cwd / "season.html"
    outcome = filled.operate("report", "--out", str(file), "--parcel", "1", "25")
    assert outcome.code == 0, outcome.output
    assert "parcels shown: 1, 25" in outcome.stdout
    return file


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    skip_unless("" if program() else "not installed: chromium")
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


class Reader(HTMLParser):
    """The texts of the cells of all tables, row by row below each heading, and what is between the tags of scripts."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self.scripts: list[str] = []
        self.tags: set[str] = set()
        self._open: list[str] = []
        self._above = ("", "")
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._open.append(tag)
        if tag == "tr":
            self.rows.setdefault("/".join(self._above), []).append([])
        elif tag in {"td", "th"}:
            self.rows["/".join(self._above)][-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "h2":
            self._above = (data, "")
        elif inside == "h3":
            self._above = (self._above[0], data)
        elif inside in {"td", "th"}:
            self.rows["/".join(self._above)][-1][-1] += data
        elif inside == "script":
            self.scripts[-1] += data

    @property
    def charts(self) -> list[dict[str, Any]]:
        return [json.loads(script) for script in self.scripts if script.startswith("{")]


def test_progress_is_that_of_the_catalogue(filled: Workspace, page: Path) -> None:
    rows = Reader(page).rows["Progress/Sentinel-2 (s2)"]
    head, *months = rows
    for month, _, scenes, *counts in months:
        expected = dict(
            filled.query(
                "SELECT status, count(*) FROM dias_catalogue"
                " WHERE card = 's2' AND (%s = 'all' OR to_char(obstime, 'YYYY-MM') = %s) GROUP BY 1",
                month,
                month,
            )
        )
        shown = {name: int(count) for name, count in zip(head[3:], counts, strict=True) if count != "·"}
        assert shown == expected
        assert int(scenes) == sum(expected.values())
    assert len(months) == 13


def test_completeness_is_that_of_the_rows(filled: Workspace, page: Path) -> None:
    """Of the chosen parcels; and the share of all that have no clear observation."""
    _, *months = Reader(page).rows["Completeness/Sentinel-2 (s2)"]
    assert len(months) == 12
    counted: dict[tuple[int, str], int] = {
        (pid, month): number
        for pid, month, number in filled.query(
            "SELECT pid, to_char(obstime, 'YYYY-MM'), count(*)"
            " FROM (SELECT DISTINCT ON (pid, obstime) pid, obstime, mean FROM signatures JOIN dias_catalogue c"
            "       ON c.id = obsid WHERE band = 'SC' ORDER BY pid, obstime, obsid) pass"
            " WHERE mean >= 4 AND mean < 6 GROUP BY 1, 2"
        )
    }
    inside = [pid for (pid,) in filled.query(
        "SELECT ogc_fid FROM parcels, aois a WHERE ST_Intersects(ST_Centroid(parcels.wkb_geometry), a.wkb_geometry)"
    )]  # fmt: skip
    assert 0 < len(inside) < PARCELS
    for month, _, _, none, *own in months:
        assert [0 if number == "·" else int(number) for number in own] == [
            counted.get((pid, month), 0) for pid in (1, 25)
        ]
        without = sum((pid, month) not in counted for pid in inside)
        assert none == f"{without / len(inside):.0%}"


def test_failures_and_what_the_log_says(filled: Workspace, page: Path) -> None:
    rows = Reader(page).rows
    _, *failures = rows["Failures/"]
    assert sum(int(row[-1]) for row in failures) == filled.one(
        "SELECT count(*) FROM dias_catalogue WHERE status = 'failed'"
    )
    assert {row[2] for row in failures} == {"<b>damaged: .../B04.jp2 has lost its end</script>"}
    head, *ended = rows["Failures/How attempts ended"]
    expected = filled.query("SELECT count(*) FROM extraction_log WHERE outcome = 'extracted' AND card = 's2'")
    assert [row[head.index("extracted")] for row in ended if "s2" in row[0]] == [str(expected[0][0])]
    assert "Forecast and reality/" in rows


def test_the_map_counts_days(filled: Workspace, page: Path) -> None:
    """In the middle of the south west, the scenes of one tile; in the north east, where there is no scene, none."""
    content = page.read_text()
    first = content.partition("Sentinel-2 (s2): ")[2].partition("</svg>")[0]
    cells = [
        (float(x), float(y), int(days))
        for x, y, days in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"[^>]*><title>(\d+)</title>', first)
    ]
    expected = filled.one(
        "SELECT count(DISTINCT obstime::date) FROM dias_catalogue, parcels WHERE ogc_fid = 1 AND card = 's2'"
        " AND status = 'extracted' AND ST_Contains(footprint, parcels.wkb_geometry)"
    )
    assert {days for *_, days in cells} == {0, expected}
    corner = {"west": min(x for x, *_ in cells), "south": max(y for _, y, _ in cells)}
    assert [days for x, y, days in cells if (x, y) == (corner["west"], corner["south"])] == [expected]
    assert [days for x, y, days in cells if (x, y) == (max(x for x, *_ in cells), min(y for _, y, _ in cells))] == [0]


def test_throughput_is_that_of_the_log(filled: Workspace, page: Path) -> None:
    for card, scenes, rows in filled.query(
        "SELECT card, count(*), sum((SELECT sum(value::integer) FROM jsonb_each_text(rows_written)))"
        " FROM extraction_log WHERE outcome IN ('extracted', 'no_parcels') GROUP BY 1"
    ):
        assert re.search(rf"\({card}\): {scenes:,} scenes, {rows:,} rows;", page.read_text())


def test_seasons_are_those_of_the_rows(filled: Workspace, page: Path) -> None:
    charts = Reader(page).charts
    assert [chart["unit"] for chart in charts] == ["NDVI", "gamma0, dB", "coherence"] * 2
    rows = filled.query(
        "SELECT DISTINCT ON (obstime) extract(epoch FROM obstime)::bigint, max(mean) FILTER (WHERE band = 'B4'),"
        " max(mean) FILTER (WHERE band = 'B8'), max(mean) FILTER (WHERE band = 'SC') FROM signatures"
        " JOIN dias_catalogue c ON c.id = obsid WHERE pid = 1 AND card = 's2'"
        " GROUP BY obstime, obsid ORDER BY obstime, obsid"
    )
    assert charts[0]["times"] == [row[0] for row in rows]
    assert charts[0]["lines"][0]["middle"] == pytest.approx([(b8 - b4) / (b8 + b4) for _, b4, b8, _ in rows], abs=1e-4)
    assert charts[0]["cloudy"] == [not 4 <= scene_class < 6 for *_, scene_class in rows]
    radar = filled.query(
        "SELECT 10 * log(p25), 10 * log(p50), 10 * log(p75) FROM signatures JOIN dias_catalogue c ON c.id = obsid"
        " WHERE pid = 1 AND card = 'bs' AND band = 'VH' ORDER BY obstime"
    )
    line = charts[1]["lines"][1]
    assert line["name"] == "VH"
    for name, place in (("low", 0), ("middle", 1), ("high", 2)):
        assert set(line[name]) <= {round(row[place], 4) for row in radar}
    assert any(NASTY in reference for reference in charts[0]["references"])


def test_nothing_from_outside_is_more_than_text(page: Path) -> None:
    read, content = Reader(page), page.read_text()
    assert "img" not in read.tags
    assert "b" not in read.tags
    assert "</script><img" not in content
    assert NASTY not in content
    assert unescape(content).count("onerror") >= 1


def test_it_is_whole_and_small(page: Path) -> None:
    content = page.read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)|@import|url\(""", content)
    assert "Copyright (c) 2022 Leon Sorokin" in content
    assert len("".join(Reader(page).scripts)) < 1_500_000
    assert page.stat().st_size < 1_000_000


def test_nothing_is_made(filled: Workspace) -> None:
    """Not even by a role that may read and nothing else, in a database without log and without views."""
    role = f"reader_of_{filled.database}"
    name = sql.Identifier(role)
    filled.query(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'read only'").format(name))
    filled.query(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(name))
    before = filled.query(TABLES_AND_ROWS)
    owner = dict(filled.db_config["database"]["connection"])
    filled.db_config["database"]["connection"] |= {"dbuser": role, "dbpasswd": "read only"}
    try:
        for verb, options in (("report", ()), ("plot", ("--parcel", "1"))):
            outcome = filled.operate(verb, "--out", "other.html", *options)
            assert outcome.code == 0, outcome.output
        assert filled.query(TABLES_AND_ROWS) == before
    finally:
        filled.db_config["database"]["connection"] = owner
        filled.query(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(name))
    (filled.cwd / "other.html").unlink()


def test_a_parcel_alone(filled: Workspace) -> None:
    file = filled.cwd / "one.html"
    assert filled.operate("plot", "--parcel", "25", "--out", str(file)).code == 0
    read = Reader(file)
    assert len(read.charts) == 3
    assert not read.rows


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_of_a_parcel(ending: str, filled: Workspace) -> None:
    file = filled.cwd / f"one.{ending}"
    assert filled.operate("plot", "--parcel", "25", "--out", str(file)).code == 0
    assert file.read_bytes().startswith({"png": b"\x89PNG", "svg": b"<?xml"}[ending])
    assert file.stat().st_size > 30_000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("report", "--out", "there/is/none.html"), "--out: "),
        (("report", "--out", "."), "--out: "),
        (("report", "--out", "x.html", "--parcel", "1", "999999"), "ogc_fid = 999999"),
        (("report", "--out", "x.html", "--parcel", *map(str, range(100))), "--parcel: 100"),
        (("plot", "--out", "x.html", "--parcel", "999999"), "ogc_fid = 999999"),
        (("plot", "--out", "x.pdf", "--parcel", "1"), "--out: "),
    ],
)
def test_bad_options(filled: Workspace, arguments: tuple[str, ...], says: str) -> None:
    outcome = filled.operate(*arguments)
    assert outcome.code == 2
    assert says in outcome.errors[0]
    assert not (filled.cwd / "x.html").exists()


def test_before_there_is_anything(workspace: Workspace) -> None:
    """Parcels and an area, and neither scenes nor log; without these, it says what is lacking."""
    assert workspace.operate("report", "--out", "x.html").code == 0
    workspace.add_parcels(squares(3))
    for _ in range(2):
        outcome = workspace.operate("report", "--out", "x.html")
        assert outcome.code == 0, outcome.output
        workspace.operate("setup")
    assert not Reader(workspace.cwd / "x.html").charts
    assert workspace.operate("plot", "--parcel", "1", "--out", "y.html").code == 2
    workspace.query("DELETE FROM aois")
    assert workspace.operate("report", "--out", "x.html").code == 2


def test_tables_indices_and_histograms_of_a_real_run(workspace: Workspace) -> None:
    """Each CARD with a table of its own, found through the log; clouds told by histograms."""
    workspace.add_parcels(squares(2))
    workspace.tables["hists_table"] = "hists"
    workspace.add_s2()
    workspace.add_bs()
    workspace.add_c6()
    settings = dict(workspace.extraction)
    own = {"indices": {"NDV": "ndvi"}, "radiometry": "harmonised", "radiometry_fallback": "baseline"}
    workspace.db_config["extraction"] |= {"s2": own, "bs": {"backscatter_unit": "db"}}
    assert workspace.run("s2").code == 0
    for card in ("bs", "c6"):
        workspace.tables["results_table"] = f"{card}_signatures"
        assert workspace.run(card).code == 0
    workspace.tables["results_table"] = "signatures"
    # What the numbers are is told by the log, too.
    workspace.db_config["extraction"] = settings
    workspace.query('UPDATE hists SET hist = \'{"4": 89, "9": 11}\' WHERE pid = 1')
    workspace.query('UPDATE hists SET hist = \'{"4": 91, "9": 9}\' WHERE pid = 2')
    # Whatever configuration is named: those of s2 are theirs.
    workspace.query(
        "CREATE TABLE others AS SELECT pid, obsid, json_build_object(9 - 5 * (pid % 2), 1) AS hist FROM hists"
    )
    for configured in (
        {"results_table": "bs_signatures"},
        {"results_table": "bs_signatures", "hists_table": "others"},
        {"results_table": "signatures", "hists_table": "hists"},
        {"results_table": "signatures"},
    ):
        workspace.tables.pop("hists_table", None)
        workspace.tables.update(configured)
        assert workspace.operate("report", "--out", "x.html", "--parcel", "1", "2").code == 0
        charts = Reader(workspace.cwd / "x.html").charts
        assert [chart["unit"] for chart in charts] == ["NDVI", "gamma0, dB", "coherence"] * 2
        assert [chart["cloudy"] for chart in charts if chart["unit"] == "NDVI"] == [[True], [False]], configured
    for chart, table, label in ((0, "signatures", "NDV"), (1, "bs_signatures", "VV"), (2, "c6_signatures", "VV")):
        (expected,) = workspace.query(
            sql.SQL("SELECT p50, p25, p75 FROM {} WHERE pid = 1 AND band = %s").format(sql.Identifier(table)), label
        )
        line = charts[chart]["lines"][0]
        assert line["name"] == label
        assert [line[name] for name in ("middle", "low", "high")] == [
            [pytest.approx(value, abs=1e-4)] for value in expected
        ]


def test_what_was_only_done_again_is_seen(workspace: Workspace) -> None:
    """As in a region whose scenes another one has done before."""
    workspace.add_parcels(squares(2))
    workspace.db_config["extraction"] |= {"s2": {"bands": {"B04": "red", "B08": "infrared"}}}
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query("UPDATE extraction_log SET outcome = 'redone', settings = settings || '{\"redo\": 7}'")
    del workspace.db_config["extraction"]["s2"]
    assert workspace.operate("setup").code == 0
    assert workspace.one("SELECT count(*) FROM signatures_wide WHERE red IS NOT NULL") == 2
    workspace.tables["results_table"] = "others"
    assert workspace.operate("report", "--out", "x.html", "--parcel", "1").code == 0
    page = workspace.cwd / "x.html"
    assert [chart["unit"] for chart in Reader(page).charts] == ["NDVI"]
    assert f"(s2): 1 scenes, {workspace.rows(table='signatures')} rows;" in page.read_text()


def test_the_offset_of_later_baselines(workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    assert workspace.operate("setup").code == 0
    for baseline, shift in (("N0301", 0), ("N0510", 1000)):
        name = f"S2A_MSIL2A_202004{shift // 1000 + 10}T100031_{baseline}_R122_T33TWM_X"
        scene = workspace.add_row(name, f"2020-04-{shift // 1000 + 10}T10:00:31", status="extracted")
        for label, mean in (("B4", 400), ("B8", 3000)):
            workspace.query(
                "INSERT INTO signatures (pid, obsid, band, count, mean) VALUES (1, %s, %s, 9, %s)",
                scene,
                label,
                mean + shift,
            )
    assert workspace.operate("plot", "--parcel", "1", "--out", "x.html").code == 0
    (chart,) = Reader(workspace.cwd / "x.html").charts
    assert chart["lines"][0]["middle"] == [pytest.approx(2600 / 3400, abs=1e-4)] * 2


def test_a_table_that_is_too_large_to_be_walked_through(filled: Workspace) -> None:
    """Without an index on the parcels it is left out, and the page says so."""
    index = filled.one("SELECT indexname FROM pg_indexes WHERE tablename = 'signatures' AND indexdef LIKE '%%(pid)%%'")
    definition = filled.one("SELECT pg_get_indexdef(%s::regclass)", index)
    filled.query(sql.SQL("DROP INDEX {}").format(sql.Identifier(index)))
    filled.query("UPDATE pg_class SET reltuples = 1e8 WHERE oid = 'signatures'::regclass")
    try:
        assert filled.operate("report", "--out", "large.html").code == 0
    finally:
        filled.query(definition)
        filled.query("ANALYZE signatures")
    content = (filled.cwd / "large.html").read_text()
    assert "python -m operations index" in content
    assert not Reader(filled.cwd / "large.html").charts


def test_many_parcels(filled: Workspace) -> None:
    """Of a large table, only some pages are looked at; here they may hold none of the parcels."""
    filled.query("UPDATE pg_class SET reltuples = 1e6 WHERE oid = 'parcels'::regclass")
    try:
        assert filled.operate("report", "--out", "many.html", "--parcel", "1").code == 0
    finally:
        filled.query("ANALYZE parcels")
    assert len(Reader(filled.cwd / "many.html").charts) == 3


# In a browser


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (400, "light"), (1000, "dark")])
def test_a_browser_shows_it(width: int, scheme: str, page: Path, tab: Tab) -> None:
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(page, width, scheme=scheme)
    assert tab.value("document.querySelectorAll('.chart canvas').length") == 6
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.complaints == []
    assert {request.partition(":")[0] for request in tab.requests} <= {"file", "data"}
    assert len([request for request in tab.requests if request.startswith("file")]) == 1
    ink, paper = (tab.value(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert (sum(map(int, re.findall(r"\d+", ink))) > sum(map(int, re.findall(r"\d+", paper)))) == (scheme == "dark")
    assert len(tab.picture()) > 20_000


def test_pointing_at_a_date_shows_its_values(page: Path, tab: Tab) -> None:
    tab.open(page, 1200)
    chart = Reader(page).charts[1]
    place = len(chart["times"]) // 2
    x, y = tab.value(
        f"""(() => {{
            const [element, plot] = plots[1];
            element.scrollIntoView({{block: "center"}});
            const box = plot.over.getBoundingClientRect();
            return [box.x + plot.valToPos(plot.data[0][{place}], "x"), box.y + box.height / 2];
        }})()"""
    )
    assert "--" in tab.value("plots[1][1].root.querySelector('.u-legend').innerText")
    tab.point_at(x, y)
    shown = tab.value("plots[1][1].root.querySelector('.u-legend').innerText")
    assert chart["references"][place] in shown
    for line in chart["lines"]:
        numbers = [float(number) for number in re.findall(r"-\d+\.\d+", shown.partition(line["name"])[2])[:3]]
        assert numbers == pytest.approx([line[name][place] for name in ("middle", "low", "high")], abs=6e-3)


def test_it_can_be_printed(page: Path, tab: Tab) -> None:
    """Also from a dark screen: dark on white."""
    tab.open(page, 1000, scheme="dark")
    assert tab.paper().startswith(b"%PDF")
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.value("getComputedStyle(document.body).color") == "rgb(26, 26, 26)"
    tab.value("dispatchEvent(new Event('beforeprint'))")
    assert tab.value("Math.max(...plots.map(([element, plot]) => plot.width))") == 640
