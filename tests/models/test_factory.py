"""build_transformer_model: options, sharing, round trips, and refusals before a model is made."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
from _reference import forward, random_batch, random_checkpoint
from _tiny import CONFIG
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.checkpoints import CheckpointError, open_checkpoint, write_tf_checkpoint
from bert4kexue.layers import MultiHeadAttention
from bert4kexue.models import BERT, build_transformer_model
from bert4kexue.models import factory as factory_module

FAMILIES = ("bert", "roformer")


def predict(model, *inputs):
    return keras.tree.map_structure(
        keras.ops.convert_to_numpy,
        model([keras.ops.convert_to_tensor(x.astype("float32")) for x in inputs]),
    )


@pytest.fixture
def no_building(monkeypatch):
    """Fails a test that begins to build: bad input must be told before."""

    def build(self, **kwargs):
        pytest.fail("a model was built before the mistake was told")

    monkeypatch.setattr(factory_module.Transformer, "build", build)


@pytest.fixture
def folder(tmp_path):
    """A small checkpoint in the original layout."""
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(25))]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    write_tf_checkpoint(tmp_path / "bert_model.ckpt", random_checkpoint(CONFIG, "bert", seed=3))
    return tmp_path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 8))
@settings(max_examples=5, deadline=None)
def test_padding_does_not_change_real_tokens(family, application, seed, n, more):
    model = built(family, application)
    token_ids, segment_ids = random_batch(CONFIG, seed, 3, n, pad=False)
    wide = [np.pad(x, ((0, 0), (0, more))) for x in (token_ids, segment_ids)]
    np.testing.assert_allclose(
        predict(model, *wide)[:, :n], predict(model, token_ids, segment_ids), atol=1e-5
    )


_BUILT: dict[tuple[str, str], keras.Model] = {}


def built(family, application):
    key = (family, application)
    if key not in _BUILT:
        head = {"with_mlm": "linear"} if application != "encoder" else {}
        weights = random_checkpoint(CONFIG, family, seed=1)
        _BUILT[key] = build_transformer_model(
            CONFIG, weights, model=family, application=application, **head
        )
    return _BUILT[key]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_finite_and_near_float32(family, policy):
    weights = random_checkpoint(CONFIG, family, seed=1)
    token_ids, segment_ids = random_batch(CONFIG, 5, 3, 9)
    token_ids[1] = 0  # a row that is all padding
    exact = forward(CONFIG, weights, token_ids, segment_ids, family=family, with_mlm=True)
    keras.config.set_dtype_policy(policy)
    try:
        model = build_transformer_model(CONFIG, weights, model=family, with_mlm=True)
    finally:
        keras.config.set_dtype_policy("float32")
    y = predict(model, token_ids, segment_ids)
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y.sum(-1), 1.0, atol=1e-3)
    real = token_ids != 0
    assert np.abs(y - exact)[real].max() < 0.02


def test_a_folder_in_the_original_layout_stands_for_config_and_checkpoint(folder):
    token_ids, segment_ids = random_batch(CONFIG, 0, 3, 7)
    weights = random_checkpoint(CONFIG, "bert", seed=3)
    expected = forward(CONFIG, weights, token_ids, segment_ids)
    for arguments in (
        (folder,),
        (str(folder),),
        (folder / "bert_config.json", folder / "bert_model.ckpt"),
    ):
        model = build_transformer_model(*arguments)
        computed = predict(model, token_ids, segment_ids)
        np.testing.assert_allclose(computed, expected, atol=1e-5)


def test_saved_checkpoints_have_the_original_names_and_bytes(folder, tmp_path):
    builder = build_transformer_model(
        folder, with_nsp=True, with_mlm=True, return_keras_model=False
    )
    builder.save_weights_as_checkpoint(tmp_path / "again.ckpt")
    with (
        open_checkpoint(folder / "bert_model.ckpt") as a,
        open_checkpoint(tmp_path / "again.ckpt") as b,
    ):
        assert a.names() == b.names()
        for name in a.names():
            np.testing.assert_array_equal(a.read(name), b.read(name))
    first = (folder / "bert_model.ckpt.data-00000-of-00001").read_bytes()
    assert (tmp_path / "again.ckpt.data-00000-of-00001").read_bytes() == first


def test_float16_on_disk_comes_back_as_float32_of_the_same_values(tmp_path):
    weights = random_checkpoint(CONFIG, "roformer", seed=3)
    builder = build_transformer_model(CONFIG, weights, "roformer", return_keras_model=False)
    builder.save_weights_as_checkpoint(tmp_path / "half.ckpt", dtype="float16")
    for dtype in ("flaot16", "int8"):
        with pytest.raises(ValueError, match="the dtype of a checkpoint is one of float16, bfloat"):
            builder.save_weights_as_checkpoint(tmp_path / "none.ckpt", dtype=dtype)
    name = "bert/embeddings/word_embeddings"
    with open_checkpoint(tmp_path / "half.ckpt") as stored:
        assert stored.dtype(name) == np.float16
    builder.load_weights_from_checkpoint(tmp_path / "half.ckpt")
    table = keras.ops.convert_to_numpy(builder.layers["Embedding-Token"].embeddings.value)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table, weights[name].astype("float16").astype("float32"))


def test_a_cut_vocabulary_is_not_written_as_if_it_were_whole(tmp_path):
    weights = random_checkpoint(CONFIG, "bert", seed=3)
    builder = build_transformer_model(
        CONFIG, weights, keep_tokens=[0, 5, 7], return_keras_model=False
    )
    with pytest.raises(ValueError, match="30 to 3 tokens"):
        builder.save_weights_as_checkpoint(tmp_path / "cut.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_a_model_comes_back_from_a_keras_file(tmp_path):
    weights = random_checkpoint(CONFIG, "roformer", seed=1)
    model = build_transformer_model(
        CONFIG, weights, "roformer", application="unilm", with_pool="linear"
    )
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    batch = random_batch(CONFIG, 0, 3, 7)
    for a, b in zip(predict(model, *batch), predict(again, *batch), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_layers_keep_bert4keras_names_and_prefixes_make_room_for_two():
    one = build_transformer_model(CONFIG, with_pool=True, with_mlm=True)
    names = [layer.name for layer in one.layers]
    for name in (
        "Input-Token",
        "Input-Segment",
        "Embedding-Token",
        "Embedding-Token-Segment",
        "Embedding-Position",
        "Embedding-Norm",
        "Transformer-1-MultiHeadSelfAttention-Add",
        "Transformer-1-FeedForward-Norm",
        "Pooler-Dense",
        "MLM-Activation",
    ):
        assert name in names
    assert not any("Dropout" in name for name in names)
    plain = build_transformer_model(CONFIG)
    assert plain.layers[-2].name == "Transformer-1-FeedForward-Add"
    two = [build_transformer_model(CONFIG, prefix=p) for p in ("A-", "B-")]
    joined = keras.Model(two[0].inputs + two[1].inputs, [m.output for m in two])
    assert {"A-Embedding-Token", "B-Embedding-Token"} <= {layer.name for layer in joined.layers}


def test_a_subclass_that_overrides_apply_sees_every_layer():
    seen = []

    class Counting(BERT):
        def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
            seen.append((layer, kwargs["name"]))
            return super().apply(inputs, layer, arguments, **kwargs)

    weights = random_checkpoint(CONFIG, "bert", seed=1)
    model = build_transformer_model(CONFIG, weights, model=Counting)
    assert (MultiHeadAttention, "Transformer-1-MultiHeadSelfAttention") in seen
    batch = random_batch(CONFIG, 0, 2, 5)
    np.testing.assert_allclose(predict(model, *batch), forward(CONFIG, weights, *batch), atol=1e-5)


def test_blocks_called_again_share_their_weights():
    builder = build_transformer_model(CONFIG, return_keras_model=False)
    count = len(builder.model.weights)
    x = builder.apply_embeddings(builder.inputs)
    x = builder.apply_main_layers(builder.apply_main_layers(x, 0), 1)
    again = keras.Model(builder.inputs, x)
    assert len(again.weights) == count
    batch = random_batch(CONFIG, 0, 2, 5)
    np.testing.assert_allclose(predict(again, *batch), predict(builder.model, *batch), atol=1e-6)


def test_a_given_layer_is_shared():
    first = build_transformer_model(CONFIG, return_keras_model=False)
    shared = {"Embedding-Token": first.layers["Embedding-Token"]}
    second = build_transformer_model(CONFIG, layers=shared)
    assert second.get_layer("Embedding-Token") is first.layers["Embedding-Token"]


def test_cached_keys_stand_before_the_sequence():
    cache = keras.Input((None, 16), name="cache")
    name = "Transformer-0-MultiHeadSelfAttention"
    model = build_transformer_model(
        {**CONFIG, "num_hidden_layers": 1},
        random_checkpoint({**CONFIG, "num_hidden_layers": 1}, "bert", seed=1),
        attention_caches={name: [cache, cache]},
        additional_input_layers=cache,
    )
    token_ids, segment_ids = random_batch(CONFIG, 0, 2, 5)
    plain = build_transformer_model(
        {**CONFIG, "num_hidden_layers": 1},
        random_checkpoint({**CONFIG, "num_hidden_layers": 1}, "bert", seed=1),
    )
    # Caching the embeddings of the sequence itself doubles every key: softmax stays what it was.
    x = keras.Model(plain.inputs, plain.get_layer("Embedding-Norm").output)
    doubled = predict(model, token_ids, segment_ids, predict(x, token_ids, segment_ids))
    full = (token_ids != 0).all(1)
    np.testing.assert_allclose(
        doubled[full], predict(plain, token_ids, segment_ids)[full], atol=1e-5
    )


def test_training_reaches_every_weight_of_a_unilm():
    model = build_transformer_model(
        CONFIG, application="unilm", with_pool="linear", dropout_rate=0.1, model="roformer"
    )
    pooled, tokens = model.outputs
    joined = keras.Model(model.inputs, [pooled, tokens])
    joined.compile("sgd", loss=["mse", "sparse_categorical_crossentropy"])
    before = [keras.ops.convert_to_numpy(v).copy() for v in joined.trainable_variables]
    token_ids, segment_ids = random_batch(CONFIG, 0, 4, 6)
    joined.train_on_batch(
        [token_ids, segment_ids], [np.ones((4, 16), "float32"), token_ids.astype("int32")]
    )
    for old, variable in zip(before, joined.trainable_variables, strict=True):
        if "k_dense/bias" not in variable.path:
            new = keras.ops.convert_to_numpy(variable)
            assert not np.array_equal(old, new), variable.path


# --- what is refused, before anything is built ---------------------------------------------------


def test_unknown_config_keys_are_refused_by_name(no_building):
    with pytest.raises(ValueError, match=r"'hiden_act' \(did you mean 'hidden_act'"):
        build_transformer_model({**CONFIG, "hiden_act": "relu"})
    with pytest.raises(ValueError, match="with_pooling"):
        build_transformer_model(CONFIG, with_pooling=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_groups": 1}, "ALBERT"),
        ({"use_relative_position": True}, "NEZHA"),
        ({"num_attention_heads": 5}, r"hidden_size=16.*num_attention_heads=5"),
        ({"hidden_dropout_prob": 1.5}, r"dropout_rate=1.5.*\[0, 1\)"),
        ({"vocab_size": 0}, "vocab_size=0"),
        ({"position_embedding_type": "relative_key"}, "'relative_key'"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps=1e-05"),
    ],
)
def test_a_config_that_cannot_be_is_refused(no_building, change, message):
    with pytest.raises(ValueError, match=message):
        build_transformer_model({**CONFIG, **change})


def test_an_incomplete_or_absent_config_is_refused(no_building, tmp_path):
    with pytest.raises(ValueError, match=r"lacks \['hidden_size'\]"):
        build_transformer_model({k: v for k, v in CONFIG.items() if k != "hidden_size"})
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        build_transformer_model(tmp_path / "nowhere.json")
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.json is not a JSON file"):
        build_transformer_model(tmp_path / "broken.json")


def test_unknown_models_and_applications_are_refused(no_building):
    with pytest.raises(ValueError, match=r"model='rofomer'.*'roformer'"):
        build_transformer_model(CONFIG, model="rofomer")
    with pytest.raises(ValueError, match=r"application='seq2seq'.*'unilm'"):
        build_transformer_model(CONFIG, application="seq2seq")
    with pytest.raises(ValueError, match=r"segment_vocab_size=0"):
        build_transformer_model(CONFIG, application="unilm", segment_vocab_size=0)


def test_a_checkpoint_of_another_family_is_refused(no_building):
    bert = random_checkpoint(CONFIG, "bert", seed=1)
    with pytest.raises(CheckpointError, match="bert/embeddings/position_embeddings"):
        build_transformer_model(CONFIG, bert, model="roformer")
    # RoFormerV2 has neither biases nor scales.
    v2 = {
        name: value
        for name, value in random_checkpoint(CONFIG, "roformer", seed=1).items()
        if name.rsplit("/", 1)[-1] not in ("bias", "beta", "gamma", "output_bias")
    }
    with pytest.raises(CheckpointError, match=r"attention/self/query/bias"):
        build_transformer_model(CONFIG, v2, model="roformer")


def test_a_config_that_does_not_fit_is_refused_with_every_variable_at_once(no_building):
    weights = random_checkpoint(CONFIG, "bert", seed=1)
    with pytest.raises(CheckpointError, match=r"misshapen") as caught:
        build_transformer_model({**CONFIG, "vocab_size": 31}, weights)
    assert "31" in str(caught.value)
    weights["bert/extra"] = np.zeros(3)
    del weights["bert/embeddings/LayerNorm/beta"]
    with pytest.raises(CheckpointError) as caught:
        build_transformer_model({**CONFIG, "intermediate_size": 20}, weights)
    for name in ("bert/extra", "bert/embeddings/LayerNorm/beta", "intermediate/dense/kernel"):
        assert name in str(caught.value)


def test_damaged_checkpoints_are_refused(no_building, folder):
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    whole = data.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    data.write_bytes(bytes(flipped))
    with pytest.raises(CheckpointError, match=r"(?i)checksum"):
        build_transformer_model(folder)
    data.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match=r"truncated|bytes"):
        build_transformer_model(folder)
    data.unlink()
    with pytest.raises(CheckpointError, match="data-00000-of-00001"):
        build_transformer_model(folder)


def test_a_vocabulary_of_another_size_is_refused(no_building, folder):
    with (folder / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("\nmore")
    with pytest.raises(ValueError, match=r"31 tokens.*vocab_size=30"):
        build_transformer_model(folder)


def test_a_head_that_the_checkpoint_lacks_is_refused(no_building):
    weights = random_checkpoint(CONFIG, "bert", seed=1)
    headless = {name: value for name, value in weights.items() if "pooler" not in name}
    with pytest.raises(CheckpointError, match="bert/pooler/dense/kernel"):
        build_transformer_model(CONFIG, headless, with_pool=True)


def test_ids_outside_the_vocabulary_are_refused(no_building):
    weights = random_checkpoint(CONFIG, "bert", seed=1)
    with pytest.raises(ValueError, match=r"keep_tokens.*99"):
        build_transformer_model(CONFIG, weights, keep_tokens=[0, 99])


def test_invalid_weights_may_be_skipped_with_a_warning():
    weights = random_checkpoint(CONFIG, "bert", seed=1)
    del weights["bert/pooler/dense/kernel"]
    with pytest.warns(UserWarning, match="bert/pooler/dense/kernel is not in the checkpoint"):
        build_transformer_model(CONFIG, weights, with_pool=True, ignore_invalid_weights=True)


def test_a_name_or_an_archive_stands_for_config_and_checkpoint(folder, tmp_path, monkeypatch):
    archive = shutil.make_archive(str(tmp_path / "packed" / "tiny_bert"), "zip", folder)
    (tmp_path / "pretrained").mkdir()
    shutil.copy(archive, tmp_path / "pretrained" / "tiny_bert.zip")
    monkeypatch.chdir(tmp_path)
    batch = random_batch(CONFIG, 5, 2, 6)
    expected = predict(build_transformer_model(folder), *batch)
    for source in (archive, "tiny_bert"):
        np.testing.assert_array_equal(predict(build_transformer_model(source), *batch), expected)


def test_the_family_is_told_by_the_variables(tmp_path):
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    weights = random_checkpoint(CONFIG, "roformer", seed=3)
    write_tf_checkpoint(tmp_path / "bert_model.ckpt", weights)
    model = build_transformer_model(tmp_path, return_keras_model=False)
    assert model.architecture.name == "roformer"


def test_a_family_that_is_not_built_is_named(tmp_path, no_building):
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    albert = {"bert/encoder/transformer/group_0/inner_group_0/x": np.zeros(3, "float32")}
    write_tf_checkpoint(tmp_path / "bert_model.ckpt", albert)
    with pytest.raises(CheckpointError, match="of the family ALBERT"):
        build_transformer_model(tmp_path)
