"""From a value to its identity: canonical JSON, hashed.

Two values have one key exactly if their canonical JSON is the same text. It is the only way that
this package names things, so a key can be recomputed by anyone with a JSON writer and SHA-256.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

KEY_LENGTH = 10
"""Hex digits of a key: 40 bits, so ten thousand cells collide with odds of one in 20,000."""

ABSENT_IF_DEFAULT: Mapping[str, bool] = {"absent_if_default": True}
"""Metadata of a dataclass field that was added when keys were already in use: while it has its
default it stands in no identity, so that what was named before keeps its name."""


def canonical(value: object) -> Any:
    """Plain JSON values (dict, list, str, int, float, bool, None) that stand for ``value``.

    Dataclasses become objects, tuples become arrays. Raises TypeError for anything else, and
    ValueError for NaN and infinities, which JSON cannot say and which no identity may hang on.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(
                f"{value} cannot be part of an identity; leave the field unset instead"
            )
        # 1e6 and 1000000 are one number, hence one key.
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: canonical(getattr(value, field.name))
            for field in fields(value)
            if not field.metadata.get("absent_if_default")
            or getattr(value, field.name) != field.default
        }
    if isinstance(value, Mapping):
        return {str(name): canonical(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [canonical(item) for item in value]
    raise TypeError(
        f"{type(value).__name__} has no canonical JSON; use plain values or a dataclass"
    )


def canonical_json(value: object) -> str:
    """The one JSON text of ``value``: sorted names, no spaces, ASCII."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(value: object, length: int = KEY_LENGTH) -> str:
    """The first ``length`` hex digits of the SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def seed_of(*parts: object) -> int:
    """A 64-bit seed of ``parts`` alone, so that randomness follows identity and not the worker."""
    digest = hashlib.blake2b(canonical_json(list(parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
