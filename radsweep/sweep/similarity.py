"""Patch-similarity maps of a few films: what each encoder takes to be alike, for the dashboard.

Only of corpora that may be shown (``Sweep.may_show_images``). The query lies on a line or tube
where the film has one: the structures that dense features are for.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from radsweep import __version__
from radsweep.corpus.manifest import Corpus
from radsweep.evaluate.embedder import load_encoder
from radsweep.evaluate.encoders import Encoder
from radsweep.evaluate.patch_similarity import patch_similarity
from radsweep.evaluate.wanted import scored_corpus
from radsweep.keys import key_of, seed_of
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.layout import sweep_file
from radsweep.store.record import CellStore
from radsweep.sweep.pictures import read_films, reader_of

FILMS = 2
CANDIDATES = 40
"""Films that are looked at for a line or tube."""
SIMILARITY = pl.Schema(
    {
        "image_id": pl.String(),
        "cell": pl.String(),
        "level": pl.Int64(),
        "rows": pl.Int64(),
        "columns": pl.Int64(),
        "query_row": pl.Int64(),
        "query_column": pl.Int64(),
        "values": pl.List(pl.Float32()),
    }
)
"""One row per film, cell and level; ``values`` is the map, row by row."""


def similarity_file(sweep: str) -> str:
    """In the store: the maps of a sweep."""
    return sweep_file(sweep, "similarity.parquet")


def shown_cells(sweep: Sweep, store: Store) -> tuple[Cell, ...]:
    """Of each recipe the open weights, the smallest and the largest scale; first seed, if done."""
    ends = {0, sweep.images[0], sweep.images[-1]}
    wanted = [
        cell
        for cell in sweep.cells()
        if cell.subset.images in ends and (cell.is_baseline or cell.seed == sweep.seeds[0])
    ]
    return tuple(cell for cell in wanted if CellStore(store, cell.name).is_done)


def made_of(sweep: Sweep, store: Store) -> dict[str, str] | None:
    """What the maps of the sweep as it stands are made of; None where none are to be made.

    Only of the sweep's own corpus, which alone ``may_show_images`` speaks of.
    """
    protocol = sweep.protocol
    if not sweep.may_show_images or protocol is None:
        return None
    cells = shown_cells(sweep, store)
    if scored_corpus(sweep, protocol) != sweep.corpus or all(cell.is_baseline for cell in cells):
        return None
    digests = [CellStore(store, cell.name).record().encoder_digest for cell in cells]
    return {"of": key_of([__version__, sweep.corpus, [cell.name for cell in cells], digests])}


def kept_maps(sweep: Sweep, store: Store) -> pl.DataFrame | None:
    """The maps in the store, if they are those of the sweep as it stands."""
    wanted, said = made_of(sweep, store), sweep_file(sweep.name, "similarity.json")
    if wanted is None or not store.exists(said) or store.read_json(said) != wanted:
        return None
    return store.read_table(similarity_file(sweep.name))


def keep_similarity(sweep: Sweep, store: Store) -> None:
    """Compute the maps of films that may be shown, unless these very encoders were asked before.

    Raises StoreError or StreamError where films or encoders cannot be read.
    """
    wanted, said = made_of(sweep, store), sweep_file(sweep.name, "similarity.json")
    if wanted is None or (store.exists(said) and store.read_json(said) == wanted):
        return
    maps = similarity_maps(Corpus.open(store, sweep.corpus), store, shown_cells(sweep, store))
    store.write_table(similarity_file(sweep.name), maps)
    store.write_json(said, wanted)


def example_films(corpus: Corpus) -> list[tuple[str, NDArray[np.uint8], tuple[int, int]]]:
    """Image id, pixels uint8 [H, W] and query pixel (row, column) of a few frontal test films.

    In a keyed order of the images, those with a known line or tube before the others. The query is
    the middle pixel of the tube's mask, along its rows, or the middle of the film.
    """
    test = corpus.manifest.filter(pl.col("split") == "test", pl.col("view") == "frontal")
    table = test.with_columns(
        drawn=pl.col("image_id").map_elements(
            lambda image: seed_of("similarity", image) % 2**62, return_dtype=pl.Int64
        )
    ).sort("drawn")
    order = [*table.filter(pl.col("mask_offset").is_not_null())["image_id"][:CANDIDATES]]
    order += [image for image in table["image_id"][:CANDIDATES] if image not in order]
    rows = table.filter(pl.col("image_id").is_in(order)).drop("drawn")
    reader, place = reader_of(corpus, order)
    masked = set(rows.filter(pl.col("mask_offset").is_not_null())["image_id"])
    with_tube, without = [], []
    for image in order:
        (pixels,) = read_films(reader, [place[image]])
        query = (pixels.shape[0] // 2, pixels.shape[1] // 2)
        if image in masked:
            (masks,) = reader.masks(np.array([place[image]]))
            at = np.argwhere(masks.any(axis=0))
            if len(at):
                row, column = (int(value) for value in at[len(at) // 2])
                with_tube.append((image, pixels, (row, column)))
                if len(with_tube) == FILMS:
                    break
                continue
        without.append((image, pixels, query))
    return [*with_tube, *without][:FILMS]


def similarity_maps(corpus: Corpus, store: Store, cells: Sequence[Cell]) -> pl.DataFrame:
    """``SIMILARITY`` of each cell's encoder on the same few test films."""
    films = example_films(corpus)
    rows = []
    for cell in cells:
        encoder = Encoder.of(cell, CellStore(store, cell.name).record())
        model = load_encoder(store, encoder, torch.device("cpu"))
        for image_id, pixels, query in films:
            maps = patch_similarity(model, pixels, query)
            for level, values in enumerate(maps):
                rows.append(
                    {
                        **{"image_id": image_id, "cell": cell.name, "level": level},
                        **{"rows": values.shape[0], "columns": values.shape[1]},
                        **{"query_row": query[0], "query_column": query[1]},
                        "values": values.ravel().tolist(),
                    }
                )
    return pl.DataFrame(rows, schema=SIMILARITY)
