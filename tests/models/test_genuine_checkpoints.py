"""Checkpoints that other people's TensorFlow wrote, and the names of released ones."""

from __future__ import annotations

import hashlib
import json
import zlib

import _golden_cases as golden
import _reference as reference
import keras
import numpy as np
import pytest

from bert4kexue.checkpoints import CheckpointError, open_checkpoint
from bert4kexue.checkpoints.base import ReaderBase
from bert4kexue.models import build_transformer_model
from bert4kexue.models.architectures import find_architecture
from bert4kexue.models.config import make_config, read_config
from bert4kexue.models.loading import plan_weights

TF1 = golden.GOLDEN / "tf1_checkpoint"
TOY = "ckpt/toy_bert_tf_cyberzhg"
HEADS = {"with_nsp": True, "with_mlm": "linear"}
ALBERTS = ("albert_base_zh_google", "albert_small_zh_google", "albert_tiny_zh_google")
BRIGHTMART = "albert_tiny_zh_489k"
# name -> (configuration that fits, changes of it, heads that the checkpoint has)
BERTS = {
    "bert_chinese_base_finetuned_lxy417": ("chinese_L-12_H-768_A-12.json", {}, {"with_pool": True}),
    "bert_chinese_newsclass": (None, {}, {"with_mlm": True}),
    "bert_uncased_llSid": (None, {}, HEADS),
    "chinese_rbt3_L-3_H-768_A-12": (None, {}, HEADS),
    "chinese_wwm_L-12_H-768_A-12": (None, {}, HEADS),
}


def plan(source, config, **options):
    keys = config if isinstance(config, dict) else read_config(config)
    return plan_weights(find_architecture("bert"), make_config(keys, options), source)


def assert_accounted(loaded, names):
    """Every variable is read, knowingly ignored, or belongs to a head that is not built."""
    read = {row.variable for row in loaded.plan.rows.values()}
    groups = (read, set(loaded.plan.ignored), set(loaded.plan.unused))
    assert sum(map(len, groups)) == len(names)
    assert set.union(*groups) == set(names)
    return tuple(map(len, groups))


def as_arrays(model, token_ids, segment_ids):
    outputs = model([np.float32(token_ids), np.float32(segment_ids)], training=False)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [keras.ops.convert_to_numpy(output) for output in outputs]


# ------------------------------------------------------------------ written by TensorFlow 1's Saver


@pytest.mark.parametrize("folder", ["tf1_checkpoint", "tf1_dtypes"])
def test_values_written_by_tensorflow_1_are_read_bit_for_bit(folder):
    expected = json.loads((golden.GOLDEN / folder / "checksums.json").read_text(encoding="utf-8"))
    with open_checkpoint(golden.GOLDEN / folder) as checkpoint:
        checkpoint.verify()
        assert checkpoint.names() == sorted(expected)
        for name, facts in expected.items():
            array = checkpoint.read(name)
            assert list(array.shape) == list(checkpoint.shape(name)) == facts["shape"]
            assert array.dtype.name == checkpoint.dtype(name).name == facts["dtype"]
            little = array.astype(array.dtype.newbyteorder("<"))
            digest = hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()
            assert digest == facts["sha256"], name


def test_folder_of_tensorflow_1_gives_the_reference_outputs():
    config = read_config(TF1 / "bert_config.json")
    model = build_transformer_model(TF1, **HEADS)
    variables = reference.random_checkpoint(config, "bert", 400)  # the seed of oracles/tf1_saver.py
    batch = reference.random_batch(config, 1, 3, 9)
    expected = reference.forward(config, variables, *batch, **HEADS)
    for mine, theirs in zip(as_arrays(model, *batch), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


def test_variables_of_tensorflow_1_are_all_accounted_for():
    names = json.loads((TF1 / "checksums.json").read_text(encoding="utf-8"))
    weights = [name for name in names if "adam" not in name and name != "global_step"]
    slots = len(names) - len(weights)
    with plan(TF1, TF1 / "bert_config.json", **HEADS) as loaded:
        assert assert_accounted(loaded, names) == (len(weights), slots, 0)
    with plan(TF1, TF1 / "bert_config.json") as loaded:  # without the 2 + 2 + 5 of the heads
        assert assert_accounted(loaded, names) == (len(weights) - 9, slots, 9)


# ------------------------------------------------------------------------------ of the data folder


def test_genuine_toy_bert_loads_with_its_139_variables(data_dir):
    folder = data_dir / TOY
    with open_checkpoint(folder) as checkpoint:
        checkpoint.verify()
        names = checkpoint.names()
        variables = {name: np.array(checkpoint.read(name)) for name in names}
    with plan(folder, folder / "bert_config.json", **HEADS) as loaded:
        assert len(names) == 139
        assert assert_accounted(loaded, names) == (46, 93, 0)
    config = read_config(folder / "bert_config.json")
    batch = reference.random_batch(config, 2, 3, 9)
    expected = reference.forward(config, variables, *batch, **HEADS)
    got = as_arrays(build_transformer_model(folder, **HEADS), *batch)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


class RandomUnderGenuineNames(ReaderBase):
    """The names, shapes and types of a released checkpoint; each value random by its name."""

    description = "random values under genuine names"  # names no family: the error has to

    def __init__(self, entries):
        self._entries = {n: (tuple(shape), np.dtype(dtype)) for n, shape, dtype in entries}

    def names(self):
        return sorted(self._entries)

    def shape(self, name):
        return self._entries[name][0]

    def dtype(self, name):
        return self._entries[name][1]

    def read(self, name):
        shape, dtype = self._entries[name]
        random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        if dtype.kind == "i":
            return random.integers(0, 100, shape, dtype)
        return 0.02 * random.standard_normal(shape, dtype)


@pytest.fixture(scope="module")
def released(data_dir):
    """name -> (a checkpoint with random values, its folder)."""
    folder = data_dir / "ckpt" / "index_only"
    shapes = json.loads((folder / "shapes.json").read_text(encoding="utf-8"))
    assert set(shapes) == {*BERTS, *ALBERTS, BRIGHTMART}
    return {n: (RandomUnderGenuineNames(e), folder / n) for n, e in shapes.items()}


def own_config(folder, data_dir, name):
    if name is not None:
        return data_dir / "ckpt" / "configs" / name
    (path,) = folder.glob("*config*.json")
    return path


@pytest.mark.parametrize("name", BERTS)
def test_released_bert_names_load(name, released, data_dir):
    checkpoint, folder = released[name]
    config, changes, heads = BERTS[name]
    keys = {**read_config(own_config(folder, data_dir, config)), **changes}
    with plan(checkpoint, keys, **heads) as loaded:
        assert_accounted(loaded, checkpoint.names())
        assert not loaded.plan.unused  # exactly the heads that it has
        left = [n for n in loaded.plan.ignored if "adam" not in n and n != "global_step"]
    known = ("output_", "cls/predictions/key/", "cls/predictions/query/", "cls/predictions/value/")
    assert all(n.startswith((*known, "cls/predictions/output_prev_bias")) for n in left)

    model = build_transformer_model(keys, checkpoint, **heads)
    block = model.get_layer("Transformer-2-FeedForward").o_dense.kernel
    value = checkpoint.read("bert/encoder/layer_2/output/dense/kernel")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(block), value)
    outputs = as_arrays(model, [[101, 5, 6, 0]], [[0, 0, 1, 0]])
    assert all(np.isfinite(output).all() for output in outputs)


def test_released_bert_without_a_head_is_refused_by_its_missing_variables(released, data_dir):
    checkpoint, folder = released["bert_chinese_newsclass"]
    config = own_config(folder, data_dir, None)
    with pytest.raises(CheckpointError, match="bert/pooler/dense/kernel"):
        build_transformer_model(config, checkpoint, with_pool=True)
    checkpoint, folder = released["bert_chinese_base_finetuned_lxy417"]
    config = own_config(folder, data_dir, "chinese_L-12_H-768_A-12.json")
    with pytest.raises(CheckpointError, match="cls/predictions/output_bias"):
        build_transformer_model(config, checkpoint, with_mlm=True)


def test_released_vocabulary_of_another_size_is_refused(released, data_dir):
    checkpoint, _ = released["bert_chinese_newsclass"]
    config = own_config(None, data_dir, "chinese_L-12_H-768_A-12.json")
    with pytest.raises(CheckpointError, match=r"word_embeddings.*5981.*21128|21128.*5981"):
        build_transformer_model(config, checkpoint)


@pytest.mark.parametrize("name", [*ALBERTS, BRIGHTMART])
def test_released_albert_is_refused_and_its_family_named(name, released, data_dir):
    checkpoint, folder = released[name]
    config = own_config(folder, data_dir, None)
    with pytest.raises(ValueError, match="ALBERT"):
        build_transformer_model(read_config(config), checkpoint)
    # A configuration that hides the family: the checkpoint's names tell it.
    base = read_config(own_config(None, data_dir, "chinese_L-12_H-768_A-12.json"))
    with pytest.raises(CheckpointError, match="checkpoint of ALBERT") as refusal:
        build_transformer_model(base, checkpoint)
    assert "bert/encoder/layer_0/attention/self/query/kernel" in str(refusal.value)
