"""Every head and mask against the independent float64 forward, over random shapes and paddings."""

from __future__ import annotations

import functools

import _reference as reference
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.models import build_transformer_model

TOLERANCE = 1e-5
CONFIG = {
    "vocab_size": 41,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 36,
    "hidden_act": "gelu",
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
}
HEADS = {
    "hidden": {},
    "pool": {"with_pool": True},
    "pool_linear": {"with_pool": "linear"},
    "nsp": {"with_nsp": True},
    "mlm": {"with_mlm": True},
    "logits": {"with_mlm": "linear"},
    "pool_logits": {"with_pool": "linear", "with_mlm": "linear"},
    "nsp_mlm": {"with_nsp": True, "with_mlm": True},
}
# Few shapes: JAX compiles for each.
BATCHES = (1, 4)
LENGTHS = (2, 5, 11, 24)
FAMILIES = ("bert", "roformer")
APPLICATIONS = ("encoder", "lm", "unilm")


@functools.cache
def built(family, application="encoder", head="hidden"):
    """A model and the checkpoint in it; made once, since building is what takes the time."""
    variables = reference.random_checkpoint(CONFIG, family, seed=7)
    model = build_transformer_model(
        CONFIG, variables, model=family, application=application, **HEADS[head]
    )
    return model, variables


def run(model, token_ids, segment_ids):
    outputs = model([np.float32(token_ids), np.float32(segment_ids)], training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def assert_equal_to_reference(family, application, head, token_ids, segment_ids):
    model, variables = built(family, application, head)
    expected = reference.forward(
        CONFIG,
        variables,
        token_ids,
        segment_ids,
        family=family,
        application=application,
        **HEADS[head],
    )
    expected = expected if isinstance(expected, list) else [expected]
    got = run(model, token_ids, segment_ids)
    assert [g.shape for g in got] == [e.shape for e in expected]
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("application", APPLICATIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_head_equals_the_reference(family, application, head):
    batch = reference.random_batch(CONFIG, 3, batch=4, length=11)
    assert_equal_to_reference(family, application, head, *batch)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12, deadline=None)
@given(
    application=st.sampled_from(APPLICATIONS),
    batch=st.sampled_from(BATCHES),
    length=st.sampled_from(LENGTHS),
    seed=st.integers(0, 10**6),
)
def test_any_shape_equals_the_reference(family, application, batch, length, seed):
    ids = reference.random_batch(CONFIG, seed, batch, length)
    assert_equal_to_reference(family, application, "logits", *ids)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12, deadline=None)
@given(
    application=st.sampled_from(APPLICATIONS),
    lengths=st.lists(st.sampled_from(LENGTHS), min_size=2, max_size=2, unique=True).map(sorted),
    seed=st.integers(0, 10**6),
)
def test_padding_changes_no_real_token(family, application, lengths, seed):
    """A row alone and the same row padded agree, not with the reference but with themselves."""
    model, _ = built(family, application, "logits")
    real, length = lengths
    tokens, segments = reference.random_batch(CONFIG, seed, 1, real)
    (alone,) = run(model, tokens, segments)
    padding = ((0, 0), (0, length - real))
    (padded,) = run(model, np.pad(tokens, padding), np.pad(segments, padding))
    np.testing.assert_allclose(padded[:, :real], alone, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_of_padding_is_finite_and_leaves_the_others_alone(family):
    model, _ = built(family)
    tokens, segments = reference.random_batch(CONFIG, 5, 3, 9)
    (before,) = run(model, tokens, segments)
    tokens[1], segments[1] = 0, 0
    (after,) = run(model, tokens, segments)
    assert np.isfinite(after).all()
    np.testing.assert_allclose(after[[0, 2]], before[[0, 2]], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_later_token_is_seen_by_the_encoder_and_hidden_by_lm(family):
    tokens, segments = reference.random_batch(CONFIG, 6, 1, 9, pad=False)
    changed = tokens.copy()
    changed[0, 8] = tokens[0, 8] % (CONFIG["vocab_size"] - 1) + 1
    assert changed[0, 8] != tokens[0, 8]
    for application, visible in (("encoder", True), ("lm", False)):
        model, _ = built(family, application, "logits")
        (one,), (other,) = run(model, tokens, segments), run(model, changed, segments)
        moved = np.abs(one[0, :8] - other[0, :8]).max()
        assert moved > 1e-3 if visible else moved == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_unilm_prefix_sees_itself_and_not_the_answer(family):
    model, _ = built(family, "unilm", "logits")
    tokens, _ = reference.random_batch(CONFIG, 8, 1, 8, pad=False)
    segments = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    (base,) = run(model, tokens, segments)
    for position, unchanged, changed in ((3, slice(0, 0), slice(0, 8)), (5, slice(0, 5), 5)):
        other = tokens.copy()
        other[0, position] = tokens[0, position] % (CONFIG["vocab_size"] - 1) + 1
        (got,) = run(model, other, segments)
        np.testing.assert_allclose(got[0, unchanged], base[0, unchanged], rtol=0, atol=1e-6)
        assert np.abs(got[0, changed] - base[0, changed]).max(axis=-1).min() > 1e-4
