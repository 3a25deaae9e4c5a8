"""`bert4kexue flops` prints the post's numbers."""

from __future__ import annotations

import json

from bert4kexue.cli import main

BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 21128,
}


def test_the_table_holds_shares_and_crossovers(tmp_path, capsys):
    path = tmp_path / "bert_config.json"
    path.write_text(json.dumps(BASE), encoding="utf-8")
    assert main(["flops", str(path), "--length", "128", "4096"]) == 0
    printed = capsys.readouterr().out
    for words in ("from 1,537 tokens", "from 4,609", "from 65"):
        assert words in printed
    row = next(line for line in printed.splitlines() if line.startswith("core"))
    assert row.split()[1:] == [f"{12 * 2 * n * n * 768 / 1e6:,.2f}" for n in (128, 4096)]
    assert main(["flops", str(tmp_path), "--decode", "--length", "10"]) == 0
    assert "one step more" in capsys.readouterr().out


def test_a_config_that_says_too_little_is_told(tmp_path, capsys):
    path = tmp_path / "bert_config.json"
    path.write_text("{}", encoding="utf-8")
    assert main(["flops", str(path)]) == 2
    assert "the config has no num_attention_heads" in capsys.readouterr().err
