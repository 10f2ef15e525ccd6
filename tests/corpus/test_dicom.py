import csv
import io
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless

from radsweep.corpus import voi
from radsweep.corpus.dicom import read_image
from radsweep.corpus.pixels import Policy
from radsweep.corpus.xray import REASONS, Limits, Quarantined, Xray

LIMITS = Limits()
PICTURE = (np.add.outer(np.arange(64) * 20, np.arange(80) * 10) + 7).astype(np.uint16)


def dicom(pixels: np.ndarray = PICTURE, **changes: object) -> bytes:
    """A minimal chest film of 12 bits; a change to None removes the attribute."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "SOPInstanceUID": "1.2.3.4",
        "Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "PA", "PatientID": "P1",
        "PatientAge": "045Y", "PatientSex": "F", "PixelSpacing": [0.2, 0.2],
        "Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16,
        "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "PixelData": pixels.tobytes(),
    } | changes  # fmt: skip
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def good(data: bytes) -> Xray:
    xray = read_image(data, LIMITS)
    assert isinstance(xray, Xray), xray
    return xray


def reason(data: bytes, limits: Limits = LIMITS) -> str:
    refused = read_image(data, limits)
    assert isinstance(refused, Quarantined)
    assert refused.reason in REASONS
    return refused.reason


def test_a_plain_film_gives_its_values_and_its_facts() -> None:
    xray = good(dicom())
    assert np.array_equal(xray.values, PICTURE)
    assert (xray.view, xray.projection, xray.sex, xray.age_years) == ("frontal", "PA", "F", 45)
    assert xray.pixel_spacing_mm == (0.2, 0.2)
    assert xray.shown is None
    assert "P1" not in repr(xray.identity)


def test_monochrome1_is_turned_so_that_bone_is_bright() -> None:
    inverse = (PICTURE.max() + PICTURE.min() - PICTURE).astype(np.uint16)
    xray = good(
        dicom(inverse, PhotometricInterpretation="MONOCHROME1", WindowCenter=800, WindowWidth=1600)
    )
    assert np.array_equal(xray.values, PICTURE)
    assert xray.shown is not None
    assert (np.diff(xray.shown, axis=1) >= 0).all()


def test_signed_values_and_rescale_are_applied_before_the_window() -> None:
    signed = (PICTURE.astype(np.int16) - 500) & 0xFFF
    xray = good(
        dicom(signed.astype(np.uint16), PixelRepresentation=1, RescaleSlope=2,
              RescaleIntercept=1000, WindowCenter=2064, WindowWidth=4097)
    )  # fmt: skip
    assert np.array_equal(xray.values, PICTURE.astype(float) * 2)
    assert xray.shown is not None
    # PS3.3 C.11.2.1.2.1: y = (x - (c - 0.5)) / (w - 1) + 0.5.
    expected = np.clip((PICTURE * 2.0 - 2063.5) / 4096 + 0.5, 0, 1)
    assert np.allclose(xray.shown, expected, atol=1e-6)


def test_bits_above_the_stored_ones_are_ignored() -> None:
    overlaid = PICTURE | (np.uint16(1) << 12)
    assert np.array_equal(good(dicom(overlaid)).values, PICTURE)


def test_padding_is_marked_and_dark() -> None:
    padded = PICTURE.copy()
    padded[:, :8] = 4000
    xray = good(dicom(padded, PixelPaddingValue=4000, WindowCenter=1000, WindowWidth=2000))
    assert xray.padding is not None
    assert xray.shown is not None
    assert xray.padding[:, :8].all()
    assert not xray.padding[:, 8:].any()
    assert (xray.shown[:, :8] == 0).all()


@pytest.mark.parametrize(
    "window", [{"WindowWidth": 0}, {"WindowWidth": -5}, {"WindowCenter": 50_000}]
)
def test_a_window_that_shows_nothing_is_ignored(window: dict) -> None:
    assert good(dicom(**{"WindowCenter": 800, "WindowWidth": 10, **window})).shown is None


@pytest.mark.parametrize(
    "grey_rows", [slice(0, 60), slice(540, 600), slice(0, 59), slice(541, 600)]
)
@pytest.mark.parametrize("inverted", [False, True])
def test_a_window_is_shown_exactly_where_a_tenth_of_the_picture_is_grey_wherever_that_lies(
    grey_rows: slice, inverted: bool
) -> None:
    values = np.zeros((600, 50), np.float32)
    values[grey_rows] = np.linspace(410, 590, 50, dtype=np.float32)
    header = {"WindowCenter": 500, "WindowWidth": 200, "VOILUTFunction": "LINEAR_EXACT"}
    picture = voi.shown(values, header, inverted=inverted)
    whole = np.clip((values - np.float32(500)) * np.float32(1 / 200) + np.float32(0.5), 0, 1)
    if grey_rows.stop - grey_rows.start < 60:
        assert picture is None
    else:
        assert np.array_equal(picture, np.float32(1) - whole if inverted else whole)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"Modality": "CT"}, "not_a_radiograph"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "not_a_radiograph"),
        ({"Modality": "OT", "BodyPartExamined": None}, "not_a_radiograph"),
        ({"BodyPartExamined": "KNEE"}, "not_chest"),
        ({"PatientSpeciesDescription": "Canine"}, "not_human"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "not_for_presentation"),
        ({"BurnedInAnnotation": "YES"}, "burned_in"),
        ({"NumberOfFrames": 2, "PixelData": PICTURE.tobytes() * 2}, "multi_frame"),
        ({"Rows": None}, "bad_header"),
        ({"Rows": 128}, "truncated"),
        ({"Rows": 65535, "Columns": 65535}, "too_large"),
        ({"Rows": 20}, "too_small"),
        ({"Rows": 12, "Columns": 80}, "too_small"),
        ({"Rows": 48, "Columns": 64}, "truncated"),
        ({"BitsStored": 17}, "bad_header"),
        ({"PhotometricInterpretation": None}, "bad_header"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colour"),
        ({"PixelData": np.full_like(PICTURE, 5).tobytes()}, "blank"),
        ({"PixelData": None}, "bad_header"),
    ],
)
def test_what_is_no_chest_film_is_refused_with_its_reason(changes: dict, expected: str) -> None:
    if changes.get("Rows") == 48:
        changes = {**changes, "PixelData": PICTURE.tobytes()[:5000]}
    assert reason(dicom(**changes)) == expected


def test_noise_is_garbled() -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64), np.uint16)
    assert reason(dicom(noise)) == "garbled"


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", "empty"), (b"<html>404</html>", "not_an_image"), (b"\0" * 128 + b"DICM", "bad_header"),
     (b"\x89PNG\r\n\x1a\n" + b"x" * 99, "undecodable")],
)  # fmt: skip
def test_other_files_are_refused(data: bytes, expected: str) -> None:
    assert reason(data) == expected


def test_a_file_over_the_limit_is_refused_unread() -> None:
    assert reason(dicom(), Limits(max_bytes=1000)) == "too_large"


def test_a_stream_that_claims_another_size_than_the_header_is_never_decoded() -> None:
    siz = (
        b"\xff\x4f\xff\x51"
        + (41).to_bytes(2, "big")
        + b"\0\0"
        + (60_000).to_bytes(4, "big") * 2
        + b"\0" * 8
    )
    plain = pydicom.dcmread(io.BytesIO(dicom()))
    plain.PixelData = pydicom.encaps.encapsulate([siz + b"\0" * 3000])
    plain["PixelData"].VR = "OB"
    plain.file_meta.TransferSyntaxUID = JPEG2000Lossless
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, plain)
    assert reason(buffer.getvalue()) == "undecodable"


def test_a_deflated_bomb_is_not_inflated() -> None:
    meta = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    head = (
        b"\0" * 128
        + b"DICM"
        + b"\x02\x00\x00\x00UL\x04\x00"
        + len(meta).to_bytes(4, "little")
        + meta
    )
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = head + deflate.compress(b"\0" * 50_000_000) + deflate.flush()
    tracemalloc.start()
    assert reason(bomb) == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()


def test_a_deflated_film_is_the_plain_one_and_half_of_it_is_refused() -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(WindowCenter=800, WindowWidth=1600)))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset)
    deflated, plain = good(buffer.getvalue()), good(dicom(WindowCenter=800, WindowWidth=1600))
    assert deflated.digest == plain.digest
    assert deflated.shown is not None and plain.shown is not None
    assert np.array_equal(deflated.values, plain.values)
    assert np.array_equal(deflated.shown, plain.shown)
    assert deflated.identity.image == plain.identity.image == "1.2.3.4"
    half = buffer.getvalue()[: len(buffer.getvalue()) * 3 // 4]
    assert reason(half) == "truncated"
    # A header that names its syntax in another way is not left to grow as it likes.
    assert reason(buffer.getvalue().replace(b"UI\x16\x00", b"UI\x18\x00", 3)) == "bad_header"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "I;16"])
def test_grey_pictures_of_every_png_mode_are_read(mode: str) -> None:
    grey = (PICTURE // 9).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(PICTURE if mode == "I;16" else grey)
    buffer = io.BytesIO()
    (image if mode in ("L", "I;16") else image.convert(mode)).save(buffer, "PNG")
    xray = good(buffer.getvalue())
    assert np.abs(xray.values - (PICTURE if mode == "I;16" else grey)).max() <= 1
    assert (xray.shown is None) == (mode == "I;16")


def test_a_photograph_is_refused() -> None:
    colours = np.stack([PICTURE // 9, PICTURE[::-1] // 9, PICTURE[:, ::-1] // 9], axis=-1).astype(
        np.uint8
    )
    buffer = io.BytesIO()
    Image.fromarray(colours).save(buffer, "JPEG")
    assert reason(buffer.getvalue()) == "colour"


@pytest.mark.parametrize(
    ("changes", "view", "projection"),
    [
        ({"ViewPosition": "LL"}, "lateral", None),
        ({"ViewPosition": "LATERAL"}, "lateral", None),
        ({"ViewPosition": "AP"}, "frontal", "AP"),
        ({"ViewPosition": None, "SeriesDescription": "W Chest Lat."}, "lateral", None),
        ({"ViewPosition": None, "SeriesDescription": "CHEST_PA"}, "frontal", "PA"),
        ({"ViewPosition": None, "PatientOrientation": ["A", "F"]}, "lateral", None),
        ({"ViewPosition": None, "PatientOrientation": ["L", "F"]}, "frontal", None),
        ({"ViewPosition": None}, "unknown", None),
        ({"ViewPosition": "XX"}, "unknown", None),
    ],
)
def test_views(changes: dict, view: str, projection: str | None) -> None:
    xray = good(dicom(**changes))
    assert (xray.view, xray.projection) == (view, projection)


@pytest.mark.parametrize(
    ("changes", "age"),
    [({"PatientAge": "099Y"}, 90), ({"PatientAge": "018M"}, 1), ({"PatientAge": None}, None),
     ({"PatientAge": None, "PatientBirthDate": "19600301", "StudyDate": "20200229"}, 59)],
)  # fmt: skip
def test_ages_are_whole_years_and_capped(changes: dict, age: int | None) -> None:
    assert good(dicom(**changes)).age_years == age


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with open(folder / "dicom" / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


REFUSED_WRAPPED = {"bodypart_abdomen_8": "not_chest"}
"""A chest film whose header states the abdomen: headers are believed where they refuse, since an
abdomen among the chests would be worse than a chest film less."""


def test_every_encoding_of_real_films_gives_the_picture_expected(shared: Path) -> None:
    checked = 0
    for row in rows(shared, "wrapped.csv"):
        data = (shared / "dicom" / row["path"]).read_bytes()
        if row["variant"] in REFUSED_WRAPPED:
            assert reason(data) == REFUSED_WRAPPED[row["variant"]]
            continue
        xray = good(data)
        expected = np.asarray(Image.open(shared / "cxr" / row["expected_png"]).convert("L")).astype(
            float
        )
        size = min(expected.shape)
        given = Policy(name="radsweep", size=size).apply(xray).astype(float)
        if row["expect"] == "inverted":
            expected = 255 - expected
        if row["expect"] == "rotated":
            expected = np.rot90(expected)
        if row["expect"] == "padded":
            # 40 columns on each side are padding, in which the expected picture is set.
            assert xray.padding is not None
            assert xray.padding[:, :40].all()
            assert xray.padding[:, -40:].all()
        difference = np.abs(given - expected)
        correlation = np.corrcoef(given.ravel(), expected.ravel())[0, 1]
        if row["expect"] == "exact" and "nowindow" not in row["variant"]:
            assert difference.max() <= 1, row["variant"]
        elif row["expect"] == "lossy":
            assert difference.mean() < 1, row["variant"]
        elif row["variant"] == "narrow_window_12":
            assert correlation > 0.9
        elif row["expect"] != "padded":
            assert correlation > 0.998, row["variant"]
        checked += 1
    assert checked == 45


def test_damaged_jpeg_of_twelve_bits_is_refused_or_decoded_and_nothing_else(shared: Path) -> None:
    data = (shared / "dicom/wrapped/08_jpeg_extended_12.dcm").read_bytes()
    frame = data.index(b"\xff\xc1")
    assert reason(data[: frame + 4] + b"\x08" + data[frame + 5 :]) == "undecodable"
    dataset = pydicom.dcmread(io.BytesIO(data))
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    damaged = [stream[: len(stream) // part] for part in (1, 2, 3, 10)]
    damaged += [
        stream[:at] + bytes(4_000) + stream[at + 4_000 :] for at in range(300, 150_000, 9_973)
    ]
    digests = set()
    for broken in damaged:
        dataset.PixelData = encapsulate([broken])
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset)
        one, two = (read_image(buffer.getvalue(), LIMITS) for _ in range(2))
        if isinstance(one, Xray):
            # What is decoded comes from the stream, and not from memory that nobody wrote.
            assert isinstance(two, Xray)
            assert one.digest == two.digest
            digests.add(one.digest)
        else:
            assert one == two
            assert isinstance(one, Quarantined) and one.reason in REASONS
            assert one.reason == "truncated" or len(broken) == len(stream)
    assert good(data).digest in digests and len(digests) > 1


MAY = {"ok": {"ok"}, "reject": {"refused"}, "filter": {"refused", "lateral"}, "duplicate": {"ok"}}


def test_bad_files_are_handled_as_they_should(shared: Path) -> None:
    for row in rows(shared, "bad.csv"):
        result = read_image((shared / "dicom" / row["path"]).read_bytes(), LIMITS)
        outcome = (
            "refused"
            if isinstance(result, Quarantined)
            else "lateral"
            if result.view == "lateral"
            else "ok"
        )
        allowed = set().union(
            *(MAY.get(word, {"ok", "refused"}) for word in row["expect"].split("-or-"))
        )
        assert outcome in allowed, row["path"]


def test_odd_dicom_of_any_modality_is_refused_and_never_crashes(shared: Path) -> None:
    for row in rows(shared, "corpus.csv"):
        assert reason((shared / "dicom" / row["path"]).read_bytes()) in REASONS


def test_real_radiographs_are_read(shared: Path) -> None:
    accepted = [
        row["path"]
        for row in rows(shared, "real.csv")
        if isinstance(read_image((shared / "dicom" / row["path"]).read_bytes(), LIMITS), Xray)
    ]
    assert len(accepted) == 11  # not the dog, and not the file that says CT
