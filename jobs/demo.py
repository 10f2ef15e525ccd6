"""The demo: three paradigms, four data scales and the open weights, on two CPU cores, in minutes.

``radsweep demo`` draws the hospital, ingests it and runs this. `riverside` is "our" hospital; the
open weights were pretrained on `northside`, which has other scanners, other patients and other
words (``jobs/open_weights.py``). Sizes are the smallest at which the study's questions have
answers.
"""

import dataclasses

from radsweep import Budget, Protocol, Sweep, settings
from radsweep.jobs.open_weights import DINOV2, SHIPPED, UNICL

OPEN_DINOV2 = dataclasses.replace(DINOV2, start_from=f"{SHIPPED}/dinov2")
OPEN_UNICL = dataclasses.replace(
    UNICL,
    start_from=f"{SHIPPED}/unicl",
    settings=settings(
        {
            **dict(UNICL.settings),
            # Whole films, as they are: what a small corpus cannot teach then shows within minutes.
            # With MedImageInsight's crops a few films are learnt by heart in so many guises that
            # they teach nearly as much as many.
            "crop_scale_min": 1.0,
            "jitter": 0.0,
            "label_share": 0.7,
        }
    ),
)

CLIP_SETTINGS = {
    name: value
    for name, value in OPEN_UNICL.settings
    if name not in ("label_share", "label_policy")
}
OPEN_CLIP = dataclasses.replace(OPEN_UNICL, paradigm="clip", settings=settings(CLIP_SETTINGS))
"""The same weights, continued on reports alone."""

SWEEP = Sweep(
    name="demo",
    corpus="riverside@1",
    recipes=(OPEN_CLIP, OPEN_UNICL, OPEN_DINOV2),
    images=(50, 200, 800, 3200),
    # FLOPs, so that a DINOv2 image with all its crops counts for what it costs.
    budget=Budget(flops=8.0e11, batch_size=32),
    protocol=Protocol(
        tasks=("findings", "lines_tubes", "lines_tubes_seg", "reports"),
        search_trials=1,
        bootstraps=500,
        settings=settings(
            {
                "segment.steps": 250,
                "segment.width": 32,
                "report.steps": 600,
                "report.width": 64,
                "report.layers": 1,
                "report.learning_rate": 0.01,
            }
        ),
    ),
)
