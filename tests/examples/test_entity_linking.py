"""The example of entity linking on a tiny model: what it counts, and its string baseline."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter

import numpy as np
import pytest
from _sources import ROOT
from tiny_models import save_tiny_model, tiny_tokenizer


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module("task_entity_linking")


def test_it_links_counts_and_writes_its_page(example, tmp_path, monkeypatch, capsys):
    save_tiny_model(tmp_path / "m")
    rows = [
        ("谁是诗人李白", "李白（唐代诗人） ||| 职业 ||| 诗人"),
        ("李白是游戏中的谁", "李白（游戏角色） ||| 职业 ||| 法师"),
        ("静夜思的作者", "静夜思 ||| 作者 ||| 李白"),
    ]
    (tmp_path / "kgclue").mkdir()
    for name in ("train", "dev"):
        lines = [
            json.dumps({"id": i, "question": q, "answer": a}, ensure_ascii=False)
            for i, (q, a) in enumerate(rows)
        ]
        path = tmp_path / f"kgclue/{name}.json"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    (tmp_path / "nlpcc2016kbqa").mkdir()
    (tmp_path / "nlpcc2016kbqa/nlpcc-iccpol-2016.kbqa.training-data").write_text(
        "<question id=1>\t静夜思的作者是谁？\n<triple id=1>\t静夜思 ||| 作者 ||| 李白\n",
        encoding="utf-8",
        newline="\n",
    )
    monkeypatch.setenv("BERT4KEXUE_DATA", str(tmp_path))
    page = tmp_path / "page.md"
    words = ["x", "--model", str(tmp_path / "m"), "--page", str(page)]
    monkeypatch.setattr(sys, "argv", words)
    example.main()
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 6
    assert set(told) <= set(page.read_text(encoding="utf-8").splitlines())
    assert "| mention given: strings | 100.00 | 100.00 | 100.00 |" in told


def test_rivals_have_the_same_call_and_another_meaning(example):
    names = [("甲", "一"), ("乙", ""), ("丙", "二"), ("丁", "三"), ("戊", "四")]
    found = example.with_rivals(names, [("乙", ""), ("甲", "一")], np.random.default_rng(0))
    assert found[:5] == names
    for call, own in (("乙", ""), ("甲", "一")):
        there = [meaning for name, meaning in found if name == call]
        assert len(there) == 4
        assert len(set(there)) == 4
        assert own in there
        assert all(set(there) - {own})


def test_the_baseline_takes_the_longest_name_and_what_the_context_shares(example):
    names = example.Names(
        [("李", ""), ("李白", "唐代诗人"), ("李白", "游戏角色"), ("李白", "")], tiny_tokenizer()
    )
    common = Counter({"": 3, "唐代诗人": 1})
    assert example.baseline("李白在游戏中", names, common) == ("李白", "游戏角色")
    assert example.baseline("李白", names, common) == ("李白", "")
    assert example.baseline("今天", names, common) == ("", "")
    assert example.baseline("李白", names, common, "李") == ("李", "")


def test_only_the_whole_name_is_right(example):
    found = [{("李白", "诗人")}, {("a", "")}, {("静", "x"), ("静", "")}, {("白", "")}]
    gold = [("李白", "诗人"), ("A", ""), ("静", ""), ("白", "马")]
    assert example.accuracies(found, gold) == ["75.00", "50.00", "100.00"]
