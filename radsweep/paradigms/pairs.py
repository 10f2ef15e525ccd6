"""A crop of one radiograph and what is said of it: the views of CLIP and UniCL.

Without torch, since a stream's workers need this and no model.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from radsweep.corpus.example import Example, Stratum, Views
from radsweep.models.tokens import TextEncoder
from radsweep.paradigms.augment import jittered, random_crop
from radsweep.paradigms.prompts import ABSENT, prompt, set_prompt

NO_TEXT = -1
"""Class of a pair that has nothing to say; it takes no part in the loss."""


def text_class(text: str) -> int:
    """A positive 63-bit number that equal texts share, whatever their case and spacing."""
    normal = re.sub(r"\s+", " ", text).strip().lower()
    digest = hashlib.blake2b(normal.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 1) | 1


class Words(Protocol):
    """What is said of an x-ray. Small and picklable."""

    def __call__(self, example: Example, generator: np.random.Generator) -> tuple[str, int]:
        """A text, and its class as ``contrast`` takes it."""
        ...


@dataclass(frozen=True, kw_only=True)
class ReportWords:
    """The report; equal ones are one class if they are merged, and else each is its own."""

    merge_duplicates: bool

    def __call__(self, example: Example, generator: np.random.Generator) -> tuple[str, int]:
        """Nothing, out of the loss, where there is no report."""
        if not example.report:
            return "", NO_TEXT
        return example.report, text_class(example.report) if self.merge_duplicates else 0


@dataclass(frozen=True, kw_only=True)
class LabelWords:
    """The report, or labels in words."""

    report: ReportWords
    label_share: float
    label_policy: str
    positive_share: float

    def __call__(self, example: Example, generator: np.random.Generator) -> tuple[str, int]:
        """Labels for their share of the rows, and wherever there is no report."""
        known = {name: state for name, state in example.labels.items() if state is not None}
        drawn = generator.random() < self.label_share
        if not known or (example.report and not drawn):
            return self.report(example, generator)
        if self.label_policy == "set":
            return self._all(known, generator)
        return self._one(known, generator)

    def _all(self, known: dict[str, int], generator: np.random.Generator) -> tuple[str, int]:
        there = [f"{name}={state}" for name, state in sorted(known.items()) if state != ABSENT]
        return set_prompt(known, generator), text_class(f"labels: {there}")

    def _one(self, known: dict[str, int], generator: np.random.Generator) -> tuple[str, int]:
        names = sorted(known)
        there = [name for name in names if known[name] != ABSENT]
        if there and generator.random() < self.positive_share:
            names = there
        name = names[int(generator.integers(len(names)))]
        return prompt(name, known[name], generator), text_class(f"label: {name}={known[name]}")


@dataclass(frozen=True, kw_only=True)
class PairViewer:
    """A crop of the image beside the tokens and the class of a text."""

    image_size: int
    crop_scale_min: float
    jitter: float
    encoder: TextEncoder
    words: Words

    def __call__(self, example: Example, generator: np.random.Generator, stratum: Stratum) -> Views:
        """``image`` uint8 [1, S, S], ``text`` int64 [length], ``same`` int64 []."""
        text, same = self.words(example, generator)
        crop = random_crop(example.pixels, self.image_size, self.crop_scale_min, 1.0, generator)
        return {
            "image": jittered(crop, self.jitter, generator),
            "text": self.encoder.encode(text, generator),
            "same": np.array(same, np.int64),
        }
