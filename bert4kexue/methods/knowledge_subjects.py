"""Which subjects of a knowledge base a question is about, before any model is asked.

A subject is the beginning of a key, up to and including the first [SEP]. Those that stand in the
question are found by walking the tree from each of its tokens; those that nearly do, since the
question has a typo, by rapidfuzz (the extra `fast`) among all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.decoding import PrefixTree

PADDING = -1

_LEAST = 3
"""Tokens of the shortest subject that may have a typo."""

_FIRST = 0x10000  # where characters stand for token ids: no surrogates there


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


class SubjectIndex:
    """All subjects of a tree, for finding those that nearly stand in a question.

    Subjects of one length are the columns of one array of token ids: 4 bytes a token.

    Args:
        tree: of the keys.
        end: [SEP].

    Raises:
        ImportError: rapidfuzz is not installed.
    """

    def __init__(self, tree: PrefixTree, end: int) -> None:
        try:
            import rapidfuzz  # noqa: F401 - told at once, not at the first question
        except ImportError:
            raise ImportError(
                "subjects with typos are found by rapidfuzz: pip install 'bert4kexue[fast]'"
            ) from None
        self.end = end
        self._columns: dict[int, np.ndarray] = {}  # by length: (length, subjects)
        nodes, begun = np.array([tree.root]), np.zeros((0, 1), np.int32)
        while len(nodes):
            counts, tokens, below = tree.children(nodes)
            parents = np.repeat(np.arange(len(nodes)), counts)
            ends, size = tokens == end, len(begun)
            if size >= _LEAST and ends.any():
                self._columns[size] = begun[:, parents[ends]]
            inner = ~ends
            begun = np.vstack([begun[:, parents[inner]], tokens[inner][None]])
            nodes = below[inner]
        self._tokens = 1 + max((int(c.max()) for c in self._columns.values()), default=0)

    def similar(self, question: Sequence[int], limit: int = 16) -> list[list[int]]:
        """The subjects nearest to a span of the question, the fewest edits first, with [SEP].

        One substitution, insertion or omission is allowed in 3 to 5 tokens, two of them in more,
        none in fewer. Subjects that stand in the question as they are are left out: these are
        `named_subjects`.

        A subject is compared where all its tokens but one (or two) occur in the question. Finding
        those takes time in proportion to the number of subjects: of 200,000 the whole call takes
        some 3 ms a question.

        Args:
            question: token ids without special tokens.
            limit: the most subjects.
        """
        from rapidfuzz import fuzz, process

        text = "".join(chr(_FIRST + token) for token in question)
        known = np.zeros(self._tokens, np.int8)
        known[[token for token in question if token < self._tokens]] = 1
        kept = []
        for size, columns in self._columns.items():
            if size > len(text):
                continue
            wrong = 1 if size < 6 else 2
            hits = np.zeros(columns.shape[1], np.int16)
            for column in columns:
                hits += known[column]
            near = (_FIRST + columns[:, hits >= size - wrong].T).astype("<u4")
            subjects = [row.tobytes().decode("utf-32-le") for row in near]
            ratios = process.cdist([text], subjects, scorer=fuzz.partial_ratio)[0]
            for subject, ratio in zip(subjects, ratios.tolist(), strict=True):
                # The ratio counts a substitution as two edits, of twice the length.
                edits = round((1 - ratio / 100) * 2 * size)
                if 0 < edits <= 2 * wrong:
                    kept.append((edits, -size, subject))
        return [[*(ord(c) - _FIRST for c in s), self.end] for _, _, s in sorted(kept)[:limit]]
