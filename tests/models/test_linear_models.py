"""Models with linear attention: built, saved, exported, generating as the whole model would."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _generation import Case, same
from _harness import to_numpy
from tiny_models import tiny_model

from bert4kexue.layers import LinearAttention
from bert4kexue.models.config import make_config

PERFORMER = {"kind": "performer", "features": 12, "seed": 0}


def linear(feature_map="elu1", **options):
    return tiny_model(attention="linear", feature_map=feature_map, **options)


def ids(rows):
    return np.array(rows, "float32")


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
@pytest.mark.parametrize("spec", ["elu1", "dsoftmax", "taylor", PERFORMER], ids=str)
def test_padding_does_not_change_real_tokens(application, spec):
    model = linear(spec, application=application)
    tokens, segments = ids([[2, 9, 6, 7, 3]]), ids([[0, 0, 0, 1, 1]])
    more = np.pad(tokens, ((0, 0), (0, 4))), np.pad(segments, ((0, 0), (0, 4)))
    alone = to_numpy(model([tokens, segments]))
    np.testing.assert_allclose(to_numpy(model(list(more)))[:, :5], alone, atol=2e-5)


@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_what_is_written_does_not_see_what_comes_after(application):
    model = linear("taylor", application=application)
    tokens, segments = ids([[2, 9, 6, 7, 3, 8]]), ids([[0, 0, 0, 1, 1, 1]])
    before = to_numpy(model([tokens, segments]))
    tokens[0, 5] = 11
    after = to_numpy(model([tokens, segments]))
    np.testing.assert_allclose(after[:, :5], before[:, :5], atol=1e-6)
    assert np.abs(after[:, 5] - before[:, 5]).max() > 1e-4
    tokens[0, 0] = 11
    assert np.abs(to_numpy(model([tokens, segments]))[:, 1] - before[:, 1]).max() > 1e-6


@pytest.mark.parametrize("family", ["bert", "roformer"])
@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_generation_with_states_is_the_whole_model(family, application):
    spec = PERFORMER if family == "bert" else "elu1"
    case = Case(family, application, attention="linear", feature_map=spec).randomize(1)
    sources = case.sources(1)
    found = case.generator.generate(sources, num_beams=3, num_return_sequences=3, max_new_tokens=5)
    for source, outputs in zip(sources, found, strict=True):
        for hypothesis in outputs:
            assert hypothesis.score == pytest.approx(case.score(source, hypothesis.ids), abs=2e-4)
    (alone,) = case.generator.generate(
        sources[1:2], num_beams=3, num_return_sequences=3, max_new_tokens=5
    )
    same(alone, found[1])
    pads = max(map(len, sources))
    left = np.array([[0] * (pads - len(s)) + s for s in sources])
    for moved, outputs in zip(
        case.generator.generate(left, num_beams=3, num_return_sequences=3, max_new_tokens=5),
        found,
        strict=True,
    ):
        same(moved, outputs)


def test_the_state_of_generation_does_not_grow_with_the_source_or_the_steps():
    decoder = Case("roformer", "unilm", attention="linear").generator.decoder
    sizes = set()
    for n, steps in ((3, 2), (9, 6)):
        tokens = keras.ops.convert_to_tensor(np.full((2, n), 5, "int32"))
        inputs = {"token_ids": tokens, "segment_ids": keras.ops.zeros_like(tokens)}
        _, state = decoder.start(inputs, 3, steps)
        sizes.add(tuple(tuple(x.shape) for x in keras.tree.flatten(state)))
    assert len(sizes) == 1


def test_a_model_comes_back_from_a_keras_file(tmp_path):
    keras.utils.set_random_seed(1)
    model = linear({"kind": "performer", "features": 6}, application="unilm")
    inputs = [ids([[2, 9, 6, 3]]), ids([[0, 0, 1, 1]])]
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(to_numpy(again(inputs)), to_numpy(model(inputs)), atol=1e-6)


def test_a_checkpoint_of_softmax_attention_goes_into_linear_attention(tmp_path):
    """The variables are the same; frequencies are not of the checkpoint."""
    before = tiny_model(return_keras_model=False)
    before.save_weights_as_checkpoint(str(tmp_path / "model.ckpt"))
    builder = linear(PERFORMER, return_keras_model=False)
    builder.load_weights_from_checkpoint(str(tmp_path / "model.ckpt"))
    name = "Transformer-1-MultiHeadSelfAttention"
    assert isinstance(builder.layers[name], LinearAttention)
    for part in ("q_dense", "o_dense"):
        for a, b in zip(
            getattr(before.layers[name], part).weights,
            getattr(builder.layers[name], part).weights,
            strict=True,
        ):
            np.testing.assert_array_equal(to_numpy(a.value), to_numpy(b.value))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModels are TensorFlow's")
def test_a_saved_model_of_any_length_computes_the_same(tmp_path):
    import tensorflow as tf

    model = linear("elu1", application="unilm")
    model.export(str(tmp_path / "saved"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    random = np.random.RandomState(0)
    for n in (3, 200):  # one chunk, and two
        tokens = random.randint(5, 20, size=(2, n)).astype("float32")
        segments = np.repeat([np.arange(n) >= n // 2], 2, axis=0).astype("float32")
        expected = to_numpy(model([tokens, segments]))
        computed = served.serve([tokens, segments])
        np.testing.assert_allclose(to_numpy(computed), expected, atol=2e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": "performer"}, r"attention='performer' is unknown: .*'softmax', 'linear'"),
        ({"feature_map": "elu1"}, r"feature_map='elu1' belongs to attention='linear'"),
        ({"attention": "linear", "feature_map": "elu"}, r"'elu' is unknown: choose one of"),
        (
            {"attention": "linear", "residual_attention_scores": True},
            r"residual_attention_scores=True hands scores.*choose one of the two",
        ),
        (
            {
                "attention": "linear",
                "feature_map": {"kind": "taylor", "order": 4},
                "attention_key_size": 64,
            },
            r"814,385 features of 64 channels, and 16,384 are the most",
        ),
        (
            {"attention": "linear", "feature_map": {"kind": "taylor", "order": 3}},
            r"order=3 .* must be an even integer",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_built(change, message):
    keys = {
        "vocab_size": 10,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "hidden_act": "gelu",
    }
    with pytest.raises(ValueError, match=message):
        make_config(keys, change)


def test_packed_rows_are_refused():
    """Documents in one row need a matrix, which linear attention does not have."""
    from bert4kexue.models.pretraining import build_pretrainer

    keys = {
        "vocab_size": 30,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "hidden_act": "gelu",
        "attention": "linear",
    }
    with pytest.raises(ValueError, match=r"no matrix of queries and keys"):
        build_pretrainer(keys, "roformer", ["packed"])


def test_the_default_map_is_elu1():
    model = tiny_model(attention="linear")
    layer = model.get_layer("Transformer-0-MultiHeadSelfAttention")
    assert layer.feature_map.kind == "elu1"
    config = model.get_layer("Transformer-0-MultiHeadSelfAttention").get_config()
    assert config["feature_map"] == {"kind": "elu1"}
