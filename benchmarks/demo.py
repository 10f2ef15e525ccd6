"""Where the demo's time and memory go: wall seconds and peak memory of each phase.

``python benchmarks/demo.py [DIR] [--miniature] [--seed N]`` runs ``radsweep demo`` as a user
would, watches its process tree from outside, and prints a table. Memory is the sum of proportional
set sizes (shared pages counted once), sampled every four seconds (to look takes a while itself), so
that a short peak may be missed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

HEADINGS = {
    "1 of 4": "phantom",
    "2 of 4": "ingest (Ray starts)",
    "3 of 4": "pretraining",
    "4 of 4": "answers and page",
}
EVALUATION = "evaluation"
SAMPLE_SECONDS = 4.0


class Watch:
    """Seconds and peak bytes by phase."""

    def __init__(self, process: subprocess.Popen[str], store: Path) -> None:
        self.phase = "start-up"
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}
        self._process, self._store, self._since = process, store, time.monotonic()

    def enter(self, phase: str) -> None:
        """Close the current phase and open another."""
        now = time.monotonic()
        self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self._since
        self.phase, self._since = phase, now

    def sample(self) -> None:
        """Take samples until the process ends; features appear as evaluation begins."""
        while self._process.poll() is None:
            if self.phase == "pretraining" and (self._store / "features").is_dir():
                self.enter(EVALUATION)
            self.peaks[self.phase] = max(
                self.peaks.get(self.phase, 0), tree_bytes(self._process.pid)
            )
            time.sleep(SAMPLE_SECONDS)


def tree_bytes(pid: int) -> int:
    """Memory of a process, all below it, and the Ray processes of its session."""
    total = 0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def main() -> None:
    """Run, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    directory: Path = given.directory or Path(tempfile.mkdtemp()) / "demo"
    command = [sys.executable, "-m", "radsweep.cli", "demo", str(directory), "--seed"]
    command += [str(given.seed)]
    process = subprocess.Popen(
        command + ["--miniature"] * given.miniature,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "160"},
    )
    watch = Watch(process, directory / "store")
    sampler = threading.Thread(target=watch.sample, daemon=True)
    sampler.start()
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(line)
        for heading, phase in HEADINGS.items():
            if heading in line:
                watch.enter(phase)
    code = process.wait()
    sampler.join()
    watch.enter("end")
    table = Table(title=f"radsweep demo on {os.cpu_count()} cores, exit code {code}")
    for name in ("phase", "seconds", "peak GiB"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for phase, seconds in watch.seconds.items():
        table.add_row(phase, f"{seconds:.0f}", f"{watch.peaks.get(phase, 0) / 2**30:.1f}")
    table.add_section()
    table.add_row(
        "all", f"{sum(watch.seconds.values()):.0f}", f"{max(watch.peaks.values()) / 2**30:.1f}"
    )
    Console(width=100).print(table)
    sys.exit(code)


if __name__ == "__main__":
    main()
