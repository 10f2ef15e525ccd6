"""The door: commands, their arguments, and what they print. Everything else is called.

Rooms are imported when somebody walks in, so that ``--help`` and ``plan`` answer at once and need
no GPU stack.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from radsweep.errors import RadsweepError, SpecError
from radsweep.specs import Recipe
from radsweep.store import Store

app = typer.Typer(
    help="How much are a hospital's own x-rays worth? "
    "Data-scaling sweeps of radiology foundation models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()

SweepArgument = Annotated[
    str, typer.Argument(metavar="SWEEP", help="File or module with SWEEP = Sweep(...)")
]
StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="RADSWEEP_STORE",
        help="Root: a folder, s3://, gs:// or az://",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs")]
PatientKeyOption = Annotated[
    Path | None,
    typer.Option(help="File with the secret key of patient hashes; or set RADSWEEP_PATIENT_KEY"),
]


def _say_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def _store(url: str) -> Store:
    if not url:
        raise SpecError("no store is named; give --store DIR (or a URL) or set RADSWEEP_STORE")
    return Store(url)


@app.command()
def phantom(
    directory: Annotated[Path, typer.Argument(help="New or empty folder")],
    patients: Annotated[int, typer.Option(min=1)] = 100,
    hospital: Annotated[
        str, typer.Option(help="riverside or northside: another scanner, other prevalences")
    ] = "riverside",
    size: Annotated[int, typer.Option(min=32, help="Pixels along each side")] = 256,
    seed: int = 0,
    broken: Annotated[int, typer.Option(min=0, help="Broken files to plant")] = 4,
) -> None:
    """A synthetic hospital: DICOM x-rays, reports, finding and tube labels, tube masks."""
    from radsweep.corpus.phantom import HOSPITALS, write_hospital
    from radsweep.parts import did_you_mean
    from radsweep.sweep.show import progress_bars

    if hospital not in HOSPITALS:
        raise SpecError(f"no hospital {hospital!r}; {did_you_mean(hospital, sorted(HOSPITALS))}")
    with progress_bars(console) as bars:
        task = bars.add_task(f"drawing {patients:,} patients", total=patients, note="")
        card = write_hospital(
            directory,
            HOSPITALS[hospital],
            patients,
            size,
            seed,
            broken=broken,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    console.print(f"{card.images:,} x-rays of {patients:,} patients of {hospital} in {directory}")
    console.print(
        f"next: radsweep ingest {directory}/dicom --reports {directory}/reports.csv "
        f"--labels {directory}/labels.csv "
        f"--masks {directory}/masks.csv --corpus {hospital}@1 --store STORE",
        style="dim",
        soft_wrap=True,
    )


@app.command()
def ingest(
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC ...", help="Folders, globs, files or URLs")
    ],
    corpus: Annotated[str, typer.Option(help="name@version, such as mayo@1")],
    store: StoreOption = "",
    reports: Annotated[list[str] | None, typer.Option(help="Table of reports")] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Table of finding_* and tube_* labels")
    ] = None,
    masks: Annotated[list[str] | None, typer.Option(help="Table of mask_* files")] = None,
    size: Annotated[
        int, typer.Option(min=16, help="Pixels along each side of the stored images")
    ] = 518,
    policy: Annotated[
        str, typer.Option(help="Preprocessing: radsweep, rad-dino or mi2")
    ] = "radsweep",
    fractions: Annotated[
        str, typer.Option(help="Shares of patients in pretrain, train, val and test")
    ] = "0.8,0.1,0.04,0.06",
    patient_key: PatientKeyOption = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; none starts one here")] = None,
) -> None:
    """DICOM/PNG/JPEG folders and tables -> a corpus; says what was quarantined and why."""
    from radsweep.corpus.identity import PatientKey
    from radsweep.corpus.ingest import IngestSpec
    from radsweep.corpus.ingest_ray import ingest_with_ray
    from radsweep.sweep.cluster import connected
    from radsweep.sweep.show import card_table, progress_bars

    root = _store(store)
    root.check_writable()
    key = PatientKey.load(patient_key)
    try:
        shares = tuple(float(share) for share in fractions.split(","))
    except ValueError as fault:
        raise SpecError(
            f"fractions {fractions!r} are not numbers; write 0.8,0.1,0.04,0.06"
        ) from fault
    spec = IngestSpec(
        corpus=corpus,
        sources=tuple(sources),
        reports=tuple(reports or ()),
        labels=tuple(labels or ()),
        masks=tuple(masks or ()),
        policy=policy,
        size=size,
        fractions=shares,
    )
    with connected(address), progress_bars(console) as bars:
        task = bars.add_task(f"ingesting {corpus}", total=None, note="")
        card = ingest_with_ray(
            spec,
            root,
            key,
            progress=lambda done, total: bars.update(task, completed=done, total=total),
        )
    console.print(card_table(card))
    for warning in card["warnings"]:
        console.print(warning, style="yellow")


@app.command()
def plan(
    sweep: SweepArgument,
    store: StoreOption = "",
    machine: Annotated[str, typer.Option(help="A machine of the price table")] = "aws-g6e-1xL40S",
    prices: Annotated[Path | None, typer.Option(help="Your own price table (TOML)")] = None,
    as_json: JsonOption = False,
) -> None:
    """The grid before a cent is spent: done, missing; steps, FLOPs, device-hours, cost, storage."""
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.plan import Cost, kept_cost, make_plan, read_machine
    from radsweep.sweep.show import plan_table

    root = _store(store)

    def cost_of(recipe: Recipe) -> Cost:
        kept = kept_cost(recipe, root)
        if kept is not None:
            return kept
        # Only a recipe that this store has never seen needs the GPU stack.
        from radsweep.sweep.cost import counted_cost

        if not as_json:
            console.print(
                f"counting the FLOPs of {recipe.paradigm} ({recipe.encoder}), once ...", style="dim"
            )
        return counted_cost(recipe, root)

    made = make_plan(load_sweep(sweep), root, read_machine(machine, prices), cost_of)
    if as_json:
        _say_json(asdict(made))
        return
    console.print(plan_table(made))
    console.print(
        f"on {made.machine.name}: {made.machine.tflops:g} TFLOP/s per device at "
        f"{made.machine.utilisation:.0%}, {made.machine.usd_per_hour:g} USD/h for "
        f"{made.machine.devices}. FLOPs: 2 per multiply-add, "
        "forward and backward, teacher included, evaluation not.",
        style="dim",
    )
    for warning in made.warnings:
        console.print(warning, style="yellow", highlight=False)
    for cell in made.cells:
        if cell.reason:
            console.print(f"{cell.cell}: {cell.reason}", style="yellow")


@app.command()
def run(
    sweep: SweepArgument,
    store: StoreOption = "",
    only: Annotated[str, typer.Option(help="Glob over cell names, such as 'unicl-30k*'")] = "*",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster (auto, ray://...); none starts one here")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Cells side by side")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Training processes per cell")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per training process")] = 0,
    cpus: Annotated[float, typer.Option(help="CPUs per training process")] = 1,
    stream_cpus: Annotated[float, typer.Option(help="CPUs for the stream of each process")] = 1,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints")] = 200,
) -> None:
    """What is missing: pretraining, then scores, laws, dashboard; on a laptop or on a cluster."""
    from radsweep.pretrain.worker import Workers
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.plan import check, warnings
    from radsweep.sweep.run import RunOptions
    from radsweep.sweep.run import run as drive
    from radsweep.sweep.show import terminal_observer

    root = _store(store)
    loaded = load_sweep(sweep)
    for warning in warnings(loaded, check(loaded, root)):
        console.print(warning, style="yellow", highlight=False)
    placed = Workers(
        count=workers,
        gpus=gpus,
        cpus=cpus,
        stream_cpus=stream_cpus,
        checkpoint_steps=checkpoint_steps,
    )
    options = RunOptions(
        address=address,
        only=only,
        at_once=at_once,
        workers_for=lambda cell: placed,
        trial_gpus=gpus,
    )
    with terminal_observer(root, console) as observer:
        outcome = drive(loaded, root, options, observer)
    console.print(
        f"{len(outcome.trained)} cells trained, {outcome.scores:,} score rows, "
        f"{len(outcome.failures)} failures"
    )
    for name, reason in outcome.failures:
        console.print(
            f"[red]failed[/red] {name}: {escape(reason)}", highlight=False, soft_wrap=True
        )
    if not outcome.is_complete:
        raise typer.Exit(1)


@app.command()
def status(sweep: SweepArgument, store: StoreOption = "", as_json: JsonOption = False) -> None:
    """Each cell: waiting, running (progress, ETA), done, failed (why)."""
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.results import read_cells
    from radsweep.sweep.show import status_table

    loaded = load_sweep(sweep)
    cells = read_cells(loaded, _store(store))
    if as_json:
        _say_json(cells.to_dicts())
    else:
        console.print(status_table(loaded.name, cells))


@app.command()
def scores(
    sweep: SweepArgument,
    store: StoreOption = "",
    to: Annotated[
        Path | None, typer.Option(help="Write all rows to a .csv or .parquet file")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The score table: headline rows as text, all rows as CSV, Parquet or JSON."""
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.results import read_scores
    from radsweep.sweep.show import scores_table

    table = read_scores(load_sweep(sweep), _store(store))
    if to is not None and to.suffix == ".parquet":
        table.write_parquet(to)
    elif to is not None and to.suffix == ".csv":
        table.drop("draws").write_csv(to)
    elif to is not None:
        raise SpecError(f"{to} is neither .csv nor .parquet")
    if as_json:
        _say_json(table.drop("draws").to_dicts())
    else:
        console.print(scores_table(table))


@app.command()
def laws(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV or Parquet, ours or not")],
    x: Annotated[str, typer.Option(help="Column of sizes")] = "images",
    y: Annotated[str, typer.Option(help="Column of scores or losses")] = "value",
    by: Annotated[
        list[str] | None, typer.Option(help="Columns whose values make a curve each")
    ] = None,
    lower_is_better: Annotated[bool, typer.Option(help="Y is a loss or an error")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit scaling laws to any table."""
    import polars as pl

    from radsweep.laws.table import fit_table
    from radsweep.sweep.show import laws_table

    if table.suffix not in (".csv", ".parquet") or not table.is_file():
        raise SpecError(f"{table} is not a .csv or .parquet file that exists")
    frame = pl.read_parquet(table) if table.suffix == ".parquet" else pl.read_csv(table)
    fits = fit_table(frame, x, y, by or [], lower_is_better=lower_is_better)
    if as_json:
        _say_json(fits.to_dicts())
        return
    console.print(laws_table(fits, x, y, by or []))


@app.command()
def dash(
    sweep: SweepArgument,
    store: StoreOption = "",
    export: Annotated[
        Path | None, typer.Option(help="Write one self-contained HTML file and stop")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Other than localhost shows the scores to your network")
    ] = "127.0.0.1",
    port: int = 8050,
) -> None:
    """The live dashboard on localhost, or one self-contained HTML file."""
    from radsweep.dashboards.app import build_app
    from radsweep.dashboards.page import export_html
    from radsweep.sweep.dash import load_tables
    from radsweep.sweep.load import load_sweep

    loaded, root = load_sweep(sweep), _store(store)
    if export is not None:
        export_html(load_tables(loaded, root), export)
        console.print(f"wrote {export}")
        return
    console.print(f"dashboard of {loaded.name}: http://{host}:{port}  (Ctrl-C stops it)")
    build_app(lambda: load_tables(loaded, root)).run(host=host, port=port, debug=False)


@app.command()
def export(
    cell: Annotated[str, typer.Argument(help="Name of a finished cell")],
    out: Annotated[Path, typer.Argument(help="Folder to write")],
    to: Annotated[str, typer.Option(help="radsweep, timm, hf, dinov2 or mi2")] = "timm",
    store: StoreOption = "",
) -> None:
    """A finished encoder in a form that others load."""
    from radsweep.sweep.export import export_cell

    export_cell(_store(store), cell, to, out)
    console.print(f"wrote {cell} as {to} to {out}")


@app.command()
def submit(
    sweep: SweepArgument,
    address: Annotated[
        str, typer.Option(help="Of the cluster's dashboard", envvar="RAY_ADDRESS")
    ] = "http://127.0.0.1:8265",
    store: StoreOption = "",
    follow: Annotated[
        bool, typer.Option(help="Follow the log; Ctrl-C leaves the job running")
    ] = True,
    run_arguments: Annotated[
        list[str] | None, typer.Argument(help="After --: options of `radsweep run`")
    ] = None,
) -> None:
    """Hand the sweep to a cluster as a Ray job: it survives a closed laptop."""
    from radsweep.sweep import submit as jobs
    from radsweep.sweep.load import load_sweep

    root = _store(store)
    made = jobs.submit(load_sweep(sweep), sweep, root.url, address, tuple(run_arguments or ()))
    job = made.job
    if made.before is not None:
        console.print(
            f"this sweep's job before ended: {made.before}; only what is missing is done now",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"{'submitted' if made.is_new else 'already running'}: {job} at {address}",
        highlight=False,
        soft_wrap=True,
    )
    # The log is passed on as it is: neither its brackets nor its line ends mean anything here.
    if follow and not jobs.follow(
        address,
        job,
        lambda lines: console.print(
            lines, end="", highlight=False, markup=False, emoji=False, soft_wrap=True
        ),
    ):
        raise SpecError(f"job {job} did not succeed; its log is above")


@app.command()
def demo(
    directory: Annotated[
        Path, typer.Argument(help="Where everything goes; a second call goes on there")
    ] = Path("radsweep-demo"),
    seed: Annotated[
        int, typer.Option(help="Another seed: other patients, orders and initial weights")
    ] = 0,
    miniature: Annotated[
        bool, typer.Option(help="A few minutes' smoke test: too small to learn from")
    ] = False,
    open_browser: Annotated[bool, typer.Option(help="Open the dashboard at the end")] = False,
) -> None:
    """The whole study on a synthetic hospital, on CPU: phantom, ingest, run, dashboard, answers."""
    from radsweep.sweep.demo import run_demo

    page = run_demo(directory, seed, console, miniature=miniature)
    if open_browser:
        typer.launch(page.as_uri())


def main() -> None:
    """Run a command; errors that were raised on purpose are a message, not a traceback."""
    try:
        app()
    except RadsweepError as fault:
        Console(stderr=True).print(
            f"[bold red]error[/bold red] {escape(str(fault))}", highlight=False, soft_wrap=True
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
