"""Commands that show what a sweep found, and hand it on."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from radsweep.commands.shared import (
    JsonOption,
    StoreOption,
    SweepArgument,
    console,
    open_store,
    say_json,
)
from radsweep.errors import SpecError
from radsweep.specs import Sweep
from radsweep.store import Store


def scores(
    sweep: SweepArgument,
    store: StoreOption = "",
    to: Annotated[
        Path | None, typer.Option(help="Write all rows to a .csv or .parquet file")
    ] = None,
    report_metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Score the stored reports by it too: radgraph_f1, chexbert_f1 (their packages: "
            'pip install -e ".[reports]"), radfact (a language model judges), or a module of yours'
        ),
    ] = None,
    judge_url: Annotated[
        str,
        typer.Option(
            help="Of radfact: base of an OpenAI-compatible endpoint, such as https://HOST/v1; its "
            "key, if it wants one, in RADSWEEP_JUDGE_KEY"
        ),
    ] = "",
    judge_model: Annotated[str, typer.Option(help="Its name; answers are kept under it")] = "",
    judge_calls: Annotated[int, typer.Option(help="At most so many calls")] = 1000,
    judge_usd: Annotated[
        float | None, typer.Option(help="At most so much money, by --judge-prices")
    ] = None,
    judge_prices: Annotated[
        tuple[float, float], typer.Option(help="USD per million tokens read, and written")
    ] = (0.0, 0.0),
    send_reports_to: Annotated[
        str | None,
        typer.Option(help="HOST of --judge-url once more: report text may be sent there"),
    ] = None,
    slice_by: Annotated[
        str | None,
        typer.Option(
            "--slice",
            help="Scores within each view, projection, sex or age (band), instead of all",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The score table: headline rows as text, all rows as CSV, Parquet or JSON."""
    import polars as pl

    from radsweep.evaluate.rare_labels import rare_means
    from radsweep.evaluate.texts import not_asked
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.results import read_scores, write_rows
    from radsweep.sweep.show import report_metrics_table, scores_table

    loaded, root = load_sweep(sweep), open_store(store)
    if slice_by is not None:
        if report_metric:
            raise SpecError("give either --slice or --report-metric: slices are of stored metrics")
        _slices(loaded, root, slice_by, to, as_json=as_json)
        return
    table = read_scores(loaded, root)
    judged, failed, judge = [], [], None
    if report_metric:
        # Tasks and probes: only where a metric is asked for.
        from radsweep.evaluate.clinical import clinical_scores
        from radsweep.evaluate.judge import Endpoint, EndpointJudge
        from radsweep.tasks.clinical import find_metric
        from radsweep.tasks.radfact import RadFact

        for name in report_metric:
            if name == RadFact.name:
                endpoint = Endpoint(
                    url=judge_url,
                    model=judge_model,
                    most_calls=judge_calls,
                    most_usd=judge_usd,
                    usd_per_million=judge_prices,
                )
                judge = EndpointJudge(root, endpoint, send_reports_to)
            metric = RadFact(judge) if judge and name == RadFact.name else find_metric(name)
            rows, faults = clinical_scores(root, loaded, loaded.cells(), metric)
            judged.append(rows)
            failed += faults
        table = pl.concat([table, *judged])
    if to is not None:
        # A list of draws is no cell of a CSV.
        write_rows(table if to.suffix == ".parquet" else table.drop("draws"), to)
    if as_json:
        say_json(table.drop("draws").to_dicts())
    else:
        console.print(
            scores_table(table)
            if len(table)
            else "no scores yet; `radsweep status` says how far it is"
        )
        for name, reason in not_asked(root, loaded, loaded.cells()):
            console.print(f"- {name}: {reason}", highlight=False)
        for task, caution in rare_means(table):
            console.print(f"- {task}: {caution}", highlight=False)
        for rows in judged:
            console.print(report_metrics_table(rows))
    aside = Console(stderr=True) if as_json else console
    if judge is not None:
        aside.print(f"- {judge.account}", highlight=False)
    for name, reason in failed:
        aside.print(f"- {name}: {reason}", highlight=False)
    if failed:
        raise typer.Exit(1)


def _slices(sweep: Sweep, store: Store, by: str, to: Path | None, *, as_json: bool) -> None:
    from radsweep.evaluate.slices import slice_scores
    from radsweep.sweep.results import write_rows
    from radsweep.sweep.show_slices import slices_table

    table = slice_scores(store, sweep, sweep.cells(), by)
    if to is not None:
        write_rows(table, to)
    if as_json:
        say_json(table.to_dicts())
    else:
        console.print(slices_table(table))


def compare(
    sweep: SweepArgument,
    store: StoreOption = "",
    task: Annotated[str, typer.Option(help="Of the protocol")] = "findings",
    metric: Annotated[str | None, typer.Option(help="None takes the task's headline")] = None,
    label: Annotated[str, typer.Option(help="One of the task's labels, or macro")] = "macro",
    only: Annotated[str, typer.Option(help="Glob over cell names: pairs of which one fits")] = "*",
    to: Annotated[Path | None, typer.Option(help="Write these pairs to a .csv file")] = None,
    as_json: JsonOption = False,
) -> None:
    """Is one encoder better than another? Paired differences, corrected over a probe's pairs."""
    from radsweep.evaluate.compare import paired_differences
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.show import differences_table

    loaded, root = load_sweep(sweep), open_store(store)
    table = paired_differences(root, loaded, loaded.cells(), task, metric=metric, label=label)
    # Corrected over every pair, whichever are shown.
    pairs = table.select("cell", "other").rows()
    shown = table.filter([any(fnmatchcase(cell, only) for cell in pair) for pair in pairs])
    if to is not None:
        shown.write_csv(to)
    if as_json:
        say_json(shown.to_dicts())
    elif to is None:
        console.print(differences_table(shown))


def laws(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV or Parquet, ours or not")],
    x: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of sizes above 0; images if not given. Twice, model size then data, for "
            "the joint law E + A/size^alpha + B/data^beta"
        ),
    ] = None,
    y: Annotated[str, typer.Option(help="Column of scores in 0 to 1, or of losses")] = "value",
    by: Annotated[
        list[str] | None, typer.Option(help="Columns whose values make a curve each")
    ] = None,
    lower_is_better: Annotated[bool, typer.Option(help="Y is a loss or an error")] = False,
    seen: Annotated[
        str | None,
        typer.Option(help="Column of images seen: sizes become effective unique images"),
    ] = None,
    bootstraps: Annotated[
        int, typer.Option(min=0, help="Resamples for the joint law's intervals")
    ] = 400,
    as_json: JsonOption = False,
) -> None:
    """Fit scaling laws to any table."""
    from radsweep.laws.table import fit_joint_table, fit_table, read_table
    from radsweep.sweep.show import laws_table

    frame = read_table(table)
    sizes, groups = x or ["images"], by or []
    if len(sizes) == 1:
        fits = fit_table(frame, sizes[0], y, groups, lower_is_better=lower_is_better, seen=seen)
    else:
        fits = fit_joint_table(
            frame, sizes, y, groups, lower_is_better=lower_is_better, bootstraps=bootstraps
        )
    if as_json:
        say_json(fits.to_dicts())
        return
    console.print(laws_table(fits, " and ".join(sizes), y, groups))


def forecast(
    sweep: SweepArgument,
    store: StoreOption = "",
    images: Annotated[
        float | None, typer.Option(min=1, help="The scores to expect at so many images")
    ] = None,
    score: Annotated[
        float | None, typer.Option(help="The images that such a score would take")
    ] = None,
    usd_per_device_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of a device, for the costs")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What more images would buy, who overtakes whom, how sure that is, and what to run next."""
    from radsweep.laws.analysis import analyse
    from radsweep.laws.crossovers import (
        crossover_sentences,
        crossovers,
        doubling_sentences,
        doublings,
    )
    from radsweep.laws.forecasts import (
        cell_device_hours,
        forecast_at,
        forecast_sentences,
        images_needed,
    )
    from radsweep.laws.next_cells import next_cells
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.results import read_cells, read_scores
    from radsweep.sweep.show import next_cells_table
    from radsweep.sweep.show_forecast import forecast_lines

    loaded, root = load_sweep(sweep), open_store(store)
    if (images is None) == (score is None):
        raise SpecError("give either --images, to hear the score, or --score, to hear the images")
    analyses = analyse(read_scores(loaded, root))
    hours = cell_device_hours(read_cells(loaded, root))
    if images is not None:
        table = forecast_at(
            analyses, images, device_hours=hours, usd_per_device_hour=usd_per_device_hour
        )
    else:
        assert score is not None
        table = images_needed(
            analyses, score, device_hours=hours, usd_per_device_hour=usd_per_device_hour
        )
    following = next_cells(analyses, hours, ahead=images)
    doubled, crossed = doublings(analyses), crossovers(analyses)
    if as_json:
        say_json(
            {
                **{"forecasts": table.to_dicts(), "next_cells": following.to_dicts()},
                **{"doublings": doubled.to_dicts(), "crossovers": crossed.to_dicts()},
            }
        )
        return
    asked = f"At {images:,.0f} images" if images is not None else f"For a score of {score:g}"
    for heading, answers, rows in (
        (asked, forecast_sentences(table, analyses), table),
        ("What the last doubling bought", doubling_sentences(doubled, analyses), doubled),
        ("Who overtakes whom", crossover_sentences(crossed, analyses), crossed),
    ):
        if rows.height:
            console.print(heading, style="bold")
        for line in forecast_lines(answers, rows):
            console.print(line, highlight=False)
    if following.height:
        console.print(next_cells_table(following))


def dash(
    sweep: SweepArgument,
    store: StoreOption = "",
    export: Annotated[
        Path | None, typer.Option(help="Write one self-contained HTML file and stop")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Other than localhost shows the scores to your network")
    ] = "127.0.0.1",
    port: int = 8050,
) -> None:
    """The live dashboard on localhost, or one self-contained HTML file."""
    from radsweep.dashboards.app import build_app
    from radsweep.dashboards.page import export_html
    from radsweep.sweep.dash import load_tables
    from radsweep.sweep.load import load_sweep
    from radsweep.sweep.results import Kept

    loaded, root = load_sweep(sweep), open_store(store)
    if export is not None:
        export_html(load_tables(loaded, root), export)
        console.print(f"wrote {export}")
        return
    console.print(f"dashboard of {loaded.name}: http://{host}:{port}  (Ctrl-C stops it)")
    kept = Kept()
    build_app(lambda: load_tables(loaded, root, kept)).run(host=host, port=port, debug=False)


def export(
    cell: Annotated[str, typer.Argument(help="Name of a finished cell")],
    out: Annotated[Path, typer.Argument(help="Folder to write")],
    to: Annotated[str, typer.Option(help="radsweep, timm, hf, dinov2 or mi2")] = "timm",
    store: StoreOption = "",
) -> None:
    """A finished encoder in a form that others load."""
    from radsweep.sweep.export import export_cell

    export_cell(open_store(store), cell, to, out)
    console.print(f"wrote {cell} as {to} to {out}")
