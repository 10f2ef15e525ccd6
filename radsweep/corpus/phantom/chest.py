"""The thickness model of a chest before any finding, and what findings may change in it.

Attenuation is a line integral: p is the sum of mu times thickness over all organs, so that
overlapping organs add up and a tube is faint over the mediastinum, as in a patient.
"""

from dataclasses import dataclass

import numpy as np

from radsweep.corpus.phantom.canvas import Array, Frame, ramp

SOFT = 0.0185
"""Attenuation of soft tissue per millimetre, near 70 keV (water in NIST XCOM, 0.19 per cm)."""
DISPLACED = 0.0135
"""What a millimetre of aerated lung lacks against soft tissue (lung density near 0.27)."""


@dataclass
class Chest:
    """The pictures that findings work on; all arrays are (size, size) float32."""

    frame: Frame
    p: Array
    """Line integral of attenuation, in units of e-foldings."""
    lung: Array
    """Millimetres of aerated lung along the ray."""
    vessels: Array
    """Line integral of the lung vessels; added to ``p`` after the findings have hidden some."""
    u: Array
    """Millimetres left of the patient's own midline: the spine's curve is taken out."""
    v: Array
    reach: Array
    """0 in the middle of a lung, 1 at its outer border, as a squared ellipse radius."""
    base: Array
    """Level of the diaphragm in each column, in millimetres."""

    def side(self, side: str) -> Array:
        """1 on the named side of the patient, 0 on the other; ``both`` is 1 everywhere."""
        if side == "both":
            return np.ones_like(self.u)
        return ramp(self.u if side == "left" else -self.u, 6.0)


def lung_thickness(reach: Array, cut: Array, air: Array, depth_mm: float) -> Array:
    """Ellipsoidal lung of ``depth_mm``, cut by the mediastinum and by the diaphragm (both 0..1)."""
    thick = np.sqrt(np.clip(1.0 - reach, 0.0, 1.0))
    thick *= cut
    thick *= air
    return np.asarray(thick * np.float32(depth_mm))


def fill(p: Array, lung: Array, share: Array) -> None:
    """Put fluid or tissue in a share (0..1) of the air that is left, in place.

    Findings that overlap share the same air, so no ray is denser than a lung without any.
    """
    filled = lung * share
    p += filled * np.float32(DISPLACED)
    lung -= filled
