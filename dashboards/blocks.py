"""What a page is made of, before it is HTML or Dash: sentences, notes, tables, charts, listings.

Both the exported file and the live app render these few kinds, so they cannot drift apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias, final

import plotly.graph_objects as go


@final
@dataclass(frozen=True)
class Line:
    """One sentence; ``colour`` marks the paradigm it is about."""

    text: str
    colour: str | None = None


@final
@dataclass(frozen=True)
class Card:
    """The sentences on one task: the leading ones first."""

    heading: str
    lead: tuple[Line, ...]
    rest: tuple[Line, ...]


@final
@dataclass(frozen=True)
class Cards:
    """Cards side by side."""

    cards: tuple[Card, ...]


@final
@dataclass(frozen=True)
class Note:
    """A quiet paragraph."""

    text: str


@final
@dataclass(frozen=True)
class Grid:
    """A table of texts; ``is_folded`` hides it behind its caption."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_folded: bool = False
    numeric: frozenset[int] = field(default_factory=frozenset)
    """Columns that are set flush right."""


@final
@dataclass(frozen=True)
class Picture:
    """A chart under its title and question."""

    name: str
    title: str
    question: str
    figure: go.Figure


FEWEST_FILTERED = 6
"""Panels of a picture from which on a reader may want to see some of them only."""


def panel_filter(picture: Picture) -> str | None:
    """The words in an empty filter over a picture's panels; None where it needs none."""
    layout = picture.figure.layout
    panels = (layout.meta or {}).get("panels", 0)
    if panels < FEWEST_FILTERED or len(layout.sliders or ()):
        return None
    return f"Filter the {panels} panels by their titles"


SAVE_PICTURE = {"svg": "SVG", "png": "PNG", "pdf": "PDF"}
SAVE_TABLE = {"csv": "CSV", "tex": "LaTeX"}
"""What a reader may save, by the kind that the page's script knows: the words on the buttons."""


def file_name(text: str) -> str:
    """A short file name without its ending, of letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:40].rstrip("_") or "table"


@final
@dataclass(frozen=True)
class Listing:
    """Names and values, in order."""

    title: str
    rows: tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True)
class Film:
    """One x-ray, as a picture that lies in the page, and what is said of it."""

    rank: str
    """Its place among all films, in words."""
    picture: str
    """A data URI."""
    lines: tuple[tuple[str, str], ...]
    """Names and values."""


@final
@dataclass(frozen=True)
class Films:
    """X-rays one under another, with a key to the colours in them."""

    title: str
    question: str
    key: tuple[tuple[str, str], ...]
    """Names and colours."""
    films: tuple[Film, ...]


Block: TypeAlias = Cards | Note | Grid | Picture | Listing | Films


@final
@dataclass(frozen=True)
class Page:
    """One tab."""

    name: str
    title: str
    blocks: tuple[Block, ...]
