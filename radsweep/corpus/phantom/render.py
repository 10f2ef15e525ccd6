"""One image of one exam: anatomy, findings, tubes and physics put together."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radsweep.corpus.phantom.canvas import Array, Canvas, Frame, frame_of
from radsweep.corpus.phantom.draws import generator
from radsweep.corpus.phantom.findings import add_findings, heart_scale, lung_texture
from radsweep.corpus.phantom.frontal import frontal_chest
from radsweep.corpus.phantom.hospital import Hospital
from radsweep.corpus.phantom.latents import Exam, View
from radsweep.corpus.phantom.lateral import lateral_chest
from radsweep.corpus.phantom.physics import expose
from radsweep.corpus.phantom.tubes import add_tubes
from radsweep.errors import SpecError

SMALLEST = 32
LARGEST = 2048


def render_image(
    exam: Exam, view: View, hospital: Hospital, size: int
) -> tuple[Array, Mapping[str, NDArray[np.bool_]]]:
    """The film of one view and the masks of its tubes.

    Args:
        exam: the latent record.
        view: one of ``exam.views``.
        hospital: its scanner.
        size: side in pixels; the same film is sampled, whatever the size, but for the noise.

    Returns:
        Pixels, (size, size) float32 in [0, 1], dense is bright; and for frontal views a (size,
        size) bool mask for each tube that is there (none for laterals).

    Raises:
        SpecError: when the size is outside 32 to 2048.
    """
    if not SMALLEST <= size <= LARGEST:
        raise SpecError(f"image size is {size} px; the phantom draws {SMALLEST} to {LARGEST} px")
    frame = frame_of(view, exam.anatomy.stature, size)
    masks: Mapping[str, NDArray[np.bool_]] = {}
    if view.frontal:
        chest = frontal_chest(exam.anatomy, view, frame, heart_scale(exam))
        add_findings(chest, exam, view)
        p = chest.p
        p += lung_texture(chest, exam.anatomy.key)
        p += chest.vessels
        masks = add_tubes(p, exam, view, frame)
    else:
        p = lateral_chest(exam, view, frame)
    if view.marker:
        p += _marker(view, frame)
    np.maximum(p, np.float32(0.0), out=p)
    pixels = expose(p, hospital.scanner, view.field_mm / size, generator(view.key, "noise"))
    return pixels, masks


def _marker(view: View, frame: Frame) -> Any:
    """A lead letter L in the upper corner of the patient's left, as technologists place it."""
    side = frame.size * frame.mm_per_pixel
    u = view.centre_u_mm + (0.42 if view.frontal else -0.42) * side
    v = view.centre_v_mm - 0.43 * side
    canvas = Canvas(frame)
    stem = np.array([[(u, v - 7.0), (u, v), (u, v + 7.0)]])
    foot = np.array([[(u - 1.5, v + 6.0), (u + 3.0, v + 6.0), (u + 8.0, v + 6.0)]])
    canvas.ribbons(np.concatenate([stem, foot]), 1.6, 1.0)
    return canvas.array(5.0)
