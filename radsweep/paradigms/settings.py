"""From a recipe's settings to a paradigm's own dataclass."""

from dataclasses import fields
from typing import TypeVar

from radsweep.errors import SpecError
from radsweep.specs import Recipe

S = TypeVar("S")


def read_settings(kind: type[S], recipe: Recipe) -> S:
    """``kind`` with its defaults replaced by what the recipe sets.

    A number may be written as an integer where the default is a float, and None where the default
    is None. Raises SpecError for a value of another type than the default's.
    """
    defaults = {field.name: field.default for field in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in recipe.settings:
        default = defaults[name]
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if default is not None and type(value) is not type(default):
            raise SpecError(
                f"setting {name} of {recipe.paradigm} is {value!r}; it must be a "
                f"{type(default).__name__}, like its default {default!r}"
            )
        values[name] = value
    return kind(**values)


def require_shares(settings: object, *names: str) -> None:
    """Raise SpecError unless these settings lie in [0, 1]."""
    for name in names:
        value = getattr(settings, name)
        if not 0 <= value <= 1:
            raise SpecError(f"{name} is {value}; it is a share in [0, 1]")
