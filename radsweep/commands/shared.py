"""What several commands share: the terminal, options with one meaning everywhere, the store."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from radsweep.errors import SpecError
from radsweep.store import Store

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


def say_json(value: object) -> None:
    """Write a value to standard output as JSON."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def open_store(url: str) -> Store:
    """The store of ``--store``. Raises SpecError where none is named."""
    if not url:
        raise SpecError("no store is named; give --store DIR (or a URL) or set RADSWEEP_STORE")
    return Store(url)
