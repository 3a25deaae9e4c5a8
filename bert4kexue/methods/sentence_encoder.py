"""Sentences to vectors: sorted by length, long texts in pieces, several threads at once.

    encoder = SentenceEncoder.load("pretrained/roformer_tiny_zh")
    vectors = encoder.encode(sentences)                  # (n, 256) float32, of length one
    encoder.similarity("怎么开机", "如何启动电脑")

A text of more tokens than `maxlen` is cut into pieces of about equal length, whose vectors are
averaged by their tokens: nothing is left out without being asked for (`long="cut"`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np

from bert4kexue.checkpoints.places import checkpoint_folder
from bert4kexue.layers import FirstToken, GlobalAveragePooling1D
from bert4kexue.methods.vector_codes import Precision, check_precision, encoded, truncated, unit
from bert4kexue.models.factory import build_transformer_model
from bert4kexue.models.first_token import first_token_model
from bert4kexue.models.inspection import inspect_checkpoint
from bert4kexue.models.prediction import Batch, SortedPredictor
from bert4kexue.text.vocab import load_vocab
from bert4kexue.text.wordpiece import Tokenizer

Pooling = Literal["pooler", "cls", "mean"]
Long = Literal["pool", "cut", "refuse"]
_BLOCK = 1024  # texts tokenized together, of about one length


class SentenceEncoder:
    """A model and its tokenizer, as one function from sentences to vectors.

    Safe to call from several threads: each call gives what it gives alone.

    Args:
        model: of token ids and perhaps segment ids; its first output is the vector, (b, H).
        tokenizer: with the model's vocabulary.
        maxlen: the most tokens the model reads at once, [CLS] and [SEP] included.
        long: what becomes of longer texts: 'pool' averages their pieces, 'cut' reads the beginning,
            'refuse' raises.
        tokens_per_batch: about so many tokens run together, padding included.

    Raises:
        ValueError: the model's first output is no vector, or `maxlen` leaves no room.
    """

    def __init__(
        self,
        model: keras.Model,
        tokenizer: Any,
        *,
        maxlen: int = 128,
        long: Long = "pool",
        tokens_per_batch: int = 4096,
    ) -> None:
        vector = model.outputs[0]
        if len(vector.shape) != 2:
            raise ValueError(
                f"the model's first output has shape {tuple(vector.shape)}, not (b, H): build it "
                "with with_pool='linear', or use SentenceEncoder.load"
            )
        if maxlen < 3:
            raise ValueError(f"maxlen={maxlen} leaves no room between [CLS] and [SEP]: 3 at least")
        if long not in get_args(Long):
            raise ValueError(f"long={long!r}: choose one of {', '.join(get_args(Long))}")
        self.tokenizer, self.maxlen, self.long = tokenizer, maxlen, long
        self.dimensions: int = vector.shape[-1]
        # The vector alone: a head of tokens beside it would cost more than the rest, and of [CLS]
        # the last block need not be computed for the other tokens.
        self._predictor = SortedPredictor(
            first_token_model(keras.Model(model.inputs, vector)), tokens_per_batch=tokens_per_batch
        )
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        family: str | None = None,
        pooling: Pooling = "pooler",
        **options: Any,
    ) -> SentenceEncoder:
        """From a folder in the original layout, its archive, or a name in `pretrained/`.

        Args:
            folder: see `build_transformer_model`.
            family: 'bert' or 'roformer'; told by the checkpoint's variables when None.
            pooling: 'pooler', the linear layer on [CLS] that SimBERT and its heirs are trained
                with; 'cls', what it reads; 'mean' of the last layer's tokens.
            **options: see the class.

        Raises:
            ValueError: an unknown pooling, or no checkpoint that can be built.
        """
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling={pooling!r}: choose one of {', '.join(get_args(Pooling))}")
        with checkpoint_folder(folder) as found:
            family = family or inspect_checkpoint(found).model
            if family is None:
                raise ValueError(
                    f"{folder} is no checkpoint that can be built; `bert4kexue inspect` tells why"
                )
            head: dict[str, Any] = {"with_pool": "linear"} if pooling == "pooler" else {}
            model = build_transformer_model(found, model=family, **head)
            vocabulary = load_vocab(found / "vocab.txt")
        if pooling == "cls":
            model = keras.Model(model.inputs, FirstToken()(model.outputs[0]))
        elif pooling == "mean":
            model = keras.Model(model.inputs, GlobalAveragePooling1D()(model.outputs[0]))
        cased = any(
            len(t) > 1 and t.isascii() and t.isalpha() and t != t.lower() for t in vocabulary
        )
        return cls(model, Tokenizer(vocabulary, do_lower_case=not cased), **options)

    def encode(
        self,
        texts: Sequence[str],
        batch_size: int | None = None,
        show_progress: bool = False,
        normalize: bool = True,
        *,
        precision: Precision = "float32",
        dimensions: int | None = None,
    ) -> np.ndarray:
        """Vectors in the order of the texts.

        Args:
            texts: strings; an empty one is `[CLS] [SEP]` to the model.
            batch_size: the most sentences run together; None for as many as
                `tokens_per_batch` allows, which is faster.
            show_progress: a line on standard error.
            normalize: to length one, so that dot products are cosines.
            precision: 'float32', 'float16', 'int8' or 'binary' (see `vector_codes`).
            dimensions: keep the first so many.

        Returns:
            (texts, d), d / 8 bytes a text for 'binary'.

        Raises:
            ValueError: one string in the place of a list, an item that is no string, a text that is
                too long where `long="refuse"`, or an option that cannot be.
        """
        if isinstance(texts, str):
            raise ValueError("encode takes a list of sentences, got one string: pass [sentence]")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        texts = list(texts)
        wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise ValueError(f"texts[{wrong}] is no string: {texts[wrong]!r:.60}")
        empty = np.zeros((0, self.dimensions), np.float32)
        check_precision(precision, truncated(empty, dimensions).shape[1])
        if not texts:
            return encoded(truncated(empty, dimensions), precision)
        rows, owners = self._pieces(texts)
        with self._lock:
            pieces = self._predictor.predict(
                rows,
                rows_per_batch=batch_size,
                progress=_told(len(rows)) if show_progress else None,
            )
        vectors = truncated(self._pooled(pieces, rows, owners, len(texts), normalize), dimensions)
        return encoded(unit(vectors) if normalize else vectors, precision)

    def similarity(self, a: str | Sequence[str], b: str | Sequence[str]) -> Any:
        """Cosines: a number for two strings, (a,) or (b,) for one, (a, b) for two lists."""
        one, other = ([x] if isinstance(x, str) else list(x) for x in (a, b))
        texts = list(dict.fromkeys([*one, *other]))
        row = {text: i for i, text in enumerate(texts)}
        vectors = self.encode(texts)
        found = vectors[[row[x] for x in one]] @ vectors[[row[x] for x in other]].T
        found = np.clip(found, -1.0, 1.0)
        found = found[0] if isinstance(a, str) else found
        if isinstance(b, str):
            found = found[..., 0]
        return float(found) if np.ndim(found) == 0 else found

    # --- long texts -------------------------------------------------------------------------------

    def _pieces(self, texts: list[str]) -> tuple[list[Any], np.ndarray]:
        """Rows of ids with their frames, and the text of each; texts in order."""
        found: list[list[np.ndarray]] = [[] for _ in texts]
        # Of about one length: one long text must not widen a thousand short ones.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _BLOCK):
            block = order[start : start + _BLOCK]
            ids = self.tokenizer.encode_batch([texts[i] for i in block]).token_ids
            lengths = ids.shape[1] - np.argmax(ids[:, ::-1] != 0, axis=1)
            for i, row, length in zip(block, ids, lengths, strict=True):
                found[i] = self._cut(row[:length], i)
        rows = [row for rows in found for row in rows]
        return rows, np.repeat(np.arange(len(texts)), [len(rows) for rows in found])

    def _cut(self, row: np.ndarray, number: int) -> list[np.ndarray]:
        if len(row) <= self.maxlen:
            return [row]
        if self.long == "refuse":
            raise ValueError(
                f"text {number} has {len(row)} tokens and maxlen is {self.maxlen}: raise it, or "
                "let long='pool' average the pieces of long texts"
            )
        start, inner, end = row[:1], row[1:-1], row[-1:]
        room = self.maxlen - 2
        if self.long == "cut":
            return [np.concatenate([start, inner[:room], end])]
        parts = np.array_split(inner, -(-len(inner) // room))
        return [np.concatenate([start, part, end]) for part in parts]

    def _pooled(
        self,
        pieces: np.ndarray,
        rows: list[np.ndarray],
        owners: np.ndarray,
        count: int,
        normalize: bool,
    ) -> np.ndarray:
        pieces = np.asarray(pieces, np.float32)
        if len(pieces) == count:
            return pieces
        weights = np.array([max(1, len(row) - 2) for row in rows], np.float32)
        total = np.zeros(count, np.float32)
        np.add.at(total, owners, weights)
        vectors = np.zeros((count, pieces.shape[1]), np.float32)
        shares = (weights / total[owners])[:, None]
        np.add.at(vectors, owners, shares * (unit(pieces) if normalize else pieces))
        return vectors


def _told(rows: int) -> Callable[[Iterable[Batch]], Iterator[Batch]]:
    """Says on standard error how many rows are done."""

    def watched(batches: Iterable[Batch]) -> Iterator[Batch]:
        done = 0
        for batch in batches:
            yield batch
            done += len(batch.rows)
            print(f"\rencoded {done} of {rows}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)

    return watched
