"""The exported file is whole, needs no network, and shows hostile text as text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from radsweep.dashboards.app import build_app
from radsweep.dashboards.blocks import Grid, file_name
from radsweep.dashboards.charts import PAGES, charts
from radsweep.dashboards.page import export_html
from radsweep.dashboards.pages import book
from radsweep.dashboards.provenance import audit, flat
from radsweep.dashboards.tables import Tables
from radsweep.errors import SpecError
from radsweep.laws.answers import answers_from
from tests.dashboards.toy import toy_tables

TABLES = toy_tables()
HOSTILE = "<script>alert('x')</script>"


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(document: str) -> _Elements:
    elements = _Elements()
    elements.feed(document)
    return elements


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = export_html(TABLES, tmp_path_factory.mktemp("page") / "toy.html")
    assert [p.name for p in path.parent.iterdir()] == ["toy.html"]
    return path.read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_anywhere(document: str) -> None:
    elements = parsed(document)
    for tag, attributes in elements.tags:
        assert tag not in {"link", "img", "iframe", "object", "base"}
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    ours = re.sub(r'<script id="plotly">.*?</script>', "", document, flags=re.DOTALL)
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", ours, flags=re.IGNORECASE)
    assert "@import" not in ours
    assert "default-src 'none'" in document


def test_plotly_is_inlined_once(document: str) -> None:
    assert document.count('<script id="plotly">') == 1
    assert 4e6 < len(document) < 8e6


def test_every_sentence_stands_on_the_page(document: str) -> None:
    text = "".join(parsed(document).text)
    for answer in answers_from(TABLES.analyses):
        words = answer.sentence.removeprefix(f"{answer.heading}: ")
        assert words[1:] in text


def test_every_page_and_chart_has_its_place(document: str) -> None:
    tags = parsed(document).tags
    sections = [a["data-page"] for tag, a in tags if tag == "section"]
    assert sections == list(PAGES)
    drawn = [a["data-figure"] for _, a in tags if a.get("class") == "picture"]
    assert drawn == [chart.name for chart in charts()]
    data = re.search(r'id="figures">(.*?)</script>', document, flags=re.DOTALL)
    assert data is not None
    assert set(json.loads(data[1])["figures"]) == set(drawn)


def test_every_chart_and_table_can_be_saved(document: str) -> None:
    kinds = [a["data-save"] for _, a in parsed(document).tags if "data-save" in a]
    assert kinds.count("svg") == kinds.count("png") == kinds.count("pdf") == len(charts())
    tables = sum(tag == "table" for tag, _ in parsed(document).tags)
    assert kinds.count("csv") == kinds.count("tex") == tables


def test_registered_hypotheses_are_answered_on_the_page(tmp_path: Path) -> None:
    claim = {"task": "findings", "paradigm": "unicl", "better_than": "clip", "at": "every scale"}
    sweep = {**TABLES.sweep, "spec": {**TABLES.sweep["spec"], "hypotheses": [claim]}}
    tables = Tables(TABLES.scores, TABLES.cells, TABLES.steps, sweep)
    text = "".join(parsed(export_html(tables, tmp_path / "x.html").read_text()).text)
    assert "UniCL beats CLIP on findings at every scale" in text
    assert "The smallest difference is +0.0" in text


def test_a_file_is_named_after_what_it_holds() -> None:
    assert file_name("The fitted laws. 'Missed by' is") == "the_fitted_laws_missed_by_is"
    assert file_name("<>") == "table"


def test_a_hostile_sweep_stays_text(tmp_path: Path) -> None:
    sweep = {
        **TABLES.sweep,
        "name": HOSTILE,
        "corpus": HOSTILE,
        "spec": {HOSTILE: [{HOSTILE: HOSTILE}]},
        "card": {"quarantined": {HOSTILE: 3}},
    }
    cells = TABLES.cells.with_columns(reason=pl.lit(HOSTILE), state=pl.lit(HOSTILE))
    scores = TABLES.scores.filter(pl.col("task") == "reports").with_columns(
        task=pl.lit(HOSTILE), metric=pl.lit(HOSTILE), start_from=pl.lit(HOSTILE)
    )
    scores = scores.filter("headline")
    path = export_html(Tables(scores, cells, TABLES.steps, sweep), tmp_path / "x.html")
    document = path.read_text(encoding="utf-8")
    assert HOSTILE not in document
    assert "<script>alert" not in document
    scripts = [tag for tag, _ in parsed(document).tags if tag == "script"]
    assert len(scripts) == 3
    assert HOSTILE in "".join(parsed(document).text)


def test_an_unstarted_sweep_is_a_page_too(tmp_path: Path) -> None:
    nothing = Tables(
        TABLES.scores.head(0),
        TABLES.cells.head(0),
        pl.DataFrame({"cell": []}),
        {**TABLES.sweep, "card": {}},
    )
    text = "".join(parsed(export_html(nothing, tmp_path / "x.html").read_text()).text)
    assert "There are no test scores of a pretrained encoder yet." in text
    assert "No cell has finished yet" in text


def test_a_sweep_whose_open_weights_alone_are_scored_is_a_page_too(tmp_path: Path) -> None:
    scores = TABLES.scores.filter(pl.col("images") == 0)
    tables = Tables(scores, TABLES.cells, TABLES.steps, TABLES.sweep)
    text = "".join(parsed(export_html(tables, tmp_path / "x.html").read_text()).text)
    assert "There are no test scores of a pretrained encoder yet" in text


def test_the_audit_names_a_cell_that_spent_something_else() -> None:
    assert "all 26 finished cells" in audit(TABLES.cells).lower()
    short = pl.when(pl.col("cell") == "clip-30000-s0")
    cells = TABLES.cells.with_columns(
        images_seen=short.then(12_000_000).otherwise("images_seen"),
        spent=short.then(0.9375).otherwise("spent"),
    )
    words = audit(cells)
    assert "differ in images by more than 0.1%" in words
    assert words.count("clip-30000-s0") == 2


def test_splits_and_labels_are_tables_and_not_a_list_of_paths(document: str) -> None:
    text = "".join(parsed(document).text)
    assert "81,003 / 3,431,297 / - / -" in text and "502 / 19,600 / 18 / -" in text
    assert "1,170,000" in text
    assert "labels.finding" not in text and "splits.pretrain" not in text


def test_nested_provenance_becomes_rows_in_order() -> None:
    value = {"b": {"c": 12_000, "d": [1, 2]}, "a": [{"x": True}, {"x": None}], "e": {}}
    assert list(flat(value)) == [
        ("b.c", "12,000"),
        ("b.d", "1, 2"),
        ("a[0].x", "yes"),
        ("a[1].x", "-"),
        ("e", "{}"),
    ]


def test_the_live_app_serves_the_pages_that_the_file_holds() -> None:
    loads: list[int] = []

    def load() -> Tables:
        loads.append(1)
        return TABLES

    client = build_app(load).server.test_client()
    first = client.get("/").get_data(as_text=True)
    assert "--page: light-dark(#fbfbfa" in first
    assert "window.radsweep" in first
    outputs = ("header.children", "links.children", "body.children", "mark.data")
    call = {
        "output": f"..{'...'.join(outputs)}..",
        "outputs": [dict(zip(("id", "property"), o.split("."), strict=True)) for o in outputs],
        "inputs": [
            {"id": "clock", "property": "n_intervals", "value": 0},
            {"id": "where", "property": "hash", "value": "#forecast"},
        ],
        "state": [{"id": "mark", "property": "data", "value": None}],
        "changedPropIds": ["where.hash"],
    }
    answer = client.post("/_dash-update-component", json=call)
    response = answer.get_json()["response"]
    assert "The laws, carried one decade beyond the data" in json.dumps(response["body"])
    call["state"] = [{"id": "mark", "property": "data", "value": response["mark"]["data"]}]
    assert client.post("/_dash-update-component", json=call).status_code == 204
    # Who turns pages waits for no reading of the store; the clock does that.
    assert len(loads) == 1
    call["changedPropIds"] = ["clock.n_intervals"]
    assert client.post("/_dash-update-component", json=call).status_code == 204
    assert len(loads) == 2


def test_the_live_app_shows_an_error_of_ours_instead_of_failing() -> None:
    def load() -> Tables:
        raise SpecError("the store holds no sweep of this name; see `radsweep status`")

    client = build_app(load).server.test_client()
    call = {
        "output": "..header.children...links.children...body.children...mark.data..",
        "outputs": [
            {"id": name, "property": "data" if name == "mark" else "children"}
            for name in ("header", "links", "body", "mark")
        ],
        "inputs": [
            {"id": "clock", "property": "n_intervals", "value": 0},
            {"id": "where", "property": "hash", "value": ""},
        ],
        "state": [{"id": "mark", "property": "data", "value": None}],
        "changedPropIds": ["clock.n_intervals"],
    }
    answer = client.post("/_dash-update-component", json=call)
    assert "holds no sweep of this name" in json.dumps(answer.get_json())


def test_a_book_lists_what_the_sweep_is() -> None:
    shown = book(TABLES)
    assert shown.facts[0] == "corpus toy@1"
    assert "33 cells (29 done" in shown.facts[1]
    assert [page.name for page in shown.pages] == list(PAGES)


def _curve(values: dict[int, float | None]) -> pl.DataFrame:
    """The toy's findings of CLIP, with these values at these scales and draws around them."""
    rows = TABLES.scores.filter("headline", task="findings", paradigm="clip", seed=0)
    rows = rows.filter(pl.col("images").is_in(list(values)))
    value = pl.col("images").replace_strict(values, return_dtype=pl.Float64)
    shifted = pl.col("draws").list.eval(pl.element() - pl.element().mean())
    moved = rows.with_columns(value=value, draws=shifted).with_columns(
        draws=pl.when(pl.col("value").is_finite()).then(pl.col("draws")).otherwise(None)
    )
    draws = [
        None if d is None or v is None else [x + v for x in d]
        for v, d in moved.select("value", "draws").rows()
    ]
    return moved.with_columns(draws=pl.Series(draws, dtype=pl.List(pl.Float32)))


NAN = float("nan")
PATHOLOGICAL: dict[str, dict[int, float | None]] = {
    "flat": {0: 0.6, 30_000: 0.6001, 50_000: 0.5999, 100_000: 0.6, 1_000_000: 0.6002},
    "falling": {0: 0.7, 30_000: 0.65, 50_000: 0.6, 100_000: 0.55, 1_000_000: 0.5},
    "two points": {0: 0.6, 30_000: 0.62, 1_000_000: 0.7},
    "one point": {0: 0.6, 30_000: 0.62},
    "all equal": {0: 0.6, 30_000: 0.6, 50_000: 0.6, 100_000: 0.6, 1_000_000: 0.6},
    "not a number": {0: 0.6, 30_000: NAN, 50_000: 0.6, 100_000: NAN, 1_000_000: 0.7},
    "nothing but nan": {0: NAN, 30_000: NAN, 50_000: NAN, 100_000: NAN},
    "missing": {0: 0.6, 30_000: None, 50_000: 0.61, 100_000: 0.63, 1_000_000: 0.7},
    "perfect": {0: 1.0, 30_000: 1.0, 50_000: 1.0, 100_000: 1.0, 1_000_000: 1.0},
    "nothing": {0: 0.0, 30_000: 0.0, 50_000: 0.0, 100_000: 0.0},
    "no open weights": {30_000: 0.6, 50_000: 0.62, 100_000: 0.65, 1_000_000: 0.7},
}


@pytest.mark.parametrize("kind", PATHOLOGICAL)
def test_a_pathological_curve_is_a_page_with_a_sentence_and_without_nan(
    kind: str, tmp_path: Path
) -> None:
    tables = Tables(_curve(PATHOLOGICAL[kind]), TABLES.cells, TABLES.steps, TABLES.sweep)
    document = export_html(tables, tmp_path / "x.html").read_text(encoding="utf-8")
    words = "".join(parsed(document.split('<script type="application/json"')[0]).text)
    assert not re.search(r"\b(nan|inf)\b", words, flags=re.IGNORECASE)
    assert answers_from(tables.analyses)
    data = re.search(r'id="figures">(.*?)</script>', document, flags=re.DOTALL)
    assert data is not None and "NaN" not in data[1] and "Infinity" not in data[1]


def test_the_numbers_under_a_chart_are_its_scores_and_not_the_points_along_its_curves() -> None:
    (page,) = (one for one in book(TABLES, ["overview"]).pages if one.name == "overview")
    (grid,) = (block for block in page.blocks if isinstance(block, Grid) and block.is_folded)
    kinds = {row[grid.columns.index("kind")] for row in grid.rows}
    assert kinds == {"score", "open weights", "beats"}
    assert "points along its curves" in grid.caption
