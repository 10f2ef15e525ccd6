"""The commands on small hand-made stores: what they print, what they refuse, what they import."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import timm
import torch
from typer.testing import CliRunner

from radsweep import __version__
from radsweep.cli import app, main
from radsweep.errors import SpecError
from radsweep.models.backbone import build_backbone
from radsweep.models.weights import ENCODER, save_encoder
from radsweep.pretrain.place import Workers
from radsweep.specs import Sweep
from radsweep.store import Store
from radsweep.store import scores as score_table
from radsweep.store.cost import Cost, cost_file
from radsweep.store.layout import corpus_folder, sweep_file
from radsweep.store.record import CellStore
from radsweep.sweep import run as driver
from radsweep.sweep.load import load_sweep
from radsweep.sweep.results import read_cells
from radsweep.sweep.run import RunOptions
from radsweep.sweep.show import status_table
from tests.dashboards.toy import toy_scores
from tests.evaluate.toy import write_cell
from tests.sweep.commands import python, radsweep

SWEEP = """
from radsweep import Budget, Protocol, Recipe, Sweep

ENCODER = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "in_chans": 1}
SWEEP = Sweep(
    name="hand",
    corpus="hand@1",
    recipes=(
        Recipe(paradigm="clip", encoder="vit_tiny_patch16_224", encoder_settings=ENCODER,
               image_size=32, learning_rate=1e-3),
    ),
    images=(100, 400),
    budget=Budget(images_seen=1600, batch_size=16),
    protocol=Protocol(tasks=("findings",)),
)
"""
FLOPS_PER_IMAGE = 2.5e13
IMPORTED = (
    "import sys; from radsweep.cli import app; app(sys.argv[1:], standalone_mode=False); "
    "heavy = {'torch', 'ray', 'timm', 'transformers'} & set(sys.modules);"
    "sys.exit(str(heavy) if heavy else 0)"
)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "hand.py").write_text(SWEEP)
    return load_sweep(str(tmp_path / "hand.py"))


@pytest.fixture
def store(tmp_path: Path, sweep: Sweep) -> Store:
    """The baseline is done, 100 images are running, 400 are waiting; costs are kept."""
    store = Store(str(tmp_path / "store"))
    card = {
        "corpus": sweep.corpus,
        "splits": {"pretrain": {"images": 1000, "reports": 1000}},
        "reports": 1200,
        "label_columns": ["finding_edema"],
        "labels": {"finding_edema": {"pretrain_missing": 0}},
        "mask_classes": [],
    }
    store.write_json(f"{corpus_folder(sweep.corpus)}/card.json", card)
    cost = Cost(flops_per_image=FLOPS_PER_IMAGE, weight_bytes=1_000_000)
    store.write_json(cost_file(sweep.recipes[0]), asdict(cost))
    baseline, running, _ = sweep.cells()
    write_cell(store, baseline, seed=0)
    corner = CellStore(store, running.name)
    corner.declare(running)
    corner.set_state("running", spent=0.25, step=25, images_seen=400, images_per_second=50.0)
    return store


def spent_by(sweep: Sweep) -> float:
    """PFLOP of one trained cell."""
    assert sweep.budget.images_seen is not None
    return sweep.budget.images_seen * FLOPS_PER_IMAGE / 1e15


def ask(*arguments: object) -> str:
    """What a command prints on standard output; it must succeed."""
    ran = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def place(tmp_path: Path) -> tuple[str, ...]:
    return str(tmp_path / "hand.py"), "--store", str(tmp_path / "store")


def write_scores(store: Store, sweep: Sweep) -> pl.DataFrame:
    """Two rows for the baseline: the headline and one label."""
    baseline = sweep.cells()[0]
    toy = toy_scores().filter(pl.col("task") == "findings", images=0, paradigm="clip")
    rows = toy.head(2).with_columns(
        pl.lit(baseline.name).alias("cell"), pl.col("finished_at").dt.replace_time_zone("UTC")
    )
    score_table.write(store, "t1", rows)
    store.write_json(sweep_file(sweep.name, "trials.json"), {baseline.name: ["t1"]})
    return rows


def test_help_answers_at_once_and_imports_no_gpu_stack(tmp_path: Path) -> None:
    ran = python("-c", IMPORTED, "--help", folder=tmp_path)
    assert ran.code == 0, ran.errors
    assert "submit" in ran.output and "phantom" in ran.output
    # Seconds of the processor, since this machine may be busy.
    assert ran.cpu_seconds < 2


def test_the_version_is_that_of_the_package() -> None:
    assert ask("--version") == f"radsweep {__version__}\n"


def test_a_plan_names_states_and_costs_and_needs_no_gpu_stack_once_costs_are_kept(
    store: Store, sweep: Sweep, tmp_path: Path
) -> None:
    ran = python("-c", IMPORTED, "plan", *place(tmp_path), "--json", folder=tmp_path)
    assert ran.code == 0, ran.errors
    plan = json.loads(ran.output)
    assert [cell["state"] for cell in plan["cells"]] == ["done", "missing", "missing"]
    assert [cell["steps"] for cell in plan["cells"]] == [0, 100, 100]
    assert [cell["epochs"] for cell in plan["cells"]] == [None, 16.0, 4.0]
    spent = 1600 * FLOPS_PER_IMAGE
    assert [cell["flops"] for cell in plan["cells"]] == [0, spent, spent]
    machine = plan["machine"]
    hours = spent / (machine["tflops"] * 1e12 * machine["utilisation"]) / 3600
    assert plan["cells"][1]["device_hours"] == pytest.approx(hours)
    assert ran.cpu_seconds < 5


def test_a_plan_as_a_table_sums_what_is_missing(store: Store, sweep: Sweep, tmp_path: Path) -> None:
    ran = radsweep("plan", *place(tmp_path), folder=tmp_path, COLUMNS="120")
    assert "still to run: 2 of 3" in ran.output and sweep.cells()[1].name in ran.output
    # On a narrow terminal names are folded and nothing is cut off.
    narrow = radsweep("plan", *place(tmp_path), folder=tmp_path, COLUMNS="80").output
    assert "\N{HORIZONTAL ELLIPSIS}" not in narrow and f"{spent_by(sweep):,.2f}" in narrow


def test_a_plan_counts_a_recipe_that_the_store_has_never_seen_once(
    store: Store, sweep: Sweep, tmp_path: Path
) -> None:
    store.delete("costs")
    said = json.loads(ask("plan", *place(tmp_path), "--json"))
    assert store.read_json(cost_file(sweep.recipes[0]))["flops_per_image"] > 1e6
    store.write_json(cost_file(sweep.recipes[0]), asdict(Cost(flops_per_image=7.0, weight_bytes=1)))
    again = json.loads(ask("plan", *place(tmp_path), "--json"))
    assert again["cells"][1]["flops"] == 1600 * 7
    assert said["cells"][1]["flops"] > 1600 * 1e6


def test_status_says_where_each_cell_stands(store: Store, sweep: Sweep, tmp_path: Path) -> None:
    rows = json.loads(ask("status", *place(tmp_path), "--json"))
    # Nobody holds the lease of the second: its driver is gone.
    assert [row["state"] for row in rows] == ["done", "preempted", "waiting"]
    assert rows[1]["spent"] == 0.25
    with CellStore(store, sweep.cells()[1].name).lease():
        rows = json.loads(ask("status", *place(tmp_path), "--json"))
        assert rows[1]["state"] == "running"
        text = ask("status", *place(tmp_path))
    assert "25%" in text and "running" in text
    # 1,200 images are left at 50 a second.
    assert " 24 " in text


def test_status_says_of_a_cell_that_waits_for_images_what_would_help(
    store: Store, sweep: Sweep
) -> None:
    corner = CellStore(store, sweep.cells()[1].name)
    with corner.lease():
        for wait, is_said in ((0.05, False), (0.5, True)):
            speed = {"images_seen": 400, "images_per_second": 50.0}
            corner.set_state("running", spent=0.25, data_wait=wait, **speed)
            said = list(status_table("hand", read_cells(sweep, store)).columns[2].cells)
            wanted = "waits for images 50% of the time: 2.0 times the --stream-cpus would do"
            assert said == ["", wanted if is_said else "", ""]
        for cpus, wanted in (
            (6.0, "50% of the time: its stream may hold 6 CPUs, and up to 12 as it needs"),
            (12.0, "50% of the time: 2.0 times the --stream-cpus (12, if the cluster has"),
        ):
            corner.set_state("running", data_wait=0.5, stream_cpus=cpus, stream_cpus_most=12.0)
            said = list(status_table("hand", read_cells(sweep, store)).columns[2].cells)
            assert wanted in str(said[1])


def test_status_names_the_process_that_the_others_wait_for(store: Store, sweep: Sweep) -> None:
    corner = CellStore(store, sweep.cells()[1].name)
    with corner.lease():
        for times, wait, wanted in (
            (1.1, 0.0, ""),
            (2.13, 0.0, "worker 3, on node-c, takes 2.1 times the others' time: all wait"),
            (2.13, 1.0, "waits for images 100% of the time; worker 3, on node-c, takes"),
        ):
            who = {"slowest_rank": 2, "slowest_times": times, "workers": 4.0}
            corner.set_state("running", data_wait=wait, slowest_host="node-c", **who)
            cells = read_cells(sweep, store)
            assert cells["slowest_rank"][1] == 2 and cells["slowest_host"][1] == "node-c"
            said = list(status_table("hand", cells).columns[2].cells)[1]
            assert str(said).startswith(wanted) and bool(said) == bool(wanted)


def test_scores_are_a_table_a_csv_and_a_parquet_file(
    store: Store, sweep: Sweep, tmp_path: Path
) -> None:
    rows = write_scores(store, sweep)
    text = ask("scores", *place(tmp_path))
    assert "open" in text and f"{rows['value'][0]:.3f}" in text
    ask("scores", *place(tmp_path), "--to", tmp_path / "out.csv")
    assert pl.read_csv(tmp_path / "out.csv")["value"].to_list() == rows["value"].to_list()
    ask("scores", *place(tmp_path), "--to", tmp_path / "out.parquet")
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written["draws"][0].len() == rows["draws"][0].len()
    said = json.loads(ask("scores", *place(tmp_path), "--json"))
    assert [row["label"] for row in said] == rows["label"].to_list()


def test_scores_of_a_sweep_that_has_none_are_an_empty_table_and_a_word(
    store: Store, sweep: Sweep, tmp_path: Path
) -> None:
    assert json.loads(ask("scores", *place(tmp_path), "--json")) == []
    assert "no scores yet" in ask("scores", *place(tmp_path))


def test_status_says_of_a_store_in_which_nothing_was_run_that_it_is_that(
    sweep: Sweep, tmp_path: Path
) -> None:
    told = ("status", tmp_path / "hand.py", "--store", tmp_path / "mistyped")
    assert "it was never run in" in ask(*told)
    driver.declare(sweep, Store(str(tmp_path / "mistyped")))
    assert "never" not in ask(*told)


def test_laws_are_fitted_to_any_csv(tmp_path: Path) -> None:
    n = np.array([1e3, 3e3, 1e4, 3e4, 1e5])
    frame = pl.DataFrame({"shots": n, "mae": 0.1 + 2 * n**-0.4, "arm": ["a"] * 5})
    frame.write_csv(tmp_path / "any.csv")
    arguments = ("laws", tmp_path / "any.csv", "--x", "shots", "--y", "mae", "--lower-is-better")
    fits = json.loads(ask(*arguments, "--json"))
    (chosen,) = [fit for fit in fits if fit["chosen"]]
    assert chosen["r2"] > 0.999 and chosen["points"] == 5
    (curve,) = [
        fit for fit in json.loads(ask(*arguments, "--by", "arm", "--json")) if fit["chosen"]
    ]
    assert curve["arm"] == "a" and curve["theta"] == chosen["theta"]
    text = ask(*arguments)
    assert f"{chosen['rmse']:.4g}" in text and "(chosen)" in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_a_finished_cell_is_exported_so_that_timm_loads_it(
    store: Store, sweep: Sweep, tmp_path: Path
) -> None:
    cell = sweep.cells()[0]
    out = tmp_path / "out"
    command = ("export", cell.name, out, "--to", "timm", "--store", store.url)
    recipe = cell.recipe
    backbone = build_backbone(
        recipe.encoder, recipe.image_size, dict(recipe.encoder_settings), 0.5, 0.25
    )
    save_encoder(backbone, Path(store.full(CellStore(store, cell.name).path(ENCODER))))
    ask(*command)
    config = json.loads((out / "config.json").read_text())
    model = timm.create_model(
        config["architecture"],
        num_classes=0,
        checkpoint_path=str(out / "model.safetensors"),
        img_size=config["pretrained_cfg"]["input_size"][-1],
        **config["model_args"],
    )
    pixels = torch.rand(1, 1, 32, 32)
    assert torch.equal(model.eval()(pixels), backbone.model.eval()(pixels))


REFUSED = {
    "no store": (("plan", "{sweep}"), "give --store DIR"),
    "no such sweep file": (("plan", "{folder}/no.py", "--store", "{store}"), "no sweep file"),
    "brackets in a name": (("plan", "{folder}/[/red].py", "--store", "{store}"), "[/red].py"),
    "no such module": (("status", "nosuch.module", "--store", "{store}"), "there is no sweep"),
    "no SWEEP in the file": (("plan", "{empty}", "--store", "{store}"), "has no SWEEP"),
    "no such machine": (
        ("plan", "{sweep}", "--store", "{store}", "--machine", "aws-p5"),
        "no machine 'aws-p5' in the price table",
    ),
    "a table of another kind": (
        ("scores", "{sweep}", "--store", "{store}", "--to", "{folder}/scores.xlsx"),
        "neither .csv nor .parquet",
    ),
    "no such column": (("laws", "{table}", "--y", "auroc"), "no column 'images'"),
    "no such table": (("laws", "{folder}/no.csv"), "is not a .csv or .parquet file that exists"),
    "a cell that is not done": (
        ("export", "{waiting}", "{folder}/out", "--store", "{store}"),
        "is not done",
    ),
    "no such layout": (
        ("export", "{done}", "{folder}/out", "--to", "onnx", "--store", "{store}"),
        "no layout 'onnx'",
    ),
    "no such hospital": (("phantom", "{folder}/films", "--hospital", "rivreside"), "riverside"),
    "no cluster": (
        ("submit", "{sweep}", "--store", "{store}", "--address", "http://127.0.0.1:9"),
        "no Ray dashboard answers",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_users_fault_is_one_message_and_exit_code_1(
    fault: str,
    store: Store,
    sweep: Sweep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "table.csv").write_text("size,auroc\n1,0.5\n")
    names = {
        "folder": tmp_path, "store": store.url, "sweep": tmp_path / "hand.py",
        "empty": tmp_path / "empty.py", "table": tmp_path / "table.csv",
        "done": sweep.cells()[0].name, "waiting": sweep.cells()[2].name,
    }  # fmt: skip
    command, message = REFUSED[fault]
    monkeypatch.delenv("RADSWEEP_STORE", raising=False)
    monkeypatch.setattr("sys.argv", ["radsweep", *(part.format(**names) for part in command)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert message in said.err and said.err.startswith("error ")
    assert "Traceback" not in said.err + said.out and len(said.err.splitlines()) <= 2


def test_an_unwritable_store_and_an_unknown_command_are_refused_by_the_command_itself(
    store: Store, sweep: Sweep, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    ran = radsweep(
        "ingest", tmp_path, "--corpus", "a@1", "--store", tmp_path / "file", folder=tmp_path
    )
    assert ran.code == 1 and "cannot be written" in ran.errors and "Traceback" not in ran.errors
    ran = radsweep("rum", folder=tmp_path)
    assert ran.code == 2 and "rum" in ran.errors and "Traceback" not in ran.errors


def test_evaluation_has_the_gpus_of_training_or_its_own(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def drive(loaded: Sweep, root: Store, options: RunOptions, observer: object) -> None:
        asked.append((options.trial_cpus, options.trial_gpus))
        raise _DrivenError

    monkeypatch.setattr(driver, "run", drive)
    told = ("run", str(tmp_path / "hand.py"), "--store", store.url, "--gpus", "1")
    for more in ((), ("--trial-cpus", "4", "--trial-gpus", "0.25"), ("--trial-gpus", "0")):
        assert isinstance(CliRunner().invoke(app, [*told, *more]).exception, _DrivenError)
    assert asked == [(1, 1), (4, 0.25), (1, 0)]


class _DrivenError(Exception):
    """Instead of a run."""


def test_what_is_asked_of_the_workers_reaches_them(
    sweep: Sweep, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = []

    def drive(loaded: Sweep, root: Store, options: RunOptions, observer: object) -> None:
        placed.append(options.workers_for(loaded.cells()[-1]))
        raise _DrivenError

    monkeypatch.setattr(driver, "run", drive)
    told = ("run", str(tmp_path / "hand.py"), "--store", store.url)
    asked = ("--images-at-once", "4", "--compile", "--keep-every-steps", "400")
    shared = ("--shard", "--workers", "2:4", "--activation-checkpointing")
    for more in ((), (*asked, "--log-to", "tensorboard=/curves"), shared):
        assert isinstance(CliRunner().invoke(app, [*told, *more]).exception, _DrivenError)
    assert placed[0] == Workers()
    assert placed[1] == Workers(
        images_at_once=4, compile_blocks=True, keep_every_steps=400, log_to="tensorboard=/curves"
    )
    assert placed[2] == Workers(count=2, most=4, sharded=True, activation_checkpointing=True)
    refused = CliRunner().invoke(app, [*told, "--images-at-once", "0"])
    assert refused.exit_code == 2
    assert isinstance(CliRunner().invoke(app, [*told, "--log-to", "curves"]).exception, SpecError)
    assert len(placed) == 3
