"""UniCL on reports and structured labels (Yang et al. 2022; MedImageInsight's arm with labels).

A share of the rows is paired with a label in words instead of a report; images with that label in
that state are positives of one another. How a multi-label image becomes one row has no public rule:
``label_policy`` names the choice.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from radsweep.errors import SpecError
from radsweep.paradigms.image_text import ImageText
from radsweep.paradigms.pairs import LabelWords, ReportWords
from radsweep.paradigms.settings import read_settings, require_shares
from radsweep.specs import Recipe

VERSION = 3

LABEL_POLICIES = ("one", "set")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of UniCL: CLIP's, and how labels are used."""

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
    """Whether reports of one wording are one class."""
    label_share: float = 0.5
    """Share of rows whose text is made from labels, where any is known."""
    label_policy: str = "one"
    """``one``: a drawn label, class (label, state). ``set``: all that is there, class the whole
    set."""
    positive_share: float = 0.75
    """With ``one``: how often a label that is not absent is drawn, where the image has one."""


@final
class UniCL(ImageText):
    """Image with report or label, contrasted."""

    columns: ClassVar[tuple[str, ...]] = ("report", "labels")

    @classmethod
    def read(cls, recipe: Recipe) -> Settings:
        """The recipe's settings. Raises SpecError for an unknown policy or an impossible share."""
        settings = read_settings(Settings, recipe)
        if settings.label_policy not in LABEL_POLICIES:
            raise SpecError(
                f"label_policy {settings.label_policy!r}; known: {', '.join(LABEL_POLICIES)}"
            )
        require_shares(settings, "label_share", "positive_share")
        return settings

    def words(self) -> LabelWords:
        """The report or labels."""
        settings = self.settings
        return LabelWords(
            report=ReportWords(merge_duplicates=settings.merge_duplicates),
            label_share=settings.label_share,
            label_policy=settings.label_policy,
            positive_share=settings.positive_share,
        )


PARADIGM = UniCL
