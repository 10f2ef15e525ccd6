"""Scores within slices of test, as a table for a terminal."""

import polars as pl
from rich import box
from rich.table import Table


def slices_table(slices: pl.DataFrame) -> Table:
    """Headline scores: one row per encoder, task and slice, with a reason where no number is."""
    by = ", ".join(slices["by"].unique().sort())
    table = Table(
        title=f"headline scores by {by or 'nothing scored'}, and 95% intervals",
        box=box.SIMPLE_HEAD,
    )
    for name in ("cell", "task", "slice"):
        table.add_column(name)
    for name in ("images", "value", "95% interval"):
        table.add_column(name, justify="right")
    for row in slices.filter("headline").iter_rows(named=True):
        task = f"{row['task'].replace('_', ' ')}\n{row['probe']}, {row['metric']}"
        figures = ("-", row["reason"])
        if row["value"] is not None:
            low, high = row["ci_low"], row["ci_high"]
            known = low is not None and high is not None
            figures = (f"{row['value']:.3f}", f"{low:.3f} to {high:.3f}" if known else "-")
        table.add_row(row["cell"], task, row["slice"], str(row["n_test"]), *figures)
    return table
