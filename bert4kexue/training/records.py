"""Tokenized corpora on disk: shards of ids in which words and sentences are marked.

A shard is a fixed part of the corpus (about `characters` of it), so what a shard holds depends on
the corpus and the vocabulary alone: not on how many processes wrote it, nor on how often writing
was interrupted. Its files are

    shard-00007.tokens.npy     (tokens,) uint32: id, with WORD and SENTENCE bits where one begins
    shard-00007.documents.npy  (documents + 1,) int64: where each document begins
    shard-00007.json           counts, checksums of both, and of the text; written last

and `records.json` is there once every shard is.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from bert4kexue._files import atomic_write

WORD, SENTENCE = np.uint32(1 << 31), np.uint32(1 << 30)
ID_MASK = np.uint32(SENTENCE - 1)


class RecordsError(ValueError):
    """Records that are damaged, unfinished, or of another corpus or vocabulary."""


class Records:
    """Prepared shards, opened by memory map.

    Args:
        folder: what :func:`bert4kexue.training.preparation.prepare` wrote.
        vocabulary: the vocab.txt that ids will be read with; compared with the one they were made
            with. None trusts the caller.
        verify: read every shard once and compare checksums.

    Raises:
        RecordsError: unfinished or damaged records, a missing shard, another vocabulary.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        vocabulary: str | os.PathLike[str] | None = None,
        *,
        verify: bool = False,
    ) -> None:
        self.folder = Path(folder)
        try:
            self.summary = json.loads((self.folder / "records.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecordsError(
                f"{self.folder} holds no finished records (records.json is missing): run "
                "`bert4kexue pretrain prepare` to the end"
            ) from None
        if vocabulary is not None:
            found = sha256(Path(vocabulary).read_bytes())
            if found != self.summary["vocabulary"]:
                raise RecordsError(
                    f"the records in {self.folder} were made with another vocabulary than "
                    f"{vocabulary}: prepare them again"
                )
        self._tokens: list[np.ndarray] = []
        self._starts: list[np.ndarray] = []
        for number in range(self.summary["shards"]):
            tokens, starts = _open_shard(self.folder, number, verify)
            self._tokens.append(tokens)
            self._starts.append(starts)
        counts = [len(starts) - 1 for starts in self._starts]
        self._first = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        """Number of documents."""
        return int(self._first[-1])

    @property
    def lengths(self) -> np.ndarray:
        """(documents,) int64, tokens of each."""
        return np.concatenate([np.diff(starts) for starts in self._starts])

    def __getitem__(self, index: int) -> np.ndarray:
        """A document, (tokens,) uint32 with the WORD and SENTENCE bits."""
        if not 0 <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        starts = self._starts[shard]
        at = index - int(self._first[shard])
        return np.asarray(self._tokens[shard][int(starts[at]) : int(starts[at + 1])])

    def checksum(self) -> str:
        """One string that changes when any shard does; a run keeps it to know its data again."""
        digest = hashlib.sha256()
        for number in range(self.summary["shards"]):
            report = json.loads(shard_paths(self.folder, number)[2].read_text(encoding="utf-8"))
            digest.update(f"{report['tokens_crc32']},{report['documents_crc32']};".encode())
        return digest.hexdigest()


def _open_shard(folder: Path, number: int, verify: bool) -> tuple[np.ndarray, np.ndarray]:
    report = finished_shard(folder, number)
    if report is None:
        raise RecordsError(
            f"shard {number} of {folder} is missing or incomplete: run `bert4kexue pretrain "
            "prepare` again, which writes what is missing"
        )
    try:
        arrays = [np.load(path, mmap_mode="r") for path in shard_paths(folder, number)[:2]]
    except (ValueError, OSError, EOFError) as error:
        raise RecordsError(f"shard {number} of {folder} is damaged: {error}") from error
    tokens, starts = arrays
    if len(tokens) != report["tokens"] or len(starts) != report["documents"] + 1:
        raise RecordsError(
            f"shard {number} of {folder} has another length than it was written with"
        )
    if verify:
        for array, key in ((tokens, "tokens_crc32"), (starts, "documents_crc32")):
            if zlib.crc32(array.tobytes()) != report[key]:
                raise RecordsError(
                    f"shard {number} of {folder} has changed since it was written (checksum): "
                    "remove it and run `bert4kexue pretrain prepare` again"
                )
    return tokens, starts


def shard_paths(folder: Path, number: int) -> tuple[Path, Path, Path]:
    """Tokens, document starts and report of a shard."""
    stem = f"shard-{number:05d}"
    return tuple(folder / (stem + end) for end in (".tokens.npy", ".documents.npy", ".json"))  # type: ignore[return-value]


def finished_shard(folder: Path, number: int) -> dict[str, Any] | None:
    """The report of a shard whose files are all there."""
    tokens_path, starts_path, report_path = shard_paths(folder, number)
    if not all(path.is_file() for path in (tokens_path, starts_path, report_path)):
        return None
    return json.loads(report_path.read_text(encoding="utf-8"))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON that is whole or absent."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, ensure_ascii=False, indent=1, sort_keys=True)
        file.write("\n")


def sha256(data: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()
