"""A decoder that dies, hangs, swells or prints on what a file says: run as a contained child."""

import os
import signal
import sys
import time

from radsweep.corpus.contained import serve
from radsweep.corpus.dicom import read_image
from radsweep.corpus.xray import Limits, Quarantined, Xray


def read(data: bytes, limits: Limits) -> Xray | Quarantined:
    if data.startswith(b"exit"):
        os._exit(3)
    if data.startswith(b"segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.startswith(b"hang"):
        time.sleep(600)
    if data.startswith(b"swell"):
        bytearray(8 * 2**30)
    print("a name from the header")
    print("a name from the header", file=sys.stderr)
    return read_image(data, limits)


if __name__ == "__main__":
    serve(read)
