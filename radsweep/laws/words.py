"""How tasks, paradigms, metrics and counts of images are written in sentences and on axes.

A part that is not named here is written as its own name with spaces, so a new one needs no entry;
an entry only makes it read better.
"""

from __future__ import annotations

import math

TASKS = {
    "findings": "Findings",
    "lines_tubes": "Lines and tubes",
    "lines_tubes_seg": "Lines and tubes, segmentation",
    "reports": "Report generation",
}
PARADIGMS = {"clip": "CLIP", "unicl": "UniCL", "dinov2": "DINOv2"}
METRICS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "dice": "Dice",
    "finding_f1": "finding F1",
    "rouge_l": "ROUGE-L",
    "bleu_4": "BLEU-4",
}

ABBREVIATIONS = frozenset({"cvc", "ecg", "ett", "ngt"})


def task_title(task: str) -> str:
    """The task as a heading."""
    return TASKS.get(task, task.replace("_", " ").capitalize())


def paradigm_title(arm: str) -> str:
    """A paradigm, or a paradigm with its open weights, to read."""
    paradigm, *rest = arm.split(" ", 1)
    return " ".join([PARADIGMS.get(paradigm, paradigm), *rest])


def label_title(label: str) -> str:
    """A finding or a tube as radiologists write it: ``ecg_leads`` is ECG leads."""
    return " ".join(word.upper() if word in ABBREVIATIONS else word for word in label.split("_"))


def metric_title(metric: str) -> str:
    """The metric as it is written in a paper."""
    return METRICS.get(metric, metric.replace("_", " "))


def images_in_words(images: float, *, digits: int | None = None) -> str:
    """A count of images to read: 30,000 or 3.5 million; ``digits`` rounds an estimate first."""
    if digits is not None and images > 0:
        images = round(images, digits - 1 - math.floor(math.log10(images)))
    if images >= 1_000_000:
        return f"{images / 1_000_000:.4g} million"
    return f"{images:,.0f}"


def images_short(images: float) -> str:
    """A count of images for a tick or a legend: 500, 30k, 3.5M."""
    if images >= 1_000_000:
        return f"{images / 1_000_000:.4g}M"
    return f"{images / 1_000:.4g}k" if images >= 1_000 else f"{images:.4g}"
