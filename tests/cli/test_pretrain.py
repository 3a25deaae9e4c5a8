"""`bert4kexue pretrain`, from text to a checkpoint that answers."""

from __future__ import annotations

import json

import pytest

from bert4kexue.cli import main

LINES = ["今天天气很好，我们去公园。", "明天有雨，在家看书。", "他喜欢吃苹果和香蕉。"] * 8
CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}


def test_from_text_to_a_checkpoint(tmp_path, capsys):
    corpus, pairs = tmp_path / "c.txt", tmp_path / "pairs.jsonl"
    corpus.write_text("\n".join(LINES), encoding="utf-8")
    row = {"source": "天气", "target": ["今天", "很好"]}
    pairs.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    vocabulary, records, output = (str(tmp_path / n) for n in ("vocab.txt", "records", "run"))
    assert main(["pretrain", "vocab", str(corpus), "--output", vocabulary]) == 0
    prepare = ["pretrain", "prepare", str(corpus), "--vocab", vocabulary, "--output", records]
    assert main(prepare) == 0
    size = len((tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines())
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "vocab_size": size}), encoding="utf-8")
    run = ["pretrain", "run", "--records", records, "--vocab", vocabulary, "--config", str(config)]
    run += ["--output", output, "--steps", "4", "--length", "16", "--tokens", "64"]
    run += ["--objective", "masked=1", "--objective", "written=1", "--pairs", str(pairs)]
    run += ["--log-every", "2", "--save-every", "4"]
    assert main(run) == 0
    assert main([*run[:-4], "--log-every", "2", "--save-every", "4"]) == 0  # done: nothing to do
    assert main(["pretrain", "evaluate", "--model", f"{output}/model", str(corpus)]) == 0
    assert "masked words: accuracy" in capsys.readouterr().out
    assert main([*run, "--seed", "2"]) == 2
    assert "seed was 1 and is 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--objective", "guessing"], "the objectives are masked, nsp"),
        (["--objective", "masked=much"], "the share must be a number"),
        (["--objective", "masked=1"], "needs --records"),
        (["--objective", "written=1"], "need --pairs"),
    ],
)
def test_what_is_missing_is_told(tmp_path, capsys, more, message):
    vocabulary, config = tmp_path / "vocab.txt", tmp_path / "config.json"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n好\n", encoding="utf-8")
    config.write_text(json.dumps({**CONFIG, "vocab_size": 6}), encoding="utf-8")
    run = ["pretrain", "run", "--vocab", str(vocabulary), "--config", str(config)]
    assert main([*run, "--output", str(tmp_path / "run"), "--steps", "2", *more]) == 2
    assert message in capsys.readouterr().err
