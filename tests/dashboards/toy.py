"""A made-up sweep with the study's scales whose laws are known; no number in it was measured."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import polars as pl

from radsweep.dashboards.tables import Tables
from radsweep.store.scores import LABEL_GAINS, SLICES

SCALES = (0, 30_000, 50_000, 100_000, 1_000_000, 3_500_000)
STARTS = {"clip": "medimageinsight", "unicl": "medimageinsight", "dinov2": "rad-dino"}
LABELS = {
    "findings": ("atelectasis", "cardiomegaly", "consolidation", "edema", "effusion", "pneumonia"),
    "lines_tubes": ("endotracheal tube", "central line", "chest tube", "gastric tube"),
    "lines_tubes_seg": ("endotracheal tube", "central line", "chest tube"),
    "reports": (),
}
METRICS = {
    "findings": ("auprc", "auroc"),
    "lines_tubes": ("auprc", "auroc"),
    "lines_tubes_seg": ("dice",),
    "reports": ("finding_f1", "rouge_l"),
}
# floor, start error and exponent of error = floor + (start - floor) * (1 + n / worth) ** -exponent
LAWS = {
    ("findings", "clip"): (0.24, 0.42, 0.22),
    ("findings", "unicl"): (0.22, 0.42, 0.30),
    ("findings", "dinov2"): (0.25, 0.45, 0.35),
    ("lines_tubes", "clip"): (0.20, 0.34, 0.10),
    ("lines_tubes", "unicl"): (0.16, 0.34, 0.22),
    ("lines_tubes", "dinov2"): (0.10, 0.36, 0.38),
    ("lines_tubes_seg", "clip"): (0.36, 0.36, 0.20),
    ("lines_tubes_seg", "unicl"): (0.34, 0.36, 0.10),
    ("lines_tubes_seg", "dinov2"): (0.15, 0.33, 0.30),
    ("reports", "clip"): (0.50, 0.66, 0.25),
    ("reports", "unicl"): (0.52, 0.66, 0.20),
    ("reports", "dinov2"): (0.58, 0.70, 0.20),
}
WORTH = 60_000.0
# Some paradigms first forget: what the score loses at the smallest scale, fading as 1 / images.
FORGOTTEN = {
    ("findings", "clip"): 0.05,
    ("lines_tubes", "unicl"): 0.06,
    ("reports", "dinov2"): 0.06,
}
UNFINISHED = {
    ("clip", 3_500_000, 1): ("running", 0.62, None),
    ("dinov2", 100_000, 1): ("failed", 0.31, "node lost three times; last: CUDA out of memory"),
    ("unicl", 1_000_000, 1): ("preempted", 0.48, None),
    ("dinov2", 3_500_000, 1): ("waiting", 0.0, None),
}
IMAGES_SEEN = 12_800_000
FLOPS_PER_IMAGE = {"clip": 9.1e10, "unicl": 9.1e10, "dinov2": 2.3e11}


def truth(task: str, paradigm: str, images: float) -> float:
    """The toy's score without noise."""
    floor, start, exponent = LAWS[task, paradigm]
    forgotten = FORGOTTEN.get((task, paradigm), 0.0) * SCALES[1] / images if images else 0.0
    return float(1 - floor - (start - floor) * (1 + images / WORTH) ** -exponent) - forgotten


def toy_cells(seeds: tuple[int, ...], finished: bool = False) -> list[tuple[str, int, int]]:
    return [
        (paradigm, images, seed)
        for images in SCALES
        for paradigm in STARTS
        for seed in (seeds if images else (0,))
        if not finished or (paradigm, images, seed) not in UNFINISHED
    ]


def toy_scores(
    seeds: tuple[int, ...] = (0, 1), draws: int = 300, noise: float = 0.004, sweep: str = "toy"
) -> pl.DataFrame:
    rng = np.random.default_rng(11)
    rows: list[dict[str, Any]] = []
    moment = datetime.datetime(2026, 3, 1, 8, 0)
    for task, metrics in METRICS.items():
        common = rng.normal(0, 0.008, draws)
        shared = rng.normal(0, 0.008)
        for paradigm, images, seed in toy_cells(seeds, finished=True):
            base = truth(task, paradigm, images) + rng.normal(0, noise)
            for index, metric in enumerate(metrics):
                for place, label in enumerate(("macro", *LABELS[task])):
                    value = base + shared + 0.1 * index
                    spread = 0.008
                    if place:
                        value += 0.05 * np.sin(2.1 * place) + rng.normal(0, 0.006)
                        spread = 0.012
                    value = float(np.clip(value, 0, 1))
                    is_headline = index == 0 and place == 0
                    sample = value + common + rng.normal(0, noise, draws)
                    rows.append(
                        {
                            "sweep": sweep,
                            "cell": f"{paradigm}-{images}-s{seed}",
                            "paradigm": paradigm,
                            "start_from": STARTS[paradigm],
                            "images": images,
                            "images_seen": IMAGES_SEEN if images else 0,
                            "epochs": IMAGES_SEEN / images if images else 0.0,
                            "flops": IMAGES_SEEN * FLOPS_PER_IMAGE[paradigm] if images else 0.0,
                            "seed": seed,
                            "subset_seed": 0,
                            "stratify_by": None,
                            "task": task,
                            "probe": {"lines_tubes_seg": "segment", "reports": "report"}.get(
                                task, "linear"
                            ),
                            "label": label,
                            "metric": metric,
                            "headline": is_headline,
                            "value": value,
                            "ci_low": value - 1.96 * spread,
                            "ci_high": value + 1.96 * spread,
                            "n_test": 4000,
                            "n_positive": None if place == 0 else 900 // place,
                            "split": "test",
                            "code_version": "0.1.0",
                            "finished_at": moment,
                            "draws": sample.astype(np.float32).tolist() if is_headline else None,
                        }
                    )
    schema = {"n_positive": pl.Int64, "draws": pl.List(pl.Float32), "stratify_by": pl.String}
    return pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None)


def toy_gains(scores: pl.DataFrame) -> pl.DataFrame:
    """Of every label at the largest scale, with an interval of one width."""
    place = ["task", "probe", "metric", "label", "paradigm", "start_from", "n_positive"]
    labels = scores.filter(pl.col("label") != "macro", pl.col("metric").is_in(["auprc", "dice"]))
    means = labels.group_by(*place, "images").agg(pl.col("value").mean(), seeds=pl.len())
    base = means.filter(images=0).select(*place[:-1], start="value")
    top = means.filter(images=max(SCALES)).join(base, on=place[:-1])
    gain = pl.col("value") - pl.col("start")
    return (
        top.with_columns(gain=gain, ci_low=gain - 0.03, ci_high=gain + 0.03)
        .with_columns(
            p=pl.when(pl.col("ci_low") > 0).then(0.001).otherwise(0.4),
            p_holm=pl.when(pl.col("ci_low") > 0).then(0.02).otherwise(1.0),
        )
        .select(LABEL_GAINS.names())
        .match_to_schema(LABEL_GAINS, integer_cast="upcast")
    )


def toy_slices(scores: pl.DataFrame) -> pl.DataFrame:
    """The headline numbers, a little higher in one sex and in the young; of one band too few."""
    heads = scores.filter("headline", pl.col("images").is_in([0, max(SCALES)]))
    shifts = {("sex", "F"): 0.02, ("sex", "M"): -0.02, ("age", "18-39"): 0.04, ("age", "80+"): None}
    parts = [
        heads.with_columns(
            by=pl.lit(by),
            slice=pl.lit(name),
            value=pl.col("value") + shift,
            ci_low=pl.col("ci_low") - 0.01 + shift,
            ci_high=pl.col("ci_high") + 0.01 + shift,
            n_test=pl.lit(1800, dtype=pl.Int64),
            reason=pl.lit("too few patients here" if shift is None else None, dtype=pl.String),
        )
        for (by, name), shift in shifts.items()
    ]
    return pl.concat(
        [p.select(SLICES.names()).match_to_schema(SLICES, missing_columns="raise") for p in parts]
    )


def _cells(seeds: tuple[int, ...]) -> pl.DataFrame:
    rows = []
    moment = datetime.datetime(2026, 3, 1, 8, 0)
    for paradigm, images, seed in toy_cells(seeds):
        state, spent, reason = UNFINISHED.get((paradigm, images, seed), ("done", 1.0, None))
        seen = round(IMAGES_SEEN * spent) if images else 0
        seconds = seen / 900
        rows.append(
            {
                "cell": f"{paradigm}-{images}-s{seed}",
                "recipe": f"{paradigm} from {STARTS[paradigm]}",
                "paradigm": paradigm,
                "images": images,
                "seed": seed,
                "state": state,
                "spent": spent,
                "images_seen": seen,
                "steps": seen // 1024,
                "flops": seen * FLOPS_PER_IMAGE[paradigm],
                "seconds": seconds,
                "reason": reason,
                "started_at": None if state == "waiting" else moment,
                "finished_at": moment + datetime.timedelta(seconds=seconds)
                if state == "done"
                else None,
                "workers": 8,
                "device": "NVIDIA H100",
                "images_per_second": 905.0 if state == "running" else None,
                "data_wait": 0.03 if state == "running" else None,
                "mfu": 0.41 if state == "running" else None,
                "loss": 1.217 if state == "running" else None,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _steps(cells: pl.DataFrame) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    rows = []
    for cell in cells.filter(pl.col("images") > 0).iter_rows(named=True):
        for spent in np.arange(0.01, cell["spent"] + 1e-9, 0.01):
            start = {"clip": 3.2, "unicl": 2.9, "dinov2": 8.5}[cell["paradigm"]]
            loss = start * (0.35 + 0.4 * spent**-0.12 * (1 - 0.12 * np.log10(cell["images"] / 3e4)))
            rows.append(
                {
                    "cell": cell["cell"],
                    "step": round(12_500 * spent),
                    "images_seen": round(IMAGES_SEEN * spent),
                    "spent": float(spent),
                    "loss": float(loss + rng.normal(0, 0.02)),
                    "learning_rate": float(1e-4 * np.cos(spent * np.pi / 2)),
                    "images_per_second": float(900 + rng.normal(0, 10)),
                    "data_wait": 0.03,
                    "mfu": float(0.41 + rng.normal(0, 0.01)),
                    ("monitor_cls_cosine" if cell["paradigm"] == "dinov2" else "monitor_scale"): (
                        float(0.2 + 0.1 * spent)
                    ),
                    "seconds": float(spent * 14_000),
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def toy_tables(seeds: tuple[int, ...] = (0, 1), draws: int = 300, name: str = "toy") -> Tables:
    cells = _cells(seeds)
    sweep = {
        "name": name,
        "corpus": "toy@1",
        "code_version": "0.1.0",
        "spec": {
            "recipes": [{"paradigm": p, "start_from": s} for p, s in STARTS.items()],
            "images": list(SCALES),
            "seeds": list(seeds),
            "budget": {"images_seen": IMAGES_SEEN, "batch_size": 1024},
            "tasks": list(METRICS),
        },
        "plan": {
            **{"machine": "eight-gpus", "usd_per_device_hour": 2.5, "weights_gigabytes": 310.0},
            **{"device_hours": 36.0 * len(cells), "usd": 90.0 * len(cells)},
            "cells": dict.fromkeys(cells["cell"], 36.0),
        },
        "card": {
            "images": 3_612_044,
            "patients": 1_204_311,
            "reports": 3_540_101,
            "quarantined": {"not a chest x-ray": 4210, "cannot be decoded": 311, "no pixels": 12},
            "splits": {
                "pretrain": {"images": 3_512_300, "patients": 1_170_000},
                "test": {"images": 20_120, "patients": 6_700},
            },
            "labels": {
                "finding_effusion": {
                    **{"pretrain_present": 81_003, "pretrain_absent": 3_431_297},
                    **{"test_present": 502, "test_absent": 19_600, "test_uncertain": 18},
                }
            },
        },
    }
    scores = toy_scores(seeds, draws, sweep=name)
    return Tables(
        scores=scores,
        cells=cells,
        steps=_steps(cells),
        sweep=sweep,
        label_gains=toy_gains(scores),
        slices=toy_slices(scores),
    )
