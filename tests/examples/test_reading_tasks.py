"""The two examples of reading comprehension run on a tiny model, and on few questions."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
from _sources import ROOT
from tiny_models import save_tiny_model

from bert4kexue.methods.reading_data import ReadingQuestion, read_squad, write_squad

PASSAGE = "李白是唐代诗人，静夜思的作者。今天天气很好。法师是游戏角色的职业。" * 8


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))

    def call(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return call


def _questions(name):
    at = PASSAGE.index("诗人")
    return [
        ReadingQuestion(f"{name}1", "谁是静夜思的作者", PASSAGE, ("李白",), (0,)),
        ReadingQuestion(f"{name}2", "李白是谁", PASSAGE, ("诗人", "唐代诗人"), (at, at - 2)),
    ]


@pytest.mark.long
def test_both_train_report_and_share_a_page(run, tmp_path):
    save_tiny_model(tmp_path / "m")
    data = tmp_path / "data"
    (data / "reported").mkdir(parents=True)
    for name in ("questions", "made"):
        write_squad(data / f"{name}.json", _questions(name))
    for name in ("cmrc_dev", "cmrc_trial", "drcd_dev"):
        write_squad(data / "reported" / f"{name}.json", _questions(name))
    few = ["--data", data, "--model", tmp_path / "m", "--steps", 2, "--save-every", 1]
    few += ["--tokens", 512, "--maxlen", 256, "--page", tmp_path / "page.md"]
    for mode in ("seq2seq", "mlm"):
        name = f"task_reading_comprehension_{mode}"
        out = run(name, *few, "--output", tmp_path / mode)
        assert out.count("(2)") == 3  # questions of each set
        again = run(name, *few, "--output", tmp_path / mode, "--trained", tmp_path / mode / "model")
        assert again == out.split("\n", 2)[2]  # nothing is trained, the same is found
    scores = json.loads((data / "scores.json").read_text(encoding="utf-8"))
    assert set(scores) == {"overlap", "width", "seq2seq", "mlm"}
    assert len((tmp_path / "page.md").read_text(encoding="utf-8").split("\n| ")) == 5


def test_the_files_keep_what_is_reported_out_of_what_is_trained_on(run, tmp_path, monkeypatch):
    source = tmp_path / "source"
    (source / "mrc").mkdir(parents=True)
    rows = [
        ReadingQuestion(
            f"{i}",
            "谁？",
            f"{PASSAGE[i : i + 30]}第{i * 37}号{chr(0x5000 + i) * 30}。",
            ("第",),
            (30,),
        )
        for i in range(60)
    ]
    write_squad(source / "mrc/cmrc2018_dev.json", rows[:30])
    write_squad(source / "mrc/DRCD_dev.json", rows[30:50])
    write_squad(source / "mrc/cmrc2018_trial.json", [*rows[50:], rows[0]])
    line = {"id": 1, "question": "李白的职业是什么", "answer": "李白（唐代诗人） ||| 职业 ||| 诗人"}
    (source / "kgclue").mkdir()
    for name in ("train", "dev"):
        text = "".join(json.dumps(line | {"id": i}, ensure_ascii=False) + "\n" for i in range(6))
        (source / f"kgclue/{name}.json").write_text(text, encoding="utf-8", newline="\n")
    (source / "nlpcc2016kbqa").mkdir()
    (source / "nlpcc2016kbqa/nlpcc-iccpol-2016.kbqa.training-data").write_text(
        "<question id=1>\t静夜思的作者是谁？\n<triple id=1>\t静夜思 ||| 作者 ||| 李白\n"
        "<answer id=1>\t李白\n",
        encoding="utf-8",
        newline="\n",
    )
    monkeypatch.setenv("BERT4KEXUE_DATA", str(source))
    run("reading_sets", tmp_path / "out")
    trained = read_squad(tmp_path / "out/questions.json")
    made = read_squad(tmp_path / "out/made.json")
    held = [
        q
        for name in ("cmrc_dev", "cmrc_trial", "drcd_dev")
        for q in read_squad(tmp_path / f"out/reported/{name}.json")
    ]
    assert len(trained) + len({q.passage for q in held}) == 60
    assert not {q.passage for q in [*trained, *made]} & {q.passage for q in held}
    assert all(q.starts[0] >= 0 for q in made)
    facts = [q for q in made if q.id.startswith("fact")]
    assert {q.question for q in facts} == {"李白的职业是什么", "静夜思的作者是谁？"}
    assert len(facts) == 13
    assert len(made) > 13
