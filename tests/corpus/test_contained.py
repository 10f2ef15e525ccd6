from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radsweep.corpus.contained import ContainedDecoder, Containment
from radsweep.corpus.dicom import read_image
from radsweep.corpus.identity import PatientKey
from radsweep.corpus.ingest import IngestSpec, ingest
from radsweep.corpus.manifest import Corpus
from radsweep.corpus.pixels import Policy
from radsweep.corpus.xray import Limits, RefusedError, Xray
from radsweep.errors import RadsweepError
from radsweep.store import Store

KEY = PatientKey(b"not a secret, a test")
POLICY = Policy(name="radsweep", size=48)
TOY = Containment(module="crashing_decoder", seconds_per_file=3)
DEADLY = {
    "a-exit.dcm": (b"exit", "decoder_crashed", "exit code 3"),
    "b-segfault.dcm": (b"segfault", "decoder_crashed", "SIGSEGV"),
    "c-hang.dcm": (b"hang", "timeout", "3 s"),
    "d-swell.dcm": (b"swell", "too_large", "memory"),
}

INGESTED = {name: DEADLY[name] for name in ("a-exit.dcm", "d-swell.dcm")}


@pytest.fixture(scope="module", autouse=True)
def toy_module() -> Iterator[None]:
    """A child finds modules where its parent does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    lines = ["path,patient_id"]
    for number in range(4):
        picture = np.add.outer(np.arange(64) * 2, np.arange(64) + number).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
        lines.append(f"{number}.png,P{number}")
    (folder / "images.csv").write_text("\n".join(lines))
    return folder


def test_a_child_gives_the_picture_and_the_facts_of_the_decoder_here(films: Path) -> None:
    data = (films / "0.png").read_bytes()
    picture, xray = ContainedDecoder(Limits(), POLICY, Containment()).decode(data)
    here = read_image(data, Limits())
    assert isinstance(here, Xray)
    assert np.array_equal(picture, POLICY.apply(here))
    assert xray.values.shape == here.values.shape
    assert (xray.digest, xray.identity, xray.view) == (here.digest, here.identity, here.view)


def test_what_a_codec_prints_does_not_spoil_the_answers(films: Path) -> None:
    decoder = ContainedDecoder(Limits(), POLICY, TOY)
    for number in range(3):
        data = (films / f"{number}.png").read_bytes()
        here = read_image(data, Limits())
        assert isinstance(here, Xray)
        assert np.array_equal(decoder.decode(data)[0], POLICY.apply(here))


@pytest.mark.parametrize(("data", "reason", "detail"), DEADLY.values(), ids=DEADLY)
def test_a_deadly_file_is_refused_and_the_next_one_is_read(
    films: Path, data: bytes, reason: str, detail: str
) -> None:
    decoder = ContainedDecoder(Limits(), POLICY, TOY)
    with pytest.raises(RefusedError) as refused:
        decoder.decode(data)
    assert (refused.value.quarantined.reason, refused.value.quarantined.detail) == (reason, detail)
    assert decoder.decode((films / "1.png").read_bytes())[0].shape == (48, 48)


def test_a_child_that_cannot_start_is_no_fault_of_a_file(films: Path) -> None:
    decoder = ContainedDecoder(Limits(), POLICY, Containment(module="no_such_decoder"))
    with pytest.raises(RadsweepError, match="python -m no_such_decoder"):
        decoder.decode((films / "0.png").read_bytes())


def deadly_spec(films: Path) -> IngestSpec:
    for name, (data, _, _) in INGESTED.items():
        (films / name).write_bytes(data)
    return IngestSpec(
        corpus="deadly@1", sources=(str(films),), labels=(str(films / "images.csv"),), size=48,
        chunk_files=3,
    )  # fmt: skip


def check_only_the_deadly_are_lost(store: Store) -> None:
    quarantine = store.read_table("corpora/deadly@1/quarantine.parquet").sort("file_index")
    # In the order of the list, digits come before letters.
    assert quarantine.select("file_index", "reason", "detail").rows() == [
        (4 + number, reason, detail) for number, (_, reason, detail) in enumerate(INGESTED.values())
    ]
    assert Corpus.open(store, "deadly@1").manifest.height == 4


def test_an_ingest_loses_the_deadly_files_and_nothing_else(films: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    ingest(deadly_spec(films), store, KEY, containment=TOY)
    check_only_the_deadly_are_lost(store)
