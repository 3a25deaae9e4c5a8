"""The command closed-form: features or texts in, a head out that merges."""

from __future__ import annotations

import json

import numpy as np
import pytest
from _reference import random_checkpoint
from _tiny import CONFIG

from bert4kexue.analysis import ClosedFormSoftmax, load_closed_form, save_closed_form
from bert4kexue.checkpoints import write_tf_checkpoint
from bert4kexue.cli import main

RANDOM = np.random.default_rng(0)
Y = np.array(["坏", "好"])[np.arange(80) % 2]
X = RANDOM.normal(size=(80, 4)) + (np.arange(80) % 2)[:, None]


def features(path, rows=slice(None)):
    np.savez(path, x=X[rows], y=Y[rows])
    return str(path)


def test_fit_eval_and_predict_on_features(tmp_path, capsys):
    data, head = features(tmp_path / "f.npz"), str(tmp_path / "h.npz")
    words = ["closed-form", "fit", "--features", data, "--output", head, "--loo"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "80 rows, 4 features, 2 classes" in out
    expected = ClosedFormSoftmax("auto").fit(X, Y)
    left_out = ClosedFormSoftmax(expected.shrinkage_).leave_one_out(X, Y)
    assert f"leave-one-out accuracy {1 - left_out.error:.4f}" in out
    assert main(["closed-form", "eval", "--head", head, "--features", data]) == 0
    out = capsys.readouterr().out
    assert f"accuracy {expected.score(X, Y):.4f} (commonest label 0.5000)" in out
    assert main(["closed-form", "predict", "--head", head, "--features", data]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == expected.predict(X).tolist()


def test_parts_merge_into_the_fit_of_all(tmp_path, capsys):
    heads = []
    for number, rows in enumerate((slice(0, 30), slice(30, 80))):
        data = features(tmp_path / f"part{number}.npz", rows)
        heads.append(str(tmp_path / f"head{number}.npz"))
        assert main(["closed-form", "fit", "--features", data, "--output", heads[-1]]) == 0
    whole = str(tmp_path / "whole.npz")
    assert main(["closed-form", "merge", *heads, "--output", whole]) == 0
    assert "80 rows of 2 parts" in capsys.readouterr().out
    np.testing.assert_allclose(
        load_closed_form(whole).coef_, ClosedFormSoftmax("auto").fit(X, Y).coef_, atol=1e-12
    )


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, "auto", "ledoit-wolf", "loo"])
@pytest.mark.parametrize("priors", [None, "uniform", [0.3, 0.7]])
def test_a_file_gives_back_the_head(tmp_path, shrinkage, priors):
    model = ClosedFormSoftmax(shrinkage, priors).fit(X, Y)
    save_closed_form(model, tmp_path / "h.npz")
    again = load_closed_form(tmp_path / "h.npz")
    assert again.classes_.tolist() == model.classes_.tolist()
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_texts_go_through_the_checkpoint(tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    write_tf_checkpoint(folder / "bert_model.ckpt", random_checkpoint(CONFIG, "roformer", seed=2))
    (folder / "bert_config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    characters = list("今天气很好坏不")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    tokens += [f"[unused{k}]" for k in range(30 - len(tokens))]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    texts = ["".join(RANDOM.choice(characters, 5)) + "好坏"[i % 2] for i in range(40)]
    texts[7] = "今天\u2028天气好"  # ends no line
    labelled = tmp_path / "rows.tsv"
    lines = [f"{text}\t{i % 2}" for i, text in enumerate(texts)]
    labelled.write_text("\n".join(lines) + "\n", encoding="utf-8")
    head = str(tmp_path / "h.npz")
    source = ["--model", str(folder), "--texts", str(labelled)]
    assert main(["closed-form", "fit", *source, "--output", head]) == 0
    assert "40 rows, 16 features, 2 classes" in capsys.readouterr().out
    assert main(["closed-form", "eval", "--head", head, *source]) == 0
    assert "rows 40" in capsys.readouterr().out
    assert main(["closed-form", "predict", "--head", head, *source]) == 0
    rows = capsys.readouterr().out.removesuffix("\n").split("\n")
    assert [row.split("\t")[2] for row in rows] == texts


def test_mistakes_are_one_line(tmp_path, capsys):
    data = features(tmp_path / "f.npz")
    head = str(tmp_path / "h.npz")
    (tmp_path / "no_tab.tsv").write_text("今天\n", encoding="utf-8")
    np.savez(tmp_path / "no_y.npz", x=X)
    main(["closed-form", "fit", "--features", data, "--output", head])
    capsys.readouterr()
    fit = ["closed-form", "fit", "--output", head]
    for words, message in [
        ([*fit, "--texts", str(tmp_path / "no_tab.tsv")], "has no tab"),
        ([*fit, "--features", str(tmp_path / "no_y.npz")], "not 'y'"),
        ([*fit, "--features", data, "--shrinkage", "2"], "shrinkage must lie in"),
        (["closed-form", "eval", "--head", data, "--features", data], "is no closed form"),
        (["closed-form", "predict", "--head", head, "--texts", "nowhere"], "nowhere"),
    ]:
        assert main(words) == 2
        assert message in capsys.readouterr().err
