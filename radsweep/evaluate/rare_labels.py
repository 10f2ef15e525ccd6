"""Means that rest on labels which few test images have, said in words. No torch here."""

import polars as pl

from radsweep.tasks.base import MACRO

FEW_IMAGES = 50
"""Test images that have a label, below which average precision is noticeably too high."""
FEW_LABELS = 2
"""Rare labels at most whose mean is as good as theirs: biases add up where errors cancel."""


def rare_means(scores: pl.DataFrame) -> list[tuple[str, str]]:
    """(task, what to know of its mean average precision), where many of its labels are rare.

    Its interval is moved by the bias, see ``Measurement.interval``; the number is left as others
    compute it.

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
            f"(the rarest {row['least']}); a mean AUPRC of so rare labels is too high on average: "
            "its 95% interval makes up for that and lies lower, the number itself does not; judge "
            "by the interval, by AUROC, or take a larger test set",
        )
        for row in found.sort("task").iter_rows(named=True)
        if row["rare"] > FEW_LABELS
    ]
