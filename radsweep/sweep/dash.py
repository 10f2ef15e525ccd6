"""What a dashboard shows, read from the store each time it asks; and the page that a run leaves."""

from typing import Any

from radsweep.dashboards.blocks import Films, Note
from radsweep.dashboards.page import render
from radsweep.dashboards.pages import book
from radsweep.dashboards.tables import Tables
from radsweep.errors import RadsweepError
from radsweep.keys import canonical, key_of
from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.store.layout import sweep_file
from radsweep.sweep.films import films_of
from radsweep.sweep.results import (
    Kept,
    read_cells,
    read_label_gains,
    read_scores,
    read_slices,
    read_steps,
    read_sweep,
)


def load_tables(sweep: Sweep, store: Store, kept: Kept | None = None) -> Tables:
    """All tables of one sweep, as they are now; films are read when a page shows them.

    Whoever asks again and again hands in the same ``kept``, and reads only what is new.
    """
    kept = kept or Kept()
    return Tables(
        scores=read_scores(sweep, store, kept),
        cells=read_cells(sweep, store, kept),
        steps=read_steps(sweep, store, kept),
        sweep=read_sweep(sweep, store, kept),
        label_gains=read_label_gains(sweep, store),
        slices=read_slices(sweep, store),
        films=lambda: _films(sweep, store),
    )


def _films(sweep: Sweep, store: Store) -> tuple[Films | Note, ...]:
    """Example films, or why there are none: a page of numbers stands without them."""
    try:
        return films_of(sweep, store)
    except RadsweepError as fault:
        return (Note(f"The films cannot be shown: {fault}"),)


def page_file(sweep: str) -> str:
    """In the store: the sweep's results as one HTML file."""
    return sweep_file(sweep, "html")


def page_address(sweep: str, store: Store) -> str:
    """Where a person finds the page: a path, or a URL."""
    is_far = "://" in store.url
    return f"{store.url}/{page_file(sweep)}" if is_far else store.full(page_file(sweep))


def _said(sweep: Sweep, store: Store, name: str) -> Any:
    """Of what something in the store was made, or None."""
    path = sweep_file(sweep.name, name)
    return store.read_json(path) if store.exists(path) else None


def keep_page(sweep: Sweep, store: Store) -> Tables | None:
    """Write the page, unless it shows just this already; gives what is new on it.

    It shows the scores (what the fits were made of says which: ``run.keep_answers``), the plan, the
    sweep's own words (whether films may be shown among them) and how its cells stand, and why.
    """
    made_of = sweep_file(sweep.name, "html.json")
    states = read_cells(sweep, store).select("cell", "state", "reason").rows()
    now = {
        "fits": _said(sweep, store, "fits.json"),
        "similarity": _said(sweep, store, "similarity.json"),
        "plan": _said(sweep, store, "plan.json"),
        "sweep": key_of(canonical(sweep)),
        "cells": key_of([list(row) for row in states]),
    }
    if store.exists(made_of) and store.read_json(made_of) == now:
        return None
    tables = load_tables(sweep, store)
    store.write_bytes(page_file(sweep.name), render(book(tables)).encode())
    store.write_json(made_of, now)
    return tables
