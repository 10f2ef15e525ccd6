"""Commands that hand a sweep to a cluster."""

from typing import Annotated

import typer

from radsweep.commands.shared import (
    StoreOption,
    StreamCpusOption,
    SweepArgument,
    WorkersOption,
    console,
    open_store,
    read_stream_cpus,
    read_width,
    recalled_cost,
)
from radsweep.errors import SpecError

HERE = "http://127.0.0.1:8265"
DashboardOption = Annotated[
    str, typer.Option(help="Of the cluster's dashboard", envvar="RAY_ADDRESS")
]


def submit(
    sweep: SweepArgument,
    address: DashboardOption = HERE,
    store: StoreOption = "",
    follow: Annotated[
        bool, typer.Option(help="Follow the log; Ctrl-C leaves the job running")
    ] = True,
    plan: Annotated[
        bool,
        typer.Option(help="Check the sweep against the store and price what is missing, first"),
    ] = True,
    ask_above_usd: Annotated[
        float,
        typer.Option(min=0, help="Ask before a job that is to cost more, by plan and --max-usd"),
    ] = 50,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing")] = False,
    install: Annotated[
        str | None,
        typer.Option(
            help="pip or uv: nodes install this machine's versions, once, beside their own Ray; "
            "without it they run what their image has"
        ),
    ] = None,
    run_arguments: Annotated[
        list[str] | None, typer.Argument(help="After --: options of `radsweep run`")
    ] = None,
) -> None:
    """Hand the sweep to a cluster as a Ray job: it survives a closed laptop."""
    from radsweep.commands.approve import (
        keep_quoted,
        parse_run,
        quote,
        require_yes,
        say_quote,
    )
    from radsweep.sweep import submit as jobs
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.pinned import environment

    loaded, root, arguments = load_sweep(sweep), open_store(store), tuple(run_arguments or ())
    given = parse_run((sweep, "--store", root.url, *arguments))
    installs = None
    if install is not None:
        logger = (given["log_to"] or "").partition("=")[0]
        installs = environment(install, root.url, [logger])
    before = jobs.newest(loaded, address)
    if before is not None and before.ended is None:
        job, said = before.job, "already running"
    else:
        if before is not None:
            console.print(
                f"this sweep's job before ended: {before.ended}; only what is missing is done now",
                highlight=False,
                soft_wrap=True,
            )
        if plan:
            quoted = quote(loaded, root, given, recalled_cost(root))
            say_quote(quoted)
            if not yes:
                require_yes(quoted.most_usd, ask_above_usd)
            keep_quoted(quoted, arguments, loaded, root)
        job = jobs.submit(loaded, sweep, root.url, address, arguments, given["prices"], installs)
        said = "submitted"
    # Ray's own page of the job: its log, its tasks, its metrics.
    page = f"{address.rstrip('/')}/#/jobs/{job}"
    console.print(f"{said}: {job} at {page}", highlight=False, soft_wrap=True)
    # The log is passed on as it is: neither its brackets nor its line ends mean anything here.
    if follow and not jobs.follow(
        address,
        job,
        lambda lines: console.print(
            lines, end="", highlight=False, markup=False, emoji=False, soft_wrap=True
        ),
    ):
        raise SpecError(f"job {job} did not succeed; its log is above")


def stop(sweep: SweepArgument, address: DashboardOption = HERE) -> None:
    """End the sweep's job; what was under way goes on from its checkpoint when submitted again."""
    from radsweep.sweep import submit as jobs
    from radsweep.sweep.load import load_sweep

    found = jobs.newest(load_sweep(sweep), address)
    if found is None:
        raise SpecError(f"no job of this sweep at {address}; `ray job list` has all of them")
    if found.ended is not None:
        console.print(f"{found.job} ended before: {found.ended}", highlight=False, soft_wrap=True)
        return
    ended = jobs.stop(address, found.job)
    console.print(
        f"{found.job} ended: {ended}; finished cells and checkpoints are in the store, and the "
        "same `radsweep submit` goes on from them",
        highlight=False,
        soft_wrap=True,
    )


def doctor(
    sweep: SweepArgument,
    store: StoreOption = "",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster (auto, ray://...); none starts one here")
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="Cells side by side")] = 1,
    workers: WorkersOption = "1",
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per training process")] = 0,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs per training process")] = 1,
    stream_cpus: StreamCpusOption = "1",
) -> None:
    """What would stop or spoil `radsweep run` with these options, before anything costs money."""
    from radsweep.pretrain.place import Workers
    from radsweep.sweep.cluster import connected
    from radsweep.sweep.doctor import BAD, doctor_table, examine
    from radsweep.sweep.load import load_sweep

    loaded, root = load_sweep(sweep), open_store(store)
    least, most = read_width(workers)
    stream_least, _ = read_stream_cpus(stream_cpus)
    placed = Workers(count=least, most=most, gpus=gpus, cpus=cpus, stream_cpus=stream_least)
    with connected(address):
        findings = examine(loaded, root, placed, at_once)
    console.print(doctor_table(findings))
    if any(finding.state == BAD for finding in findings):
        raise typer.Exit(1)
