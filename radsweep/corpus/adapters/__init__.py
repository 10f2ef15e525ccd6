"""Published layouts of public sets, one file each, found by name as other parts are.

A module ends in ``LAYOUT = <class>`` and has a ``VERSION``, which is raised when its tables change.
``mimic_cxr_jpg`` is this folder's; a dotted name such as ``mypackage.chestdr`` is that module.
"""

import importlib
import pkgutil

from radsweep.corpus.adapters.base import Layout
from radsweep.errors import SpecError
from radsweep.parts import did_you_mean

NOT_LAYOUTS = frozenset({"base", "vocabulary"})


def names() -> list[str]:
    """The layouts that come with radsweep."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if module.name not in NOT_LAYOUTS
    )


def check(name: str) -> None:
    """Raise SpecError, with the nearest known name, unless there is such a layout."""
    find(name)


def find(name: str) -> type[Layout]:
    """The class of a layout. Raises SpecError, with the nearest known name, if there is none."""
    part = vars(_module(name)).get("LAYOUT")
    if not isinstance(part, type) or not issubclass(part, Layout):
        raise SpecError(f"{name} has no LAYOUT = <class of Layout>; add it at its end")
    return part


def version(name: str) -> int:
    """The ``VERSION`` of a layout's module. Raises SpecError if it has none."""
    given = vars(_module(name)).get("VERSION")
    if not isinstance(given, int):
        raise SpecError(f"layout {name} has no line VERSION = <integer>; it is part of a corpus")
    return given


def _module(name: str) -> object:
    if "." not in name and name not in names():
        raise SpecError(f"no layout named {name!r}; {did_you_mean(name, names())}")
    try:
        return importlib.import_module(name if "." in name else f"{__name__}.{name}")
    except ModuleNotFoundError:
        raise SpecError(f"no module {name!r} for a layout; is its package installed?") from None
