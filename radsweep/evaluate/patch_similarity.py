"""What an encoder takes to be alike: one patch of an x-ray against all others, layer by layer.

The pictures by which dense features are judged (Simeoni et al. 2025, DINOv3): where an encoder lost
its sense of place, everything resembles the query. Encoders of a small and of a large scale are
asked for one image and one query, and drawn side by side. No Ray here.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from radsweep.errors import SpecError
from radsweep.models.backbone import LEVELS, Backbone, resized

ALL_LEVELS = tuple(range(LEVELS))


def patch_similarity(
    encoder: Backbone,
    image: NDArray[np.uint8],
    query: tuple[int, int],
    levels: Sequence[int] = ALL_LEVELS,
) -> NDArray[np.float32]:
    """Cosine similarity of the query's patch with every patch, float32 [levels, rows, columns].

    Rows and columns are those of the finest level that is asked for. Of a pyramid's coarser levels,
    whose patches are larger, each place has the value of the patch that covers its centre. The
    query's own patch has 1. A patch without features (all 0, after a ReLU) is like none: it has 0,
    and if it is the query's, all have.

    Args:
        encoder: as ``load_encoder`` gives it, on any device; it is used in evaluation mode and left
            in the mode that it was in.
        image: [H, W], as the corpus holds it; it is resized as for embedding.
        query: row and column of a pixel of ``image``; the patch that covers it is the query.
        levels: of the encoder's four maps, 0 the shallowest: four blocks evenly spaced over a
            ViT's depth, or the last four stages of a hierarchical encoder.

    Raises:
        SpecError: the image is not one plane of bytes, the query is not on it, or a level is none.
    """
    _check(image, query, levels)
    device = next(encoder.parameters()).device
    plane = torch.from_numpy(np.ascontiguousarray(image))[None, None].to(device)
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode():
            maps = encoder.features(resized(plane, encoder.image_size)).maps
    finally:
        encoder.train(was_training)
    place = tuple((at + 0.5) / side for at, side in zip(query, image.shape, strict=True))
    found = [_to_query(maps[level][0].float(), (place[0], place[1])) for level in levels]
    rows, columns = (max(one.shape[axis] for one in found) for axis in (0, 1))
    whole: NDArray[np.float32] = np.stack([_covering(one, rows, columns) for one in found])
    return whole


def _check(image: NDArray[np.uint8], query: tuple[int, int], levels: Sequence[int]) -> None:
    if image.ndim != 2 or image.dtype != np.uint8:
        raise SpecError(
            f"the image is {image.dtype} {image.shape}; patches are compared within one x-ray, "
            "uint8 [H, W]"
        )
    if not all(0 <= at < side for at, side in zip(query, image.shape, strict=True)):
        raise SpecError(f"the query {query} is no pixel of an image of {image.shape}")
    if not levels or not set(levels) <= set(ALL_LEVELS):
        raise SpecError(f"levels {tuple(levels)}; some of {ALL_LEVELS}, 0 the shallowest")


def _to_query(level: Tensor, place: tuple[float, float]) -> NDArray[np.float32]:
    """[h, w] cosines of a map [C, h, w] with its position at ``place``, in shares of its sides."""
    unit = F.normalize(level, dim=0)
    row, column = (int(share * side) for share, side in zip(place, level.shape[1:], strict=True))
    cosines: NDArray[np.float32] = (
        torch.einsum("c,chw->hw", unit[:, row, column], unit).cpu().numpy()
    )
    return cosines


def _covering(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """[rows, columns]: of values [h, w], that which covers each place's centre."""
    height, width = values.shape
    row = ((np.arange(rows) + 0.5) * height / rows).astype(np.int64)
    column = ((np.arange(columns) + 0.5) * width / columns).astype(np.int64)
    spread: NDArray[np.float32] = values[row[:, None], column]
    return spread
