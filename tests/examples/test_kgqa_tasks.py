"""The examples of question answering over a knowledge base run on a tiny model."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from _sources import ROOT
from tiny_models import save_tiny_model

from bert4kexue.methods.kgclue import read_predictions

QUESTIONS = [
    ("静夜思的作者是谁", "静夜思 ||| 作者 ||| 李白"),
    ("李白的职业是什么", "李白（游戏角色） ||| 职业 ||| 法师"),
    ("谁是法师", "法师 ||| 角色 ||| 李白"),
    ("今天天气好", "今天 ||| 天气 ||| 好"),
]


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Both sets, and a model; half of the NLPCC questions are held out."""
    save_tiny_model(tmp_path / "m")
    folder = tmp_path / "data"
    (folder / "kgclue").mkdir(parents=True)
    (folder / "nlpcc2016kbqa").mkdir()
    rows = [{"id": i, "question": q, "answer": a} for i, (q, a) in enumerate(QUESTIONS)]
    for name in ("train", "dev"):
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        (folder / "kgclue" / f"{name}.json").write_text(text, encoding="utf-8")
    lines = [
        f"<question id={i}>\t{q}\n<triple id={i}>\t{a}\n<answer id={i}>\tx\n"
        for i, (q, a) in enumerate(QUESTIONS)
    ]
    path = folder / "nlpcc2016kbqa" / "nlpcc-iccpol-2016.kbqa.training-data"
    path.write_text("".join(lines), encoding="utf-8")
    monkeypatch.setenv("BERT4KEXUE_DATA", str(folder))
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("name", ["task_kgclue", "task_kbqa_nlpcc"])
def test_a_task_trains_measures_and_keeps_its_best_epoch(name, run, data, monkeypatch):
    if name == "task_kbqa_nlpcc":
        monkeypatch.syspath_prepend(str(ROOT / "examples"))
        import ship_sets

        monkeypatch.setattr(ship_sets, "is_held_out", lambda subject: subject == "静夜思")
    words = ["--model", data / "m", "--output", data / "run", "--epochs", 2, "--steps", 2]
    said = run(name, *words, "--tokens", 128, "--rewrites", 1)
    assert said.count(" EM S ") == 2
    found = read_predictions(data / "run" / "predictions.json")
    assert len(found) == (1 if name == "task_kbqa_nlpcc" else 4)
    facts = {answer for _, answer in QUESTIONS}
    assert all(" ||| ".join(triple) in facts for triple in found.values())
    assert (data / "run" / "best" / "bert_model.ckpt.index").is_file()
