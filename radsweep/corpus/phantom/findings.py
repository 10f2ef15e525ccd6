"""What disease does to a frontal chest: findings change the thickness model, not the picture.

Magnitudes run from hardly visible (0) to unmistakable (1), so that tasks range from easy to hard.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from radsweep.corpus.phantom.canvas import Array, Canvas, chord, ramp, spline, texture
from radsweep.corpus.phantom.chest import DISPLACED, Chest, fill
from radsweep.corpus.phantom.draws import between, generator
from radsweep.corpus.phantom.latents import Exam, Finding, View


def heart_scale(exam: Exam) -> float:
    """Size of the heart against the patient's own: 1, or 1.17 to 1.55 with cardiomegaly."""
    finding = exam.findings.get("cardiomegaly")
    return 1.0 if finding is None else 1.17 + 0.38 * finding.magnitude


def add_findings(chest: Chest, exam: Exam, view: View) -> None:
    """Draw all findings of an exam but the heart's size into ``chest``, in place.

    On coarse pixels the faint end of each finding's range is left out, and the contrast of those
    that the ribs would hide is raised (``Frame.gain``).
    """
    gain = chest.frame.gain
    for name, add in _FRONTAL.items():
        finding = exam.findings.get(name)
        if finding is None:
            continue
        before = chest.p.copy()
        add(chest, replace(finding, magnitude=1.0 - (1.0 - finding.magnitude) / gain), view)
        if name in _SUBTLE:
            chest.p += (chest.p - before) * np.float32(gain - 1.0)


def _centre_u(finding: Finding) -> float:
    return 84.0 if finding.side == "left" else -84.0


def _consolidation(chest: Chest, finding: Finding, view: View) -> None:
    """Some overlapping patches of airless lung, cloudy, bounded by the lung itself."""
    rng = generator(finding.seed, "shape")
    cloud = np.zeros_like(chest.u)
    spread = 13.0 + 15.0 * finding.magnitude
    for _ in range(4):
        u = finding.u_mm + between(rng, -1.0, 1.0) * spread
        v = finding.v_mm + between(rng, -1.0, 1.0) * spread
        wide, tall = spread * between(rng, 0.7, 1.3), spread * between(rng, 0.6, 1.1)
        r2 = np.square((chest.u - u) * np.float32(1 / wide))
        r2 += np.square((chest.v - v) * np.float32(1 / tall))
        cloud += np.exp(-r2)
    grain = texture(rng, chest.frame, 15.0)
    cloud *= np.clip(1.0 + np.float32(0.45) * grain, 0.1, None)
    # 1 - exp: patches saturate at full airlessness where they overlap.
    airless = 1.0 - np.exp(-cloud * np.float32(0.75 + 0.5 * finding.magnitude))
    fill(chest.p, chest.lung, airless * np.float32(0.30 + 0.42 * finding.magnitude))


def _edema(chest: Chest, finding: Finding, view: View) -> None:
    """Perihilar haze in a bat's wing, wider vessels, and short septal lines at the bases."""
    rng = generator(finding.seed, "shape")
    a = np.abs(chest.u)
    r2 = np.square((a - 58.0) * np.float32(1 / 46.0))
    r2 += np.square((chest.v - 22.0) * np.float32(1 / 72.0))
    haze = np.exp(-r2) * np.clip(1.0 + np.float32(0.40) * texture(rng, chest.frame, 11.0), 0, None)
    haze *= np.float32(0.14 + 0.24 * finding.magnitude)
    fill(chest.p, chest.lung, np.minimum(haze, 0.9))
    chest.vessels *= np.float32(1.15 + 0.5 * finding.magnitude)
    canvas = Canvas(chest.frame)
    levels = np.linspace(70.0, 118.0, 8) + rng.uniform(-2.0, 2.0, 8)
    for sign in (-1.0, 1.0):
        start = sign * rng.uniform(116.0, 122.0, 8)
        lines = np.stack(
            [
                np.stack([start, levels], axis=-1),
                np.stack([start + sign * 15.0, levels + 1.0], axis=-1),
            ],
            axis=1,
        )
        canvas.ribbons(lines, 0.8, 1.0)
    chest.p += canvas.array(0.06 + 0.12 * finding.magnitude) * (chest.lung > 1.0)


def _nodule(chest: Chest, finding: Finding, view: View) -> None:
    """A sphere of soft tissue, 5 to 17 mm in radius, denser when it is small and calcified."""
    radius = 5.0 + 12.0 * finding.magnitude
    density = between(generator(finding.seed, "calcium"), 1.1, 2.4 - 0.9 * finding.magnitude)
    ball = chord(chest.u - finding.u_mm, chest.v - finding.v_mm, radius, radius)
    chest.p += ball * np.float32(2.0 * radius * DISPLACED * density)


def _atelectasis(chest: Chest, finding: Finding, view: View) -> None:
    """Plates of collapsed lung that lie slanted above a diaphragm."""
    rng = generator(finding.seed, "shape")
    sign = -1.0 if finding.side == "right" else 1.0
    canvas = Canvas(chest.frame)
    floor = 118.0 - 62.0 * (1.0 - view.inspiration)
    for number in range(1 + round(1.6 * finding.magnitude)):
        level = floor - 14.0 - 17.0 * number - between(rng, 0.0, 12.0)
        inner, outer = between(rng, 42.0, 58.0), between(rng, 104.0, 124.0)
        slant = between(rng, -4.0, 16.0)
        knots = [
            (sign * inner, level + slant),
            (sign * 0.5 * (inner + outer), level + 0.4 * slant - 2.0),
            (sign * outer, level),
        ]
        thick = 1.4 + 3.4 * finding.magnitude
        canvas.ribbons(spline(knots, 10)[None], thick * np.hanning(12)[1:-1] + 0.8, 1.0)
    chest.p += canvas.array(0.26 + 0.34 * finding.magnitude) * np.minimum(
        chest.lung * np.float32(1 / 40.0), 1.0
    )


def _pneumothorax(chest: Chest, finding: Finding, view: View) -> None:
    """Air outside a shrunken lung: no vessels there, and a fine pleural line where it begins."""
    side = chest.side(finding.side)
    gap = 0.10 + 0.34 * finding.magnitude
    # The visceral pleura retracts most at the apex, where air rises in an upright patient.
    high = np.float32(1.0) + np.float32(0.9) * np.clip(-chest.v * np.float32(1 / 100), 0, 1)
    reach = np.sqrt(np.maximum(chest.reach, 1e-4))
    inside = (np.float32(1.0) - np.float32(gap) * high) - reach
    outside = ramp(-inside, 0.03) * side
    within = ramp(chest.lung, 8.0)
    edge = 84.0
    line = np.exp(-np.square(inside * np.float32(edge / 1.5))) * side * within
    chest.vessels *= 1.0 - outside
    chest.p -= outside * chest.lung * np.float32((0.13 + 0.07 * finding.magnitude) * DISPLACED)
    chest.p += line * np.float32(0.15 + 0.08 * finding.magnitude)
    collapsed = (1.0 - outside) * side
    fill(chest.p, chest.lung, collapsed * np.float32(0.13 * finding.magnitude))


def _effusion(chest: Chest, finding: Finding, view: View) -> None:
    """Fluid below a meniscus that climbs the chest wall; it layers into a veil when supine."""
    depth = 16.0 + 92.0 * finding.magnitude**1.3
    a = np.abs(chest.u)
    out = np.clip((a - 40.0) * np.float32(1 / 95.0), 0.0, 1.15)
    floor = 171.0 - 62.0 * (1.0 - view.inspiration)
    climb = np.asarray(out * out * out * (0.20 * depth + 16.0), dtype=np.float32)
    side = chest.side(finding.side)
    below = ramp(chest.v + climb - np.float32(floor - depth), 7.0) * side
    fluid = below * np.float32(0.90)
    if view.name == "AP":
        veil = np.clip((chest.v + 60.0) * np.float32(1 / 190.0), 0.0, 1.0) * side
        fluid += veil * (1.0 - below) * np.float32(0.10 + 0.22 * finding.magnitude)
    fill(chest.p, chest.lung, fluid)
    chest.vessels *= 1.0 - np.float32(0.9) * below


Adder = Callable[[Chest, Finding, View], None]

# What fills the lung comes first: later findings find less air to show against.
_FRONTAL: Mapping[str, Adder] = {
    "consolidation": _consolidation,
    "edema": _edema,
    "nodule": _nodule,
    "effusion": _effusion,
    "atelectasis": _atelectasis,
    "pneumothorax": _pneumothorax,
}


_SUBTLE = frozenset({"consolidation", "nodule", "atelectasis", "pneumothorax"})
"""Those whose contrast is raised; fluid and a large heart are seen at any size."""


def lung_texture(chest: Chest, seed: str) -> Array:
    """The interstitium's fine mottle; it is the patient's own, hence the same in every exam."""
    grain = texture(generator(seed, "interstitium"), chest.frame, 5.0)
    return np.asarray(grain * chest.lung * np.float32(0.030 * DISPLACED))
