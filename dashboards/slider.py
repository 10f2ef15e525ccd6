"""A slider under a figure: each step shows another state of its traces, under a heading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from radsweep.dashboards.style import BOTTOM, Drawing

SLIDER_HEIGHT = 90


@final
@dataclass(frozen=True)
class Step:
    """One place of the slider."""

    label: str
    """Under the slider; short."""
    heading: str
    """Over the figure; Plotly's markup is on."""
    panels: tuple[dict[str, Any], ...]
    """Trace attributes (dotted names) of each panel's one trace, in their order."""


def add_slider(drawn: Drawing, steps: Sequence[Step], first: int) -> None:
    """Put the slider under ``drawn``, whose traces stand as in step ``first``.

    Every step has the same attribute names for as many panels as the figure has traces.
    """
    names = list(steps[first].panels[0])
    made = [
        {
            "method": "update",
            "args": [
                {name: [panel[name] for panel in step.panels] for name in names},
                {"title.text": step.heading},
            ],
            "label": step.label,
        }
        for step in steps
    ]
    drawn.layout |= {
        "height": drawn.layout["height"] + SLIDER_HEIGHT,
        "margin": {"b": BOTTOM + SLIDER_HEIGHT},
        "title": {
            **{"text": steps[first].heading, "x": 0, "xref": "paper", "xanchor": "left"},
            **{"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 18}},
            "font": {"size": 13},
        },
        "sliders": [
            {
                **{"active": first, "steps": made, "x": 0, "len": 1, "y": 0, "yanchor": "top"},
                **{"pad": {"t": 62, "b": 6}, "currentvalue": {"visible": False}},
                **{"font": {"size": 10}, "ticklen": 4, "transition": {"duration": 0}},
            }
        ],
    }
