"""``bert4kexue density``: train, ask, draw; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from bert4kexue.cli import main

FAST = ["--epochs", "1", "--hidden", "8", "--latent", "2"]


def train(folder, data, *words):
    return main(["density", "train", "--data", str(data), "--output", str(folder), *FAST, *words])


def test_texts_from_file_to_samples(tmp_path, capsys):
    data = tmp_path / "lines.txt"
    data.write_text("床前明月\n明月前\n\n月明\n" * 5, encoding="utf-8")
    assert train(tmp_path / "m", data, "--objective", "iwae", "--draws", "2") == 0
    assert "15 rows" in capsys.readouterr().out
    words = ["--model", str(tmp_path / "m")]
    assert main(["density", "log-prob", *words, "--data", str(data), "--samples", "20"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t")[0] == "log_prob"
    rows = np.array([line.split("\t") for line in lines[1:]], float)
    assert rows.shape == (15, 4)
    np.testing.assert_allclose(rows[:, 3], -rows[:, 0] / 4 / np.log(2), rtol=1e-4)
    assert main(["density", "sample", *words, "--count", "3"]) == 0
    drawn = capsys.readouterr().out.splitlines()
    assert len(drawn) == 3
    assert set("".join(drawn)) <= set("床前明月□")


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [("bernoulli", []), ("logistic", ["--levels", "4"]), ("gaussian", ["--levels", "4"])],
)
def test_arrays_from_file_to_samples(likelihood, words, tmp_path, capsys):
    top = 2 if likelihood == "bernoulli" else 4
    x = np.random.default_rng(0).integers(0, top, (30, 3, 2))
    np.save(tmp_path / "x.npy", x)
    assert train(tmp_path / "m", tmp_path / "x.npy", "--likelihood", likelihood, *words) == 0
    asked = ["--model", str(tmp_path / "m"), "--data", str(tmp_path / "x.npy"), "--samples", "50"]
    capsys.readouterr()
    assert main(["density", "log-prob", *asked]) == 0
    rows = np.array([line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]], float)
    # One epoch finds little more than the uniform distribution, whatever the scale inside.
    assert 0.7 * np.log2(top) < rows[:, 3].mean() < 3 * np.log2(top)
    out = tmp_path / "new.npy"
    assert main(["density", "sample", *asked[:2], "--count", "5", "--output", str(out)]) == 0
    drawn = np.load(out)
    assert drawn.shape == (5, 3, 2)
    assert set(drawn.ravel()) <= set(range(top))


def test_mistakes_are_one_line_and_status_two(tmp_path, capsys):
    np.save(tmp_path / "grey.npy", np.random.default_rng(0).random((5, 3)))
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    for data, words, message in (
        ("grey.npy", ["--likelihood", "bernoulli"], "Binarize"),
        ("grey.npy", [], "does not fit"),
        ("grey.npy", ["--likelihood", "text"], "does not fit"),
        ("empty.txt", [], "holds no text"),
        ("grey.csv", ["--likelihood", "gaussian"], "an .npy array or a .txt file"),
    ):
        assert train(tmp_path / "m", tmp_path / data, *words) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "m").exists()
    asked = ["--model", str(tmp_path), "--data", str(tmp_path / "grey.npy")]
    assert main(["density", "log-prob", *asked]) == 2
    assert "density train" in capsys.readouterr().err


def test_a_folder_is_not_replaced_unasked(tmp_path, capsys):
    (tmp_path / "m").mkdir()
    assert train(tmp_path / "m", tmp_path / "x.npy") == 2
    assert "--overwrite" in capsys.readouterr().err
