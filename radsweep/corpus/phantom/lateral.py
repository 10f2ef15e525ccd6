"""The lateral film: seen from the side, front on the left, so that ``u`` here is depth ``w``."""

import numpy as np

from radsweep.corpus.phantom.canvas import (
    Array,
    Canvas,
    Frame,
    bezier,
    chord,
    ramp,
    spline,
    texture,
)
from radsweep.corpus.phantom.chest import DISPLACED, SOFT, fill, lung_thickness
from radsweep.corpus.phantom.draws import between, generator
from radsweep.corpus.phantom.findings import heart_scale
from radsweep.corpus.phantom.frontal import draw_vessels, vessel_tree
from radsweep.corpus.phantom.latents import Anatomy, Exam, Finding, View
from radsweep.corpus.phantom.tubes import draw_tube

BODY_WIDTH = 285.0
"""Millimetres of body across at mid chest; shoulders and arms add to it above."""
LUNGS_WIDTH = 215.0


def lateral_chest(exam: Exam, view: View, frame: Frame) -> Array:
    """Line integral of a whole left lateral, findings and tubes included: (size, size) float32."""
    anatomy = exam.anatomy
    w, v = frame.u, frame.v
    front, back = _walls(v, anatomy)
    middle = (front + back) * np.float32(0.5)
    reach = np.square((w - middle) / (back - middle))
    reach *= reach
    up = np.clip((40.0 - v) * np.float32(1 / (40.0 + 116.0 * anatomy.lung_height)), 0.0, None)
    reach += np.square(up) * up
    base = _dome(w, anatomy, view)
    air = ramp(base - v, 3.0) * np.float32(0.5)
    air += ramp(base + 9.0 - v, 3.0) * np.float32(0.5)
    lung = lung_thickness(reach, np.ones_like(v), air, LUNGS_WIDTH)
    solid = _mediastinum(w, v, anatomy, view, heart_scale(exam))
    lung -= np.minimum(solid, lung * np.float32(0.8))
    p = _body(w, v, anatomy) * np.float32(SOFT)
    p -= lung * np.float32(DISPLACED)
    _draw_bones(p, frame, anatomy)
    trachea = Canvas(frame)
    trachea.ribbons(spline([(-6.0, -190.0), (8.0, -90.0), (18.0, 2.0)], 14)[None], 8.0, 1.0)
    p -= trachea.array(0.40)
    vessels = _vessels(frame, anatomy) * np.minimum(lung * np.float32(1 / 140.0), 1.0)
    for finding in exam.findings.values():
        _add(finding, p, vessels, lung, w, v, view, frame)
    p += vessels
    grain = texture(generator(anatomy.key, "interstitium"), frame, 5.0)
    p += grain * lung * np.float32(0.02 * DISPLACED)
    _draw_tubes(p, exam, frame)
    return p


def _walls(v: Array, anatomy: Anatomy) -> tuple[Array, Array]:
    """Inner faces of the sternum and of the back, in millimetres of depth at each level."""
    deep = 0.6 + 0.4 * anatomy.habitus
    down = np.clip((v + 110.0) * np.float32(1 / 230.0), 0.0, 1.2)
    front = np.float32(-52.0 * deep) - np.float32(62.0 * deep) * np.sqrt(down)
    curve = np.sin(np.clip(down, 0.0, 1.0) * np.float32(np.pi * 0.75))
    back = np.float32(68.0 * deep) + np.float32(48.0 * deep) * curve
    return front, back


def _dome(w: Array, anatomy: Anatomy, view: View) -> Array:
    """The diaphragm climbs to the front and falls deep behind, to the posterior recess."""
    full = 112.0 * anatomy.lung_height - 62.0 * (1.0 - view.inspiration)
    q = (w + 30.0) * np.float32(1 / 120.0)
    fall = np.where(q > 0.0, q * q * np.float32(62.0), q * q * np.float32(30.0))
    return np.asarray(np.float32(full) + fall)


def _body(w: Array, v: Array, anatomy: Anatomy) -> Array:
    """Width of the body along the ray, with the arms raised in front of the apices."""
    front, back = _walls(v, anatomy)
    flesh = np.float32(22.0 * anatomy.habitus)
    middle = (front + back) * np.float32(0.5)
    neck = ramp(-112.0 - v, 84.0)
    half = (back - middle + flesh) * (1.0 - np.float32(0.36) * neck)
    r2 = np.square((w - middle) / half)
    wide = np.float32(BODY_WIDTH * (0.8 + 0.2 * anatomy.habitus)) * (1.0 - np.float32(0.5) * neck)
    thick = wide * np.sqrt(np.maximum(1.0 - r2 * r2, 0.0))
    shoulders = np.square(chord(w + 6.0, v + 128.0, 118.0, 62.0))
    thick += np.minimum(np.float32(90.0) * shoulders, thick)
    if anatomy.breast > 0.0:
        size = 34.0 + 14.0 * anatomy.breast
        thick += np.float32(60.0) * chord(w - front - 4.0, v - 76.0, size, size * 1.25)
    return np.asarray(thick)


def _mediastinum(w: Array, v: Array, anatomy: Anatomy, view: View, scale: float) -> Array:
    """Millimetres of heart, aortic arch and descending aorta across."""
    grow = anatomy.heart * scale
    floor = 112.0 * anatomy.lung_height - 62.0 * (1.0 - view.inspiration)
    x = w + np.float32(40.0 - 22.0 * (grow - 1.0))
    y = v - np.float32(floor - 44.0 - 10.0 * (grow - 1.0))
    along = x * np.float32(0.83) + y * np.float32(0.56)
    across = y * np.float32(0.83) - x * np.float32(0.56)
    solid = np.square(chord(along, across, 66.0 * grow, 54.0 * grow)) * np.float32(125.0)
    roots = chord(w + 16.0, v - 16.0, 30.0, 52.0)
    solid += np.square(roots) * np.float32(50.0)
    arch = chord(w - 14.0, v + 22.0, 38.0, anatomy.knob_mm + 10.0)
    arch -= chord(w - 14.0, v + 4.0, 22.0, 16.0)
    solid += np.maximum(arch, 0.0) * np.float32(42.0)
    centre = np.float32(48.0) + np.float32(8.0) * np.sin((v + 20.0) * np.float32(0.014))
    aorta = np.sqrt(np.maximum(1.0 - np.square((w - centre) * np.float32(1 / 12.0)), 0.0))
    solid += aorta * ramp(v + 18.0, 16.0) * np.float32(24.0)
    return solid


def _draw_bones(p: Array, frame: Frame, anatomy: Anatomy) -> None:
    """Vertebral bodies down the back, the sternum in front, ribs slanting between."""
    levels = -118.0 + anatomy.rib_pitch_mm * np.arange(16.0)
    _, back = _walls(levels.astype(np.float32), anatomy)
    centre = back.astype(np.float64) - 16.0
    tall = 0.36 * anatomy.rib_pitch_mm
    columns = np.stack(
        [np.stack([centre, levels + step * tall], axis=-1) for step in (-1.0, 0.0, 1.0)], axis=1
    )
    canvas = Canvas(frame)
    canvas.ribbons(columns, 15.0, 0.70)
    canvas.ribbons(columns, 12.5, 0.52)
    sternum_v = np.linspace(-72.0, 82.0, 12)
    front, _ = _walls(sternum_v.astype(np.float32), anatomy)
    sternum = np.stack([front.astype(np.float64) - 8.0, sternum_v], axis=-1)
    canvas.ribbons(sternum[None], 5.0, 0.60)
    p += canvas.array(0.75)
    ribs = Canvas(frame)
    order = np.arange(1.0, 10.0)
    start_v = -104.0 + anatomy.rib_pitch_mm * order
    end_v = start_v + (44.0 + 5.0 * order) * anatomy.rib_slope
    _, wall = _walls(start_v.astype(np.float32), anatomy)
    chest_front, _ = _walls(end_v.astype(np.float32), anatomy)
    far = 0.62 * chest_front.astype(np.float64)
    for shift in (0.0, 7.0):
        controls = np.stack(
            [
                np.stack([wall + 4.0, start_v + shift], axis=-1),
                np.stack([wall + 2.0, start_v + 18.0 + shift], axis=-1),
                np.stack([0.5 * far, end_v - 14.0 + shift], axis=-1),
                np.stack([far, end_v + shift], axis=-1),
            ],
            axis=1,
        )
        curves = bezier(controls, 14)
        ribs.ribbons(curves, 4.4, 0.60)
        ribs.ribbons(curves, 2.2, 0.40)
    p += ribs.array(0.24)


def _vessels(frame: Frame, anatomy: Anatomy) -> Array:
    """The same tree as in the frontal film, folded about the hila to be seen from the side."""
    tree, radii = vessel_tree(anatomy.key)
    folded = tree.copy()
    away = np.abs(tree[..., 0]) - 38.0
    folded[..., 0] = 14.0 + np.where(tree[..., 0] < 0.0, 0.85, -0.75) * away
    return draw_vessels(frame, folded, radii)


def _add(
    finding: Finding,
    p: Array,
    vessels: Array,
    lung: Array,
    w: Array,
    v: Array,
    view: View,
    frame: Frame,
) -> None:
    """Change ``p`` and ``vessels``, in place, as one finding does when seen from the side."""
    size = finding.magnitude
    rng = generator(finding.seed, "lateral")
    if finding.name == "effusion":
        depth = 14.0 + 88.0 * size**1.3
        climb = np.square(np.clip(w * np.float32(1 / 90.0), 0.0, 1.2))
        level = np.float32(172.0 - 62.0 * (1.0 - view.inspiration) - depth) - climb * np.float32(20)
        share = 0.85 if finding.side == "both" else 0.5
        fill(p, lung, ramp(v - level, 8.0) * np.float32(share))
    elif finding.name in ("consolidation", "edema"):
        wide = 16.0 + 15.0 * size if finding.name == "consolidation" else 52.0
        at_w, at_v = (finding.w_mm, finding.v_mm) if wide < 50.0 else (14.0, 20.0)
        r2 = np.square((w - at_w) * np.float32(1 / wide))
        r2 += np.square((v - at_v) * np.float32(1 / wide))
        cloud = np.exp(-r2) * np.clip(1.0 + np.float32(0.4) * texture(rng, frame, 13.0), 0.1, None)
        strength = 0.16 + (0.26 if finding.name == "consolidation" else 0.14) * size
        fill(p, lung, np.minimum(cloud * np.float32(strength), 0.9))
    elif finding.name == "nodule":
        radius = 5.0 + 12.0 * size
        ball = chord(w - finding.w_mm, v - finding.v_mm, radius, radius)
        p += ball * np.float32(2.6 * radius * DISPLACED)
    elif finding.name == "atelectasis":
        canvas = Canvas(frame)
        level = 84.0 - between(rng, 0.0, 16.0)
        plate = spline([(-30.0, level), (20.0, level + 8.0), (70.0, level + 24.0)], 10)
        canvas.ribbons(plate[None], 1.6 + 3.2 * size, 1.0)
        p += canvas.array(0.25 + 0.25 * size) * (lung > 4.0)
    elif finding.name == "pneumothorax":
        # Hardly seen from the side: the apex empties of vessels.
        vessels *= 1.0 - np.float32(0.6 * size) * ramp(-40.0 - v, 30.0)


def _draw_tubes(p: Array, exam: Exam, frame: Frame) -> None:
    """The tubes' own courses in depth: trachea, oesophagus, vena cava, pleura, skin."""
    for name, tube in exam.tubes.items():
        rng = generator(tube.seed, "lateral")
        tip = tube.tip_v_mm
        courses = {
            "ett": [(-12.0, -210.0), (1.0, -140.0), (18.0 + 0.1 * tip, tip)],
            "ngt": [(4.0, -210.0), (26.0, -90.0), (36.0, 0.3 * tip), (30.0, 0.7 * tip), (4.0, tip)],
            "cvc": [(-14.0, -210.0), (-18.0, -110.0), (-8.0, -50.0), (-4.0, tip)],
            "chest_tube": [(-20.0, 120.0), (10.0, 80.0), (40.0, 0.5 * (tip + 60.0)), (48.0, tip)],
            "ecg_leads": [(-110.0, 190.0), (-100.0, 90.0), (between(rng, -99.0, -80.0), tip)],
        }
        p += draw_tube(name, spline(courses[name], 48), frame)
