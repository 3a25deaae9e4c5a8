"""autoresize_weights: a narrower checkpoint in a wider model, as bert4keras does it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _golden_cases import load
from _reference import random_checkpoint
from _tiny import CONFIG
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.checkpoints import CheckpointError
from bert4kexue.checkpoints.resizing import orthogonally_resize
from bert4kexue.models import build_transformer_model
from bert4kexue.models.loading import find_weight


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_resized_weights_are_bert4keras_own(act):
    manifest, arrays = load("bert4keras_autoresize.npz")
    small = manifest["small"] | {"hidden_act": act}
    builder = build_transformer_model(
        small | manifest["wide"],
        random_checkpoint(small, "bert", manifest["seed"]),
        with_pool=True,
        with_mlm=True,
        autoresize_weights=True,
        return_keras_model=False,
    )
    rows, wanted = builder.architecture.rows(builder.config)
    compared = 0
    for row in rows:
        if row.weight in wanted:
            value = keras.ops.convert_to_numpy(find_weight(builder, row.weight))
            np.testing.assert_allclose(value, arrays[f"{act}/{row.variable}"], atol=1e-6)
            compared += 1
    assert compared == sum(name.startswith(act) for name in arrays)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_resizing_keeps_the_norm_and_copies_groups(rows, columns, new_rows, new_columns):
    array = np.random.RandomState(0).normal(size=(2 * rows, 2 * columns))
    resized = orthogonally_resize(array, (new_rows, new_columns))
    assert resized.shape == (new_rows, new_columns)
    assert np.linalg.norm(resized) == pytest.approx(np.linalg.norm(array))
    # Every entry is one of the array's, all in one proportion.
    proportion = resized[0, 0] / array[0, 0]
    assert np.isin(np.round(resized / proportion, 8), np.round(array, 8)).all()


def test_what_cannot_be_resized_is_refused():
    weights = random_checkpoint(CONFIG, "bert", seed=1)
    with pytest.raises(CheckpointError, match=r"vocabulary differs"):
        build_transformer_model({**CONFIG, "vocab_size": 40}, weights, autoresize_weights=True)
    with pytest.raises(ValueError, match=r"axis 0 of size 3 cannot grow to 4"):
        orthogonally_resize(np.zeros(3), (4,))
    with pytest.raises(ValueError, match=r"shape \(3,\) cannot be resized to \(3, 1\)"):
        orthogonally_resize(np.zeros(3), (3, 1))
