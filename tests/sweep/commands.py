"""The command line as a user meets it: another process, in another folder."""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    output: str
    errors: str
    cpu_seconds: float
    """Of the process and its children: a busy machine does not change it."""


def environment(**more: str) -> dict[str, str]:
    # Workers of Ray look up parts of the tests by module name.
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | more


def python(*arguments: str, folder: Path, **env: str) -> Ran:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(code=ran.returncode, output=ran.stdout, errors=ran.stderr, cpu_seconds=spent)


def radsweep(*arguments: object, folder: Path, **env: str) -> Ran:
    return python("-m", "radsweep.cli", *(str(one) for one in arguments), folder=folder, **env)
