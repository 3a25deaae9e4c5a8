"""Corpora as streams of documents: plain text, JSON lines or Parquet, of any size.

A document is one line of a text file (or, with `layout="block"`, the lines between two blank ones),
one object of a `.jsonl` file, or one row of a `.parquet` file. Nothing is read into memory whole.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal

LONGEST_LINE = 1_000_000  # bytes; a longer line is nearly always a file without line ends
_HALF = re.compile("[\ud800-\udfff]")  # JSON can escape it, UTF-8 cannot hold it
_SHORTER = "break it into lines"


class CorpusError(ValueError):
    """A corpus that cannot be read as it was described."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Files of one kind.

    Args:
        paths: the files, read in this order.
        layout: of plain text: a document a `line`, or a `block` of lines between blank ones.
        field: the field of JSON lines or column of Parquet that holds the text.
        longest_line: bytes; a longer line is refused.
    """

    paths: tuple[Path, ...]
    layout: Literal["line", "block"] = "line"
    field: str = "text"
    longest_line: int = LONGEST_LINE

    def documents(self) -> Iterator[str]:
        """Every document that holds more than white space, stripped.

        Raises:
            CorpusError: no file or no document at all, bytes that are not UTF-8, a line that is too
                long or no JSON, a missing field, a column that holds no text; with the file and
                the line.
        """
        self.check()
        empty = True
        for path in self.paths:
            for document in self._documents_of(path):
                if document := document.strip():
                    empty = False
                    yield document
        if empty:
            raise CorpusError(
                f"the corpus holds no text: {', '.join(map(str, self.paths))} "
                f"{'is' if len(self.paths) == 1 else 'are'} empty or white space"
            )

    def check(self) -> None:
        """Raise CorpusError where a file is missing or no line could be short enough."""
        if not self.paths:
            raise CorpusError("a corpus needs at least one file, got none")
        missing = [str(path) for path in self.paths if not path.is_file()]
        if missing:
            raise CorpusError(f"there is no file {', '.join(missing)}")
        if self.longest_line < 1:
            raise CorpusError(f"longest_line must be 1 or more bytes, got {self.longest_line}")

    def _documents_of(self, path: Path) -> Iterator[str]:
        kind = path.suffix.lower()
        if kind == ".parquet":
            return self._from_parquet(path)
        if kind in (".jsonl", ".ndjson", ".json"):
            return (self._field_of(path, number, line) for number, line in self._lines(path))
        lines = (line for _, line in self._lines(path))
        return lines if self.layout == "line" else _blocks(lines)

    def _lines(self, path: Path) -> Iterator[tuple[int, str]]:
        remedy = f"{_SHORTER}, or raise longest_line (--longest-line)"
        return _lines(path, self.longest_line, remedy)

    def _field_of(self, path: Path, number: int, line: str) -> str:
        if not line.strip():
            return ""
        return _json_row(path, number, line, {self.field: str})[self.field]

    def _from_parquet(self, path: Path) -> Iterator[str]:
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError:
            raise ImportError(
                "Parquet needs pyarrow: pip install 'bert4kexue[pretraining]'"
            ) from None
        try:
            with parquet.ParquetFile(path) as file:
                if self.field not in file.schema_arrow.names:
                    raise CorpusError(
                        f"{path} has no column {self.field!r}; it has {file.schema_arrow.names}: "
                        "name the column that holds the text"
                    )
                for batch in file.iter_batches(columns=[self.field]):
                    for text in batch.column(0).to_pylist():
                        if not isinstance(text, str | None):
                            kind = file.schema_arrow.field(self.field).type
                            raise CorpusError(
                                f"{path} holds {kind} under {self.field!r}, and a corpus needs "
                                "text: name the column that holds it"
                            )
                        yield text or ""
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # not of Parquet: no permission, say
            raise CorpusError(
                f"{path} is no whole Parquet file ({error}): fetch or write it again"
            ) from error


def read_rows(path: Path, fields: Mapping[str, type | UnionType]) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines.

    Args:
        path: the file; blank lines are passed over.
        fields: what every object must hold, with its type.

    Raises:
        CorpusError: no file, no object at all, bytes that are not UTF-8, a line that is too long or
            no JSON, a missing field; with the file and the line.
    """
    if not path.is_file():
        raise CorpusError(f"there is no file {path}")
    empty = True
    for number, line in _lines(path, LONGEST_LINE):
        if line.strip():
            empty = False
            yield _json_row(path, number, line, fields)
    if empty:
        raise CorpusError(f"{path} holds no row: it is empty or white space")


def _lines(path: Path, longest: int, remedy: str = _SHORTER) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(longest + 1):
            number += 1
            if len(line) > longest:
                raise CorpusError(
                    f"{path}, line {number} is longer than {longest:,} bytes: {remedy}"
                )
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            yield number, _decoded(path, number, line)


def _json_row(
    path: Path, number: int, line: str, fields: Mapping[str, type | UnionType]
) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # a number of many digits; lists in lists
        reason = getattr(error, "msg", error)
        raise CorpusError(f"{path}, line {number} is no JSON ({reason}): write it again") from None
    for field, kind in fields.items():
        if not isinstance(row, dict) or not isinstance(row.get(field), kind):
            has = sorted(row) if isinstance(row, dict) else type(row).__name__
            wanted = "text" if kind is str else f"{getattr(kind, '__name__', kind)}"
            raise CorpusError(
                f"{path}, line {number} has no {wanted} under {field!r}; it has {has}: name the "
                "field that holds it, or put it there"
            )
        if isinstance(text := row[field], str) and (half := _HALF.search(text)):
            raise CorpusError(
                f"{path}, line {number} holds half of a surrogate pair (\\u{ord(half[0]):04x}) "
                f"under {field!r}, which is no character: write both halves, or leave it out"
            )
    return row


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        hint = ""
        try:
            line.decode("gb18030")
            hint = "; the line reads as GB18030, so the file may be of mixed encodings"
        except UnicodeDecodeError:
            pass
        raise CorpusError(
            f"{path}, line {number} is not UTF-8 (byte {line[error.start]:#04x} at {error.start})"
            f"{hint}: convert the file to UTF-8"
        ) from None


def _blocks(lines: Iterator[str]) -> Iterator[str]:
    held: list[str] = []
    for line in lines:
        if line.strip():
            held.append(line.strip())
        elif held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def describe(corpus: Corpus) -> dict[str, Any]:
    """What the corpus is, as JSON: how it is read, and each file's name and size.

    Raises:
        CorpusError: a file is missing.
    """
    corpus.check()
    return {
        "layout": corpus.layout,
        "field": corpus.field,
        "files": [{"name": path.name, "bytes": path.stat().st_size} for path in corpus.paths],
    }
