"""Reports as token ids: a tokenizer of their own words, and what is kept of a long one.

Without torch, since a stream's workers need this and no tower.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from radsweep.errors import SpecError
from radsweep.models.sections import impression_first, sentences

PAD = 0
"""Token whose key no query attends to; MedImageInsight's rule."""

PAD_TOKEN, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"

POLICIES = ("truncate", "impression_first", "sentences")
"""What happens to a report of more tokens than fit."""


def train_tokenizer(reports: Iterable[str], vocabulary_size: int) -> str:
    """A lower-casing BPE tokenizer of these reports, as ``tokenizers`` JSON.

    The same reports in any order give the same text. Id 0 pads; the end token has the highest id,
    as in CLIP's tokenizer, so that the tower can find it. Words with no known letters become
    ``<unk>``.

    Args:
        reports: texts; may be empty.
        vocabulary_size: at most so many tokens, special ones included.

    Raises SpecError where not even letters and special tokens fit.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"[a-z]+|\d|[^\sa-z\d]"), "removed", invert=True
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - 1,
        special_tokens=[PAD_TOKEN, UNKNOWN, START],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789.,:;-/()'"),
        limit_alphabet=100,
        show_progress=False,
    )
    # No end-of-word mark: with one, the trainer numbers the alphabet in the order of a random hash.
    tokenizer.train_from_iterator(sorted(reports), trainer)
    tokenizer.add_special_tokens([END])
    if tokenizer.get_vocab_size() > vocabulary_size:
        raise SpecError(
            f"vocabulary_size {vocabulary_size} is too small: letters and special tokens alone are "
            f"{tokenizer.get_vocab_size()}"
        )
    tokenizer.enable_padding(pad_id=PAD, pad_token=PAD_TOKEN)
    return str(tokenizer.to_str())


class Vocabulary(NamedTuple):
    """What the tower and the padding need to know of a tokenizer."""

    size: int
    start: int
    end: int
    pad: int


@lru_cache(maxsize=4)
def vocabulary(tokenizer: str) -> Vocabulary:
    """Size and special ids of a tokenizer's JSON.

    Raises SpecError where it marks neither start nor end as this package or CLIP does.
    """
    loaded = _load(tokenizer)
    padding = loaded.padding["pad_id"] if loaded.padding else PAD
    for start, end in ((START, END), ("<|startoftext|>", "<|endoftext|>")):
        ids = loaded.token_to_id(start), loaded.token_to_id(end)
        if ids[0] is not None and ids[1] is not None:
            return Vocabulary(loaded.get_vocab_size(), ids[0], ids[1], padding)
    raise SpecError(
        "the tokenizer has neither <start> and <end> nor CLIP's <|startoftext|> and "
        "<|endoftext|>; the text tower pools at the end token"
    )


@lru_cache(maxsize=4)
def _load(tokenizer: str) -> Tokenizer:
    # A worker meets the same tokenizer in every task; building CLIP's takes a tenth of a second.
    loaded = Tokenizer.from_str(tokenizer)
    loaded.no_truncation()
    return loaded


@final
@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """Texts as token ids of one length. Small enough to travel: it holds the tokenizer as JSON."""

    tokenizer: str
    """``tokenizers`` JSON, trained by ``train_tokenizer`` or come with starting weights."""
    length: int
    """Tokens, start and end included (CLIP's towers have 77)."""
    policy: str
    """``truncate`` drops the tail; ``impression_first`` moves the impression to the front before
    it; ``sentences`` shuffles the sentences and takes whole ones while they fit."""

    def __post_init__(self) -> None:
        """Raise SpecError for an unknown policy or a length without room for a word."""
        if self.policy not in POLICIES:
            raise SpecError(f"text_policy {self.policy!r}; known: {', '.join(POLICIES)}")
        if self.length < 3:
            raise SpecError(f"text_length is {self.length}; start, end and one word need 3 tokens")

    def encode(self, text: str, generator: np.random.Generator) -> NDArray[np.int64]:
        """Ids int64 [length]: start, text, end, padding.

        Args:
            text: a report or a prompt.
            generator: draws the order of sentences; the other policies leave it alone.
        """
        known = vocabulary(self.tokenizer)
        room = self.length - 2
        if self.policy == "sentences":
            ids = self._whole_sentences(text, room, generator)
        else:
            kept = impression_first(text) if self.policy == "impression_first" else text
            ids = _load(self.tokenizer).encode(kept, add_special_tokens=False).ids[:room]
        padded = np.full(self.length, known.pad, np.int64)
        padded[: len(ids) + 2] = [known.start, *ids, known.end]
        return padded

    def _whole_sentences(self, text: str, room: int, generator: np.random.Generator) -> list[int]:
        parts = sentences(text)
        parts = [parts[place] for place in generator.permutation(len(parts))]
        encoding = _load(self.tokenizer).encode(" ".join(parts), add_special_tokens=False)
        ids: list[int] = encoding.ids
        if len(ids) <= room:
            return ids
        # Characters at which each sentence ends -> tokens up to there.
        ends = np.cumsum([len(part) + 1 for part in parts]) - 1
        counts = np.searchsorted([stop for _, stop in encoding.offsets], ends, side="right")
        fitting = counts[counts <= room]
        return ids[: fitting[-1]] if len(fitting) and fitting[-1] else ids[:room]
