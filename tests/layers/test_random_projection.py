"""The layer is the NumPy projection of its seed, and keeps nothing else."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from tiny_models import tiny_model

from bert4kexue.analysis import project
from bert4kexue.layers import RandomProjection

KINDS = ["gaussian", "sign", "sparse", "hadamard"]
X = np.random.default_rng(0).normal(size=(5, 24)).astype("float32")


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_the_projection_of_its_seed(kind):
    computed = keras.ops.convert_to_numpy(RandomProjection(9, kind, seed=2**63 + 5)(X))
    np.testing.assert_allclose(computed, project(X, 9, kind, 2**63 + 5), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_keep_their_axes_and_mask(kind):
    x = np.random.default_rng(1).normal(size=(2, 3, 24)).astype("float32")
    layer = RandomProjection(9, kind)
    computed = keras.ops.convert_to_numpy(layer(x))
    assert computed.shape == (2, 3, 9)
    np.testing.assert_allclose(computed[1], project(x[1], 9, kind), atol=1e-5)
    assert layer.compute_mask(x, "the mask") == "the mask"


@pytest.mark.parametrize("kind", KINDS)
def test_its_seed_is_all_that_a_file_holds(kind, tmp_path):
    model = keras.Sequential([keras.Input((24,)), RandomProjection(9, kind, seed=3)])
    assert model.count_params() == 0
    expected = model.predict(X, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(X, verbose=0), expected)


def test_gradients_flow_through_it():
    model = keras.Sequential(
        [keras.Input((24,)), keras.layers.Dense(24), RandomProjection(8, "hadamard")]
    )
    before = keras.ops.convert_to_numpy(model.layers[0].kernel).copy()
    model.compile("sgd", "mse")
    model.fit(X, np.ones((5, 8), "float32"), verbose=0)
    assert not np.array_equal(before, keras.ops.convert_to_numpy(model.layers[0].kernel))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")
def test_an_encoder_is_exported_with_it_and_needs_tensorflow_alone(tmp_path):
    from bert4kexue.serving import export_saved_model

    encoder = tiny_model(application="encoder", with_pool="linear")
    fast = RandomProjection(12, "hadamard", 4)(encoder.outputs[0])
    model = keras.Model(encoder.inputs, RandomProjection(6, seed=4)(fast))
    ids = np.random.default_rng(0).integers(2, 9, (3, 5)).astype("int32")
    expected = model.predict_on_batch([ids, np.zeros_like(ids)])
    path = export_saved_model(model, tmp_path / "served")
    np.savez(tmp_path / "case.npz", ids=ids, expected=expected)
    script = f"""
        import sys, numpy as np, tensorflow as tf
        case = np.load({str(tmp_path / "case.npz")!r})
        serve = tf.saved_model.load({str(path)!r}).signatures["serving_default"]
        ids = tf.constant(case["ids"])
        found = list(serve(token_ids=ids, segment_ids=tf.zeros_like(ids)).values())[0].numpy()
        np.testing.assert_allclose(found, case["expected"], atol=1e-5)
        assert not [name for name in sys.modules if name.startswith("bert4kexue")]
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="kind must be one of"):
        RandomProjection(3, "haar")
    with pytest.raises(ValueError, match="sizes of 1 or more"):
        RandomProjection(0)
    with pytest.raises(ValueError, match="a seed is an integer"):
        RandomProjection(3, seed=-1)
    with pytest.raises(ValueError, match="size of the last axis"):
        RandomProjection(3)(keras.Input((None,)))
    with pytest.raises(ValueError, match="has 32 outputs"):
        RandomProjection(33, "hadamard")(X)
    with pytest.warns(UserWarning, match="reduces nothing"):
        RandomProjection(24)(X)
