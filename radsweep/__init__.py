"""How much are a hospital's own x-rays worth? Data-scaling sweeps of radiology foundation models.

Start at ``radsweep.specs`` (what a sweep is), then ``radsweep.sweep.run`` (what happens to it).
"""

from radsweep.specs import Budget, Cell, Hypothesis, Protocol, Recipe, Subset, Sweep, settings

__all__ = [
    "Budget",
    "Cell",
    "Hypothesis",
    "Protocol",
    "Recipe",
    "Subset",
    "Sweep",
    "__version__",
    "settings",
]

__version__ = "0.1.0"
