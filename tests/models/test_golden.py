"""Our models against bert4keras itself and Hugging Face transformers, on tiny random weights."""

from __future__ import annotations

import _golden_cases as golden
import keras
import numpy as np
import pytest

from bert4kexue.checkpoints import as_original, is_huggingface, open_checkpoint
from bert4kexue.models import build_transformer_model

TOLERANCE = 1e-5
BERT4KERAS = golden.cases("bert4keras_models.npz")
HUGGINGFACE = golden.cases("huggingface_models.npz")
SAVED = [case for case in HUGGINGFACE if "saved" in case]


def build(case, source):
    """The library's model of a case, from a checkpoint or whatever may stand for one."""
    options = golden.build_options(case)
    condition = case["options"].get("condition")
    if condition:
        given = keras.Input((condition["size"],), name="Input-Condition")
        options["layer_norm_cond"] = given
        options["additional_input_layers"] = given
        options["layer_norm_cond_hidden_size"] = condition["hidden"]
        options["layer_norm_cond_hidden_act"] = condition["act"]
    model = build_transformer_model(
        checkpoint_path=source, model=case["family"], **case["config"], **options
    )
    if condition:
        for layer, kernels in golden.condition_weights(case).items():
            for name, kernel in kernels.items():
                getattr(model.get_layer(layer), name).kernel.assign(kernel)
    return model


def outputs(model, case):
    """What a model gives for a case's inputs, as a list of arrays."""
    order = ("token_ids", "segment_ids", "position_ids", "condition")
    inputs = [case["inputs"][k].astype("float32") for k in order if k in case["inputs"]]
    result = model(inputs[0] if len(inputs) == 1 else inputs, training=False)
    result = result if isinstance(result, list | tuple) else [result]
    return [keras.ops.convert_to_numpy(r) for r in result]


def assert_same(got, case):
    assert len(got) == len(case["outputs"])
    for mine, theirs in zip(got, case["outputs"], strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", BERT4KERAS, ids=golden.name)
def test_model_equals_bert4keras(case):
    assert_same(outputs(build(case, golden.variables(case)), case), case)


@pytest.mark.parametrize("case", HUGGINGFACE, ids=golden.name)
def test_model_equals_huggingface(case):
    assert_same(outputs(build(case, golden.variables(case)), case), case)


@pytest.mark.parametrize("case", SAVED, ids=golden.name)
def test_model_loads_what_save_pretrained_wrote(case):
    file = golden.GOLDEN / case["saved"] / "model.safetensors"
    assert_same(outputs(build(case, file), case), case)


@pytest.mark.parametrize("case", SAVED, ids=golden.name)
def test_folder_of_save_pretrained_stands_for_config_and_checkpoint(case):
    folder = golden.GOLDEN / case["saved"]
    model = build_transformer_model(folder, model=case["family"], **golden.build_options(case))
    assert_same(outputs(model, case), case)


@pytest.mark.parametrize("case", SAVED, ids=golden.name)
def test_huggingface_file_reads_as_the_original_checkpoint(case):
    expected = golden.variables(case)
    if case["family"] == "roformer":  # RoFormerForMaskedLM has neither of these heads
        expected = {k: v for k, v in expected.items() if "pooler" not in k}
        expected = {k: v for k, v in expected.items() if "seq_relationship" not in k}
    with open_checkpoint(golden.GOLDEN / case["saved"] / "model.safetensors") as checkpoint:
        assert is_huggingface(checkpoint)
        original = as_original(checkpoint)
        assert set(original.names()) >= set(expected)
        for name, array in expected.items():
            assert original.shape(name) == array.shape
            np.testing.assert_array_equal(original.read(name), array)


def test_original_checkpoint_is_left_alone():
    variables = golden.variables(BERT4KERAS[0])
    checkpoint = open_checkpoint(variables)
    assert not is_huggingface(checkpoint)
    assert sorted(as_original(checkpoint).names()) == sorted(variables)


def test_a_lost_bias_would_show():
    """The random weights are such that small mistakes exceed the tolerance by far."""
    case = next(c for c in BERT4KERAS if golden.name(c) == "bert-hidden")
    (expected,) = case["outputs"]
    variables = golden.variables(case)
    variables["bert/encoder/layer_1/attention/self/query/bias"][:] = 0
    (got,) = outputs(build(case, variables), case)
    assert np.abs(got - expected).max() > 100 * TOLERANCE
