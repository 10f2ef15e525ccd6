"""From a cell to what lies in the store: its log, how it ends, and why."""

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load as load_safetensors

from radsweep.corpus.example import Stratum, Viewer, Views
from radsweep.corpus.subset import SubsetIndex
from radsweep.errors import BudgetError, CollapsedError, DivergedError, SpecError
from radsweep.pretrain import cell as cell_module
from radsweep.pretrain.cell import audit, fit, require_alike
from radsweep.pretrain.chips import peak_flops
from radsweep.pretrain.loop import Progress, Ranks, Row
from radsweep.specs import Budget, Cell, Recipe, Subset
from radsweep.store import Store
from radsweep.store.cost import cost_file, kept_cost
from radsweep.store.record import CellStore, Record
from radsweep.sweep.cost import planned_cost
from tests.evaluate.toy import CORPUS, write_corpus
from tests.paradigms.test_compile import traced  # noqa: F401
from tests.paradigms.tiny import examples, recipe

BATCH = 8


def batches(
    subset: SubsetIndex, viewer: Viewer, ranks: Ranks, first: int, steps: int | None
) -> Iterable[Views]:
    films = examples(BATCH)
    for step in range(first, steps if steps is not None else 10**6):
        views = [
            viewer(film, np.random.default_rng((step, i)), Stratum(i, BATCH))
            for i, film in enumerate(films)
        ]
        yield {name: np.stack([view[name] for view in views]) for name in views[0]}


def trained(
    folder: Path, made: Recipe, budget: Budget, **placed: Any
) -> tuple[Record, pl.DataFrame]:
    store = Store(str(folder))
    write_corpus(store)
    cell = Cell(recipe=made, subset=Subset(corpus=CORPUS, images=4), budget=budget)
    record = fit(
        cell, store, Ranks(), batches, checkpoint_steps=10**6, report=lambda row: None, **placed,
    )  # fmt: skip
    return record, log(store, cell)


def log(store: Store, cell: Cell) -> pl.DataFrame:
    return store.read_table(CellStore(store, cell.name).path("steps.parquet"))


def test_a_cell_under_way_leaves_its_log_and_its_speed_for_those_who_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_module, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(cell_module, "STATE_SECONDS", 0.0)
    store = Store(str(tmp_path))
    write_corpus(store)
    budget = Budget(steps=25, batch_size=BATCH)
    cell = Cell(recipe=recipe("clip"), subset=Subset(corpus=CORPUS, images=4), budget=budget)
    seen: list[tuple[int, dict[str, Any]]] = []

    def watch(row: Row) -> None:
        said = store.read_json(CellStore(store, cell.name).path("state.json"))
        seen.append((len(log(store, cell)), said))

    fit(cell, store, Ranks(), batches, checkpoint_steps=10**6, report=watch)
    assert [rows for rows, _ in seen] == [1, 2, 3]
    last = seen[-1][1]
    assert last["step"] == 25 and last["workers"] == 1 and last["images_seen"] == 25 * BATCH
    assert last["seconds"] > 0 and last["images_per_second"] > 0 and last["mfu"] is None


def test_the_log_has_losses_schedules_monitors_and_speed(tmp_path: Path) -> None:
    record, rows = trained(tmp_path, recipe("dinov2"), Budget(steps=12, batch_size=BATCH))
    assert rows["step"].to_list() == [10, 12] and rows["step"].dtype == pl.Int64
    assert {
        "loss", "loss_dino", "loss_ibot", "loss_koleo", "learning_rate", "weight_decay",
        "schedule_teacher_momentum", "schedule_teacher_temperature", "monitor_teacher_entropy",
        "monitor_teacher_spread", "monitor_prototypes_used", "monitor_cls_cosine",
        "monitor_rank_me", "monitor_teacher_kl", "images_per_second", "mfu", "data_wait_seconds",
    } <= set(rows.columns)  # fmt: skip
    # Nobody knows how fast this CPU multiplies at best.
    assert rows["mfu"].to_list() == [None, None] and rows["mfu"].dtype == pl.Float64
    assert 0 < rows["data_wait_seconds"].sum() < record.seconds
    assert record.images_seen == 12 * BATCH and record.final_losses["loss"] == rows["loss"][-1]


def test_cells_of_a_recipe_are_counted_once_and_by_the_plan_as_well(tmp_path: Path) -> None:
    made, budget = recipe("dinov2"), Budget(steps=1, batch_size=BATCH)
    record, _ = trained(tmp_path, made, budget)
    kept = kept_cost(made, Store(str(tmp_path)))
    assert kept is not None and kept.flops_per_image == record.flops_per_image > 1e6
    assert planned_cost(made, Store(str(tmp_path / "another"))) == kept
    # Nobody counts where it is known.
    other = replace(kept, flops_per_image=7.0)
    Store(str(tmp_path)).write_json(cost_file(made), asdict(other))
    again, _ = trained(tmp_path, made, Budget(steps=2, batch_size=BATCH))
    assert again.flops_per_image == 7.0 and again.flops == 2 * BATCH * 7.0


class _LostError(Exception):
    """Of a machine that went away."""


@pytest.mark.parametrize(
    "made",
    [
        recipe("unicl"),
        recipe("dinov2", targets="sinkhorn", head_batch_norm=True),
        # Running moments are state too.
        recipe(
            "clip",
            encoder="resnet10t",
            encoder_settings={"channels": "8,8,16,16", "stem_width": 4, "in_chans": 1},
        ),
    ],
    ids=["unicl", "dinov2", "clip with batch normalisation"],
)
def test_a_cell_that_was_lost_goes_on_to_the_very_weights(made: Recipe, tmp_path: Path) -> None:
    budget = Budget(steps=9, batch_size=BATCH)
    whole, _ = trained(tmp_path / "whole", made, budget)
    store = Store(str(tmp_path / "lost"))
    write_corpus(store)
    cell = Cell(recipe=made, subset=Subset(corpus=CORPUS, images=4), budget=budget)

    def broken(*given: Any) -> Iterable[Views]:
        for step, batch in enumerate(batches(*given), given[3]):
            if step == 7:
                raise _LostError
            yield batch

    with pytest.raises(_LostError):
        fit(cell, store, Ranks(), broken, checkpoint_steps=3, report=lambda row: None)
    seen: list[int] = []

    def going_on(*given: Any) -> Iterable[Views]:
        seen.append(given[3])
        return batches(*given)

    again = fit(cell, store, Ranks(), going_on, checkpoint_steps=3, report=lambda row: None)
    assert seen == [6]
    assert again.encoder_digest == whole.encoder_digest
    assert again.final_losses == whole.final_losses


def test_recipes_that_share_a_random_baseline_draw_the_same_weights(tmp_path: Path) -> None:
    digests = set()
    for rate in (1e-3, 2e-3):
        store = Store(str(tmp_path / str(rate)))
        write_corpus(store)
        made = recipe("clip", learning_rate=rate, start_from="random")
        budget = Budget(steps=2, batch_size=BATCH)
        cell = Cell(recipe=made, subset=Subset(corpus=CORPUS, images=4), budget=budget).baseline
        none = fit(cell, store, Ranks(), batches, checkpoint_steps=9, report=lambda row: None)
        digests.add(none.encoder_digest)
    assert len(digests) == 1


def test_a_cell_trained_in_parts_ends_close_to_one_trained_whole(tmp_path: Path) -> None:
    budget, made = Budget(steps=5, batch_size=BATCH), recipe("clip")
    whole, _ = trained(tmp_path / "whole", made, budget)
    parts, _ = trained(tmp_path / "parts", made, budget, images_at_once=3)
    assert whole.key == parts.key
    assert parts.final_losses["loss"] == pytest.approx(whole.final_losses["loss"], abs=1e-3)


def test_activations_computed_anew_change_neither_the_weights_nor_the_flops(
    tmp_path: Path,
) -> None:
    budget, made = Budget(steps=5, batch_size=BATCH), recipe("dinov2", drop_path=0.5)
    whole, _ = trained(tmp_path / "whole", made, budget)
    anew, _ = trained(tmp_path / "anew", made, budget, activation_checkpointing=True)
    assert anew.encoder_digest == whole.encoder_digest != whole.start_digest
    assert (anew.key, anew.flops, anew.final_losses) == (
        whole.key, whole.flops, whole.final_losses,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.usefixtures("traced")
def test_a_compiled_cell_that_was_lost_goes_on_compiled_or_not(tmp_path: Path) -> None:
    budget, made = Budget(steps=6, batch_size=BATCH), recipe("clip")
    whole, _ = trained(tmp_path / "whole", made, budget)

    def broken(*given: Any) -> Iterable[Views]:
        yield from itertools.islice(batches(*given), 4)
        raise _LostError

    for number, (first, second) in enumerate(((True, True), (True, False), (False, True))):
        store = Store(str(tmp_path / str(number)))
        write_corpus(store)
        cell = Cell(recipe=made, subset=Subset(corpus=CORPUS, images=4), budget=budget)
        fit_once = partial(
            fit, cell, store, Ranks(), checkpoint_steps=3, report=lambda row: None
        )  # fmt: skip
        with pytest.raises(_LostError):
            fit_once(make_batches=broken, compile_blocks=first)
        found = fit_once(make_batches=batches, compile_blocks=second)
        assert found.encoder_digest == whole.encoder_digest
        corner = CellStore(store, cell.name)
        weights = load_safetensors(store.read_bytes(corner.path("encoder.safetensors")))
        assert list(weights) and not [name for name in weights if "_orig_mod" in name]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        # Neither centred nor sharpened much: all images choose one prototype, or none.
        ({"centre_momentum": 1.0, "teacher_temperature": 0.04}, "prototypes|mean cosine"),
        ({"teacher_temperature": 1.0, "teacher_temperature_start": 1.0}, "blind guess"),
    ],
)
def test_a_collapsed_cell_stops_and_its_log_shows_why(
    changes: dict[str, object], reason: str, tmp_path: Path
) -> None:
    made = recipe(
        "dinov2", learning_rate=1e-2, koleo_weight=0.0, teacher_momentum=0.5, warmup=0.0,
        freeze_last_layer=0.0, collapse_entropy=0.99, collapse_after=0.05, **changes,
    )  # fmt: skip
    with pytest.raises(CollapsedError, match=reason) as raised:
        trained(tmp_path, made, Budget(steps=200, batch_size=BATCH))
    assert raised.value.state == "collapsed" and "of the budget" in str(raised.value)
    (table,) = Path(tmp_path).rglob("steps.parquet")
    rows = pl.read_parquet(table)
    assert rows["spent"][-1] < 1.0 and rows["monitor_prototypes_used"][-1] is not None
    # How far it came is what it cost.
    (state,) = Path(tmp_path).rglob("state.json")
    assert json.loads(state.read_text())["spent"] == rows["spent"][-1]
    assert not list(Path(tmp_path).rglob("encoder.safetensors"))


def test_a_diverged_cell_leaves_its_log(tmp_path: Path) -> None:
    made = recipe("clip", learning_rate=1e30, clip_norm=None, warmup=0.0)
    with pytest.raises(DivergedError):
        trained(tmp_path, made, Budget(steps=20, batch_size=BATCH))
    (table,) = Path(tmp_path).rglob("steps.parquet")
    rows = pl.read_parquet(table)
    assert not np.isfinite(rows["loss"][-1])
    (state,) = Path(tmp_path).rglob("state.json")
    said = json.loads(state.read_text())
    assert said["step"] == rows["step"][-1] and "loss" not in said


@pytest.mark.parametrize(
    ("budget", "steps", "ends_well"),
    [
        (Budget(steps=1000, batch_size=4), 990, True),
        (Budget(steps=1000, batch_size=4), 989, False),
        (Budget(steps=1000, batch_size=4), 1011, False),
        (Budget(images_seen=4000, batch_size=4), 980, False),
        (Budget(flops=4e6, batch_size=4), 1000, True),
        (Budget(flops=4e6, batch_size=4), 1020, False),
        (Budget(gpu_seconds=100, batch_size=4), 1005, True),
        (Budget(gpu_seconds=100, batch_size=4), 1020, False),
    ],
)
def test_more_than_one_percent_off_the_budget_is_an_error(
    budget: Budget, steps: int, ends_well: bool
) -> None:
    cell = Cell(recipe=recipe("clip"), subset=Subset(corpus=CORPUS, images=4), budget=budget)
    progress = Progress(step=steps, seconds=steps * 0.1, worker_seconds=steps * 0.1)
    if ends_well:
        audit(cell, 1000.0, progress)
    else:
        with pytest.raises(BudgetError, match="of a budget of"):
            audit(cell, 1000.0, progress)


def test_processes_on_unlike_devices_are_refused() -> None:
    cell = Cell(
        recipe=recipe("clip"),
        subset=Subset(corpus=CORPUS, images=4),
        budget=Budget(steps=1, batch_size=4),
    )
    require_alike(cell, ["NVIDIA L40S"] * 4)
    with pytest.raises(SpecError, match=r"2 kinds \(3 x NVIDIA L40S, 1 x NVIDIA A10G\)"):
        require_alike(cell, ["NVIDIA L40S", "NVIDIA L40S", "NVIDIA A10G", "NVIDIA L40S"])


def test_a_rate_is_known_of_chips_and_never_guessed() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert peak_flops("NVIDIA H100 PCIe", "bf16") == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", "bf16") == 312e12
    assert peak_flops("NVIDIA L40S", "bf16") == 362e12 and peak_flops("NVIDIA L4", "bf16") == 121e12
    for device in ("cpu", "NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"):
        assert peak_flops(device, "bf16") is None
    assert peak_flops("NVIDIA H200", "fp32") is None
