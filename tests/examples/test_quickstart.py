"""The demonstration runs on a random model; its facts and questions belong together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import save_tiny_model

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"


def rows(name):
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("\t")) for line in lines]


def test_every_question_has_its_fact():
    facts = {(name, predicate) for name, predicate, _ in rows("demo_triples.tsv")}
    assert len(facts) == len(rows("demo_triples.tsv")), "no fact twice"
    for question, name, predicate in rows("demo_questions.tsv"):
        assert (name, predicate) in facts, question


def test_demo_knowledge_has_homonyms_and_several_predicates():
    names = {name for name, _, _ in rows("demo_triples.tsv")}
    homonyms = [name for name in names if "（" in name]
    assert len({name.split("（")[0] for name in homonyms}) < len(homonyms) - 5
    assert len(rows("demo_triples.tsv")) > 2 * len(names)


@pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow", reason="exports with TensorFlow"
)
def test_quickstart_runs_and_the_served_model_agrees(tmp_path):
    pytest.importorskip("tensorflow")
    characters = "".join(
        "".join(row) for name in ("demo_triples.tsv", "demo_questions.tsv") for row in rows(name)
    )
    save_tiny_model(tmp_path / "tiny", characters)
    command = [sys.executable, ROOT / "examples" / "quickstart.py", "--smoke"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [*command, "--model", tmp_path / "tiny"],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert " of 3 right" in done.stdout
    assert "the two agree" in done.stdout
