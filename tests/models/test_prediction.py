"""Length-sorted prediction gives what the model gives, row by row."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _harness import randomize
from _reference import random_checkpoint
from _tiny import CONFIG
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model

from bert4kexue.models import build_transformer_model
from bert4kexue.models.prediction import SortedPredictor
from bert4kexue.ops import products


@pytest.fixture(scope="module")
def model():
    """Pooled vectors and token probabilities, two outputs of two kinds."""
    weights = random_checkpoint(CONFIG, "roformer", seed=1)
    return build_transformer_model(
        CONFIG, weights, model="roformer", with_pool="linear", with_mlm="softmax"
    )


def random_rows(seed, count, longest):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    token_ids = [rng.integers(1, CONFIG["vocab_size"], n).tolist() for n in lengths]
    segment_ids = [sorted(rng.integers(0, 2, n).tolist()) for n in lengths]
    return token_ids, segment_ids


def alone(model, token_ids, segment_ids):
    outputs = [
        model([np.array([t], "int32"), np.array([s], "int32")], training=False)
        for t, s in zip(token_ids, segment_ids, strict=True)
    ]
    return [[keras.ops.convert_to_numpy(x)[0] for x in part] for part in zip(*outputs, strict=True)]


def test_packed_kernels_give_the_same_and_follow_the_weights_when_packed_again(monkeypatch):
    monkeypatch.setattr(products, "LARGE", 0)  # these kernels are small
    model = tiny_model(family="roformer", with_pool="linear")
    randomize(model, seed=2)
    token_ids, segment_ids = random_rows(4, 9, 8)
    xla = keras.backend.backend() == "tensorflow"
    predictor = SortedPredictor(model, tokens_per_batch=64, jit_compile=xla)
    plain = predictor.predict(token_ids, segment_ids)
    predictor.pack()
    np.testing.assert_allclose(predictor.predict(token_ids, segment_ids), plain, atol=1e-5)
    randomize(model, seed=3)
    expected = SortedPredictor(model).predict(token_ids, segment_ids)
    assert np.abs(predictor.predict(token_ids, segment_ids) - expected).max() > 0.01
    predictor.pack()
    np.testing.assert_allclose(predictor.predict(token_ids, segment_ids), expected, atol=1e-5)


def test_only_batches_of_few_tokens_are_multiplied_by_packed_kernels(model, monkeypatch):
    predictor = SortedPredictor(model, multiple=1)
    predictor.pack()
    seen = []
    for name in ("_model", "_short"):
        part = getattr(predictor, name)
        genuine = part.predict_on_batch
        monkeypatch.setattr(
            part,
            "predict_on_batch",
            lambda x, name=name, genuine=genuine: seen.append(name) or genuine(x),
        )
    for length in (3, 16, 17):  # 128 tokens are few
        predictor.predict([[1] * length] * 8)
    assert seen == ["_short", "_short", "_model"]


def test_one_sentence_is_not_filled_up_to_a_batch(model):
    predictor = SortedPredictor(model, jit_compile=True)
    assert [batch.shape for batch in predictor.plan([30])] == [(1, 32)]
    assert [batch.shape for batch in predictor.plan([30, 3, 30])] == [(2, 32), (1, 4)]


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("rows", [10, 100, 300, 1000, 4000])
@pytest.mark.parametrize("longest", [64, 512])
def test_little_is_padding_for_few_rows_and_many(static, rows, longest):
    predictor = SortedPredictor.__new__(SortedPredictor)
    predictor.tokens_per_batch, predictor.multiple, predictor.static = 4096, None, static
    drawn = np.random.default_rng(0).lognormal(np.log(longest / 5), 0.6, rows)
    lengths = np.clip(drawn.astype(int), 3, longest)
    batches = predictor.plan(lengths)
    computed = sum(height * width for _, (height, width) in batches)
    assert lengths.sum() >= 0.8 * computed
    if static:
        assert len({batch.shape for batch in batches}) <= 32


@pytest.mark.parametrize("options", [{}, {"multiple": 4}, {"tokens_per_batch": 1}])
def test_every_row_is_what_it_is_alone_and_in_its_place(model, options):
    token_ids, segment_ids = random_rows(0, 23, 9)
    pooled, tokens = SortedPredictor(model, **{"tokens_per_batch": 24, **options}).predict(
        token_ids, segment_ids
    )
    expected_pooled, expected_tokens = alone(model, token_ids, segment_ids)
    np.testing.assert_allclose(pooled, np.stack(expected_pooled), atol=1e-5)
    for found, expected in zip(tokens, expected_tokens, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_array_padded_with_zeros_is_as_good_as_lists(model):
    token_ids, segment_ids = random_rows(1, 11, 8)
    predictor = SortedPredictor(model)
    pad = [np.array([row + [0] * (12 - len(row)) for row in x]) for x in (token_ids, segment_ids)]
    for padded, listed in zip(
        predictor.predict(*pad), predictor.predict(token_ids, segment_ids), strict=True
    ):
        for a, b in zip(padded, listed, strict=True):
            np.testing.assert_array_equal(a, b)


def test_position_ids_travel_with_their_rows():
    soft = tiny_model(family="bert", with_nsp=True, custom_position_ids=True)
    token_ids, segment_ids = random_rows(3, 7, 8)
    rng = np.random.default_rng(3)
    positions = [rng.permutation(len(row)).tolist() for row in token_ids]
    found = SortedPredictor(soft, multiple=8).predict(
        token_ids, segment_ids, position_ids=positions
    )
    for row, score in zip(zip(token_ids, segment_ids, positions, strict=True), found, strict=True):
        expected = soft([np.array([ids], "int32") for ids in row], training=False)
        np.testing.assert_allclose(score, keras.ops.convert_to_numpy(expected)[0], atol=1e-5)


def test_progress_sees_every_batch(model):
    token_ids, _ = random_rows(2, 9, 6)
    seen = []

    def watch(batches):
        for batch in batches:
            seen.extend(batch.rows)
            yield batch

    SortedPredictor(model, tokens_per_batch=8).predict(token_ids, progress=watch)
    assert sorted(seen) == list(range(9))


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=80),
    st.integers(1, 200),
    st.none() | st.integers(1, 16),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_plans_hold_every_row_once_and_fit(lengths, tokens, multiple, static):
    predictor = SortedPredictor.__new__(SortedPredictor)
    predictor.tokens_per_batch, predictor.multiple, predictor.static = tokens, multiple, static
    batches = predictor.plan(lengths)
    assert sorted(i for batch in batches for i in batch.rows) == list(range(len(lengths)))
    for rows, (height, width) in batches:
        assert len(rows) <= height
        assert height == 1 or height * width <= tokens
        assert max(lengths[i] for i in rows) <= width
        assert multiple is None or width % multiple == 0
        if not static:
            assert len(rows) == height
            assert multiple is not None or min(max(1, lengths[i]) for i in rows) >= 0.8 * width
        else:
            assert height in {1, 2, 4, 8, 16, 32, 64, 128, max(1, tokens // width)}
    if static:
        empty = sum(height - len(rows) for rows, (height, _) in batches)
        assert empty <= batches[-1].shape[0] / 4, "only the last batch may hold empty rows"


def test_the_users_model_is_left_as_it_was(model):
    before = model.compiled
    SortedPredictor(model, jit_compile=False).predict(random_rows(3, 4, 5)[0])
    assert model.compiled == before


@pytest.mark.parametrize(
    ("token_ids", "segment_ids", "message"),
    [
        ([], None, "no rows"),
        ([[1, 2]], [[0, 0], [0]], "1 rows of token_ids and 2"),
        ([[1, 2], [3, 4, 5]], [[0, 0], [0, 0]], "row 1 has 3 tokens and 2 segment ids"),
    ],
)
def test_bad_rows_are_told(model, token_ids, segment_ids, message):
    with pytest.raises(ValueError, match=message):
        SortedPredictor(model).predict(token_ids, segment_ids)


def test_bad_arguments_are_told(model):
    with pytest.raises(ValueError, match="must be 1 or more"):
        SortedPredictor(model, tokens_per_batch=0)
    images = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match=r"got inputs \[\(None, 8, 8, 3\)\]"):
        SortedPredictor(keras.Model(images, keras.layers.Flatten()(images)))
