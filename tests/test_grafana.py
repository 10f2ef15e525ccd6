"""Grafana's panels ask for metrics that Ray and radsweep do export."""

import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
import ray
from ray.dashboard.modules.metrics import dashboards as ray_dashboards

from radsweep.pretrain.metrics import ENDED, SPENT, TOLD, CellGauges, count_end, tell_spent
from radsweep.specs import Budget, Cell, Subset
from tests.paradigms.tiny import recipe

FILE = Path(__file__).parent.parent / "dashboards" / "grafana.json"
PANELS = json.loads(FILE.read_text())["panels"]
METRIC = re.compile(r"\b(?:ray|autoscaler)_\w+")
OURS = {f"ray_{name}" for name, _ in (*TOLD.values(), SPENT)} | {f"ray_{ENDED[0]}_total"}
CELL = Cell(
    recipe=recipe("clip"),
    subset=Subset(corpus="toy@1", images=4),
    budget=Budget(steps=4, batch_size=8),
)


def asked(panel: dict) -> set[str]:  # type: ignore[type-arg]
    return {name for target in panel["targets"] for name in METRIC.findall(target["expr"])}


def test_the_panels_come_with_the_package() -> None:
    packaged = resources.files("radsweep.dashboards").joinpath("grafana.json")
    assert packaged.read_text() == FILE.read_text()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_to_do_and_asks_for_known_metrics(panel: dict) -> None:  # type: ignore[type-arg]
    folder = Path(ray_dashboards.__file__).parent
    rays_own = set(METRIC.findall("".join(file.read_text() for file in folder.glob("*.py"))))
    assert panel["description"].endswith(".") and asked(panel)
    unknown = asked(panel) - rays_own - OURS
    assert not unknown
    for target in panel["targets"]:
        assert target["expr"].count("(") == target["expr"].count(")")
        assert target["expr"].count('SessionName=~"$session"') == len(
            METRIC.findall(target["expr"])
        )


def test_every_figure_of_ours_has_a_panel() -> None:
    assert {name for panel in PANELS for name in asked(panel)} >= OURS


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


@pytest.fixture
def exported(no_tokens: None) -> Iterator[str]:
    """The address at which a Ray of our own exports its metrics."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.shutdown()
    ray.init(num_cpus=1, include_dashboard=False, _metrics_export_port=port)
    yield f"http://127.0.0.1:{port}/metrics"
    ray.shutdown()


@pytest.mark.cluster
def test_a_cells_figures_reach_prometheus_under_the_names_that_the_panels_ask_for(
    exported: str,
) -> None:
    @ray.remote
    class Trainer:
        def train(self) -> None:
            row = {"spent": 0.5, "loss": 1.25, "images_per_second": 90.0, "data_wait": 0.02}
            self.gauges = CellGauges(CELL)
            self.gauges.tell({**row, "stream_cpus": 7.0, "mfu": 0.4})

    trainer = Trainer.remote()  # type: ignore[attr-defined]
    ray.get(trainer.train.remote())
    count_end(CELL, "diverged")
    tell_spent("toy", 12.5)
    tell_spent("toy", 14.75)
    found, until = "", time.monotonic() + 60
    while not all(f"\n{name}{{" in found for name in OURS) and time.monotonic() < until:
        time.sleep(1)
        found = urllib.request.urlopen(exported).read().decode()
    lines = {line.split("{")[0]: line for line in found.splitlines() if not line.startswith("#")}
    assert lines.keys() >= OURS
    assert f'cell="{CELL.name}"' in lines["ray_radsweep_cell_loss"]
    assert lines["ray_radsweep_cell_loss"].endswith(" 1.25")
    assert 'state="diverged"' in lines["ray_radsweep_cells_ended_total"]
    assert f'cell="{CELL.name}"' in lines["ray_radsweep_cells_ended_total"]
    assert 'sweep="toy"' in lines["ray_radsweep_sweep_usd"]
    assert lines["ray_radsweep_sweep_usd"].endswith(" 14.75")
    assert lines["ray_radsweep_cell_stream_cpus"].endswith(" 7.0")
    assert 'SessionName="' in lines["ray_radsweep_cell_spent"]
