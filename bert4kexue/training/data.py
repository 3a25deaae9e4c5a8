"""From rows to batches: padding, length buckets and the endless generator that `fit` reads.

`DataGenerator` keeps bert4keras's contract: subclass it, write `__iter__(self, random=False)`, hand
`forfit()` to `model.fit`. Three things are ours. Batches reach Keras 3 as tuples, never lists,
since Keras 3 takes a list for one structured input and refuses it; the first two batches differ in
the axes that vary (`varied_first`); and the shuffle takes a `seed`.

`bucketed_batches` saves padding: a batch holds rows of about one length and about
`tokens_per_batch` tokens, so a bucket of short rows simply holds more of them.

Axis letters: b batch, n sequence.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

__all__ = [
    "DataGenerator",
    "bucketed_batches",
    "endless_batches",
    "sequence_padding",
    "varied_first",
]


def sequence_padding(
    inputs: Sequence[Any],
    length: int | Sequence[int] | None = None,
    value: float = 0,
    seq_dims: int = 1,
    mode: Literal["post", "pre"] = "post",
) -> np.ndarray:
    """Stack sequences of different lengths into one array, padding or cutting each.

    Args:
        inputs: b sequences; with `seq_dims` above 1 each must be an array of at least that rank.
        length: the length of each of the first `seq_dims` axes; None takes the longest of the
            batch, one int serves every axis.
        value: what fills the padding.
        seq_dims: how many leading axes of each sequence vary.
        mode: pad after ("post") or before ("pre"). What is too long loses its tail in both.

    Returns:
        An array (b, n, ...) (for `seq_dims=1`) of the dtype of the inputs.

    Raises:
        ValueError: on an empty batch, an unknown mode or a `length` of the wrong size.
    """
    if mode not in ("post", "pre"):
        raise ValueError(f"mode must be 'post' or 'pre', got {mode!r}")
    arrays = [np.asarray(x) for x in inputs]
    if not arrays:
        raise ValueError("sequence_padding got no sequences: pass at least one")
    short = [a.shape for a in arrays if a.ndim < seq_dims]
    if short:
        raise ValueError(
            f"every sequence needs at least seq_dims={seq_dims} axes, got one of shape {short[0]}"
        )
    if length is None:
        sizes = [max(a.shape[axis] for a in arrays) for axis in range(seq_dims)]
    elif np.ndim(length) == 0:
        sizes = [int(length)] * seq_dims  # type: ignore[arg-type]
    else:
        sizes = [int(n) for n in length]  # type: ignore[union-attr]
        if len(sizes) != seq_dims:
            raise ValueError(f"length needs seq_dims={seq_dims} numbers, got {list(sizes)}")
    # An empty list has dtype float64; it must not turn a batch of ids into floats.
    filled = [a for a in arrays if a.size] or arrays
    batch = np.full(
        (len(arrays), *sizes, *filled[0].shape[seq_dims:]),
        value,
        dtype=np.result_type(*{a.dtype for a in filled}),
    )
    for row, array in zip(batch, arrays, strict=True):
        kept = [min(have, want) for have, want in zip(array.shape, sizes, strict=False)]
        source = tuple(slice(0, k) for k in kept)
        if mode == "post":
            target = source
        else:
            target = tuple(slice(n - k, n) for k, n in zip(kept, sizes, strict=True))
        row[target] = array[source]
    return batch


def bucketed_batches(
    lengths: Sequence[int] | np.ndarray,
    tokens_per_batch: int,
    multiple: int = 16,
    rng: np.random.Generator | None = None,
) -> list[np.ndarray]:
    """Group rows of similar length into batches: every row once, indices only.

    Row lengths are rounded up to a `multiple` (its bucket); a batch of bucket n holds at most
    `max(1, tokens_per_batch // n)` rows. With an `rng` the rows of a bucket and the order of the
    batches are shuffled; without one rows keep their order, shortest bucket first.

    Returns:
        A list of int64 arrays that together are a permutation of `range(len(lengths))`.

    Raises:
        ValueError: if `tokens_per_batch` or `multiple` is below 1, or a length is negative.
    """
    if tokens_per_batch < 1 or multiple < 1:
        raise ValueError(
            "tokens_per_batch and multiple must be at least 1, got "
            f"{tokens_per_batch} and {multiple}"
        )
    lengths = np.asarray(lengths, dtype=np.int64).reshape(-1)
    if lengths.size and lengths.min() < 0:
        raise ValueError(f"a row has a length of {lengths.min()}: lengths count tokens")
    buckets = np.maximum(1, -(-lengths // multiple)) * multiple
    batches: list[np.ndarray] = []
    for bucket in np.unique(buckets):
        rows = np.flatnonzero(buckets == bucket)
        if rng is not None:
            rng.shuffle(rows)
        size = max(1, tokens_per_batch // int(bucket))
        batches.extend(rows[start : start + size] for start in range(0, len(rows), size))
    if rng is not None:
        order = rng.permutation(len(batches))
        batches = [batches[i] for i in order]
    return batches


def endless_batches(
    lengths: Sequence[int] | np.ndarray,
    tokens_per_batch: int,
    rng: np.random.Generator,
    multiple: int = 16,
) -> Iterator[np.ndarray]:
    """Yield `bucketed_batches` epoch after epoch, drawn anew each time."""
    if not len(lengths):
        raise ValueError("there are no rows to draw batches from")
    while True:
        yield from bucketed_batches(lengths, tokens_per_batch, multiple, rng)


def varied_first(batches: Iterator[Any], among: int = 64) -> Iterator[Any]:
    """The same batches, two of the first `among` moved to the front so that they differ in size
    along every axis along which any of these do, if there are two such; the rest in their order.

    On TensorFlow `fit` learns from the first two batches of a generator which axes vary, and stops
    at a later batch of another size: length buckets and padding to the longest row of a batch meet
    that sooner or later.
    """
    held = list(itertools.islice(batches, among))
    sizes = [_sizes(batch) for batch in held]
    axes = range(len(sizes[0])) if len({len(one) for one in sizes}) == 1 else ()
    vary = [axis for axis in axes if len({one[axis] for one in sizes}) > 1]

    def differing(pair: tuple[int, int]) -> int:
        first, second = (sizes[i] for i in pair)
        return sum(first[axis] != second[axis] for axis in vary)

    if vary:
        best = max(itertools.combinations(range(len(held)), 2), key=differing)
        second, first = held.pop(best[1]), held.pop(best[0])
        held = [first, second, *held]
    yield from held
    yield from batches


def _sizes(batch: Any) -> tuple[int, ...]:
    """The sizes of all arrays of a batch along all axes but the first."""
    if isinstance(batch, dict):
        batch = [batch[key] for key in sorted(batch)]
    if isinstance(batch, list | tuple):
        return tuple(size for part in batch for size in _sizes(part))
    return np.shape(batch)[1:] if batch is not None else ()


class DataGenerator:
    """The base of a training script's data: subclass it and write `__iter__`.

    Args:
        data: the rows; anything iterable. With a length the generator knows its steps.
        batch_size: rows in a batch.
        buffer_size: rows held for shuffling where `data` has no length; 1,000 batches if None.
        seed: of the shuffle; None draws one from the operating system.

    Example:
        >>> class Generator(DataGenerator):
        ...     def __iter__(self, random=False):
        ...         rows = []
        ...         for is_end, row in self.sample(random):
        ...             rows.append(row)
        ...             if len(rows) == self.batch_size or is_end:
        ...                 yield [sequence_padding(rows)], None
        ...                 rows = []
        >>> [x[0].shape for x, _ in Generator([[1], [2, 3], [4]], batch_size=2)]
        [(2, 2), (1, 1)]
    """

    def __init__(
        self,
        data: Any,
        batch_size: int = 32,
        buffer_size: int | None = None,
        seed: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.data = data
        self.batch_size = batch_size
        self.steps = -(-len(data) // batch_size) if hasattr(data, "__len__") else None
        self.buffer_size = buffer_size or batch_size * 1000
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError(
                f"the data ({type(self.data).__name__}) has no length, so the number of steps is "
                "unknown: pass steps_per_epoch to fit yourself"
            )
        return self.steps

    def __bool__(self) -> bool:
        # Without this, truth would ask __len__, which data without a length cannot answer.
        return True

    def __iter__(self, random: bool = False) -> Iterator[Any]:
        """Yield batches `(x, y)`; the subclass writes this."""
        raise NotImplementedError(
            f"{type(self).__name__} must define __iter__(self, random=False) and yield batches"
        )

    def sample(self, random: bool = False) -> Iterator[tuple[bool, Any]]:
        """Yield `(is_end, row)`, `is_end` being true for the last row only."""
        rows = self._shuffled() if random else iter(self.data)
        try:
            held = next(rows)
        except StopIteration:
            return
        for row in rows:
            yield False, held
            held = row
        yield True, held

    def _shuffled(self) -> Iterator[Any]:
        if self.steps is not None:
            for i in self._rng.permutation(len(self.data)):
                yield self.data[int(i)]
            return
        held: list[Any] = []
        for row in self.data:
            held.append(row)
            if len(held) == self.buffer_size:
                yield self._pop_any(held)
        while held:
            yield self._pop_any(held)

    def _pop_any(self, held: list[Any]) -> Any:
        i = int(self._rng.integers(len(held)))
        held[i], held[-1] = held[-1], held[i]
        return held.pop()

    def forfit(self, random: bool = True) -> Iterator[Any]:
        """Yield batches for ever, as Keras 3's `fit` wants them: lists turned into tuples, two
        that differ first (`varied_first`)."""
        return varied_first(self._endless(random), min(self.steps or 64, 64))

    def _endless(self, random: bool) -> Iterator[Any]:
        while True:
            empty = True
            for batch in self.__iter__(random):
                empty = False
                yield _tuples(batch)
            if empty:
                raise ValueError("the data gave no batch: there is nothing to fit")

    def fortest(self, random: bool = False) -> Iterator[Any]:
        """Yield the inputs of each batch for ever, for `predict`."""
        for batch in self._endless(random):
            yield batch[0]

    def to_dataset(
        self, types: Any, shapes: Any, names: Any = None, padded_batch: bool = False
    ) -> Any:
        """Turn an `__iter__` that yields single rows into an endless `tf.data.Dataset`.

        Args:
            types: dtype per tensor, nested like a row: one, a tuple, or a tuple of tuples.
            shapes: shape per tensor, nested alike, without the batch axis; None where it varies.
            names: turns the row into dictionaries: one name, a tuple of names, or a tuple of
                tuples of names (inputs, outputs). A single named output becomes the bare tensor,
                since Keras 3 refuses a dictionary for a model with one output.
            padded_batch: pad the rows of a batch to one length instead of asking for equal ones.

        Returns:
            A `tf.data.Dataset` of batches of `batch_size`, shuffled by `random=True`.
        """
        import tensorflow as tf

        named = _tuples if names is None else _namer(names)

        def rows() -> Iterator[Any]:
            for row in self._endless(True):
                yield named(row)

        def spec(dtype: Any, shape: Sequence[int | None]) -> tf.TensorSpec:
            return tf.TensorSpec([None] * len(shape) if padded_batch else list(shape), dtype)

        signature = named(_alongside(spec, types, shapes))
        dataset = tf.data.Dataset.from_generator(rows, output_signature=signature)
        if padded_batch:
            padded = named(_alongside(lambda _, shape: tf.TensorShape(shape), types, shapes))
            return dataset.padded_batch(self.batch_size, padded)
        return dataset.batch(self.batch_size)


def _tuples(item: Any) -> Any:
    if isinstance(item, list | tuple):
        return tuple(_tuples(x) for x in item)
    return item


def _namer(names: Any) -> Callable[[Any], Any]:
    if isinstance(names, str):
        return lambda row: {names: row}
    if all(isinstance(name, str) for name in names):
        return lambda row: dict(zip(names, row, strict=True))

    def inputs_and_outputs(row: Any) -> Any:
        first, *rest = (
            dict(zip(group, part, strict=True)) for group, part in zip(names, row, strict=True)
        )
        return (first, *(next(iter(d.values())) if len(d) == 1 else d for d in rest))

    return inputs_and_outputs


def _alongside(build: Callable[[Any, Any], Any], types: Any, shapes: Any) -> Any:
    """`build(dtype, shape)` at every dtype of the nested `types`; a shape is itself a sequence."""
    if isinstance(types, list | tuple):
        return tuple(_alongside(build, t, s) for t, s in zip(types, shapes, strict=True))
    return build(types, shapes)
