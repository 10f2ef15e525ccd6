"""CLIP on x-rays and their reports (Radford et al. 2021; MedImageInsight's image-report arm).

With ``merge_duplicates`` reports of one wording are positives of each other, which is UniCL without
labels: "No acute disease." is otherwise its own negative many times a batch.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from radsweep.paradigms.image_text import ImageText
from radsweep.paradigms.pairs import ReportWords
from radsweep.paradigms.settings import read_settings
from radsweep.specs import Recipe

VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of CLIP. The tower's defaults are CLIP's own; MedImageInsight's are 1024, 16, 16 and 1024."""

    embed_dim: int = 512
    """Width of the space in which images and texts meet."""
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    text_length: int = 77
    """Tokens, start and end included."""
    vocabulary_size: int = 8192
    """Of a tokenizer that is trained on the subset's reports; not read where the weights bring
    theirs."""
    text_pooling: str = "end"
    """``end`` (CLIP's) or ``mean`` over tokens, for small towers that start from nothing."""
    text_policy: str = "truncate"
    """What is kept of a long report: ``truncate``, ``impression_first`` or ``sentences``."""
    loss: str = "softmax"
    """``softmax`` (CLIP's, UniCL's) or ``sigmoid`` (SigLIP's, which began at a temperature of
    0.1)."""
    temperature: float = 0.07
    """That the cosines are divided by at first; learned from there, at least 0.01."""
    text_learning_rate_scale: float = 1.0
    """Of text tower and text projection."""
    crop_scale_min: float = 0.8
    """Smallest share of the image that a crop shows (MedImageInsight: 0.8)."""
    jitter: float = 0.2
    """Strength of random brightness, contrast and gamma."""
    merge_duplicates: bool = True
    """Whether reports of one wording are one class; without, this is CLIP to the letter."""


@final
class Clip(ImageText):
    """Image and report, contrasted."""

    columns: ClassVar[tuple[str, ...]] = ("report",)

    @classmethod
    def read(cls, recipe: Recipe) -> Settings:
        """The recipe's settings."""
        return read_settings(Settings, recipe)

    def words(self) -> ReportWords:
        """The report."""
        return ReportWords(merge_duplicates=self.settings.merge_duplicates)


PARADIGM = Clip
