"""What several commands share: the terminal, options with one meaning everywhere, the store."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console

from radsweep.errors import SpecError
from radsweep.specs import Recipe
from radsweep.store import Store

if TYPE_CHECKING:
    from radsweep.sweep.plan import CostOf

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


Number = TypeVar("Number", int, float)


def read_width(text: str) -> tuple[int, int | None]:
    """``4`` or ``2:8`` of ``--workers``: the least, and the most where they may differ."""
    return _read_range(text, int, "processes; give 4, or 2:8")


def read_stream_cpus(text: str) -> tuple[float, float | None]:
    """``6`` or ``2:16`` of ``--stream-cpus``: the least, and the most where they may differ."""
    return _read_range(text, float, "CPUs; give 6, or 2:16")


def _read_range(text: str, number: type[Number], what: str) -> tuple[Number, Number | None]:
    least, is_range, most = text.partition(":")
    try:
        found = number(least), number(most) if is_range else None
    except ValueError:
        found = number(0), None
    if not 0 < found[0] <= (found[0] if found[1] is None else found[1]) < math.inf:
        raise typer.BadParameter(f"{text!r} is no number of {what}")
    return found


StreamCpusOption = Annotated[
    str,
    typer.Option(
        help="CPUs for the stream of each process; 2:16 for 2, and as many as it needs to keep up"
    ),
]
WorkersOption = Annotated[
    str,
    typer.Option(help="Training processes per cell; 2:8 for as many as there is room for"),
]
PatientKeyOption = Annotated[
    Path | None,
    typer.Option(help="File with the secret key of patient hashes; or set RADSWEEP_PATIENT_KEY"),
]


def say_json(value: object) -> None:
    """Write a value to standard output as JSON."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def open_store(url: str) -> Store:
    """The store of ``--store``. Raises SpecError where none is named."""
    if not url:
        raise SpecError("no store is named; give --store DIR (or a URL) or set RADSWEEP_STORE")
    return Store(url)


def recalled_cost(store: Store, *, say_so: bool = True) -> "CostOf":
    """What a recipe costs: recalled from the store, or counted now, which takes its time."""
    from radsweep.store.cost import Cost, kept_cost

    def cost_of(recipe: Recipe) -> Cost:
        kept = kept_cost(recipe, store)
        if kept is not None:
            return kept
        # Only a recipe that this store has never seen needs the GPU stack.
        from radsweep.sweep.cost import planned_cost

        if say_so:
            console.print(
                f"counting the FLOPs of {recipe.paradigm} ({recipe.encoder}), once ...", style="dim"
            )
        return planned_cost(recipe, store)

    return cost_of
