"""Find a part (paradigm, task, probe, logger) by the name of its module.

``clip`` is ``radsweep.paradigms.clip``; a dotted name such as ``mypackage.mae`` is that module,
wherever it is installed. A part is therefore one file and no edit elsewhere. What a plan must know
about a part (its ``VERSION``, the names of its ``Settings``, its ``columns``) is read from the
source text without running it, so that a plan needs neither torch nor Ray.
"""

import ast
import difflib
import importlib
import importlib.util
import pkgutil
from functools import cache
from pathlib import Path

from radsweep.errors import SpecError

OBJECT_NAMES = {
    "paradigms": "PARADIGM",
    "tasks": "TASK",
    "probes": "PROBE",
    "loggers": "LOGGER",
}
"""Kind of part -> the name that its module ends in, as in ``PARADIGM = Clip``."""

NOT_PARTS = frozenset({"base"})


def did_you_mean(name: str, known: list[str]) -> str:
    """The tail of an error message: a close match if there is one, and all that is known."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"


@cache
def names(kind: str) -> list[str]:
    """The parts of one kind that come with radsweep: modules that end in that kind's object."""
    folder = Path(__file__).parent / kind
    ending = f"\n{OBJECT_NAMES[kind]} = "
    return sorted(
        module.name
        for module in pkgutil.iter_modules([str(folder)])
        if module.name not in NOT_PARTS and ending in (folder / f"{module.name}.py").read_text()
    )


def find(kind: str, name: str) -> type:
    """The class of a part, imported. Raises SpecError as ``check`` does."""
    check(kind, name)
    module = importlib.import_module(_module_name(kind, name))
    part = vars(module).get(OBJECT_NAMES[kind])
    if not isinstance(part, type):
        raise SpecError(
            f"{module.__name__} has no {OBJECT_NAMES[kind]} = <class>; add it at its end"
        )
    return part


def check(kind: str, name: str) -> None:
    """Raise SpecError, with the nearest known name, unless the part exists; imports nothing."""
    _source(kind, name)


def version(kind: str, name: str) -> int:
    """The part's ``VERSION``, an integer that is raised when its numbers change."""
    for node in _source(kind, name).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id == "VERSION":
            value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
            if isinstance(value, int):
                return value
    raise SpecError(f"{kind}/{name} has no line VERSION = <integer>; it is part of every key")


def setting_names(kind: str, name: str) -> list[str]:
    """Field names of the part's ``Settings`` dataclass, inherited ones first; none without it."""
    package = _module_name(kind, name).rpartition(".")[0]
    return _fields(_source(kind, name), "Settings", package)


def _fields(module: ast.Module, name: str, package: str) -> list[str]:
    """Of a dataclass that the module, of that package, defines or else imports by name.

    Raises SpecError where a base class cannot be read: its settings would be refused one by one.
    """
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            inherited: list[str] = []
            for base in node.bases:
                if not isinstance(base, ast.Name) or base.id == name:
                    raise SpecError(
                        f"class {name} of {package} has the base {ast.unparse(base)}: import it by "
                        "a name of its own, so that a plan can read its fields"
                    )
                inherited += _fields(module, base.id, package)
            own = [
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            ]
            return list(dict.fromkeys([*inherited, *own]))
    for node in module.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    path = importlib.util.resolve_name(
                        "." * node.level + (node.module or ""), package
                    )
                    imported = _parsed(path)
                    if imported is not None:
                        return _fields(imported, alias.name, path.rpartition(".")[0])
    return []


def columns(kind: str, name: str) -> tuple[str, ...]:
    """The ``columns`` that the part's class declares: what it reads of a corpus beside pixels.

    Raises SpecError where the class does not spell them out as a tuple of strings in its own body.
    """
    for node in _class_body(kind, name):
        named = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            named = [node.target]
        if not any(isinstance(target, ast.Name) and target.id == "columns" for target in named):
            continue
        try:
            value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
        except ValueError:
            break
        if isinstance(value, tuple) and all(isinstance(column, str) for column in value):
            return value
    raise SpecError(
        f"{kind}/{name}: its class has no line columns = (<strings>); a plan reads there what the "
        "corpus must have, so write the tuple out, if only as ()"
    )


def _class_body(kind: str, name: str) -> list[ast.stmt]:
    """Statements of the class that the module ends in; empty if it is made elsewhere."""
    body = _source(kind, name).body
    ends_in = {
        node.value.id
        for node in body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Name)
        and any(isinstance(t, ast.Name) and t.id == OBJECT_NAMES[kind] for t in node.targets)
    }
    classes = [n for n in body if isinstance(n, ast.ClassDef) and n.name in ends_in]
    return classes[0].body if classes else []


def _module_name(kind: str, name: str) -> str:
    return name if "." in name else f"radsweep.{kind}.{name}"


@cache
def _source(kind: str, name: str) -> ast.Module:
    if "." not in name and name not in names(kind):
        raise SpecError(
            f"no {kind.removesuffix('s')} named {name!r}; {did_you_mean(name, names(kind))}"
        )
    found = _parsed(_module_name(kind, name))
    if found is None:
        raise SpecError(
            f"no module {name!r} for a {kind.removesuffix('s')}; is its package installed?"
        )
    return found


@cache
def _parsed(module: str) -> ast.Module | None:
    """The source of an installed module, not run; None where there is none."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    return ast.parse(Path(found.origin).read_text())
