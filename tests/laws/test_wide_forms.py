"""The wider forms are recovered, inverted, and tried on tables with many sizes only."""

import json

import numpy as np
import polars as pl
import pytest

from radsweep.laws.fit import fit
from radsweep.laws.forms import Form
from radsweep.laws.repetition import effective_images
from radsweep.laws.table import fit_table
from radsweep.laws.wide_forms import BROKEN, LOGIT_LINEAR, SHIFTED

IMAGES = np.geomspace(1e3, 1e7, 9)
KNOWN = {
    LOGIT_LINEAR: {"level": 3.0, "gain": 0.3},
    SHIFTED: {"floor": 0.1, "amplitude": 20.0, "shift_images": 3e4, "exponent": 0.4},
    BROKEN: {"amplitude": 0.9, "before": 0.05, "after": 0.5, "break_images": 1e5},
}


@pytest.mark.parametrize("form", KNOWN, ids=lambda form: form.name)
def test_a_known_wide_law_is_recovered_and_inverted(form: Form) -> None:
    theta = np.array([KNOWN[form][name] for name in form.parameters])
    errors = form(IMAGES, theta)
    found = fit(form, IMAGES, 1 - errors)
    assert found.theta == pytest.approx(KNOWN[form], rel=1e-3)
    rows = np.broadcast_to(theta, (len(errors), len(theta)))
    assert form.images_at(errors, rows) == pytest.approx(IMAGES, rel=1e-6)
    assert np.isinf(form.images_at(np.array([0.0]), theta[None])).all()


@pytest.mark.parametrize("form", KNOWN, ids=lambda form: form.name)
def test_a_long_table_chooses_the_form_it_was_made_of(form: Form) -> None:
    theta = np.array([KNOWN[form][name] for name in form.parameters])
    table = pl.DataFrame({"n": IMAGES, "score": 1 - form(IMAGES, theta)})
    chosen = fit_table(table, "n", "score").filter("chosen")
    assert chosen["form"].to_list() == [form.name]
    assert json.loads(chosen["theta"][0]) == pytest.approx(KNOWN[form], rel=1e-2)


def test_the_logit_law_never_leaves_the_range_of_a_score() -> None:
    far = LOGIT_LINEAR(np.array([1.0, 1e30]), np.array([3.0, 0.3]))
    assert ((far > 0) & (far < 1)).all()


def test_repeated_images_are_worth_less_than_fresh_ones_and_unseen_ones_nothing() -> None:
    unique = np.array([100.0, 100.0, 100.0, 100.0])
    seen = np.array([50.0, 100.0, 200.0, 1e9])
    worth = effective_images(unique, seen)
    assert worth[:2] == pytest.approx([50, 100])
    # Two passes: 1 + 15.39 (1 - exp(-1 / 15.39)) fresh passes, worked out by hand.
    assert worth[2] == pytest.approx(100 * (1 + 15.39 * (1 - np.exp(-1 / 15.39))))
    assert worth[3] == pytest.approx(100 * (1 + 15.39))


def test_a_curve_bent_by_repetition_is_straight_on_the_axis_of_effective_images() -> None:
    unique = np.geomspace(1e3, 1e6, 6)
    worth = effective_images(unique, np.full(6, 2e6))
    table = pl.DataFrame({"n": unique, "seen": [2e6] * 6, "score": 1 - 4 * worth**-0.25})
    bent = fit_table(table, "n", "score").filter(form="power law")
    straight = fit_table(table, "n", "score", seen="seen").filter(form="power law")
    assert json.loads(straight["theta"][0]) == pytest.approx({"amplitude": 4, "exponent": 0.25})
    assert straight["rmse"][0] < 1e-9 < 1e-4 < bent["rmse"][0]
