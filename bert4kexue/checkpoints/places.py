"""Where checkpoints are kept: a name is looked for in `pretrained/`, then in the user's folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .archives import ARCHIVE_SUFFIXES, is_archive, unpacked
from .base import CheckpointError
from .released import RELEASED


def default_places() -> tuple[Path, ...]:
    """`pretrained/` of the working directory, then `.bert4kexue/pretrained` in the user's home."""
    return Path("pretrained"), Path.home() / ".bert4kexue" / "pretrained"


def find_checkpoint(
    name: str | os.PathLike[str], places: Sequence[str | os.PathLike[str]] | None = None
) -> Path:
    """The folder or archive that a name stands for.

    Args:
        name: a path that exists, returned as it is; or a bare name such as
            'chinese_roformer-sim-char-ft_L-12_H-768_A-12', for which each place is looked through
            for a folder of that name, then for its .zip, .tar.gz, .tgz or .tar.
        places: folders to look in; `default_places()` when None.

    Raises:
        CheckpointError: nothing there; the error says where was looked, what is there under
            similar names, and what a released name's archive is called.

    Example:
        >>> find_checkpoint("roformer_tiny_zh", ["pretrained"]).name
        'roformer_tiny_zh'
    """
    path = Path(name)
    if path.exists():
        return path
    searched = [Path(place) for place in (default_places() if places is None else places)]
    if len(path.parts) == 1:
        for place in searched:
            for candidate in _candidates(place, path.name):
                if candidate.exists():
                    return candidate
    raise CheckpointError(_not_found(path, searched))


@contextmanager
def checkpoint_folder(
    name: str | os.PathLike[str], places: Sequence[str | os.PathLike[str]] | None = None
) -> Iterator[Path]:
    """`find_checkpoint`, with an archive unpacked for the length of the block.

    Example:
        >>> with checkpoint_folder("roformer_tiny_zh", ["pretrained"]) as folder:
        ...     (folder / "vocab.txt").is_file()
        True
    """
    path = find_checkpoint(name, places)
    if is_archive(path) and path.is_file():
        with unpacked(path) as folder:
            yield folder
    else:
        yield path


def _candidates(place: Path, name: str) -> Iterator[Path]:
    yield place / name
    for suffix in ARCHIVE_SUFFIXES:
        yield place / (name + suffix)


def _not_found(path: Path, searched: Sequence[Path]) -> str:
    if len(path.parts) > 1:
        return f"there is no {path}: give a folder in the original layout, an archive, or a name"
    there = sorted({_stem(p.name) for place in searched if place.is_dir() for p in place.iterdir()})
    message = (
        f"no checkpoint is called {path.name!r}: looked in the working directory and in "
        f"{', '.join(str(place) for place in searched)}"
    )
    if near := difflib.get_close_matches(path.name, there, n=3):
        return f"{message}; {', '.join(near)} is there"
    known = {_stem(item.archive): item for item in RELEASED}
    if item := known.get(path.name):
        return f"{message}; it is released by {item.author} as {item.archive}: place it there"
    if near := difflib.get_close_matches(path.name, known, n=3):
        return f"{message}; released names are like {', '.join(near)}"
    return message


def _stem(name: str) -> str:
    for suffix in ARCHIVE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
