"""Example films on the dashboard: only where they may be shown, by rank, and with no identifier."""

import base64
import dataclasses
import io

import numpy as np
import polars as pl
from PIL import Image

from radsweep.dashboards.blocks import Film
from radsweep.dashboards.page import render
from radsweep.dashboards.pages import book
from radsweep.evaluate.wanted import wanted
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.sweep.dash import keep_page, load_tables, page_file
from radsweep.sweep.films import GAP_PIXELS, LARGEST_PIXELS, RANKS, films_of
from radsweep.sweep.results import read_scores
from radsweep.sweep.run import keep_fits
from tests.evaluate import toy

SHOWN = dataclasses.replace(toy.sweep(), may_show_images=True)


def pixels(film: Film) -> np.ndarray:
    kind, data = film.picture.split(",", 1)
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def predictions(store: Store, task: str) -> pl.DataFrame:
    trained = [cell for cell in SHOWN.cells() if not cell.is_baseline]
    row = next(row for row in wanted(store, SHOWN, trained) if row.unit.task == task)
    return store.read_table(predictions_file(row.trial))


def test_films_are_shown_only_where_the_sweep_says_they_may_be(scored: Store) -> None:
    assert films_of(toy.sweep(), scored) == ()
    closed = render(book(load_tables(toy.sweep(), scored)))
    assert "are not shown, as is right for patients" in closed
    assert "<img" not in closed
    assert '<img src="data:image/png' in render(book(load_tables(SHOWN, scored)))


def test_tubes_are_painted_where_they_are_and_films_come_by_rank(scored: Store) -> None:
    drawn, _ = films_of(SHOWN, scored)
    assert [film.rank for film in drawn.films] == list(RANKS)
    values = [float(dict(film.lines)["Dice"]) for film in drawn.films]
    assert values == sorted(values, reverse=True)
    dice = predictions(scored, "lines_tubes_seg").filter(pl.col("target") > 0)
    means = dice.group_by("image_id").agg(pl.col("dice").mean())["dice"].sort(descending=True)
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


def test_a_report_is_shown_with_what_it_found_missed_and_invented(scored: Store) -> None:
    _, written = films_of(SHOWN, scored)
    texts = dict(predictions(scored, "reports").select("target", "prediction").rows())
    for film in written.films:
        lines = dict(film.lines)
        true = lines["The radiologist"]
        assert true in texts
        assert pixels(film).shape[2] == 3
        named = {"effusion": "Left pleural effusion.", "nodule": "There is a nodule."}
        for finding, sentence in named.items():
            is_known = finding in lines["Found"] or finding in lines["Missed"]
            assert is_known == (sentence in true), lines


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
    assert keep_page(SHOWN, scored) is None
    keep_fits(SHOWN, scored, read_scores(SHOWN, scored))
    assert keep_page(SHOWN, scored) is not None
    page = scored.read_bytes(page_file(SHOWN.name)).decode()
    assert page.startswith("<!doctype html>") and '<img src="data:image/png' in page
    assert keep_page(SHOWN, scored) is None
