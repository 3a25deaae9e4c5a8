"""`model.fit` on the batches of RoFormer-Sim's stages, in whole and mixed precision."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _tiny import CONFIG

from bert4kexue.methods.roformer_sim import build_similarity_trainer


def batch_of(stage):
    rng = np.random.default_rng(0)
    token_ids = rng.integers(5, CONFIG["vocab_size"], (4, 8)).astype("int32")
    batch = {
        "token_ids": token_ids,
        "segment_ids": np.tile(np.array([0] * 4 + [1] * 4, "int32"), (4, 1)),
        "pair_weights": np.ones(4, "float32"),
    }
    if stage == "labelled":
        return {**batch, "pair_labels": np.array([1, 3], "int32")}
    batch |= {
        "positions": np.tile(np.arange(3, 7, dtype="int32"), (4, 1)),
        "labels": token_ids[:, 4:].copy(),
        "weights": np.ones((4, 4), "float32"),
    }
    if stage == "distilled":
        return {**batch, "teacher_cosines": np.eye(4, dtype="float32")}
    return {**batch, "sentences": np.arange(4, dtype="int32")}


@pytest.mark.parametrize(
    ("stage", "policy"),
    [
        ("contrast", "float32"),
        ("distilled", "mixed_float16"),
        ("labelled", "mixed_bfloat16"),
    ],
)
def test_fit_lowers_the_loss(stage, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(1)
        config = {**CONFIG, "num_hidden_layers": 1}
        trainer = build_similarity_trainer(config, dropout=0.0).trainer
    finally:
        keras.config.set_dtype_policy(before)
    trainer.compile(keras.optimizers.Adam(3e-3))

    def batches():
        while True:
            yield (batch_of(stage),)

    history = trainer.fit(batches(), steps_per_epoch=4, epochs=4, verbose=0, shuffle=False)
    losses = history.history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
