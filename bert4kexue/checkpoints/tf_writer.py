"""Write TensorFlow checkpoints, to the byte as TensorFlow's own Saver does, without TensorFlow.

Order: values lie in the .data files in the order of their sorted names, as
tf.compat.v1.train.Saver writes them, so the same tensors always make the same files.
Safety: everything goes to temporary names first; the .data files take their names before the
.index does. Where another checkpoint of the same prefix is replaced and the machine stops between
the two renames, the old .index finds other checksums: `verify` sees it.
The text file `checkpoint`, by which a folder of training runs names its latest, is written only
when it is asked for: a released checkpoint has no use for one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from .._files import atomic_write
from .base import Checkpoint, CheckpointError
from .crc32c import Extend, crc32c_extend, mask
from .sstable import write_table
from .tf_index import CODES, STRING, Entry, data_name, entry_bytes, header_bytes
from .tf_state import state_text
from .wire import write_varint

_CHUNK = 1 << 24


def write_tf_checkpoint(
    prefix: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray] | Checkpoint,
    *,
    shards: int = 1,
    order: Sequence[str] | None = None,
    state_file: bool = False,
) -> None:
    """Write prefix.index and prefix.data-?????-of-?????, whole or not at all.

    Args:
        prefix: The path without '.index'; its folder is made where it is absent.
        tensors: {name: array}, or an open checkpoint. One array is asked for at a time, so a
            mapping that makes them on demand keeps memory flat. Arrays of numbers and bool,
            float16 and bfloat16 (of ml_dtypes) included, or of bytes objects (strings).
        shards: Number of .data files; variables are dealt out in turn.
        order: The names in the order in which the values are to lie; None for sorted. With
            `checkpoint.layout()` a copy has the very bytes of its source.
        state_file: Whether to write the file `checkpoint` that names this one the latest.

    Raises:
        CheckpointError: A name or an array that the format cannot hold; nothing is written.
        OSError: The folder is not writable, or (on Windows) the files to replace are mapped:
            close the checkpoint that reads them.

    Example:
        >>> write_tf_checkpoint("model.ckpt", {"bert/pooler/dense/bias": np.zeros(4, "float32")})
    """
    path = Path(prefix)
    read = tensors.__getitem__ if isinstance(tensors, Mapping) else tensors.read
    names = list(tensors) if isinstance(tensors, Mapping) else tensors.names()
    if type(shards) is not int or not 0 < shards < 100_000:
        raise CheckpointError(f"shards must be a whole number from 1 to 99999, got {shards!r}")
    keys = {name: _key(name) for name in names}
    if order is None:
        order = sorted(keys, key=lambda name: keys[name])
    elif sorted(order) != sorted(names):
        raise CheckpointError(
            f"order must hold every name once: {len(order)} given for {len(names)} tensors"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    extend = crc32c_extend()
    entries: dict[bytes, Entry] = {}
    # The index is opened first and so takes its name last.
    with atomic_write(f"{path}.index") as index:
        with ExitStack() as stack:
            files = [
                stack.enter_context(atomic_write(data_name(str(path), shard, shards)))
                for shard in range(shards)
            ]
            for position, name in enumerate(order):
                shard = position % shards
                entries[keys[name]] = _write_value(files[shard], shard, name, read(name), extend)
        table = [(b"", header_bytes(shards))]
        table += [(key, entry_bytes(entries[key])) for key in sorted(entries)]
        index.write(write_table(table, extend))
    if state_file:
        with atomic_write(path.with_name("checkpoint"), "w") as state:
            state.write(state_text(path.name))


def _key(name: str) -> bytes:
    if not isinstance(name, str) or not name or name.startswith("\0"):
        raise CheckpointError(f"a variable's name is a string that is not empty, got {name!r}")
    return name.encode("utf-8")


def _write_value(
    file: IO[bytes], shard: int, name: str, value: np.ndarray, extend: Extend
) -> Entry:
    array = np.asarray(value)
    offset = file.tell()
    crc = 0
    chunks: Iterator[tuple[bytes | memoryview, np.ndarray]]
    if array.dtype.kind in "OS":
        code = STRING
        chunks = _string_chunks(name, array, extend)
    else:
        native = array.dtype.newbyteorder("=")
        if native not in CODES:
            raise CheckpointError(
                f"{name!r} has dtype {array.dtype}, which a TensorFlow checkpoint cannot hold; "
                "cast it to float32 or another of its types"
            )
        code = CODES[native]
        little = array.astype(native.newbyteorder("<"), copy=False)
        chunks = _number_chunks(little)
    for chunk, for_checksum in chunks:
        file.write(chunk)
        if for_checksum.size:
            crc = extend(crc, for_checksum)
    size = file.tell() - offset
    return Entry(code, array.shape, shard, offset, size, mask(crc))


def _number_chunks(array: np.ndarray) -> Iterator[tuple[bytes | memoryview, np.ndarray]]:
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    for start in range(0, raw.size, _CHUNK):
        chunk = raw[start : start + _CHUNK]
        yield chunk.data, chunk


def _string_chunks(
    name: str, array: np.ndarray, extend: Extend
) -> Iterator[tuple[bytes | memoryview, np.ndarray]]:
    values = array.reshape(-1).tolist()
    for value in values:
        if not isinstance(value, bytes):
            raise CheckpointError(
                f"{name!r} must hold numbers or bytes objects, got {type(value).__name__}"
            )
    # What is stored and what is summed differ: lengths are stored as varints but summed as
    # 32-bit numbers, and their own checksum is stored before the strings and summed with them.
    sizes = np.array([len(value) for value in values], "<u4").view(np.uint8)
    yield b"".join(write_varint(len(value)) for value in values), sizes
    check = mask(extend(0, sizes) if sizes.size else 0).to_bytes(4, "little")
    yield check, np.frombuffer(check, np.uint8)
    for value in values:
        yield value, np.frombuffer(value, np.uint8)
