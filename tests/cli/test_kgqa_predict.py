"""`bert4kexue kgqa predict` over files: which files, what is told, and how it goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import save_tiny_model

from bert4kexue.cli import kgqa_answers, main
from bert4kexue.methods.kgclue import read_predictions
from bert4kexue.methods.knowledge_qa import Answer, Candidate

ROWS = [
    {"id": 3, "question": "静夜思的作者是谁", "answer": "静夜思 ||| 作者 ||| 李白"},
    {"id": 4, "question": "李白\u2028的\x85职业", "answer": "李白 ||| 职业 ||| 诗\u2029人"},
    {"id": 5, "question": "谁写了静夜思", "answer": "静夜思 ||| 作者 ||| 李白"},
]


class Echo:
    """Answers with the question; fits worse the longer it is."""

    def __init__(self, *parts, **options):
        self.asked = []

    def answer_batch(self, texts, topk):
        self.asked += texts
        return [[Answer("甲", "乙", "", (f"{text}{topk}",), -0.5)] for text in texts]

    def fit(self, texts, answers):
        return -np.array([float(len(text)) for text in texts])

    def explain(self, text, topk):
        return [Candidate(self.answer_batch([text], topk)[0][0], -0.7, 2)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, a knowledge base, and `Echo` in place of what answers."""
    save_tiny_model(tmp_path / "model")
    (tmp_path / "facts.tsv").write_text("静夜思\t作者\t李白\n", encoding="utf-8")
    assert give("build", tmp_path / "facts.tsv", *at(tmp_path), "--output", tmp_path / "kb") == 0
    monkeypatch.setattr("bert4kexue.methods.knowledge_qa.KnowledgeQA", Echo)
    monkeypatch.setattr("bert4kexue.models.build_transformer_model", lambda *a, **options: None)
    return tmp_path


def give(*words):
    return main(["kgqa", *map(str, words)])


def at(folder):
    return "--model", folder / "model"


def predict(folder, *words):
    words = [*at(folder), "--knowledge", folder / "kb", *words]
    if "--questions" in words and "--output" not in words:
        words += ["--output", folder / "answers.json"]
    return give("predict", *words)


def written(path, rows):
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    return path


def answers(folder):
    text = (folder / "answers.json").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def left(folder):
    return sorted(path.name for path in folder.glob("answers.json*"))


def interrupted(monkeypatch, after):
    """Let the answers stop after so many blocks of one question."""
    real, blocks = kgqa_answers._answer_lines, []

    def stop(*parts):
        if len(blocks) == after:
            raise KeyboardInterrupt
        blocks.append(parts)
        return real(*parts)

    monkeypatch.setattr(kgqa_answers, "KEPT", 1)
    monkeypatch.setattr(kgqa_answers, "_answer_lines", stop)
    return lambda: monkeypatch.setattr(kgqa_answers, "_answer_lines", real)


def stopped(folder, monkeypatch, *words, after=2):
    """A run over three questions that was stopped after some of them."""
    path = written(folder / "questions.json", ROWS)
    again = interrupted(monkeypatch, after)
    with pytest.raises(KeyboardInterrupt):
        predict(folder, "--questions", path, *words)
    again()
    return path


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kgclue", "nlpcc", "texts"])
def test_questions_without_answers_are_answered(kind, folder):
    rows = {
        "kgclue": [{key: row[key] for key in ("id", "question")} for row in ROWS],
        "nlpcc": [f"<question id={row['id']}>\t{row['question']}" for row in ROWS],
        "texts": [row["question"] for row in ROWS],
    }
    path = written(folder / "test", rows[kind])
    assert predict(folder, "--questions", path) == 0
    numbers = [0, 1, 2] if kind == "texts" else [3, 4, 5]
    assert [(row["id"], row["question"]) for row in answers(folder)] == [
        (number, row["question"]) for number, row in zip(numbers, ROWS, strict=True)
    ]
    assert left(folder) == ["answers.json"]


def test_bad_rows_are_told_and_the_others_answered_and_scored(folder, capsys):
    bad = ['{"id": 9, "question": 5}', "{", json.dumps({"id": 4, "question": "又"})]
    path = written(folder / "questions.json", [*ROWS[:2], *bad, ROWS[2]])
    assert predict(folder, "--questions", path) == 0
    said = capsys.readouterr().err
    for told in ("line 3 of", "line 4 of", "id 4 of questions.json comes twice"):
        assert f"left out: {told}" in said
    assert [row["id"] for row in answers(folder)] == [3, 4, 5]
    score = ["eval", "--questions", path, "--predictions", folder / "answers.json"]
    assert give(*score) == 0
    said = capsys.readouterr()
    assert "3 questions" in said.out
    assert said.err.count("left out: ") == 3
    written(path, [*ROWS, *(f'{{"question": {i}}}' for i in range(30))])
    assert give(*score) == 0
    assert "left out: 10 others of" in capsys.readouterr().err
    for words in (score, ["predict", *at(folder), "--knowledge", folder / "kb", *score[1:3]]):
        written(path, bad[:2])
        words += ["--output", folder / "other"] if words[0] == "predict" else []
        assert give(*words) == 2
        assert "no question follows the format: line 1 of" in capsys.readouterr().err


def test_the_training_file_of_nlpcc_is_asked_and_scored(folder, data_dir, capsys):
    path = data_dir / "nlpcc2016kbqa" / "nlpcc-iccpol-2016.kbqa.training-data"
    assert predict(folder, "--questions", path) == 0
    assert "14,609 answers" in capsys.readouterr().out
    assert give("eval", "--questions", path, "--predictions", folder / "answers.json") == 0
    said = capsys.readouterr()
    assert "14,608 questions" in said.out
    assert "left out: question 12902 of" in said.err


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_what_is_written_is_read_and_gone_on_with_whatever_it_holds(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("round")
    rows = [{"id": i, "question": text} for i, text in enumerate(texts)]
    path, output = written(folder / "questions.json", rows), folder / "answers.json"
    about, qa = {"model": "a"}, Echo()
    give = (path, output, len(rows), about, 3, None)
    assert kgqa_answers.answer_file(qa, *give) == len(rows)
    assert list(read_predictions(output)) == list(range(len(rows)))
    whole = output.read_bytes()
    output.rename(folder / "answers.json.partial")
    (folder / "answers.json.partial.json").write_text(json.dumps(about), encoding="utf-8")
    assert kgqa_answers.answer_file(qa, *give) == len(rows)
    assert output.read_bytes() == whole
    assert qa.asked == texts


@pytest.mark.parametrize("content", ["[]", "{", '"a"', '{"order": "mps"}', '{"order": 5}'])
@pytest.mark.parametrize("name", ["kb/knowledge.json", "model/kgqa.json"])
def test_a_damaged_manifest_is_told_by_its_name(name, content, folder, capsys):
    (folder / name).write_text(content, encoding="utf-8")
    assert predict(folder, "谁") == 2
    said = capsys.readouterr().err
    assert f"{folder / name} " in said
    assert "write the folder again" in said


def test_a_folder_without_a_manifest_is_told(folder, capsys):
    (folder / "kb" / "knowledge.json").unlink()
    assert predict(folder, "谁") == 2
    assert "holds no knowledge.json: give the folder that `bert4kexue kgqa build`" in (
        capsys.readouterr().err
    )


def test_an_output_that_exists_is_replaced_only_if_asked(folder, capsys):
    path = written(folder / "questions.json", ROWS)
    (folder / "answers.json").write_text("mine", encoding="utf-8")
    assert predict(folder, "--questions", path) == 2
    assert "exists: choose another, or pass --overwrite" in capsys.readouterr().err
    assert (folder / "answers.json").read_text(encoding="utf-8") == "mine"
    assert predict(folder, "--questions", path, "--overwrite") == 0
    assert len(answers(folder)) == 3
    words = ["--questions", path, "--overwrite", "--output", folder / "kb"]
    assert predict(folder, *words) == 2
    assert "is a folder: name a file" in capsys.readouterr().err
    assert predict(folder, "--questions", folder / "kb", "--output", folder / "other") == 2
    assert "give a file, not a pipe or a folder" in capsys.readouterr().err


# --- interruptions --------------------------------------------------------------------------------


def test_an_interrupted_run_goes_on(folder, monkeypatch):
    path = stopped(folder, monkeypatch)
    partial = folder / "answers.json.partial"
    with partial.open("ab") as file:
        file.write(b'{"id": 5, "quest')
    asked = []
    real = kgqa_answers._answer_lines
    monkeypatch.setattr(
        kgqa_answers,
        "_answer_lines",
        lambda qa, chunk, *rest: asked.extend(chunk) or real(qa, chunk, *rest),
    )
    assert predict(folder, "--questions", path) == 0
    assert [question.id for question in asked] == [5], "what was whole is not asked again"
    assert left(folder) == ["answers.json"]
    again = answers(folder)
    assert predict(folder, "--questions", path, "--overwrite") == 0
    assert answers(folder) == again


def test_a_run_that_fails_before_its_first_answer_leaves_nothing(folder, monkeypatch):
    stopped(folder, monkeypatch, after=0)
    assert left(folder) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--topk", 5], "made with topk 3, and now it is topk 5: give the same, remove it"),
        (["--no-lookahead"], "made with lookahead True"),
        (["--subjects", "named"], "made with subjects all"),
        (["--maxlen", 64], "made with maxlen 128"),
        (["--abstain-below", "-3"], "made with abstain_below None, and now it is abstain_below -3"),
    ],
)
def test_answers_made_with_other_options_are_not_gone_on_with(
    words, told, folder, monkeypatch, capsys
):
    path = stopped(folder, monkeypatch)
    before = (folder / "answers.json.partial").read_bytes()
    assert predict(folder, "--questions", path, *words) == 2
    assert told in capsys.readouterr().err
    assert (folder / "answers.json.partial").read_bytes() == before
    assert predict(folder, "--questions", path, "--batch-size", 1) == 0


def test_answers_of_another_model_or_base_are_not_gone_on_with(folder, monkeypatch, capsys):
    path = stopped(folder, monkeypatch)
    facts = folder / "facts.tsv"
    facts.write_text("静夜思\t作者\t谁\n", encoding="utf-8")  # the same keys, another value
    words = ["build", facts, *at(folder), "--output", folder / "kb", "--overwrite"]
    assert give(*words) == 0
    assert predict(folder, "--questions", path) == 2
    assert "holds answers made with knowledge " in capsys.readouterr().err
    facts.write_text("静夜思\t作者\t李白\n", encoding="utf-8")
    assert give(*words) == 0
    data = folder / "model" / "bert_model.ckpt.data-00000-of-00001"
    kept = data.read_bytes()
    data.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert predict(folder, "--questions", path) == 2
    assert "holds answers made with model " in capsys.readouterr().err
    data.write_bytes(kept)
    (folder / "model" / "README.md").write_text("a note", encoding="utf-8")
    assert predict(folder, "--questions", path) == 0


def test_answers_that_do_not_say_what_they_were_made_with_are_not_gone_on_with(
    folder, monkeypatch, capsys
):
    path = stopped(folder, monkeypatch)
    for content in (None, "[", "[]"):
        settings = folder / "answers.json.partial.json"
        settings.unlink()
        if content:
            settings.write_text(content, encoding="utf-8")
        assert predict(folder, "--questions", path) == 2
        assert "does not say what the answers in" in capsys.readouterr().err
        settings.touch()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (ROWS[:1], "questions.json has questions (1): remove"),
        ([ROWS[0], ROWS[2]], "holds answers to other questions (line 2 is not id 5 of"),
    ],
)
def test_answers_to_other_questions_are_not_kept(rows, told, folder, monkeypatch, capsys):
    path = written(stopped(folder, monkeypatch), rows)
    assert predict(folder, "--questions", path) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "or choose another --output" in said


def test_a_damaged_answer_is_told(folder, monkeypatch, capsys):
    path = stopped(folder, monkeypatch)
    partial = folder / "answers.json.partial"
    partial.write_bytes(b"\0\n" + partial.read_bytes())
    assert predict(folder, "--questions", path) == 2
    assert "line 1 is not id 3" in capsys.readouterr().err


# --- abstention -----------------------------------------------------------------------------------


def test_candidates_are_explained_where_no_fact_fits(folder, capsys):
    assert predict(folder, "--abstain-below", "-3", "谁写了静夜思", "谁") == 0
    said = capsys.readouterr().out
    assert "no answer: the best fact fits -6.00, less than -3\n谁\n" in said
    assert predict(folder, "--abstain-below", "-3", "--explain", "谁写了静夜思") == 0
    said = capsys.readouterr().out.split("\n")
    assert said[1] == "  no answer: the best fact fits -6.00, less than -3"
    assert "model alone -0.700, gain 2" in said[2]


@pytest.mark.parametrize("least", ["nan", "inf", "-inf"])
def test_a_threshold_is_a_finite_number(least, folder, capsys):
    assert predict(folder, f"--abstain-below={least}", "谁") == 2
    assert f"--abstain-below takes a log-probability, got {least}" in capsys.readouterr().err
