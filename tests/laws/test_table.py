"""Laws are fitted to anybody's table, group by group, and odd tables are refused with a remedy."""

import json
from pathlib import Path

import polars as pl
import pytest

from radsweep.errors import SpecError
from radsweep.laws.table import fit_joint_table, fit_table, read_table

SIZES = [1_000, 3_000, 10_000, 30_000, 100_000]


def frame() -> pl.DataFrame:
    good = [1 - (0.1 + 3 * n**-0.3) for n in SIZES]
    plain = [1 - 2 * n**-0.2 for n in SIZES]
    return pl.DataFrame({"arm": ["a"] * 5 + ["b"] * 5, "n": SIZES * 2, "auc": good + plain})


def test_each_group_gets_its_own_law() -> None:
    chosen = fit_table(frame(), "n", "auc", ["arm"]).filter("chosen")
    assert chosen["arm"].to_list() == ["a", "b"]
    assert chosen["form"].to_list() == ["power law with floor", "power law"]
    theta = json.loads(chosen["theta"][1])
    assert theta == pytest.approx({"amplitude": 2.0, "exponent": 0.2})


def test_all_forms_that_the_points_allow_are_listed_and_one_is_chosen() -> None:
    one = fit_table(frame().filter(pl.col("arm") == "a"), "n", "auc")
    assert one["form"].to_list() == ["power law", "power law with floor", "log-linear"]
    assert one["chosen"].sum() == 1


def test_a_row_of_size_zero_anchors_the_law() -> None:
    start = pl.DataFrame({"arm": ["a"], "n": [0], "auc": [0.3]})
    anchored = fit_table(pl.concat([start, frame().filter(pl.col("arm") == "a")]), "n", "auc")
    assert anchored["form"].to_list()[-1] == "anchored at the open weights"
    assert json.loads(anchored["theta"][-1])["start"] == pytest.approx(0.7)


def test_losses_are_fitted_as_they_are() -> None:
    losses = pl.DataFrame({"n": SIZES, "loss": [1.5 + 40 * n**-0.4 for n in SIZES]})
    chosen = fit_table(losses, "n", "loss", lower_is_better=True).filter("chosen")
    assert json.loads(chosen["theta"][0])["floor"] == pytest.approx(1.5)
    with pytest.raises(SpecError, match="lower_is_better"):
        fit_table(losses, "n", "loss")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (frame().rename({"auc": "score"}), "no column 'auc'"),
        (frame().with_columns(auc=pl.lit("x")), "String, such as 'x', and a law needs numbers"),
        (frame().cast({"auc": pl.String}), "numbers written as text"),
        (frame().rename({"auc": "aucc"}), r"did you mean 'aucc'\?\); the table has arm, n, aucc"),
        (frame().head(0), "empty"),
        (frame().with_columns(auc=pl.col("auc") + 1), r"arm a: .*\[0, 1\]"),
    ],
    ids=["column", "text", "numbers as text", "misspelt", "empty", "range"],
)
def test_odd_tables_are_refused_with_a_remedy(bad: pl.DataFrame, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        fit_table(bad, "n", "auc", ["arm"])


def test_one_column_is_not_both_size_and_score() -> None:
    with pytest.raises(SpecError, match="need a column each, got n, n"):
        fit_table(frame(), "n", "n")
    with pytest.raises(SpecError, match="need a column each, got n, auc, auc"):
        fit_joint_table(frame(), ["n", "auc"], "auc")
    with pytest.raises(SpecError, match="two different columns of sizes, got n, n"):
        fit_joint_table(frame(), ["n", "n"], "auc")


def test_several_columns_make_a_curve_each() -> None:
    doubled = pl.concat([frame().with_columns(task=pl.lit(name)) for name in ("x", "y")])
    chosen = fit_table(doubled, "n", "auc", ["task", "arm"]).filter("chosen")
    assert chosen.select("task", "arm").rows() == [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")]
    with pytest.raises(SpecError, match="rename the column 'form'"):
        fit_table(doubled.rename({"arm": "form"}), "n", "auc", ["form"])


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([0.6] * 5, "identical at every scale"),
        ([0.8, 0.7, 0.6, 0.5, 0.4], "gets worse with images"),
        ([0.5, 0.6, None, None, None], "2 scales only, and every law passes through two points"),
        ([0.5, None, None, None, None], "1 scale only"),
        ([float("nan")] * 5, "no score is usable"),
        ([None, 0.5, 0.6, 0.65, 0.68], "1 of 5 rows lack a number and are left out"),
    ],
    ids=["equal", "falling", "two points", "one", "NaN", "one missing"],
)
def test_a_curve_that_supports_no_law_gets_a_sentence_and_spoils_no_other(
    scores: list[float | None], words: str
) -> None:
    odd = pl.DataFrame(
        {"arm": ["odd"] * 5, "n": SIZES, "auc": scores}, schema_overrides={"auc": pl.Float64}
    )
    fits = fit_table(pl.concat([odd, frame()]), "n", "auc", ["arm"])
    mine = fits.filter(arm="odd")
    assert all(words in flags for flags in mine["flags"])
    if words.startswith("1 of 5"):
        assert mine["chosen"].sum() == 1
    else:
        assert not mine["chosen"].any()
    assert fits.filter("chosen", pl.col("arm") != "odd")["arm"].to_list() == ["a", "b"]


def test_replicates_of_one_size_are_one_scale() -> None:
    one = pl.DataFrame({"n": [1000] * 6, "auc": [0.5, 0.51, 0.52, 0.5, 0.49, 0.5]})
    (row,) = fit_table(one, "n", "auc").to_dicts()
    assert (row["points"], row["scales"], row["form"]) == (6, 1, "no law")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("torn.parquet", b"PAR1 and then nothing"),
        ("quoted.csv", b'a,b\n"1,2\n3\n'),
        ("empty.csv", b""),
        ("table.xlsx", b"a,b"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(SpecError, match=name) as told:
        read_table(file)
    assert "\n" not in str(told.value)


def test_csv_and_parquet_give_the_same_fits(tmp_path: Path) -> None:
    n = [30_000, 50_000, 100_000, 1_000_000, 3_500_000]
    frame = pl.DataFrame({"images": n, "value": [0.6, 0.62, 0.65, 0.72, 0.75]})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    one, two = (
        fit_table(read_table(tmp_path / f), "images", "value") for f in ("a.csv", "a.parquet")
    )
    assert one.equals(two) and one["chosen"].sum() == 1
