"""What a corpus says of itself: counts, and warnings to read before any compute is spent."""

from datetime import UTC, datetime
from typing import Any

import polars as pl

from radsweep import __version__
from radsweep.corpus.chunk import Job
from radsweep.corpus.policies import policy_facts
from radsweep.corpus.split import SPLITS

OTHER_PATIENT = "pixels of another patient"
"""Two patients with one picture are one patient under two identifiers, or a mix-up: the card counts
them."""

FEW_MATCHES = 0.5
"""The card warns of a table that knows a smaller share of the images by a smaller share of its own
rows: a key is often written in two ways. Of few masks most rows find their image, and of an archive
from which a part is ingested most images their row; both are right."""

ROW_OF = {"accession_number": "exam_id", "patient_id": "patient_id"}
"""Key of a table -> column of the manifest that a row of it is one value of; else ``image_id``."""


def make_card(
    job: Job,
    *,
    manifest: pl.DataFrame,
    quarantine: pl.DataFrame,
    tables_found: pl.DataFrame,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """The value of ``card.json``: no identifier, no path, no date but that of the ingest.

    Args:
        job: what was ingested, and how.
        manifest: of the finished corpus.
        quarantine: all that is not in it.
        tables_found: the manifest's identifiers, and ``tables_found``, the numbers of the tables
            that know each image.
        facts: written as they are: digests and ``label_provenance`` (label column -> what it was
            made by; a column that is absent from it came from the hospital's own tables).
    """
    tables = []
    for number, table in enumerate(job.tables.tables):
        found = tables_found.filter(pl.col("tables_found").list.contains(number))
        tables.append(
            {
                "key": table.key,
                "rows": table.rows.num_rows,
                "rows_found": found[ROW_OF.get(table.key, "image_id")].n_unique(),
                "images": found.height,
            }
        )
    other_patient = quarantine.filter(pl.col("detail") == OTHER_PATIENT).height
    return {
        "corpus": job.corpus,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": __version__,
        "files": job.files.num_rows,
        **_counts(manifest),
        "splits": {name: _counts(manifest.filter(pl.col("split") == name)) for name in SPLITS},
        "fractions": dict(zip(SPLITS, job.fractions, strict=True)),
        "split_seed": job.split_seed,
        "views": _value_counts(manifest, "view"),
        "quarantined": _value_counts(quarantine, "reason"),
        "same_pixels_in_different_patients": other_patient,
        "policy": policy_facts(job.policy),
        "label_columns": list(job.tables.labels),
        "mask_classes": list(job.tables.mask_classes),
        "labels": _label_counts(manifest, job.tables.labels),
        "tables": tables,
        "bytes": int(manifest["length"].sum()) + int(manifest["mask_length"].sum()),
        "shared_images": _value_counts(manifest.filter(pl.col("corpus") != job.corpus), "corpus"),
        **facts,
        "warnings": _warnings(tables, manifest.height, other_patient),
    }


def _counts(manifest: pl.DataFrame) -> dict[str, int]:
    return {
        "images": manifest.height,
        "patients": manifest["patient_id"].n_unique(),
        "exams": manifest["exam_id"].n_unique(),
        "reports": manifest["report"].count(),
        "masks": manifest["mask_offset"].count(),
    }


def _value_counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(
        frame.group_by(column).len().sort("len", column, descending=[True, False]).iter_rows()
    )


def _label_counts(manifest: pl.DataFrame, labels: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Per label and split, images with each of its values."""
    return {
        label: {
            f"{split}_{name}": manifest.filter(
                (pl.col("split") == split) & pl.col(label).eq_missing(value)
            ).height
            for split in SPLITS
            for name, value in (("present", 1), ("absent", 0), ("uncertain", -1), ("missing", None))
        }
        for label in labels
    }


def _warnings(tables: list[dict[str, Any]], images: int, other_patient: int) -> list[str]:
    said = [
        f"the table keyed by {table['key']} knows {table['images']:,} of {images:,} images by "
        f"{table['rows_found']:,} of its {table['rows']:,} rows; is the key written in the same "
        "way?"
        for table in tables
        if table["images"] < FEW_MATCHES * images
        and table["rows_found"] < FEW_MATCHES * table["rows"]
    ]
    if other_patient:
        said.append(
            f"{other_patient:,} pictures came under two patients; the second was left out, but one "
            "person under two identifiers may still be in two splits"
        )
    return said
