"""A limit of money and time for a whole sweep, asked before each cell and at no other time.

A cell that has begun is finished: half a cell is money without a result. So what is kept is that
what was spent, what is under way and the next cell's planned cost stay below the limit together.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from radsweep.errors import SpecError
from radsweep.pretrain.place import Workers
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.plan import CellPlan, CostOf, Machine, make_plan


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a sweep's pretraining may take. Raises SpecError unless one of the two is given."""

    machine: Machine
    """Whose prices and speed are meant."""
    cost_of: CostOf
    """Counts or recalls what a recipe costs."""
    max_usd: float | None = None
    """For all cells of the sweep, those of earlier runs and of other drivers included."""
    max_hours: float | None = None
    """Of this run, by the clock."""

    def __post_init__(self) -> None:
        for name, value in (("max_usd", self.max_usd), ("max_hours", self.max_hours)):
            if value is not None and not value > 0:
                raise SpecError(f"{name} is {value:g}; give more than 0, or leave it out")
        if self.max_usd is None and self.max_hours is None:
            raise SpecError("limits without a limit: give max_usd or max_hours")


class Ledger:
    """Knows what the sweep has taken, and whether one more cell may start."""

    def __init__(
        self,
        sweep: Sweep,
        store: Store,
        limits: Limits,
        workers_for: Callable[[Cell], Workers],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._limits, self._workers_for = store, limits, workers_for
        planned = make_plan(sweep, store, limits.machine, limits.cost_of).cells
        self._plans: dict[str, CellPlan] = {plan.cell: plan for plan in planned}
        self._clock, self._began = clock, clock()
        self._started: set[str] = set()
        self._paid: dict[str, float] = {}
        self._lock = threading.Lock()

    def refuses(self, cell: Cell) -> str | None:
        """Why the cell may not start, or None: it is then counted as under way.

        Safe to call from several threads.
        """
        with self._lock:
            reason = self._over_usd(cell) or self._over_hours(cell)
            if reason is None:
                self._started.add(cell.name)
            return reason

    def committed_usd(self, but: str | None = None) -> float:
        """Spent by cells that ended, and planned for those under way, but for one cell's."""
        # Cell by cell only those that are under way: the store would be asked a million things
        # for a sweep of a thousand cells.
        begun = set(self._store.names("cells"))
        others = (plan for name, plan in self._plans.items() if name != but)
        return sum(self._usd(plan, plan.cell in begun) for plan in others)

    def _usd(self, plan: CellPlan, has_begun: bool) -> float:
        """Measured where the cell is done; else the planned cost of what it did or will do."""
        if plan.cell in self._paid:
            return self._paid[plan.cell]
        corner = CellStore(self._store, plan.cell)
        if has_begun and corner.is_done:
            record = corner.record()
            self._paid[plan.cell] = usd = self._limits.machine.usd(
                record.seconds * record.workers / 3600
            )
            return usd
        said: dict[str, Any] = corner.state() if has_begun else {"state": "waiting"}
        if said["state"] == "running":
            return plan.usd
        share: float = said.get("spent") or 0.0
        return plan.usd * (1.0 if plan.cell in self._started and "reason" not in said else share)

    def _over_usd(self, cell: Cell) -> str | None:
        most = self._limits.max_usd
        if most is None:
            return None
        committed, next_one = self.committed_usd(but=cell.name), self._plans[cell.name].usd
        if committed + next_one <= most:
            return None
        return (
            f"the sweep's limit is {most:,.2f} USD; {committed:,.2f} are spent or under way and "
            f"this cell is planned at {next_one:,.2f}: raise --max-usd and run again"
        )

    def _over_hours(self, cell: Cell) -> str | None:
        most = self._limits.max_hours
        if most is None:
            return None
        elapsed = (self._clock() - self._began) / 3600
        needed = self._plans[cell.name].device_hours / self._workers_for(cell).count
        if elapsed + needed <= most:
            return None
        return (
            f"the run's limit is {most:,.2f} h; {elapsed:,.2f} are over and this cell is planned "
            f"at {needed:,.2f}: raise --max-hours and run again"
        )
