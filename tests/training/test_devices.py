"""`bert4kexue pretrain run --devices all`, on two devices that JAX makes of one processor."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest

from bert4kexue.cli import main
from bert4kexue.training.run import filled_up

ROOT = Path(__file__).resolve().parents[2]
LINES = ["今天天气很好，我们去公园。", "明天有雨，在家看书。", "他喜欢吃苹果和香蕉。"] * 5
CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX splits the batches")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with records, a vocabulary, a config and scored pairs."""
    folder = tmp_path_factory.mktemp("prepared")
    corpus, vocabulary = folder / "c.txt", folder / "vocab.txt"
    corpus.write_text("\n".join(LINES), encoding="utf-8")
    assert main(["pretrain", "vocab", str(corpus), "--output", str(vocabulary)]) == 0
    prepare = ["pretrain", "prepare", str(corpus), "--vocab", str(vocabulary)]
    assert main([*prepare, "--output", str(folder / "records")]) == 0
    size = len(vocabulary.read_text(encoding="utf-8").splitlines())
    config = json.dumps({**CONFIG, "vocab_size": size})
    (folder / "config.json").write_text(config, encoding="utf-8")
    pairs = [{"a": a, "b": b, "score": i} for i, (a, b) in enumerate(pairwise(LINES))]
    scored = "\n".join(json.dumps(row, ensure_ascii=False) for row in pairs[:9])
    (folder / "scored.jsonl").write_text(scored, encoding="utf-8")
    return folder


def run(prepared, output, devices, count):
    """The command in a process of its own, with `count` devices; its losses."""
    command = [sys.executable, "-m", "bert4kexue", "pretrain", "run", "--devices", devices]
    for option, name in (("vocab", "vocab.txt"), ("config", "config.json")):
        command += [f"--{option}", str(prepared / name)]
    command += ["--records", str(prepared / "records"), "--scored", str(prepared / "scored.jsonl")]
    command += ["--objective", "masked=1", "--objective", "scored=1", "--output", str(output)]
    # Seven rows of 16, or three pairs: what two devices cannot share without empty rows.
    command += ["--steps", "6", "--length", "16", "--tokens", "112", "--dtype", "float32"]
    command += ["--log-every", "1", "--save-every", "2"]
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
    }
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    with (output / "loss.csv").open(encoding="utf-8", newline="") as file:
        return [[float(x or 0) for x in row] for row in list(csv.reader(file))[1:]]


@on_jax
def test_two_devices_train_what_one_does(prepared, tmp_path):
    one = run(prepared, tmp_path / "one", "one", 1)
    two = run(prepared, tmp_path / "two", "all", 2)
    assert len(one) == 6
    assert all(any(row[column] for row in one) for column in (2, 3)), "both objectives had a step"
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-5)
    with (
        np.load(tmp_path / "one" / "state.npz") as first,
        np.load(tmp_path / "two" / "state.npz") as second,
    ):
        for name in first.files:
            if name != "counters":
                np.testing.assert_allclose(second[name], first[name], atol=2e-3, err_msg=name)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX splits the batches")
def test_other_backends_are_told(prepared, tmp_path, capsys):
    command = ["pretrain", "run", "--devices", "all", "--steps", "2", "--objective", "masked=1"]
    command += ["--vocab", str(prepared / "vocab.txt"), "--config", str(prepared / "config.json")]
    assert main([*command, "--output", str(tmp_path / "run")]) == 2
    assert "--devices all needs KERAS_BACKEND=jax" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_empty_rows_fill_a_batch_up():
    rows = {"token_ids": np.ones((3, 4), np.int32), "weights": np.ones((3, 2), np.float32)}
    filled = filled_up(rows, 2)
    assert {k: v.shape for k, v in filled.items()} == {"token_ids": (4, 4), "weights": (4, 2)}
    assert not filled["weights"][3].any()
    assert filled_up(rows, 3) is rows
    pairs = {"token_ids": np.ones((6, 4)), "pair_weights": np.ones(6), "scores": np.ones(3)}
    shapes = {k: v.shape for k, v in filled_up(pairs, 2).items()}
    assert shapes == {"token_ids": (8, 4), "pair_weights": (8,), "scores": (4,)}
