"""Everything that radsweep raises on purpose.

Each message names the fact, the values and the remedy. Messages are built where the fault is seen
and are the exception's only argument, so that an exception survives pickling between machines
unchanged. None of them may hold a patient's identifier.
"""


class RadsweepError(Exception):
    """Base of all errors raised on purpose: the command line prints a message, not a traceback."""


class SpecError(RadsweepError):
    """The user asked for something impossible; found before compute is spent."""


class StoreError(RadsweepError):
    """The store cannot be read or written, or what lies in it disagrees with its own name."""


class AbsentError(StoreError):
    """A file is not in the store; said only where the store answered."""


class StreamError(RadsweepError):
    """The pixels that a plan names did not arrive as planned: missing, damaged, out of order."""


class CellError(RadsweepError):
    """A cell ended without an encoder that may be scored. ``state`` is what it is recorded as."""

    state = "failed"


class BudgetError(CellError):
    """A cell spent more or less than its budget, so it may not enter the results."""


class DivergedError(CellError):
    """The loss is not finite."""

    state = "diverged"


class CollapsedError(CellError):
    """Every image gives (nearly) the same features."""

    state = "collapsed"


class PreemptedError(RadsweepError):
    """The machine is about to be taken away; a checkpoint was kept, and the cell can go on."""


class LeaseLostError(RadsweepError):
    """Another driver has taken this cell over, so this one must stop writing to it."""
