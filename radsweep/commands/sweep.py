"""Commands that plan, run and watch a sweep."""

import fnmatch
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from radsweep.commands.shared import (
    JsonOption,
    StoreOption,
    StreamCpusOption,
    SweepArgument,
    WorkersOption,
    console,
    open_store,
    read_stream_cpus,
    read_width,
    recalled_cost,
    say_json,
)
from radsweep.errors import SpecError
from radsweep.specs import Sweep

if TYPE_CHECKING:
    from radsweep.sweep.plan import CostOf
    from radsweep.sweep.run import RunOptions


def plan(
    sweep: SweepArgument,
    store: StoreOption = "",
    machine: Annotated[str, typer.Option(help="A machine of the price table")] = "aws-g6e-1xL40S",
    prices: Annotated[Path | None, typer.Option(help="Your own price table (TOML)")] = None,
    as_json: JsonOption = False,
) -> None:
    """The grid before a cent is spent: done, missing; steps, FLOPs, device-hours, cost, storage."""
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.plan import keep_plan, make_plan, read_machine
    from radsweep.sweep.show import plan_table

    root = open_store(store)
    cost_of = recalled_cost(root, say_so=not as_json)
    made = make_plan(load_sweep(sweep), root, read_machine(machine, prices), cost_of)
    keep_plan(made, root)
    if as_json:
        say_json(asdict(made))
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


def run(
    sweep: SweepArgument,
    store: StoreOption = "",
    only: Annotated[str, typer.Option(help="Glob over cell names, such as 'unicl-30k*'")] = "*",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster (auto, ray://...); none starts one here")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Cells side by side")] = 1,
    workers: WorkersOption = "1",
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per training process")] = 0,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs per training process")] = 1,
    stream_cpus: StreamCpusOption = "1",
    trial_cpus: Annotated[
        float, typer.Option(min=0.1, help="CPUs per encoder or probe that is evaluated")
    ] = 1,
    trial_gpus: Annotated[
        float | None,
        typer.Option(
            min=0, help="The same of GPUs, 0.25 for four on one; as --gpus if it is not said"
        ),
    ] = None,
    checkpoint_steps: Annotated[int, typer.Option(min=1, help="Steps between checkpoints")] = 200,
    keep_every_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Checkpoints at multiples of it stay, as long as it is given"),
    ] = None,
    images_at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a process's share of the batch; fewer need less memory, take more time and "
            "give the same gradient",
        ),
    ] = None,
    activation_checkpointing: Annotated[
        bool,
        typer.Option(
            "--activation-checkpointing",
            help="Compute activations anew in the backward pass: less memory, more time, the same "
            "gradient",
        ),
    ] = False,
    compile_blocks: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Let PyTorch compile the towers' blocks, which takes minutes at first: for GPUs, "
            "a CPU is no faster by it",
        ),
    ] = False,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard",
            help="Share weights and moments over the training processes, for encoders that are too "
            "large for one",
        ),
    ] = False,
    log_to: Annotated[
        str | None,
        typer.Option(
            help="Show log rows live as well: tensorboard=FOLDER, mlflow=URL, wandb=FOLDER, or by "
            "your own module"
        ),
    ] = None,
    watch_spot: Annotated[
        str | None,
        typer.Option(help="aws, gcp or azure: keep a checkpoint when a node gets its notice"),
    ] = None,
    max_usd: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Start no cell that would cost more in all; of a GPU that cells share, each is "
            "charged the whole",
        ),
    ] = None,
    max_hours: Annotated[
        float | None, typer.Option(min=0, help="The same for device-hours")
    ] = None,
    machine: Annotated[
        str, typer.Option(help="Of the price table, for the limits")
    ] = "aws-g6e-1xL40S",
    prices: Annotated[Path | None, typer.Option(help="Your own price table (TOML)")] = None,
    webhook: Annotated[
        str | None, typer.Option(help="URL that is sent the outcome as JSON at the end")
    ] = None,
    log_json: Annotated[
        Path | None, typer.Option(help="Append a line of JSON for each thing that happens")
    ] = None,
) -> None:
    """What is missing: pretraining, then scores, laws, dashboard; on a laptop or on a cluster."""
    # By their names, as `submit` has them before it hands them over.
    given = locals()
    from radsweep.sweep.bars import terminal_observer
    from radsweep.sweep.cost import planned_cost
    from radsweep.sweep.dash import keep_page, page_address
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.plan import check, warnings
    from radsweep.sweep.run import run as drive
    from radsweep.sweep.summary import answers_panel
    from radsweep.sweep.tell import Bill, journal, outcome_message, post

    root = open_store(store)
    loaded = load_sweep(sweep)
    options = run_options(loaded, given, lambda recipe: planned_cost(recipe, root))
    for warning in warnings(loaded, check(loaded, root)):
        console.print(warning, style="yellow", highlight=False)
    with (
        terminal_observer(root, console) as terminal,
        journal(loaded.name, log_json, terminal) as observer,
    ):
        outcome = drive(loaded, root, options, Bill(loaded, root, observer))
    console.print(
        f"{len(outcome.trained)} cells trained, {outcome.scores:,} score rows, "
        f"{len(outcome.failures)} failures"
    )
    for name, reason in outcome.failures:
        console.print(
            f"[red]failed[/red] {name}: {escape(reason)}", highlight=False, soft_wrap=True
        )
    fresh = keep_page(loaded, root)
    if fresh is not None and len(fresh.scores):
        console.print(answers_panel(fresh.answers))
    console.print(f"dashboard: {page_address(loaded.name, root)}", soft_wrap=True)
    if webhook is not None:
        fault = post(webhook, outcome_message(loaded, root, outcome))
        if fault is not None:
            console.print(f"the webhook was not told: {fault}", style="yellow", markup=False)
    if not outcome.is_complete:
        raise typer.Exit(1)


def run_options(sweep: Sweep, given: dict[str, Any], cost_of: "CostOf") -> "RunOptions":
    """What the options of ``run`` say, where they go together and with the sweep.

    Args:
        sweep: what is to be run.
        given: the options by their names.
        cost_of: counts or recalls what a recipe costs, for the limits.

    Raises SpecError or typer's BadParameter for what cannot be run.
    """
    from radsweep.loggers.base import check_log_to
    from radsweep.pretrain.place import Workers
    from radsweep.sweep.limits import Limits
    from radsweep.sweep.plan import read_machine
    from radsweep.sweep.run import RunOptions
    from radsweep.sweep.spot import check_provider
    from radsweep.sweep.tell import check_webhook

    if given["webhook"] is not None:
        check_webhook(given["webhook"])
    if given["watch_spot"] is not None:
        check_provider(given["watch_spot"])
    least, most = read_width(given["workers"])
    stream_least, stream_most = read_stream_cpus(given["stream_cpus"])
    placed = Workers(
        count=least,
        most=most,
        gpus=given["gpus"],
        cpus=given["cpus"],
        stream_cpus=stream_least,
        stream_cpus_most=stream_most,
        checkpoint_steps=given["checkpoint_steps"],
        keep_every_steps=given["keep_every_steps"],
        images_at_once=given["images_at_once"],
        activation_checkpointing=given["activation_checkpointing"],
        compile_blocks=given["compile_blocks"],
        sharded=given["shard"],
        log_to=None if given["log_to"] is None else check_log_to(given["log_to"]),
    )
    names = [cell.name for cell in sweep.cells()]
    if not fnmatch.filter(names, given["only"]):
        raise SpecError(f"--only {given['only']} names no cell; they are such as {names[-1]}")
    machine, limits = read_machine(given["machine"], given["prices"]), None
    if given["max_usd"] is not None or given["max_hours"] is not None:
        limits = Limits(
            machine=machine,
            cost_of=cost_of,
            max_usd=given["max_usd"],
            max_hours=given["max_hours"],
        )
    return RunOptions(
        address=given["address"],
        only=given["only"],
        at_once=given["at_once"],
        workers_for=lambda cell: placed,
        trial_cpus=given["trial_cpus"],
        trial_gpus=given["gpus"] if given["trial_gpus"] is None else given["trial_gpus"],
        watch_spot=given["watch_spot"],
        limits=limits,
    )


def status(sweep: SweepArgument, store: StoreOption = "", as_json: JsonOption = False) -> None:
    """Each cell: waiting, running (progress, ETA), done, failed (why)."""
    from radsweep.store.layout import sweep_file
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.results import read_cells
    from radsweep.sweep.show import status_table

    loaded, root = load_sweep(sweep), open_store(store)
    cells = read_cells(loaded, root)
    if as_json:
        say_json(cells.to_dicts())
        return
    console.print(status_table(loaded.name, cells))
    if not root.exists(sweep_file(loaded.name)):
        console.print(f"it was never run in {root.url}", style="yellow", soft_wrap=True)


def demo(
    directory: Annotated[
        Path, typer.Argument(help="Where everything goes; a second call goes on there")
    ] = Path("radsweep-demo"),
    store: Annotated[
        str,
        typer.Option(help="Folder or URL of its store, such as s3://…; DIRECTORY/store if none"),
    ] = "",
    seed: Annotated[
        int, typer.Option(help="Another seed: other patients, orders and initial weights")
    ] = 0,
    miniature: Annotated[
        bool, typer.Option(help="A few minutes' smoke test: too small to learn from")
    ] = False,
    open_browser: Annotated[bool, typer.Option(help="Open the dashboard at the end")] = False,
) -> None:
    """A whole sweep on a synthetic hospital, on CPU: phantom, ingest, run, dashboard, answers."""
    from radsweep.sweep.demo import run_demo

    # Not RADSWEEP_STORE: nobody wants a synthetic hospital beside their own.
    root = open_store(store or str(directory / "store"))
    page = run_demo(directory, root, seed, console, miniature=miniature)
    if open_browser:
        typer.launch(page.as_uri())
