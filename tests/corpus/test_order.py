import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radsweep.corpus.order import positions_to_rows


@pytest.mark.parametrize("images", [*range(1, 70), 127, 128, 129, 1000, 4097])
def test_each_visit_shows_every_image_once(images: int) -> None:
    rows = positions_to_rows(np.arange(3 * images), images, seed=5).reshape(3, images)
    assert (np.sort(rows, axis=1) == np.arange(images)).all()


@settings(max_examples=30, deadline=None)
@given(images=st.integers(1, 10**9), seed=st.integers(0, 2**64 - 1), data=st.data())
def test_a_position_has_its_row_whatever_is_asked_beside_it(
    images: int, seed: int, data: st.DataObject
) -> None:
    positions = np.array(data.draw(st.lists(st.integers(0, 2**50), min_size=1, max_size=9)))
    together = positions_to_rows(positions, images, seed)
    alone = [
        positions_to_rows(positions[i : i + 1], images, seed)[0] for i in range(len(positions))
    ]
    assert together.tolist() == alone
    assert ((together >= 0) & (together < images)).all()


@pytest.mark.parametrize("images", [3, 10, 100])
def test_over_many_visits_every_image_comes_first_about_equally_often(images: int) -> None:
    visits = 40_000
    first = positions_to_rows(np.arange(visits) * images, images, seed=1)
    counts = np.bincount(first, minlength=images)
    expected = visits / images
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    # Mean is images - 1, variance twice that; five standard deviations.
    assert chi_square < images - 1 + 5 * np.sqrt(2 * (images - 1))


def test_neighbouring_positions_are_not_neighbouring_rows() -> None:
    rows = positions_to_rows(np.arange(10_000), 10_000, seed=0)
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(rows, np.arange(10_000))[0, 1]) < 0.05


def test_another_seed_or_visit_is_another_order() -> None:
    one, other = (positions_to_rows(np.arange(200), 100, seed=seed) for seed in (0, 1))
    assert (one[:100] != one[100:]).any()
    assert (one != other).any()


def test_the_order_is_pinned() -> None:
    # Cells that are half trained must go on in the order they began with.
    assert positions_to_rows(np.arange(10), 10, seed=7).tolist() == [6, 8, 3, 1, 9, 2, 4, 7, 0, 5]
