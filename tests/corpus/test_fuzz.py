"""Some hundreds of mutated files; ``benchmarks/fuzz.py`` does a hundred thousand."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz import ACCEPTED, MUTATIONS, SWALLOWED, mutated, outcome, seeds_of
from radsweep.corpus.contained import ContainedDecoder, Containment
from radsweep.corpus.pixels import Policy
from radsweep.corpus.xray import REASONS, Limits

MUTATED = 240


@pytest.fixture(scope="module")
def decoder() -> ContainedDecoder:
    policy = Policy(name="radsweep", size=48)
    return ContainedDecoder(Limits(), policy, Containment(seconds_per_file=30))


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    """Films of a phantom in every transfer syntax, and pydicom's own test files."""
    return seeds_of([])


def check(decoder: ContainedDecoder, seeds: list[bytes], seed: int) -> Counter[str]:
    outcomes = Counter(outcome(decoder, data) for _, data in mutated(seeds, MUTATED, seed))
    assert set(outcomes) <= {ACCEPTED, *REASONS}
    assert not SWALLOWED & set(outcomes)
    return outcomes


def test_mutated_films_and_test_files_end_in_a_picture_or_a_reason(
    decoder: ContainedDecoder, seeds: list[bytes]
) -> None:
    outcomes = check(decoder, seeds, seed=1)
    assert outcomes[ACCEPTED] > 10, "the mutations are so rough that no decoder is reached"
    assert len(outcomes) > 5


def test_mutated_files_of_the_field_end_in_a_picture_or_a_reason(
    decoder: ContainedDecoder, shared: Path
) -> None:
    folders = [shared / "dicom" / name for name in ("wrapped", "bad")]
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    seeds = [data for path in paths if (data := path.read_bytes())]
    outcomes = check(decoder, seeds, seed=2)
    assert outcomes[ACCEPTED] > 40


def test_mutations_are_the_same_every_time_and_of_every_kind(seeds: list[bytes]) -> None:
    once = list(mutated(seeds[:3], 60, 5))
    assert once == list(mutated(seeds[:3], 60, 5))
    assert Counter(kind for kind, _ in once) == dict.fromkeys(MUTATIONS, 10)
    assert sum(data in seeds for _, data in once) < 6
