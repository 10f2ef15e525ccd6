"""From what a person types (a file or a module) to the ``SWEEP`` in it."""

import importlib
import importlib.util
import sys
from pathlib import Path

from radsweep.errors import SpecError
from radsweep.keys import seed_of
from radsweep.specs import Sweep


def load_sweep(named: str) -> Sweep:
    """The ``SWEEP`` of ``jobs/x.py``, of a module such as ``jobs.x``, or of one that comes along.

    Raises SpecError where there is no such file or module, or no ``SWEEP`` in it. An exception
    inside the file is passed on, since its traceback is what its author needs.
    """
    path = Path(named)
    if path.suffix == ".py":
        if not path.is_file():
            raise SpecError(
                f"there is no sweep file {named}; a sweep is a Python file with SWEEP = Sweep(...)"
            )
        name = f"radsweep_sweep_{seed_of(str(path.resolve())):x}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(module_name(named))
    sweep = vars(module).get("SWEEP")
    if not isinstance(sweep, Sweep):
        raise SpecError(f"{named} has no SWEEP = Sweep(...)")
    return sweep


def module_name(named: str) -> str:
    """The module that ``named`` means. Raises SpecError where there is none."""
    for candidate in (named, f"radsweep.jobs.{named}"):
        try:
            if importlib.util.find_spec(candidate) is not None:
                return candidate
        except ModuleNotFoundError:
            continue
    raise SpecError(
        f"there is no sweep {named!r}: give a file such as jobs/demo.py, or a module such as "
        "radsweep.jobs.demo"
    )
