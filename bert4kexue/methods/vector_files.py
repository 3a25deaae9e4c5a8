"""More sentences than memory holds: encoded from a file to a file, and taken up again after a kill.

The vectors are a `.npy` that `np.load(path, mmap_mode="r")` opens. While it is being made it lies
beside its name as `.partial`, with a journal of how many sentences are on the disk.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bert4kexue._files import atomic_write
from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.methods.vector_codes import Precision, code_width

_HEADER = 128  # bytes before the numbers, enough for any shape


def encode_file(
    encoder: SentenceEncoder,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    precision: Precision = "float32",
    dimensions: int | None = None,
    block: int = 8192,
    progress: Callable[[int], Any] | None = None,
) -> int:
    """Encode a sentence a line into an `.npy` of one vector a line; how many.

    A blank line is an empty sentence, so that lines and vectors keep the same numbers. Memory holds
    one block. After an interruption the same call goes on behind the last whole block.

    Args:
        encoder: gives vectors of length one.
        source: UTF-8.
        target: the `.npy`; replaced at the end, when it is whole.
        precision, dimensions: as `SentenceEncoder.encode` takes them.
        block: lines worked on together.
        progress: told after every block how many lines are done.

    Raises:
        ValueError: no line, a line that is not UTF-8, or an interrupted file of another source or
            other options.
        OSError: no space, for instance; what is whole is kept.
    """
    source, target = Path(source), Path(target)
    if block < 1:
        raise ValueError(f"block must be 1 or more, got {block}")
    width, dtype = code_width(dimensions or encoder.dimensions, precision)
    stat = source.stat()
    settings = {
        "source": [source.name, stat.st_size, stat.st_mtime_ns],
        "vectors": [width, dtype.str, encoder.maxlen, encoder.long, block],
    }
    partial = target.with_name(target.name + ".partial")
    journal = target.with_name(target.name + ".partial.json")
    done = _resumed(partial, journal, settings)
    with partial.open("r+b" if done else "wb") as file:
        file.truncate(_HEADER + done * width * dtype.itemsize)
        for texts in _blocks(source, block, done):
            file.seek(_HEADER + done * width * dtype.itemsize)
            codes = encoder.encode(texts, precision=precision, dimensions=dimensions)
            file.write(np.ascontiguousarray(codes).tobytes())
            done += len(texts)
            file.flush()
            os.fsync(file.fileno())
            with atomic_write(journal, "w") as written:
                json.dump({"done": done, **settings}, written)
            if progress is not None:
                progress(done)
        if not done:
            raise ValueError(f"{source} holds no line: there is nothing to encode")
        file.seek(0)
        file.write(_header((done, width), dtype))
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, target)
    journal.unlink()
    return done


def _resumed(partial: Path, journal: Path, settings: dict[str, Any]) -> int:
    """Lines whose vectors are on the disk."""
    if not partial.exists() or not journal.exists():
        return 0
    kept = json.loads(journal.read_text(encoding="utf-8"))
    done = int(kept.pop("done"))
    if kept != settings:
        raise ValueError(
            f"{partial} is of another source or of other options ({kept}, now {settings}): remove "
            "it, or give the same"
        )
    return done


def _blocks(source: Path, size: int, skipped: int) -> Iterator[list[str]]:
    with source.open("rb") as file:
        lines = itertools.islice(enumerate(file, 1), skipped, None)
        while part := list(itertools.islice(lines, size)):
            yield [_text(source, number, line) for number, line in part]


def _text(source: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8").lstrip("\ufeff").strip()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{source}, line {number} is not UTF-8 (byte {line[error.start]:#04x}): convert the "
            "file to UTF-8"
        ) from None


def _header(shape: tuple[int, int], dtype: np.dtype) -> bytes:
    """NumPy's format 1.0, filled up to `_HEADER` bytes."""
    described = f"{{'descr': {dtype.str!r}, 'fortran_order': False, 'shape': {shape}, }}"
    room = _HEADER - 10
    text = described.ljust(room - 1) + "\n"
    assert len(text) == room
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.encode("latin-1")
