"""`kgqa export`: what it writes is whole, and what it refuses leaves nothing."""

from __future__ import annotations

import keras
import pytest
from tiny_models import save_tiny_model

from bert4kexue.cli import main

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)


@pytest.fixture
def words(tmp_path):
    save_tiny_model(tmp_path / "m")
    facts = "李白（唐代诗人）\t职业\t诗人\n李白（游戏角色）\t职业\t法师\n静夜思\t作者\t李白\n"
    (tmp_path / "facts.tsv").write_text(facts, encoding="utf-8", newline="\n")
    model = ["--model", str(tmp_path / "m")]
    main(["kgqa", "build", str(tmp_path / "facts.tsv"), *model, "--output", str(tmp_path / "kb")])
    return ["kgqa", "export", *model, "--knowledge", str(tmp_path / "kb")]


@pytest.mark.long
def test_an_export_is_checked_in_a_fresh_process(words, tmp_path, capsys):
    served = str(tmp_path / "served")
    assert main([*words, "--output", served, "--topk", "2", "--maxlen", "20"]) == 0
    told = capsys.readouterr().out
    assert "answers_text(text) -> subject, predicate, meaning, objects, scores; 3 keys" in told
    assert main(["export", "--check", served]) == 0
    assert "answers_text.objects\t0.0e+00" in capsys.readouterr().out


def test_what_cannot_be_exported_leaves_nothing(words, tmp_path, capsys):
    served = tmp_path / "served"
    assert main([*words, "--output", str(served), "--topk", "4"]) != 0
    assert "top must be 1 to 3" in capsys.readouterr().err
    assert not served.exists()
