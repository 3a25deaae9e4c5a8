"""A checkpoint's family, told by names that released checkpoints have."""

from __future__ import annotations

import _reference as reference
import pytest

from bert4kexue.checkpoints.families import family_of

CONFIG = {
    "vocab_size": 5,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 6,
}


def test_bert_and_roformer_differ_by_the_position_table():
    assert family_of(reference.variable_shapes(CONFIG, "bert")) == "BERT"
    assert family_of(reference.variable_shapes(CONFIG, "roformer")) == "RoFormer or NEZHA"


def test_roformer_v2_has_nothing_but_kernels():
    names = [n for n in reference.variable_shapes(CONFIG, "roformer") if "cls/" not in n]
    kernels = [n for n in names if not n.endswith(("bias", "beta", "gamma"))]
    assert len(kernels) < len(names)
    assert family_of(kernels) == "RoFormerV2"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("bert/encoder/transformer/group_0/inner_group_0/LayerNorm/beta", "ALBERT"),
        ("bert/encoder/layer_shared/output/dense/bias", "ALBERT (early layout)"),
        ("encoder/block_000/layer_000/SelfAttention/q", "T5"),
        ("model/h0/attn/c_attn/w", "GPT-2 (OpenAI)"),
        ("newslm/layer00/query_layer/kernel", "GPT2_ML"),
        ("GAU_alpha/encoder/layer_0/gau/i_dense/kernel", "GAU-alpha"),
        ("electra/encoder/layer_0/attention/self/query/kernel", "ELECTRA"),
        ("gpt/transformer/layer_0/attention/input/LayerNorm/beta", "GPT2 (CPM)"),
        ("gpt/transformer/layer_0/attention/output/LayerNorm/beta", "GPT"),
        ("unheard/of", None),
    ],
)
def test_marks_of_other_families(name, family):
    # A word table of BERT's name beside it changes nothing.
    assert family_of(["bert/embeddings/word_embeddings", name]) == family
