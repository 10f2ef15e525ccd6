"""Forecasts on a terminal: what can be said sentence by sentence, the rest by its reason."""

from collections.abc import Iterator, Sequence

import polars as pl

from radsweep.laws.sentences import Answer
from radsweep.laws.words import paradigm_title


def forecast_lines(answers: Sequence[Answer], table: pl.DataFrame) -> Iterator[str]:
    """A line for each answer that has a number, then one for each reason why others have none.

    Args:
        answers: of ``table``'s rows, in their order.
        table: with ``paradigm`` and ``why_not``, and ``other`` where two are compared.
    """
    silent: dict[str, dict[str, list[str]]] = {}
    for answer, row in zip(answers, table.iter_rows(named=True), strict=True):
        if row["why_not"] is None:
            yield f"- {answer.sentence}"
            continue
        who = paradigm_title(row["paradigm"])
        if "other" in row:
            who = f"{who} and {paradigm_title(row['other'])}"
        silent.setdefault(row["why_not"], {}).setdefault(answer.heading, []).append(who)
    for reason, tasks in silent.items():
        said = "; ".join(f"{task} ({', '.join(arms)})" for task, arms in tasks.items())
        yield f"- Nothing can be said of {said}: {reason}."
