"""The hospital's secret, and the keyed hashes that stand for its identifiers."""

import hashlib
import os
from pathlib import Path
from typing import Self, final

from radsweep.errors import SpecError

VARIABLE = "RADSWEEP_PATIENT_KEY"
MIN_BYTES = 16
ID_BYTES = 10
"""80 bits: among 10 million images a collision has odds of one in 10 to the 10."""


@final
class PatientKey:
    """Turns identifiers into pseudonyms that nobody recomputes without it. Never written."""

    def __init__(self, secret: bytes) -> None:
        """Raises SpecError for a secret under 16 bytes.

        Args:
            secret: random bytes that only the hospital has; the same for all its corpora, so that a
                patient has one pseudonym.
        """
        if len(secret) < MIN_BYTES:
            raise SpecError(
                f"the patient key has {len(secret)} bytes; give at least {MIN_BYTES}. {REMEDY}"
            )
        # Longer keys are folded, since BLAKE2b takes 64 bytes.
        self._key = hashlib.blake2b(secret, digest_size=64).digest()

    def __repr__(self) -> str:
        return "PatientKey(<withheld>)"

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """From a file, or else from the environment.

        Args:
            path: a file whose bytes, without surrounding white space, are the secret.
        """
        if path is not None:
            if not path.is_file():
                raise SpecError(f"the file of the patient key is not there. {REMEDY}")
            return cls(path.read_bytes().strip())
        if VARIABLE not in os.environ:
            raise SpecError(f"no patient key: {VARIABLE} is not set. {REMEDY}")
        return cls(os.environ[VARIABLE].strip().encode())

    def pseudonym(self, kind: str, identifier: str) -> str:
        """Twenty hex digits: a keyed BLAKE2b hash (RFC 7693) of an identifier of this kind."""
        message = f"{kind}\0{identifier}".encode()
        return hashlib.blake2b(message, key=self._key, digest_size=ID_BYTES).hexdigest()


REMEDY = (
    f"Make one with `openssl rand -hex 32`, keep it in the hospital's safe, and set {VARIABLE} to "
    "it: without it nobody can link a corpus to patients, and another key gives other pseudonyms"
)
