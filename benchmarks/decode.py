"""From DICOM bytes to the stored picture: CPU milliseconds per film, by transfer syntax.

``python benchmarks/decode.py [--side PX] [--repeats N] [--tone TONE]`` draws one phantom film,
enlarges it to ``--side`` pixels with grain, stores it in each transfer syntax, and times in one
process, in turn, best of N:

- ours: ``read_image`` and the policy ``radsweep`` at 518 pixels;
- the floor: the codec on parsed attributes, and Pillow's bicubic resampler on a ready float32
  picture, which is what cannot be saved; beside it, the digest that finds equal pictures;
- the usual way: pydicom, ``apply_modality_lut``, ``apply_voi_lut``, inversion, scaling to 8 bits by
  minimum and maximum, Pillow.

- the same with SimpleITK's bicubic resampler on the windowed values; MONAI's ``LoadImage``,
  intensity scaling and bicubic ``Resize``; and torchxrayvision's ``read_xray_dcm`` (with the
  window), centre crop and resizer: from a file, and where they are installed (SimpleITK by the
  extra ``bench``, the others by ``pip install monai torchxrayvision``).

All run with the heap settings of the process that decodes in an ingest.
``--profile`` prints where our time goes instead, for one syntax.
"""

import argparse
import cProfile
import hashlib
import importlib.util
import io
import os
import pstats
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, generate_uid
from rich.console import Console
from rich.table import Table

from radsweep.corpus.contained import KEPT_HEAP
from radsweep.corpus.dicom import be_silent, read_image
from radsweep.corpus.phantom import HOSPITALS, render_image, sample_patient
from radsweep.corpus.phantom.storage import (
    LOSSY,
    TRANSFER_SYNTAXES,
    Storage,
    set_pixels,
    stored_values,
)
from radsweep.corpus.pixels import Policy
from radsweep.corpus.xray import Limits, Xray

HAS_SIMPLEITK = importlib.util.find_spec("SimpleITK") is not None
if HAS_SIMPLEITK:
    import SimpleITK
HAS_MONAI = importlib.util.find_spec("monai") is not None
if HAS_MONAI:
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Resize, ScaleIntensity
HAS_XRAYVISION = importlib.util.find_spec("torchxrayvision") is not None
if HAS_XRAYVISION:
    import torchxrayvision

SIZE = 518
GRAIN = 0.004
"""Standard deviation of the noise put on the enlarged film, as a share of its range: a film of 12
bits has some tens of levels of it, and codecs feel it."""
DRAWN_SIDE = 1024


def film(side: int) -> NDArray[np.float32]:
    """A frontal phantom in [0, 1], [side * 6 / 5, side]."""
    hospital = HOSPITALS["riverside"]
    exam = sample_patient(hospital, 0, 0)[0]
    drawn, _ = render_image(exam, exam.views[0], hospital, DRAWN_SIDE)
    image = Image.fromarray(drawn).resize((side, side * 6 // 5), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).standard_normal((side * 6 // 5, side), np.float32)
    return np.clip(np.asarray(image) + np.float32(GRAIN) * noise, 0, 1)


def encode(pixels: NDArray[np.float32], syntax: UID, tone: str, monochrome1: bool) -> bytes:
    """The film as the bytes of a DICOM file."""
    bits = 8 if syntax in LOSSY else 12
    levels = 2**bits - 1
    whole = tone in ("full", "lut")
    storage = Storage(
        transfer_syntax=syntax,
        bits=bits,
        monochrome1=monochrome1,
        tone="window" if bits == 8 else tone,
        lowest=0 if whole else round(0.1 * levels),
        highest=levels if whole else round(0.9 * levels),
        slope=1.0,
        intercept=-1024.0 if tone == "rescale" else 0.0,
    )
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=["benchmark"]
    )
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "CR", "CHEST", "PA"
    dataset.PatientID = "benchmark"
    set_pixels(dataset, stored_values(pixels, storage), storage)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def ours(data: bytes, policy: Policy) -> NDArray[np.uint8]:
    """What ingest does with a file."""
    xray = read_image(data, Limits())
    assert isinstance(xray, Xray), xray
    return policy.apply(xray)


def windowed(dataset: Dataset) -> NDArray[Any]:
    """By pydicom, bone bright."""
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = values.max() - values
    return values


def usual(data: bytes) -> NDArray[np.uint8]:
    """What a script of twenty lines does."""
    values = windowed(pydicom.dcmread(io.BytesIO(data)))
    values = (values - values.min()) / (values.max() - values.min()) * 255
    return np.asarray(resized(values.astype(np.uint8)))


def by_simpleitk(path: str) -> NDArray[np.uint8]:
    """The usual way with ITK's resampler: the centred square, cubic B-splines, scaled to 8 bits."""
    values = windowed(pydicom.dcmread(path))
    height, width = values.shape
    image = SimpleITK.GetImageFromArray(values.astype(np.float32))
    step = width / SIZE
    origin = (step / 2 - 0.5, (height - width) / 2 + step / 2 - 0.5)
    square = SimpleITK.Resample(
        *(image, (SIZE, SIZE), SimpleITK.Transform(), SimpleITK.sitkBSpline),
        *(origin, (step, step), (1.0, 0.0, 0.0, 1.0), 0.0, SimpleITK.sitkFloat32),
    )
    scaled = SimpleITK.RescaleIntensity(square, 0, 255)
    return SimpleITK.GetArrayFromImage(SimpleITK.Cast(scaled, SimpleITK.sitkUInt8))


def rivals() -> dict[str, Callable[[str], object]]:
    """What else reads a DICOM file into a square of 518 pixels, of what is installed."""
    found: dict[str, Callable[[str], object]] = {}
    if HAS_SIMPLEITK:
        found["SimpleITK"] = by_simpleitk
    if HAS_MONAI:
        found["MONAI"] = Compose(
            [
                LoadImage(reader="PydicomReader"),
                EnsureChannelFirst(),
                ScaleIntensity(0, 255),
                Resize((SIZE, SIZE), mode="bicubic"),
            ]
        )
    if HAS_XRAYVISION:
        crop = torchxrayvision.datasets.XRayCenterCrop()
        resizer = torchxrayvision.datasets.XRayResizer(SIZE)
        found["torchxrayvision"] = lambda path: resizer(
            crop(torchxrayvision.utils.read_xray_dcm(path, voi_lut=True)[None])
        )
    return found


def resized(picture: NDArray[Any]) -> Any:
    """Bicubic, of the centred square."""
    height, width = picture.shape
    top = (height - width) / 2
    box = (0.0, top, float(width), top + width)
    return Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BICUBIC, box)


def codec(dataset: Dataset, deflated: bytes) -> NDArray[Any]:
    """Stored values: mapped where they are not compressed, else decoded or inflated."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated:
        found: NDArray[Any] = pixel_array(dataset)
        return found
    if syntax.is_deflated:
        return np.frombuffer(zlib.decompress(deflated, -zlib.MAX_WBITS), np.uint8)
    return np.frombuffer(dataset.PixelData, np.uint16)


def digest(stored: NDArray[np.uint16], size: int) -> bytes:
    """Of the film's values in ``size`` bytes each."""
    return hashlib.blake2b(stored.view(np.uint8)[: size * len(stored)], digest_size=16).digest()


def best(function: Callable[[], object], repeats: int) -> float:
    """CPU seconds, which other people's work on the machine changes less than the clock's."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2_500, help="width; the height is 6/5 of it")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tone", choices=("full", "window", "rescale", "lut"), default="window")
    parser.add_argument("--monochrome2", action="store_true", help="without the inversion")
    parser.add_argument("--only", default="", help="syntaxes whose name contains this")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    if not KEPT_HEAP.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEPT_HEAP)
    be_silent()
    pixels = film(given.side)
    policy = Policy(name="radsweep", size=SIZE)
    others = rivals()
    table = Table(title=f"{pixels.shape[0]} x {pixels.shape[1]} -> {SIZE}, tone {given.tone}")
    table.add_column("transfer syntax")
    for name in (
        "MB", "codec, ms", "resampler, ms", "digest, ms", "ours, ms", "ours / floor", "usual, ms",
        "usual / ours", "films / s", *(f"{name} / ours" for name in others),
    ):  # fmt: skip
        table.add_column(name, justify="right")
    resampler = best(lambda: resized(pixels), given.repeats)
    stored = np.zeros(pixels.size, np.uint16)
    for syntax, _ in TRANSFER_SYNTAXES:
        if given.only.lower() not in syntax.name.lower():
            continue
        data = encode(pixels, syntax, given.tone, not given.monochrome2)
        if given.profile:
            profile = cProfile.Profile()
            profile.runcall(lambda data=data: [ours(data, policy) for _ in range(given.repeats)])
            pstats.Stats(profile).sort_stats("tottime").print_stats(18)
            return
        parsed = pydicom.dcmread(io.BytesIO(data))
        parsed.PixelData  # noqa: B018  (parsed once, outside the clock)
        deflated = data[144 + int.from_bytes(data[140:144], "little") :]
        decoding = best(lambda p=parsed, deflated=deflated: codec(p, deflated), given.repeats)
        took = best(lambda data=data: ours(data, policy), given.repeats)
        theirs = best(lambda data=data: usual(data), given.repeats)
        with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
            file.write(data)
            file.flush()
            # Once or twice: they take long enough to be told apart.
            took_by = [
                best(lambda other=other: other(file.name), min(2, given.repeats))
                for other in others.values()
            ]
        table.add_row(
            syntax.name.split(" (")[0][:34],
            f"{len(data) / 1e6:.1f}",
            f"{1e3 * decoding:.0f}",
            f"{1e3 * resampler:.0f}",
            f"{1e3 * best(lambda size=1 + (syntax not in LOSSY): digest(stored, size), 3):.0f}",
            f"{1e3 * took:.0f}",
            f"{took / (decoding + resampler):.2f}",
            f"{1e3 * theirs:.0f}",
            f"{theirs / took:.1f}",
            f"{1 / took:.1f}",
            *(f"{other / took:.1f}" for other in took_by),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
