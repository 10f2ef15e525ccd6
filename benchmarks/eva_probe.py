"""kaiko-eva's offline probe on arrays: what ``linear_probe.py`` starts in a Python that has it.

``python benchmarks/eva_probe.py IN.npz OUT.npz``. IN has ``train``, ``val`` and ``test`` features
float32 [n, D], and ``train_targets`` and ``val_targets`` [n, labels] of 1 and 0; OUT gets the
``logits`` of test [n, labels], and the ``seconds`` and ``steps`` of the fit. The probe is that of
its offline classification of MHIST (``configs/vision/pathology/offline/classification``): one
linear layer under AdamW, at most 12,500 steps of 256 at a rate that its cosine, moved once an
epoch, hardly lowers; it stops after 70 epochs that are no better on val, and the best is kept. It
is spared what arrays in memory need not: embeddings are not read one file an image, in other
processes, and nothing is logged.
"""

import argparse
import tempfile
import time
from functools import partial

import numpy as np
import torch
from eva.core import DataModule, HeadModule, Trainer
from eva.core.data.dataloaders import DataLoader
from eva.core.data.datamodules.schemas import DataloadersSchema, DatasetsSchema
from eva.core.metrics import AverageLoss
from eva.core.metrics.structs import MetricsSchema
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import TensorDataset

STEPS, BATCH, RATE, PATIENCE = 12_500, 256, 3e-4, 70
MONITOR = "val/AverageLoss"


def main() -> None:
    """Fit, answer test with the best epoch, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("given")
    parser.add_argument("out")
    named = parser.parse_args()
    torch.manual_seed(0)
    with np.load(named.given) as arrays:
        data = {name: torch.from_numpy(arrays[name]).float() for name in arrays.files}
    width, labels = data["train"].shape[1], data["train_targets"].shape[1]
    in_this_process = {"num_workers": 0, "persistent_workers": False, "prefetch_factor": None}
    loader = partial(DataLoader, batch_size=BATCH, pin_memory=False, **in_this_process)
    module = DataModule(
        datasets=DatasetsSchema(
            train=TensorDataset(data["train"], data["train_targets"]),
            val=TensorDataset(data["val"], data["val_targets"]),
        ),
        dataloaders=DataloadersSchema(train=loader(shuffle=True), val=loader()),
    )
    model = HeadModule(
        head=torch.nn.Linear(width, labels),
        criterion=torch.nn.BCEWithLogitsLoss(),
        optimizer=partial(torch.optim.AdamW, lr=RATE),
        lr_scheduler=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=STEPS),
        metrics=MetricsSchema(common=[AverageLoss()]),
    )
    with tempfile.TemporaryDirectory() as scratch:
        best = ModelCheckpoint(dirpath=scratch, filename="best", monitor=MONITOR, mode="min")
        stop = EarlyStopping(monitor=MONITOR, mode="min", min_delta=0, patience=PATIENCE)
        trainer = Trainer(
            max_steps=STEPS,
            accelerator="cpu",
            default_root_dir=scratch,
            callbacks=[best, stop],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        began = time.perf_counter()
        trainer.fit(model, datamodule=module)
        seconds = time.perf_counter() - began
        state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    head = {name.rsplit(".", 1)[1]: tensor for name, tensor in state.items()}
    logits = data["test"] @ head["weight"].T + head["bias"]
    np.savez(named.out, logits=logits.numpy(), seconds=seconds, steps=trainer.global_step)


if __name__ == "__main__":
    main()
