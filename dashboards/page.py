"""Write a sweep's results as one HTML file that needs no network and no server.

Plotly's script is inlined once, every text is escaped, and a content security policy forbids the
page to load anything from anywhere.
"""

from __future__ import annotations

import html
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any, assert_never

from plotly.offline import get_plotlyjs

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
    Picture,
    file_name,
    panel_filter,
)
from radsweep.dashboards.pages import Book, book
from radsweep.dashboards.style import CONFIG, TEMPLATES, THEME
from radsweep.dashboards.tables import Tables

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
)


def asset(name: str) -> str:
    """A style sheet or script that lies beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in, whatever the texts in it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _line(line: Line, tag: str, name: str = "") -> str:
    dot = ""
    if line.colour is not None and tag == "li":
        dot = f'<span class="dot" style="background:{html.escape(line.colour)}"></span>'
    attribute = f' class="{name}"' if name else ""
    return f"<{tag}{attribute}>{dot}{html.escape(line.text)}</{tag}>"


def _card(card: Card) -> str:
    lead = "".join(_line(line, "p", "lead") for line in card.lead)
    rest = "".join(_line(line, "li") for line in card.rest)
    items = f"<ul>{rest}</ul>" if rest else ""
    return f'<article class="card"><h2>{html.escape(card.heading)}</h2>{lead}{items}</article>'


def _grid(grid: Grid) -> str:
    def cell(tag: str, i: int, text: str) -> str:
        attribute = ' class="number"' if i in grid.numeric else ""
        return f"<{tag}{attribute}>{html.escape(text)}</{tag}>"

    head = "".join(cell("th", i, name) for i, name in enumerate(grid.columns))
    body = "".join(
        "<tr>" + "".join(cell("td", i, text) for i, text in enumerate(row)) + "</tr>"
        for row in grid.rows
    )
    caption = html.escape(grid.caption)
    table = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    buttons = _save(SAVE_TABLE, file_name(grid.caption), grid.caption)
    if grid.is_folded:
        opening = f'<details class="table"><summary>{caption}</summary><div class="scroll"><table>'
        return f"{opening}{table}{buttons}</details>"
    opening = f'<div class="table"><div class="scroll"><table><caption>{caption}.</caption>'
    return f"{opening}{table}{buttons}</div>"


def _save(kinds: dict[str, str], name: str, caption: str = "") -> str:
    """Buttons that save what they stand under."""
    known = f' data-caption="{html.escape(caption)}"' if caption else ""
    buttons = "".join(
        f'<button type="button" data-save="{kind}" data-name="{html.escape(name)}"{known}>'
        f"{words}</button>"
        for kind, words in kinds.items()
    )
    return f'<div class="save">{buttons}</div>'


def _picture(picture: Picture) -> str:
    asked = panel_filter(picture)
    box = "" if asked is None else f'<div class="filter" data-words="{html.escape(asked)}"></div>'
    return (
        f'<div class="picture" data-figure="{html.escape(picture.name)}">'
        f"<h2>{html.escape(picture.title)}</h2>"
        f'<p class="question">{html.escape(picture.question)}</p>{box}'
        f'<div class="plot"></div>{_save(SAVE_PICTURE, picture.name)}</div>'
    )


def _film(film: Film, what: str) -> str:
    pairs = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in film.lines
    )
    alt = html.escape(f"{what}: {film.rank}")
    return (
        f'<figure class="film"><img src="{html.escape(film.picture)}" alt="{alt}">'
        f"<figcaption><h3>{html.escape(film.rank)}</h3><dl>{pairs}</dl></figcaption></figure>"
    )


def _films(block: Films) -> str:
    key = "".join(
        f'<span><i class="swatch" style="background:{html.escape(colour)}"></i>'
        f"{html.escape(name)}</span>"
        for name, colour in block.key
    )
    films = "".join(_film(film, block.title) for film in block.films)
    return (
        f'<div class="films"><h2>{html.escape(block.title)}</h2>'
        f'<p class="question">{html.escape(block.question)}</p>'
        f'{f"""<p class="key">{key}</p>""" if key else ""}{films}</div>'
    )


def _block(block: Block) -> str:
    match block:
        case Cards(cards):
            return f'<div class="cards">{"".join(map(_card, cards))}</div>' if cards else ""
        case Note(text):
            return f'<p class="note">{html.escape(text)}</p>'
        case Grid():
            return _grid(block)
        case Picture():
            return _picture(block)
        case Listing(title, rows):
            pairs = "".join(
                f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows
            )
            return f'<div class="listing"><h2>{html.escape(title)}</h2><dl>{pairs}</dl></div>'
        case Films():
            return _films(block)
        case _:
            assert_never(block)


def render(shown: Book) -> str:
    """The whole document."""
    links, sections, figures = [], [], {}
    for page in shown.pages:
        name, title = html.escape(page.name), html.escape(page.title)
        links.append(f'<a href="#{name}" data-page="{name}">{title}</a>')
        body = "".join(map(_block, page.blocks))
        heading = f'<h2 class="page-title">{title}</h2>'
        sections.append(f'<section data-page="{name}">{heading}{body}</section>')
        for block in page.blocks:
            if isinstance(block, Picture):
                figures[block.name] = json.loads(block.figure.to_json())
    data = script_json({"figures": figures, "templates": TEMPLATES, "config": CONFIG})
    facts = "".join(f"<span>{html.escape(fact)}</span>" for fact in shown.facts)
    name = html.escape(shown.name)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name} - radsweep</title>
<style>{asset("page.css")}</style>
</head>
<body>
<header class="column">
<p class="mark">radsweep</p>
<h1>{name}</h1>
<p class="facts">{facts}</p>
<button type="button" class="theme">{THEME}</button>
</header>
<nav aria-label="Pages"><div class="column">{"".join(links)}</div></nav>
<main class="column">{"".join(sections)}</main>
<footer class="column">Intervals are 95% intervals over resamples of the test patients, shared by
all encoders. Those of curves, differences, laws and forecasts hold the training seeds as well,
where there are several; those of single labels and slices do not.</footer>
<script type="application/json" id="figures">{data}</script>
<script id="plotly">{get_plotlyjs()}</script>
<script>{asset("page.js")}radsweep.boot();</script>
</body>
</html>
"""


def export_html(tables: Tables, path: str | Path) -> Path:
    """Write the results to one HTML file (5 MB, most of it Plotly's script); returns its path.

    The file is complete or absent: it is written beside its place and then moved there.

    Raises:
        SpecError: the score table is ambiguous (``radsweep.laws.curves``).
        OSError: the folder does not exist or cannot be written.
    """
    target = Path(path)
    text = render(book(tables))
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(target)
    return target
