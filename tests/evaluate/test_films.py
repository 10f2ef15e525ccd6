"""Example films on the dashboard: only where they may be shown, by rank, and with no identifier."""

import base64
import dataclasses
import io
import os

import numpy as np
import polars as pl
from PIL import Image

from radsweep.corpus.manifest import shard_file
from radsweep.dashboards.blocks import Film
from radsweep.dashboards.page import render
from radsweep.dashboards.pages import book
from radsweep.evaluate.wanted import wanted
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.sweep.dash import keep_page, load_tables, page_file
from radsweep.sweep.films import GAP_PIXELS, LARGEST_PIXELS, RANKS, films_of
from radsweep.sweep.results import read_scores
from radsweep.sweep.run import keep_answers
from radsweep.tasks.statements import stated
from tests.evaluate import toy

SHOWN = dataclasses.replace(toy.sweep(), may_show_images=True)


def pixels(film: Film) -> np.ndarray:
    kind, data = film.picture.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def predictions(store: Store, task: str, is_baseline: bool = False) -> pl.DataFrame:
    cells = [cell for cell in SHOWN.cells() if cell.is_baseline == is_baseline]
    row = next(row for row in wanted(store, SHOWN, cells) if row.unit.task == task)
    return store.read_table(predictions_file(row.trial))


def by_image(table: pl.DataFrame) -> pl.DataFrame:
    """Mean Dice, best first, of films with a tube; an invented tube counts 0."""
    rows = []
    for (image,), one in table.group_by("image_id"):
        if one["target"].max() > 0:
            known = [value for value in one["dice"] if value is not None]
            invented = one.filter(pl.col("target") == 0, pl.col("prediction") > 0)
            assert all(value == 0 for value in invented["dice"])
            rows.append((image, sum(known) / len(known)))
    frame = pl.DataFrame(rows, schema=["image_id", "dice"], orient="row")
    return frame.sort("dice", "image_id", descending=[True, False])


def test_films_are_shown_only_where_the_sweep_says_they_may_be(scored: Store) -> None:
    assert films_of(toy.sweep(), scored) == ()
    closed = render(book(load_tables(toy.sweep(), scored)))
    assert "are not shown, as is right for patients" in closed
    assert "<img" not in closed
    assert '<img src="data:image/png' in render(book(load_tables(SHOWN, scored)))


def test_another_corpus_that_is_scored_on_is_never_shown(scored: Store) -> None:
    assert SHOWN.protocol is not None
    protocol = dataclasses.replace(SHOWN.protocol, corpus=toy.CORPUS)
    assert films_of(dataclasses.replace(SHOWN, corpus="other@1", protocol=protocol), scored) == ()


def test_a_page_of_numbers_stands_where_the_films_cannot_be_read(scored: Store) -> None:
    os.remove(scored.full(shard_file(toy.CORPUS, 0)))
    text = render(book(load_tables(SHOWN, scored)))
    assert "The films cannot be shown:" in text and "<img" not in text


def test_tubes_are_painted_where_they_are_and_films_come_by_rank(scored: Store) -> None:
    drawn, _ = films_of(SHOWN, scored)
    assert [film.rank for film in drawn.films] == list(RANKS)
    values = [float(dict(film.lines)["Dice"]) for film in drawn.films]
    assert values == sorted(values, reverse=True)
    means = by_image(predictions(scored, "lines_tubes_seg"))["dice"]
    assert values == [
        float(f"{means[round(share * (len(means) - 1))]:.2f}") for share in RANKS.values()
    ]
    side = LARGEST_PIXELS // toy.SIZE * toy.SIZE
    for film in drawn.films:
        picture = pixels(film)
        # Film, truth, open weights, encoder.
        assert picture.shape == (side, 4 * side + 3 * GAP_PIXELS, 3)
        plain, truth = picture[:, :side], picture[:, side + GAP_PIXELS :][:, :side]
        coloured = (plain != truth).any(axis=2)
        there = dict(film.lines)["There"].split(", ")
        expected = np.zeros((toy.SIZE, toy.SIZE), dtype=bool)
        expected[:18, 15:17] |= "ETT" in there
        expected[2:20, 5:7] |= "CVC" in there
        times = side // toy.SIZE
        assert np.array_equal(coloured, expected.repeat(times, 0).repeat(times, 1))


def test_the_last_panel_is_the_encoders_and_the_one_before_it_the_open_weights(
    scored: Store,
) -> None:
    drawn, _ = films_of(SHOWN, scored)
    side = LARGEST_PIXELS // toy.SIZE * toy.SIZE
    tables = [predictions(scored, "lines_tubes_seg", is_baseline) for is_baseline in (True, False)]
    ranked = by_image(tables[1])["image_id"]
    for film, share in zip(drawn.films, RANKS.values(), strict=True):
        image = ranked[round(share * (len(ranked) - 1))]
        picture = pixels(film)
        for place, table in zip((2, 3), tables, strict=True):
            first = place * (side + GAP_PIXELS)
            coloured = (picture[:, :side] != picture[:, first : first + side]).any(axis=2)
            times = side // toy.SIZE
            areas = table.filter(image_id=image).select("prediction").sum().item()
            # Where two structures are drawn over one another, their pixels are counted twice.
            assert coloured[::times, ::times].sum() <= areas
            assert (coloured.sum() == 0) == (areas == 0)


def test_a_report_is_shown_with_what_it_found_missed_and_invented(scored: Store) -> None:
    _, written = films_of(SHOWN, scored)
    texts = dict(predictions(scored, "reports").select("target", "prediction").rows())
    for film in written.films:
        lines = dict(film.lines)
        true = lines["The radiologist"]
        assert true in texts
        assert pixels(film).shape[2] == 3
        said = next(one for name, one in lines.items() if name.startswith("CLIP"))
        named = {"effusion": "left pleural effusion", "nodule": "there is a nodule"}
        for finding, words in named.items():
            is_true, is_said = words in true.lower(), stated(said).get(finding, 0) != 0
            assert (finding in lines["Found"]) == (is_true and is_said), lines
            assert (finding in lines["Missed"]) == (is_true and not is_said), lines
            assert (finding in lines["Invented"]) == (is_said and not is_true), lines


def test_no_identifier_is_on_the_page(scored: Store) -> None:
    page = render(book(load_tables(SHOWN, scored)))
    ids = {
        name
        for split, patients in toy.SPLITS.items()
        for patient in range(patients)
        for name in (f"{split}{patient:03d}", f"{split}{patient:03d}-0")
    }
    assert not [name for name in ids if name in page]


def test_a_run_leaves_its_page_once_for_the_same_scores(scored: Store) -> None:
    assert keep_page(SHOWN, scored) is not None
    keep_answers(SHOWN, scored, read_scores(SHOWN, scored))
    assert keep_page(SHOWN, scored) is not None
    page = scored.read_bytes(page_file(SHOWN.name)).decode()
    assert page.startswith("<!doctype html>") and '<img src="data:image/png' in page
    assert keep_page(SHOWN, scored) is None
    # A permission that was taken back takes the films off the page that lies in the store.
    assert keep_page(toy.sweep(), scored) is not None
    assert "<img" not in scored.read_bytes(page_file(SHOWN.name)).decode()
