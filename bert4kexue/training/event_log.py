"""Scalars as TensorBoard reads them: an event file, written without TensorFlow or TensorBoard.

The format is TFRecord (length, its checksum, data, its checksum) of `Event` messages: wall_time (1,
double), step (2), file_version (3) or summary (5) with values of a tag (1) and a float (2).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bert4kexue.checkpoints.crc32c import crc32c_extend, mask
from bert4kexue.checkpoints.wire import bytes_field, fixed32_field, varint_field


class EventLog:
    """Appends scalars to a new event file of a folder.

    Args:
        folder: TensorBoard's log folder; made where it is missing.
        started: step that the log goes on from; TensorBoard then drops what an earlier file of the
            folder holds from there on.
    """

    def __init__(self, folder: str | os.PathLike[str], started: int = 0) -> None:
        self._checksum = crc32c_extend()
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._file = open(path / name, "xb")  # noqa: SIM115 - closed by close()
        self._write(bytes_field(3, b"brain.Event:2"), 0)
        # SessionLog { status: START }: what stands elsewhere from this step on does not count.
        self._write(bytes_field(7, varint_field(1, 1)), started)

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """One value for each tag, and onto the disk."""
        values = b"".join(
            bytes_field(1, bytes_field(1, tag.encode()) + fixed32_field(2, _float(value)))
            for tag, value in scalars.items()
        )
        self._write(bytes_field(5, values), step)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, what: bytes, step: int) -> None:
        # Field 1 of kind 1 (8 bytes): the time.
        event = b"\x09" + struct.pack("<d", time.time()) + varint_field(2, step) + what
        length = struct.pack("<Q", len(event))
        self._file.write(length + self._masked(length) + event + self._masked(event))

    def _masked(self, data: bytes) -> bytes:
        return struct.pack("<I", mask(self._checksum(0, np.frombuffer(data, np.uint8))))


def _float(value: float) -> int:
    """The bits of a float, as a number."""
    return int.from_bytes(struct.pack("<f", value), "little")
