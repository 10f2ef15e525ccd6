"""A cell in Weights & Biases, offline: its file, read by the format of its records."""

import json
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radsweep.errors import SpecError
from radsweep.loggers.base import check_log_to, open_logger
from tests.loggers.test_loggers import rows

pytest.importorskip("wandb")

CELL = "clip-30k-s0-0123456789"
MAGIC, BLOCK, HEAD = 7, 1 << 15, struct.Struct("<4xHB")
WHOLE, LAST = 1, 4
"""Kinds of a piece of a record: LevelDB's log format."""


def records(data: bytes) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record  # noqa: PLC0415

    at, record = MAGIC, b""
    while at + HEAD.size <= len(data):
        if BLOCK - at % BLOCK < HEAD.size:
            at += BLOCK - at % BLOCK
            continue
        length, kind = HEAD.unpack_from(data, at)
        at += HEAD.size
        record += data[at : at + length]
        at += length
        if kind in (WHOLE, LAST):
            yield Record.FromString(record)
            record = b""


def whole(file: Path) -> list[Any]:
    """All records, once the process that writes them has come to the end."""
    deadline = time.monotonic() + 120
    while True:
        found = list(records(file.read_bytes()))
        if found and found[-1].HasField("exit"):
            return found
        assert time.monotonic() < deadline, f"{file} has no end: {len(found)} records"
        time.sleep(0.1)


def test_a_cell_is_one_run_whose_file_has_its_numbers_and_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    for name in ("USER", "LOGNAME", "HOME"):
        monkeypatch.setenv(name, f"{tmp_path}/alice-of-radiology")
    monkeypatch.chdir(tmp_path)
    log_to = check_log_to("wandb=curves")
    assert log_to == f"wandb={tmp_path / 'curves'}" and not (tmp_path / "curves").exists()
    logger = open_logger(log_to, CELL)
    given = rows(10, 50, loss=2.0)
    for row in given:
        logger.write(row)
    logger.close()
    (file,) = (tmp_path / "curves").rglob("*.wandb")
    found = whole(file)
    (run,) = [record.run for record in found if record.HasField("run")]
    assert (run.run_id, run.display_name, run.project) == (CELL, CELL, "curves")
    history = [
        {".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in found if record.HasField("history")
    ]  # fmt: skip
    own = {"_step", "_runtime", "_timestamp"}
    for row, logged in zip(given, history, strict=True):
        assert logged["_step"] == row["step"]
        expected = {
            "loss": row["loss"], "loss/dino": row["loss_dino"], "images_seen": row["images_seen"],
        }  # fmt: skip
        assert {name: logged[name] for name in logged.keys() - own} == pytest.approx(expected)
    said = str(found)
    for word in (socket.gethostname(), "alice-of-radiology", Path(__file__).stem, sys.executable):
        assert word not in said


def test_a_url_is_refused_before_a_cell_starts() -> None:
    with pytest.raises(SpecError, match=r"is no folder; .* name a server by WANDB_BASE_URL"):
        check_log_to("wandb=https://wandb.example.org/project")
