"""The language model behind the report probe: text in, a prefix read, text out.

Either built here from its shape and trained from nothing on the train reports, or read from a local
folder in the layout of transformers. Nothing is fetched from a network.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from radsweep.errors import SpecError

END, PAD = "<end>", "<pad>"


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator from ``seed`` for the block, and as it was after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        yield


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a model that is built here: a small Llama (Touvron et al. 2023), embeddings tied."""

    vocabulary_size: int
    width: int
    layers: int
    heads: int
    positions: int
    """Visual and text tokens together."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """A causal language model with its tokenizer."""

    model: nn.Module
    tokenizer: Tokenizer
    end: int
    """Token that closes a report."""

    @property
    def width(self) -> int:
        """Of the embeddings that it takes."""
        return int(self.embedding.weight.shape[1])

    @property
    def embedding(self) -> nn.Embedding:
        """Of its text tokens."""
        table = self.model.get_input_embeddings()  # type: ignore[operator]
        assert isinstance(table, nn.Embedding)
        return table

    def encode(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        """Token ids of each text and its end, cut to ``max_tokens``."""
        ids = [
            encoding.ids
            for encoding in self.tokenizer.encode_batch(texts, add_special_tokens=False)
        ]
        return [[*one, self.end][:max_tokens] for one in ids]

    def loss(self, prefix: Tensor, ids: list[list[int]]) -> Tensor:
        """Mean cross-entropy over all text tokens given the prefix.

        Args:
            prefix: [B, P, width], what is read before the text.
            ids: of B texts.
        """
        longest = max(len(one) for one in ids)
        padded = torch.tensor(
            [one + [-100] * (longest - len(one)) for one in ids], device=prefix.device
        )
        text = self.embedding(padded[:, :-1].clamp_min(0))
        prefix = prefix.to(text.dtype)
        # Pads come last, so that the causal mask alone keeps them from being read.
        output = self.model(
            inputs_embeds=torch.cat([prefix, text], dim=1), use_cache=False, logits_to_keep=longest
        )
        return F.cross_entropy(output.logits.float().flatten(0, 1), padded.flatten())

    @torch.inference_mode()
    def write(self, prefix: Tensor, max_tokens: int) -> list[str]:
        """Greedy texts after prefixes [B, P, width], all at once, with cached keys and values."""
        rows = self.model.generate(  # type: ignore[operator]
            inputs_embeds=prefix.to(self.embedding.weight.dtype),
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device),
            max_new_tokens=max_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=self.end,
            pad_token_id=self.end,
        )
        return self.tokenizer.decode_batch([_until(row, self.end) for row in rows.tolist()])


def _until(row: list[int], end: int) -> list[int]:
    return row[: row.index(end)] if end in row else row


def build_language(shape: Shape, reports: list[str], seed: int) -> Language:
    """A tokenizer trained on ``reports`` and a model with random weights from ``seed``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary_size,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(reports, trainer)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=shape.width,
        intermediate_size=3 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.positions,
        initializer_range=shape.width**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    with seeded(seed):
        model = LlamaForCausalLM(config)
    return Language(model=model, tokenizer=tokenizer, end=1)


def load_language(folder: str, dtype: torch.dtype) -> Language:
    """A model of transformers with its ``tokenizer.json``, weights from safetensors only.

    Args:
        folder: as transformers saved it.
        dtype: in which the weights are held, whatever they were saved in.

    Raises SpecError where the folder lacks one of them.
    """
    for name in ("config.json", "tokenizer.json"):
        if not (Path(folder) / name).exists():
            raise SpecError(
                f"report.language_model {folder!r} has no {name}; give a folder that transformers "
                "saved, or leave the setting empty to train a small model on the reports"
            )
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=dtype
    )
    end = model.config.eos_token_id
    end = end[0] if isinstance(end, list) else end
    if end is None:
        raise SpecError(f"report.language_model {folder!r}: its config.json names no eos_token_id")
    return Language(
        model=model.to(dtype),
        tokenizer=Tokenizer.from_file(str(Path(folder) / "tokenizer.json")),
        end=end,
    )
