"""What a dashboard shows, read from the store each time it asks."""

from radsweep.dashboards.tables import Tables
from radsweep.specs import Sweep
from radsweep.store import Store
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
