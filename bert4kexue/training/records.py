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
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert4kexue._files import atomic_write

WORD, SENTENCE = np.uint32(1 << 31), np.uint32(1 << 30)
ID_MASK = np.uint32(SENTENCE - 1)
_REPORTED = ("documents", "tokens", "text_sha256", "tokens_crc32", "documents_crc32")
_REMEDY = "run `bert4kexue pretrain prepare` again, which writes anew what is not whole"


class RecordsError(ValueError):
    """Records that are damaged, unfinished, or of another corpus or vocabulary."""


class Records:
    """Prepared shards, opened by memory map.

    Args:
        folder: what :func:`bert4kexue.training.preparation.prepare` wrote.
        vocabulary: the vocab.txt that ids will be read with; compared with the one they were made
            with. None trusts the caller.
        verify: read every shard once and compare checksums; a run reads them all in any case.

    Raises:
        RecordsError: unfinished or damaged records, a missing shard, another vocabulary.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        vocabulary: str | os.PathLike[str] | None = None,
        *,
        verify: bool = True,
    ) -> None:
        self.folder = Path(folder)
        path = self.folder / "records.json"
        summary = read_json(path, ("shards", "vocabulary", "do_lower_case"))
        if summary is None:
            raise RecordsError(
                f"{self.folder} holds no finished records (records.json is "
                f"{'damaged' if path.exists() else 'missing'}): run `bert4kexue pretrain prepare` "
                "to the end"
            )
        self.summary = summary
        if vocabulary is not None:
            found = sha256(Path(vocabulary).read_bytes())
            if found != self.summary["vocabulary"]:
                raise RecordsError(
                    f"the records in {self.folder} were made with another vocabulary than "
                    f"{vocabulary}: prepare them again"
                )
        shards = [_open_shard(self.folder, n, verify) for n in range(self.summary["shards"])]
        self._reports = [shard.report for shard in shards]
        self._tokens = [shard.tokens for shard in shards]
        self._starts = [shard.starts for shard in shards]
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
        for report in self._reports:
            digest.update(f"{report['tokens_crc32']},{report['documents_crc32']};".encode())
        return digest.hexdigest()


class _Shard(NamedTuple):
    report: dict[str, Any]
    tokens: np.ndarray
    starts: np.ndarray


def _open_shard(folder: Path, number: int, verify: bool) -> _Shard:
    *array_paths, report_path = shard_paths(folder, number)
    if not all(path.is_file() for path in (*array_paths, report_path)):
        raise RecordsError(f"shard {number} of {folder} is missing or incomplete: {_REMEDY}")
    report = read_json(report_path, _REPORTED)
    if report is None:
        raise RecordsError(f"{report_path} is damaged: {_REMEDY}")
    try:
        tokens, starts = (np.load(path, mmap_mode="r") for path in array_paths)
    except (ValueError, OSError, EOFError) as error:
        raise RecordsError(f"shard {number} of {folder} is damaged ({error}): {_REMEDY}") from error
    if len(tokens) != report["tokens"] or len(starts) != report["documents"] + 1:
        raise RecordsError(
            f"shard {number} of {folder} has another length than it was written with: {_REMEDY}"
        )
    for array, key in ((tokens, "tokens_crc32"), (starts, "documents_crc32")):
        if verify and zlib.crc32(array.data) != report[key]:
            raise RecordsError(
                f"shard {number} of {folder} has changed since it was written (checksum): {_REMEDY}"
            )
    return _Shard(report, tokens, starts)


def shard_paths(folder: Path, number: int) -> tuple[Path, Path, Path]:
    """Tokens, document starts and report of a shard."""
    stem = f"shard-{number:05d}"
    return tuple(folder / (stem + end) for end in (".tokens.npy", ".documents.npy", ".json"))  # type: ignore[return-value]


def finished_shard(folder: Path, number: int) -> dict[str, Any] | None:
    """The report of a shard that is there, whole and with the checksums it was written with."""
    try:
        return _open_shard(folder, number, verify=True).report
    except RecordsError:
        return None


def read_json(path: Path, keys: Iterable[str]) -> dict[str, Any] | None:
    """What :func:`write_json` wrote; None where it is missing, damaged or lacks a key."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) and value.keys() >= set(keys) else None


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON that is whole or absent."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, ensure_ascii=False, indent=1, sort_keys=True)
        file.write("\n")


def sha256(data: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()
