"""The laws of padding, of buckets and of the generator that `fit` reads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.training import DataGenerator, bucketed_batches, endless_batches, sequence_padding
from bert4kexue.training.data import varied_first

rows_of_ids = st.lists(st.lists(st.integers(1, 99), max_size=9), min_size=1, max_size=6)


@settings(deadline=None)
@given(rows_of_ids, st.one_of(st.none(), st.integers(0, 12)), st.sampled_from(["post", "pre"]))
def test_padding_keeps_the_head_of_every_row_and_fills_the_rest(rows, length, mode):
    batch = sequence_padding(rows, length=length, value=-1, mode=mode)
    n = max(map(len, rows)) if length is None else length
    assert batch.shape == (len(rows), n)
    for row, padded in zip(rows, batch.tolist(), strict=True):
        kept = row[:n]
        filling = [-1] * (n - len(kept))
        assert padded == (kept + filling if mode == "post" else filling + kept)


def test_padding_of_ids_stays_integer_beside_an_empty_row():
    assert sequence_padding([[], [3, 4]]).dtype.kind == "i"


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5),
    st.sampled_from(["post", "pre"]),
)
def test_padding_two_axes_keeps_trailing_axes_whole(shapes, mode):
    arrays = [np.arange(a * b * 2).reshape(a, b, 2) + 1 for a, b in shapes]
    batch = sequence_padding(arrays, seq_dims=2, mode=mode)
    high, wide = max(a for a, _ in shapes), max(b for _, b in shapes)
    assert batch.shape == (len(arrays), high, wide, 2)
    for array, padded in zip(arrays, batch, strict=True):
        a, b = array.shape[:2]
        top, left = (0, 0) if mode == "post" else (high - a, wide - b)
        np.testing.assert_array_equal(padded[top : top + a, left : left + b], array)
        assert np.count_nonzero(padded) == array.size


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"inputs": []}, "no sequences"),
        ({"inputs": [[1]], "mode": "middle"}, "'post' or 'pre'"),
        ({"inputs": [[1]], "seq_dims": 2}, "at least seq_dims=2"),
        ({"inputs": [[[1]]], "seq_dims": 2, "length": [3]}, "needs seq_dims=2 numbers"),
    ],
)
def test_padding_refuses_what_it_cannot_stack(arguments, words):
    with pytest.raises(ValueError, match=words):
        sequence_padding(**arguments)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 100), max_size=60),
    st.integers(1, 400),
    st.integers(1, 40),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_buckets_hold_every_row_once_and_mix_no_lengths(lengths, tokens, multiple, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    batches = bucketed_batches(lengths, tokens, multiple, rng)
    assert sorted(itertools.chain.from_iterable(b.tolist() for b in batches)) == list(
        range(len(lengths))
    )
    for batch in batches:
        longest = max(1, max(lengths[i] for i in batch))
        shortest = max(1, min(lengths[i] for i in batch))
        bucket = (longest + multiple - 1) // multiple * multiple
        assert bucket - shortest < multiple
        assert len(batch) == 1 or len(batch) * bucket <= tokens


def test_a_seed_fixes_the_batches_and_epochs_differ():
    lengths = np.arange(200) % 50
    first = endless_batches(lengths, 320, np.random.default_rng(1))
    again = endless_batches(lengths, 320, np.random.default_rng(1))
    count = len(bucketed_batches(lengths, 320))
    epochs = [[next(first).tolist() for _ in range(count)] for _ in range(2)]
    assert epochs[0] == [next(again).tolist() for _ in range(count)]
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert sorted(itertools.chain.from_iterable(epoch)) == list(range(200))


def test_buckets_refuse_numbers_that_cannot_be():
    with pytest.raises(ValueError, match="at least 1"):
        bucketed_batches([1], 0)
    with pytest.raises(ValueError, match="-3"):
        bucketed_batches([-3], 10)
    with pytest.raises(ValueError, match="no rows"):
        next(endless_batches([], 10, np.random.default_rng(0)))


class Pairs(DataGenerator):
    """Yields lists, as bert4keras's scripts do."""

    def __iter__(self, random=False):
        held = []
        for is_end, row in self.sample(random):
            held.append(row)
            if len(held) == self.batch_size or is_end:
                yield [sequence_padding(held), sequence_padding(held)], np.array(held)[:, :1]
                held = []


@settings(deadline=None)
@given(st.lists(st.integers(), max_size=30), st.integers(1, 7), st.booleans(), st.integers(0, 3))
def test_sample_gives_every_row_once_and_marks_the_last(data, buffer, sized, seed):
    source = data if sized else iter(list(data))
    generator = DataGenerator(source, buffer_size=buffer, seed=seed)
    pairs = list(generator.sample(random=True))
    assert sorted(row for _, row in pairs) == sorted(data)
    assert [end for end, _ in pairs] == [False] * (len(data) - 1) + [True] * bool(data)
    if sized:
        assert [row for _, row in DataGenerator(data).sample()] == data


def test_shuffle_depends_on_the_seed_alone_and_changes_by_epoch():
    def epochs(seed):
        generator = DataGenerator(range(50), seed=seed)
        return [[row for _, row in generator.sample(random=True)] for _ in range(2)]

    assert epochs(1) == epochs(1)
    assert epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]
    unsized = DataGenerator(iter(range(50)), buffer_size=10, seed=1).sample(random=True)
    order = [row for _, row in unsized]
    assert any(late < early for early, late in itertools.pairwise(order[:10]))
    assert order.index(49) >= 40, "a row cannot come before it was read"


def test_forfit_repeats_and_turns_lists_into_tuples():
    generator = Pairs([[1], [2], [3]], batch_size=2)
    assert len(generator) == 2
    batches = list(itertools.islice(generator.forfit(random=False), 4))
    assert all(type(b) is tuple and type(b[0]) is tuple for b in batches)
    assert [b[1].tolist() for b in batches] == [[[1], [2]], [[3]]] * 2
    inputs = next(generator.fortest())
    assert type(inputs) is tuple
    assert inputs[0].tolist() == [[1], [2]]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=9))
def test_the_first_two_batches_differ_where_any_do(sizes):
    given = [(np.full((2, n), i), (np.zeros((1, 7)), np.zeros((2, m)))) for i, (n, m) in
             enumerate(sizes)]  # fmt: skip
    found = list(varied_first(iter(given), among=6))
    numbers = [int(x[0, 0]) for x, _ in found]
    assert sorted(numbers) == list(range(len(sizes)))
    assert numbers[2:] == sorted(numbers[2:])
    window = sizes[:6]
    vary = [axis for axis in (0, 1) if len({one[axis] for one in window}) > 1]
    pairs = itertools.combinations(window, 2)
    if vary and any(all(a[axis] != b[axis] for axis in vary) for a, b in pairs):
        a, b = (sizes[i] for i in numbers[:2])
        assert all(a[axis] != b[axis] for axis in vary)
    if not vary:
        assert numbers == sorted(numbers)


def test_no_data_is_an_error_instead_of_an_endless_wait():
    with pytest.raises(ValueError, match="nothing to fit"):
        next(Pairs([]).forfit())


def test_length_of_data_without_one_is_refused_with_the_remedy():
    generator = DataGenerator(iter([1]))
    assert generator
    with pytest.raises(TypeError, match="steps_per_epoch"):
        len(generator)
    with pytest.raises(NotImplementedError, match="__iter__"):
        next(iter(generator))
    with pytest.raises(ValueError, match="batch_size"):
        DataGenerator([], batch_size=0)


class Rows(DataGenerator):
    """Yields single rows, as `to_dataset` wants them."""

    def __iter__(self, random=False):
        for _, (ids, label) in self.sample(random):
            yield [ids, [1] * len(ids)], [label]


def test_to_dataset_pads_names_and_unwraps_the_only_output():
    tf = pytest.importorskip("tensorflow")
    data = [([n] * n, float(n)) for n in range(1, 6)]
    dataset = Rows(data, batch_size=4, seed=0).to_dataset(
        types=[["int32", "int32"], ["float32"]],
        shapes=[[[None], [None]], [[]]],
        names=[["ids", "ones"], ["y"]],
        padded_batch=True,
    )
    seen = []
    for x, y in dataset.take(5):
        assert set(x) == {"ids", "ones"}
        assert tf.is_tensor(y)
        assert y.shape == (4,)
        assert x["ids"].dtype == tf.int32
        for ids, ones, label in zip(x["ids"].numpy(), x["ones"].numpy(), y.numpy(), strict=True):
            assert ids.tolist() == [label] * int(label) + [0] * (len(ids) - int(label))
            assert ones.sum() == label
        seen += y.numpy().tolist()
    # Five batches of four are four epochs of five rows.
    assert sorted(seen) == sorted([1.0, 2.0, 3.0, 4.0, 5.0] * 4)


def test_to_dataset_without_names_and_fit_on_it():
    keras = pytest.importorskip("keras")

    class Points(DataGenerator):
        def __iter__(self, random=False):
            for _, x in self.sample(random):
                yield [x], x.sum(keepdims=True)

    data = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    generator = Points(data, batch_size=4, seed=0)
    dataset = generator.to_dataset([["float32"], "float32"], [[(3,)], (1,)])
    (x,), y = next(iter(dataset))
    np.testing.assert_allclose(x.numpy().sum(1, keepdims=True), y.numpy(), rtol=1e-6)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(
        dataset.map(lambda x, y: (x[0], y)), steps_per_epoch=2, epochs=2, shuffle=False, verbose=0
    )
    assert history.history["loss"][1] < history.history["loss"][0]


def test_fit_takes_forfit_whose_first_batches_are_of_one_width():
    keras = pytest.importorskip("keras")
    token, other = keras.Input((None,)), keras.Input((None,))
    out = keras.layers.Lambda(lambda x: (x[0] + x[1])[:, :1], output_shape=(1,))([token, other])
    model = keras.Model([token, other], keras.layers.Dense(1)(out))
    model.compile("sgd", "mse")

    class Rows(Pairs):
        def __iter__(self, random=False):
            for (x, y), target in super().__iter__(random):
                widest = 1 + int(x[0, 0]) // 5
                yield [np.repeat(x, widest, axis=1), np.repeat(y, widest, axis=1)], target

    generator = Rows([[1], [2], [3], [4], [5], [6]], batch_size=1)
    model.fit(generator.forfit(random=False), steps_per_epoch=6, shuffle=False, verbose=0)
    assert model.optimizer.iterations == 6


@pytest.mark.parametrize("batch_size", [1, 3])
def test_fit_takes_forfit_with_a_smaller_last_batch(batch_size):
    keras = pytest.importorskip("keras")
    token, other = keras.Input((None,)), keras.Input((None,))
    out = keras.layers.Lambda(lambda x: (x[0] + x[1])[:, :1], output_shape=(1,))([token, other])
    model = keras.Model([token, other], keras.layers.Dense(1)(out))
    model.compile("sgd", "mse")
    generator = Pairs([[1], [2], [3], [4]], batch_size=batch_size)
    model.fit(generator.forfit(), steps_per_epoch=len(generator), shuffle=False, verbose=0)
    assert model.optimizer.iterations == len(generator)
