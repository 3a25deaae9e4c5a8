"""The examples of sentence similarity run: search on the shipped model, training on a tiny one."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from _sources import ROOT
from tiny_models import save_tiny_model

PAIRS = [("今天天气很好", "天气今天好"), ("李白是诗人", "诗人李白"), ("游戏角色", "角色是游戏中的")]


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return call


def test_search_finds_the_sentence_that_was_asked(run):
    first = (ROOT / "examples/data/demo_corpus.txt").read_text(encoding="utf-8").splitlines()[0]
    lines = run("basic_sentence_search", first).splitlines()
    assert lines[0] == first
    assert lines[1] == f"  1.0000  {first}"
    assert len(lines) == 4


def write(path, rows):
    path.parent.mkdir(exist_ok=True, parents=True)
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="\n")


@pytest.mark.long
def test_the_three_stages_run_after_each_other(run, tmp_path):
    save_tiny_model(tmp_path / "m")
    data = tmp_path / "data"
    scored = [(*pair, 1) for pair in PAIRS] + [(PAIRS[i][0], PAIRS[i - 1][1], 0) for i in range(3)]
    write(data / "pairs.tsv", PAIRS)
    write(data / "train/ATEC.tsv", scored)
    write(data / "reported/ATEC.tsv", scored)
    nli = [{"sentence1": a, "sentence2": b, "label": "neutral"} for a, b in PAIRS]
    write(data / "nli.jsonl", [(json.dumps(row, ensure_ascii=False),) for row in nli])
    few = ["--data", data, "--epochs", 1, "--steps", 2, "--tokens", 256]
    out = run("task_simbert_stage1", *few, "--model", tmp_path / "m", "--output", tmp_path / "one")
    assert f"{tmp_path / 'one'}: ATEC " in out
    run("task_roformer_sim_ft", *few, "--model", tmp_path / "one", "--output", tmp_path / "ft")
    words = [
        "--model",
        tmp_path / "one",
        "--teacher",
        tmp_path / "ft",
        "--output",
        tmp_path / "two",
    ]
    out = run("task_roformer_sim_stage2", *few, *words)
    assert out.count(": ATEC ") == 3
    assert (tmp_path / "two" / "bert_model.ckpt.index").is_file()
