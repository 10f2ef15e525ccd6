r"""The same job on real x-rays: public chest films, continued from the demo's open weights.

CXR is a folder with ``metadata.csv`` (a row per image: ``path``, ``patient_id``, ``sex``, ``age``,
``view``, ``report``, ``mask_paths`` as ``class=path|class=path``, and ``y_*`` columns of 1, 0 or
blank) and, in folders beside it, the pictures that it names. It is only read::

    export RADSWEEP_PATIENT_KEY=$(openssl rand -hex 32) RADSWEEP_STORE=real/store  # keep the key
    python -m radsweep.jobs.real_xrays CXR real/tables
    radsweep ingest CXR/{nih512,nih1024,kermany,covid,seg,hannover} \
        --reports real/tables/xrays.csv --labels real/tables/xrays.csv \
        --masks real/tables/masks.csv --size 96 --fractions 0.5,0.2,0.1,0.2 --corpus realcxr@1
    radsweep plan real_xrays
    radsweep run real_xrays
    radsweep scores real_xrays
    radsweep dash real_xrays

What is left out, and why:

- films of 64 px (``nih64``): blown up to 96 px they show no line and no small finding, and their
  blur would tell an encoder which folder, and so which mix of labels, a film comes from;
- ``clip``: it learns from reports alone, and one film in nine has one, so that some batch of a cell
  has too few to contrast; ``unicl`` reads labels where there is no report;
- ``lines_tubes`` and ``lines_tubes_seg``: no tube is labelled or drawn in five patients of train
  and five of test;
- ``reports``: its texts are 98 case notes, and whether those of five test patients state so much as
  one finding (consolidation) depends on the draw of the split.

A fifth of the patients is for test and a tenth for val, since findings are rare; the key draws the
split, and ``images`` leaves room for an unlucky one. Labels are noisy and each source collected
its own mix, so that a score here says that everything works on real films, and nothing of clinical
use.
"""

import argparse
import dataclasses
import os.path
from pathlib import Path

import polars as pl

from radsweep import Budget, Protocol, Sweep
from radsweep.errors import SpecError
from radsweep.jobs.open_weights import DINOV2, SHIPPED, UNICL

SWEEP = Sweep(
    name="real-xrays",
    corpus="realcxr@1",
    recipes=(
        # Lower peaks than those that the weights were made with: they are continued.
        dataclasses.replace(UNICL, start_from=f"{SHIPPED}/unicl", learning_rate=1e-3),
        dataclasses.replace(DINOV2, start_from=f"{SHIPPED}/dinov2", learning_rate=5e-4),
    ),
    images=(80, 160, 320),
    budget=Budget(flops=5e11, batch_size=32),
    protocol=Protocol(tasks=("findings",), search_trials=1, bootstraps=500),
)

FOLDERS = ("nih512", "nih1024", "kermany", "covid", "seg", "hannover")
"""Those that the command above ingests."""

FACTS = ("patient_id", "view", "sex", "age", "report")
TUBES = {"ett": "endotracheal_tube", "cvc": "central_venous_line", "ngt": "nasogastric_tube"}
"""Name in the corpus -> class in ``mask_paths``. Lungs and heart are drawn too, but segmentation is
of lines and tubes here, and scores every class that the corpus has."""

TUBES_DRAWN_IN = ("seg",)
"""Folders whose films have every tube drawn: there, no mask means no tube; elsewhere, unknown."""


def prepare(source: Path, out: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write ``xrays.csv`` and ``masks.csv``, the tables that ``radsweep ingest`` reads.

    Args:
        source: the folder with ``metadata.csv``.
        out: made where it is not there. The tables name patients: keep them with the films.

    Returns:
        Both tables: ``path`` (absolute) with ``FACTS``, ``finding_*`` and ``tube_*``; and ``path``
        with ``mask_*`` (absolute paths, null where the tube is known to be absent).

    Raises SpecError where there is no ``metadata.csv``, or it lacks a column.
    """
    metadata = source / "metadata.csv"
    if not metadata.is_file():
        raise SpecError(f"{source} has no metadata.csv; name the folder that has one row per image")
    # As text: 1, 0 and blank stay what they are.
    rows = pl.read_csv(metadata, infer_schema=False)
    missing = {"path", "mask_paths", *FACTS} - set(rows.columns)
    if missing:
        raise SpecError(f"metadata.csv lacks the columns {', '.join(sorted(missing))}")
    root = os.path.abspath(source)
    folder = pl.col("path").str.split("/").list.first()
    rows = rows.filter(folder.is_in(FOLDERS))
    place = pl.format("{}/{}", pl.lit(root), pl.col("path")).alias("path")
    tubes = [f"y_{name}" for name in TUBES]
    others = ("y_probes", "y_tubings")
    findings = [c for c in rows.columns if c.startswith("y_") and c not in (*tubes, *others)]
    xrays = rows.select(
        place,
        # A lone L is a side as often as a lateral, so that ingest takes it for neither.
        *(pl.col(c).replace({"L": "lateral"}) if c == "view" else pl.col(c) for c in FACTS),
        *(pl.col(c).alias(f"finding_{c.removeprefix('y_').lower()}") for c in findings),
        *(pl.col(c).alias(f"tube_{c.removeprefix('y_')}") for c in tubes),
    )
    masks = rows.filter(folder.is_in(TUBES_DRAWN_IN)).select(
        place,
        *(
            pl.format(
                "{}/{}", pl.lit(root), pl.col("mask_paths").str.extract(rf"(?:^|\|){drawn}=([^|]+)")
            ).alias(f"mask_{name}")
            for name, drawn in TUBES.items()
        ),
    )
    out.mkdir(parents=True, exist_ok=True)
    xrays.write_csv(out / "xrays.csv")
    masks.write_csv(out / "masks.csv")
    return xrays, masks


def main() -> None:
    """Read the two folders from the command line, prepare, and say what was written."""
    parser = argparse.ArgumentParser(prog="python -m radsweep.jobs.real_xrays", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", metavar="CXR_FOLDER", type=Path)
    parser.add_argument("out", metavar="OUT_FOLDER", type=Path)
    given = parser.parse_args()
    try:
        xrays, masks = prepare(given.source, given.out)
    except SpecError as fault:
        parser.exit(1, f"error {fault}\n")
    print(
        f"{xrays.height:,} x-rays of {xrays['patient_id'].n_unique():,} patients, "
        f"{xrays['report'].count():,} with a report, in {given.out}/xrays.csv; "
        f"{masks.height:,} with drawn tubes in {given.out}/masks.csv"
    )


if __name__ == "__main__":
    main()
