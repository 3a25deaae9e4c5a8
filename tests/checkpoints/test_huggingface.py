"""Hugging Face's names become the original ones, and kernels turn."""

from __future__ import annotations

import numpy as np
import pytest

from bert4kexue.checkpoints import CheckpointError, as_original, is_huggingface, open_checkpoint

H, F, V = 4, 6, 10

L, B = "{b}encoder.layer.{i}.", "bert/encoder/layer_{i}/"
E, M = "{b}embeddings.", "bert/embeddings/"
P, T = "cls.predictions.transform.", "cls/predictions/transform/"
# Written out by hand from both sides: Hugging Face's name, the original name, turned or not.
NAMES = [
    (E + "word_embeddings.weight", M + "word_embeddings", (V, H), False),
    (E + "position_embeddings.weight", M + "position_embeddings", (8, H), False),
    (E + "token_type_embeddings.weight", M + "token_type_embeddings", (2, H), False),
    (E + "LayerNorm.{g}", M + "LayerNorm/gamma", (H,), False),
    (E + "LayerNorm.{n}", M + "LayerNorm/beta", (H,), False),
    (L + "attention.self.query.weight", B + "attention/self/query/kernel", (3, H), True),
    (L + "attention.self.query.bias", B + "attention/self/query/bias", (3,), False),
    (L + "attention.self.value.weight", B + "attention/self/value/kernel", (H, H), True),
    (L + "attention.output.dense.weight", B + "attention/output/dense/kernel", (H, H), True),
    (L + "attention.output.LayerNorm.{g}", B + "attention/output/LayerNorm/gamma", (H,), False),
    (L + "intermediate.dense.weight", B + "intermediate/dense/kernel", (F, H), True),
    (L + "output.dense.weight", B + "output/dense/kernel", (H, F), True),
    (L + "output.LayerNorm.{n}", B + "output/LayerNorm/beta", (H,), False),
    ("{b}pooler.dense.weight", "bert/pooler/dense/kernel", (H, H), True),
    ("{b}pooler.dense.bias", "bert/pooler/dense/bias", (H,), False),
    ("cls.predictions.bias", "cls/predictions/output_bias", (V,), False),
    (P + "dense.weight", T + "dense/kernel", (H, H), True),
    (P + "dense.bias", T + "dense/bias", (H,), False),
    (P + "LayerNorm.{g}", T + "LayerNorm/gamma", (H,), False),
    (P + "LayerNorm.{n}", T + "LayerNorm/beta", (H,), False),
    ("cls.seq_relationship.weight", "cls/seq_relationship/output_weights", (2, H), False),
    ("cls.seq_relationship.bias", "cls/seq_relationship/output_bias", (2,), False),
]  # fmt: skip


def state_dict(body: str, gamma: str, beta: str):
    rng = np.random.default_rng(0)
    arrays, expected = {}, {}
    for theirs, ours, shape, turned in NAMES:
        for layer in (0, 11) if "{i}" in theirs else (0,):
            value = rng.normal(size=shape)
            arrays[theirs.format(b=body, i=layer, g=gamma, n=beta)] = value
            expected[ours.format(i=layer)] = value.T if turned else value
    return arrays, expected


@pytest.mark.parametrize("body", ["bert.", "roformer.", ""])
@pytest.mark.parametrize(("gamma", "beta"), [("weight", "bias"), ("gamma", "beta")])
def test_names_and_axes_become_the_original_ones(body, gamma, beta):
    arrays, expected = state_dict(body, gamma, beta)
    ignored = {
        f"{body}embeddings.position_ids": np.arange(8)[None],
        f"{body}encoder.embed_positions.weight": np.zeros((8, H)),
        "cls.predictions.decoder.weight": np.zeros((V, H)),
        "cls.predictions.decoder.bias": np.zeros(V),
    }
    source = open_checkpoint({**arrays, **ignored})
    assert is_huggingface(source)
    checkpoint = as_original(source)
    assert checkpoint.names() == sorted(expected)
    for name, value in expected.items():
        assert checkpoint.shape(name) == value.shape
        assert checkpoint.dtype(name) == value.dtype
        np.testing.assert_array_equal(checkpoint.read(name), value)
    checkpoint.verify()


def test_original_names_are_left_alone():
    _, expected = state_dict("bert.", "weight", "bias")
    source = open_checkpoint(expected)
    assert not is_huggingface(source)
    assert as_original(source) is source


def test_nothing_is_read_before_it_is_asked_for():
    arrays, _ = state_dict("bert.", "weight", "bias")
    source = open_checkpoint(arrays)
    asked = []
    source.read = lambda name: asked.append(name) or arrays[name]
    checkpoint = as_original(source)
    checkpoint.names()
    checkpoint.read("bert/pooler/dense/kernel")
    assert asked == ["bert.pooler.dense.weight"]


def test_names_that_are_not_understood_stay_for_the_table_to_list():
    arrays, _ = state_dict("bert.", "weight", "bias")
    strange = {"classifier.weight": np.zeros((2, H)), "bert.encoder.layer.0.odd": np.zeros(1)}
    checkpoint = as_original(open_checkpoint({**arrays, **strange}))
    for name, value in strange.items():
        assert checkpoint.shape(name) == value.shape


def test_two_spellings_of_one_variable_are_refused():
    arrays, _ = state_dict("bert.", "weight", "bias")
    arrays["bert.embeddings.LayerNorm.gamma"] = np.zeros(H)
    with pytest.raises(CheckpointError, match="both 'bert/embeddings/LayerNorm/gamma'"):
        as_original(open_checkpoint(arrays))
