"""`bert4kexue kgqa`: a knowledge base built, asked and scored; interruptions and bad input."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from _sources import ROOT
from tiny_models import save_tiny_model

from bert4kexue.cli import kgqa_train, main
from bert4kexue.methods.kgclue import read_predictions
from bert4kexue.methods.question_files import parse_answer

FACTS = """\
李白（唐代诗人）\t职业\t诗人
李白（游戏角色）\t职业\t法师
bad
静夜思\t作者\t李白
静夜思\t作者\t谁
"""
QUESTIONS = [
    ("静夜思的作者是谁", "静夜思 ||| 作者 ||| 李白"),
    ("李白的职业", "李白（游戏角色） ||| 职业 ||| 法师"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, facts, labelled questions, and the knowledge base built of the facts."""
    folder = tmp_path_factory.mktemp("kgqa")
    save_tiny_model(folder / "model")
    (folder / "facts.tsv").write_text(FACTS, encoding="utf-8")
    rows = [{"id": i + 7, "question": q, "answer": a} for i, (q, a) in enumerate(QUESTIONS * 2)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "questions.json").write_text("\n".join(lines), encoding="utf-8")
    words = ["build", folder / "facts.tsv", "--model", folder / "model", "--output", folder / "kb"]
    assert main(["kgqa", *map(str, words)]) == 0
    return folder


def give(*words):
    return main(["kgqa", *map(str, words)])


def predict(folder, *words):
    return give("predict", "--model", folder / "model", "--knowledge", folder / "kb", *words)


def test_the_folder_says_what_it_was_made_of(folder, capsys):
    manifest = json.loads((folder / "kb" / "knowledge.json").read_text(encoding="utf-8"))
    assert (manifest["lines"], manifest["keys"]) == (5, 3)
    assert manifest["rejected"] == {"has 1 columns, not 3": 1}
    text = (folder / "kb" / "rejected.tsv").read_text(encoding="utf-8")
    assert text == "3\thas 1 columns, not 3\n"
    words = ["build", folder / "facts.tsv", "--model", folder / "model", "--output", folder / "kb"]
    assert give(*words) == 2
    assert "exists: choose another" in capsys.readouterr().err


def test_a_build_that_is_killed_goes_on(folder, tmp_path, capsys):
    lines = [f"李白静夜思{i % 977}\t作者{i % 13}\t谁{i}\n" for i in range(300_000)]
    (tmp_path / "facts.tsv").write_text("".join(lines), encoding="utf-8")
    words = ["build", tmp_path / "facts.tsv", "--model", folder / "model"]
    command = [sys.executable, "-m", "bert4kexue", "kgqa", *words, "--output", tmp_path / "kb"]
    journal = tmp_path / ".kb.building" / "blocks" / "journal.jsonl"
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (journal.is_file() and journal.stat().st_size):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert journal.is_file(), "killed while it read"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".kb.building", "facts.tsv"]
    assert give(*words, "--output", tmp_path / "kb") == 0
    said = capsys.readouterr()
    assert "going on after" in said.err
    assert "of 300,000 lines" in said.out
    assert give(*words, "--output", tmp_path / "other") == 0
    for name in ("facts.tree", "knowledge.json"):
        assert (tmp_path / "kb" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["facts.tsv", "kb", "other"]


def test_a_build_says_what_is_answered_together_and_what_gave_no_fact(folder, tmp_path, capsys):
    rows = [
        {"question": "谁", "answer": "龘 ||| 作者 ||| 甲"},
        {"question": "谁", "answer": "龘 ||| 作者"},
        {"question": "谁", "answer": "驫 ||| 作者 ||| 乙"},
    ]
    source, kb = tmp_path / "questions.json", tmp_path / "kb"
    source.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    words = ["--model", folder / "model", "--output"]
    assert give("build", source, *words, kb) == 0
    said = capsys.readouterr().err
    assert "keys that lead to more than one fact: 1." in said
    assert "questions without a fact: 1," in said
    assert "the first: line 2 of questions.json: an answer is" in said
    manifest = json.loads((kb / "knowledge.json").read_text(encoding="utf-8"))
    assert manifest["keys_of_several_facts"] == 1
    assert len(manifest["questions_without_a_fact"]) == 1
    source.write_text(json.dumps(rows[1]), encoding="utf-8")
    assert give("build", source, *words, tmp_path / "other") == 2
    said = capsys.readouterr().err
    assert "questions.json begins as labelled questions do, and none of them gives a fact" in said
    assert "line 1 of questions.json: an answer is" in said
    source.write_text(json.dumps(rows[0]), encoding="utf-8")
    assert give("build", source, *words, tmp_path / "other", "--maxlen", 4) == 2
    assert f"none of the 1 lines of {source} gave a key" in capsys.readouterr().err
    (tmp_path / "braces.tsv").write_text("{龘}\t作者\t甲\n", encoding="utf-8")
    assert give("build", tmp_path / "braces.tsv", *words, tmp_path / "braces") == 0
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["braces", "braces.tsv", "kb", "questions.json"]


def test_other_names_lead_to_the_same_facts(folder, tmp_path, capsys):
    from bert4kexue.cli.models import load_tokenizer
    from bert4kexue.methods.knowledge_base import KnowledgeBase, fact_key

    aliases = tmp_path / "aliases.tsv"
    aliases.write_text("李白（唐代诗人）\t诗人\n李白\t今天\n静夜思\t思\n", encoding="utf-8")
    words = ["build", folder / "facts.tsv", "--model", folder / "model", "--aliases", aliases]
    assert give(*words, "--output", tmp_path / "kb") == 0
    tokenizer = load_tokenizer(str(folder / "model"))
    knowledge = KnowledgeBase.load(tmp_path / "kb", tokenizer)
    assert len(knowledge) == 3 + 4
    for name, meaning, fact, objects in (
        ("诗人", "唐代诗人", ("李白", "职业", "唐代诗人"), ("诗人",)),
        ("今天", "唐代诗人", ("李白", "职业", "唐代诗人"), ("诗人",)),
        ("今天", "游戏角色", ("李白", "职业", "游戏角色"), ("法师",)),
    ):
        assert knowledge.facts(fact_key(tokenizer, (name, "职业", meaning))) == {fact: objects}
    assert not knowledge.facts(fact_key(tokenizer, ("诗人", "职业", "游戏角色")))
    knowledge.tree.close()
    aliases.write_text("李白\n", encoding="utf-8")
    assert give(*words, "--output", tmp_path / "other") == 2
    assert "line 1 of" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["questions", "nlpcc"])
def test_other_files_give_the_same_kind_of_folder(kind, folder, tmp_path, capsys):
    source = folder / "questions.json"
    if kind == "nlpcc":
        source = tmp_path / "facts.kb"
        source.write_text("甲 ||| 乙 ||| 丙 ||| 丁\n李白 ||| 职业 ||| 诗人\n", encoding="utf-8")
    words = ["build", source, "--model", folder / "model", "--output", tmp_path / "kb"]
    assert give(*words) == 0
    assert "2 keys of" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.tmp*"))


def test_answers_are_facts_and_the_explanation_says_why(folder, capsys):
    assert predict(folder, "--explain", "静夜思的作者是谁", "", "x" * 10_000) == 0
    said = capsys.readouterr().out
    assert "静夜思 | 作者 | 李白；谁" in said
    assert said.count("model alone") == 9
    assert "gain 2" in said


def test_answers_to_a_file_are_facts_and_say_how_they_fit(folder, tmp_path):
    output = tmp_path / "answers.json"
    questions = ["--no-lookahead", "--questions", folder / "questions.json", "--output", output]
    assert predict(folder, *questions, "--abstain-below", "-1000") == 0
    before = [json.loads(line) for line in output.read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row["id"] for row in before] == [7, 8, 9, 10]
    fits = [row["fit"] for row in before]
    assert max(fits) < 0
    least = str(sum(fits) / 4)
    assert predict(folder, *questions, "--overwrite", "--abstain-below", least) == 0
    found = read_predictions(output)
    for row in before:
        fits_too = row["fit"] >= float(least)
        assert found[row["id"]] == (parse_answer(row["answer"]) if fits_too else ("", "", ""))


def test_scores_are_printed(folder, tmp_path, capsys):
    predictions = tmp_path / "answers.json"
    rows = [{"id": 7 + i, "answer": "静夜思 ||| 作者 ||| 《李白》"} for i in range(4)]
    text = "\n".join(map(json.dumps, rows))
    predictions.write_text(text, encoding="utf-8")
    words = ["eval", "--questions", folder / "questions.json", "--predictions", predictions]
    assert give(*words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].split() == ["EM", "50.000", "50.000", "0.000", "0.000"]
    # Of 《李白》 and 李白 two of six characters are common twice; of 法师 none.
    assert said[2].split()[:4] == ["F1", "50.000", "50.000", "33.333"]
    assert said[3].startswith("score 16.667")
    predictions.write_text(text.splitlines()[0], encoding="utf-8")
    assert give(*words) == 2
    assert "no answer to 3 questions" in capsys.readouterr().err


def test_mistakes_are_told_before_the_model_is_built(folder, tmp_path, monkeypatch, capsys):
    def forbidden(*arguments, **options):
        raise AssertionError("the model was built")

    monkeypatch.setattr("bert4kexue.models.build_transformer_model", forbidden)
    for words in (
        [],
        ["--questions", folder / "questions.json"],
        ["--questions", folder / "questions.json", "谁"],
    ):
        assert predict(folder, *words) == 2
        assert "give either questions as words" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    words = ["--questions", tmp_path / "empty.txt", "--output", tmp_path / "out"]
    assert predict(folder, *words) == 2
    assert "holds no question" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "empty.txt"]


# --- training -------------------------------------------------------------------------------------


def train(folder, output, *words, steps=40):
    words = [str(word) for word in words]
    where = [] if "--questions" in words else ["--questions", folder / "questions.json"]
    settings = ["--length", 32, "--tokens", 64, "--multiple", 32, "--rate", 0.05, "--dropout", 0]
    settings += ["--log-every", 5, "--save-every", 10, "--steps", steps]
    return give("train", "--model", folder / "model", "--output", output, *where, *settings, *words)


def weights(folder):
    from bert4kexue.checkpoints import open_checkpoint

    with open_checkpoint(folder / "bert_model.ckpt") as checkpoint:
        return {name: checkpoint.read(name).copy() for name in checkpoint.names()}


def test_a_training_without_a_model_is_refused_as_the_other_commands_do(folder, tmp_path, capsys):
    with pytest.raises(SystemExit):
        give("train", "--questions", folder / "questions.json", "--output", tmp_path, "--steps", 1)
    assert "required: --model" in capsys.readouterr().err


def test_a_model_is_trained_and_goes_on_where_it_was_interrupted(folder, tmp_path, monkeypatch):
    import numpy as np

    from bert4kexue.training.run import PretrainingRun

    rewrites = ["--rewrites", 2]
    assert train(folder, tmp_path / "whole", *rewrites) == 0
    lines = (tmp_path / "whole" / "loss.csv").read_text(encoding="utf-8").splitlines()
    first, last = (float(lines[i].split(",")[2]) for i in (1, -1))
    assert last < 0.5 * first
    mark = json.loads((tmp_path / "whole" / "model" / "kgqa.json").read_text(encoding="utf-8"))
    assert mark == {"order": "spm"}

    def interrupted(self):
        real(self)
        if self.step == 20:
            raise KeyboardInterrupt

    real = PretrainingRun.save
    monkeypatch.setattr(PretrainingRun, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(folder, tmp_path / "again", *rewrites)
    monkeypatch.setattr(PretrainingRun, "save", real)
    assert train(folder, tmp_path / "again", *rewrites) == 0
    expected, found = (weights(tmp_path / name / "model") for name in ("whole", "again"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_trained_model_answers_from_a_base_of_its_own_order_alone(folder, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(folder, run, "--order", "smp") == 0
    facts = ["build", folder / "facts.tsv", "--model", run / "model", "--output", tmp_path / "kb"]
    assert give(*facts, "--order", "smp") == 0
    capsys.readouterr()
    ask = ["predict", "--model", run / "model", "--topk", 1, "--no-lookahead"]
    ask += [question for question, _ in QUESTIONS]
    assert give(*ask, "--knowledge", tmp_path / "kb") == 0
    said = capsys.readouterr().out
    assert "静夜思 | 作者 | 李白；谁" in said
    assert "李白（游戏角色） | 职业 | 法师" in said
    assert give(*ask, "--knowledge", folder / "kb") == 2
    told = "the model writes keys in the order smp, and the base holds them in the order spm"
    assert told in capsys.readouterr().err


def test_an_answer_by_another_name_of_its_subject_is_not_refused(folder, tmp_path, capsys):
    assert train(folder, tmp_path / "run") == 0
    model = ["--model", tmp_path / "run" / "model"]
    (tmp_path / "facts.tsv").write_text("今天\t作者\t李白\n", encoding="utf-8")
    (tmp_path / "aliases.tsv").write_text("今天\t静夜思\n", encoding="utf-8")
    facts = ["build", tmp_path / "facts.tsv", *model, "--output", tmp_path / "kb"]
    assert give(*facts, "--aliases", tmp_path / "aliases.tsv") == 0
    capsys.readouterr()
    ask = ["predict", *model, "--knowledge", tmp_path / "kb", "--abstain-below", -2]
    assert give(*ask, "静夜思的作者是谁") == 0
    said = capsys.readouterr().out
    assert said.count("今天 | 作者 | 李白") == 1
    assert "no fact fits" not in said
    (tmp_path / "q.txt").write_text("静夜思的作者是谁\n", encoding="utf-8")
    assert give(*ask, "--questions", tmp_path / "q.txt", "--output", tmp_path / "a.json") == 0
    row = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert row["answer"] == "今天 ||| 作者 ||| 李白"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ('{"question": "谁", "answer": "甲 ||| 乙"}', "no question follows the format"),
        ("[1]", "needs an object with `question`"),
        ('{"question": 5, "answer": "甲 ||| 乙 ||| 丙"}', "needs an object with `question`"),
        ('{"question": null, "answer": "甲 ||| 乙 ||| 丙"}', "needs an object with `question`"),
    ],
)
def test_questions_that_cannot_be_trained_on_are_told(content, told, folder, tmp_path, capsys):
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="utf-8")
    assert train(folder, tmp_path / "run", "--questions", path) == 2
    said = capsys.readouterr()
    assert told in said.err + said.out
    assert not (tmp_path / "run").exists()


def test_settings_that_make_no_sense_are_told_before_anything_is_written(folder, tmp_path, capsys):
    run = tmp_path / "run"
    for words, told in (
        (["--dropout", 1], "dropout must be at least 0"),
        (["--rewrites", -1], "rewrites must be 0 or more"),
        (["--tokens", 8], "tokens=8 no less than length"),
        (["--length", 10], "has a key of at most 5 tokens"),
    ):
        assert train(folder, run, *words) == 2
        assert told in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("\n \n", encoding="utf-8")
    assert train(folder, run, "--names", tmp_path / "names.txt") == 2
    assert "holds no name" in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("李白和静夜思", encoding="gb18030")
    assert train(folder, run, "--names", tmp_path / "names.txt") == 2
    assert "names.txt is not UTF-8" in capsys.readouterr().err
    assert not run.exists()


def test_a_name_ends_with_its_line_alone(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("李\u2028白\n静\x85夜\r\n", encoding="utf-8", newline="")
    assert kgqa_train._names(str(path)) == ["李\u2028白", "静\x85夜"]
