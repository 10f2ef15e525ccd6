"""A synthetic hospital: film, labels, masks and report all come from one latent record.

It is how the whole pipeline is smoke-tested before any patient's data is near it, and how the demo
runs. ``write_hospital`` writes real files; ``sample_patient`` and ``render_image`` are its parts.
"""

from radsweep.corpus.phantom.hospital import (
    DISTRACTORS,
    FINDINGS,
    HOSPITALS,
    TUBES,
    Hospital,
    Scanner,
)
from radsweep.corpus.phantom.latents import Exam, View
from radsweep.corpus.phantom.render import render_image
from radsweep.corpus.phantom.sample import sample_patient
from radsweep.corpus.phantom.sheet import contact_sheet
from radsweep.corpus.phantom.write import PhantomCard, write_hospital

__all__ = [
    "DISTRACTORS",
    "FINDINGS",
    "HOSPITALS",
    "TUBES",
    "Exam",
    "Hospital",
    "PhantomCard",
    "Scanner",
    "View",
    "contact_sheet",
    "render_image",
    "sample_patient",
    "write_hospital",
]
