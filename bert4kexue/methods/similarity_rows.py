"""The batches of SimBERT and its heirs: paraphrases both ways, labelled pairs, a sentence twice.

Objectives as :mod:`bert4kexue.training.objectives` describes them, for `Plan` and `PretrainingRun`.
A pair takes the rows 2i and 2i + 1 of a batch, so that the partner of row r is r ^ 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from bert4kexue.methods.similarity_labels import LABELS
from bert4kexue.methods.word_corruption import corrupt_words
from bert4kexue.training.objectives import AlikePairs, Batch
from bert4kexue.training.records import ID_MASK
from bert4kexue.training.special import Special

#: The most tokens of one side, [CLS] and [SEP] included.
SIDE = 64


class Sentences:
    """Sentences once each, by number: their text and their marked tokens.

    Args:
        texts: every sentence, repeated or not.
        tokens: the same sentences' tokens (see `tokens_by_word`).
    """

    def __init__(self, texts: Sequence[str], tokens: Sequence[np.ndarray]) -> None:
        if len(texts) != len(tokens):
            raise ValueError(f"{len(texts)} texts and {len(tokens)} rows of tokens: one for each")
        self.numbers: dict[str, int] = {}
        self.tokens: list[np.ndarray] = []
        for text, ids in zip(texts, tokens, strict=True):
            if text not in self.numbers:
                self.numbers[text] = len(self.numbers)
                self.tokens.append(np.asarray(ids, np.uint32))

    def number(self, text: str) -> int:
        """The sentence's number."""
        return self.numbers[text]


class TeacherVectors:
    """What a teacher says of each sentence, found by the sentence itself.

    Looked up by text, so that a teacher's rows cannot come in another order than the student's.

    Args:
        texts: clean sentences, as the teacher's own tokenizer read them.
        vectors: (sentences, d) of the teacher, of any length and width.

    Raises:
        ValueError: not one vector a sentence, or vectors that are not finite.
    """

    def __init__(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ValueError(
                f"the teacher gives one vector a sentence, (sentences, d); got {vectors.shape} for "
                f"{len(texts)} sentences: encode the same list with it"
            )
        if not np.isfinite(vectors).all():
            raise ValueError("the teacher's vectors hold NaN or infinity: its cosines mean nothing")
        norms = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
        self.vectors = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
        self._rows = {text: row for row, text in enumerate(texts)}

    def rows(self, texts: Iterable[str]) -> np.ndarray:
        """Row numbers of these sentences.

        Raises:
            ValueError: the teacher has not read one of them.
        """
        try:
            return np.array([self._rows[text] for text in texts], np.int64)
        except KeyError as error:
            raise ValueError(
                f"the teacher has not read {error.args[0]!r:.80}: encode every sentence of the "
                "pairs with it, each as the student sees it"
            ) from None


class ParaphraseRows:
    """`[CLS] a [SEP] b [SEP]` and `[CLS] b [SEP] a [SEP]` of each pair: stages 1 and 2.

    Args:
        pairs: sentences that mean the same. A pair of a sentence with itself teaches neither
            writing nor finding: it is left out, with a warning.
        sentences: the tokens of all of them.
        special: ids.
        teacher: for stage 2; None for the contrast of stage 1.
        corrupted: the probability of a source to be corrupted by whole words.
        rate: of a word, then.
        side: the most tokens of one side, [CLS] and [SEP] included; the longer side of a row is cut
            first where both do not fit.

    Raises:
        ValueError: no pair is left, a sentence without tokens, a teacher that has not read one.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        sentences: Sentences,
        special: Special,
        *,
        teacher: TeacherVectors | None = None,
        corrupted: float = 0.5,
        rate: float = 0.15,
        side: int = SIDE,
    ) -> None:
        if not 0 <= corrupted <= 1:
            raise ValueError(f"corrupted is a probability, 0 to 1; got {corrupted}")
        if side < 3:
            raise ValueError(f"side={side} leaves no room between [CLS] and [SEP]: 3 at least")
        kept = [(a, b) for a, b in pairs if a != b]
        self.dropped = len(pairs) - len(kept)
        if self.dropped:
            warnings.warn(
                f"{self.dropped} of {len(pairs)} pairs are of a sentence with itself and are left "
                "out: such a pair has nothing to write and nothing to find",
                stacklevel=2,
            )
        if not kept:
            raise ValueError("there is no pair of two different sentences: nothing to train on")
        self.special, self.rate, self.corrupted = special, rate, corrupted
        self.room = side - 2
        self.tokens = sentences.tokens
        self.numbers = np.array([[sentences.number(x) for x in pair] for pair in kept], np.int64)
        self._teacher = teacher
        if teacher is not None:
            flat = teacher.rows(x for pair in kept for x in pair)
            self._teacher_rows = flat.reshape(-1, 2)

    def lengths(self) -> np.ndarray:
        """Twice a row's, since a pair takes two rows, so that batches are as full."""
        sizes = np.array([min(len(ids), self.room) for ids in self.tokens])
        return 2 * (sizes[self.numbers].sum(1) + 3)

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Pairs of these numbers as rows; places, labels and weights ask for the targets.

        Raises:
            ValueError: the contrast with room for one pair only: it would always be 0.
        """
        if self._teacher is None and shape[0] < 2:
            raise ValueError(
                f"a batch of {2 * shape[0]} rows holds one pair, and the contrast has nothing to "
                "hold it against (it is always 0): let a batch take more tokens, or shorten `side`"
            )
        b, n = 2 * shape[0], shape[1] // 2
        m = min(n, -(-(self.room + 1) // 16) * 16)
        token_ids, segment_ids = np.zeros((b, n), np.int32), np.zeros((b, n), np.int32)
        positions, labels = np.zeros((b, m), np.int32), np.zeros((b, m), np.int32)
        weights, pair_weights = np.zeros((b, m), np.float32), np.zeros(b, np.float32)
        numbers = np.full(b, -1, np.int32)
        for i, pair in enumerate(rows):
            both = self.numbers[int(pair)]
            for line, (source, target) in ((2 * i, both), (2 * i + 1, both[::-1])):
                numbers[line] = source
                first, second = self._cut(self.tokens[source], self.tokens[target], n)
                if self.corrupted and rng.random() < self.corrupted:
                    written = corrupt_words(first, self.special, rng, self.rate)
                else:
                    written = first & ID_MASK
                asked = [*(second & ID_MASK), self.special.end]
                begin = len(first) + 2
                stop = begin + len(asked)
                token_ids[line, :stop] = [self.special.start, *written, self.special.end, *asked]
                segment_ids[line, begin:stop] = 1
                positions[line, : len(asked)] = np.arange(begin - 1, stop - 1)
                labels[line, : len(asked)] = asked
                weights[line, : len(asked)] = 1
                pair_weights[line] = 1
        made = {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "positions": positions,
            "labels": labels,
            "weights": weights,
            "pair_weights": pair_weights,
        }
        if self._teacher is None:
            return {**made, "sentences": numbers}
        vectors = np.zeros((b, self._teacher.vectors.shape[1]), np.float32)
        vectors[: 2 * len(rows)] = self._teacher.vectors[self._teacher_rows[rows].reshape(-1)]
        return {**made, "teacher_cosines": vectors @ vectors.T}

    def _cut(self, a: np.ndarray, b: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
        a, b = a[: self.room], b[: self.room]
        while len(a) + len(b) + 3 > n:
            a, b = (a[:-1], b) if len(a) > len(b) else (a, b[:-1])
        return a, b


class LabelledPairs:
    """Pairs with a label of `LABELS`, for the supervised head.

    Args:
        pairs: two sentences each.
        labels: numbers of `similarity_labels.LABELS`.
        sentences: the tokens of all of them.
        special: ids.
        side: the most tokens of a sentence, [CLS] and [SEP] included.

    Raises:
        ValueError: no pair, or a label that is none.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        labels: Sequence[int],
        sentences: Sentences,
        special: Special,
        side: int = SIDE,
    ) -> None:
        if not pairs or len(pairs) != len(labels):
            raise ValueError(f"one label a pair, one pair at least: {len(pairs)}, {len(labels)}")
        wrong = [x for x in labels if x not in LABELS.values()]
        if wrong:
            raise ValueError(f"label {wrong[0]!r} is none of {LABELS}")
        ids = [(sentences.tokens[sentences.number(x)] & ID_MASK).tolist() for p in pairs for x in p]
        rows = [(a[: side - 2], b[: side - 2]) for a, b in zip(ids[::2], ids[1::2], strict=True)]
        self._rows = AlikePairs(rows, special)
        self.labels = np.asarray(labels, np.int32)

    def lengths(self) -> np.ndarray:
        """Twice the longer sentence's, which its partner is padded to."""
        return self._rows.lengths()

    def batch(self, rows: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> Batch:
        """Rows 2i and 2i + 1 are a pair; `pair_labels` has one number for both."""
        labels = np.zeros(shape[0], np.int32)
        labels[: len(rows)] = self.labels[rows]
        return {**self._rows.batch(rows, shape, rng), "pair_labels": labels}


def same_sentences(
    sentences: Sentences, special: Special, *, dropout: float, side: int = SIDE
) -> AlikePairs:
    """Every sentence beside itself: SimCSE.

    Args:
        sentences: what to train on.
        special: ids.
        dropout: of the model: without it both rows are the same, and nothing is learned.
        side: the most tokens of a sentence, [CLS] and [SEP] included.

    Raises:
        ValueError: the dropout is 0.
    """
    if not dropout > 0:
        raise ValueError(
            "SimCSE needs dropout, the only difference between a sentence and its partner: train "
            "with 0.1 to 0.3"
        )
    rows = [(ids[: side - 2] & ID_MASK).tolist() for ids in sentences.tokens if len(ids)]
    return AlikePairs([(ids, ids) for ids in rows], special)
