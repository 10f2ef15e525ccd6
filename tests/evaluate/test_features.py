from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

from radsweep.corpus.manifest import Corpus
from radsweep.corpus.reader import Reader
from radsweep.errors import StoreError
from radsweep.evaluate import features
from radsweep.evaluate.embedder import Embedder, embed_locally, load_encoder
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.features import Request, block_file, load_features, missing_work
from radsweep.evaluate.trial import make_task
from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.evaluate import toy


def _encoders(store: Store) -> list[Encoder]:
    return [Encoder.of(cell, CellStore(store, cell.name).record()) for cell in toy.sweep().cells()]


def _requests(corpus: Corpus) -> list[Request]:
    test = make_task("findings").data(corpus, toy.protocol()).test
    train = make_task("lines_tubes_seg").data(corpus, toy.protocol()).train
    return [
        Request.of(test, "pooled", 0),
        Request.of(train, "tokens", 2),
        Request.of(train, "dense", 0),
    ]


def test_features_are_what_the_encoder_says_of_each_image(store: Store) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    encoder, requests = _encoders(store)[0], _requests(corpus)
    embed_locally(store, corpus, [encoder], requests)
    backbone = load_encoder(store, encoder, torch.device("cpu"))
    reader = Reader(store, features.index_table(corpus.manifest))
    for request in requests:
        pixels = np.stack([example.pixels for example in reader.examples(request.rows)])
        with torch.inference_mode():
            said = backbone.features(torch.from_numpy(pixels)[:, None])
        found = load_features(store, encoder, request, "toy")
        np.testing.assert_allclose(found.pooled, said.pooled, atol=1e-5)
        np.testing.assert_allclose(found.mean, said.mean, atol=1e-5)
        if request.needs == "dense":
            assert len(found.maps) == 4
            np.testing.assert_allclose(found.maps[1], said.maps[1], atol=1e-2)
        if request.needs == "tokens":
            assert found.tokens is not None and found.maps == ()
            corner = said.maps[-1][:, :, :2, :2].mean(dim=(2, 3))
            np.testing.assert_allclose(found.tokens[:, 0], corner, atol=1e-2)


def test_an_encoder_that_was_embedded_is_not_run_again(store: Store) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    requests, encoders = _requests(corpus), _encoders(store)
    images = len(np.unique(np.concatenate([request.rows for request in requests])))
    assert embed_locally(store, corpus, encoders, requests).images == 2 * images
    assert embed_locally(store, corpus, encoders, requests).images == 0


def test_a_killed_pass_goes_on_with_the_blocks_that_are_missing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "BLOCK_ROWS", 50)
    corpus = Corpus.open(store, toy.CORPUS)
    encoder, request = _encoders(store)[0], _requests(corpus)[2]
    embed_locally(store, corpus, [encoder], [request])
    whole = load_features(store, encoder, request, "toy")
    key = request.key(encoder, "toy")
    assert len(request.blocks) > 1
    store.delete(f"features/{key}/DONE")
    store.delete(block_file(key, request.blocks[-1]))
    work = missing_work(store, [encoder], [request], "toy")
    assert [each.block for each in work] == request.blocks[-1:]
    with pytest.raises(StoreError, match="not in the store"):
        load_features(store, encoder, request, "toy")
    embed_locally(store, corpus, [encoder], [request])
    again = load_features(store, encoder, request, "toy")
    assert np.array_equal(whole.pooled, again.pooled)
    assert np.array_equal(whole.maps[3], again.maps[3])


def test_maps_lie_in_parts_and_a_part_that_is_missing_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    encoder, requests = _encoders(store)[0], _requests(corpus)
    embed_locally(store, corpus, [encoder], requests)
    whole = load_features(store, encoder, requests[2], "toy")
    store.delete(f"features/{requests[2].key(encoder, 'toy')}/DONE")
    images = len(requests[2].rows)
    size = images // 3 + 1
    monkeypatch.setattr(features, "PART_IMAGES", {"dense": size})
    assert [parts for block in requests[2].blocks for parts in requests[2].parts(block)] == [
        *(size, size),
        images - 2 * size,
    ]
    assert len(missing_work(store, [encoder], requests, "toy")) == 1
    embed_locally(store, corpus, [encoder], requests)
    again = load_features(store, encoder, requests[2], "toy")
    assert np.array_equal(whole.mean, again.mean)
    for one, other in zip(whole.maps, again.maps, strict=True):
        assert np.array_equal(one, other)


def test_maps_that_this_machine_s_disk_has_no_room_for_are_refused_by_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    encoder, request = _encoders(store)[0], _requests(corpus)[2]
    embed_locally(store, corpus, [encoder], [request])
    # What is written there fails as on a disk that is full.
    monkeypatch.setattr(features.tempfile, "TemporaryFile", partial(open, "/dev/full", "wb"))
    with pytest.raises(StoreError, match="set TMPDIR to a folder on a larger disk"):
        load_features(store, encoder, request, "toy")


def test_threads_that_decode_ahead_change_no_feature(store: Store) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    encoder, requests = _encoders(store)[0], _requests(corpus)
    embed_locally(store, corpus, [encoder], requests)
    files = {block_file(request.key(encoder, "toy"), 0): request for request in requests}
    plain = {file: store.read_bytes(file) for file in files}
    index, rows = features.index_of(corpus, requests)
    for readers in (1, 3):
        embedder = Embedder(store, requests, index, rows, "toy", torch.device("cpu"), readers)
        for file in files:
            store.delete(file)
        assert (
            embedder.try_run(features.Work(encoder=encoder, block=0, requests=(0, 1, 2)))[1] is None
        )
        assert {file: store.read_bytes(file) for file in files} == plain


def test_features_are_named_by_weights_preprocessing_kind_and_images(store: Store) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    one, other = _encoders(store)
    pooled, tokens, dense = _requests(corpus)
    keys = {
        pooled.key(one, "toy"),
        pooled.key(other, "toy"),
        pooled.key(one, "toy@2"),
        tokens.key(one, "toy"),
        dense.key(one, "toy"),
    }
    assert len(keys) == 5
    twin = Encoder(cell="another", digest=one.digest, recipe=one.recipe)
    assert pooled.key(twin, "toy") == pooled.key(one, "toy")


def test_x_rays_of_another_size_are_resized_to_the_recipe_s(store: Store) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    large = toy.RECIPE.__class__(**{**vars(toy.RECIPE), "image_size": 64})
    cell = toy.sweep().cells()[0].__class__(**{**vars(toy.sweep().cells()[0]), "recipe": large})
    toy.write_cell(store, cell, 5)
    encoder = Encoder.of(cell, CellStore(store, cell.name).record())
    request = _requests(corpus)[2]
    embed_locally(store, corpus, [encoder], [request])
    assert load_features(store, encoder, request, "toy").maps[0].shape[2:] == (8, 8)


def test_masked_tasks_read_masks_of_the_right_image(store: Store) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    data = make_task("lines_tubes_seg").data(corpus, toy.protocol())
    assert data.labels == toy.MASKS
    labels = corpus.manifest.select("tube_ett", "tube_cvc").to_numpy()
    for split in (data.train, data.val, data.test):
        drawn = np.asarray(split.targets).any(axis=(2, 3))
        assert (drawn == labels[split.rows].astype(bool)).all()
        assert (
            corpus.manifest["image_id"].gather(pl.Series(split.rows)).to_list() == split.image_ids
        )


def test_an_encoder_that_cannot_be_read_leaves_the_features_of_the_others_alone(
    store: Store,
) -> None:
    corpus = Corpus.open(store, toy.CORPUS)
    encoders, requests = _encoders(store), _requests(corpus)
    store.delete(CellStore(store, encoders[0].cell).path("encoder.safetensors"))
    embedded = embed_locally(store, corpus, encoders, requests)
    assert list(embedded.faults) == [encoders[0].cell]
    assert "encoder.safetensors is not in the store" in embedded.faults[encoders[0].cell]
    assert len(load_features(store, encoders[1], requests[0], "toy")) == len(requests[0].rows)
    assert not store.exists(f"features/{requests[0].key(encoders[0], 'toy')}/DONE")
