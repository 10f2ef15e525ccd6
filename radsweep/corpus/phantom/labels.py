"""Structured labels, as a careful annotator with the latent record at hand would give them."""

from collections.abc import Mapping

from radsweep.corpus.phantom.draws import generator, happens
from radsweep.corpus.phantom.hospital import DISTRACTORS, FINDINGS, TUBES
from radsweep.corpus.phantom.latents import Exam, View

MISSING = 0.03
"""Share of labels left blank, at random."""
DOUBT = 0.6
"""Share of hedged findings whose label says so; the others got a second look."""

COLUMNS = (
    *(f"finding_{name}" for name in FINDINGS),
    *(f"tube_{name}" for name in (*TUBES, *DISTRACTORS)),
)


def labels_of(exam: Exam, view: View) -> Mapping[str, str]:
    """Column -> ``1`` present, ``0`` absent, ``-1`` uncertain, empty where nobody has looked."""
    doubts = generator(exam.key, "doubts")
    holes = generator(view.key, "holes")
    labels = {}
    for name in FINDINGS:
        doubtful = happens(doubts, DOUBT) and name in exam.hedged
        truth = "1" if name in exam.findings else "0"
        labels[f"finding_{name}"] = "-1" if doubtful else truth
    for name in (*TUBES, *DISTRACTORS):
        labels[f"tube_{name}"] = "1" if name in exam.tubes else "0"
    return {name: "" if happens(holes, MISSING) else label for name, label in labels.items()}
