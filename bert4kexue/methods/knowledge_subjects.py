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

    Each subject is held as a string with one character for a token: about 100 bytes a subject.

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
        self.texts: list[str] = []
        nodes, texts = np.array([tree.root]), [""]
        while len(nodes):
            counts, tokens, below = tree.children(nodes)
            parents = np.repeat(np.arange(len(nodes)), counts)
            ends = tokens == end
            self.texts += [texts[parent] for parent in parents[ends].tolist()]
            inner = ~ends
            pairs = zip(parents[inner].tolist(), tokens[inner].tolist(), strict=True)
            texts = [texts[parent] + chr(_FIRST + token) for parent, token in pairs]
            nodes = below[inner]

    def similar(self, question: Sequence[int], limit: int = 16) -> list[list[int]]:
        """The subjects nearest to a span of the question, the fewest edits first, with [SEP].

        One substitution, insertion or omission is allowed in 3 to 5 tokens, two of them in more,
        none in fewer.

        Args:
            question: token ids without special tokens.
            limit: the most subjects.
        """
        from rapidfuzz import fuzz, process

        text = "".join(chr(_FIRST + token) for token in question)
        found = process.extract(
            text, self.texts, scorer=fuzz.partial_ratio, limit=8 * limit, score_cutoff=60
        )
        kept = []
        for subject, ratio, _ in found:
            size = len(subject)
            if size <= len(text):
                # The ratio counts a substitution as two edits, of twice the length.
                edits = round((1 - ratio / 100) * 2 * size)
                if edits <= (0 if size < 3 else 2 if size < 6 else 4):
                    kept.append((edits, -size, subject))
        return [[*(ord(c) - _FIRST for c in s), self.end] for _, _, s in sorted(kept)[:limit]]
