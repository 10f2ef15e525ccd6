"""The whole demo in miniature, from films to answers: one command, run once, looked at often."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_cells, read_scores
from tests.sweep.commands import Ran, environment, python, radsweep
from tests.sweep.identifiers import Searcher, contents
from tests.sweep.s3 import MISSING, is_installed, s3_server
from tests.sweep.test_submit import free_ports

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

QUICK_CPU_SECONDS = 15
LOADED_FROM_ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(?:\w+:)?//"
)


@dataclass(frozen=True)
class Miniature:
    folder: Path
    """Where the command was called."""
    ran: Ran

    @property
    def made(self) -> Path:
        return self.folder / "demo"

    @property
    def store(self) -> Store:
        return Store(str(self.made / "store"))

    @property
    def sweep(self) -> Sweep:
        return load_sweep(str(self.made / "sweep.py"))


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    folder = tmp_path_factory.mktemp("miniature")
    ran = radsweep("demo", "--miniature", "demo", folder=folder)
    assert ran.code == 0, ran.output[-5000:] + ran.errors[-5000:]
    return Miniature(folder, ran)


def test_every_cell_is_done_and_one_was_trained_by_two_workers(miniature: Miniature) -> None:
    cells = read_cells(miniature.sweep, miniature.store)
    assert cells.height == 9
    assert set(cells["state"]) == {"done"}
    assert all(CellStore(miniature.store, name).is_done for name in cells["cell"])
    assert sorted(cells["workers"]) == [1] * 8 + [2]


def test_every_encoder_has_a_headline_score_with_an_interval_for_every_task(
    miniature: Miniature,
) -> None:
    assert miniature.sweep.protocol is not None
    scores = read_scores(miniature.sweep, miniature.store).filter(pl.col("headline"))
    assert set(scores.select("cell", "task").rows()) == {
        (cell.name, task)
        for cell in miniature.sweep.cells()
        for task in miniature.sweep.protocol.tasks
    }
    # The means over labels of tiny probes may be 0, but never nothing.
    assert scores.select("value", "ci_low", "ci_high").null_count().sum_horizontal().item() == 0
    assert (scores["ci_low"] <= scores["ci_high"]).all()


def test_there_is_a_law_for_every_task_and_paradigm(miniature: Miniature) -> None:
    fits = miniature.store.read_table(f"sweeps/{miniature.sweep.name}.fits.parquet")
    assert fits.select("task", "paradigm").n_unique() == 12 == fits.height


def test_the_page_needs_no_other_file_and_the_summary_names_it(miniature: Miniature) -> None:
    page = miniature.made / "dashboard.html"
    text = page.read_text()
    assert "<html" in text and not LOADED_FROM_ELSEWHERE.search(text)
    assert [found.name for found in miniature.made.glob("*.html")] == [page.name]
    assert f"dashboard: {page.as_uri()}" in miniature.ran.output
    assert not miniature.ran.errors, "a user's terminal is not the place for Ray's warnings"


def test_a_second_run_does_nothing_and_starts_no_ray(miniature: Miniature, tmp_path: Path) -> None:
    def stamps() -> dict[Path, int]:
        files = (path for path in miniature.made.rglob("*") if path.is_file())
        return {path: path.stat().st_mtime_ns for path in files if "__pycache__" not in path.parts}

    before = stamps()
    ran = radsweep(
        *("run", miniature.made / "sweep.py", "--store", miniature.store.url),
        folder=tmp_path,
        RAY_TMPDIR=str(tmp_path / "ray"),
    )
    assert ran.code == 0, ran.errors
    assert "0 cells trained" in ran.output and "0 failures" in ran.output
    assert not (tmp_path / "ray").exists()
    assert ran.cpu_seconds < QUICK_CPU_SECONDS
    assert stamps() == before


def test_of_a_new_scale_only_the_new_cells_are_missing_and_costs_are_counted_once(
    miniature: Miniature, tmp_path: Path
) -> None:
    more = tmp_path / "more.py"
    more.write_text(
        "import dataclasses\n"
        "from radsweep.sweep.load import load_sweep\n"
        f"SWEEP = dataclasses.replace(load_sweep({str(miniature.made / 'sweep.py')!r}),"
        " images=(16, 32, 48))\n"
    )
    arguments = ("plan", str(more), "--store", miniature.store.url, "--json")
    ran = radsweep(*arguments, folder=tmp_path)
    assert ran.code == 0, ran.errors
    cells = json.loads(ran.output)["cells"]
    assert len(cells) == 12
    assert {(cell["paradigm"], cell["images"]) for cell in cells if cell["state"] == "missing"} == {
        ("clip", 32),
        ("unicl", 32),
        ("dinov2", 32),
    }
    assert all(cell["state"] in ("done", "missing") for cell in cells)

    # What was counted is kept, so that the same question needs no GPU stack any more.
    ask = (
        "import sys; from radsweep.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    )
    again = python("-c", ask, *arguments, folder=tmp_path)
    assert again.code == 0, again.errors
    assert json.loads(again.output) == json.loads(ran.output)


def test_no_planted_identifier_left_the_films(miniature: Miniature) -> None:
    films = miniature.made / "riverside"
    planted = json.loads((films / "planted_identifiers.json").read_text())
    searcher = Searcher(planted)
    # The search can find: every accession number lies in the hospital's own table.
    at_home = searcher.found((films / "reports.csv").read_bytes())
    assert any(text.startswith("acc") for text in at_home) and len(at_home) > 100

    looked_at = [path for path in Path(miniature.store.url).rglob("*") if path.is_file()]
    kinds = {path.suffix for path in looked_at}
    assert len(looked_at) > 50 and {".parquet", ".json", ".safetensors"} <= kinds
    beside = [miniature.made / name for name in ("dashboard.html", "sweep.py")]
    for path in [*looked_at, *beside]:
        assert not searcher.found(str(path).encode()), "in the name of a file"
        for data in contents(path):
            assert not searcher.found(data), path.name
    said = miniature.ran.output + miniature.ran.errors
    assert not searcher.found(said.encode())


@pytest.mark.skipif(not is_installed(), reason=MISSING)
# aiobotocore's own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_in_a_bucket_killed_and_gone_on_with_by_two_drivers_it_scores_what_it_does_on_disk(
    miniature: Miniature, tmp_path: Path
) -> None:
    made, films = tmp_path / "demo", "riverside"
    shutil.copytree(miniature.made / films, made / films)
    cells = miniature.sweep.cells()
    (port,) = free_ports(1)
    with s3_server(port):
        store = Store("s3://hospital/demo")
        store._fs.mkdir("hospital")
        demo = ("demo", str(made), "--miniature", "--store", store.url)

        def start(*arguments: str) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-m", "radsweep.cli", *arguments],
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

        killed = start(*demo)
        while not any(CellStore(store, cell.name).is_done for cell in cells if cell.subset.images):
            assert killed.poll() is None, killed.communicate()[0]
            time.sleep(0.3)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        left = [cell for cell in cells if not CellStore(store, cell.name).is_done]
        assert left

        # The demo itself, and one who drives a part of its sweep besides.
        again = start(*demo)
        beside = start("run", str(made / "sweep.py"), "--store", store.url, "--only", "clip-*")
        for driver in (beside, again):
            said = driver.communicate()[0]
            assert driver.returncode == 0, said
        on_disk, in_bucket = (
            read_scores(miniature.sweep, where).drop("finished_at")
            for where in (miniature.store, store)
        )
        order = [name for name in on_disk.columns if on_disk[name].dtype != pl.List]
        assert on_disk.height and on_disk.sort(order).equals(in_bucket.sort(order))
        # A cell that was done as the driver was killed may have kept a lease that nobody asks for.
        assert not [
            name
            for cell in left
            for name in store.names(f"cells/{cell.name}")
            if name == "lease.json" or name.endswith(".partial")
        ]
    assert (made / "dashboard.html").exists() and not (made / "store").exists()
