"""What event files hold, read by their format: a length, a checksum, an event and another."""

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

HEAD, TAIL = struct.Struct("<Q4x"), 4


def read_scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Value by step by tag, of all event files below, without what was taken back."""
    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = HEAD.unpack_from(data, at)
            event = Event.FromString(data[at + HEAD.size : at + HEAD.size + length])
            at += HEAD.size + length + TAIL
            if event.session_log.status == event.session_log.START:
                for steps in found.values():
                    for step in [step for step in steps if step >= event.step]:
                        del steps[step]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found
