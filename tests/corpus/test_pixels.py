import numpy as np
import pytest

from radsweep.corpus.pixels import Policy, policy_names
from radsweep.corpus.xray import Xray
from radsweep.errors import SpecError


def xray(
    values: np.ndarray, shown: np.ndarray | None = None, padding: np.ndarray | None = None
) -> Xray:
    return Xray(
        values=values.astype(np.float32),
        shown=shown,
        padding=padding,
        digest="",
        pixel_spacing_mm=(0.2, 0.2),
    )


def ramp(height: int, width: int) -> np.ndarray:
    """Rises along both axes: a smooth picture whose every part is known."""
    return np.add.outer(np.arange(height) * 3.0, np.arange(width) * 1.0)


@pytest.mark.parametrize("name", policy_names())
@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (96, 96), (50, 60)])
def test_every_policy_gives_a_square_of_its_size_and_keeps_the_polarity(
    name: str, shape: tuple[int, int]
) -> None:
    picture = Policy(name=name, size=96).apply(xray(ramp(*shape)))
    assert picture.shape == (96, 96)
    assert picture.dtype == np.uint8
    if shape[0] == shape[1]:
        assert picture.min() <= 5
        assert picture.max() >= 250
    # Bright stays at the bottom right.
    assert picture[0, 0] < picture[0, -1] < picture[-1, -1]


def test_the_default_crops_the_centre_and_mi2_squeezes_the_whole() -> None:
    values = np.zeros((100, 300))
    values[:, 100:200] = 10 + ramp(100, 100)
    cropped = Policy(name="radsweep", size=50).apply(xray(values))
    squeezed = Policy(name="mi2", size=60).apply(xray(values))
    assert (cropped[20:, :] > 0).all()
    assert (squeezed[:, :15] < 10).all()
    assert (squeezed[30, 22:38] > 50).all()


def test_the_default_uses_the_window_of_the_header() -> None:
    values = ramp(64, 64)
    shown = (values / values.max()).astype(np.float32)
    picture = Policy(name="radsweep", size=64).apply(xray(values, shown))
    assert np.abs(picture - shown * 255).max() <= 0.5


def test_the_default_has_no_aliasing() -> None:
    stripes = np.tile(np.array([0.0, 100.0]), (256, 128))
    picture = Policy(name="radsweep", size=64).apply(
        xray(stripes, (stripes / 100).astype(np.float32))
    )
    assert np.abs(picture[4:-4, 4:-4].astype(int) - 128).max() <= 2


def test_b_spline_keeps_a_smooth_picture_and_maps_its_extremes_to_0_and_255() -> None:
    across = np.sin(np.linspace(0, 3, 200))[None] + np.cos(np.linspace(0, 2, 200))[:, None]
    picture = Policy(name="rad-dino", size=50).apply(xray(across * 4000))
    at = (np.arange(50) + 0.5) * 4 - 0.5
    exact = np.sin(at * 3 / 199)[None] + np.cos(at * 2 / 199)[:, None]
    exact = (exact - exact.min()) / (exact.max() - exact.min()) * 255
    assert np.abs(picture - exact).max() < 1.5
    assert (picture.min(), picture.max()) == (0, 255)


@pytest.mark.parametrize("name", policy_names())
def test_padding_is_dark_and_does_not_stretch_the_range(name: str) -> None:
    values = 1000 + ramp(100, 100)
    padding = np.zeros((100, 100), bool)
    padding[:, :10] = True
    values[padding] = 60_000
    picture = Policy(name=name, size=100).apply(xray(values, None, padding))
    assert (picture[:, :8] <= 40).all()
    assert picture[:, 20:].max() >= 250


def test_a_mask_follows_its_picture_and_a_thin_tube_survives() -> None:
    mask = np.zeros((200, 300), bool)
    mask[:, 150] = True
    small = Policy(name="radsweep", size=96).apply_mask(mask)
    assert small.shape == (96, 96)
    assert small.any(axis=1).all()
    assert np.abs(np.argwhere(small)[:, 1] - 48).max() <= 1


def test_the_spacing_is_that_of_the_stored_picture() -> None:
    assert Policy(name="radsweep", size=100).pixel_spacing_mm(
        xray(ramp(200, 400))
    ) == pytest.approx(0.4)
    assert Policy(name="mi2", size=100).pixel_spacing_mm(xray(ramp(200, 400))) is None


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="did you mean 'rad-dino'"):
        Policy(name="rad_dino", size=96)
    with pytest.raises(SpecError, match="image size 4"):
        Policy(name="mi2", size=4)
