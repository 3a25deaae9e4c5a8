"""The mean of checkpoints against NumPy, whatever the formats; what has no mean is refused."""

from __future__ import annotations

import numpy as np
import pytest

from bert4kexue.checkpoints import (
    CheckpointError,
    average_checkpoints,
    open_checkpoint,
    write_tf_checkpoint,
)


def arrays(seed):
    rng = np.random.default_rng(seed)
    return {
        "bert/embeddings/word_embeddings": rng.normal(size=(5, 3)).astype(np.float32),
        "bert/half": rng.normal(size=4).astype(np.float16),
        "count": np.int32(7),
    }


@pytest.fixture
def two(tmp_path):
    adam = {"bert/half/adam_m": np.zeros(4, np.float32), "global_step": np.int64(3)}
    write_tf_checkpoint(tmp_path / "one" / "model.ckpt", {**arrays(1), **adam})
    np.savez(tmp_path / "two.npz", **arrays(2))
    return [tmp_path / "one", tmp_path / "two.npz"]


@pytest.mark.parametrize("shares", [None, [3, 1], [1.5, -0.5]])
def test_the_mean_is_numpys(two, tmp_path, shares):
    average_checkpoints(two, tmp_path / "mean" / "m.ckpt", shares)
    weights = np.array(shares or [1, 1]) / sum(shares or [1, 1])
    one, other = arrays(1), arrays(2)
    with open_checkpoint(tmp_path / "mean") as found:
        assert found.names() == sorted(one), "an optimizer's state is left out"
        assert found.read("count") == 7
        for name in ("bert/embeddings/word_embeddings", "bert/half"):
            exact = weights[0] * one[name].astype(float) + weights[1] * other[name].astype(float)
            assert found.dtype(name) == one[name].dtype
            np.testing.assert_array_equal(found.read(name), exact.astype(one[name].dtype))


def test_what_has_no_mean_is_refused_and_leaves_nothing(two, tmp_path):
    with pytest.raises(CheckpointError, match="two checkpoints or more, got 1"):
        average_checkpoints(two[:1], tmp_path / "mean" / "m.ckpt")
    for shares in ([1], [1, float("nan")], [1, -1]):
        with pytest.raises(CheckpointError, match="as many finite shares that do not sum to 0"):
            average_checkpoints(two, tmp_path / "mean" / "m.ckpt", shares)
    for change in ({"other": np.zeros(2)}, {"bert/half": np.zeros(5, np.float16)}):
        np.savez(tmp_path / "third.npz", **{**arrays(3), **change})
        with pytest.raises(CheckpointError, match=f"differ in 1: {next(iter(change))}"):
            average_checkpoints([two[0], tmp_path / "third.npz"], tmp_path / "mean" / "m.ckpt")
    np.savez(tmp_path / "third.npz", **{**arrays(3), "count": np.int32(8)})
    with pytest.raises(CheckpointError, match="count is of int32 and differs"):
        average_checkpoints([two[0], tmp_path / "third.npz"], tmp_path / "mean" / "m.ckpt")
    assert not list(tmp_path.glob("mean/*"))
