"""Decoding in a process of its own: a file that kills or hangs a decoder is lost alone.

Decoders are C and C++ code that reads what strangers wrote. ``ContainedDecoder`` hands a file's
bytes to a child process through a pipe and takes the stored picture and the header's facts back.
The child has a limit of memory, leaves no core dump (which would hold a patient's header), prints
nothing, and ends with its parent. ``python -m radsweep.corpus.contained`` is that child.
"""

import faulthandler
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import IO, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from radsweep.corpus.dicom import be_silent, read_image
from radsweep.corpus.pixels import Policy
from radsweep.corpus.xray import Limits, Quarantined, RefusedError, Xray
from radsweep.errors import RadsweepError

Read: TypeAlias = Callable[[bytes, Limits], Xray | Quarantined]
"""A decoder: the whole file and the limits -> an x-ray, or the reason why there is none."""

START_SECONDS = 120.0
"""A busy machine takes this long at most to start an interpreter and to import the decoders."""

KEPT_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20)}
"""Environment in which glibc keeps what a film's arrays took for the next film's, up to 256 MiB.
Else each is mapped anew and every page of it cleared: a third of the time of an uncompressed
film."""

LENGTH = struct.Struct("<Q")


@final
@dataclass(frozen=True, kw_only=True)
class Containment:
    """How far one file may go. No part of a corpus's identity: it says where decoding runs."""

    seconds_per_file: float = 60.0
    memory_bytes: int = 6 * 2**30
    """Address space of the child, about 1 GiB of which are its libraries. A film of 64 million
    pixels, the most that ``Limits`` lets through, needs about 2 GiB."""
    module: str = "radsweep.corpus.contained"
    """The child: a module that calls ``serve`` when it is run, here or with a decoder of one's
    own."""


@final
class ContainedDecoder:
    """Decodes files one at a time in a child, which is started when it is first needed."""

    def __init__(self, limits: Limits, policy: Policy, containment: Containment) -> None:
        """Starts nothing yet."""
        self._settings = (limits, policy, containment)
        self._containment = containment
        self._child: _Child | None = None
        self._turn = threading.Lock()

    def decode(self, data: bytes) -> tuple[NDArray[np.uint8], Xray]:
        """The stored picture, uint8 [size, size], and the x-ray's facts.

        The x-ray's ``values`` have its shape and are all zero; ``shown`` and ``padding`` are None.

        Args:
            data: the whole file.

        Raises RefusedError with what the decoder said, with ``decoder_crashed`` where the file
        killed two children in turn (the first may have died of something else, such as the
        machine's memory), or with ``timeout``; RadsweepError where no child can be started.
        """
        with self._turn:
            with suppress(_CrashError):
                return self._decode(data)
            try:
                return self._decode(data)
            except _CrashError as crash:
                raise RefusedError("decoder_crashed", str(crash)) from None

    def _decode(self, data: bytes) -> tuple[NDArray[np.uint8], Xray]:
        if self._child is None:
            self._child = _Child(self._settings, self._containment)
        try:
            answer = self._child.ask(data, self._containment.seconds_per_file)
        except (_CrashError, RefusedError):
            self._child = None
            raise
        if isinstance(answer, Quarantined):
            raise RefusedError(answer.reason, answer.detail)
        picture, shape, xray = answer
        # A view of one zero: the shape costs no memory.
        return picture, replace(xray, values=np.broadcast_to(np.float32(0), shape))


@lru_cache(maxsize=1)
def decoder_of(limits: Limits, policy: Policy, containment: Containment) -> ContainedDecoder:
    """This process's decoder for these settings: chunk after chunk goes through one child."""
    return ContainedDecoder(limits, policy, containment)


@final
class _CrashError(Exception):
    """The child is gone: by which signal, or with which exit code."""


@final
class _Child:
    """One child process and its two pipes."""

    def __init__(self, settings: object, containment: Containment) -> None:
        # The child finds modules where this process does, and keeps to one core.
        found = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", containment.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | KEPT_HEAP | {"PYTHONPATH": found, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._end = weakref.finalize(self, _end, self._process)
        try:
            self.ask(pickle.dumps(settings), START_SECONDS)
        except (_CrashError, RefusedError) as fault:
            raise RadsweepError(
                f"the decoder process ({containment.module}) does not start ({fault}); "
                f"run `python -m {containment.module}` to see why"
            ) from None

    def ask(
        self, data: bytes, seconds: float
    ) -> Quarantined | tuple[NDArray[np.uint8], tuple[int, ...], Xray]:
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            _send(self._requests, data)
            answer = _receive(self._answers)
        except BrokenPipeError:
            answer = None
        finally:
            timer.cancel()
            timer.join()
        if answer is not None and not late.is_set():
            # From our own child, which holds what this process sent it and nothing else.
            return pickle.loads(answer)  # type: ignore[no-any-return]
        self._end()
        if late.is_set():
            raise RefusedError("timeout", f"{seconds:g} s")
        code = self._process.returncode
        raise _CrashError(signal.Signals(-code).name if code < 0 else f"exit code {code}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Idle children end with their input; one that died or hangs is collected all the same."""
    assert process.stdin is not None
    assert process.stdout is not None
    # What was buffered for a dead child is lost with it.
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def serve(read: Read = read_image) -> None:
    """The child's loop: answer each file until the parent closes the pipe.

    Args:
        read: the decoder.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        # What a codec prints quotes the header, and would break the answers.
        os.dup2(silence, stream)
    be_silent()
    first = _receive(requests)
    if first is None:
        return
    limits, policy, containment = pickle.loads(first)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (containment.memory_bytes, containment.memory_bytes))
    _send(answers, pickle.dumps(Quarantined(reason="empty", detail="ready")))
    while (data := _receive(requests)) is not None:
        # The parent kills a child that is late; this ends one whose parent is gone.
        faulthandler.dump_traceback_later(2 * containment.seconds_per_file, exit=True)
        _send(answers, pickle.dumps(_answer(data, read, limits, policy), protocol=5))
        faulthandler.cancel_dump_traceback_later()


def _answer(
    data: bytes, read: Read, limits: Limits, policy: Policy
) -> Quarantined | tuple[NDArray[np.uint8], tuple[int, ...], Xray]:
    try:
        xray = read(data, limits)
        if isinstance(xray, Quarantined):
            short = xray.reason == "undecodable" and xray.detail == MemoryError.__name__
            return Quarantined(reason="too_large", detail="memory") if short else xray
        picture = policy.apply(xray)
    except MemoryError:
        return Quarantined(reason="too_large", detail="memory")
    except Exception as fault:
        # Only its class: a message may quote the file.
        return Quarantined(reason="fault", detail=type(fault).__name__)
    bare = replace(xray, values=np.empty((0, 0), np.float32), shown=None, padding=None)
    return picture, xray.values.shape, bare


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes | None:
    """The next message; None where the other end is closed, in the middle of one or before it."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    length = LENGTH.unpack(head)[0]
    data = pipe.read(length)
    return data if len(data) == length else None


if __name__ == "__main__":
    serve()
