"""Tubes and lines: where they run, how they look in the ray, their exact masks and tips."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from radsweep.corpus.phantom.canvas import Array, Canvas, Frame, spline
from radsweep.corpus.phantom.draws import between, generator
from radsweep.corpus.phantom.hospital import TUBES
from radsweep.corpus.phantom.latents import Exam, Tube, View

Curve = NDArray[np.float64]
Knots = list[tuple[float, float]]

RADII_MM = {"ett": 5.0, "ngt": 2.6, "cvc": 1.7, "chest_tube": 5.2, "ecg_leads": 1.3}
"""Outer radii; a 7.5 mm endotracheal tube is 10 mm outside, a chest tube of 32 French 10.7 mm."""

OPACITY = {"ett": 0.95, "ngt": 0.55, "cvc": 0.60, "chest_tube": 0.85, "ecg_leads": 0.85}
"""Peak line integral of the drawn tube."""

THINNEST_PIXELS = 2.2
"""Tubes and masks are never thinner: at small sizes they would fade and fall apart into dots."""

_POINTS = 56


def frontal_path(tube: Tube, view: View) -> Curve:
    """Centre line of a tube from its entry to its tip, (points, 2) mm in the standard frame."""
    rng = generator(tube.seed, "path")
    shift = view.rotation_mm
    knots = _ROUTES[tube.name](tube, shift, rng)
    return spline([*knots, tip_of(tube, view)], _POINTS)


def tip_of(tube: Tube, view: View) -> tuple[float, float]:
    """Tip in the standard frame; what lies in the mediastinum turns with the patient."""
    turns = tube.name in ("ett", "ngt", "cvc")
    return tube.tip_u_mm + (view.rotation_mm if turns else 0.0), tube.tip_v_mm


def _ett(tube: Tube, shift: float, rng: np.random.Generator) -> Knots:
    top = [(between(rng, -9.0, 9.0), -210.0), (0.4 * shift + between(rng, -3.0, 3.0), -150.0)]
    if tube.tip_v_mm < -85.0:
        return top
    knots = [*top, (0.7 * shift + between(rng, -2.0, 2.0), -80.0)]
    if tube.position == "right_main_bronchus":
        return [*knots, (shift - 0.5, -30.0), (shift - 5.0, -6.0)]
    return knots


def _ngt(tube: Tube, shift: float, rng: np.random.Generator) -> Knots:
    bow = between(rng, -2.0, 5.0)
    knots = [
        (between(rng, -6.0, 10.0), -210.0),
        (shift + 6.0, -110.0),
        (shift + 4.0 + bow, -30.0),
    ]
    if tube.position == "oesophagus":
        return [*knots, (shift + 6.0 + 0.5 * bow, 0.5 * (tube.tip_v_mm - 30.0))]
    knots += [(shift + 8.0 + bow, 60.0), (shift + 16.0, 118.0)]
    low = between(rng, 3.0, 12.0)
    return [*knots, (shift + 28.0, tube.tip_v_mm - 6.0), (shift + 42.0, tube.tip_v_mm + low)]


def _cvc(tube: Tube, shift: float, rng: np.random.Generator) -> Knots:
    """Through the jugular or subclavian vein to the superior vena cava; the left side crosses."""
    sign = -1.0 if tube.side == "right" else 1.0
    if tube.route == "jugular":
        knots = [
            (sign * between(rng, 44.0, 62.0), -210.0),
            (sign * between(rng, 36.0, 44.0), -140.0),
            (sign * 30.0, -88.0),
        ]
    else:
        knots = [
            (sign * between(rng, 128.0, 150.0), -40.0),
            (sign * between(rng, 104.0, 116.0), -84.0),
            (sign * 66.0, -92.0),
            (sign * 34.0, -78.0),
        ]
    if tube.side == "left":
        knots += [(shift + 8.0, -52.0), (shift - 14.0, -38.0)]
    knots.append((shift - 26.0, -30.0 if tube.side == "right" else -20.0))
    if tube.position == "azygos":
        return [*knots, (shift - 28.0, -9.0), (shift - 36.0, -6.0)]
    if tube.position == "atrium":
        return [*knots, (shift - 29.0, 15.0)]
    return knots


def _chest_tube(tube: Tube, shift: float, rng: np.random.Generator) -> Knots:
    sign = -1.0 if tube.side == "right" else 1.0
    low = between(rng, 60.0, 100.0)
    knots = [(sign * 245.0, low + 26.0), (sign * 180.0, low + 4.0), (sign * 136.0, low - 14.0)]
    if tube.position == "apical":
        return [*knots, (sign * 112.0, low - 62.0), (sign * 92.0, -20.0)]
    return [*knots, (sign * 112.0, low - 12.0)]


def _ecg_leads(tube: Tube, shift: float, rng: np.random.Generator) -> Knots:
    sign = -1.0 if tube.side == "right" else 1.0
    return [
        (sign * between(rng, 190.0, 260.0), between(rng, 120.0, 240.0)),
        (sign * between(rng, 120.0, 170.0), between(rng, 70.0, 150.0)),
        (sign * between(rng, 30.0, 120.0), between(rng, 10.0, 60.0)),
    ]


_ROUTES = {
    "ett": _ett,
    "ngt": _ngt,
    "cvc": _cvc,
    "chest_tube": _chest_tube,
    "ecg_leads": _ecg_leads,
}


def draw_tube(name: str, path: Curve, frame: Frame) -> Array:
    """Line integral of one tube: wide ones are hollow with an opaque stripe, thin ones solid."""
    canvas = Canvas(frame)
    radius = _drawn_radius_mm(name, frame)
    curve = path[None]
    if name in ("ett", "chest_tube"):
        canvas.ribbons(curve, radius, 0.46)
        canvas.ribbons(curve, 0.60 * radius, 0.20)
        along = np.gradient(path, axis=0)
        along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)[:, None]
        across = np.stack([-along[:, 1], along[:, 0]], axis=-1)
        canvas.ribbons((path + 0.55 * radius * across)[None], 1.1, 1.0)
    else:
        canvas.ribbons(curve, radius, 1.0)
    return canvas.array(OPACITY[name] * frame.gain)


def _drawn_radius_mm(name: str, frame: Frame) -> float:
    return max(RADII_MM[name], 0.5 * THINNEST_PIXELS * frame.mm_per_pixel)


def mask_of(name: str, path: Curve, frame: Frame) -> NDArray[np.bool_]:
    """Pixels that the tube covers by 40% or more, (size, size) bool; one piece at any size."""
    canvas = Canvas(frame)
    canvas.ribbons(path[None], _drawn_radius_mm(name, frame), 1.0)
    return canvas.array() > 0.4


def add_tubes(p: Array, exam: Exam, view: View, frame: Frame) -> Mapping[str, NDArray[np.bool_]]:
    """Draw the tubes of a frontal view into ``p``, in place, and give their masks by name."""
    masks = {}
    for name, tube in exam.tubes.items():
        path = frontal_path(tube, view)
        p += draw_tube(name, path, frame)
        if name in TUBES:
            masks[name] = mask_of(name, path, frame)
        else:
            p += _electrodes(tube, path, frame)
    return masks


def _electrodes(tube: Tube, path: Curve, frame: Frame) -> Array:
    """Snaps of the leads, and two more wires than the one that is followed."""
    rng = generator(tube.seed, "more")
    canvas = Canvas(frame)
    ends = [path[-1]]
    for _ in range(2):
        end = np.array([between(rng, -120.0, 120.0), between(rng, -80.0, 110.0)])
        knots = [(float(path[0, 0]), float(path[0, 1])), (float(path[20, 0]), float(path[20, 1]))]
        wire = spline([*knots, (float(end[0]), float(end[1]))], 40)
        canvas.ribbons(wire[None], RADII_MM["ecg_leads"], 1.0)
        ends.append(end)
    for end in ends:
        dot = (end + np.array([(-4.0, 0.0), (0.0, 0.0), (4.0, 0.0)]))[None]
        canvas.ribbons(dot, np.array([[3.0, 5.0, 3.0]]), 1.0)
    return canvas.array(OPACITY["ecg_leads"])
