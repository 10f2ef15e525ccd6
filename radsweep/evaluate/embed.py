"""Ray Data around ``embedder``: the missing features of many encoders, on all machines."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from numpy.typing import NDArray
from ray.data import DataContext, TaskPoolStrategy

from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.features import Embedded, Request, close, index_of, missing_work
from radsweep.store import Store

ROUNDS = 2
"""Tasks per place: more would load weights and decode x-rays more often, fewer would end
unevenly."""


def _embed_some(
    batch: dict[str, NDArray[np.int64]], store: Store, shared: Any, cpus: float, gpus: float
) -> dict[str, NDArray[Any]]:
    """One task: some works, which lie side by side and so share their encoder and x-rays."""
    threads, readers = _threads(cpus, gpus)
    torch.set_num_threads(threads)
    work, requests, index, rows, digest = ray.get(shared[0])
    # By name, since the driver and the trials import this file and none of them needs timm.
    embedder = importlib.import_module("radsweep.evaluate.embedder").Embedder(
        store, requests, index, rows, digest, torch.device("cuda" if gpus else "cpu"), readers
    )
    done = [embedder.try_run(work[int(number)]) for number in batch["id"]]
    return {
        "id": batch["id"],
        "images": np.array([images for images, _ in done]),
        "fault": np.array([fault or "" for _, fault in done]),
    }


def _threads(cpus: float, gpus: float) -> tuple[int, int]:
    """How many compute, and how many decode ahead: all beside a GPU, one of several CPUs."""
    whole = max(1, int(cpus))
    if gpus:
        return 1, whole
    return (whole - 1, 1) if whole > 1 else (1, 0)


def embed(
    store: Store,
    corpus: Corpus,
    encoders: Sequence[Encoder],
    requests: Sequence[Request],
    *,
    cpus: float,
    gpus: float,
    at_once: int,
) -> Embedded:
    """Write all features that are missing.

    The same values as ``embedder.embed_locally``. Needs a connected Ray.

    Args:
        store: where weights and pixels are and features go.
        corpus: what is embedded.
        encoders: finished ones.
        requests: what the tasks need.
        cpus: of one task.
        gpus: of one task; 0 runs on CPU.
        at_once: tasks side by side at most.
    """
    digest = corpus.card["manifest_digest"]
    work = missing_work(store, encoders, requests, digest)
    images, faults = 0, {}
    if work:
        index, rows = index_of(corpus, requests)
        shared = ray.put((work, list(requests), index, rows, digest))
        tasks = min(len(work), ROUNDS * at_once)
        context = DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        with DataContext.current(context):
            # Not ``ray.data.range``, whose tasks ask for a whole CPU each.
            numbers = [{"id": number} for number in range(len(work))]
            done = ray.data.from_items(numbers, override_num_blocks=tasks).map_batches(
                _embed_some,  # type: ignore[arg-type]
                fn_kwargs={"store": store, "shared": [shared], "cpus": cpus, "gpus": gpus},
                batch_size=None,
                compute=TaskPoolStrategy(min(at_once, tasks)),
                num_cpus=cpus,
                num_gpus=gpus or None,
            )
            for row in done.iter_rows():
                images += int(row["images"])
                if row["fault"]:
                    faults[work[int(row["id"])].encoder.cell] = str(row["fault"])
    close(store, encoders, requests, digest)
    return Embedded(images=images, faults=faults)
