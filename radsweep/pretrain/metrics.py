"""What a cluster's operator watches, through Ray's own Prometheus exporter.

Ray puts ``ray_`` before every name. Figures of record go to the store; these are for the hour in
which something is wrong, and ``dashboards/grafana.json`` draws them.
"""

from ray.util.metrics import Counter, Gauge

from radsweep.pretrain.loop import Row
from radsweep.specs import Cell

TAGS = ("cell", "paradigm", "images")
TOLD = {
    "spent": ("radsweep_cell_spent", "Share of the cell's budget that is spent"),
    "loss": ("radsweep_cell_loss", "Training loss of the global batch"),
    "images_per_second": ("radsweep_cell_images_per_second", "Over all devices of the cell"),
    "data_wait": ("radsweep_cell_data_wait", "Share of the time that waits for data"),
    "stream_cpus": (
        "radsweep_cell_stream_cpus",
        "CPUs that the stream may hold of the process that waits longest",
    ),
    "mfu": ("radsweep_cell_mfu", "Model FLOPs utilisation, where the device's peak is known"),
}
"""Figure of a log row -> name and description of its gauge."""

ENDED = ("radsweep_cells_ended", "Cells that ended, by how: done, failed, diverged, ...")

SPENT = (
    "radsweep_sweep_usd",
    "Price of the sweep's finished cells, by the kept plan; a shared GPU counts whole for each",
)


def _tags(cell: Cell) -> dict[str, str]:
    images = str(cell.subset.images)
    return {"cell": cell.name, "paradigm": cell.recipe.paradigm, "images": images}


class CellGauges:
    """The gauges of one cell, in the process that trains it (its first rank)."""

    def __init__(self, cell: Cell) -> None:
        """Needs a process that Ray started, or one that is connected to a cluster."""
        self._gauges = {
            figure: Gauge(name, description=words, tag_keys=TAGS)
            for figure, (name, words) in TOLD.items()
        }
        for gauge in self._gauges.values():
            gauge.set_default_tags(_tags(cell))

    def tell(self, row: Row) -> None:
        """Set each gauge to its figure of a log row; one that is not known is not set."""
        for figure, gauge in self._gauges.items():
            value = row[figure]
            if value is not None:
                gauge.set(value)


def count_end(cell: Cell, state: str) -> None:
    """Count one cell's end, in the process that drives it."""
    name, words = ENDED
    counter = Counter(name, description=words, tag_keys=("cell", "paradigm", "state"))
    counter.inc(tags={"cell": cell.name, "paradigm": cell.recipe.paradigm, "state": state})


def tell_spent(sweep: str, usd: float) -> None:
    """Set what a sweep's finished cells took, in the process that drives it."""
    name, words = SPENT
    Gauge(name, description=words, tag_keys=("sweep",)).set(usd, tags={"sweep": sweep})
