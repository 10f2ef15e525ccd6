"""What a dashboard shows, read from the store each time it asks; and the page that a run leaves."""

from radsweep.dashboards.page import render
from radsweep.dashboards.pages import book
from radsweep.dashboards.tables import Tables
from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.store.layout import sweep_file
from radsweep.sweep.films import films_of
from radsweep.sweep.results import read_cells, read_scores, read_steps, read_sweep


def load_tables(sweep: Sweep, store: Store) -> Tables:
    """All tables of one sweep, as they are now; films are read when a page shows them."""
    return Tables(
        scores=read_scores(sweep, store),
        cells=read_cells(sweep, store),
        steps=read_steps(sweep, store),
        sweep=read_sweep(sweep, store),
        films=lambda: films_of(sweep, store),
    )


def page_file(sweep: str) -> str:
    """In the store: the sweep's results as one HTML file."""
    return sweep_file(sweep, "html")


def keep_page(sweep: Sweep, store: Store) -> Tables | None:
    """Write the page, unless it shows these very scores already; gives what is new on it.

    What the fits were made of says which scores there are (``run.keep_fits``); before there are
    any, there is no page.
    """
    fits, made_of = sweep_file(sweep.name, "fits.json"), sweep_file(sweep.name, "html.json")
    if not store.exists(fits):
        return None
    now = store.read_json(fits)
    if store.exists(made_of) and store.read_json(made_of) == now:
        return None
    tables = load_tables(sweep, store)
    store.write_bytes(page_file(sweep.name), render(book(tables)).encode())
    store.write_json(made_of, now)
    return tables
