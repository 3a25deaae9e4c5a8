"""A served density: the same numbers as in Python, within the errors of both."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from _linear_gaussian import LinearGaussian

from bert4kexue.methods.density_models import text_vae
from bert4kexue.serving import export_saved_model
from bert4kexue.serving.signatures.density import log_prob

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)

SERVE = """
    import sys
    import numpy as np
    import tensorflow as tf

    serve = tf.saved_model.load(sys.argv[1]).signatures["log_prob"]
    x = np.load(sys.argv[2])
    for rows in (1, len(x)):
        found = {name: value.numpy() for name, value in serve(x=tf.constant(x[:rows])).items()}
    assert not any(name.startswith("bert4kexue") for name in sys.modules)
    np.savez(sys.argv[3], **found)
"""


def serve(vae, x, folder, **options):
    export_saved_model(vae, folder / "m", {"log_prob": log_prob(vae, **options)})
    np.save(folder / "x.npy", x)
    words = [str(folder / name) for name in ("m", "x.npy", "out.npz")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVE), *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "out.npz") as file:
        return dict(file)


def test_a_process_that_knows_only_tensorflow_meets_the_known_density(tmp_path):
    known = LinearGaussian()
    x = known.draw(200)
    found = serve(known.vae, x, tmp_path, samples=1001, chunk=300)
    truth = known.log_prob(x)
    assert ((found["log_prob"] - truth) / found["standard_error"]).std() < 1.5
    assert abs(found["log_prob"].mean() - truth.mean()) < 0.03
    ours = known.vae.log_prob(x, 1001)
    ratio = found["effective_samples"].mean() / ours.effective_samples.mean()
    assert abs(ratio - 1) < 0.1
    assert abs(found["standard_error"].mean() / ours.standard_error.mean() - 1) < 0.1


def test_texts_are_served_as_ids(tmp_path):
    vae = text_vae(4, 5, 2, 8, 4, seed=0)
    ids = np.random.default_rng(0).integers(0, 5, (3, 4)).astype("int32")
    found = serve(vae, ids, tmp_path, samples=500)
    ours = vae.log_prob(ids, 500)
    errors = np.hypot(found["standard_error"], ours.standard_error)
    assert (np.abs(found["log_prob"] - ours.log_prob) < 5 * errors + 1e-5).all()


def test_draws_below_one_are_refused():
    with pytest.raises(ValueError, match="1 or more, got 0"):
        log_prob(text_vae(4, 5, 2, 8, 4), samples=0)
