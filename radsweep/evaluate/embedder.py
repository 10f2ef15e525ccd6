"""From weights and pixels to features in the store. No Ray here.

Apart from the rest of the evaluation, since timm takes seconds to import and a trial does not need
it.
"""

import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import safetensors.numpy
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from radsweep.corpus.manifest import Corpus
from radsweep.corpus.reader import Reader
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.features import (
    Embedded,
    Request,
    Work,
    block_file,
    close,
    index_of,
    missing_work,
)
from radsweep.models.backbone import LEVELS, Backbone, Features, build_backbone, resized
from radsweep.models.weights import load_start
from radsweep.store import Store
from radsweep.store.layout import cell_folder
from radsweep.store.record import CellStore
from radsweep.tasks.base import Needs

BATCH_IMAGES = 64
MAPS: Mapping[Needs, int] = {"tokens": 1, "dense": LEVELS}
"""How many an encoder is asked for; the rest takes vectors alone."""
KEPT_PIXELS = 1 << 28
"""Bytes of decoded x-rays that a process keeps for the next encoder."""

Pixels = dict[int, NDArray[np.uint8]]
"""X-rays [H, W] by manifest row."""


def load_encoder(store: Store, encoder: Encoder, device: torch.device) -> Backbone:
    """The frozen encoder, ready to answer. Raises StoreError if its cell is not done."""
    CellStore(store, encoder.cell).record()
    recipe = encoder.recipe
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "encoder.safetensors"
        file.write_bytes(store.read_bytes(f"{cell_folder(encoder.cell)}/{file.name}"))
        weights = load_start(Path(scratch)).encoder
    # Random weights are drawn and thrown away: keep the caller's generator as it was.
    with torch.random.fork_rng(devices=[]):
        backbone = build_backbone(
            recipe.encoder,
            recipe.image_size,
            dict(recipe.encoder_settings),
            recipe.pixel_mean,
            recipe.pixel_std,
        )
    backbone.load(weights)
    return backbone.eval().requires_grad_(False).to(device)


@final
class Embedder:
    """Runs encoders over blocks; keeps the last encoder and decoded x-rays for the next work."""

    def __init__(
        self,
        store: Store,
        requests: Sequence[Request],
        index: pa.Table,
        index_rows: NDArray[np.int64],
        corpus_digest: str,
        device: torch.device,
        readers: int,
    ) -> None:
        """Reads nothing yet.

        Args:
            store: where weights and pixels are and features go.
            requests: all that may be asked for.
            index: manifest rows that any request needs.
            index_rows: their positions in the manifest, ascending.
            corpus_digest: of the corpus's manifest.
            device: where the encoder runs.
            readers: threads that read and decode the next batch while the encoder has this one; 0
                reads it when it is wanted.
        """
        self._readers = readers
        self._store, self._requests, self._device = store, requests, device
        self._corpus_digest = corpus_digest
        self._reader, self._index_rows = Reader(store, index), index_rows
        self._encoder: Encoder | None = None
        self._backbone: Backbone | None = None
        self._pixels: Pixels = {}

    def try_run(self, work: Work) -> tuple[int, str | None]:
        """``run``, and why it failed, if it did."""
        try:
            return self.run(work), None
        except Exception as fault:
            # One encoder's fault must not take the features of the others: it is reported.
            return 0, f"{type(fault).__name__}: {fault}"

    def run(self, work: Work) -> int:
        """Write the features of one work; gives the images that went through the encoder."""
        requests = {i: self._requests[i] for i in work.requests}
        wanted = {i: request.in_block(work.block) for i, request in requests.items()}
        rows = np.unique(np.concatenate(list(wanted.values())))
        if self._backbone is None or self._encoder != work.encoder:
            self._backbone = load_encoder(self._store, work.encoder, self._device)
            self._encoder = work.encoder
        size = work.encoder.recipe.image_size
        levels = max(MAPS.get(request.needs, 0) for request in requests.values())
        files = {
            i: _Files(self._store, request, request.key(work.encoder, self._corpus_digest), work)
            for i, request in requests.items()
        }
        for batch, pixels in self._batches(rows):
            with torch.inference_mode():
                images = resized(torch.from_numpy(pixels).to(self._device), size)
                features = self._backbone.features(images, levels)
            for i, request in requests.items():
                taken = np.flatnonzero(np.isin(batch, wanted[i], assume_unique=True))
                if len(taken):
                    files[i].add(_wanted(features, taken, request))
        return len(rows)

    def _batches(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Rows and their x-rays uint8 [B, 1, H, W]; a batch ahead, where threads may read it."""
        coming: deque[tuple[NDArray[np.int64], list[Future[Pixels]]]] = deque()
        with ThreadPoolExecutor(max(1, self._readers)) as threads:
            for start in range(0, len(rows), BATCH_IMAGES):
                batch = rows[start : start + BATCH_IMAGES]
                missing = batch[[row not in self._pixels for row in batch.tolist()]]
                shares = np.array_split(missing, max(1, self._readers))
                coming.append((batch, [threads.submit(self._read, share) for share in shares]))
                if len(coming) > 1 or self._readers == 0:
                    yield self._taken(*coming.popleft())
            yield from (self._taken(*each) for each in coming)

    def _read(self, rows: NDArray[np.int64]) -> Pixels:
        examples = self._reader.examples(np.searchsorted(self._index_rows, rows))
        return {row: example.pixels for row, example in zip(rows.tolist(), examples, strict=True)}

    def _taken(
        self, batch: NDArray[np.int64], shares: list[Future[Pixels]]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        fresh = {row: pixels for share in shares for row, pixels in share.result().items()}
        found = self._pixels | fresh
        if sum(pixels.nbytes for pixels in found.values()) <= KEPT_PIXELS:
            self._pixels = found
        return batch, np.stack([found[row] for row in batch.tolist()])[:, None]


@final
class _Files:
    """What one request gets of one block, written file by file as each is full."""

    def __init__(self, store: Store, request: Request, key: str, work: Work) -> None:
        self._store = store
        parts = enumerate(request.parts(work.block))
        self._left = deque((block_file(key, work.block, part), size) for part, size in parts)
        self._held: list[Mapping[str, NDArray[Any]]] = []

    def add(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """The features of the next images."""
        self._held.append(arrays)
        while self._left and sum(len(each["pooled"]) for each in self._held) >= self._left[0][1]:
            path, size = self._left.popleft()
            held = {name: np.concatenate([each[name] for each in self._held]) for name in arrays}
            full = {name: values[:size] for name, values in held.items()}
            self._store.write_bytes(path, safetensors.numpy.save(full))
            self._held = [{name: values[size:].copy() for name, values in held.items()}]


def _wanted(
    features: Features, taken: NDArray[np.int64], request: Request
) -> dict[str, NDArray[np.generic]]:
    """Arrays of the images ``taken`` of a batch; vectors float32, grids float16."""
    rows = torch.from_numpy(taken)
    arrays: dict[str, NDArray[np.generic]] = {
        "pooled": features.pooled.float().cpu()[rows].numpy(),
        "mean": features.mean.float().cpu()[rows].numpy(),
    }
    if request.needs == "tokens":
        last = features.maps[-1].float().cpu()[rows]
        arrays["tokens"] = _grid(last, request.side).flatten(2).transpose(1, 2).half().numpy()
    if request.needs == "dense":
        for level, values in enumerate(features.maps):
            arrays[f"map{level}"] = values.cpu()[rows].half().numpy()
    return {name: np.ascontiguousarray(values) for name, values in arrays.items()}


def _grid(last: Tensor, side: int) -> Tensor:
    """[B, C, side, side]: averaged where the map is finer, interpolated where it is coarser."""
    if min(last.shape[-2:]) >= side:
        return F.adaptive_avg_pool2d(last, side)
    return F.interpolate(last, size=(side, side), mode="bilinear", align_corners=False)


def embed_locally(
    store: Store, corpus: Corpus, encoders: Sequence[Encoder], requests: Sequence[Request]
) -> Embedded:
    """Everything that is missing, in this process."""
    digest = corpus.card["manifest_digest"]
    work = missing_work(store, encoders, requests, digest)
    images, faults = 0, {}
    if work:
        index, rows = index_of(corpus, requests)
        embedder = Embedder(store, requests, index, rows, digest, torch.device("cpu"), 0)
        for each in work:
            done, fault = embedder.try_run(each)
            images += done
            if fault is not None:
                faults[each.encoder.cell] = fault
    close(store, encoders, requests, digest)
    return Embedded(images=images, faults=faults)
