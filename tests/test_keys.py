import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radsweep.keys import canonical_json, key_of, seed_of


@dataclass(frozen=True)
class Point:
    x: float
    label: str


def test_a_key_does_not_depend_on_the_order_of_names() -> None:
    assert key_of({"a": 1, "b": [2, 3]}) == key_of({"b": (2, 3), "a": 1})


def test_whole_floats_and_integers_are_one_number() -> None:
    assert key_of({"flops": 1e6}) == key_of({"flops": 1_000_000})


def test_a_dataclass_is_its_fields() -> None:
    assert canonical_json(Point(0.5, "é")) == '{"label":"\\u00e9","x":0.5}'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_cannot_say_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="cannot be part of an identity"):
        key_of({"x": value})


def test_objects_without_plain_values_are_refused() -> None:
    with pytest.raises(TypeError, match="no canonical JSON"):
        key_of({"x": object()})


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_equal_values_have_equal_keys(value: dict[str, object]) -> None:
    assert key_of(value) == key_of(dict(reversed(value.items())))


def test_seeds_differ_between_identities_and_stay_the_same_for_one() -> None:
    assert seed_of("train", 0) == seed_of("train", 0)
    assert len({seed_of("train", i) for i in range(1000)}) == 1000
