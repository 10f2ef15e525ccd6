"""FLOPs of a DINOv2 step derived by hand, term by term: 2 per multiply-add, per image."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Vit:
    """Shapes of a ViT."""

    width: int
    depth: int
    patch: int
    channels: int
    prefix: int = 1
    """Tokens beside the patches."""

    def embedding(self, side: int) -> int:
        """Of the patches of a crop, forward."""
        return 2 * (side // self.patch) ** 2 * self.channels * self.patch**2 * self.width

    def blocks(self, side: int) -> int:
        """Of all blocks, forward: 12 width^2 in matrices per token; scores and mean of values."""
        tokens = (side // self.patch) ** 2 + self.prefix
        matrices = 2 * tokens * 12 * self.width**2
        attention = 2 * 2 * tokens**2 * self.width
        return self.depth * (matrices + attention)

    def forward(self, side: int) -> int:
        return self.embedding(side) + self.blocks(side)

    def training(self, side: int) -> int:
        """Forward, and backward at twice its cost; nobody asks for the pixels' gradient."""
        return 2 * self.embedding(side) + 3 * self.blocks(side)


@dataclass(frozen=True, kw_only=True)
class Head:
    """Shapes of a DINO head of three layers."""

    width: int
    hidden: int
    bottleneck: int
    prototypes: int

    def forward(self, rows: float) -> float:
        layers = self.width * self.hidden + self.hidden**2 + self.hidden * self.bottleneck
        return 2 * rows * (layers + self.bottleneck * self.prototypes)


def dinov2_step(
    vit: Vit, head: Head, *, large: int, small: int, crops: int, hidden: float, images: int
) -> dict[str, float]:
    """Terms by name, per image: two crops of ``large`` px, ``crops`` of ``small`` px, ``hidden``
    patches of an image in a batch of ``images``."""
    return {
        "teacher": 2 * vit.forward(large),
        "student": 2 * vit.training(large) + crops * vit.training(small),
        "teacher's head": head.forward(2 + hidden),
        "student's head": 3 * head.forward(2 + crops + hidden),
        # Cosines of a crop's class tokens, without a gradient.
        "koleo": 2 * 2 * images * vit.width,
    }
