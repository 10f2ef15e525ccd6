"""A whole sweep in one command: a synthetic hospital, its corpus, a sweep, answers and page.

The steps are those that a hospital takes with its own films, on the same code: only sizes are
small.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec
from radsweep.corpus.ingest_ray import ingest_with_ray
from radsweep.corpus.phantom import HOSPITALS, write_hospital
from radsweep.errors import CellError, SpecError
from radsweep.keys import seed_of
from radsweep.pretrain.place import Workers
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.sweep.bars import progress_bars, terminal_observer
from radsweep.sweep.cluster import connected
from radsweep.sweep.dash import keep_page, load_tables, page_file
from radsweep.sweep.demo_sweep import SWEEP_FILE, demo_sweep
from radsweep.sweep.run import RunOptions, run
from radsweep.sweep.show import card_table, scores_table
from radsweep.sweep.summary import answers_panel

HOSPITAL = "riverside"

CPUS = 2
"""Of the cluster that the demo starts: it must be the same story on every laptop."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the hospital is."""

    patients: int
    fractions: tuple[float, float, float, float]
    """Of patients in pretrain, train, val and test."""


FULL = Size(patients=2800, fractions=(0.58, 0.18, 0.04, 0.20))
"""Enough for the largest scale, for a report's words, and to tell encoders apart in test."""
MINIATURE = Size(patients=120, fractions=(0.48, 0.22, 0.08, 0.22))
"""With so few patients, most go where the tasks need five of each kind."""


def placement(sweep: Sweep) -> RunOptions:
    """Two cells side by side, and two Ray Train workers for the last recipe's largest cell."""
    largest = sweep.images[-1]

    def workers_for(cell: Cell) -> Workers:
        is_shown = cell.subset.images == largest and cell.recipe == sweep.recipes[-1]
        return Workers(count=2 if is_shown else 1, cpus=0.5, stream_cpus=0.5)

    return RunOptions(cpus=CPUS, at_once=2, workers_for=workers_for)


def run_demo(
    directory: Path, store: Store, seed: int, console: Console, *, miniature: bool
) -> Path:
    """Make, ingest, run, answer: the page's path. An interrupted call goes on where it was.

    Args:
        directory: for films, the sweep's file and the page.
        store: for all else.
        seed: of patients, orders and initial weights.
        console: is told how it goes.
        miniature: a smoke test instead of the whole story.

    Raises SpecError where the folder holds another demo, CellError where a cell or a score failed:
    the reasons are printed first.
    """
    sweep, size = demo_sweep(seed, miniature), MINIATURE if miniature else FULL
    films, sweep_file = directory / HOSPITAL, directory / "sweep.py"
    _refuse_another(films, size, seed)
    store.check_writable()
    directory.mkdir(parents=True, exist_ok=True)
    sweep_file.write_text(SWEEP_FILE.format(seed=seed, miniature=miniature))
    console.rule("1 of 4  a synthetic hospital")
    _draw(films, size, sweep, seed, console)
    console.rule("2 of 4  its corpus")
    with connected(None, CPUS):
        _ingest(films, size, sweep, seed, store, console)
        console.rule("3 of 4  the sweep")
        with terminal_observer(store, console) as observer:
            outcome = run(sweep, store, placement(sweep), observer)
    for name, reason in outcome.failures:
        console.print(
            f"[red]failed[/red] {name}: {escape(reason)}", highlight=False, soft_wrap=True
        )
    console.rule("4 of 4  the answers")
    tables = keep_page(sweep, store) or load_tables(sweep, store)
    console.print(scores_table(tables.scores))
    console.print(answers_panel(tables.answers))
    page = (directory / "dashboard.html").resolve()
    page.write_bytes(store.read_bytes(page_file(sweep.name)))
    console.print(f"dashboard: {page.as_uri()}", soft_wrap=True)
    console.print(f"live app:  radsweep dash {sweep_file} --store {store.url}", soft_wrap=True)
    if not outcome.is_complete:
        raise CellError(
            f"{len(outcome.failures)} parts of the demo failed; their reasons are above"
        )
    return page


def _refuse_another(films: Path, size: Size, seed: int) -> None:
    """Raise SpecError where the folder holds a demo of another seed or size."""
    card = films / "phantom.json"
    if not card.exists():
        return
    drawn = json.loads(card.read_text())
    if (drawn["patients"], drawn["seed"]) != (size.patients, seed):
        raise SpecError(
            f"{films.parent} holds a demo of {drawn['patients']:,} patients at seed "
            f"{drawn['seed']}, not of {size.patients:,} at seed {seed}; name another folder "
            "(radsweep demo DIRECTORY), or delete that one"
        )


def _draw(films: Path, size: Size, sweep: Sweep, seed: int, console: Console) -> None:
    if (films / "phantom.json").exists():
        console.print(f"[dim]{films} was drawn before[/dim]")
        return
    # Under another name until it is whole: a drawing that was interrupted begins again.
    unfinished = films.with_name(f"{films.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    with progress_bars(console) as bars:
        task = bars.add_task("drawing patients", total=size.patients, note="")
        card = write_hospital(
            unfinished,
            HOSPITALS[HOSPITAL],
            size.patients,
            sweep.recipes[0].image_size,
            seed,
            processes=CPUS,
            broken=5,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    if films.exists():
        shutil.rmtree(films)
    unfinished.rename(films)
    console.print(
        f"{card.images:,} x-rays of {card.patients:,} patients, as DICOM files, in {films}"
    )


def _ingest(
    films: Path, size: Size, sweep: Sweep, seed: int, store: Store, console: Console
) -> None:
    # No secret: nobody is in these pictures, and pseudonyms decide the splits, so that a key of its
    # own would give every laptop another story. A hospital's key is random and kept in its safe.
    key = PatientKey(f"radsweep demo {seed_of('demo', seed)}".encode())
    spec = IngestSpec(
        corpus=sweep.corpus,
        sources=(str(films / "dicom"),),
        reports=(str(films / "reports.csv"),),
        labels=(str(films / "labels.csv"),),
        masks=(str(films / "masks.csv"),),
        size=sweep.recipes[0].image_size,
        fractions=size.fractions,
        split_seed=0,
    )
    with progress_bars(console) as bars:
        task = bars.add_task("ingesting DICOM files", total=None, note="")
        card = ingest_with_ray(
            spec,
            store,
            key,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    console.print(card_table(card))
