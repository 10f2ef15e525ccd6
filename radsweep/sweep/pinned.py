"""This machine's packages as a Ray runtime environment: nodes install the same versions."""

import importlib.metadata
import re
from collections.abc import Iterable
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from radsweep.errors import SpecError

OPTIONS: dict[str, dict[str, list[str]]] = {
    "pip": {"pip_install_options": ["--disable-pip-version-check"]},
    "uv": {"uv_pip_install_options": []},
}
"""By installer. Both keep what they downloaded, which Ray's own options would not."""

STORE_EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}
"""Protocol of a store's URL -> the extra of radsweep that reads it."""

NOT_OURS = "ray"
"""The cluster's own stays, with what it alone needs: Ray refuses an environment with another."""

OF_A_PLATFORM = re.compile(r"\b(sys_platform|platform_\w+|os_name)\b")
"""In a requirement's marker. What is asked for on some systems alone, as CUDA's libraries are, is
left to the installer: the nodes may be another system than this machine."""


def environment(installer: str, store_url: str, extras: Iterable[str] = ()) -> dict[str, Any]:
    """The part of a ``runtime_env`` that installs what radsweep needs, as it is installed here.

    A node does that once for the same list, which is what Ray names the environment by.

    Args:
        installer: ``pip``, which leaves alone what a node's image has in the right version, or
            ``uv``, which is installed first and installs everything beside the image's.
        store_url: its protocol says which extra is needed.
        extras: further ones of radsweep's, such as ``mlflow``.

    Raises SpecError for another installer, and as ``pinned`` does.
    """
    if installer not in OPTIONS:
        raise SpecError(f"--install is {installer!r}; give {' or '.join(OPTIONS)}")
    protocol = store_url.partition("://")[0]
    packages = pinned({*extras, STORE_EXTRAS.get(protocol, "")})
    return {installer: {"packages": list(packages), **OPTIONS[installer]}}


def pinned(extras: Iterable[str] = ()) -> tuple[str, ...]:
    """``name==version`` of everything that radsweep needs, as installed here, in order of names.

    A local version such as torch's ``+cu128`` is left out: any build of that version satisfies it,
    a node's own first of all.

    Args:
        extras: of radsweep's.

    Raises SpecError where a package is not installed here.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    wanted = [("radsweep", extra) for extra in {"", *extras}]
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as fault:
            raise SpecError(
                f"{name} is not installed here, so that its version cannot be pinned; pip install "
                f"it here, or leave --install out and keep it in the nodes' image"
            ) from fault
        if name != "radsweep":
            found[name] = Version(installed.version).public
        for text in installed.requires or []:
            need = Requirement(text)
            if _is_asked_for(need, extra):
                wanted += [(canonicalize_name(need.name), one) for one in ("", *need.extras)]
    return tuple(f"{name}=={version}" for name, version in sorted(found.items()))


def _is_asked_for(need: Requirement, extra: str) -> bool:
    if canonicalize_name(need.name) == NOT_OURS:
        return False
    if need.marker is None:
        return not extra
    if OF_A_PLATFORM.search(str(need.marker)):
        return False
    # With an extra, what is asked for without it was met already.
    return need.marker.evaluate({"extra": extra})
