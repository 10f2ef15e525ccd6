"""How a sweep looks on a terminal while it runs: progress bars with an ETA."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from radsweep.specs import Cell, short_count
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.show import STATE_STYLES

POLL_SECONDS = 1.0


class TimeLeftColumn(ProgressColumn):
    """What is left at the mean rate so far: rich's own takes the last burst for the rate.

    Trials end in batches, and a bar may begin where an earlier run stopped.
    """

    max_refresh = 0.5

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[TaskID, float] = {}

    def render(self, task: Task) -> Text:
        """Hours, minutes and seconds; dashes before anything is done."""
        began = self._began.setdefault(task.id, task.completed)
        done, elapsed = task.completed - began, task.elapsed
        if task.finished:
            return Text("0:00:00", style="progress.remaining")
        if task.remaining is None or elapsed is None or done <= 0:
            return Text("-:--:--", style="progress.remaining")
        left = timedelta(seconds=int(elapsed * task.remaining / done))
        return Text(str(left), style="progress.remaining")


def progress_bars(console: Console) -> Progress:
    """The one look of all progress bars."""
    return Progress(
        TextColumn("{task.description:<27}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


class TerminalObserver:
    """Shows a run: a bar over all of pretraining, one for the grid, a line per cell that ended."""

    def __init__(self, store: Store, console: Console, bars: Progress) -> None:
        self._store, self._console, self._bars = store, console, bars
        self._begun: dict[str, Cell] = {}
        self._ended = 0
        self._training: TaskID | None = None
        self._grid: TaskID | None = None

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        """A bar whose unit is a percent of a cell, so that the ETA moves before the first ends."""
        if cells:
            self._training = self._bars.add_task(
                f"pretraining {len(cells)} cells", total=100 * len(cells), note=""
            )
        if done:
            self._console.print(f"[dim]{done} cells were done before[/dim]")

    def cell_began(self, cell: Cell) -> None:
        """The bar shows it once it says of itself that it runs."""
        self._begun[cell.name] = cell

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        """A line with the cell's figures, or with what went wrong."""
        self._begun.pop(cell.name, None)
        self._ended += 1
        style = STATE_STYLES.get(state, "white")
        note = reason or ""
        if state == "done" and not cell.is_baseline:
            record = CellStore(self._store, cell.name).record()
            loss = record.final_losses["loss"]
            note = f"{record.seconds:.0f} s, {record.epochs:,.1f} epochs, loss {loss:.3f}"
            note += f", {record.workers:g} workers" if record.workers > 1 else ""
        self._console.print(
            f"  [{style}]{state:<9}[/{style}] {cell.name:<32} {escape(note)}",
            highlight=False,
            soft_wrap=True,
        )
        self.refresh()

    def refresh(self) -> None:
        """Move the training bar to what the running cells say of themselves."""
        if self._training is None:
            return
        spent = 0.0
        running = []
        for name, cell in list(self._begun.items()):
            said = CellStore(self._store, name).state()
            if said["state"] == "running":
                spent += said.get("spent") or 0.0
                running.append(f"{cell.recipe.paradigm} {short_count(cell.subset.images)}")
        self._bars.update(
            self._training, completed=100 * self._ended + 100 * spent, note=", ".join(running)
        )

    def grid(self, done: int, total: int) -> None:
        """The evaluation's bar."""
        if self._grid is None:
            self._grid = self._bars.add_task(
                "evaluating (encoder x task)", total=total, completed=done, note=""
            )
        self._bars.update(self._grid, completed=done, total=total)


@contextmanager
def terminal_observer(store: Store, console: Console) -> Iterator[TerminalObserver]:
    """An observer whose bars move by themselves while the block runs."""
    with progress_bars(console) as bars:
        observer = TerminalObserver(store, console, bars)
        stop = threading.Event()

        def poll() -> None:
            while not stop.wait(POLL_SECONDS):
                observer.refresh()

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield observer
        finally:
            stop.set()
            thread.join()
