"""Ray Data around ``ingest``: one task per chunk of files."""

import io
import logging
import pickle
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl
import ray
import ray.data
from numpy.typing import NDArray
from ray.data import DataContext, ExecutionOptions

from radsweep.corpus.chunk import ChunkResult
from radsweep.corpus.contained import Containment
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import DEFAULT_CONTAINMENT, IngestSpec, ingest
from radsweep.store import Store

RETRIES_WARNING = "`ray_remote_args` is deprecated"
"""How Ray Data's complaint about ``max_retries`` begins."""


def ingest_with_ray(
    spec: IngestSpec,
    store: Store,
    patient_key: PatientKey,
    *,
    cpus_per_task: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
    containment: Containment = DEFAULT_CONTAINMENT,
    strict: bool = False,
) -> dict[str, Any]:
    """``ingest`` on the connected cluster: the same corpus, byte for byte, as without it.

    Args:
        spec: what to read, and into what.
        store: reachable from every node, as are the sources.
        patient_key: travels to the tasks in memory.
        cpus_per_task: how much of a CPU one chunk holds.
        progress: is given (files done, files in all) after each chunk.
        containment: how far one file may go.
        strict: stop at the first file that is refused, rather than quarantine it.

    Raises SpecError as ``ingest`` does.
    """

    def map_chunks(
        function: Callable[[int], ChunkResult], chunks: Sequence[int]
    ) -> Iterable[ChunkResult]:
        return _map(function, chunks, cpus_per_task)

    return ingest(
        spec,
        store,
        patient_key,
        map_chunks=map_chunks,
        progress=progress,
        containment=containment,
        strict=strict,
    )


def _map(
    function: Callable[[int], ChunkResult], chunks: Sequence[int], cpus_per_task: float
) -> Iterable[ChunkResult]:
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # The tables and the list of files are mapped by every task from shared memory.
    reference = ray.put(function)

    def run(numbers: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        result = ray.get(reference)(int(numbers["id"][0]))
        packed = pickle.dumps(
            (result.files, result.rows.serialize(), result.quarantine.serialize()), protocol=5
        )
        return {"result": np.array([packed], dtype=object)}

    context = DataContext.get_current().copy()
    context.execution_options = ExecutionOptions(preserve_order=True)
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    with DataContext.current(context), warnings.catch_warnings():
        # Two retries: what kills this process (no file does, since files are decoded in a child)
        # must not kill processes for ever, which is Ray Data's default (max_retries=-1). Ray 2.60
        # deprecates every remote option that ``map_batches`` does not name, and names none for
        # retries: no user can act on that.
        warnings.filterwarnings("ignore", RETRIES_WARNING, DeprecationWarning)
        data = ray.data.range(len(chunks), override_num_blocks=len(chunks)).map_batches(
            run, batch_size=1, num_cpus=cpus_per_task, max_retries=2
        )
    for row in data.iter_rows():
        files, rows, quarantine = pickle.loads(row["result"])
        yield ChunkResult(
            files=files,
            rows=pl.DataFrame.deserialize(io.BytesIO(rows)),
            quarantine=pl.DataFrame.deserialize(io.BytesIO(quarantine)),
        )
