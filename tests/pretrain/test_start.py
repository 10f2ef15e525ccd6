"""Weights that a recipe names on the Hugging Face hub are those that lie there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from radsweep.models.layouts import to_hf_dinov2
from radsweep.models.weights import encoder_digest, load_start
from tests.models.test_weights import vit
from tests.pretrain.hub import hub

pytest.importorskip("huggingface_hub")

SCRIPT = """
import sys
from radsweep.models.weights import encoder_digest
from radsweep.pretrain.start import start_weights
from radsweep.store import Store
store, *starts = sys.argv[1:]
for start_from in starts:
    found = start_weights(Store(store), start_from)
    print(found.layout, found.digest, encoder_digest(found.paradigm), len(found.paradigm))
"""


def fetched(address: str, folder: Path, *starts: str) -> subprocess.CompletedProcess[str]:
    """By a process of its own: the hub's address is read once, as its package is imported."""
    own = {
        "HF_ENDPOINT": address, "HF_HOME": str(folder / "kept"), "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "store"), *starts],
        env=os.environ | own, capture_output=True, text=True,
    )  # fmt: skip


def test_rad_dino_comes_from_the_hub_without_a_difference(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save_file(to_hf_dinov2(vit().state_dict()), model / "model.safetensors")
    head = {f"mlp.{i}.{kind}": torch.randn(3) for i in (0, 2, 4) for kind in ("weight", "bias")}
    head |= {"last_layer.weight_g": torch.ones(5, 1), "last_layer.weight_v": torch.randn(5, 3)}
    save_file(head, model / "dino_head.safetensors")
    (model / "training_images.csv").write_text("image\n")
    local = load_start(model)
    there = ("hf://microsoft/rad-dino", "hf://microsoft/rad-dino@main")
    with hub("microsoft/rad-dino", model) as address:
        done = fetched(address, tmp_path, *there, "hf://microsoft/rad-deno")
    found = ["hf", local.digest, encoder_digest(local.paradigm), str(len(local.paradigm))]
    assert [line.split() for line in done.stdout.splitlines()] == [found] * 2, done.stderr
    assert done.returncode and "is not there; give a folder or URL" in done.stderr
