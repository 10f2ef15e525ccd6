"""Patch-similarity maps on the dashboard: only where films may be shown, once, and of the truth."""

import base64
import dataclasses
import io

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.embedder import load_encoder
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.patch_similarity import patch_similarity
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep import run
from radsweep.sweep.alike import (
    COLOURS,
    GAP_PIXELS,
    HEAD_PIXELS,
    LABEL_PIXELS,
    TILE_PIXELS,
    _recipe,
)
from radsweep.sweep.films import films_of
from radsweep.sweep.similarity import (
    FILMS,
    SIMILARITY,
    example_films,
    keep_similarity,
    made_of,
    similarity_file,
)
from tests.evaluate import toy

SHOWN = dataclasses.replace(toy.sweep(), may_show_images=True)


@pytest.fixture
def done(tmp_path: str) -> Store:
    store = Store(str(tmp_path))
    toy.write_corpus(store)
    for cell in SHOWN.cells():
        toy.write_cell(store, cell, seed=cell.subset.images)
    return store


def test_nothing_is_computed_of_films_that_may_not_be_shown(done: Store) -> None:
    keep_similarity(toy.sweep(), done)
    assert not done.exists(similarity_file(SHOWN.name))


def test_the_query_lies_on_a_line_or_tube_of_a_test_film(done: Store) -> None:
    corpus = Corpus.open(done, toy.CORPUS)
    films = example_films(corpus)
    assert len(films) == FILMS
    test = set(corpus.manifest.filter(split="test")["image_id"])
    for image, pixels, (row, column) in films:
        assert image in test
        # The toy paints its tubes 120 brighter than a ground of about 60.
        assert pixels[row, column] > 130
    again = [(image, query) for image, _, query in example_films(corpus)]
    assert again == [(image, query) for image, _, query in films]


def test_maps_are_those_of_the_encoders_and_are_computed_once(done: Store) -> None:
    keep_similarity(SHOWN, done)
    maps = done.read_table(similarity_file(SHOWN.name))
    assert maps.schema == SIMILARITY
    films = {
        image: (px, query) for image, px, query in example_films(Corpus.open(done, toy.CORPUS))
    }
    assert maps.select("image_id", "cell").n_unique() == len(films) * len(SHOWN.cells())
    cell = SHOWN.cells()[1]
    encoder = Encoder.of(cell, CellStore(done, cell.name).record())
    model = load_encoder(done, encoder, torch.device("cpu"))
    for row in maps.filter(cell=cell.name).iter_rows(named=True):
        pixels, query = films[row["image_id"]]
        assert query == (row["query_row"], row["query_column"])
        expected = patch_similarity(model, pixels, query)[row["level"]]
        found = np.array(row["values"], dtype=np.float32).reshape(row["rows"], row["columns"])
        assert np.array_equal(found, expected)
    marked = maps.with_columns(query_row=pl.lit(-1, dtype=pl.Int64))
    done.write_table(similarity_file(SHOWN.name), marked)
    keep_similarity(SHOWN, done)
    assert done.read_table(similarity_file(SHOWN.name)).equals(marked)


def test_the_page_shows_each_map_in_its_place(done: Store) -> None:
    keep_similarity(SHOWN, done)
    (block,) = films_of(SHOWN, done)
    assert len(block.films) == FILMS
    maps = done.read_table(similarity_file(SHOWN.name))
    picture = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(block.films[0].picture.split(",", 1)[1])))
    )
    image = maps["image_id"][0]
    for i, cell in enumerate(SHOWN.cells()):
        for row in maps.filter(image_id=image, cell=cell.name).iter_rows(named=True):
            values = np.array(row["values"]).reshape(row["rows"], row["columns"])
            step = TILE_PIXELS + GAP_PIXELS
            top, left = HEAD_PIXELS + step * i, LABEL_PIXELS + step * (1 + row["level"])
            tile = picture[top : top + TILE_PIXELS, left : left + TILE_PIXELS]
            middle = (np.arange(row["rows"]) + 0.5) * TILE_PIXELS / row["rows"]
            across = (np.arange(row["columns"]) + 0.5) * TILE_PIXELS / row["columns"]
            seen = tile[middle.astype(int)][:, across.astype(int)]
            assert np.array_equal(seen, COLOURS[(values.clip(0, 1) * 255).round().astype(int)])
    assert films_of(toy.sweep(), done) == ()


def test_maps_of_another_corpus_or_of_other_encoders_are_not_shown(done: Store) -> None:
    keep_similarity(SHOWN, done)
    said = f"sweeps/{SHOWN.name}.similarity.json"
    of = done.read_json(said)
    done.write_json(said, {"of": "something else"})
    assert films_of(SHOWN, done) == ()
    keep_similarity(SHOWN, done)
    assert done.read_json(said) == of and len(films_of(SHOWN, done)) == 1
    assert made_of(dataclasses.replace(SHOWN, protocol=None), done) is None
    elsewhere = dataclasses.replace(toy.protocol(), corpus="other@1")
    assert made_of(dataclasses.replace(SHOWN, protocol=elsewhere), done) is None


def test_maps_that_fail_are_told_and_do_not_cost_the_run_its_end(
    done: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no memory for this encoder")

    monkeypatch.setattr(run, "keep_similarity", fails)
    assert run._keep_maps(SHOWN, done) == [
        ("patch-similarity maps", "RuntimeError: no memory for this encoder")
    ]


def test_two_starts_of_one_paradigm_have_a_board_each(done: Store) -> None:
    other = dataclasses.replace(toy.RECIPE, start_from="cell:another")
    cells = [dataclasses.replace(cell, recipe=other) for cell in SHOWN.cells()]
    both = (*SHOWN.cells(), *cells)
    assert {_recipe(cell, both) for cell in both} == {"clip from random", "clip from cell:another"}
    assert {_recipe(cell, SHOWN.cells()) for cell in SHOWN.cells()} == {"clip"}
