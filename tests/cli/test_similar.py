"""``bert4kexue similar``: every command on a tiny model, once, and what each refuses."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tiny_models import save_tiny_model

from bert4kexue.cli import main
from bert4kexue.methods.sentence_encoder import SentenceEncoder

PAIRS = [("今天天气很好", "天气今天好"), ("李白是诗人", "诗人李白"), ("游戏角色", "角色是游戏中的")]
SENTENCES = [text for pair in PAIRS for text in pair]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("similar")
    save_tiny_model(path / "model")
    write(path / "pairs.tsv", ("\t".join(pair) for pair in PAIRS))
    write(path / "lines.txt", SENTENCES)
    rows = [(*pair, 1) for pair in PAIRS]
    rows += [(PAIRS[i][0], PAIRS[i - 1][1], 0) for i in range(3)]
    write(path / "scored.tsv", ("\t".join(map(str, row)) for row in rows))
    labels = ("neutral", "entailment", "contradiction")
    nli = [
        {"sentence1": a, "sentence2": b, "label": label}
        for (a, b), label in zip(PAIRS, labels, strict=True)
    ]
    write(path / "nli.jsonl", (json.dumps(row, ensure_ascii=False) for row in nli))
    return path


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def run(folder, *words, model="model"):
    """A command of three steps, or any other."""
    given = ["similar", words[0], "--model", str(folder / model), *map(str, words[1:])]
    if words[0] in ("train", "distill", "finetune"):
        given += ["--steps", "3", "--tokens", "128", "--side", "16", "--save-every", "2"]
        given += ["--log-every", "1", "--rate", "0.01", "--dropout", "0.1"]
    return main(given)


def vectors(folder, name):
    return SentenceEncoder.load(folder / name).encode(SENTENCES)


def test_three_generations_of_training_and_resuming(folder, capsys):
    assert run(folder, "train", "--pairs", folder / "pairs.tsv", "--output", folder / "one") == 0
    assert "3/3" in capsys.readouterr().out
    first = vectors(folder, "one/model")
    assert np.abs(first - vectors(folder, "model")).max() > 1e-3
    # The finished run has nothing left to do, and another setting is another run.
    assert run(folder, "train", "--pairs", folder / "pairs.tsv", "--output", folder / "one") == 0
    np.testing.assert_array_equal(first, vectors(folder, "one/model"))
    words = ["train", "--pairs", folder / "pairs.tsv", "--output", folder / "one", "--scale", "30"]
    assert run(folder, *words) == 2
    assert "scale was 20.0 and is 30.0" in capsys.readouterr().err

    words = ["finetune", "--scored", f"{folder / 'scored.tsv'}:0.5", "--nli", folder / "nli.jsonl"]
    assert run(folder, *words, "--output", folder / "ft", model="one/model") == 0
    out = capsys.readouterr().out
    assert "similar " in out
    assert "inference " in out
    words = ["distill", "--pairs", folder / "pairs.tsv", "--teacher", folder / "ft/model"]
    assert run(folder, *words, "--output", folder / "two", model="one/model") == 0
    assert "the teacher reads 6 sentences" in capsys.readouterr().out
    assert json.loads((folder / "two/run.json").read_text(encoding="utf-8"))["distillation_weight"]


@pytest.mark.long
def test_siblings_are_trained_by_the_same_command(folder, capsys):
    words = ["train", "--sentences", folder / "lines.txt", "--scored", folder / "scored.tsv"]
    assert run(folder, *words, "--output", folder / "siblings") == 0
    out = capsys.readouterr().out
    assert "simcse " in out
    assert "cosent " in out


def test_encode_index_and_search(folder, capsys):
    words = ["encode", "--input", folder / "lines.txt", "--output", folder / "v.npy"]
    assert run(folder, *words, "--precision", "int8", "--dimensions", "8") == 0
    assert np.load(folder / "v.npy").dtype == np.int8
    assert "encoded 6 of 6" in capsys.readouterr().err

    query = SENTENCES[2]
    assert run(folder, "search", "--corpus", folder / "lines.txt", "--topk", "2", query) == 0
    expected = capsys.readouterr().out
    assert expected.split("\n")[0] == f"{query}\t1\t1.0000\t{query}"
    found = vectors(folder, "model")
    second = np.argsort(-(found @ found[2]))[1]
    assert expected.split("\n")[1].endswith(f"\t{SENTENCES[second]}")

    words = ["index", "--corpus", folder / "lines.txt", "--output", folder / "index"]
    assert run(folder, *words, "--recall", "3") == 0
    assert "recall@10 on 3 of the sentences: 1.0000" in capsys.readouterr().out
    assert run(folder, "search", "--index", folder / "index", "--topk", "2", query) == 0
    assert capsys.readouterr().out == expected


def test_generate_prints_different_sentences(folder, capsys):
    words = ["generate", "-n", "8", "-k", "3", "--seed", "1", "--maxlen", "12", "--mask", "1", "--"]
    assert run(folder, *words, SENTENCES[0]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [[SENTENCES[0], str(i + 1)] for i in range(3)]
    assert len({line[3] for line in lines} | {SENTENCES[0]}) == 4


def test_eval_prints_spearman_and_advises_a_line(folder, capsys):
    words = ["eval", "--scored", folder / "scored.tsv", "--resamples", "20", "--precision", "0.5"]
    assert run(folder, *words, "--calibrate", folder / "c.json") == 0
    out = capsys.readouterr().out
    assert "scored.tsv, 6 pairs: " in out
    assert "shared characters alone" in out
    assert "pairs are alike" in out
    assert (folder / "c.json").is_file()


def test_the_posts_cosines_are_compared_or_what_is_missing_is_told(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert main(["similar", "eval", "--post-8541"]) == 2
    told = capsys.readouterr().err
    assert "chinese_roformer-sim-char-ft_L-12_H-768_A-12, which is not here" in told
    assert "Place its archive, or the folder in it, in pretrained/" in told
    # Another model does not have them, and the command says so.
    assert run(folder, "eval", "--post-8541") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("0.9921  ")
    assert lines[-1].endswith("of 10 agree, * differ")


def test_a_model_whose_vocabulary_is_not_the_configs_is_not_trained(folder, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "model")
    with (tmp_path / "model" / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("𠮷\n")
    words = ["train", "--pairs", folder / "pairs.tsv", "--output", tmp_path / "x"]
    assert run(tmp_path, *words) == 2
    assert "tokens and the config beside it vocab_size=" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--output", "x"], "nothing to train on: give --pairs"),
        (["finetune", "--output", "x"], "nothing to train on: give --scored or --nli"),
        (["train", "--pairs", "scored.tsv", "--output", "x"], "3 columns and needs 2"),
        (["finetune", "--scored", "pairs.tsv", "--output", "x"], "2 columns and needs 3"),
        (["eval"], "give --model and --scored"),
        (["search", "--index", "model", "q"], "holds no finished index"),
        (["generate", "--mask", "0", "--", "今天"], "mask_positions holds 0"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(folder, capsys, monkeypatch, words, message):
    monkeypatch.chdir(folder)
    assert run(folder, *words) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "x").exists()
