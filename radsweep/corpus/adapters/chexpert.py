"""CheXpert v1.0, full or small: ``train.csv``, ``valid.csv`` and, where it is there, ``test.csv``.

Irvin et al. 2019 (arXiv 1901.07031). ``Path`` begins with the name of the release's own folder
(``CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg``), which is dropped, so that the
root may be called anything. An age of 0 stands for unknown.
"""

from typing import final

import polars as pl

from radsweep.corpus.adapters.base import Export, Folder, Layout, Origin, without_unnamed
from radsweep.corpus.adapters.vocabulary import column_of
from radsweep.errors import SpecError

VERSION = 1

FACTS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
ORIGIN = Origin(
    kind="rule+human",
    by="CheXpert labeler v1.0 (Irvin et al. 2019) on the report in train, blank is not mentioned; "
    "majority of radiologists on the films in valid and test",
)


@final
class CheXpert(Layout):
    """224,316 JPEG files of 65,240 patients."""

    def read(self, root: Folder) -> Export:
        """As ``Layout.read``."""
        parts = [
            root.table(f"{name}.csv", columns=FACTS)
            for name in ("train", "valid", "test")
            if root.first([f"{name}.csv"]) is not None
        ]
        if not parts:
            raise SpecError("this root has no train.csv, which CheXpert has; name its folder")
        rows = pl.concat(parts, how="diagonal")
        labels = {name: column_of(name) for name in rows.columns if name not in FACTS}
        path = pl.col("Path").str.extract(r"((?:train|valid|test)/.*)$")
        lateral = pl.col("Frontal/Lateral").str.to_lowercase() == "lateral"
        images = rows.select(
            path=path,
            patient_id=path.str.extract(r"(patient\d+)/"),
            exam_id=path.str.extract(r"(patient\d+/study\d+)/"),
            view=pl.when(lateral)
            .then(pl.lit("LATERAL"))
            .otherwise(pl.coalesce("AP/PA", "Frontal/Lateral")),
            sex="Sex",
            age=pl.when(pl.col("Age").cast(pl.Float64, strict=False) > 0).then("Age"),
            **{column: name for name, column in labels.items()},
        )
        return Export(
            files=tuple(
                f"{name}/**/*.jpg"
                for name in ("train", "valid", "test")
                if root.first([f"{name}/**/*.jpg"]) is not None
            ),
            tables=(without_unnamed(images, "path"),),
            provenance=dict.fromkeys(labels.values(), ORIGIN),
        )


LAYOUT = CheXpert
