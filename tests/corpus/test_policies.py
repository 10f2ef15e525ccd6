"""What a card says of its preprocessing, and that the numbers behind a version do not move."""

import numpy as np
import pytest

from radsweep.corpus.pixels import Policy, policy_names
from radsweep.corpus.policies import STEPS, own_size, policy_facts
from radsweep.corpus.xray import Xray
from radsweep.errors import SpecError

GOLDEN = {
    ("mi2", 1): [[42, 89, 130, 171], [1, 32, 88, 128], [97, 144, 192, 240]],
    ("rad-dino", 1): [[109, 103, 147, 201], [63, 52, 109, 157], [152, 152, 204, 253]],
    ("radsweep", 1): [[102, 96, 142, 199], [54, 43, 103, 153], [147, 147, 201, 252]],
}
"""(policy, version) -> the stored picture of ``film`` at 48 pixels, every 16th row and 12th
column."""


def film() -> Xray:
    """Waves of several lengths over a ramp, 90 x 120, without a window."""
    down, across = np.mgrid[0:90, 0:120].astype(np.float64)
    values = 900 + 8 * down + 11 * across
    values += 300 * np.sin(down / 9) + 200 * np.cos(across / 5) + 50 * np.sin(down * across / 400)
    return Xray(
        values=values.astype(np.float32), shown=None, padding=None, digest="",
        pixel_spacing_mm=None,
    )  # fmt: skip


def sampled(name: str) -> list[list[int]]:
    return Policy(name=name, size=48).apply(film())[8::16, 6::12].tolist()


@pytest.mark.parametrize("name", policy_names())
def test_the_numbers_of_a_version_do_not_move(name: str) -> None:
    golden = GOLDEN[name, Policy(name=name, size=48).version]
    # One grey level is what another build of a library may round differently.
    assert np.abs(np.array(sampled(name)) - np.array(golden)).max() <= 1, (
        f"{name} gives other pictures: raise its version, and state the new numbers here"
    )


def test_every_policy_states_its_steps_and_its_own_size() -> None:
    assert sorted(STEPS) == policy_names()
    assert (own_size("rad-dino"), own_size("mi2")) == (518, 480)
    with pytest.raises(SpecError, match="no preprocessing policy"):
        own_size("rad_dino")


def test_the_hash_tells_policies_and_sizes_apart() -> None:
    hashes = {
        policy_facts(Policy(name=name, size=size))["hash"]
        for name in policy_names()
        for size in (480, 518)
    }
    assert len(hashes) == 2 * len(policy_names())
    again = policy_facts(Policy(name="mi2", size=480))
    assert again == policy_facts(Policy(name="mi2", size=480))
    assert (again["name"], again["version"], again["size"]) == ("mi2", 1, 480)
