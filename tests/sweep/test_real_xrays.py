"""The job on real x-rays: what its ``prepare`` makes of a folder, on pictures that nobody is in."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.jobs.real_xrays import SWEEP, prepare
from radsweep.store import Store
from radsweep.sweep.plan import check

METADATA = """\
path,patient_id,sex,age,view,report,mask_paths,y_Edema,y_No_Finding,y_ett,y_cvc,y_ngt,y_probes
nih512/a.png,nih:1,M,42,PA,,,1.0,0.0,,,,
nih64/b.png,nih:2,F,30,PA,,,0.0,1.0,,,,
covid/c.png,covid:3,F,61,L,Opacities.,lungs=masks/c_l.png,,,,,,
seg/d.png,covid:4,,1-5y,AP,Tube.,left_lung=masks/d_l.png|endotracheal_tube=masks/d_e.png,,,1,0,0,1
seg/e.png,covid:5,M,50,AP,,left_lung=masks/e_l.png,,,0,0,0,0
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "cxr"
    generator = np.random.default_rng(0)
    for path in ("nih512/a", "nih64/b", "covid/c", "seg/d", "seg/e", "masks/d_e"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        noise = np.cumsum(generator.normal(0, 1, (64, 64)), axis=1)
        pixels = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
        if path.startswith("masks"):
            pixels = np.zeros((64, 64), np.uint8)
            pixels[:32, 30:33] = 255
        Image.fromarray(pixels).save(folder / f"{path}.png")
    (folder / "metadata.csv").write_text(METADATA)
    return folder


def test_the_tables_hold_what_is_known_and_nothing_more(source: Path, tmp_path: Path) -> None:
    xrays, masks = prepare(source, tmp_path / "tables")
    assert xrays["path"].to_list() == [
        str(source / name) for name in ("nih512/a.png", "covid/c.png", "seg/d.png", "seg/e.png")
    ]
    assert xrays["finding_edema"].to_list() == ["1.0", None, None, None]
    assert xrays["tube_ett"].to_list() == [None, None, "1", "0"]
    assert [c for c in xrays.columns if c.startswith(("finding_", "tube_"))] == [
        "finding_edema", "finding_no_finding", "tube_ett", "tube_cvc", "tube_ngt",
    ]  # fmt: skip
    # Lungs alone are drawn on c, so its tubes are unknown and not absent.
    assert masks["path"].to_list() == [str(source / "seg/d.png"), str(source / "seg/e.png")]
    assert masks["mask_ett"].to_list() == [str(source / "masks/d_e.png"), None]
    assert masks["mask_cvc"].to_list() == [None, None]


def test_ingest_reads_the_tables(source: Path, tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    prepare(source, tables)
    store = Store(str(tmp_path / "store"))
    xrays, masks = str(tables / "xrays.csv"), str(tables / "masks.csv")
    spec = IngestSpec(
        corpus=SWEEP.corpus,
        sources=tuple(str(source / name) for name in ("nih512", "covid", "seg")),
        reports=(xrays,),
        labels=(xrays,),
        masks=(masks,),
        size=64,
        fractions=(1.0, 0.0, 0.0, 0.0),
    )
    made = ingest(spec, store, PatientKey(b"a key of nobody's hospital"))
    assert (made["images"], made["reports"], made["masks"]) == (4, 2, 2), made["quarantined"]
    manifest = Corpus.open(store, SWEEP.corpus).manifest
    assert manifest["view"].value_counts(sort=True).rows() == [("frontal", 3), ("lateral", 1)]
    assert manifest.filter(pl.col("tube_ett") == 1).height == 1
    with pytest.raises(SpecError, match="and corpus realcxr@1 has 4 for pretraining"):
        check(SWEEP, store)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"has no metadata\.csv"):
        prepare(tmp_path, tmp_path / "out")
    (tmp_path / "metadata.csv").write_text("path,view\nnih512/a.png,PA\n")
    with pytest.raises(SpecError, match="lacks the columns age, mask_paths, patient_id"):
        prepare(tmp_path, tmp_path / "out")
