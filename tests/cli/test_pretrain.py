"""`bert4kexue pretrain`, from text to a checkpoint that answers."""

from __future__ import annotations

import json
import re

import pytest
from _model_folder import write_folder

from bert4kexue.cli import main, pretrain_run

LINES = ["今天天气很好，我们去公园。", "明天有雨，在家看书。", "他喜欢吃苹果和香蕉。"] * 8
CONFIG = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}


def test_from_text_to_a_checkpoint(tmp_path, capsys):
    corpus, pairs = tmp_path / "c.txt", tmp_path / "pairs.jsonl"
    corpus.write_text("\n".join(LINES), encoding="utf-8")
    row = {"source": "天气", "target": ["今天", "很好"]}
    pairs.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    vocabulary, records, output = (str(tmp_path / n) for n in ("vocab.txt", "records", "run"))
    assert main(["pretrain", "vocab", str(corpus), "--output", vocabulary]) == 0
    prepare = ["pretrain", "prepare", str(corpus), "--vocab", vocabulary, "--output", records]
    assert main(prepare) == 0
    size = len((tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines())
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "vocab_size": size}), encoding="utf-8")
    run = ["pretrain", "run", "--records", records, "--vocab", vocabulary, "--config", str(config)]
    run += ["--output", output, "--steps", "4", "--length", "16", "--tokens", "64"]
    run += ["--objective", "masked=1", "--objective", "written=1", "--pairs", str(pairs)]
    run += ["--remat", "--log-every", "2", "--save-every", "4"]
    assert main(run) == 0
    assert main([*run[:-4], "--log-every", "2", "--save-every", "4"]) == 0  # done: nothing to do
    assert main(["pretrain", "evaluate", "--model", f"{output}/model", str(corpus)]) == 0
    assert "masked words: accuracy" in capsys.readouterr().out
    assert main([*run, "--seed", "2"]) == 2
    assert "seed was 1 and is 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--objective", "guessing"], "the objectives are masked, nsp"),
        (["--objective", "masked=much"], "the share must be a number"),
        (["--objective", "masked=1"], "needs --records"),
        (["--objective", "written=1"], "need --pairs"),
        (["--objective", "masked=-1"], "must not be negative"),
        (["--objective", "masked=1:x"], "the share must be a number"),
        (["--objective", "scored=1", "--scored", "absent.jsonl"], "there is no file absent.jsonl"),
        (["--objective", "written=1", "--pairs", "bad"], "bad, line 1 has no text under 'source'"),
        (["--objective", "written=1", "--pairs", "ids"], "ids, row 2: the target must be text or"),
        (["--objective", "written=1", "--pairs", "none"], "at least one text, got []"),
        (["--objective", "written", "--pairs", "good", "--multiple", "0"], "multiple=0 must be 1"),
        (["--objective", "scored=1", "--scored", "nan"], "nan, row 1: the score must be a finite"),
        (["--objective", "masked=nan"], "the share must be finite"),
        (["--objective", "nsp", "--objective", "nsp=2"], "nsp=2: nsp is given twice"),
        (["--objective", "masked", "--accumulate", "0"], "--accumulate must be 1 or more, got 0"),
        (["--objective", "masked", "--length", "5"], "--length must be 6 or more"),
        (["--objective", "sop", "--length", "6"], "--length must be 7 or more"),
    ],
)
def test_what_is_missing_is_told(tmp_path, monkeypatch, capsys, more, message):
    vocabulary, config = tmp_path / "vocab.txt", tmp_path / "config.json"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n好\n", encoding="utf-8")
    config.write_text(json.dumps({**CONFIG, "vocab_size": 6}), encoding="utf-8")
    rows = {
        "bad": '{"source": 1, "target": "好"}',
        "good": '{"source": "好", "target": ""}',
        "ids": '{"source": "好", "target": "好"}\n{"source": "好", "target": [1]}',
        "none": '{"source": "好", "target": []}',
        "nan": '{"a": "好", "b": "好", "score": NaN}',
    }
    for name, lines in rows.items():
        (tmp_path / name).write_text(lines, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run = ["pretrain", "run", "--vocab", str(vocabulary), "--config", str(config)]
    assert main([*run, "--output", str(tmp_path / "run"), "--steps", "2", *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("size", [5, 7])
def test_a_config_of_another_vocabulary_is_told_before_anything_is_built(
    tmp_path, monkeypatch, capsys, size
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n好\n", "utf-8")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": size}), "utf-8")
    run = ["pretrain", "run", "--vocab", "vocab.txt", "--config", "config.json", "--output", "run"]
    assert main([*run, "--steps", "2", "--objective", "masked=1"]) == 2
    told = f"vocab.txt has 6 tokens and config.json vocab_size={size}: let vocab_size be the number"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["pretrain run", "kgqa train", "similar train"])
def test_a_dtype_that_no_checkpoint_has_is_refused_before_training(capsys, command):
    with pytest.raises(SystemExit):
        main([*command.split(), "--dtype", "flaot16"])
    assert "--dtype: invalid choice: 'flaot16'" in capsys.readouterr().err


@pytest.fixture
def started(tmp_path):
    """A run of two steps over records of several shards, and its command."""
    corpus, vocabulary, config = (tmp_path / n for n in ("c.txt", "vocab.txt", "config.json"))
    corpus.write_text("\n".join(LINES), encoding="utf-8")
    assert main(["pretrain", "vocab", str(corpus), "--output", str(vocabulary)]) == 0
    prepare = ["pretrain", "prepare", str(corpus), "--vocab", str(vocabulary)]
    prepare += ["--characters", "100", "--output", str(tmp_path / "records")]
    assert main(prepare) == 0
    size = len(vocabulary.read_text(encoding="utf-8").splitlines())
    config.write_text(json.dumps({**CONFIG, "vocab_size": size}), encoding="utf-8")
    run = ["pretrain", "run", "--records", str(tmp_path / "records"), "--vocab", str(vocabulary)]
    run += ["--config", str(config), "--output", str(tmp_path / "run"), "--steps", "2"]
    run += ["--length", "16", "--tokens", "64", "--log-every", "1", "--save-every", "1"]
    return [*run, "--objective", "masked=0.5:1", "--dropout", "0"], prepare


def test_a_deleted_shard_stops_the_run_before_anything_is_written(started, tmp_path, capsys):
    run, prepare = started
    (tmp_path / "records" / "shard-00001.tokens.npy").unlink()
    assert main(run) == 2
    assert "shard 1 of" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(prepare) == 0
    assert "1 were there already" in capsys.readouterr().out.replace("2 were", "1 were")
    assert main(run) == 0


def test_a_rate_that_was_too_high_may_be_given_anew(started, tmp_path, capsys):
    run, _ = started
    run = [*run, "--steps", "4", "--save-every", "4"]
    assert main([*run, "--rate", "1e30"]) == 2
    assert "nothing has been saved yet, so the same folder will do" in capsys.readouterr().err
    assert main([*run, "--rate", "1e-3"]) == 0


def test_contrast_on_running_text_trains_and_needs_no_pairs(started, tmp_path):
    run, _ = started
    run[run.index("masked=0.5:1")] = "contrast=1"
    assert main(run) == 0
    assert (tmp_path / "run" / "model" / "bert_model.ckpt.index").exists()


def test_a_corpus_that_changed_is_told_to_the_run_that_goes_on(started, tmp_path, capsys):
    run, prepare = started
    assert main(run) == 0
    state = (tmp_path / "run" / "state.npz").read_bytes()
    corpus = tmp_path / "c.txt"
    corpus.write_text(corpus.read_text(encoding="utf-8") + "\n又一行字。", encoding="utf-8")
    assert main(prepare) == 2
    assert "the corpus or the settings have changed since" in capsys.readouterr().err
    assert main([*prepare[:-1], str(tmp_path / "again")]) == 0
    run[run.index("--records") + 1] = str(tmp_path / "again")
    assert main(run) == 2
    assert "holds a run with other settings (data was" in capsys.readouterr().err
    assert (tmp_path / "run" / "state.npz").read_bytes() == state


@pytest.fixture
def cased(tmp_path):
    """A model that knows upper-case letters, and text of them."""
    folder = write_folder(tmp_path / "model")
    vocabulary = folder / "vocab.txt"
    tokens = vocabulary.read_text(encoding="utf-8").split("\n")
    letters = [chr(ord("A") + i) for i in range(sum(t.startswith("[unused") for t in tokens))]
    tokens = [t for t in tokens if t and not t.startswith("[unused")] + letters
    vocabulary.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    corpus = tmp_path / "c.txt"
    corpus.write_text("\n".join([" ".join(letters)] * 20), encoding="utf-8")
    return ["pretrain", "evaluate", "--model", str(folder), str(corpus)]


def test_a_cased_model_is_evaluated_on_cased_text(cased, capsys):
    assert main([*cased, "--cased"]) == 0
    asked, commonest = re.search(r"of (\d+), .* token ([\d.]+)", capsys.readouterr().out).groups()
    assert int(asked) > 9
    assert 0 < float(commonest) < 0.6
    assert main(cased) == 2  # every letter is unknown
    assert "no word to hide" in capsys.readouterr().err


def test_a_length_below_what_a_piece_needs_is_told(cased, capsys):
    assert main([*cased, "--cased", "--length", "5"]) == 2
    assert "length (--length) must be 6 or more" in capsys.readouterr().err
    assert main([*cased, "--cased", "--length", "6"]) == 0


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        (b"x" * 2000, ["--characters", "0"], "characters must be 1 or more, got 0"),
        (b"x" * 2000, ["--workers", "0"], "workers must be 1 or more, got 0"),
        (b"x" * 2000, ["--longest-line", "1999"], "or raise longest_line (--longest-line)"),
        ("好\n".encode() + "中文".encode("gb18030"), [], "convert the file to UTF-8"),
        (b"", [], "holds no text"),
        (None, [], "there is no file"),
    ],
)
def test_prepare_does_what_its_own_errors_ask_for(tmp_path, capsys, text, more, message):
    corpus, vocabulary = tmp_path / "c.txt", tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n好\n", encoding="utf-8")
    if text is not None:
        corpus.write_bytes(text)
    prepare = ["pretrain", "prepare", str(corpus), "--vocab", str(vocabulary)]
    prepare += ["--output", str(tmp_path / "records")]
    assert main([*prepare, *more]) == 2
    assert message in capsys.readouterr().err
    corpus.write_text("好" * 2000, encoding="utf-8")
    assert main([*prepare, "--longest-line", "6000"]) == 0
    assert "1 documents, 2,000 tokens, 1 shards" in capsys.readouterr().out


def test_half_a_character_is_told_with_its_line(tmp_path, capsys):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"text": "好"}\n{"text": "\\ud800"}\n', encoding="utf-8")
    assert main(["pretrain", "vocab", str(corpus), "--output", str(tmp_path / "v.txt")]) == 2
    assert r"c.jsonl, line 2 holds half of a surrogate pair (\ud800)" in capsys.readouterr().err


def test_the_shares_change_over_the_run():
    shares = pretrain_run._shares(["masked=0.6:0.2", "scored=0:1", "nsp", "sop=2"])
    weights = {name: pretrain_run._weight(share) for name, share in shares.items()}
    at = {p: [round(w(p), 6) for w in weights.values()] for p in (0.0, 0.5, 1.0)}
    assert at == {0.0: [0.6, 0, 1, 2], 0.5: [0.4, 0.5, 1, 2], 1.0: [0.2, 1, 1, 2]}
