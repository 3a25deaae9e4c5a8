"""What a build of a tree has done so far, on disk: a killed one goes on from its last block.

A folder holds the tokens and values of the blocks of text that are finished, appended to four
files, and a journal with a line for each block: how many bytes of text it was, their checksum, what
was written of it and the checksum of that. On going on, text and files are read again as far as
both checksums hold; the rest is cut off.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from bert4kexue._files import atomic_write

PARTS = ("tokens", "lengths", "text", "sizes")
"""Token ids, tokens of each key, values, bytes of each value."""


_ROW = {"size", "text", "lines", "rejected", "bytes", "written"}  # a line of the journal


class Rejected(NamedTuple):
    """A line that gave no key."""

    number: int
    """Of the line in its file, from 1."""
    reason: str


class Block(NamedTuple):
    """A block of lines as keys."""

    size: int
    """Bytes of text."""
    checksum: int
    """CRC-32 of the text."""
    lines: int
    tokens: np.ndarray
    lengths: np.ndarray
    text: bytes
    text_sizes: np.ndarray
    rejected: list[Rejected]
    """Numbered within the block."""


class Stages:
    """The finished blocks of a build.

    Args:
        folder: where they are kept; None keeps them in files without a name, which go with the
            process, however it ends.
        scratch: where those are made.
        settings: what the blocks depend on; blocks made with others are thrown away.

    Attributes:
        done: bytes of text that are finished.
        lines: of text that are finished.
        rejected: of them.
    """

    def __init__(self, folder: Path | None, scratch: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.done, self.lines = folder, 0, 0
        self.rejected: list[Rejected] = []
        self._stack = ExitStack()
        self._journal: IO[bytes] | None = None
        if folder is None:
            self.files: list[IO[bytes]] = [
                self._stack.enter_context(tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115
                for _ in PARTS
            ]
            return
        about = json.dumps(dict(settings), sort_keys=True, ensure_ascii=False)
        header = folder / "settings.json"
        if not header.is_file() or header.read_bytes() != about.encode("utf-8"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for name in PARTS:
                (folder / name).touch()
            (folder / "journal.jsonl").touch()
            with atomic_write(header, "w") as file:
                file.write(about)
        self.files = [self._open(folder / name, "r+b") for name in PARTS]

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stack.close()
        over = kind is None or issubclass(kind, ValueError)  # the text is at fault
        if over and self.folder is not None:
            shutil.rmtree(self.folder)

    def resume(self, source: Path) -> None:
        """Take up what is finished of a text, as far as it is the same text."""
        if self.folder is None:
            return
        path, kept, ends = self.folder / "journal.jsonl", 0, [0] * len(PARTS)
        journal, size = path.read_bytes(), source.stat().st_size
        with open(source, "rb") as text:
            for row in _rows(journal):
                block = text.read(row["size"])
                # A text that has grown since may go on in the middle of its last line.
                same = zlib.crc32(block) == row["text"]
                same &= block.endswith(b"\n") or text.tell() == size
                pairs = zip(self.files, row["bytes"], strict=True)
                if not same or _checksum([file.read(n) for file, n in pairs]) != row["written"]:
                    break
                self.done += row["size"]
                self._count(row["lines"], [Rejected(*line) for line in row["rejected"]])
                kept, ends = row["end"], [file.tell() for file in self.files]
        for file, end in zip(self.files, ends, strict=True):
            file.seek(end)
            file.truncate()
        with open(path, "r+b") as file:
            file.truncate(kept)
        self._journal = self._open(path, "ab")

    def append(self, block: Block) -> None:
        """Keep a block: its files first, then the journal says so."""
        arrays = (block.tokens, block.lengths, block.text_sizes)
        tokens, lengths, sizes = (array.tobytes() for array in arrays)
        parts = [tokens, lengths, block.text, sizes]
        for file, part in zip(self.files, parts, strict=True):
            file.write(part)
        if self._journal is not None:
            self.flush()
            row = {
                "size": block.size,
                "text": block.checksum,
                "lines": block.lines,
                "rejected": block.rejected,
                "bytes": list(map(len, parts)),
                "written": _checksum(parts),
            }
            self._journal.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
            self._journal.flush()
        self.done += block.size
        self._count(block.lines, block.rejected)

    def flush(self) -> None:
        """Hand what is written to the system."""
        for file in self.files:
            file.flush()

    def _open(self, path: Path, mode: str) -> IO[bytes]:
        return self._stack.enter_context(path.open(mode))

    def _count(self, lines: int, rejected: list[Rejected]) -> None:
        self.rejected += [Rejected(self.lines + number, reason) for number, reason in rejected]
        self.lines += lines


def _rows(journal: bytes) -> Iterator[dict[str, Any]]:
    """The lines of a journal up to the first damaged one, with the place where each ends."""
    end = 0
    for line in journal.splitlines(keepends=True):
        end += len(line)
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            return
        if not isinstance(row, dict) or row.keys() != _ROW:
            return
        yield {**row, "end": end}


def _checksum(parts: list[bytes]) -> int:
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found
