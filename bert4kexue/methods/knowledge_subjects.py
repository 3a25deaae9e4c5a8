"""Which subjects of a knowledge base a question is about, before any model is asked.

A subject is the beginning of a key, up to and including the first [SEP]. Those that stand in the
question are found by walking the tree from each of its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.decoding import PrefixTree

PADDING = -1


def named_subjects(tree: PrefixTree, question: Sequence[int], end: int) -> list[list[int]]:
    """The subjects that stand in a question, each once, with their [SEP].

    Args:
        tree: of the keys.
        question: token ids, special tokens or not.
        end: [SEP].
    """
    found: dict[tuple[int, ...], None] = {}
    ids = list(question)
    for begin in range(len(ids)):
        node = tree.root
        for stop in range(begin, len(ids)):
            node = -1 if ids[stop] == end else tree.step(node, ids[stop])
            if node < 0:
                break
            if tree.step(node, end) >= 0:
                found[(*ids[begin : stop + 1], end)] = None
    return [list(subject) for subject in found]


def subject_rows(subjects: Sequence[Sequence[Sequence[int]]], multiple: int = 8) -> np.ndarray:
    """The subjects of each question as an array for `PrefixChoice`, (b, k, l) padded with -1.

    k and l are multiples of `multiple`, so that the shapes are few.
    """
    most = max((len(several) for several in subjects), default=0)
    longest = max((len(ids) for several in subjects for ids in several), default=0)
    k, length = (max(1, -(-size // multiple)) * multiple for size in (most, longest))
    rows = np.full((len(subjects), k, length), PADDING, np.int32)
    for row, several in zip(rows, subjects, strict=True):
        for line, ids in zip(row, several, strict=False):
            line[: len(ids)] = ids
    return rows
