"""Finished cells of the toy sweep that kept a text side, with random weights."""

import dataclasses
from pathlib import Path

from safetensors.torch import load_file

from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.encoders import Encoder
from radsweep.paradigms.clip import Clip
from radsweep.specs import Cell
from radsweep.store import Store
from radsweep.store.record import CellStore
from tests.evaluate import toy

TOWER = {
    "text_width": 32,
    "text_layers": 1,
    "text_heads": 2,
    "text_length": 48,
    "embed_dim": 24,
    "vocabulary_size": 300,
    "text_pooling": "mean",
}

RECIPE = dataclasses.replace(toy.RECIPE, settings=TOWER)


def write_cell(store: Store, cell: Cell, seed: int) -> Clip:
    """A finished cell with random weights and its text side."""
    toy.write_cell(store, cell, seed)
    folder = Path(store.full(CellStore(store, cell.name).path("encoder.safetensors"))).parent
    reports = Corpus.open(store, toy.CORPUS).manifest["report"].to_list()
    paradigm = Clip.build(cell.recipe, None, reports)
    paradigm.encoder.load(load_file(folder / "encoder.safetensors"))
    paradigm.save(folder)
    return paradigm.eval()


def encoder_of(store: Store, cell: Cell) -> Encoder:
    """What a finished cell left, for those who score it."""
    return Encoder.of(cell, CellStore(store, cell.name).record())
