import inspect
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import ray
import ray.train
from ray.data._internal.cluster_autoscaler import rate_based_cluster_autoscaler
from ray.data._internal.execution import streaming_executor, streaming_executor_state
from ray.data._internal.execution.operators import task_pool_map_operator
from ray.data._internal.logical.rules import configure_map_task_memory
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from radsweep.corpus.batch import batch_positions, batch_strata, example_generator, make_batch
from radsweep.corpus.copies import VARIABLE
from radsweep.corpus.example import Example, Stratum, Viewer, Views
from radsweep.corpus.manifest import Corpus, index_table, shard_file
from radsweep.corpus.pool import Pool
from radsweep.corpus.reader import Reader
from radsweep.corpus.stream import TASK_STEPS, local_stream, stream, task_steps
from radsweep.corpus.subset import SubsetIndex, select
from radsweep.errors import StreamError
from radsweep.pretrain.nodes import cpus_left
from radsweep.specs import Subset
from radsweep.store import Store

# Ray deprecates settings of its own context, and says so when the context is copied.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

WHOLE = {
    "seed": 2**63 + 11,
    "batch_size": 6,
    "world_size": 1,
    "rank": 0,
    "first_step": 0,
    "steps": 37,
}


@pytest.fixture(scope="module")
def subset(toy: Corpus) -> SubsetIndex:
    return select(toy, Subset(corpus="toy@1", images=50))


def assert_same(one: list[dict], other: list[dict]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            assert np.array_equal(a[name], b[name])


def union(ranks: list[list[dict]]) -> list[dict]:
    return [
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*ranks, strict=True)
    ]


def test_masks_are_one_plane_per_class_and_unknown_ones_are_refused(toy: Corpus) -> None:
    reader = Reader(toy.store, index_table(toy.manifest))
    masks = reader.masks([1, 2, 7])
    assert masks.shape == (3, 2, 24, 24)
    assert masks.dtype == np.uint8
    # The toy's mask of image n holds n % 4: bit 0 is the first class.
    assert masks[:, :, 0, 0].tolist() == [[1, 0], [0, 1], [1, 1]]
    with pytest.raises(StreamError, match="1 of 2 images have unknown masks"):
        reader.masks([1, 3])


def test_examples_carry_report_and_labels_with_missing_ones_kept_missing(toy: Corpus) -> None:
    examples = Reader(toy.store, index_table(toy.manifest)).examples([7, 0, 1])
    assert [example.image_id for example in examples] == ["i000007", "i000000", "i000001"]
    assert [example.report for example in examples] == [None, None, "Report 1."]
    assert [example.labels for example in examples] == [
        {"finding_effusion": v} for v in (None, 1, 0)
    ]


def test_a_damaged_shard_is_named(write_toy_corpus: Callable[..., Corpus], tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    corpus = write_toy_corpus(store, "toy@1", images=5, size=24)
    path = Path(store.full(shard_file("toy@1", 0)))
    damaged = bytearray(path.read_bytes())
    damaged[80] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StreamError, match=r"corpora/toy@1/shards/00000.pack is damaged"):
        Reader(store, index_table(corpus.manifest)).examples([0])


def test_positions_of_all_ranks_are_the_global_batch() -> None:
    together = np.concatenate([batch_positions(5, 4, 3, rank) for rank in range(3)])
    assert together.tolist() == batch_positions(5, 12, 1, 0).tolist() == list(range(60, 72))


def test_random_numbers_differ_by_position_and_seed_and_are_pinned() -> None:
    draws = {
        example_generator(seed, at).integers(2**40)
        for seed in (0, 1, 2**63 + 1)
        for at in (0, 1, 2)
    }
    assert len(draws) == 9
    assert example_generator(3, 4).integers(1000, size=3).tolist() == [469, 985, 229]


def test_a_batch_has_each_stratum_once_in_an_order_of_its_own() -> None:
    strata = batch_strata(np.arange(60), 6, seed=3)
    batches = [tuple(one.index for one in strata[at : at + 6]) for at in range(0, 60, 6)]
    assert all(one.count == 6 for one in strata)
    assert all(sorted(batch) == list(range(6)) for batch in batches)
    assert len(set(batches)) > 7
    # Every image has every stratum in its turn: the mean over batches is near the middle.
    many = [one.index for one in batch_strata(np.arange(6000), 6, seed=3)]
    many = np.array(many).reshape(1000, 6)
    assert np.abs(many.mean(axis=0) - 2.5).max() < 4 * np.sqrt(35 / 12 / 1000)


def test_a_view_shows_another_crop_at_each_visit_of_its_image(
    store: Store, subset: SubsetIndex, crop_viewer: Callable
) -> None:
    reader = Reader(store, subset.table)
    visits = make_batch(np.arange(3 * subset.images), reader, crop_viewer(9), seed=1, batch_size=6)
    assert (
        len(np.unique(visits["left"].reshape(3 * subset.images, -1), axis=0)) > 2.9 * subset.images
    )


def test_ranks_together_and_resumed_runs_give_the_same_batches(
    store: Store, subset: SubsetIndex, crop_viewer: Callable
) -> None:
    viewer = crop_viewer(9)
    whole = list(local_stream(store, subset.table, viewer, **WHOLE))
    halves = [
        list(
            local_stream(
                store, subset.table, viewer, **WHOLE | {"batch_size": 3, "world_size": 2, "rank": r}
            )
        )
        for r in range(2)
    ]
    assert_same(union(halves), whole)
    assert_same(
        list(local_stream(store, subset.table, viewer, **WHOLE | {"first_step": 20})), whole[20:]
    )


@pytest.mark.parametrize(("first", "last", "places"), [(0, 1, 1), (5, 700, 3), (9, 40, 16)])
def test_tasks_cover_a_segment_once_and_the_first_are_short(
    first: int, last: int, places: int
) -> None:
    tasks = list(task_steps(first, last, places))
    assert [step for one, end in tasks for step in range(one, end)] == list(range(first, last))
    lengths = [end - one for one, end in tasks]
    rising = TASK_STEPS.bit_length() - 1
    assert all(length == 1 for length in lengths[:places])
    assert max(lengths) <= TASK_STEPS
    assert all(length == TASK_STEPS for length in lengths[rising * places : -1])


def test_what_the_stream_sets_of_ray_data_s_own_is_read_there() -> None:
    """A new Ray may rename what is set, and nothing else would fail."""
    read = {
        streaming_executor: (
            *("self._cluster_autoscaler.", "self._metadata_fetcher.", "self._topology"),
            "get_total_resources()",
        ),
        streaming_executor_state: ("WAIT_FOR_TASK_COMPLETION_TIMEOUT_S",),
        task_pool_map_operator: ("_next_data_task_idx",),
        configure_map_task_memory: ('"memory" not in dynamic_ray_remote_args',),
        rate_based_cluster_autoscaler: ("self._send_resource_request([])",),
    }
    for module, names in read.items():
        for name in names:
            assert inspect.getsource(module).count(name) > 0, f"{module.__name__}: {name}"


@pytest.mark.cluster
def test_ray_gives_the_local_batches_bit_for_bit_for_any_world_and_any_resume(
    small_ray: None, store: Store, subset: SubsetIndex, crop_viewer: Callable
) -> None:
    viewer = crop_viewer(9)
    whole = list(local_stream(store, subset.table, viewer, **WHOLE))
    assert_same(list(stream(store, subset.table, viewer, cpus=1, **WHOLE)), whole)
    halves = [
        list(
            stream(
                store,
                ray.put(subset.table),
                viewer,
                cpus=2,
                **WHOLE | {"batch_size": 3, "world_size": 2, "rank": r},
            )
        )
        for r in range(2)
    ]
    assert_same(union(halves), whole)
    assert_same(
        list(stream(store, subset.table, viewer, cpus=0.5, **WHOLE | {"first_step": 20})),
        whole[20:],
    )
    assert list(Path(os.environ[VARIABLE]).rglob("*.pack"))


@pytest.mark.cluster
def test_a_stream_without_end_starts_at_once_and_can_be_left(
    small_ray: None, store: Store, subset: SubsetIndex, crop_viewer: Callable
) -> None:
    endless = stream(store, subset.table, crop_viewer(9), cpus=1, **WHOLE | {"steps": 10_000_000})
    assert_same(
        list(islice(endless, 5)),
        list(islice(local_stream(store, subset.table, crop_viewer(9), **WHOLE), 5)),
    )
    endless.close()


@pytest.mark.cluster
def test_segments_follow_each_other_without_a_seam(
    small_ray: None,
    store: Store,
    subset: SubsetIndex,
    crop_viewer: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("radsweep.corpus.stream.SEGMENT_STEPS", 12)
    given = list(stream(store, subset.table, crop_viewer(9), cpus=1, **WHOLE))
    assert_same(given, list(local_stream(store, subset.table, crop_viewer(9), **WHOLE)))


@dataclass(frozen=True)
class SlowViewer:
    """Takes a hundredth of a second of nobody's CPU for an image."""

    crops: Viewer

    def __call__(self, example: Example, generator: np.random.Generator, stratum: Stratum) -> Views:
        time.sleep(0.01)
        return self.crops(example, generator, stratum)


@pytest.mark.cluster
def test_a_stream_grows_while_its_trainer_waits_and_shrinks_when_it_does_not(
    small_ray: None,
    store: Store,
    subset: SubsetIndex,
    crop_viewer: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("radsweep.corpus.pool.WINDOW_SECONDS", 2.0)
    pool, viewer, whole = Pool(least=1, most=2), crop_viewer(9), WHOLE | {"steps": 150}
    given, sizes = [], []
    for batch in stream(store, subset.table, SlowViewer(viewer), cpus=pool, **whole):
        given.append(batch)
        sizes.append(pool.cpus)
        # A batch takes 0.06 s to make: two tasks keep up with the first pace, one with the last.
        time.sleep(0.045 if len(given) < 100 else 0.4)
    assert_same(given, list(local_stream(store, subset.table, viewer, **whole)))
    assert sizes[0] == 1 and max(sizes) == 2 and sizes[-1] == 1


@pytest.mark.cluster
def test_a_grown_stream_gives_way_to_a_task_that_needs_more_than_its_own(
    small_ray: None,
    store: Store,
    subset: SubsetIndex,
    crop_viewer: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("radsweep.corpus.pool.WINDOW_SECONDS", 1.0)
    pool, endless = Pool(least=0.5, most=2), WHOLE | {"steps": 10_000_000}
    given = stream(
        store,
        subset.table,
        SlowViewer(crop_viewer(9)),
        cpus=pool,
        room=cpus_left,
        **endless,
    )
    until = time.monotonic() + 100
    while pool.cpus < 2 and time.monotonic() < until:
        next(given)
    assert pool.cpus == 2
    while ray.available_resources().get("CPU", 0) and time.monotonic() < until:
        next(given)
    # It would wait for as long as the stream keeps all CPUs.
    cell = ray.remote(num_cpus=1.5)(lambda: "done").remote()
    while not ray.wait([cell], timeout=0)[0] and time.monotonic() < until:
        next(given)
    assert ray.get(cell, timeout=1) == "done" and pool.cpus == 0.5
    given.close()


@pytest.mark.cluster
def test_damage_found_in_a_task_reaches_the_caller_as_a_stream_error(
    small_ray: None, write_toy_corpus: Callable[..., Corpus], tmp_path: Path, crop_viewer: Callable
) -> None:
    store = Store(str(tmp_path))
    corpus = write_toy_corpus(store, "toy@1", images=20, size=24)
    Path(store.full(shard_file("toy@1", 0))).write_bytes(b"x" * 100_000)
    with pytest.raises(StreamError, match="damaged"):
        list(stream(store, index_table(corpus.manifest), crop_viewer(9), cpus=1, **WHOLE))


@pytest.mark.cluster
def test_a_stream_runs_inside_a_task(
    small_ray: None, store: Store, subset: SubsetIndex, crop_viewer: Callable
) -> None:
    viewer = crop_viewer(9)

    @ray.remote(num_cpus=1)
    def train() -> list[dict]:
        return list(stream(store, subset.table, viewer, cpus=1, **WHOLE))

    assert_same(ray.get(train.remote()), list(local_stream(store, subset.table, viewer, **WHOLE)))


@pytest.mark.cluster
def test_a_stream_of_half_a_cpu_runs_where_trainers_leave_half_a_cpu(
    small_ray: None, store: Store, subset: SubsetIndex, crop_viewer: Callable
) -> None:
    viewer = crop_viewer(9)

    @ray.remote(num_cpus=1.5)
    class Trainer:
        """An actor, as Ray Train's are: a task that waits lends its CPUs out, an actor does not."""

        def train(self) -> list[dict]:
            return list(stream(store, subset.table, viewer, cpus=0.5, **WHOLE))

    trainer = Trainer.remote()
    given = ray.get(trainer.train.remote(), timeout=100)
    ray.kill(trainer)
    assert_same(given, list(local_stream(store, subset.table, viewer, **WHOLE)))


@pytest.mark.cluster
def test_a_stream_runs_inside_each_worker_of_ray_train(
    small_ray: None, store: Store, subset: SubsetIndex, crop_viewer: Callable, tmp_path: Path
) -> None:
    viewer = crop_viewer(9)

    def train() -> None:
        rank = ray.train.get_context().get_world_rank()
        share = WHOLE | {"batch_size": 3, "world_size": 2, "rank": rank}
        batches = list(stream(store, subset.table, viewer, cpus=0.5, **share))
        np.save(tmp_path / f"{rank}.npy", np.stack([batch["left"] for batch in batches]))

    TorchTrainer(
        train,
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(storage_path=str(tmp_path / "train"), name="stream"),
    ).fit()
    whole = np.stack(
        [batch["left"] for batch in local_stream(store, subset.table, viewer, **WHOLE)]
    )
    assert np.array_equal(
        np.concatenate([np.load(tmp_path / f"{r}.npy") for r in range(2)], axis=1), whole
    )
