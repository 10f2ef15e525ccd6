"""The whole study in one command: a synthetic hospital, its corpus, the sweep, the answers and the page.

The steps are those that a hospital takes with its own films, on the same code: only sizes are small.
"""

import dataclasses
import secrets
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec
from radsweep.corpus.ingest_ray import ingest_with_ray
from radsweep.corpus.phantom import HOSPITALS, write_hospital
from radsweep.dashboards.page import export_html
from radsweep.errors import CellError
from radsweep.laws.answers import answers
from radsweep.pretrain.worker import Workers
from radsweep.specs import Budget, Cell, Sweep, settings
from radsweep.store import Store
from radsweep.sweep.cluster import connected
from radsweep.sweep.dash import load_tables
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_scores
from radsweep.sweep.run import RunOptions, run
from radsweep.sweep.show import card_table, progress_bars, scores_table, terminal_observer

SWEEP = "radsweep.jobs.demo"
HOSPITAL = "riverside"
FRACTIONS = (0.72, 0.13, 0.05, 0.10)
"""Of patients in pretrain, train, val and test."""

PATIENTS = 2000
CPUS = 2
"""Of the cluster that the demo starts: it must be the same story on every laptop."""

MINIATURE_PATIENTS = 120
MINIATURE_IMAGES = (16, 48)
MINIATURE_STEPS = 4
"""The smoke test: every step of the demo, too small to learn from."""


def demo_sweep(seed: int, miniature: bool) -> tuple[Sweep, int]:
    """The demo's sweep under another seed or size, and the patients that it needs."""
    sweep = load_sweep(SWEEP)
    sweep = dataclasses.replace(sweep, seeds=(seed,), subset_seed=seed)
    if not miniature:
        return sweep, PATIENTS
    assert sweep.protocol is not None
    steps = {"segment.steps": MINIATURE_STEPS, "report.steps": MINIATURE_STEPS}
    protocol = dataclasses.replace(
        sweep.protocol,
        bootstraps=100,
        settings=settings({**dict(sweep.protocol.settings), **steps}),
    )
    budget = Budget(steps=MINIATURE_STEPS, batch_size=sweep.budget.batch_size)
    small = dataclasses.replace(sweep, images=MINIATURE_IMAGES, budget=budget, protocol=protocol)
    return small, MINIATURE_PATIENTS


def placement(sweep: Sweep) -> RunOptions:
    """Two cells side by side, and two workers by Ray Train for the largest cell of the first recipe."""
    largest = sweep.images[-1]

    def workers_for(cell: Cell) -> Workers:
        is_shown = cell.subset.images == largest and cell.recipe == sweep.recipes[0]
        return Workers(count=2 if is_shown else 1, cpus=0.5, stream_cpus=0.5)

    return RunOptions(cpus=CPUS, at_once=2, workers_for=workers_for)


def run_demo(directory: Path, seed: int, console: Console, *, miniature: bool) -> Path:
    """Make, ingest, run, answer; a call that was interrupted goes on where it was. Gives the page's path.

    Raises CellError where a cell or a score failed: the reasons are printed first.
    """
    sweep, patients = demo_sweep(seed, miniature)
    store = Store(str(directory / "store"))
    store.check_writable()
    films = directory / HOSPITAL
    console.rule("1 of 4  a synthetic hospital")
    _draw(films, patients, sweep, seed, console)
    console.rule("2 of 4  its corpus")
    with connected(None, CPUS):
        _ingest(films, directory / "patient.key", sweep, store, console)
        console.rule("3 of 4  the sweep")
        with terminal_observer(store, console) as observer:
            outcome = run(sweep, store, placement(sweep), observer)
    for name, reason in outcome.failures:
        console.print(f"[red]failed[/red] {name}: {reason}", highlight=False)
    console.rule("4 of 4  the answers")
    scores = read_scores(sweep, store)
    console.print(scores_table(scores))
    said = "\n".join(f"- {answer.sentence}" for answer in answers(scores))
    console.print(Panel(said, title="what the scores support", highlight=False))
    page = (directory / "dashboard.html").resolve()
    export_html(load_tables(sweep, store), page)
    console.print(f"dashboard: {page.as_uri()}", soft_wrap=True)
    console.print(f"live app:  radsweep dash {SWEEP} --store {directory / 'store'}", soft_wrap=True)
    if not outcome.is_complete:
        raise CellError(
            f"{len(outcome.failures)} parts of the demo failed; their reasons are above"
        )
    return page


def _draw(films: Path, patients: int, sweep: Sweep, seed: int, console: Console) -> None:
    if (films / "phantom.json").exists():
        console.print(f"[dim]{films} was drawn before[/dim]")
        return
    with progress_bars(console) as bars:
        task = bars.add_task("drawing patients", total=patients, note="")
        card = write_hospital(
            films,
            HOSPITALS[HOSPITAL],
            patients,
            sweep.recipes[0].image_size,
            seed,
            processes=CPUS,
            broken=5,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    console.print(
        f"{card.images:,} x-rays of {card.patients:,} patients, as DICOM files, in {films}"
    )


def _ingest(films: Path, key_file: Path, sweep: Sweep, store: Store, console: Console) -> None:
    if not key_file.exists():
        # The secret lies beside the store and never in it.
        key_file.write_text(secrets.token_hex(32))
        key_file.chmod(0o600)
    spec = IngestSpec(
        corpus=sweep.corpus,
        sources=(str(films / "dicom"),),
        reports=(str(films / "reports.csv"),),
        labels=(str(films / "labels.csv"),),
        masks=(str(films / "masks.csv"),),
        size=sweep.recipes[0].image_size,
        fractions=FRACTIONS,
        split_seed=0,
    )
    with progress_bars(console) as bars:
        task = bars.add_task("ingesting DICOM files", total=None, note="")
        card = ingest_with_ray(
            spec,
            store,
            PatientKey.load(key_file),
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    console.print(card_table(card))
