"""The whole demo in miniature, from films to answers: one command, run once, looked at often."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_cells, read_scores
from tests.sweep.commands import Ran, python, radsweep
from tests.sweep.identifiers import Searcher, contents

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
