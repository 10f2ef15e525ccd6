"""The live app: the exported file's pages, read again from the store while a sweep runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Lock
from typing import Any, assert_never

import dash
from dash import Input, Output, State, dcc, html

from radsweep.dashboards.blocks import (
    SAVE_PICTURE,
    SAVE_TABLE,
    Block,
    Card,
    Cards,
    Film,
    Films,
    Grid,
    Line,
    Listing,
    Note,
    Page,
    Picture,
    file_name,
    panel_filter,
)
from radsweep.dashboards.charts import PAGES
from radsweep.dashboards.page import asset, script_json
from radsweep.dashboards.pages import Book, book
from radsweep.dashboards.style import CONFIG, TEMPLATES, THEME
from radsweep.dashboards.tables import Tables
from radsweep.errors import RadsweepError

REFRESH_SECONDS = 20
SHELL = """<!doctype html>
<html lang="en">
<head>
{%metas%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
<style>PAGE_CSS</style>
{%css%}
</head>
<body>
{%app_entry%}
<script>PAGE_JS
Object.assign(window.radsweep, PAGE_OPTIONS);</script>
<footer hidden>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>
"""
# A figure travels undressed and is dressed in the browser, which alone knows its screen.
DRESS = """function (figure, id) {
  return window.radsweep.keep(id.name, figure);
}"""


def _line(line: Line) -> html.Li:
    dot = (
        []
        if line.colour is None
        else [html.Span(className="dot", style={"background": line.colour})]
    )
    return html.Li([*dot, line.text])


def _card(card: Card) -> html.Article:
    lead = [html.P(line.text, className="lead") for line in card.lead]
    return html.Article(
        [html.H2(card.heading), *lead, html.Ul([_line(line) for line in card.rest])],
        className="card",
    )


def _grid(grid: Grid) -> Any:
    def named(i: int) -> str:
        return "number" if i in grid.numeric else ""

    head = html.Thead(html.Tr([html.Th(n, className=named(i)) for i, n in enumerate(grid.columns)]))
    body = html.Tbody(
        [
            html.Tr([html.Td(text, className=named(i)) for i, text in enumerate(row)])
            for row in grid.rows
        ]
    )
    if grid.is_folded:
        inner = html.Div(html.Table([head, body]), className="scroll")
        saved = _save(SAVE_TABLE, file_name(grid.caption), grid.caption)
        return html.Details([html.Summary(grid.caption), inner, saved], className="table")
    table = html.Table([html.Caption(f"{grid.caption}."), head, body])
    saved = _save(SAVE_TABLE, file_name(grid.caption), grid.caption)
    return html.Div([html.Div(table, className="scroll"), saved], className="table")


def _save(kinds: dict[str, str], name: str, caption: str = "") -> html.Div:
    """Buttons that save what they stand under; the page's script does it."""
    buttons = []
    for kind, words in kinds.items():
        known: dict[str, Any] = {"data-save": kind, "data-name": name, "data-caption": caption}
        buttons.append(html.Button(words, **known))
    return html.Div(buttons, className="save")


def _picture(picture: Picture) -> html.Div:
    name, asked = picture.name, panel_filter(picture)
    known: dict[str, Any] = {"data-figure": name}
    words: dict[str, Any] = {"data-words": asked}
    # The page's script puts the box in, and what was typed into the one before.
    box = [] if asked is None else [html.Div(className="filter", **words)]
    return html.Div(
        [
            html.H2(picture.title),
            html.P(picture.question, className="question"),
            *box,
            dcc.Store(
                id={"type": "figure", "name": name}, data=json.loads(picture.figure.to_json())
            ),
            dcc.Graph(id={"type": "plot", "name": name}, className="plot", config=CONFIG),
            _save(SAVE_PICTURE, name),
        ],
        className="picture",
        **known,
    )


def _film(film: Film, what: str) -> html.Figure:
    pairs = [part for name, text in film.lines for part in (html.Dt(name), html.Dd(text))]
    caption = html.Figcaption([html.H3(film.rank), html.Dl(pairs)])
    picture = html.Img(src=film.picture, alt=f"{what}: {film.rank}")
    return html.Figure([picture, caption], className="film")


def _films(block: Films) -> html.Div:
    key = [
        html.Span([html.I(className="swatch", style={"background": colour}), name])
        for name, colour in block.key
    ]
    shown: list[Any] = [html.H2(block.title), html.P(block.question, className="question")]
    shown += [html.P(key, className="key")] if key else []
    shown += [_film(film, block.title) for film in block.films]
    return html.Div(shown, className="films")


def _block(block: Block) -> Any:
    match block:
        case Cards(cards):
            return html.Div([_card(card) for card in cards], className="cards")
        case Note(text):
            return html.P(text, className="note")
        case Grid():
            return _grid(block)
        case Picture():
            return _picture(block)
        case Listing(title, rows):
            pairs = [part for name, text in rows for part in (html.Dt(name), html.Dd(text))]
            return html.Div([html.H2(title), html.Dl(pairs)], className="listing")
        case Films():
            return _films(block)
        case _:
            assert_never(block)


def _header(shown: Book) -> list[Any]:
    facts = html.P([html.Span(fact) for fact in shown.facts], className="facts")
    return [html.P("radsweep", className="mark"), html.H1(shown.name), facts]


def _page(shown: Book, name: str) -> Page:
    return next((page for page in shown.pages if page.name == name), shown.pages[0])


class Reader:
    """Reads the tables and lays a page out again only when something in them has changed."""

    def __init__(self, load: Callable[[], Tables]) -> None:
        self._load = load
        self._lock = Lock()
        self._seen: tuple[int, ...] | None = None
        self._tables: Tables | None = None
        self._books: dict[str, Book] = {}

    def read(self, page: str, *, again: bool = True) -> tuple[Book, str]:
        """The current book with the charts of one page, and a mark that differs when it does.

        Args:
            page: whose charts are drawn.
            again: read the tables anew, if they were read before.
        """
        with self._lock:
            if self._tables is None or again:
                tables = self._load()
                seen = tables.fingerprint()
                if seen != self._seen:
                    self._tables, self._seen, self._books = tables, seen, {}
            assert self._tables is not None
            name = page if page in PAGES else PAGES[0]
            shown = self._books.get(name) or book(self._tables, [name])
            self._books[name] = shown
            if name == "images" and any(isinstance(b, Note) for b in _page(shown, name).blocks):
                # Why there are no films may have passed when the page is opened again.
                del self._books[name]
            return shown, "-".join(map(str, self._seen or ()))


def build_app(load: Callable[[], Tables], refresh_seconds: float = REFRESH_SECONDS) -> dash.Dash:
    """A Dash app over whatever ``load`` gives; serve it on 127.0.0.1 unless told otherwise.

    ``load`` is called at the first request and then every ``refresh_seconds`` per open page; charts
    are laid out again only when a table has changed. An error of ours is shown on the page, not
    raised.
    """
    reader = Reader(load)
    shell = SHELL.replace("PAGE_CSS", asset("page.css")).replace("PAGE_JS", asset("page.js"))
    app = dash.Dash(
        __name__,
        title="radsweep",
        update_title="",
        index_string=shell.replace(
            "PAGE_OPTIONS", script_json({"templates": TEMPLATES, "config": CONFIG})
        ),
        suppress_callback_exceptions=True,
    )
    app.layout = html.Div(
        [
            dcc.Location(id="where"),
            dcc.Store(id="mark"),
            dcc.Interval(id="clock", interval=refresh_seconds * 1000),
            html.Header(
                [html.Div(id="header"), html.Button(THEME, type="button", className="theme")],
                className="column",
            ),
            html.Nav(html.Div(id="links", className="column")),
            html.Main(html.Section(id="body"), className="column"),
        ]
    )

    @app.callback(
        Output("header", "children"),
        Output("links", "children"),
        Output("body", "children"),
        Output("mark", "data"),
        Input("clock", "n_intervals"),
        Input("where", "hash"),
        State("mark", "data"),
    )
    def show(_ticks: int | None, hashed: str | None, mark: str | None) -> tuple[Any, ...]:
        try:
            wanted = (hashed or "").removeprefix("#")
            # Who turns a page waits for the drawing only; the store is read at the clock's tick.
            is_tick = dash.ctx.triggered_id != "where"
            shown, seen = reader.read(wanted, again=is_tick)
        except RadsweepError as error:
            return [html.H1("radsweep")], [], html.P(str(error), className="note"), None
        chosen = _page(shown, wanted)
        if mark == f"{chosen.name}-{seen}":
            raise dash.exceptions.PreventUpdate
        links = [
            html.A(
                page.title,
                href=f"#{page.name}",
                className="is-open" if page is chosen else "",
            )
            for page in shown.pages
        ]
        body = [_block(block) for block in chosen.blocks]
        return _header(shown), links, body, f"{chosen.name}-{seen}"

    app.clientside_callback(  # type: ignore[no-untyped-call]
        DRESS,
        Output({"type": "plot", "name": dash.MATCH}, "figure"),
        Input({"type": "figure", "name": dash.MATCH}, "data"),
        State({"type": "figure", "name": dash.MATCH}, "id"),
    )
    return app
