"""Which patients are for pretraining and which for evaluation, before anything else."""

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from radsweep.errors import SpecError

SPLITS = ("pretrain", "train", "val", "test")
"""Pretraining never sees the other three; probes learn on train, are chosen on val, scored on
test."""

DEFAULT_FRACTIONS = (0.7, 0.15, 0.05, 0.1)

NUMBERED_AT_ONCE = 100_000
"""Patients whose names are Python's, at tens of bytes each."""


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise SpecError unless there is a share in [0, 1] for each of SPLITS and they sum to one."""
    if len(fractions) != len(SPLITS) or any(not 0 <= share <= 1 for share in fractions):
        raise SpecError(
            f"split fractions {tuple(fractions)}: give one in 0..1 for each of {SPLITS}"
        )
    if abs(sum(fractions) - 1) > 1e-9:
        raise SpecError(
            f"split fractions {tuple(fractions)} sum to {sum(fractions):g}; they must sum to 1"
        )


def patient_number(patient_id: str, purpose: str, seed: int) -> int:
    """A 64-bit number that depends on the patient, the purpose and the seed alone."""
    text = f"{purpose}\0{seed}\0{patient_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def patient_numbers(patient_ids: pl.Series, purpose: str, seed: int) -> NDArray[np.uint64]:
    """``patient_number`` of many patients, uint64 [n]."""
    prefix, blake2b = f"{purpose}\0{seed}\0".encode(), hashlib.blake2b
    digests = bytearray()
    for block in patient_ids.cast(pl.Binary).to_frame().iter_slices(NUMBERED_AT_ONCE):
        names: list[bytes] = block.to_series().to_list()
        digests += b"".join(blake2b(prefix + name, digest_size=8).digest() for name in names)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def split_of(patient_id: str, fractions: Sequence[float], seed: int) -> str:
    """The split of a patient: independent of every other patient, so that a corpus can grow.

    Args:
        patient_id: the keyed hash, never the hospital's identifier.
        fractions: share of patients in each of SPLITS, in that order, summing to one.
        seed: another seed is another draw.
    """
    share = patient_number(patient_id, "split", seed) / 2**64
    bound = 0.0
    for name, fraction in zip(SPLITS, fractions, strict=True):
        bound += fraction
        if share < bound:
            return name
    # The bounds may sum to a hair under one; the last split with a share takes what is left.
    return next(
        name
        for name, fraction in zip(reversed(SPLITS), reversed(fractions), strict=True)
        if fraction
    )


def splits_of(patient_ids: pl.Series, fractions: Sequence[float], seed: int) -> pl.Series:
    """``split_of`` of many patients, as categories in the order of SPLITS."""
    share = patient_numbers(patient_ids, "split", seed).astype(np.float64) / 2**64
    bounds = np.cumsum(np.asarray(fractions, np.float64))
    place = np.searchsorted(bounds, share, side="right")
    last = int(np.flatnonzero(fractions)[-1])
    names = pl.Series(SPLITS, dtype=pl.Enum(SPLITS))
    return names.gather(np.where(place < len(SPLITS), place, last)).alias("split")
