"""The two-way table: what fits becomes a plan, what does not is told all at once."""

from __future__ import annotations

import numpy as np
import pytest

from bert4kexue.checkpoints import (
    TRAINING_STATE,
    CheckpointError,
    CheckpointMismatch,
    Row,
    compare,
    match,
    open_checkpoint,
)
from bert4kexue.checkpoints.nearest import nearest_names


def rows_of_a_bert(layers=3, hidden=8, vocab=20):
    """A realistic table, heads included."""
    rows = [
        Row(
            "Embedding-Token/embeddings",
            "bert/embeddings/word_embeddings",
            (vocab, hidden),
            vocab_axis=0,
        ),
        Row("NSP-Proba/kernel", "cls/seq_relationship/output_weights", (2, hidden), "transpose"),
        Row("MLM-Bias/bias", "cls/predictions/output_bias", (vocab,), vocab_axis=0),
    ]
    for i in range(layers):
        for ours, theirs, shape in [
            ("MultiHeadSelfAttention/query", "attention/self/query", (hidden, hidden)),
            ("MultiHeadSelfAttention/output", "attention/output/dense", (hidden, hidden)),
            ("FeedForward/inner", "intermediate/dense", (hidden, 2 * hidden)),
            ("FeedForward/outer", "output/dense", (2 * hidden, hidden)),
        ]:
            name = f"bert/encoder/layer_{i}/{theirs}"
            rows.append(Row(f"Transformer-{i}-{ours}/kernel", f"{name}/kernel", shape))
            rows.append(Row(f"Transformer-{i}-{ours}/bias", f"{name}/bias", shape[1:]))
    return rows


def arrays_of(rows):
    rng = np.random.default_rng(0)
    return {row.variable: rng.normal(size=row.shape).astype(np.float32) for row in rows}


def test_a_fitting_checkpoint_becomes_a_plan_that_reads_every_weight():
    rows = rows_of_a_bert()
    arrays = arrays_of(rows)
    plan = match(rows, open_checkpoint(arrays), context="a test")
    assert plan.weights() == [row.weight for row in rows]
    assert (plan.ignored, plan.unused, plan.absent) == ((), (), ())
    for row in rows:
        value = arrays[row.variable]
        expected = value.T if row.transform else value
        np.testing.assert_array_equal(plan.read(row.weight), expected)


def test_tokens_are_selected_on_the_vocabulary_axis_only():
    rows = rows_of_a_bert()
    arrays = arrays_of(rows)
    plan = match(rows, open_checkpoint(arrays), context="a test")
    keep, compound = [7, 3], [[0, 1]]
    table = arrays["bert/embeddings/word_embeddings"]
    np.testing.assert_allclose(
        plan.read("Embedding-Token/embeddings", keep, compound),
        [table[7], table[3], (table[7] + table[3]) / 2],
        rtol=1e-6,
    )
    assert plan.read("MLM-Bias/bias", keep, compound).shape == (3,)
    assert plan.read("NSP-Proba/kernel", keep, compound).shape == (8, 2)


def test_heads_that_are_not_built_are_unused_and_may_be_absent():
    rows = rows_of_a_bert()
    arrays = arrays_of(rows)
    wanted = {row.weight for row in rows if not row.variable.startswith("cls/")}
    plan = match(rows, open_checkpoint(arrays), wanted=wanted, context="a test")
    assert set(plan.rows) == wanted
    assert plan.unused == ("cls/predictions/output_bias", "cls/seq_relationship/output_weights")
    del arrays["cls/predictions/output_bias"]
    plan = match(rows, open_checkpoint(arrays), wanted=wanted, context="a test")
    assert plan.unused == ("cls/seq_relationship/output_weights",)


def test_state_of_training_is_ignored_and_named():
    rows = rows_of_a_bert(layers=1)
    arrays = arrays_of(rows)
    state = {
        "global_step": np.int64(3),
        "bert/embeddings/word_embeddings/adam_m": np.zeros(1),
        "bert/embeddings/word_embeddings/adam_v": np.zeros(1),
        "bert/embeddings/word_embeddings/Adam_1": np.zeros(1),
        "beta1_power": np.float32(1),
        "_CHECKPOINTABLE_OBJECT_GRAPH": np.zeros(1),
    }
    checkpoint = open_checkpoint({**arrays, **state})
    plan = match(rows, checkpoint, known=TRAINING_STATE, context="a test")
    assert plan.ignored == tuple(sorted(state))
    with pytest.raises(CheckpointMismatch, match="0 missing, 6 unexpected"):
        match(rows, checkpoint, context="a test")


def test_known_patterns_match_whole_names_and_never_hide_a_row():
    rows = rows_of_a_bert(layers=1)
    arrays = {**arrays_of(rows), "my_global_step_head": np.zeros(1)}
    with pytest.raises(CheckpointMismatch, match="my_global_step_head"):
        match(rows, open_checkpoint(arrays), known=TRAINING_STATE, context="a test")
    arrays.pop("my_global_step_head")
    plan = match(rows, open_checkpoint(arrays), known=[".*"], context="a test")
    assert plan.ignored == ()


def test_an_optional_weight_may_be_absent():
    rows = [*rows_of_a_bert(layers=1), Row("Extra/kernel", "extra/kernel", (2,), optional=True)]
    plan = match(rows, open_checkpoint(arrays_of(rows[:-1])), context="a test")
    assert plan.absent == ("Extra/kernel",)
    assert "Extra/kernel" not in plan.rows


def test_missing_unexpected_and_misshapen_are_told_in_one_error():
    rows = rows_of_a_bert()
    arrays = arrays_of(rows)
    arrays["bert/encoder/layer_1/attention/self/queryy/kernel"] = arrays.pop(
        "bert/encoder/layer_1/attention/self/query/kernel"
    )
    arrays["bert/embeddings/word_embeddings"] = np.zeros((21, 8), np.float32)
    arrays["cls/predictions/output_bias"] = np.zeros((21,), np.float32)
    checkpoint = open_checkpoint(arrays)
    with pytest.raises(CheckpointMismatch) as caught:
        match(rows, checkpoint, context="model 'bert' with config.json")
    text = str(caught.value)
    first = text.splitlines()[0]
    assert first.endswith("1 missing, 1 unexpected, 2 misshapen variables.")
    assert "does not fit model 'bert' with config.json" in first
    assert (
        "- bert/encoder/layer_1/attention/self/query/kernel [8, 8] "
        "(nearest: bert/encoder/layer_1/attention/self/queryy/kernel)" in text
    )
    assert (
        "- bert/encoder/layer_1/attention/self/queryy/kernel [8, 8] "
        "(nearest: bert/encoder/layer_1/attention/self/query/kernel)" in text
    )
    assert "- bert/embeddings/word_embeddings: expected [20, 8], found [21, 8]" in text
    assert "20 tokens are expected, the checkpoint has 21" in text
    assert isinstance(caught.value, CheckpointError)
    comparison = caught.value.comparison
    assert [row.weight for row in comparison.missing] == [
        "Transformer-1-MultiHeadSelfAttention/query/kernel"
    ]
    assert len(comparison.unexpected) == 1
    assert len(comparison.misshapen) == 2


def test_compare_raises_nothing():
    comparison = compare(rows_of_a_bert(), open_checkpoint({"a": np.zeros(3)}))
    assert not comparison.fits
    assert comparison.unexpected == ("a",)
    assert comparison.plan.rows == {}


def test_another_depth_is_told_by_its_name():
    deep, shallow = rows_of_a_bert(layers=6), rows_of_a_bert(layers=3)
    with pytest.raises(CheckpointMismatch, match="deeper: it has layers up to 5") as caught:
        match(shallow, open_checkpoint(arrays_of(deep)), context="a test")
    assert "0 missing, 24 unexpected" in str(caught.value)
    with pytest.raises(CheckpointMismatch, match="shallower: it has layers up to 2") as caught:
        match(deep, open_checkpoint(arrays_of(shallow)), context="a test")
    assert "24 missing, 0 unexpected" in str(caught.value)
    assert "and 4 more" in str(caught.value)


def test_another_family_is_refused():
    arrays = {
        name.replace("bert/", "electra/"): value
        for name, value in arrays_of(rows_of_a_bert()).items()
    }
    with pytest.raises(CheckpointMismatch, match="25 missing, 25 unexpected"):
        match(rows_of_a_bert(), open_checkpoint(arrays), context="a test")


def test_the_right_shape_under_a_similar_name_is_pointed_at():
    rows = [Row("T/embeddings", "bert/embeddings/word_embeddings", (20, 8))]
    arrays = {
        "bert/embeddings/word_embeddings": np.zeros((20, 4)),
        "bert/embeddings/word_embeddings_2": np.zeros((20, 8)),
    }
    with pytest.raises(CheckpointMismatch) as caught:
        match(rows, open_checkpoint(arrays), context="a test")
    assert "(of the expected shape: bert/embeddings/word_embeddings_2)" in str(caught.value)


def test_a_wrong_table_is_the_programmers_mistake():
    rows = rows_of_a_bert(layers=1)
    checkpoint = open_checkpoint(arrays_of(rows))
    with pytest.raises(ValueError, match="one row, got two"):
        match([*rows, rows[0]], checkpoint, context="a test")
    with pytest.raises(ValueError, match="needs a row"):
        match(rows, checkpoint, wanted={"Nobody/kernel"}, context="a test")


def test_nearest_names_prefer_the_same_words_with_another_number():
    names = [
        f"bert/encoder/layer_{i}/output/dense/{k}" for i in range(12) for k in ("kernel", "bias")
    ]
    near = nearest_names("bert/encoder/layer_12/output/dense/kernel", names)
    assert near == [
        "bert/encoder/layer_11/output/dense/kernel",
        "bert/encoder/layer_10/output/dense/kernel",
    ]
    assert nearest_names("bert/embedings/x", ["bert/embeddings/x", "gpt/h"]) == [
        "bert/embeddings/x"
    ]
    assert nearest_names("completely/other", names) == []
