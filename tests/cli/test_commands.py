"""The command line: what it prints, what it refuses, how soon it answers."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
from _model_folder import SENTENCES, write_folder

from bert4kexue.checkpoints import open_checkpoint, write_tf_checkpoint
from bert4kexue.cli import main


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "model")


def test_help_answers_without_keras_and_shows_examples():
    code = (
        "import sys; from bert4kexue.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    for words in ([], ["inspect"], ["similar", "search"], ["export"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, "--help"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "examples:" in done.stdout


@pytest.mark.parametrize("family", ["bert", "roformer"])
def test_inspect_names_the_family_and_what_loads(family, tmp_path, capsys):
    folder = write_folder(tmp_path / "m", family, **{"global_step": np.int64(7)})
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"model={family!r}, with_pool=True, with_nsp=True, with_mlm=True" in out
    assert "1 variables are left out knowingly: global_step" in out


def test_inspect_derives_a_config_from_shapes_alone(folder, capsys):
    (folder / "bert_config.json").unlink()
    assert main(["inspect", str(folder / "bert_model.ckpt"), "--variables"]) == 0
    out = capsys.readouterr().out
    for part in ('"vocab_size": 30', '"num_hidden_layers": 2', '"intermediate_size": 24'):
        assert part in out
    assert "usual values: num_attention_heads" in out
    assert "bert/pooler/dense/kernel [16, 16] float32" in out


def test_inspect_tells_what_would_not_load(tmp_path, capsys):
    folder = write_folder(tmp_path / "m", **{"bert/strange": np.zeros(3, "float32")})
    assert main(["inspect", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "would not load:" in out
    assert "bert/strange" in out


def test_inspect_says_that_a_family_cannot_be_built(tmp_path, capsys):
    variables = {"electra/embeddings/word_embeddings": np.zeros((5, 4), "float32")}
    write_tf_checkpoint(tmp_path / "model.ckpt", variables)
    assert main(["inspect", str(tmp_path / "model.ckpt")]) == 1
    assert "it is ELECTRA, and what can be built is: bert, roformer" in capsys.readouterr().out


def test_average_writes_a_folder_that_loads(folder, tmp_path, capsys):
    written = tmp_path / "runs" / "between"
    words = ["average", str(folder), str(folder), "--output", str(written)]
    assert main([*words, "--shares", "1", "3"]) == 0
    assert main(["inspect", str(written)]) == 0
    with open_checkpoint(folder) as one, open_checkpoint(written) as other:
        for name in other.names():
            np.testing.assert_array_equal(one.read(name), other.read(name))
    capsys.readouterr()
    assert main(words) == 2
    assert "exists: name a folder that does not" in capsys.readouterr().err
    (folder / "vocab.txt").write_text("[PAD]\n", encoding="utf-8", newline="\n")
    assert main(["average", str(folder), str(written), "--output", str(tmp_path / "x")]) == 2
    assert "vocab.txt differ" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_search_ranks_by_cosine_and_finds_the_sentence_itself(folder, tmp_path, capsys):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(SENTENCES) + "\n\n", encoding="utf-8")
    words = ["similar", "search", "--model", str(folder), "--corpus", str(corpus), "--topk", "3"]
    assert main([*words, "天气很好", "再见"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows] == ["1", "2", "3"] * 2
    assert [rows[0][3], rows[3][3]] == ["天气很好", "再见"]
    assert float(rows[0][2]) == pytest.approx(1.0, abs=1e-4)
    cosines = [float(row[2]) for row in rows[:3]]
    assert cosines == sorted(cosines, reverse=True)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports need TensorFlow")
def test_export_writes_what_it_says(folder, tmp_path, capsys):
    words = ["export", "--model", str(folder), "--output", str(tmp_path / "out"), "--head"]
    assert main([*words, "pooled"]) == 0
    out = capsys.readouterr().out
    assert "serving_default(token_ids, segment_ids) -> pooled" in out
    assert "cosine_text(text, second) -> cosine" in out
    assert (tmp_path / "out" / "1" / "saved_model.pb").is_file()
    assert main([*words, "nsp", "--version", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["export", "--check", str(tmp_path / "out")]) == 0
    assert "vectors_text.vectors" in capsys.readouterr().out
    assert main(["export"]) == 2
    assert "--check DIR" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "nowhere"], "nowhere"),
        (["similar", "search", "--model", "x", "--corpus", "nowhere.txt", "q"], "nowhere.txt"),
        (["export", "--model", "nowhere", "--output", "out"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_two(words, message, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("bert4kexue: ")
    assert message in err
    assert "Traceback" not in err


def test_a_reader_that_stops_reading_is_no_error(folder):
    """As in `bert4kexue inspect ... | head -0`."""
    command = [sys.executable, "-m", "bert4kexue", "inspect", str(folder), "--variables"]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    done.stdout.close()
    errors = done.stderr.read().decode("utf-8")
    done.stderr.close()
    assert done.wait() == 0
    assert "Broken pipe" not in errors
    assert "Traceback" not in errors
