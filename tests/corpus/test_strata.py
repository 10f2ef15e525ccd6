"""Stratified subsets: whole patients, nested, of any order of rows, with the corpus's own mix."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radsweep.corpus.manifest import Corpus
from radsweep.corpus.split import patient_numbers
from radsweep.corpus.strata import stratified_order, value_sets
from radsweep.corpus.subset import first_images, patient_order, pretrain_pool, select
from radsweep.errors import SpecError
from radsweep.specs import Subset
from radsweep.store import Store

VIEWS = ("frontal", "lateral", "unknown", None)
SCHEMA = {
    "image_id": pl.String(), "patient_id": pl.String(), "split": pl.String(), "view": pl.String(),
    "age_years": pl.Int16(), "finding_edema": pl.Int8(), "report": pl.String(),
}  # fmt: skip

images = st.tuples(
    st.sampled_from(VIEWS), st.sampled_from([3, 8, 41, None]), st.sampled_from([1, 0, -1, None])
)
people = st.lists(st.lists(images, min_size=1, max_size=4), min_size=1, max_size=40)
columns = st.sets(st.sampled_from(["view", "age_years", "finding_edema"]), min_size=1)


def corpus_of(films: list[list[tuple[object, ...]]], shuffle: int = 0) -> Corpus:
    rows = [
        (f"i{patient}-{number}", f"p{patient}", "pretrain", *film, None)
        for patient, taken in enumerate(films)
        for number, film in enumerate(taken)
    ]
    rows.append(("held-out", "q", "test", "frontal", 3, 1, None))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return Corpus(
        name="c@1",
        store=Store("/nowhere"),
        manifest=frame.sample(fraction=1, shuffle=True, seed=shuffle),
        card={},
    )


@settings(max_examples=60, deadline=None)
@given(films=people, by=columns, data=st.data())
def test_stratified_subsets_nest_hold_whole_patients_and_are_the_shortest(
    films: list[list[tuple[object, ...]]], by: set[str], data: st.DataObject
) -> None:
    large = data.draw(st.integers(0, sum(map(len, films))))
    small = data.draw(st.integers(0, large))
    seed, shuffle = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 99))
    corpus = corpus_of(films)
    one = select(corpus, Subset(corpus="c@1", images=small, seed=seed, stratify_by=tuple(by)))
    asked = Subset(corpus="c@1", images=large, seed=seed, stratify_by=tuple(by))
    two = select(corpus, asked)
    assert two.table["image_id"].to_pylist()[: one.images] == one.table["image_id"].to_pylist()
    taken = Counter(one.table["patient_id"].to_pylist())
    assert all(count == len(films[int(name[1:])]) for name, count in taken.items())
    assert one.images >= small
    if one.images:
        assert one.images - taken[one.table["patient_id"][-1].as_py()] < small
    assert "q" not in two.table["patient_id"].to_pylist()
    assert select(corpus_of(films, shuffle), asked).digest == two.digest


def stratum_of(taken: list[tuple[object, ...]], by: set[str]) -> frozenset[tuple[str, object]]:
    """The obvious way: every (column, value) of a patient's films, ages by decade."""
    found = set()
    for view, age, edema in taken:
        decade = None if age is None else int(str(age)) // 10
        found |= {("view", view), ("age_years", decade), ("finding_edema", edema)}
    return frozenset(pair for pair in found if pair[0] in by)


@settings(max_examples=60, deadline=None)
@given(films=people, by=columns, seed=st.integers(0, 9))
def test_every_prefix_has_each_stratums_share_of_the_images_give_or_take_whole_patients(
    films: list[list[tuple[object, ...]]], by: set[str], seed: int
) -> None:
    """Stratum s is e_s images ahead of its rate, |e_s| <= M: off_s = e_s - share_s * sum(e)."""
    pool = pretrain_pool(corpus_of(films).manifest.lazy(), sorted(by))
    order = patient_order(pool, seed, sorted(by))
    strata = [stratum_of(taken, by) for taken in films]
    whole = Counter[frozenset[tuple[str, object]]]()
    for stratum, taken in zip(strata, films, strict=True):
        whole[stratum] += len(taken)
    total, most = sum(whole.values()), max(map(len, films))
    so_far = Counter[frozenset[tuple[str, object]]]()
    for name in order["patient_id"]:
        so_far[strata[int(name[1:])]] += len(films[int(name[1:])])
        for stratum, count in whole.items():
            share = count / total
            off = abs(so_far[stratum] - share * sum(so_far.values()))
            assert off <= most * (1 + len(whole) * share) + 1e-9


@settings(max_examples=40, deadline=None)
@given(films=people, by=columns)
def test_patients_are_in_one_stratum_where_all_their_values_are_the_same(
    films: list[list[tuple[object, ...]]], by: set[str]
) -> None:
    pool = pretrain_pool(corpus_of(films).manifest.lazy(), sorted(by))
    found = pool.patients
    ours = value_sets(pool.images, found["first"], sorted(by)).rows()
    obvious = [stratum_of(films[int(name[1:])], by) for name in found["patient_id"]]
    assert found["len"].to_list() == [len(films[int(name[1:])]) for name in found["patient_id"]]
    for one in range(len(ours)):
        for other in range(one):
            assert (ours[one] == ours[other]) == (obvious[one] == obvious[other])


def test_the_mix_is_much_closer_than_that_of_patients_as_they_come() -> None:
    """Mixed patients too: what is compared is the share of frontal films, not of a stratum."""
    random = np.random.default_rng(0)
    kinds = [[("frontal",)], [("lateral",)], [("frontal",), ("lateral",)], [(None,)]]
    films = [
        [(*film, None, None) for film in kinds[kind] for _ in range(times)]
        for kind, times in zip(
            random.choice(4, 4000, p=[0.5, 0.1, 0.3, 0.1]), random.integers(1, 4, 4000), strict=True
        )
    ]
    corpus = corpus_of(films)
    pool = pretrain_pool(corpus.manifest.lazy(), ["view"])
    frontal = (pool.images["view"] == "frontal").sum() / pool.images.height
    off: dict[tuple[str, ...], list[float]] = {(): [], ("view",): []}
    for by, found in off.items():
        for seed in range(8):
            order = patient_order(pool, seed, by)
            for scale in (100, 300, 1000, 3000):
                rows = corpus.manifest[first_images(pool, order, scale)["row"]]
                share = (rows["view"] == "frontal").sum() / rows.height
                found.append((share - frontal) * scale**0.5)
    plain, stratified = (float(np.square(found).mean() ** 0.5) for found in off.values())
    assert stratified < plain / 3
    assert abs(np.mean(off[("view",)])) < stratified  # no stratum is always first


def test_rare_strata_are_spread_over_the_order_and_do_not_come_first() -> None:
    """A hundred strata of one patient each beside a large one: a fifth of them in each fifth."""
    patients = pl.DataFrame(
        {
            "patient_id": [f"p{n}" for n in range(900)],
            "len": [1 + n % 2 for n in range(900)],
            "view": pl.Series([min(n, 100) for n in range(900)], dtype=pl.UInt64),
        }
    )
    places = []
    for seed in range(5):
        numbers = patient_numbers(patients["patient_id"], "subset", seed)
        order = stratified_order(patients.with_columns(number=pl.Series(numbers)), ["view"])
        places.append((order["view"] < 100).arg_true().to_numpy() / 900)
    histogram, _ = np.histogram(np.concatenate(places), bins=5, range=(0, 1))
    # A binomial of 500 and 1/5 has a standard deviation of 9.
    assert (abs(histogram - 100) < 4.5 * 9).all(), histogram


def test_a_column_that_no_stratum_can_be_made_of_is_refused_with_those_that_can() -> None:
    corpus = corpus_of([[("frontal", 3, 1)]])
    for column in ("report", "image_id", "finding_edma"):
        with pytest.raises(SpecError, match=f"stratified by '{column}'.*known: age_years, finding"):
            select(corpus, Subset(corpus="c@1", images=1, stratify_by=(column,)))
