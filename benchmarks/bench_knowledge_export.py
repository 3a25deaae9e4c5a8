"""A knowledge base exported with its model as one SavedModel: its size, and questions/s.

    python benchmarks/bench_knowledge_export.py [--triples 465000] [--questions 128]

The facts are those of bench_kgqa.py, in number such that their tree comes near the 4,000,000 nodes
that a graph may hold, or as many as asked for; the model is the shipped RoFormer. The export is
loaded in a fresh process with TensorFlow alone, which is given question strings and returns the
best fact of a beam of 3 with look-ahead: seconds and memory to load it, and questions a second, one
at a time and 32 together, after as many other questions. `KnowledgeQA` answers the same ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import bench_kgqa
from bench_kgqa import MB, MODEL

BATCHES = (1, 32)
BEAMS = 3
MAXLEN = 64

SERVE = """
import json, sys, time
import tensorflow as tf

def megabytes():
    lines = open("/proc/self/status", encoding="utf-8").read().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))

folder, file = sys.argv[1:]
asked, before = json.load(open(file, encoding="utf-8"))
bare, begun = megabytes(), time.perf_counter()
serve = tf.saved_model.load(folder).signatures["answers_text"]
told = {"load_s": time.perf_counter() - begun, "load_MB": megabytes() - bare, "served": []}
for batch in (1, 32):
    count = len(asked) if batch > 1 else max(1, len(asked) // 8)
    for several in (before, asked):
        begun, found = time.perf_counter(), []
        for first in range(0, count, batch):
            answers = serve(text=tf.constant(several[first : min(first + batch, count)]))
            names = [answers[name].numpy()[:, 0] for name in ("subject", "predicate")]
            found += [[part.decode("utf-8") for part in row] for row in zip(*names)]
    told[f"questions_per_s_{batch}"] = count / (time.perf_counter() - begun)
told["most_MB"], told["served"] = megabytes(), found
print(json.dumps(told))
"""


def measured(folder: Path, triples: int, count: int) -> dict:
    """One size."""
    from bert4kexue.cli.models import load_tokenizer
    from bert4kexue.methods.knowledge_base import KnowledgeBase
    from bert4kexue.methods.knowledge_qa import KnowledgeQA
    from bert4kexue.models import build_transformer_model
    from bert4kexue.serving import export_service
    from bert4kexue.serving.signatures import knowledge_answers

    source, base, questions = folder / "facts.tsv", folder / "facts", folder / "questions.json"
    bench_kgqa.write_text(source, triples)
    bench_kgqa.build(source, base)
    sample = bench_kgqa.sample(source, 2 * count, triples)
    asked, before = sample[:count], sample[count:]
    tokenizer = load_tokenizer(str(MODEL))
    knowledge = KnowledgeBase.load(base, tokenizer)
    model = build_transformer_model(MODEL, model="roformer", application="unilm", with_mlm="linear")
    result: dict = {"keys": len(knowledge), "nodes": knowledge.tree.node_count}
    begun = time.perf_counter()
    task = knowledge_answers(model, tokenizer, knowledge, top=1, num_beams=BEAMS, maxlen=MAXLEN)
    path = export_service({"answers": task}, folder / "served", tokenizer=tokenizer, maxlen=MAXLEN)
    result["export_s"] = time.perf_counter() - begun
    files = [file for file in path.rglob("*") if file.is_file()]
    result["folder_MB"] = sum(file.stat().st_size for file in files) / MB
    questions.write_text(json.dumps([asked, before]), encoding="utf-8")
    words = [sys.executable, "-c", SERVE, str(path), str(questions)]
    done = subprocess.run(words, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    result |= json.loads(done.stdout.splitlines()[-1])
    served = result.pop("served")
    for batch in BATCHES:
        qa = KnowledgeQA(
            model, tokenizer, knowledge, lookahead=True, batch_size=batch, maxlen=MAXLEN
        )
        number = count if batch > 1 else max(1, count // 8)
        qa.answer_batch(before[:number], 1, BEAMS)
        begun = time.perf_counter()
        answers = qa.answer_batch(asked[:number], 1, BEAMS)
        result[f"python_questions_per_s_{batch}"] = number / (time.perf_counter() - begun)
    alike = [[a.subject, a.predicate] == s for (a, *_), s in zip(answers, served, strict=True)]
    result["same_answers"] = sum(alike) / len(alike)
    return result


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triples", type=int, default=465_000)
    parser.add_argument("--questions", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = measured(Path(scratch), options.triples, options.questions)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:26s} {value:,.2f}")


if __name__ == "__main__":
    main()
