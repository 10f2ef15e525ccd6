"""How every chart looks: colours, symbols, panels, themes; no chart chooses these itself.

Colours are those of Okabe and Ito 2008 ("Color Universal Design"), which stay apart for the common
kinds of colour blindness; symbols differ as well, so that a black-and-white print can be read.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import plotly.graph_objects as go

from radsweep.laws.words import images_short, paradigm_title

PARADIGMS = {
    "clip": ("#0072B2", "circle"),
    "unicl": ("#D55E00", "square"),
    "dinov2": ("#009E73", "diamond"),
}
OTHERS = (
    *(("#CC79A7", "triangle-up"), ("#E69F00", "triangle-down"), ("#56B4E9", "pentagon")),
    *(("#8C6D31", "hexagon"), ("#7A5195", "star")),
)
STATES = {
    "done": "rgba(138,143,152,0.55)",
    "running": "#56B4E9",
    "waiting": "#C9CDD3",
    "preempted": "#F0E442",
    "failed": "#CC79A7",
    "collapsed": "#E69F00",
    "diverged": "#7A5195",
}
NEUTRAL = "#8A8F98"
PANEL_HEIGHT = 230
PANEL_GAP = 86
TOP, BOTTOM = 84, 58


@final
@dataclass(frozen=True)
class Look:
    """The fixed colour and symbol of one paradigm."""

    name: str
    colour: str
    symbol: str


def looks(arms: Iterable[str]) -> dict[str, Look]:
    """A look per arm: its paradigm's own, or the next free one where two arms would share it."""
    spare = iter(OTHERS)
    taken: set[str] = set()
    found = {}
    for arm in sorted(set(arms)):
        paradigm = arm.split(" ", 1)[0]
        own = PARADIGMS.get(paradigm) if paradigm not in taken else None
        colour, symbol = own or next(spare, (NEUTRAL, "cross"))
        taken.add(paradigm)
        found[arm] = Look(plain(paradigm_title(arm)), colour, symbol)
    return found


def plain(text: object) -> str:
    """Text for a figure, with Plotly's markup (a small HTML) switched off."""
    return html.escape(str(text), quote=False)


def faded(colour: str, opacity: float) -> str:
    """A #RRGGBB colour as rgba with an opacity in [0, 1]."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:.3g})"


def image_axis(images: Iterable[float], *, room: float = 0.07) -> dict[str, Any]:
    """A logarithmic axis with ticks at the scales themselves, thinned to keep ``room`` between.

    Where only open weights are there yet, an axis without ticks.
    """
    title = {"text": "images"}
    scales = sorted({float(n) for n in images if n > 0})
    if not scales:
        return {"type": "log", "range": [0, 1], "tickvals": [], "title": title}
    logs = np.log10(scales)
    width = max(float(np.ptp(logs)), 0.1)
    step = room * width
    kept = [0]
    for i in range(1, len(scales) - 1):
        if logs[i] - logs[kept[-1]] >= step and logs[-1] - logs[i] >= step:
            kept.append(i)
    kept += [len(scales) - 1] if len(scales) > 1 else []
    return {
        "type": "log",
        "tickangle": 0,
        "range": [float(logs.min()) - 0.06 * width, float(logs.max()) + 0.06 * width],
        "tickvals": [scales[i] for i in kept],
        "ticktext": [images_short(scales[i]) for i in kept],
        "title": title,
    }


@final
@dataclass(frozen=True)
class Place:
    """One panel: the axis names that its traces take."""

    x: str
    y: str

    @property
    def axes(self) -> dict[str, str]:
        """Keyword arguments of a trace."""
        return {"xaxis": self.x, "yaxis": self.y}


@final
class Drawing:
    """Traces and layout of a figure under way, as plain dictionaries.

    Plotly's own objects check themselves at every addition, which takes most of a second for a
    hundred panels; a test checks every chart's figure once instead.
    """

    def __init__(self, layout: dict[str, Any]) -> None:
        """Begins without traces; ``layout`` as ``panel_layout`` makes it."""
        self.layout = layout
        self.traces: list[dict[str, Any]] = []

    def scatter(self, **attributes: Any) -> None:
        """Add a trace of points or lines."""
        self.traces.append({"type": "scatter", **attributes})

    def axes(self, where: Place, *, x: dict[str, Any] | None = None, y: Any = None) -> None:
        """Set attributes of a panel's axes, beside those they have."""
        self.layout[f"xaxis{where.x[1:]}"] |= x or {}
        self.layout[f"yaxis{where.y[1:]}"] |= y or {}

    def figure(self) -> go.Figure:
        """What was drawn."""
        return go.Figure(data=self.traces, layout=self.layout, _validate=False)


def panels(
    titles: Sequence[str],
    columns: int,
    height: int = PANEL_HEIGHT,
    subtitles: Sequence[str] | None = None,
) -> Drawing:
    """An empty drawing of panels, see ``panel_layout``."""
    return Drawing(panel_layout(titles, columns, height, subtitles))


def panel_layout(
    titles: Sequence[str],
    columns: int,
    height: int = PANEL_HEIGHT,
    subtitles: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The layout of panels, row by row, each with its title (and subtitle) at the top left.

    ``layout.meta`` records the grid, so that the page can stack the panels on a narrow screen, and
    lay some of them out by themselves.
    """
    columns = max(1, min(columns, len(titles)))
    rows = -(-len(titles) // columns)
    inner = rows * height + (rows - 1) * PANEL_GAP
    gap = 0.07 if columns < 4 else 0.05
    wide = (1 - gap * (columns - 1)) / columns
    layout: dict[str, Any] = {
        "height": inner + TOP + BOTTOM,
        "meta": {
            **{"panels": len(titles), "panel_height": height, "gap": PANEL_GAP},
            **{"columns": columns, "top": TOP, "bottom": BOTTOM},
        },
        "annotations": [],
    }
    for i, title in enumerate(titles):
        row, column = divmod(i, columns)
        left = column * (wide + gap)
        top = 1 - row * (height + PANEL_GAP) / inner
        number = "" if i == 0 else str(i + 1)
        layout[f"xaxis{number}"] = {
            "domain": [left, min(left + wide, 1.0)],
            "anchor": f"y{number}",
        }
        layout[f"yaxis{number}"] = {
            "domain": [max(top - height / inner, 0.0), top],
            "anchor": f"x{number}",
        }
        text = f"<b>{plain(title)}</b>"
        if subtitles is not None:
            text += f'<br><span style="font-size:11px">{plain(subtitles[i])}</span>'
        layout["annotations"].append(
            {
                **{"text": text, "showarrow": False, "font": {"size": 13}, "align": "left"},
                **{"x": left, "y": top, "xref": "paper", "yref": "paper"},
                **{"xanchor": "left", "yanchor": "bottom", "yshift": 8},
            }
        )
    return layout


def place(index: int) -> Place:
    """The axes of panel ``index`` (from 0)."""
    number = "" if index == 0 else str(index + 1)
    return Place(f"x{number}", f"y{number}")


def band(
    x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str
) -> dict[str, Any]:
    """A filled interval band, as attributes of a scatter."""
    return {
        **{"x": [*x, *reversed(x)], "y": [*high, *reversed(low)], "mode": "lines"},
        **{"fill": "toself", "fillcolor": faded(colour, 0.14), "line": {"width": 0}},
        **{"hoverinfo": "skip", "showlegend": False},
    }


def _template(text: str, grid: str, line: str, hover: str) -> dict[str, Any]:
    axis = {
        **{"gridcolor": grid, "linecolor": line, "zerolinecolor": line, "showline": True},
        **{"ticks": "outside", "ticklen": 4, "tickcolor": line, "automargin": True},
        **{"zeroline": False, "title": {"font": {"size": 12}, "standoff": 6}},
    }
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
    return {
        "layout": {
            "font": {"family": font, "size": 12, "color": text},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {**axis, "showgrid": False},
            "yaxis": axis,
            "margin": {"l": 56, "r": 16, "t": TOP, "b": BOTTOM},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": line, "activecolor": text},
            "hoverlabel": {"bgcolor": hover, "bordercolor": line, "font": {"color": text}},
            "legend": {
                **{"orientation": "h", "x": 0, "xanchor": "left", "bgcolor": "rgba(0,0,0,0)"},
                **{"y": 1, "yref": "container", "yanchor": "top", "itemsizing": "constant"},
            },
        }
    }


THEME = "Light or dark"
"""On the button that changes between the two."""

TEMPLATES = {
    "light": _template("#2B2F36", "#ECEEF1", "#C3C8CF", "#FFFFFF"),
    "dark": _template("#D5D9DF", "#2A2F37", "#4A515C", "#1C2128"),
}
"""Plotly templates; the page lays the reader's own over every figure."""

CONFIG: Any = {
    **{"displaylogo": False, "responsive": True, "showLink": False, "plotlyServerURL": ""},
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}
"""How Plotly behaves in the page; no button sends anything anywhere."""
