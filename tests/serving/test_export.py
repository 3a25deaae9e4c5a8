"""SavedModels: signatures by name, dynamic shapes, and service without Keras."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from _reference import random_batch, random_checkpoint
from _tiny import CONFIG

from bert4kexue.models import build_transformer_model
from bert4kexue.serving import Signature, default_signature, export_saved_model

pytest.importorskip("tensorflow")

SERVE = """
    import json, sys
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(sys.argv[1])
    batches = np.load(sys.argv[2])
    result = {}
    for name, serve in loaded.signatures.items():
        inputs = serve.structured_input_signature[1]
        result[name] = {key: spec.dtype.name for key, spec in inputs.items()}
        for k in range(2):
            ids = {key: tf.constant(batches[f"{key}_{k}"], tf.int32) for key in inputs}
            for key, value in serve(**ids).items():
                np.save(f"{sys.argv[3]}/{name}-{key}-{k}.npy", value.numpy())
    # TensorFlow imports Keras itself; of ours there must be nothing.
    assert not any(module.startswith("bert4kexue") for module in sys.modules)
    print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def model():
    return build_transformer_model(
        CONFIG,
        random_checkpoint(CONFIG, "roformer", seed=1),
        "roformer",
        application="unilm",
        with_pool="linear",
    )


def test_a_process_that_knows_only_tensorflow_serves_the_same(model, tmp_path):
    pooled = Signature(
        keras.Model(model.inputs, model.outputs[0]), ("token_ids", "segment_ids"), ("pooled",)
    )
    export_saved_model(
        model, tmp_path / "m", {"serving_default": default_signature(model), "vectors": pooled}
    )
    batches = {}
    for k, (rows, length) in enumerate([(1, 5), (7, 12)]):
        token_ids, segment_ids = random_batch(CONFIG, k, rows, length)
        batches |= {f"token_ids_{k}": token_ids, f"segment_ids_{k}": segment_ids}
    np.savez(tmp_path / "batches.npz", **batches)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(SERVE),
            str(tmp_path / "m"),
            str(tmp_path / "batches.npz"),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    inputs = {"token_ids": "int32", "segment_ids": "int32"}
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "serving_default": inputs,
        "vectors": inputs,
    }
    for k in range(2):
        ids = [batches[f"token_ids_{k}"], batches[f"segment_ids_{k}"]]
        expected = model.predict(ids, verbose=0)
        for name, value in (
            ("serving_default-pooled", expected[0]),
            ("serving_default-token_probabilities", expected[1]),
            ("vectors-pooled", expected[0]),
        ):
            served = np.load(tmp_path / f"{name}-{k}.npy")
            np.testing.assert_allclose(served, value, atol=1e-5)


def test_an_existing_folder_is_left_alone(model, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "precious").write_text("x", encoding="utf-8")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_saved_model(model, tmp_path / "m")
    assert (tmp_path / "m" / "precious").exists()


def test_a_failed_export_leaves_nothing(model, tmp_path):
    wrong = Signature(model, ("token_ids", "segment_ids"), ("pooled",))  # two outputs, one name
    with pytest.raises(ValueError, match=r"shorter|argument"):
        export_saved_model(model, tmp_path / "m", {"serving_default": wrong})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_is_told_what_to_do(model, tmp_path, monkeypatch, backend):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(RuntimeError, match=rf"runs {backend}: .*KERAS_BACKEND=tensorflow"):
        export_saved_model(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
