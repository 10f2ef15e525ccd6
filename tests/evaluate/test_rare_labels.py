import polars as pl
import pytest

from radsweep.evaluate.rare_labels import rare_means


def _scores(counts: list[int], metric: str = "auprc") -> pl.DataFrame:
    """Of two encoders."""
    rows = [
        {"task": "findings", "metric": metric, "label": f"l{i}", "n_positive": count, "cell": cell}
        for cell in ("a", "b")
        for i, count in enumerate(counts)
    ]
    rows += [
        {"task": "findings", "metric": metric, "label": "macro", "n_positive": None, "cell": cell}
        for cell in ("a", "b")
    ]
    return pl.DataFrame(rows, schema_overrides={"n_positive": pl.Int64})


def test_a_mean_over_many_rare_labels_is_said_to_be_one_once_for_all_encoders() -> None:
    said = rare_means(_scores([15, 40, 49, 50, 300]))
    assert [task for task, _ in said] == ["findings"]
    assert said[0][1].startswith("3 of 5 labels have fewer than 50 test images (the rarest 15)")


@pytest.mark.parametrize("scores", [_scores([15, 40, 50, 300]), _scores([9] * 5, "auroc")])
def test_nothing_is_said_of_few_rare_labels_or_of_another_metric(scores: pl.DataFrame) -> None:
    assert rare_means(scores) == []
    assert rare_means(scores.clear()) == []
