"""``bert4kexue zeroshot``: every command on a tiny folder, and what it refuses."""

from __future__ import annotations

import json

import pytest
from tiny_models import CHARACTERS, CONFIG, tiny_model, tiny_vocabulary

from bert4kexue.cli import main
from bert4kexue.text.vocab import save_vocab

KNOWN = CHARACTERS + "这次买东西差。"


def write_folder(path, **heads):
    builder = tiny_model(KNOWN, family="bert", return_keras_model=False, **heads)
    path.mkdir()
    config = CONFIG | {"vocab_size": len(tiny_vocabulary(KNOWN))}
    (path / "bert_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_vocab(path / "vocab.txt", tiny_vocabulary(KNOWN))
    builder.save_weights_as_checkpoint(str(path / "bert_model.ckpt"))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("zeroshot") / "model"
    return write_folder(path, with_nsp=True, with_mlm=True)


def run(capsys, *words):
    assert main(["zeroshot", *words]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_texts_get_labels(folder, capsys):
    words = ["--model", folder, "--labels", "天气,诗人", "--template", "{}的", "今天", "李白"]
    lines = run(capsys, "classify", *words, "--template", "是{}", "--calibrate")
    assert [line[2] for line in lines] == ["今天", "李白"]
    assert all(line[0] in ("天气", "诗人") and float(line[1]) >= 0.5 for line in lines)
    assert [line[0] for line in run(capsys, "classify", *words, "--abstain-below", "1")] == [
        "-"
    ] * 2


def test_pairs_are_contrasted(folder, capsys, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("今天\t天气\n李白\t诗人\n游戏\t角色\n谁写\t作者\n", encoding="utf-8")
    lines = run(capsys, "pair", "--model", folder, "--file", str(path), "--labels", "不同,相同")
    assert sorted(line[0] for line in lines) == ["不同", "不同", "相同", "相同"]
    low, high = ([float(x[1]) for x in lines if x[0] == label] for label in ("不同", "相同"))
    assert max(low) <= min(high)


def test_pronouns_get_their_cue(folder, capsys, tmp_path):
    path = tmp_path / "wsc.tsv"
    path.write_text("李白写诗他是诗人\t他\t李白\n今天天气很好\t天气\t今天\n", encoding="utf-8")
    lines = run(capsys, "wsc", "--model", folder, "--file", str(path))
    assert lines[0][2:] == ["李白", "李白写诗他是诗人上文中他是指"]


def test_a_blank_is_filled(folder, capsys):
    lines = run(capsys, "cloze", "--model", folder, "--candidates", "天气,诗人", "今天#idiom#好")
    assert lines[0][0] in ("天气", "诗人")


def test_a_task_is_scored_beside_its_baselines(folder, capsys, tmp_path):
    pytest.importorskip("sklearn")
    path = tmp_path / "rows.json"
    rows = [{"sentence": text, "label": "Positive"} for text in ("今天天气", "很好", "李白")]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    out = run(capsys, "eval", "--model", folder, "--task", "eprstmt", str(path))
    assert [line[0].split("  ")[-1][:6] for line in out[1:]][1:3] == ["common", "neares"]
    assert "86.90" in out[-1][0]


def test_masked_words_are_scored_in_the_same_frame(folder, capsys, tmp_path):
    pytest.importorskip("sklearn")
    path = tmp_path / "rows.json"
    rows = [{"sentence": text, "label": "Positive"} for text in ("今天天气", "很好", "李白")]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ["--model", folder, "--task", "eprstmt", "--prompts", "masked", str(path)]
    out = run(capsys, "eval", *words)
    assert "masked words (95 %" in out[1][0]
    pairs = tmp_path / "pairs.json"
    row = {"sentence1": "今天", "sentence2": "天气", "label": "1"}
    pairs.write_text(json.dumps(row), encoding="utf-8")
    words = ["--model", folder, "--task", "bustm", "--prompts", "masked", str(pairs)]
    assert main(["zeroshot", "eval", *words]) == 2
    assert "'masked' for a task of labels, got 'masked' for bustm" in capsys.readouterr().err


def write_tasks(root, **rows):
    for name, some in rows.items():
        (root / name).mkdir(parents=True)
        text = "\n".join(json.dumps(row) for row in some)
        (root / name / "test_public.json").write_text(text, encoding="utf-8")


def test_the_papers_row_stands_beside_what_is_found(folder, capsys, tmp_path):
    idiom = {"content": "今#idiom#天", "candidates": list("天气很好的是李"), "answer": 1}
    pairs = [{"sentence1": text, "sentence2": "今", "label": "1"} for text in ("天", "李白", "好")]
    write_tasks(tmp_path, bustm=pairs, chid=[idiom])
    words = ["--model", folder, "--data", str(tmp_path), "--tasks", "bustm,chid", "--maxlen", "30"]
    assert main(["zeroshot", "table", *words]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines[:4]] == ["task", "bustm", "chid", "mean"]
    for line, target in zip(lines[1:4], ("63.40", "52.00", "57.70"), strict=True):
        assert line[-2] == target
        found = float(line[1 if line[0] == "mean" else 2])
        assert float(line[-1]) == pytest.approx(found - float(target), abs=0.011)
    assert float(lines[3][1]) == pytest.approx(
        (float(lines[1][2]) + float(lines[2][2])) / 2, abs=0.011
    )


def test_the_table_says_all_that_is_missing_before_it_runs(tmp_path, capsys):
    write_tasks(tmp_path, eprstmt=[{"sentence": "今天", "label": "Positive"}])
    words = ["--model", "uer_base", "--data", str(tmp_path)]
    assert main(["zeroshot", "table", *words]) == 2
    told = capsys.readouterr().err
    assert "no checkpoint is called 'uer_base'" in told
    assert "UER's BERT-base of mixed corpora" in told
    assert told.count("test_public.json, the rows of") == 8
    assert "rows of eprstmt" not in told


def test_a_checkpoint_without_the_head_is_refused(tmp_path, capsys):
    folder = write_folder(tmp_path / "m", with_mlm=True)
    assert main(["zeroshot", "classify", "--model", folder, "--labels", "天,气", "今天"]) == 2
    assert "no next-sentence head (cls/seq_relationship)" in capsys.readouterr().err


def test_a_file_of_other_columns_is_refused(folder, tmp_path, capsys):
    path = tmp_path / "pairs.tsv"
    path.write_text("今天\t天气\n李白\n", encoding="utf-8")
    assert main(["zeroshot", "pair", "--model", folder, "--file", str(path)]) == 2
    assert "needs 2 columns separated by tabs in every row; row 2 has 1" in capsys.readouterr().err
