"""Before a sweep is handed to a cluster: refuse what `run` would refuse there, price it, ask."""

import fnmatch
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from radsweep.commands.shared import console
from radsweep.commands.sweep import run, run_options
from radsweep.errors import RadsweepError, SpecError
from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.sweep.plan import CostOf, Plan, check, keep_plan, make_plan, read_machine


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a job is still to do, and for how much; `radsweep plan` has the grid."""

    cells: int
    missing: int
    device_hours: float
    usd: float
    most_usd: float
    """The same, or ``--max-usd`` where that is less."""
    plan: Plan
    """Of the whole sweep."""
    remarks: tuple[str, ...]
    """Worth knowing before paying, and no reason to refuse."""


def parse_run(arguments: Sequence[str]) -> dict[str, Any]:
    """Options as `radsweep run` will read them on the cluster, by their names there.

    Raises typer's usage error for what it would refuse.
    """
    alone = typer.Typer(add_completion=False)
    alone.command()(run)
    return typer.main.get_command(alone).make_context("radsweep run", list(arguments)).params


def quote(sweep: Sweep, store: Store, given: dict[str, Any], cost_of: CostOf) -> Quote:
    """Check the sweep against the store as `run` does, and price the cells that are missing.

    Args:
        sweep: what is to be run.
        store: as this machine sees it.
        given: what ``parse_run`` read.
        cost_of: counts or recalls what a recipe costs.

    Raises SpecError or typer's BadParameter for what `run` would refuse, and SpecError for a store
    that cannot be read from here.
    """
    from radsweep.pretrain.place import check_share

    options = run_options(sweep, given, cost_of)
    _require_readable(sweep, store)
    machine = read_machine(given["machine"], given["prices"])
    made = make_plan(sweep, store, machine, cost_of)
    wanted = [cell for cell in made.cells if fnmatch.fnmatch(cell.cell, options.only)]
    # What is blocked from here may be open there, and is paid for then.
    left = [cell for cell in wanted if cell.state != "done"]
    names = {cell.cell for cell in left}
    for cell in sweep.cells():
        if cell.name in names:
            check_share(cell, options.workers_for(cell))
    unseen = dict.fromkeys(cell.reason for cell in left if cell.reason)
    usd = sum(cell.usd for cell in left)
    return Quote(
        cells=len(wanted),
        missing=len(left),
        device_hours=sum(cell.device_hours for cell in left),
        usd=usd,
        most_usd=usd if given["max_usd"] is None else min(usd, given["max_usd"]),
        plan=made,
        remarks=(*made.warnings, *(f"as seen from here: {reason}" for reason in unseen)),
    )


def _require_readable(sweep: Sweep, store: Store) -> None:
    remedy = "--no-plan submits it unseen, and the job checks it there"
    try:
        if store.is_local and not store.exists(""):
            raise SpecError(f"the store {store.url} is no folder of this machine; {remedy}")
        check(sweep, store)
    except RadsweepError:
        raise
    except Exception as fault:
        # Rights, credentials, a network: each store's library fails in its own way.
        raise SpecError(
            f"the store {store.url} cannot be read from here ({type(fault).__name__}: {fault}); "
            f"{remedy}"
        ) from fault


def say_quote(quoted: Quote) -> None:
    """One line, and what is worth knowing before paying."""
    console.print(
        f"{quoted.missing} of {quoted.cells} cells are missing: {quoted.device_hours:,.2f} "
        f"device-hours, {quoted.usd:,.2f} USD on {quoted.plan.machine.name}",
        highlight=False,
        soft_wrap=True,
    )
    for remark in quoted.remarks:
        console.print(remark, style="yellow", highlight=False, markup=False, soft_wrap=True)


def keep_quoted(quoted: Quote, arguments: Sequence[str], sweep: Sweep, store: Store) -> None:
    """Keep the plan, by which money is told while it runs, unless one is kept of another machine.

    A store that can be read and not written from here keeps none, which is said.

    Args:
        quoted: what was said yes to.
        arguments: those for `run`: a machine or prices that they name count from now on.
        sweep: what is to be run.
        store: as this machine sees it.
    """
    from radsweep.sweep.tell import kept_price

    is_named = any(word.partition("=")[0] in ("--machine", "--prices") for word in arguments)
    if not is_named and kept_price(sweep, store) is not None:
        return
    try:
        keep_plan(quoted.plan, store)
    except Exception as fault:
        # Rights: each store's library has its own words.
        console.print(
            f"the plan was not kept, and the run will tell no money: {type(fault).__name__}: "
            f"{fault}",
            style="yellow",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def require_yes(usd: float, ask_above_usd: float) -> None:
    """Ask whoever sits at the terminal where it costs more than may be spent unasked.

    Raises SpecError where nobody sits there; typer's Abort at a no.
    """
    if usd <= ask_above_usd:
        return
    if not sys.stdin.isatty():
        raise SpecError(
            f"{usd:,.2f} USD are more than --ask-above-usd {ask_above_usd:g}, and there is no "
            "terminal to ask at; look at `radsweep plan`, then submit with --yes"
        )
    typer.confirm(f"spend {usd:,.2f} USD?", abort=True)
