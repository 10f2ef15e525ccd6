"""Every chart has points and a figure, is found by its file, and shows hostile text as text."""

import json
from types import ModuleType

import plotly.graph_objects as go
import polars as pl
import pytest

from radsweep.dashboards.charts import Chart, charts, read
from radsweep.dashboards.style import image_axis, looks
from radsweep.dashboards.tables import Tables
from radsweep.errors import SpecError
from radsweep.laws.sentences import crossing_of
from radsweep.store.scores import SLICES, SUMS
from tests.dashboards.toy import METRICS, SCALES, STARTS, toy_tables, truth

TABLES = toy_tables()
CHARTS = charts()


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_chart_draws_the_toy_sweep(chart: Chart) -> None:
    points = chart.points(TABLES)
    assert len(points) > 0
    figure = json.loads(chart.figure(points).to_json())
    assert figure["data"]
    # Drawn without Plotly's checks, for speed; here they refuse what it does not know.
    assert go.Figure(figure).to_plotly_json().keys() == {"data", "layout"}
    assert chart.question.endswith("?")


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_chart_has_nothing_to_draw_before_the_first_score(chart: Chart) -> None:
    nothing = Tables(
        TABLES.scores.head(0), TABLES.cells.head(0), TABLES.steps.head(0), TABLES.sweep
    )
    assert len(chart.points(nothing)) == 0


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_hostile_names_reach_no_figure_as_markup(chart: Chart) -> None:
    evil = "<a href='javascript:alert(1)'>x</a>"
    named = {
        "task": pl.lit(evil),
        "label": pl.when(pl.col("label") == "macro").then("label").otherwise(pl.lit(evil)),
    }
    one = (pl.col("task") == "findings") & (pl.col("metric") == "auprc")
    labels = pl.col("label").is_in(["macro", "edema"])
    scores = (
        TABLES.scores.filter(one & labels)
        .filter(pl.col("paradigm").is_in(["clip", "unicl"]))
        .with_columns(paradigm=pl.lit(evil) + pl.col("paradigm"))
    )
    cells = TABLES.cells.with_columns(
        reason=pl.lit(evil),
        paradigm=pl.lit(evil),
        state=pl.when(pl.col("state") == "done").then("state").otherwise(pl.lit(evil)),
    )
    gains = TABLES.label_gains.with_columns(
        task=pl.lit(evil), label=pl.lit(evil), paradigm=pl.lit(evil)
    )
    slices = TABLES.slices.with_columns(task=pl.lit(evil), by=pl.lit(evil), slice=pl.lit(evil))
    tables = Tables(
        scores.with_columns(**named),
        cells,
        TABLES.steps,
        TABLES.sweep,
        label_gains=gains,
        slices=slices,
    )
    points = chart.points(tables)
    assert len(points) > 0
    text = chart.figure(points).to_json()
    assert "<a " not in text
    assert "\\u003ca " not in text


def test_the_charts_are_the_files_of_the_folder() -> None:
    names = {chart.name for chart in CHARTS}
    expected = {"scaling_curves", "paired_differences", "labels", "forecast", "budget", "cells"}
    assert names >= expected | {"learning_curves"}


def test_a_new_chart_that_is_not_one_is_refused_by_name() -> None:
    module = ModuleType("radsweep.dashboards.mine", "Why?")
    with pytest.raises(SpecError, match=r"mine\.py lacks TITLE, PAGE, points, figure"):
        read(module)
    vars(module).update(TITLE="x", PAGE="elsewhere", points=len, figure=len)
    with pytest.raises(SpecError, match="pages are overview"):
        read(module)


def chart(name: str) -> Chart:
    return next(one for one in CHARTS if one.name == name)


def test_the_scaling_curves_hold_every_score_and_follow_the_toy_laws() -> None:
    points = chart("scaling_curves").points(TABLES)
    counted = points.filter(pl.col("kind") == "score")
    assert len(counted) == len(METRICS) * len(STARTS) * (len(SCALES) - 1)
    law = points.filter((pl.col("kind") == "law") & (pl.col("arm") == "dinov2"))
    lines = law.filter(pl.col("task") == "Lines and tubes")
    shift = lines["value"][-1] - truth("lines_tubes", "dinov2", 3_500_000)
    for images, value in lines.select("images", "value").rows():
        assert value - truth("lines_tubes", "dinov2", images) == pytest.approx(shift, abs=0.02)


def test_a_difference_is_decided_when_its_interval_leaves_zero() -> None:
    points = chart("paired_differences").points(TABLES)
    for low, high, decided in points.select("low", "high", "is_decided").rows():
        assert decided == (low > 0 or high < 0)


def test_a_forecast_starts_where_the_data_ends() -> None:
    points = chart("forecast").points(TABLES)
    ahead = points.filter(pl.col("kind") == "forecast")
    assert ahead["images"].min() == pytest.approx(3_500_000)
    assert ahead["images"].max() == pytest.approx(35_000_000)
    arms = set(ahead.filter(pl.col("task").str.ends_with("segmentation"))["arm"])
    assert arms == {"dinov2"}


def test_paradigms_are_compared_in_pairs_and_only_what_survives_correction_is_filled() -> None:
    points = chart("between_paradigms").points(TABLES)
    assert len(points) == len(METRICS) * 3 * (len(SCALES) - 1)
    assert (points["p_holm"] >= points["p"]).all()
    assert points["is_decided"].to_list() == (points["p_holm"] <= 0.05).to_list()
    corrected_away = points.filter((pl.col("p") <= 0.05) & ~pl.col("is_decided"))
    assert len(corrected_away) > 0


def test_every_step_of_the_slider_shows_what_the_law_says_there() -> None:
    points = chart("at_a_target").points(TABLES)
    figure = chart("at_a_target").figure(points).to_dict()
    (slider,) = figure["layout"]["sliders"]
    images = sorted(points["images"].unique())
    assert len(slider["steps"]) == len(images)
    task = points["task"][0]
    for step, at in zip(slider["steps"], images, strict=True):
        restyle, layout = step["args"]
        rows = points.filter((pl.col("images") == at) & (pl.col("task") == task))
        shown = rows.sort("arm", descending=True)["value"].to_list()
        assert restyle["x"][0] == shown
        assert ("Warning" in layout["title.text"]) == (at > 3_500_001)
    assert "more than ten times" in slider["steps"][-1]["args"][1]["title.text"]
    assert "device-hours" in slider["steps"][0]["args"][1]["title.text"]
    opened = figure["data"][0]["x"]
    assert list(opened) == slider["steps"][slider["active"]]["args"][0]["x"][0]


def test_epochs_differ_by_design_and_images_seen_do_not() -> None:
    points = chart("budget").points(TABLES)
    seen = points.filter(pl.col("quantity") == "images seen")
    assert seen["deviation"].abs().max() == 0
    assert points.filter(pl.col("quantity") == "epochs")["value"].n_unique() == len(SCALES) - 1


def test_a_paradigm_keeps_its_colour_whatever_else_is_shown() -> None:
    alone, among = looks(["dinov2"]), looks(["clip", "dinov2", "mae", "unicl"])
    assert alone["dinov2"] == among["dinov2"]
    colours = {look.colour for look in among.values()}
    assert len(colours) == 4
    twins = looks(["clip from a", "clip from b"])
    assert twins["clip from a"].colour != twins["clip from b"].colour


def test_the_axis_keeps_the_smallest_and_the_largest_scale() -> None:
    axis = image_axis(SCALES, room=0.2)
    assert axis["ticktext"][0] == "30k"
    assert axis["ticktext"][-1] == "3.5M"
    assert image_axis([500])["ticktext"] == ["500"]


def test_tables_without_a_column_are_refused() -> None:
    with pytest.raises(SpecError, match="'cells' lacks the columns spent"):
        Tables(TABLES.scores, TABLES.cells.drop("spent"), TABLES.steps, TABLES.sweep)
    with pytest.raises(SpecError, match="lacks card"):
        sweep = {key: value for key, value in TABLES.sweep.items() if key != "card"}
        Tables(TABLES.scores, TABLES.cells, TABLES.steps, sweep)


def test_the_images_for_a_gain_are_those_of_the_laws_themselves() -> None:
    chart = next(one for one in CHARTS if one.name == "to_reach_a_score")
    points = chart.points(TABLES)
    assert points["gain"].min() == 0 and points["gain"].n_unique() == 26
    law = {(one.curve.title, one.curve.arm): one for one in TABLES.analyses}
    for row in points.filter(pl.col("gain") == points["gain"].unique().sort()[3]).to_dicts():
        one = law[row["task"], row["arm"]]
        starts = [
            a.curve.open_weights.value for a in TABLES.analyses if a.curve.title == row["task"]
        ]
        assert row["score"] == pytest.approx(max(starts) + row["gain"])
        if row["why_not"] is None:
            needed = one.law.images_for(row["score"])
            assert (row["images"], row["low"], row["high"]) == (
                needed.images,
                needed.low,
                needed.high,
            )
        else:
            assert row["images"] is None


def test_a_slider_steps_through_states_of_every_panel() -> None:
    chart = next(one for one in CHARTS if one.name == "to_reach_a_score")
    figure = chart.figure(chart.points(TABLES))
    (slider,) = figure.layout.sliders
    panels = len(figure.data)
    for step in slider.steps:
        restyle, heading = step.args
        assert all(len(values) == panels for values in restyle.values())
        assert "best open weights" in heading["title.text"]


def test_a_ring_stands_where_a_law_beats_its_open_weights_and_nowhere_else() -> None:
    points = chart("scaling_curves").points(TABLES)
    rings = {(row["task"], row["arm"]): row for row in points.filter(kind="beats").to_dicts()}
    for one in TABLES.analyses:
        crossing, key = crossing_of(one), (one.curve.title, one.curve.arm)
        assert (key in rings) == (crossing is not None and crossing.images is not None)
        if crossing is not None and crossing.images is not None:
            row = rings[key]
            found = (row["images"], row["images_low"], row["images_high"])
            assert found == (crossing.images, crossing.low, crossing.high)
    assert rings


def test_hovering_tells_every_coordinate_of_a_score() -> None:
    points = chart("scaling_curves").points(TABLES)
    figure = chart("scaling_curves").figure(points)
    texts = [text for trace in figure.data for text in trace.customdata or ()]
    assert len(texts) == len(points.filter(kind="score"))
    assert all("95% " in text and " to " in text for text in texts)
    assert any("from medimageinsight, 2 seeds, 427 epochs" in text for text in texts)
    assert any("segment probe, 4,000 test images" in text for text in texts)


def test_a_slice_without_a_number_is_not_drawn_and_says_why_in_the_table() -> None:
    points = chart("slices").points(TABLES)
    lacking = points.filter(slice="80+")
    assert lacking["value"].null_count() == len(lacking) > 0
    assert set(lacking["reason"]) == {"too few patients here"}
    figure = chart("slices").figure(points)
    drawn = [text for trace in figure.data for text in trace.customdata or ()]
    assert len(drawn) == len(points) - len(lacking)
    assert set(points["images"]) == {0, max(SCALES)}


def test_labels_are_listed_by_their_gain_and_filled_only_after_correction() -> None:
    points = chart("label_gains").points(TABLES)
    for part in points.partition_by("task"):
        means = part.group_by("label", maintain_order=True).agg(pl.col("gain").mean())["gain"]
        assert means.to_list() == sorted(means, reverse=True)
    assert points["is_decided"].to_list() == (points["p_holm"] <= 0.05).to_list()


def test_what_is_measured_of_all_labels_together_is_no_label() -> None:
    pooled = [TABLES.scores.filter(label="edema").with_columns(label=pl.lit(sum_)) for sum_ in SUMS]
    tables = Tables(pl.concat([TABLES.scores, *pooled]), TABLES.cells, TABLES.steps, TABLES.sweep)
    expected = chart("labels").points(TABLES)
    assert not expected.is_empty() and chart("labels").points(tables).equals(expected)


def test_slices_of_two_starts_of_one_paradigm_are_not_pooled() -> None:
    other = pl.when(pl.col("images") == 0).then(pl.lit("elsewhere")).otherwise("start_from")
    scores = TABLES.scores.with_columns(start_from=other)
    tables = Tables(scores, TABLES.cells, TABLES.steps, TABLES.sweep, slices=TABLES.slices)
    arms = set(chart("slices").points(tables)["arm"])
    assert {"clip from medimageinsight", "clip from elsewhere"} <= arms


def test_slices_are_of_the_largest_scale_that_was_scored() -> None:
    smaller = TABLES.slices.filter(~pl.col("cell").str.contains("3500000"))
    again = TABLES.scores.filter("headline", pl.col("images") == 1_000_000)
    rows = again.with_columns(
        by=pl.lit("sex"), slice=pl.lit("F"), reason=pl.lit(None, dtype=pl.String)
    ).select(SLICES.names())
    slices = pl.concat([smaller, rows.match_to_schema(SLICES)])
    tables = Tables(TABLES.scores, TABLES.cells, TABLES.steps, TABLES.sweep, slices=slices)
    assert set(chart("slices").points(tables)["images"]) == {0, 1_000_000}
