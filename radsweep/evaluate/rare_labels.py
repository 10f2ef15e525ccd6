"""Means that rest on labels which few test images have, said in words. No torch here."""

import polars as pl

from radsweep.tasks.base import MACRO

FEW_IMAGES = 50
"""Test images that have a label, below which average precision is noticeably too high."""
FEW_LABELS = 2
"""Rare labels at most whose mean is still covered: the biases add up where the errors cancel."""


def rare_means(scores: pl.DataFrame) -> list[tuple[str, str]]:
    """(task, what to know of its mean average precision), where many of its labels are rare.

    Average precision is too high on average where positives are few (Boyd, Eng and Page 2013), and
    so are its resamples. Of one label the interval is wide enough for that; that of a mean over
    labels narrows with their number and the bias does not. ``tests/tasks/test_coverage.py`` has the
    simulation.

    Args:
        scores: rows of the score table; ``n_positive`` is the same for every encoder of a task.
    """
    labels = scores.filter(
        (pl.col("metric") == "auprc")
        & (pl.col("label") != MACRO)
        & pl.col("n_positive").is_not_null()
    ).unique(["task", "label"])
    rare = pl.col("n_positive") < FEW_IMAGES
    found = labels.group_by("task").agg(
        rare=rare.sum(), least=pl.col("n_positive").min(), labels=pl.len()
    )
    return [
        (
            str(row["task"]),
            f"{row['rare']} of {row['labels']} labels have fewer than {FEW_IMAGES} test images "
            f"(the rarest {row['least']}); a mean AUPRC of so rare labels is too high on average, "
            "and its 95% interval holds the truth in 84 to 93 of 100 simulated test sets: judge by "
            "AUROC, label by label, or take a larger test set",
        )
        for row in found.sort("task").iter_rows(named=True)
        if row["rare"] > FEW_LABELS
    ]
