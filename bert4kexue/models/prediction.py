"""Prediction over many sentences of different lengths, without computing their padding.

Sentences are sorted by length, cut into batches of about equally many tokens and nearly equal
lengths, each padded to its own longest, and the answers put back into the order of the sentences.

What was measured, and is the default (`benchmarks/bench_predict.py`, `bench_forward.py`):

* Dynamic shapes wherever the backend has them: one compiled function serves every length. Where
  each shape is compiled anew (JAX, or XLA asked for), lengths are rounded up by a quarter at most
  and batches that are not full have a power of two of rows, so that the shapes are few: for 4,000
  questions 15, for as many reviews 20.
* On TensorFlow XLA is used where it is asked for only: BERT-base takes an eighth less time with it
  for 8 x 128 or 1 x 512 tokens, none less for 1 x 32, and it takes seconds for every shape.
* With XLA and :meth:`SortedPredictor.pack` batches of up to 128 tokens take about three quarters
  of the time without either. It costs the memory of the kernels, so it too is asked for.
* bfloat16 is a matter of the model's dtype policy: build the model under ``mixed_bfloat16`` where
  the processor multiplies it.

Axis letters: N sentences, b batch, n sequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from bert4kexue.layers.projections import PackedProjections, projecting
from bert4kexue.ops.products import MORE_ROWS

Ids = Sequence[Sequence[int]] | np.ndarray

ALIKE = 0.8
"""Rows of a batch have this share of its width at least; shorter ones are left to the next."""


class Batch(NamedTuple):
    """Rows that run together: their numbers, and the shape they are padded to."""

    rows: np.ndarray
    shape: tuple[int, int]


class SortedPredictor:
    """Predicts with a model of ids, sentences sorted by length.

    Args:
        model: a functional model of Input-Token and perhaps Input-Segment and Input-Position,
            (b, n) each. It is left as it is; its weights are shared.
        tokens_per_batch: about so many tokens run together, padding included.
        jit_compile: compile every shape with XLA: worth it for many batches of few lengths, or on a
            GPU.
        multiple: lengths are rounded up to it. None leaves them as they are, or where every shape
            is compiled anew rounds to an eighth of the next power of two.

    Raises:
        ValueError: the model does not take one to three inputs of ids (b, n), or a number is below
            1.

    Example::

        predictor = SortedPredictor(build_transformer_model(folder, with_pool="linear"))
        vectors = predictor.predict(tokenizer.encode_batch(sentences).token_ids)  # (N, H)

    One sentence at a time, as a service gets them::

        predictor = SortedPredictor(model, jit_compile=True)
        predictor.pack()
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        tokens_per_batch: int = 4096,
        jit_compile: bool = False,
        multiple: int | None = None,
    ) -> None:
        inputs = getattr(model, "inputs", None)
        if not inputs or len(inputs) > 3 or any(len(x.shape) != 2 for x in inputs):
            raise ValueError(
                "SortedPredictor takes a model of token ids (b, n) and perhaps segment ids and "
                f"position ids (b, n); got inputs {[tuple(x.shape) for x in inputs or []]}"
            )
        self.static = jit_compile or keras.backend.backend() == "jax"
        if tokens_per_batch < 1 or (multiple is not None and multiple < 1):
            raise ValueError(
                "tokens_per_batch and multiple must be 1 or more, got "
                f"{tokens_per_batch} and {multiple}"
            )
        self.tokens_per_batch, self.multiple = tokens_per_batch, multiple
        # A model of its own around the same layers: compiling it leaves the user's alone.
        self._model = keras.Model(inputs if len(inputs) > 1 else inputs[0], model.outputs)
        self._model.compile(jit_compile=jit_compile)
        self._short: _Short | None = None

    def pack(self) -> None:
        """Hold the kernels a second time, turned for batches of up to 128 tokens; again after the
        model's weights change.

        Worth it with XLA, for layers of BERT-base's width. Layers without ``projections()`` and
        quantized ones stay as they are.
        """
        if self._short is None:
            self._short = _Short(self._model, jit_compile=self._model.jit_compile)
        else:
            self._short.packed.update()

    def plan(
        self, lengths: Sequence[int] | np.ndarray, rows_per_batch: int | None = None
    ) -> list[Batch]:
        """The batches for rows of these lengths, longest first: every row in one of them.

        The longest come first, so that too little memory shows at once. No batch has more than
        `rows_per_batch` rows where that is given, nor rows much shorter than its width (`ALIKE`).
        Where every shape is compiled anew, a batch that is not full has a power of two of rows: the
        next one, filled up from shorter rows, if three quarters are there, else the one before.
        """
        lengths = np.maximum(1, np.asarray(lengths, np.int64))
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
        widths = self._widths(lengths)
        batches = []
        start = 0
        while start < len(order):
            width = int(widths[start])
            most = max(1, self.tokens_per_batch // width)
            most = min(most, rows_per_batch or most)
            alike = (widths == width) | (lengths >= ALIKE * width)
            height = min(most, int(alike[start : start + most].sum()))
            if self.static and height < most:
                power = 1 << (height - 1).bit_length()
                height = min(most, power) if height >= 0.75 * power else power // 2
            rows = order[start : start + height]
            batches.append(Batch(rows, (height, width)))
            start += len(rows)
        return batches

    def _widths(self, lengths: np.ndarray) -> np.ndarray:
        """Lengths as they are padded."""
        if self.multiple is None and not self.static:
            return lengths
        powers = np.ceil(np.log2(lengths)).astype(np.int64)
        steps = 2 ** np.maximum(1, powers - 3) if self.multiple is None else self.multiple
        return -(-lengths // steps) * steps

    def compile(self, lengths: Sequence[int] | np.ndarray) -> float:
        """Run one empty batch of every shape that rows of these lengths, predicted together, need;
        seconds it took.

        Prediction does it by itself. Call it to have the time apart, or before serving.
        """
        begun = time.perf_counter()
        shapes = list(dict.fromkeys(batch.shape for batch in self.plan(lengths)))
        for shape in shapes if self.static else shapes[:3]:
            self._run(np.ones(shape, np.int32))
        return time.perf_counter() - begun

    def predict(
        self,
        token_ids: Ids,
        segment_ids: Ids | None = None,
        *,
        position_ids: Ids | None = None,
        rows_per_batch: int | None = None,
        progress: Callable[[Iterable[Batch]], Iterable[Batch]] | None = None,
    ) -> Any:
        """Predict, in the order of the rows.

        Args:
            token_ids: N rows of ids, as lists or as one array (N, n) padded with 0 at the end.
            segment_ids: N rows of the same lengths, or an array of the same shape; None for a model
                without them or for all 0.
            position_ids: likewise, for a model with custom positions; None for 0, 1, 2, ...
            rows_per_batch: the most rows of a batch; None for as many as its tokens allow.
            progress: wraps the list of batches while it is run through; `tqdm.tqdm`, say.

        Returns:
            What the model gives: (N, ...) for an output without a sequence axis; for one of shape
            (b, n, ...), a list of N arrays cut to their rows' lengths. A list of these where the
            model has several outputs.

        Raises:
            ValueError: no rows, or segments or positions of another length than their tokens.
        """
        rows, lengths = _rows(token_ids)
        more = [
            None if ids is None else _beside(ids, lengths, name)
            for ids, name in ((segment_ids, "segment"), (position_ids, "position"))
        ]
        batches = self.plan(lengths, rows_per_batch)
        found: list[list[Any]] = [[None] * len(rows) for _ in self._model.outputs]
        sequences = [len(x.shape) > 1 and x.shape[1] is None for x in self._model.outputs]
        for batch in batches if progress is None else progress(batches):
            padded = [None if ids is None else _padded(ids, batch) for ids in more]
            outputs = self._run(_padded(rows, batch), *padded)
            for kept, output, is_sequence in zip(
                found, outputs if isinstance(outputs, list) else [outputs], sequences, strict=True
            ):
                for row, value in zip(batch.rows, np.asarray(output), strict=False):
                    # A copy: a slice would keep the whole padded batch alive.
                    kept[row] = value[: lengths[row]].copy() if is_sequence else value
        results = [
            kept if is_sequence else np.stack(kept)
            for kept, is_sequence in zip(found, sequences, strict=True)
        ]
        return results if len(results) > 1 else results[0]

    def _run(self, token_ids: np.ndarray, *more: np.ndarray | None) -> Any:
        short = self._short is not None and token_ids.size <= MORE_ROWS
        model = self._short if short else self._model
        return model.predict_on_batch(self._inputs(token_ids, *more))  # type: ignore[union-attr]

    def _inputs(
        self,
        token_ids: np.ndarray,
        segment_ids: np.ndarray | None = None,
        position_ids: np.ndarray | None = None,
    ) -> Any:
        count = len(self._model.inputs)
        if count == 1:
            return token_ids
        if segment_ids is None:
            segment_ids = np.zeros_like(token_ids)
        if position_ids is None:
            position_ids = np.broadcast_to(np.arange(token_ids.shape[1]), token_ids.shape)
        return [token_ids, segment_ids, position_ids][:count]


class _Short(keras.Model):
    """A model by packed kernels: for batches of few tokens, the shape of which it need not know."""

    def __init__(self, body: keras.Model, jit_compile: bool) -> None:
        super().__init__(name="short_batches")
        self.body = body
        self.packed = PackedProjections.of_layers(body._flatten_layers(include_self=False))
        self.copies = self.packed.variables  # Keras finds them here
        self.compile(jit_compile=jit_compile)

    def call(self, inputs: Any) -> Any:
        with projecting(self.packed, MORE_ROWS):
            return self.body(inputs, training=False)


def _rows(token_ids: Ids) -> tuple[Ids, np.ndarray]:
    if not len(token_ids):
        raise ValueError("there is nothing to predict: token_ids has no rows")
    if isinstance(token_ids, np.ndarray) and token_ids.ndim == 2:
        # Padding is what follows the last id that is not 0; a 0 in between is somebody's token.
        real = token_ids[:, ::-1] != 0
        lengths = np.where(real.any(axis=1), token_ids.shape[1] - real.argmax(axis=1), 1)
        return token_ids, np.minimum(lengths, token_ids.shape[1])
    return token_ids, np.array([len(row) for row in token_ids])


def _beside(ids: Ids, lengths: np.ndarray, name: str) -> Ids:
    if len(ids) != len(lengths):
        raise ValueError(f"{len(lengths)} rows of token_ids and {len(ids)} of {name}_ids")
    short = [i for i, n in enumerate(lengths) if len(ids[i]) < n]
    if short:
        i = short[0]
        raise ValueError(
            f"row {i} has {lengths[i]} tokens and {len(ids[i])} {name} ids: one a token"
        )
    return ids


def _padded(rows: Any, batch: Batch) -> np.ndarray:
    height, width = batch.shape
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        values = rows[batch.rows, :width].astype(np.int32)
        return np.pad(values, ((0, height - len(values)), (0, width - values.shape[1])))
    padded = np.zeros((height, width), np.int32)
    for line, row in zip(padded, batch.rows, strict=False):
        values = rows[row][:width]
        line[: len(values)] = values
    return padded
