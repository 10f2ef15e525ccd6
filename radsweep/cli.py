"""The door: which commands there are. What they do is in ``commands``, by what they are about.

Rooms are imported when somebody walks in, so that ``--help`` and ``plan`` answer at once and need
no GPU stack.
"""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from radsweep import __version__
from radsweep.commands import cluster, corpus, results, sweep
from radsweep.errors import RadsweepError

app = typer.Typer(
    help="How much are a hospital's own x-rays worth? "
    "Data-scaling sweeps of radiology foundation models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    sweep.demo,
    corpus.phantom,
    corpus.ingest,
    sweep.plan,
    sweep.run,
    sweep.status,
    results.scores,
    results.compare,
    results.laws,
    results.forecast,
    results.dash,
    results.export,
    cluster.doctor,
    cluster.submit,
    cluster.stop,
):
    app.command()(command)
of_corpus = typer.Typer(help="Look at a corpus that was ingested.", no_args_is_help=True)
of_corpus.command()(corpus.check)
app.add_typer(of_corpus, name="corpus")


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"radsweep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say it and leave."),
    ] = False,
) -> None:
    pass


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
