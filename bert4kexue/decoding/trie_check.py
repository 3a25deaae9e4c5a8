"""Whether the sections of a tree file are there and fit each other, without reading them."""

from __future__ import annotations

from bert4kexue.decoding.sections import MappedFile
from bert4kexue.decoding.trie_build import DIRECTORY
from bert4kexue.decoding.values import SECTIONS


def check_sections(file: MappedFile) -> None:
    """Check names, kinds of numbers and sizes against each other.

    Raises:
        ValueError: something is absent or does not fit.
    """
    arrays, about = file.arrays, file.about
    wanted = {"ids": "<i4", "offsets": "<u4", "targets": "<u4", "inner": "<u4"}
    wide = "<u2" if len(arrays.get("ids", ())) <= 2**16 else "<u4"
    wanted |= {"ranks": wide, "tails": wide}
    fits = all(name in arrays and arrays[name].dtype.str == kind for name, kind in wanted.items())
    fits = fits and all(isinstance(about.get(name), int) for name in ("keys", "nodes", "depth"))
    if fits:
        edges, offsets = len(arrays["targets"]), arrays["offsets"]
        fits = len(arrays["ranks"]) == edges and len(offsets) >= 2 and len(arrays["ids"]) >= 1
        fits = fits and offsets[0] == 0 and offsets[-1] == edges
        fits = fits and len(arrays["inner"]) == -(-edges // DIRECTORY) + 1
        fits = fits and len(offsets) - 2 + about["keys"] == edges
    if fits and "text" in arrays:
        fits = all(name in arrays for name in SECTIONS)
        fits = fits and len(arrays["value_offsets"]) == about["keys"] + 1
        fits = fits and len(arrays["text_offsets"]) == len(arrays["value_rows"]) + 1
        fits = fits and arrays["text_offsets"][-1] == len(arrays["text"])
    if not fits:
        raise ValueError(
            f"{file.path}: the tree's sections do not fit each other: write the file again"
        )
