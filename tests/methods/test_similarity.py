"""Sentence vectors against one sentence at a time; neighbours against sorting in Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model, tiny_tokenizer

from bert4kexue.methods.similarity import encode, nearest

SENTENCES = ["今天", "", "天气很好天气", "好", "今天天气", "很好很好很好很好", "天"]


@pytest.fixture(scope="module")
def model():
    return tiny_model(application="unilm", with_pool="linear")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_every_sentence_gets_the_vector_it_has_alone(model, batch_size):
    tokenizer = tiny_tokenizer()
    vectors = encode(model, tokenizer, SENTENCES, batch_size=batch_size)
    assert vectors.dtype == np.float32
    for vector, sentence in zip(vectors, SENTENCES, strict=True):
        ids, segments = tokenizer.encode(sentence)
        pooled = np.asarray(model.predict_on_batch([np.array([ids]), np.array([segments])])[0][0])
        np.testing.assert_allclose(vector, pooled / np.sqrt((pooled**2).sum()), atol=1e-6)


def test_pooled_output_may_be_the_only_one(model):
    import keras

    alone = keras.Model(model.inputs, model.outputs[0])
    tokenizer = tiny_tokenizer()
    np.testing.assert_allclose(
        encode(alone, tokenizer, SENTENCES), encode(model, tokenizer, SENTENCES), atol=1e-6
    )


def test_maxlen_shortens(model):
    vectors = encode(model, tiny_tokenizer(), ["今天天气", "今天很好"], maxlen=4)
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_no_sentences_give_no_vectors(model):
    assert encode(model, tiny_tokenizer(), []).shape == (0, model.outputs[0].shape[-1])


def test_mistakes_are_named(model):
    tokenizer = tiny_tokenizer()
    with pytest.raises(ValueError, match="takes a list of sentences"):
        encode(model, tokenizer, "今天")
    with pytest.raises(ValueError, match="batch_size must be 1 or more"):
        encode(model, tokenizer, ["今天"], batch_size=0)
    with pytest.raises(ValueError, match="build it with with_pool"):
        encode(tiny_model(application="encoder"), tokenizer, ["今天"])
    with pytest.raises(ValueError, match="k must be 1 or more"):
        nearest(np.zeros((1, 2)), np.zeros((1, 2)), 0)
    with pytest.raises(ValueError, match="must share H"):
        nearest(np.zeros((1, 2)), np.zeros((1, 3)), 1)


@given(
    queries=st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=1, max_size=4),
    corpus=st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=1, max_size=9),
    k=st.integers(1, 12),
)
def test_nearest_is_the_sorted_list(queries, corpus, k):
    found, scores = nearest(np.array(queries), np.array(corpus), k)
    for row, query in enumerate(queries):
        products = [query[0] * item[0] + query[1] * item[1] for item in corpus]
        expected = sorted(range(len(corpus)), key=lambda i: (-products[i], i))[:k]
        assert found[row].tolist() == expected
        assert scores[row].tolist() == [products[i] for i in expected]
