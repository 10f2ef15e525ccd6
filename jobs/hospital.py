r"""A hospital's own sweep, to copy and to fill in: weights, corpus, scales, budget, tasks.

Published weights are continued on one's own films at four scales::

    radsweep ingest DICOM --reports reports.csv --labels labels.csv --masks masks.csv \
        --size 518 --corpus ours@1
    cp jobs/hospital.py jobs/ours.py
    radsweep plan jobs/ours.py            # before a cent is spent

Films are never shown on its dashboard: that is ``may_show_images``, and stays off for patients.
"""

from radsweep import Budget, Protocol, Sweep
from radsweep.jobs.presets import mi2_clip, mi2_unicl, rad_dino

WEIGHTS = "/weights"
"""A folder or URL with the published files of MedImageInsight and RAD-DINO."""

BATCH_SIZE = 1024

SWEEP = Sweep(
    name="ours",
    corpus="ours@1",
    recipes=(
        # CLIP needs reports; UniCL needs structured labels, reports or both.
        mi2_clip(f"{WEIGHTS}/MedImageInsight"),
        mi2_unicl(f"{WEIGHTS}/MedImageInsight"),
        rad_dino(f"{WEIGHTS}/rad-dino", batch_size=BATCH_SIZE),
    ),
    images=(30_000, 100_000, 300_000, 1_000_000),
    # About three million films seen by MedImageInsight, two million by RAD-DINO.
    budget=Budget(flops=6e18, batch_size=BATCH_SIZE),
    # Leave out what there is nothing for: without labels ``findings`` and ``lines_tubes``, without
    # masks ``lines_tubes_seg``, without reports ``reports``.
    protocol=Protocol(tasks=("findings", "lines_tubes", "lines_tubes_seg", "reports")),
)
