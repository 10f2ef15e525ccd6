import hashlib
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radsweep.corpus import subset
from radsweep.corpus.manifest import Corpus
from radsweep.corpus.split import SPLITS, check_fractions, patient_number, split_of
from radsweep.corpus.subset import digest_of, pretrain_pool, select
from radsweep.errors import SpecError
from radsweep.specs import Subset
from radsweep.store import Store


def corpus_of(images_per_patient: list[int], shuffle: int = 0) -> Corpus:
    rows = [
        {
            "image_id": f"i{patient}-{image}",
            "patient_id": f"p{patient}",
            "split": "pretrain",
            "report": None,
        }
        for patient, images in enumerate(images_per_patient)
        for image in range(images)
    ]
    rows.append({"image_id": "held-out", "patient_id": "q", "split": "test", "report": None})
    frame = pl.DataFrame(rows, schema_overrides={"report": pl.String()})
    return Corpus(
        name="c@1",
        store=Store("/nowhere"),
        manifest=frame.sample(fraction=1, shuffle=True, seed=shuffle),
        card={},
    )


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=30), data=st.data())
def test_subsets_nest_hold_whole_patients_and_are_the_shortest(
    sizes: list[int], data: st.DataObject
) -> None:
    corpus = corpus_of(sizes)
    large = data.draw(st.integers(0, sum(sizes)))
    small = data.draw(st.integers(0, large))
    seed = data.draw(st.integers(0, 9))
    one = select(corpus, Subset(corpus="c@1", images=small, seed=seed))
    two = select(corpus, Subset(corpus="c@1", images=large, seed=seed))
    assert two.table["image_id"].to_pylist()[: one.images] == one.table["image_id"].to_pylist()
    patients = one.table["patient_id"].to_pylist()
    for patient in set(patients):
        assert patients.count(patient) == sizes[int(patient[1:])]
    assert one.images >= small
    if one.images:
        assert one.images - patients.count(patients[-1]) < small
    assert one.patients == len(set(patients))
    assert "q" not in two.table["patient_id"].to_pylist()


@settings(max_examples=10, deadline=None)
@given(shuffle=st.integers(1, 1000))
def test_the_order_of_the_manifest_does_not_matter(shuffle: int) -> None:
    one = select(corpus_of([2, 1, 3, 1]), Subset(corpus="c@1", images=4))
    two = select(corpus_of([2, 1, 3, 1], shuffle), Subset(corpus="c@1", images=4))
    assert one.table.equals(two.table)
    assert one.digest == two.digest


@pytest.mark.parametrize("shuffle", [None, 1])
def test_the_pool_is_the_same_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffle: int | None
) -> None:
    """Of a file in the patients' order, or in any other; a patient may be larger than a part."""
    manifest = corpus_of([2, 1, 9, 3, 1, 1, 4, 2, 5, 1]).manifest.sort("patient_id", "image_id")
    if shuffle is not None:
        manifest = manifest.sample(fraction=1, shuffle=True, seed=shuffle)
    manifest.write_parquet(tmp_path / "manifest.parquet", row_group_size=3)
    whole = pretrain_pool(manifest.lazy())
    rows = [
        row for row in manifest.with_row_index("row").rows(named=True) if row["split"] != "test"
    ]
    rows.sort(key=lambda row: (row["patient_id"], row["image_id"]))
    expected = [(row["row"], row["image_id"]) for row in rows]
    assert whole.images.select("row", "image_id").rows() == expected
    for part_rows in (1, 2, 4, 7):
        monkeypatch.setattr(subset, "POOL_ROWS", part_rows)
        for lazy in (manifest.lazy(), pl.scan_parquet(tmp_path / "manifest.parquet")):
            parts = pretrain_pool(lazy)
            assert parts.images.equals(whole.images)
            assert parts.patients.equals(whole.patients)


def test_another_seed_takes_other_patients() -> None:
    corpus = corpus_of([1] * 100)
    digests = {
        select(corpus, Subset(corpus="c@1", images=10, seed=seed)).digest for seed in range(5)
    }
    assert len(digests) == 5


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=30), seed=st.integers(0, 9))
def test_a_subset_is_what_the_obvious_loop_takes(sizes: list[int], seed: int) -> None:
    corpus = corpus_of(sizes, shuffle=1)
    people = sorted(range(len(sizes)), key=lambda n: patient_number(f"p{n}", "subset", seed))
    for images in range(sum(sizes) + 1):
        expected: list[str] = []
        for patient in people:
            if len(expected) < images:
                expected += [f"i{patient}-{number}" for number in range(sizes[patient])]
        found = select(corpus, Subset(corpus="c@1", images=images, seed=seed))
        assert found.table["image_id"].to_pylist() == expected
        assert found.digest == hashlib.sha256("\n".join(expected).encode()).hexdigest()


def test_identifiers_of_many_blocks_have_the_digest_of_one_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("radsweep.corpus.subset.DIGEST_ROWS", 3)
    for length in range(8):
        names = [f"i{number}" for number in range(length)]
        whole = hashlib.sha256("\n".join(names).encode()).hexdigest()
        assert digest_of(pl.Series(names, dtype=pl.String)) == whole


def test_a_subset_larger_than_its_corpus_is_refused_with_both_numbers() -> None:
    with pytest.raises(SpecError, match=r"subset of 30,000 is larger than corpus c@1 \(3 images"):
        select(corpus_of([1, 2]), Subset(corpus="c@1", images=30_000))


def test_reports_come_in_order_and_only_where_there_are_any(toy: Corpus) -> None:
    subset = select(toy, Subset(corpus="toy@1", images=30))
    expected = [text for text in subset.table["report"].to_pylist() if text is not None]
    assert list(subset.reports()) == expected
    assert len(expected) < subset.images


def test_splits_have_about_the_shares_that_were_asked_for_and_do_not_depend_on_others() -> None:
    fractions = (0.7, 0.15, 0.05, 0.1)
    splits = [split_of(f"p{n}", fractions, seed=0) for n in range(20_000)]
    for name, fraction in zip(SPLITS, fractions, strict=True):
        assert abs(splits.count(name) / 20_000 - fraction) < 0.015
    assert splits[7] == split_of("p7", fractions, seed=0)
    assert splits != [split_of(f"p{n}", fractions, seed=1) for n in range(20_000)]


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.2, 0.2, 0.2), (1.2, -0.2, 0.0, 0.0)])
def test_fractions_that_are_no_shares_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match="split fractions"):
        check_fractions(fractions)


def test_a_split_with_no_share_gets_nobody() -> None:
    assert {split_of(f"p{n}", (0.5, 0.5, 0.0, 0.0), seed=0) for n in range(500)} == {
        "pretrain",
        "train",
    }


def test_a_corpus_that_is_not_there_is_named_with_the_nearest_one(toy: Corpus) -> None:
    with pytest.raises(SpecError, match="did you mean 'toy@1'"):
        Corpus.open(toy.store, "toyy@1")
