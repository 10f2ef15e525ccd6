"""Each published layout, as a miniature that the test makes, through the real ingest."""

import gzip
import io
import itertools
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radsweep.corpus import adapters
from radsweep.corpus.adapters.base import Folder
from radsweep.corpus.adapters.padchest import PadChest
from radsweep.corpus.adapters.vocabulary import column_of
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.manifest import Corpus
from radsweep.errors import SpecError
from radsweep.store import Store

KEY = PatientKey(b"not a secret, a test")
CHEXPERT = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
    "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
    "Support Devices"
)
numbers = itertools.count()


def film() -> np.ndarray:
    """Smooth, and unlike any other of this file."""
    number = next(numbers)
    return (np.add.outer(np.arange(64) * 2, np.arange(64)) + number % 60).astype(np.uint8)


def picture(path: Path, sixteen_bits: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = film()
    Image.fromarray(pixels.astype(np.uint16) * 257 if sixteen_bits else pixels).save(path)


def dicom(path: Path, uid: str, patient: str = "", view: str = "PA") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = film()
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "SOPInstanceUID": uid, "Modality": "DX",
        "ViewPosition": view, "PatientID": patient, "Rows": 64, "Columns": 64,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 8,
        "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0, "PixelData": pixels.tobytes(),
    }.items():  # fmt: skip
        setattr(dataset, keyword, value)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def corpus_of(root: Path, layout: str, **expected: int) -> pl.DataFrame:
    """The manifest, once the card was found to say what it should."""
    store = Store(str(root.parent / "store"))
    card = ingest(
        IngestSpec(corpus="set@1", sources=(str(root),), layout=layout, size=48), store, KEY
    )
    assert card["quarantined"] == expected
    corpus = Corpus.open(store, "set@1")
    assert set(corpus.labels()) == set(card["label_provenance"])
    for origin in card["label_provenance"].values():
        assert set(origin["kind"].split("+")) <= {"rule", "model", "human"}
    return corpus.manifest


def values(manifest: pl.DataFrame, column: str) -> list[object]:
    return sorted(manifest[column].to_list(), key=str)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "download"
    folder.mkdir()
    return folder


def mimic_tables(root: Path) -> None:
    tables = {
        "metadata": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,"
        "Rows,Columns,StudyDate\n"
        "aa-1,10000032,50414267,CHEST (PA AND LAT),PA,64,64,21800506\n"
        "aa-2,10000032,50414267,CHEST (PA AND LAT),LATERAL,64,64,21800506\n"
        "bb-1,10000764,57375967,CHEST (PORTABLE AP),AP,64,64,21320923\n",
        "chexpert": f"subject_id,study_id,{CHEXPERT}\n"
        "10000032,50414267,1.0,,,,,,,,,,,,,\n"
        "10000764,57375967,,,1.0,,,,-1.0,,,0.0,,,,1.0\n",
        "split": "dicom_id,study_id,subject_id,split\naa-1,50414267,10000032,train\n",
    }
    for name, text in tables.items():
        (root / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize("layout", ["mimic_cxr_jpg", "mimic_cxr"])
@pytest.mark.parametrize("zipped", [True, False])
def test_mimic_cxr(root: Path, layout: str, zipped: bool) -> None:
    mimic_tables(root)
    for subject, study, name in (
        ("10000032", "50414267", "aa-1"), ("10000032", "50414267", "aa-2"),
        ("10000764", "57375967", "bb-1"),
    ):  # fmt: skip
        place = root / "files" / "p10" / f"p{subject}" / f"s{study}" / name
        if layout == "mimic_cxr_jpg":
            picture(place.with_suffix(".jpg"))
        else:
            dicom(place.with_suffix(".dcm"), f"1.{len(name)}.{subject}.{name[-1]}", subject, "")
    text = "FINAL REPORT\n FINDINGS: No pneumothorax.\n\n IMPRESSION: Clear lungs."
    if zipped:
        with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w") as archive:
            archive.writestr("files/p10/p10000032/s50414267.txt", text)
    else:
        (root / "files/p10/p10000032/s50414267.txt").write_text(text)
    manifest = corpus_of(root, layout)
    assert manifest.height == 3
    assert manifest["patient_id"].n_unique() == manifest["exam_id"].n_unique() == 2
    assert values(manifest, "view") == ["frontal", "frontal", "lateral"]
    assert values(manifest, "projection") == ["AP", None, "PA"]
    assert manifest["report"].count() == 2
    assert "Clear lungs" in manifest["report"].drop_nulls()[0]
    sick = manifest.filter(pl.col("projection") == "AP").to_dicts()[0]
    assert (sick["finding_cardiomegaly"], sick["finding_consolidation"]) == (1, -1)
    assert (sick["finding_pneumothorax"], sick["finding_effusion"]) == (0, None)
    assert (sick["tube_support_device"], sick["finding_no_finding"]) == (1, None)


def test_chexpert(root: Path) -> None:
    facts = "Path,Sex,Age,Frontal/Lateral,AP/PA"
    train, valid = root / "train/patient00001", root / "valid/patient64541"
    picture(train / "study1/view1_frontal.jpg")
    picture(train / "study1/view2_lateral.jpg")
    picture(valid / "study1/view1_frontal.jpg")
    release = "CheXpert-v1.0-small"
    (root / "train.csv").write_text(
        f"{facts},{CHEXPERT}\n"
        f"{release}/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,"
        "1.0,,,,,,,,,0.0,,,,1.0\n"
        f"{release}/train/patient00001/study1/view2_lateral.jpg,Female,0,Lateral,,"
        ",,,,,-1.0,,,,,,,,\n"
    )
    (root / "valid.csv").write_text(
        f"{facts},{CHEXPERT}\n{release}/valid/patient64541/study1/view1_frontal.jpg,Male,73,"
        "Frontal,PA," + ",".join(["0.0"] * 14) + "\n"
    )
    manifest = corpus_of(root, "chexpert")
    assert manifest["patient_id"].n_unique() == manifest["exam_id"].n_unique() == 2
    assert values(manifest, "view") == ["frontal", "frontal", "lateral"]
    assert values(manifest, "age_years") == [68, 73, None]
    assert values(manifest, "finding_edema") == [-1, 0, None]
    assert values(manifest, "tube_support_device") == [0, 1, None]


def test_nih_chestxray14(root: Path) -> None:
    for name, folder in (("00000001_000", "images_001"), ("00000002_000", "images_002")):
        picture(root / folder / "images" / f"{name}.png")
    (root / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        "00000001_000.png,Cardiomegaly|Pleural_Thickening,0,1,58,M,PA,2682,2749,0.143,0.143,\n"
        "00000002_000.png,No Finding,0,2,412,F,AP,2500,2048,0.168,0.168,\n"
    )
    manifest = corpus_of(root, "nih_chestxray14").sort("projection")
    assert manifest["projection"].to_list() == ["AP", "PA"]
    assert manifest["sex"].to_list() == ["F", "M"]
    # One of its ages is 412.
    assert manifest["age_years"].to_list() == [None, 58]
    assert manifest["finding_cardiomegaly"].to_list() == [0, 1]
    assert manifest["finding_pleural_thickening"].to_list() == [0, 1]
    assert manifest["finding_no_finding"].to_list() == [1, 0]
    assert manifest["finding_effusion"].to_list() == [0, 0]
    assert manifest["pixel_spacing_mm"].null_count() == 2


def padchest(root: Path) -> None:
    rows = [
        ("a.png", "0", "20140915", "S1", "P1", "1955.0", "F", "PA", "Sin hallazgos.", "Physician",
         "['normal']"),
        ("b.png", "1", "20150101", "S2", "P2", "1990.0", "M", "L", "derrame pleural", "RNN_model",
         "['pleural effusion', ' NSG tube', 'pleural effusion']"),
        ("c.png", "1", "20150101", "S3", "P3", "", "M", "AP_horizontal", "", "RNN_model",
         "['suboptimal study']"),
    ]  # fmt: skip
    columns = (
        "ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,"
        "Projection,Report,MethodLabel,Labels"
    )
    buffer = io.StringIO()
    frame = pl.DataFrame(rows, schema=columns.split(","), orient="row")
    frame.write_csv(buffer)
    (root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv").write_text(buffer.getvalue())
    for row in rows:
        picture(root / row[1] / row[0], sixteen_bits=True)


def test_padchest(root: Path) -> None:
    padchest(root)
    export = PadChest(fewest=1).read(Folder(str(root)))
    assert set(export.provenance) == {"finding_no_finding", "finding_effusion", "tube_ngt"}
    labels = export.tables[0].sort("file_name")
    assert labels["finding_effusion"].to_list() == [0, 1, None]
    assert labels["tube_ngt"].to_list() == [0, 1, None]
    manifest = corpus_of(root, "padchest").sort("age_years", nulls_last=True)
    # No label is on fifty images here, so that none becomes a column.
    assert "finding_effusion" not in manifest.columns
    assert manifest["age_years"].to_list() == [25, 59, None]
    assert manifest["view"].to_list() == ["lateral", "frontal", "frontal"]
    assert manifest["report"].to_list()[:2] == ["derrame pleural", "Sin hallazgos."]


def test_vindr_cxr(root: Path) -> None:
    for name, folder in (("aaa", "train"), ("bbb", "train"), ("ccc", "test")):
        dicom(root / folder / f"{name}.dicom", f"1.{name.encode().hex()}"[:20].replace("a", "1"))
    (root / "annotations").mkdir()
    lines = ["image_id,rad_id,Cardiomegaly,Nodule/Mass,Pleural effusion,No finding"]
    for image, reader, votes in (
        ("aaa", 1, "1,1,0,0"), ("aaa", 2, "1,0,0,0"), ("aaa", 3, "0,0,0,0"),
        ("bbb", 1, "0,0,0,1"), ("bbb", 2, "0,0,0,1"), ("bbb", 3, "0,0,0,1"),
    ):  # fmt: skip
        lines.append(f"{image},R{reader},{votes}")
    (root / "annotations/image_labels_train.csv").write_text("\n".join(lines))
    (root / "annotations/image_labels_test.csv").write_text(
        "image_id,Cardiomegaly,Nodule/Mass,Pleural effusion,No finding\nccc,0,0,1,0\n"
    )
    manifest = corpus_of(root, "vindr_cxr")
    assert manifest["patient_id"].n_unique() == 3
    assert values(manifest, "finding_cardiomegaly") == [0, 0, 1]
    assert values(manifest, "finding_nodule_or_mass") == [-1, 0, 0]
    assert values(manifest, "finding_effusion") == [0, 0, 1]


def test_ranzcr_clip(root: Path) -> None:
    header = (
        "StudyInstanceUID,ETT - Abnormal,ETT - Borderline,ETT - Normal,NGT - Abnormal,"
        "NGT - Borderline,NGT - Incompletely Imaged,NGT - Normal,CVC - Abnormal,CVC - Borderline,"
        "CVC - Normal,Swan Ganz Catheter Present,PatientID"
    )
    (root / "train.csv").write_text(
        f"{header}\n1.2.826.1,0,0,1,0,0,1,0,0,0,0,0,ec89415d1\n"
        "1.2.826.2,0,0,0,0,0,0,0,1,0,1,1,bf4c6da3c\n"
    )
    for uid in ("1.2.826.1", "1.2.826.2"):
        picture(root / "train" / f"{uid}.jpg")
    picture(root / "test" / "1.2.826.9.jpg")
    manifest = corpus_of(root, "ranzcr_clip").sort("tube_ett")
    assert manifest.height == 2
    assert manifest["tube_ett"].to_list() == [0, 1]
    assert manifest["tube_ett_normal"].to_list() == [0, 1]
    assert manifest["tube_ngt_incompletely_imaged"].to_list() == [0, 1]
    assert manifest["tube_cvc"].to_list() == [1, 0]
    assert manifest["tube_cvc_abnormal"].to_list() == [1, 0]
    assert manifest["tube_swan_ganz"].to_list() == [1, 0]


def test_candid_ptx(root: Path) -> None:
    for uid in ("1.2.1", "1.2.2", "1.2.3"):
        dicom(root / "dataset" / uid, uid)
    (root / "Pneumothorax_reports.csv").write_text(
        "SOPInstanceUID,EncodedPixels,Report,filename\n"
        "1.2.1,387620 23 996 33,Small right pneumothorax.,P7_1.dcm\n"
        "1.2.1,1000 5 990 7,Small right pneumothorax.,P7_1.dcm\n"
        "1.2.2,-1,No pneumothorax.,P7_2.dcm\n"
        "1.2.3,,Chest drain in place.,P8_1.dcm\n"
    )
    (root / "chest_tube.csv").write_text("anon_SOPUID,annotation\n1.2.3,x\n")
    (root / "acute_rib_fracture.csv").write_text("anon_SOPUID,annotation\n1.2.1,x\n1.2.1,y\n")
    manifest = corpus_of(root, "candid_ptx")
    assert manifest["patient_id"].n_unique() == 2
    assert values(manifest, "finding_pneumothorax") == [0, 1, None]
    assert values(manifest, "finding_acute_rib_fracture") == [0, 0, 1]
    drained = manifest.filter(pl.col("tube_chest_tube") == 1)
    assert drained["report"].to_list() == ["Chest drain in place."]


IU_XML = """<?xml version="1.0"?><eCitation><uId id="{exam}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION"/>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
<AbstractText Label="IMPRESSION">As above.</AbstractText></Abstract></Article></MedlineCitation>
<MeSH><major>{heading}</major></MeSH>
<parentImage id="{exam}_IM-0001"><caption>PA chest</caption></parentImage>
<parentImage id="{exam}_IM-0002"><caption>Lateral view</caption></parentImage></eCitation>"""


def test_iu_xray_of_open_i(root: Path) -> None:
    for exam, heading in (("CXR1", "normal"), ("CXR2", "Pleural Effusion/right"),
                          ("CXR3", "No Indexing")):  # fmt: skip
        (root / "ecgen-radiology").mkdir(exist_ok=True)
        (root / "ecgen-radiology" / f"{exam[3:]}.xml").write_text(
            IU_XML.format(exam=exam, heading=heading, findings="Lungs are seen.")
        )
        picture(root / f"{exam}_IM-0001.png")
        picture(root / f"{exam}_IM-0002.png")
    manifest = corpus_of(root, "iu_xray")
    assert (manifest.height, manifest["patient_id"].n_unique()) == (6, 3)
    assert values(manifest, "view") == ["frontal"] * 3 + ["lateral"] * 3
    assert values(manifest, "finding_effusion") == [0, 0, 1, 1, None, None]
    assert values(manifest, "finding_no_finding") == [0, 0, 1, 1, None, None]
    assert "Lungs are seen." in manifest["report"][0]


def test_iu_xray_of_kaggle(root: Path) -> None:
    (root / "indiana_projections.csv").write_text(
        "uid,filename,projection\n1,1_IM-0001-4001.dcm.png,Frontal\n"
        "1,1_IM-0001-3001.dcm.png,Lateral\n"
    )
    (root / "indiana_reports.csv").write_text(
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
        "1,Cardiomegaly/borderline;Pulmonary Artery/enlarged,Cardiomegaly,PA,Preop.,None.,"
        "Borderline heart.,No acute disease.\n"
    )
    for name in ("4001", "3001"):
        picture(root / "images/images_normalized" / f"1_IM-0001-{name}.dcm.png")
    manifest = corpus_of(root, "iu_xray")
    assert values(manifest, "view") == ["frontal", "lateral"]
    assert manifest["finding_cardiomegaly"].to_list() == [1, 1]
    assert "No acute disease" in manifest["report"][0]


def test_real_open_i_reports_are_read(shared: Path, root: Path) -> None:
    archive = shared / "cxr/text/openi_reports_shared.tgz"
    if not archive.exists():
        pytest.skip("the real reports are not here")
    with tarfile.open(archive) as opened:
        opened.extractall(root, filter="data")
    export = adapters.find("iu_xray")().read(Folder(str(root)))
    images, reports = export.tables
    assert reports.height > 2_000
    assert reports["report"].count() > 0.98 * reports.height
    assert set(images["accession_number"]) <= set(reports["accession_number"])
    # About a third is coded as normal (Demner-Fushman et al. 2016, table 1).
    assert 0.25 < reports["finding_no_finding"].mean() < 0.5
    assert 0.02 < reports["finding_effusion"].mean() < 0.1


@pytest.mark.parametrize("layout", adapters.names())
def test_a_root_without_the_files_of_the_layout_is_told_which(root: Path, layout: str) -> None:
    with pytest.raises(SpecError, match=r"this root has n"):
        adapters.find(layout)().read(Folder(str(root)))
    assert adapters.version(layout) >= 1


def test_an_unknown_layout_is_named_with_its_neighbour() -> None:
    with pytest.raises(SpecError, match="did you mean 'chexpert'"):
        IngestSpec(corpus="a@1", sources=("x",), layout="chexprt")
    with pytest.raises(SpecError, match="one root, not 2"):
        IngestSpec(corpus="a@1", sources=("x", "y"), layout="chexpert")
    with pytest.raises(SpecError, match=r"no module 'nobody\.set'"):
        adapters.find("nobody.set")


def test_another_release_with_other_columns_is_refused(root: Path) -> None:
    (root / "train.csv").write_text("Path,Sex\nx,F\n")
    with pytest.raises(SpecError, match="has no column Age"):
        adapters.find("chexpert")().read(Folder(str(root)))


@pytest.mark.parametrize(
    ("name", "column"),
    [("Pleural Effusion", "finding_effusion"), ("Effusion", "finding_effusion"),
     ("Nodule/Mass", "finding_nodule_or_mass"), ("Support Devices", "tube_support_device"),
     ("endotracheal tube", "tube_ett"), ("Lung Lesion", "finding_lung_lesion"),
     ("Enlarged Cardiomediastinum", "finding_enlarged_cardiomediastinum")],
)  # fmt: skip
def test_one_thing_has_one_name_in_all_sets(name: str, column: str) -> None:
    assert column_of(name) == column
