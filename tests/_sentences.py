"""Every sentence of the data folder, whatever the file's format."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = {".txt", ".tsv", ".csv", ".json", ".jsonl", ".data", ".kb", ".bio", ".bmes", ".bies"}
LEFT_OUT = {"ckpt", "vocab", "mnist"}


def every_sentence(folder: Path, per_file: int | None = None) -> Iterator[str]:
    """Lines of all text files, also those in zip archives; the first `per_file` of each."""
    for path in sorted(folder.rglob("*")):
        if LEFT_OUT.intersection(path.relative_to(folder).parts) or not path.is_file():
            continue
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if Path(name).suffix in SUFFIXES:
                        yield from _lines(archive.read(name), per_file)
        elif path.suffix in SUFFIXES or path.suffix == "":
            yield from _lines(path.read_bytes(), per_file)


def _lines(content: bytes, per_file: int | None) -> list[str]:
    # A JSON file on a single line is cut like a book: the tokenizer does not mind the syntax.
    lines = content.decode("utf-8", "replace").splitlines()
    pieces = [line[i : i + 500] for line in lines for i in range(0, len(line), 500)]
    return list(dict.fromkeys(pieces))[:per_file]
