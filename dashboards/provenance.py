"""Where the numbers come from: specification, plan, corpus card, audit of the budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from radsweep.dashboards.blocks import Grid, Listing, Note
from radsweep.dashboards.tables import Tables
from radsweep.laws.words import label_title

# One batch more or less at the end of a stream is not a different budget.
EQUAL = 0.001
SPLITS = ("pretrain", "train", "val", "test")
STATES = ("present", "absent", "uncertain", "missing")
IN_TABLES = frozenset({"splits", "labels"})
"""Of the corpus card: what is a table of its own."""


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON as (path, text) rows, in order; a list of plain values stays on one row."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(item, dict | list) for item in value):
        for i, inner in enumerate(value):
            yield from flat(inner, f"{name}[{i}]")
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def audit(cells: pl.DataFrame) -> str:
    """One sentence on whether every finished cell of a paradigm spent the same budget."""
    done = cells.filter((pl.col("state") == "done") & (pl.col("images") > 0))
    if not len(done):
        return "No cell has finished yet, so there is no budget to audit."
    short = done.filter(pl.col("spent") < 1 - EQUAL)
    parts = []
    for quantity, words in (("images_seen", "images"), ("flops", "training FLOPs")):
        median = pl.col(quantity).median().over("paradigm")
        off = done.filter((pl.col(quantity) / median - 1).abs() > EQUAL)
        if len(off):
            parts.append(
                f"{len(off)} of {len(done)} finished cells differ in {words} by more than "
                f"{EQUAL:.1%} from their paradigm's median ({', '.join(sorted(off['cell']))})"
            )
        else:
            parts.append(f"all {len(done)} finished cells spent their paradigm's number of {words}")
    if len(short):
        names = ", ".join(sorted(short["cell"]))
        parts.append(f"{len(short)} are called done below their full budget ({names})")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _splits(card: Mapping[str, Any]) -> Grid | None:
    splits = {name: card["splits"][name] for name in SPLITS if name in card.get("splits", {})}
    if not splits:
        return None
    counted = list(dict.fromkeys(key for counts in splits.values() for key in counts))
    rows = tuple(
        (name, *(_text(counts.get(key)) for key in counted)) for name, counts in splits.items()
    )
    return Grid(
        "What each split holds; no patient is in two",
        ("Split", *counted),
        rows,
        numeric=frozenset(range(1, len(counted) + 1)),
    )


def _labels(card: Mapping[str, Any]) -> Grid | None:
    splits = [name for name in SPLITS if name in card.get("splits", {})]
    rows = tuple(
        (
            label_title(label),
            *(
                " / ".join(_text(counts.get(f"{split}_{state}")) for state in STATES)
                for split in splits
            ),
        )
        for label, counts in card.get("labels", {}).items()
    )
    if not rows:
        return None
    return Grid(
        f"Images by label: {' / '.join(STATES)}",
        ("Label", *splits),
        rows,
        numeric=frozenset(range(1, len(splits) + 1)),
    )


def blocks(tables: Tables) -> tuple[Note | Listing | Grid, ...]:
    """The provenance page, apart from its charts."""
    sweep = tables.sweep
    head = (
        ("sweep", str(sweep["name"])),
        ("corpus", str(sweep["corpus"])),
        ("code version of the encoders", str(sweep["code_version"]) or "-"),
        ("code versions of the scores", ", ".join(_versions(tables.scores)) or "-"),
    )
    card = sweep["card"]
    grids = (_splits(card), _labels(card))
    described = (
        ("Corpus card", {key: value for key, value in card.items() if key not in IN_TABLES}),
        ("Specification", sweep["spec"]),
        (
            "Plan",
            {name: value for name, value in (sweep.get("plan") or {}).items() if name != "cells"},
        ),
    )
    return (
        Note(audit(tables.cells)),
        Listing("Identity", head),
        *(grid for grid in grids if grid is not None),
        *(Listing(title, tuple(flat(value))) for title, value in described if value),
    )


def _versions(scores: pl.DataFrame) -> list[str]:
    return sorted(str(version) for version in scores["code_version"].unique())
