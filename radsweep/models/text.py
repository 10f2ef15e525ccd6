"""The text side of image-text learning: MedImageInsight's tower."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from radsweep.errors import SpecError
from radsweep.models.tokens import PAD

LAYER_NORM_EPS = 1e-12
"""As in the BERT line of models, and in MedImageInsight (Codella et al. 2024)."""


@final
class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.project(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        hidden = self.widen(self.norm2(x))
        answer: Tensor = x + self.narrow(hidden * torch.sigmoid(1.702 * hidden))
        return answer


POOLINGS = ("end", "mean")


@final
class TextTower(nn.Module):
    """Pre-norm transformer, no causal mask, QuickGELU, learned positions, read at the end token.

    The text encoder of MedImageInsight (Codella et al. 2024: 16 layers, width 1024, 16 heads, 77
    tokens).
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        length: int,
        width: int,
        layers: int,
        heads: int,
        pooling: str = "end",
    ) -> None:
        """Random weights from torch's generator.

        ``pooling`` is ``end`` (MedImageInsight's) or ``mean`` over tokens, which suits a small
        tower that starts from nothing: its texts differ from the first step on. Raises SpecError if
        heads do not divide width, or for another pooling.
        """
        super().__init__()
        if pooling not in POOLINGS:
            raise SpecError(f"text_pooling {pooling!r}; known: {', '.join(POOLINGS)}")
        self.pooling = pooling
        self.checkpoints_activations = False
        if width % heads:
            raise SpecError(f"text_width {width} is no multiple of text_heads {heads}")
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        # CLIP's spreads, which follow the width: with a fixed 0.02 a narrow tower gives every text
        # nearly the same features, and contrast never starts.
        # For the mean, a word must outweigh what the blocks add to every word alike.
        nn.init.normal_(self.token_embedding.weight, std=0.02 if pooling == "end" else 1.0)
        nn.init.normal_(self.positions, std=0.01)
        spreads = {
            "project": width**-0.5,
            "out": (2 * layers * width) ** -0.5,
            "widen": (2 * width) ** -0.5,
            "narrow": (2 * layers * width) ** -0.5,
        }
        for block in self.blocks:
            for name, spread in spreads.items():
                linear = block.get_submodule(name)
                assert isinstance(linear, nn.Linear)
                nn.init.normal_(linear.weight, std=spread)
                nn.init.zeros_(linear.bias)

    def checkpoint_activations(self) -> None:
        """See ``Backbone.checkpoint_activations``."""
        self.checkpoints_activations = True

    def blocks_within(self) -> list[nn.Module]:
        """See ``Backbone.blocks_within``."""
        return list(self.blocks)

    def compile_blocks(self) -> None:
        """See ``Backbone.compile_blocks``."""
        for block in self.blocks:
            block.compile(dynamic=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Features [B, width] of ids int64 [B, length]; the end is the highest id's first place."""
        x = self.token_embedding(ids) + self.positions
        seen = (ids != PAD)[:, None, None, :]
        anew = self.checkpoints_activations and torch.is_grad_enabled()
        for block in self.blocks:
            x = checkpoint(block, x, seen, use_reentrant=False) if anew else block(x, seen)
        if self.pooling == "mean":
            kept = (ids != PAD)[..., None]
            means: Tensor = self.norm((x * kept).sum(dim=1) / kept.sum(dim=1))
            return means
        rows = torch.arange(len(ids), device=ids.device)
        ends: Tensor = self.norm(x)[rows, ids.argmax(dim=1)]
        return ends
