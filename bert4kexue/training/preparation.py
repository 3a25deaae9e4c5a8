"""Writing records: a corpus tokenized, its words and sentences marked, in parallel and resumable.

See :mod:`bert4kexue.training.records` for what is written.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert4kexue._files import write_array
from bert4kexue.text.batch import BatchWithOffsets
from bert4kexue.text.segment import word_segmenter
from bert4kexue.text.wordpiece import Tokenizer
from bert4kexue.training.corpora import Corpus, describe
from bert4kexue.training.records import (
    SENTENCE,
    WORD,
    RecordsError,
    finished_shard,
    read_json,
    sha256,
    shard_paths,
    write_json,
)

_SENTENCE = re.compile(r"(?<=[。！？!?\n])(?=[^。！？!?\n”’」』）)])")


class Prepared(NamedTuple):
    """What :func:`prepare` wrote."""

    shards: int
    reused: int
    documents: int
    tokens: int


def prepare(
    corpus: Corpus,
    vocabulary: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    do_lower_case: bool = True,
    characters: int = 4_000_000,
    workers: int = 1,
    progress: Callable[[Iterable[int]], Iterable[int]] | None = None,
) -> Prepared:
    """Tokenize a corpus into shards; what an interrupted call has written is kept.

    A shard is written anew where it is damaged, or where the text it was made of has changed:
    files repaired before their records were finished cost the shards that differ, no more.

    Args:
        corpus: what to read.
        vocabulary: a vocab.txt.
        folder: where the shards go; made where it is missing.
        do_lower_case: as the tokenizer takes it.
        characters: of text in a shard, about; the last document is never cut.
        workers: processes; 1 works in this one.
        progress: wraps the shard numbers while they are finished.

    Raises:
        CorpusError: the corpus is empty or cannot be read.
        RecordsError: the folder holds records of another corpus, vocabulary or shard size.
        ValueError: `characters` or `workers` is below 1, or the vocabulary cannot be used.
        OSError: no space, for instance; the shards finished so far stay, nothing is half-written.
    """
    for name, value in (("characters", characters), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    folder = Path(folder)
    settings = {
        "corpus": describe(corpus),
        "vocabulary": sha256(Path(vocabulary).read_bytes()),
        "do_lower_case": do_lower_case,
        "characters": characters,
    }
    Tokenizer(vocabulary, do_lower_case=do_lower_case)  # told here, not by every process
    _check_settings(folder, settings)
    task = _Task(str(vocabulary), do_lower_case, str(folder))
    reports: dict[int, dict[str, Any]] = {}
    reused = 0
    with _pool(workers, task) as run:
        waiting = run(_pending(corpus, settings, folder, reports))
        for number, report in waiting if progress is None else _watched(waiting, progress):
            reports[number] = report
    reused = sum(report.pop("reused", False) for report in reports.values())
    ordered = [reports[number] for number in sorted(reports)]
    summary = {
        **settings,
        "shards": len(ordered),
        "documents": sum(report["documents"] for report in ordered),
        "tokens": sum(report["tokens"] for report in ordered),
    }
    for stale in folder.glob("shard-*.json"):  # of a longer corpus, before this one
        if int(stale.name[6:11]) >= len(ordered):
            _remove_shard(folder, int(stale.name[6:11]))
    write_json(folder / "records.json", summary)
    return Prepared(len(ordered), reused, summary["documents"], summary["tokens"])


def marked_tokens(
    tokenizer: Tokenizer, cut: Callable[[str], list[str]], documents: list[str]
) -> list[np.ndarray]:
    """Each document's ids, with WORD set where a word of `cut` begins and SENTENCE likewise.

    A token begins a word where its first character does. The first token of a document begins both.
    """
    frame = [t for t in (tokenizer._token_start, tokenizer._token_end) if t is not None]
    batch = tokenizer.encode_batch(documents, return_offsets=True)
    assert isinstance(batch, BatchWithOffsets)
    marked = []
    for row, offsets, text in zip(batch.token_ids, batch.offsets, documents, strict=True):
        count = int(np.count_nonzero(row)) - len(frame)
        begin = int(tokenizer._token_start is not None)
        ids = row[begin : begin + count].astype(np.uint32)
        places = offsets[begin : begin + count, 0]
        words = np.cumsum([0, *map(len, cut(text))])
        sentences = [0, *(match.start() for match in _SENTENCE.finditer(text))]
        ids |= np.where(_begins(places, words), WORD, np.uint32(0))
        ids |= np.where(_begins(places, np.array(sentences)), SENTENCE, np.uint32(0))
        marked.append(ids)
    return marked


def _begins(places: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    """Whether a boundary lies after the previous token's first character, up to this one's."""
    parts = np.searchsorted(boundaries, places, side="right")
    return np.diff(parts, prepend=0) > 0


# --- writing ------------------------------------------------------------------------------------


class _Task(NamedTuple):
    """What a process needs to write shards; sent once to each."""

    vocabulary: str
    do_lower_case: bool
    folder: str


class _Worker:
    """Writes shards: a tokenizer and a segmenter, made once a process."""

    def __init__(self, task: _Task) -> None:
        self.folder = Path(task.folder)
        self.tokenizer = Tokenizer(task.vocabulary, do_lower_case=task.do_lower_case)
        self.cut = word_segmenter()

    def write(self, number: int, documents: list[str], text_sha256: str) -> dict[str, Any]:
        marked: list[np.ndarray] = []
        for start in range(0, len(documents), 512):
            marked += marked_tokens(self.tokenizer, self.cut, documents[start : start + 512])
        tokens = np.concatenate([*marked, np.zeros(0, np.uint32)])
        starts = np.concatenate([[0], np.cumsum([len(ids) for ids in marked])]).astype(np.int64)
        tokens_path, starts_path, report_path = shard_paths(self.folder, number)
        report_path.unlink(missing_ok=True)  # of what the folder held before
        report = {
            "documents": len(documents),
            "tokens": len(tokens),
            "text_sha256": text_sha256,
            "tokens_crc32": zlib.crc32(tokens.data),
            "documents_crc32": zlib.crc32(starts.data),
        }
        write_array(tokens_path, tokens)
        write_array(starts_path, starts)
        write_json(report_path, report)
        return report


# A process's own worker; a spawned process has no other way to keep what its initializer made.
class _Process:
    worker: _Worker | None = None


def _start(task: _Task) -> None:
    _Process.worker = _Worker(task)


def _write(job: tuple[int, list[str], str]) -> tuple[int, dict[str, Any]]:
    assert _Process.worker is not None
    return job[0], _Process.worker.write(*job)


class _pool:  # noqa: N801 - a context manager, used as a function
    """Runs jobs in this process or in several spawned ones, a bounded number ahead."""

    def __init__(self, workers: int, task: _Task) -> None:
        self.workers, self.task = workers, task
        self.pool: Any = None

    def __enter__(self) -> Callable[[Iterator[Any]], Iterator[tuple[int, dict[str, Any]]]]:
        if self.workers > 1:
            context = multiprocessing.get_context("spawn")
            self.pool = context.Pool(self.workers, _start, (self.task,))
            return self._several
        return self._one

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self.pool is not None:
            if kind is None:
                self.pool.close()
            else:
                self.pool.terminate()
            self.pool.join()

    def _one(self, jobs: Iterator[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        worker: _Worker | None = None
        for job in jobs:
            worker = worker or _Worker(self.task)
            yield job[0], worker.write(*job)

    def _several(self, jobs: Iterator[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
        running: list[Any] = []
        for job in jobs:
            running.append(self.pool.apply_async(_write, (job,)))
            if len(running) > 2 * self.workers:
                yield running.pop(0).get()
        for waiting in running:
            yield waiting.get()


def _pending(
    corpus: Corpus, settings: dict[str, Any], folder: Path, reports: dict[int, dict[str, Any]]
) -> Iterator[tuple[int, list[str], str]]:
    """The shards still to write; what is there already, of the same text, goes into `reports`.

    Nothing is written before some text could be read, and a folder that a shard will be written
    into no longer passes as finished.
    """
    for number, documents in enumerate(_chunks(corpus, settings["characters"])):
        if number == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "settings.json", settings)
        text_sha256 = sha256("\0".join(documents).encode("utf-8", "surrogatepass"))
        report = finished_shard(folder, number)
        if report is not None and report["text_sha256"] == text_sha256:
            reports[number] = {**report, "reused": True}
        else:
            (folder / "records.json").unlink(missing_ok=True)
            yield number, documents, text_sha256


def _chunks(corpus: Corpus, characters: int) -> Iterator[list[str]]:
    held: list[str] = []
    size = 0
    for document in corpus.documents():
        held.append(document)
        size += len(document)
        if size >= characters:
            yield held
            held, size = [], 0
    if held:
        yield held


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder whose shards were made otherwise; one without a shard is free."""
    if not any(folder.glob("shard-*.json")):
        return
    there = read_json(folder / "settings.json", settings)
    if there is None:
        raise RecordsError(
            f"{folder} holds shards, and settings.json, which says how they were made, is missing "
            "or damaged: remove the folder or choose another"
        )
    if not (folder / "records.json").exists():
        # Unfinished: the files may have been repaired since. The text of each shard is compared.
        there, settings = _without_sizes(there), _without_sizes(settings)
    different = [key for key in settings if there[key] != settings[key]]
    if different:
        raise RecordsError(
            f"{folder} holds records made with another {', '.join(different)}: the corpus or "
            "the settings have changed since; remove the folder or choose another"
        )


def _without_sizes(settings: dict[str, Any]) -> dict[str, Any]:
    names = [file["name"] for file in settings["corpus"]["files"]]
    return {**settings, "corpus": {**settings["corpus"], "files": names}}


def _remove_shard(folder: Path, number: int) -> None:
    for path in reversed(shard_paths(folder, number)):
        path.unlink(missing_ok=True)


def _watched(
    results: Iterator[tuple[int, dict[str, Any]]],
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> Iterator[tuple[int, dict[str, Any]]]:
    """`results`, with `progress` shown their numbers one by one."""
    held: list[tuple[int, dict[str, Any]]] = []

    def numbers() -> Iterator[int]:
        for item in results:
            held.append(item)
            yield item[0]

    for _ in progress(numbers()):
        yield held.pop()
