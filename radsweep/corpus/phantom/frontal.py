"""Frontal anatomy: body, lungs, heart, great vessels, spine, ribs, airways and lung vessels."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from radsweep.corpus.phantom.canvas import Array, Canvas, Frame, bezier, chord, ramp, spline
from radsweep.corpus.phantom.chest import DISPLACED, SOFT, Chest, lung_thickness
from radsweep.corpus.phantom.draws import generator
from radsweep.corpus.phantom.latents import Anatomy, View

HALF_WIDTH = 141.0
"""Standard distance from the midline to the outer lung border at its widest."""
WIDEST_V = 62.0
APEX_V = -112.0
APEX_U = 50.0
LUNG_DEPTH = 158.0
BODY_DEPTH = 205.0


def frontal_chest(anatomy: Anatomy, view: View, frame: Frame, heart_scale: float) -> Chest:
    """A chest without findings, but for the size of its heart.

    Args:
        anatomy: the patient.
        view: PA or AP.
        frame: sampling.
        heart_scale: 1 is normal; cardiomegaly is above 1.15.

    Returns:
        The chest; its vessels are not yet added to ``p``.
    """
    u = frame.u - np.float32(anatomy.scoliosis_mm) * np.sin(frame.v * np.float32(0.018))
    v = frame.v
    shifted = u - np.float32(view.rotation_mm)
    a = np.abs(u)
    half = HALF_WIDTH * anatomy.lung_width
    top = APEX_V * anatomy.lung_height
    reach = _reach(a, v, half, top)
    base = _diaphragm(u, a, half, anatomy, view)
    below = np.maximum(v - base, 0.0)
    # Lung goes on behind the dome, down into the posterior recess, thinner and thinner.
    air = ramp(base - v, 2.2)
    air += (1.0 - air) * np.float32(0.17) * np.exp(below * np.float32(-1 / 26.0))
    lung = lung_thickness(reach, _beside_mediastinum(shifted, v), air, LUNG_DEPTH)
    solid = _heart(shifted, v, anatomy, view, heart_scale)
    solid += _great_vessels(shifted, v, anatomy)
    # The heart takes the place of lung: it cannot displace more of it than there is.
    lung -= np.minimum(solid, lung * np.float32(0.86))
    p = _body(a, v, anatomy) * np.float32(SOFT)
    p -= lung * np.float32(DISPLACED)
    p += _spine(u, v, anatomy)
    p -= _gas(u, v, base, anatomy)
    _draw_airways(p, frame, view)
    _draw_bones(p, frame, anatomy, half, top)
    tree, radii = vessel_tree(anatomy.key)
    vessels = draw_vessels(frame, tree, radii)
    vessels *= np.minimum(lung * np.float32(1 / 70.0), 1.0)
    return Chest(frame, p, lung, vessels, u, v, reach, base)


def _beside_mediastinum(shifted: Array, v: Array) -> Array:
    """0 in the mediastinum, 1 in the lungs; wider at the hila and at the thoracic inlet."""
    inlet = ramp(-62.0 - v, 60.0)
    right = np.float32(23.0) + np.float32(9.0) * inlet
    left = np.float32(21.0) + np.float32(13.0) * inlet
    edge = np.where(shifted < 0.0, right, left)
    return ramp(np.abs(shifted) - edge, 11.0)


def _reach(a: Array, v: Array, half: float, top: float) -> Array:
    """Half an egg on each side, whose tip lies over APEX_U and whose inner border is steep."""
    q = a - np.float32(APEX_U)
    across = np.where(q > 0.0, q * np.float32(1 / (half - APEX_U)), 0.0)
    inner = np.where(q < 0.0, q * np.float32(1 / (APEX_U - 8.0)), 0.0)
    across *= across
    inner *= inner
    inner *= inner
    up = np.clip((WIDEST_V - v) * np.float32(1 / (WIDEST_V - top)), 0.0, None)
    up *= up
    reach = across + inner
    reach += up
    return np.asarray(reach)


def _diaphragm(u: Array, a: Array, half: float, anatomy: Anatomy, view: View) -> Array:
    """Two domes that fall steeply to the costophrenic angles and little to the middle."""
    full = 128.0 * anatomy.lung_height - 62.0 * (1.0 - view.inspiration)
    level = np.where(u < 0.0, np.float32(full - 5.0), np.float32(full + 6.0))
    q = (a - np.float32(60.0)) * np.float32(1 / (half - 60.0))
    q *= np.abs(q)
    fall = np.where(q > 0.0, q * np.float32(44.0), q * np.float32(-14.0))
    return np.asarray(level + fall)


def _body(a: Array, v: Array, anatomy: Anatomy) -> Array:
    """Millimetres of body along the ray: trunk, shoulders, neck and breasts, air outside."""
    wide = 184.0 * (0.70 + 0.30 * anatomy.habitus)
    shoulder = ramp(-36.0 - v, 90.0)
    edge = np.float32(wide) + np.float32(120.0) * shoulder
    r2 = np.square(a / edge)
    depth = 1.0 - np.float32(0.42) * ramp(-100.0 - v, 90.0)
    thick = np.float32(BODY_DEPTH * anatomy.habitus) * depth
    thick *= np.sqrt(np.maximum(1.0 - r2 * r2, 0.0))
    slope = np.maximum(a - np.float32(62.0), 0.0)
    shoulder_line = np.float32(-176.0) + slope * np.float32(0.34)
    neck = 1.0 - ramp(a - 62.0, 14.0) * ramp(shoulder_line - v, 16.0)
    thick *= neck
    if anatomy.breast > 0.0:
        size = 46.0 + 16.0 * anatomy.breast
        breast = chord(a - 84.0, v - 78.0, size, size * 0.92)
        thick += np.square(breast) * np.float32(34.0 * anatomy.breast)
    return np.asarray(thick)


def _heart(shifted: Array, v: Array, anatomy: Anatomy, view: View, scale: float) -> Array:
    """Millimetres of heart: a tilted ellipsoid, and a second one for the right atrium."""
    size = anatomy.heart * (1.09 if view.name == "AP" else 1.0)
    floor = 128.0 * anatomy.lung_height - 62.0 * (1.0 - view.inspiration)
    cos, sin = np.cos(anatomy.heart_tilt), np.sin(anatomy.heart_tilt)
    grow = size * scale
    x = shifted - np.float32(28.0 + 34.0 * (grow - 1.0))
    y = v - np.float32(floor - 44.0 - 12.0 * (grow - 1.0))
    along = x * np.float32(cos) + y * np.float32(sin)
    across = y * np.float32(cos) - x * np.float32(sin)
    left = chord(along, across, 70.0 * grow, 51.0 * grow)
    right = chord(
        shifted + np.float32(10.0 + 10.0 * (grow - 1.0)),
        v - np.float32(floor - 46.0),
        33.0 * grow,
        50.0 * min(grow, 1.25),
    )
    both = np.maximum(left, right * np.float32(0.92))
    return np.asarray(both * np.float32(128.0))


def _great_vessels(shifted: Array, v: Array, anatomy: Anatomy) -> Array:
    """Millimetres of aortic knob, descending aorta, pulmonary trunk and superior vena cava."""
    knob = chord(shifted - 25.0, v + 22.0, anatomy.knob_mm, anatomy.knob_mm * 1.15)
    out = knob * np.float32(64.0)
    down = np.clip((v + 22.0) * np.float32(1 / 160.0), 0.0, 1.0)
    centre = np.float32(27.0) - down * np.float32(17.0)
    aorta = np.sqrt(np.maximum(1.0 - np.square((shifted - centre) * np.float32(1 / 12.5)), 0.0))
    aorta *= ramp(v + 24.0, 10.0)
    out += aorta * np.float32(46.0)
    out += chord(shifted - 26.0, v - 20.0, 19.0, 26.0) * np.float32(52.0)
    cava = np.sqrt(np.maximum(1.0 - np.square((shifted + 24.0) * np.float32(1 / 11.0)), 0.0))
    cava *= ramp(v + 78.0, 50.0) * ramp(52.0 - v, 30.0)
    out += cava * np.float32(44.0)
    return np.asarray(out)


def _spine(u: Array, v: Array, anatomy: Anatomy) -> Array:
    """Vertebral bodies with discs between them, and pedicles like eyes."""
    q = np.square(u * np.float32(1 / 18.0))
    q *= q
    column = 1.0 / (1.0 + q * q)
    wave = np.cos((v + 10.0) * np.float32(2 * np.pi / anatomy.rib_pitch_mm))
    disc = np.square(np.square(np.maximum(wave, 0.0)))
    out = column * (np.float32(0.30) - np.float32(0.14) * disc)
    a = np.abs(u)
    pedicle = np.exp(-np.square((a - 11.5) * np.float32(1 / 3.2)))
    pedicle *= np.square(np.maximum(-wave, 0.0))
    out += pedicle * np.float32(0.13)
    return np.asarray(out)


def _gas(u: Array, v: Array, base: Array, anatomy: Anatomy) -> Array | np.float32:
    """The stomach bubble hugs the left dome from below."""
    radius = anatomy.stomach_bubble
    if radius <= 0.0:
        return np.float32(0.0)
    level = 128.0 * anatomy.lung_height + 12.0 + radius * 0.7
    bubble = chord(u - 66.0, v - np.float32(level), radius * 1.5, radius)
    bubble *= ramp(v - base - 5.0, 5.0)
    return bubble * np.float32(1.6 * radius * SOFT)


def _draw_airways(p: Array, frame: Frame, view: View) -> None:
    """Trachea, carina and the two main bronchi, taken out of the mediastinum."""
    r = view.rotation_mm
    canvas = Canvas(frame)
    trachea = spline([(0.3 * r, -190.0), (0.5 * r - 1.0, -80.0), (r, -5.0)], 14)
    right = spline([(r - 1.0, -7.0), (r - 15.0, 14.0), (r - 36.0, 32.0)], 10)
    left = spline([(r + 1.0, -7.0), (r + 22.0, 10.0), (r + 46.0, 26.0)], 10)
    canvas.ribbons(np.stack([right, left]), np.array([[6.2], [5.6]]), 0.62)
    canvas.ribbons(trachea[None], 8.3, 0.72)
    canvas.ribbons(trachea[None], 6.0, 1.0)
    p -= canvas.array(0.36)


def _draw_bones(p: Array, frame: Frame, anatomy: Anatomy, half: float, top: float) -> None:
    """Posterior and anterior rib arcs on two drawings, because they cross and must add."""
    back, front = _ribs(anatomy, half, top)
    canvas = Canvas(frame)
    # A rib is a tube of dense cortex around marrow: paler in its middle.
    canvas.ribbons(back, 5.4, 0.62)
    canvas.ribbons(back, 2.9, 0.42)
    canvas.ribbons(*_SHOULDER)
    p += canvas.array(0.44)
    canvas = Canvas(frame)
    canvas.ribbons(front, np.linspace(5.2, 6.6, front.shape[1]), 0.52)
    canvas.ribbons(front, np.linspace(2.9, 3.7, front.shape[1]), 0.33)
    _draw_clavicles(canvas, anatomy)
    p += canvas.array(0.42)


def _shoulder() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Blade, its border and spine, and the arm: curves (8, 12, 2), half widths, opacities."""
    shapes = (
        ([(136, -96), (150, -40), (146, 30)], (14, 17, 19, 20, 20, 19, 18, 16, 13, 10, 6, 3), 0.22),
        ([(166, -70), (164, -20), (147, 32)], (5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 2, 2), 0.45),
        ([(126, -92), (150, -112), (176, -118)], (3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7), 0.45),
        (
            [(184, -112), (190, -92), (198, -60), (206, 0)],
            (13, 18, 21, 21, 18, 15, 13, 12, 11, 11, 11, 11),
            0.75,
        ),
    )
    curves = np.stack([spline([(float(u), float(v)) for u, v in s[0]], 12) for s in shapes])
    half = np.array([s[1] for s in shapes], dtype=np.float64)
    values = np.array([s[2] for s in shapes])
    both = np.concatenate([curves * [-1.0, 1.0], curves])
    return both, np.concatenate([half, half]), np.concatenate([values, values])


_SHOULDER = _shoulder()
"""Mostly at the edge of the film, and the same for everyone."""


def _draw_clavicles(canvas: Canvas, anatomy: Anatomy) -> None:
    rise = 10.0 * (anatomy.rib_slope - 1.0)
    knots = [(17.0, -76.0), (52.0, -84.0), (100.0, -104.0 - rise), (168.0, -116.0 - rise)]
    curve = spline(knots, 16)
    pair = np.stack([curve * [-1.0, 1.0], curve])
    canvas.ribbons(pair, np.linspace(7.6, 5.6, 16), 0.92)
    canvas.ribbons(pair, np.linspace(4.8, 3.0, 16), 0.66)


def _ribs(
    anatomy: Anatomy, half: float, top: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Posterior arcs of ten pairs (20, 16, 2) and anterior arcs of seven (14, 14, 2)."""
    order = np.arange(10.0)
    spine_v = -104.0 + anatomy.rib_pitch_mm * order
    drop = (20.0 + 5.2 * order) * anatomy.rib_slope
    turn_v = spine_v + drop
    up = np.clip((WIDEST_V - turn_v) / (WIDEST_V - top), 0.0, 0.995)
    turn_u = APEX_U + (half - APEX_U) * np.sqrt(1.0 - up**2) + 3.5
    start = np.stack([np.full(10, 19.0), spine_v], axis=-1)
    rise = np.stack([19.0 + 0.40 * turn_u, spine_v - 15.0 + 0.5 * order], axis=-1)
    bend = np.stack([1.02 * turn_u, spine_v + 0.14 * drop - 4.0], axis=-1)
    turn = np.stack([turn_u, turn_v], axis=-1)
    back = bezier(np.stack([start, rise, bend, turn], axis=1), 16)
    n = order[:7]
    end_u = 34.0 + 7.5 * n
    fall = (22.0 + 9.5 * n) * anatomy.rib_slope
    low = np.stack([turn_u[:7] + 1.0, turn_v[:7] + 0.62 * fall], axis=-1)
    inward = np.stack([0.5 * (turn_u[:7] + end_u) + 8.0, turn_v[:7] + 1.02 * fall], axis=-1)
    end = np.stack([end_u, turn_v[:7] + 1.08 * fall], axis=-1)
    front = bezier(np.stack([turn[:7], low, inward, end], axis=1), 14)
    mirror = np.array([-1.0, 1.0])
    return np.concatenate([back * mirror, back]), np.concatenate([front * mirror, front])


@lru_cache(maxsize=4)
def vessel_tree(key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A patient's pulmonary vessels, thick ones last: (curves, 4, 2) mm and radii (curves,) mm."""
    rng = generator(key, "vessels")
    levels: list[NDArray[np.float64]] = []
    radii: list[NDArray[np.float64]] = []
    stems = np.linspace(-1.35, 1.30, 8)
    angle = np.concatenate([stems, stems]) + rng.normal(0.0, 0.10, 16)
    sign = np.repeat([-1.0, 1.0], 8)
    start = np.stack([sign * 38.0, np.where(sign < 0, 24.0, 16.0)], axis=-1)
    start = start + rng.normal(0.0, 4.0, (16, 2))
    length = 30.0 * rng.uniform(0.75, 1.25, 16)
    radius = 4.4 * rng.uniform(0.75, 1.2, 16)
    for _ in range(5):
        turn = rng.normal(0.0, 0.22, len(angle))
        middle = start + 0.55 * length[:, None] * _towards(angle - turn, sign)
        end = start + length[:, None] * _towards(angle + 0.3 * turn, sign)
        levels.append(bezier(np.stack([start, middle, end], axis=1), 4))
        radii.append(radius)
        fork = rng.uniform(0.16, 0.55, len(angle))
        angle = np.concatenate([angle - fork, angle + fork * 0.8])
        start, sign = np.concatenate([end, end]), np.concatenate([sign, sign])
        shrink = rng.uniform(0.62, 0.82, len(angle))
        length = np.concatenate([length, length]) * rng.uniform(0.7, 1.05, len(angle))
        radius = np.concatenate([radius, radius]) * shrink
    return np.concatenate(levels[::-1]), np.concatenate(radii[::-1])


def _towards(angle: NDArray[np.float64], sign: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([sign * np.cos(angle), np.sin(angle)], axis=-1)


def draw_vessels(frame: Frame, tree: NDArray[np.float64], radii: NDArray[np.float64]) -> Array:
    """Line integral of the vessels that are wide enough to leave a trace at this size."""
    kept = radii > 0.26 * frame.mm_per_pixel
    canvas = Canvas(frame)
    width = radii[kept, None] * np.linspace(1.0, 0.8, 4)
    canvas.ribbons(tree[kept], width, np.minimum(radii[kept] / 5.0, 1.0))
    # Vessels are denser than the lung that they displace, and cross one another along the ray.
    return canvas.array(5.0 * 2.0 * DISPLACED * 2.6)
