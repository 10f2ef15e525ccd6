"""One patch against all others, against a loop over patches of a ViT, a pyramid and a conv net."""

import numpy as np
import pytest
import torch

from radsweep.errors import SpecError
from radsweep.evaluate.patch_similarity import patch_similarity
from radsweep.models.backbone import Backbone, build_backbone

SIZE = 64
ENCODERS = {
    "vit": ("vit_tiny_patch16_224", {"patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2}),
    "davit": ("davit_tiny", {"embed_dims": "16,32,48,64", "num_heads": "1,2,3,4"}),
    "convnext": ("convnext_atto", {"in_chans": 1}),
}
GRIDS = {"vit": [8, 8, 8, 8], "davit": [16, 8, 4, 2], "convnext": [16, 8, 4, 2]}


def _encoder(kind: str) -> Backbone:
    torch.manual_seed(0)
    name, settings = ENCODERS[kind]
    return build_backbone(name, SIZE, settings, 0.5, 0.25).eval()


def _image(height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("query", [(0, 0), (37, 12), (63, 63)])
def test_every_value_is_the_cosine_of_two_patches(kind: str, query: tuple[int, int]) -> None:
    encoder, image = _encoder(kind), _image()
    found = patch_similarity(encoder, image, query)
    side = max(GRIDS[kind])
    assert found.shape == (4, side, side) and found.dtype == np.float32
    with torch.no_grad():
        maps = encoder.features(torch.from_numpy(image)[None, None]).maps
    for level, features in enumerate(maps):
        patches = features[0].numpy().astype(np.float64)
        grid = GRIDS[kind][level]
        one = patches[:, query[0] * grid // SIZE, query[1] * grid // SIZE]
        for row in range(side):
            for column in range(side):
                other = patches[:, row * grid // side, column * grid // side]
                cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
                assert found[level, row, column] == pytest.approx(cosine, abs=1e-4)
        own = found[level, query[0] * side // SIZE, query[1] * side // SIZE]
        assert own == pytest.approx(1.0, abs=1e-5)


def test_levels_are_chosen_and_the_grid_is_that_of_the_finest_of_them() -> None:
    encoder, image = _encoder("convnext"), _image()
    every = patch_similarity(encoder, image, (20, 40))
    some = patch_similarity(encoder, image, (20, 40), levels=(3, 1))
    assert some.shape == (2, 8, 8)
    np.testing.assert_array_equal(some[1], every[1, ::2, ::2])
    np.testing.assert_array_equal(some[0], every[3, ::2, ::2])


def test_the_query_is_a_pixel_of_the_image_whatever_size_the_encoder_reads() -> None:
    encoder = _encoder("vit")
    small = _image()
    large = small.repeat(3, axis=0).repeat(2, axis=1)
    found = patch_similarity(encoder, large, (3 * 37, 2 * 12))
    assert np.unravel_index(found[3].argmax(), found[3].shape) == (37 // 8, 12 // 8)


def test_like_patches_are_alike_and_the_encoder_is_left_in_its_mode() -> None:
    encoder = _encoder("convnext").train()
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[:, 32:] = np.random.default_rng(0).integers(0, 256, (SIZE, 32))
    first = patch_similarity(encoder, image, (30, 5), levels=(0,))[0]
    assert first[2:-2, 1:6].min() > 0.999 > first[:, 10:].max()
    assert encoder.training
    assert np.array_equal(first, patch_similarity(encoder, image, (30, 5), levels=(0,))[0])


def test_what_is_no_image_no_pixel_or_no_level_is_refused() -> None:
    encoder = _encoder("vit")
    with pytest.raises(SpecError, match=r"float64 \(64, 64\)"):
        patch_similarity(encoder, _image().astype(np.float64), (0, 0))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"query \(64, 0\) is no pixel"):
        patch_similarity(encoder, _image(), (64, 0))
    with pytest.raises(SpecError, match=r"levels \(4,\); some of \(0, 1, 2, 3\)"):
        patch_similarity(encoder, _image(), (0, 0), levels=(4,))
