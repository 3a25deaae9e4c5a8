"""Write the frozen Unicode 14 tables of the tokenizer: `python tools/make_codepoints.py [--check]`.

Token ids must not depend on the Python that runs, so what the tokenizer knows of Unicode is frozen
here once, from a Python whose `unicodedata` is version 14.0.0 (Python 3.11). Two files:

- bert4kexue/text/unicode14.py: the ranges of general categories that decide where words end,
  in Python, because the character tests (`Tokenizer._is_punctuation`, ...) are plain functions;
- bert4kexue/text/unicode14.npz: lower-casing and canonical decomposition, read by uncased
  tokenizers only.

`--check` writes nothing and exits 1 where the committed files are not what this Python gives.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np

VERSION = "14.0.0"
POINTS = 0x110000
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic, so left out of the table
SIGMA = "\N{GREEK CAPITAL LETTER SIGMA}"
FINAL_SIGMA = "\N{GREEK SMALL LETTER FINAL SIGMA}"
FOLDER = Path(__file__).resolve().parents[1] / "bert4kexue" / "text"


def bounds(holds: Callable[[str], bool]) -> list[int]:
    """[start, stop, start, stop, ...] of the code points for which `holds` is true."""
    edges, inside = [], False
    for point in range(POINTS):
        if holds(chr(point)) != inside:
            edges.append(point)
            inside = not inside
    return [*edges, POINTS] if inside else edges


def is_ignorable(character: str) -> bool:
    """Whether `str.lower` looks through the character when it decides on a final sigma."""
    return ("A" + character + SIGMA).lower()[-1] == FINAL_SIGMA and not is_cased(character)


def is_cased(character: str) -> bool:
    """Whether a sigma directly after the character is lower-cased as final."""
    return (character + SIGMA).lower()[-1] == FINAL_SIGMA


def categories_source() -> str:
    """The text of unicode14.py."""
    tables = {
        "PUNCTUATION": bounds(lambda c: unicodedata.category(c).startswith("P")),
        "SPACE": bounds(lambda c: unicodedata.category(c) == "Zs"),
        "LINE": bounds(lambda c: unicodedata.category(c) in ("Zl", "Zp")),
        "CONTROL": bounds(lambda c: unicodedata.category(c) in ("Cc", "Cf")),
    }
    lines = [
        '"""Unicode 14.0.0 general categories as half-open ranges, flat: start, stop, start, ...',
        "",
        "Written by tools/make_codepoints.py; edit that.",
        '"""',
        "",
        "# fmt: off",
        f'VERSION = "{VERSION}"',
    ]
    for name, edges in tables.items():
        lines.append(f"{name} = (")
        line = "   "
        for edge in edges:
            if len(line) + len(f" {edge:#x},") > 100:
                lines.append(line)
                line = "   "
            line += f" {edge:#x},"
        lines += [line, ")"]
    return "\n".join([*lines, "# fmt: on", ""])


def folding_arrays() -> dict[str, np.ndarray]:
    """The arrays of unicode14.npz."""
    source, length, target = [], [], []
    for point in range(POINTS):
        character = chr(point)
        folded = unicodedata.normalize("NFD", character.lower())
        if folded != character and point not in HANGUL:
            source.append(point)
            length.append(len(folded))
            target += [ord(c) for c in folded]
    combining = [p for p in range(POINTS) if unicodedata.combining(chr(p))]
    return {
        "fold_source": np.array(source, np.int32),  # code points changed by NFD(lower(c))
        "fold_length": np.array(length, np.int8),
        "fold_target": np.array(target, np.int32),  # the results, end to end
        "marks": np.array(bounds(lambda c: unicodedata.category(c) == "Mn"), np.int32),
        "combining": np.array(combining, np.int32),
        "combining_class": np.array([unicodedata.combining(chr(p)) for p in combining], np.uint8),
        "cased": np.array(bounds(is_cased), np.int32),
        "ignorable": np.array(bounds(is_ignorable), np.int32),
    }


def check_separators() -> None:
    """What `str.split` splits at must be what the categories say, or words would differ."""
    for point in range(POINTS):
        category = unicodedata.category(chr(point))
        if category != "Cc" and chr(point).isspace() != (category in ("Zs", "Zl", "Zp")):
            raise SystemExit(f"U+{point:04X}: str.isspace and category {category} disagree")


def main() -> int:
    """Write or check both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    if unicodedata.unidata_version != VERSION:
        print(f"this Python has Unicode {unicodedata.unidata_version}; {VERSION} (3.11) is needed")
        return 2
    check_separators()
    archive = io.BytesIO()
    np.savez_compressed(archive, **folding_arrays())
    files = {
        FOLDER / "unicode14.py": categories_source().encode(),
        FOLDER / "unicode14.npz": archive.getvalue(),
    }
    stale = []
    for path, content in files.items():
        if check:
            same = path.exists() and _same(path, content)
            stale += [] if same else [path.name]
        else:
            scratch = path.with_name(path.name + ".tmp")
            scratch.write_bytes(content)
            os.replace(scratch, path)
            print(f"{path.name}: {len(content)} bytes")
    if stale:
        print(f"stale: {', '.join(stale)}; run tools/make_codepoints.py")
    return 1 if stale else 0


def _same(path: Path, content: bytes) -> bool:
    # Archives are compared by their arrays: the bytes depend on the zlib that packed them.
    if path.suffix != ".npz":
        return path.read_bytes().replace(b"\r\n", b"\n") == content
    with np.load(path) as old, np.load(io.BytesIO(content)) as new:
        return sorted(old.files) == sorted(new.files) and all(
            np.array_equal(old[name], new[name]) for name in new.files
        )


if __name__ == "__main__":
    sys.exit(main())
