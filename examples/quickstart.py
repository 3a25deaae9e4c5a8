"""The library's main job on one page: a checkpoint in, neighbours, answers and a service out.

    python examples/quickstart.py            # the small RoFormer that comes with the library
    python examples/quickstart.py --smoke    # a part of it, to see that everything runs

1. An original-format RoFormer checkpoint becomes a Keras model.
2. Sentences become vectors; each query gets its nearest sentences of a corpus.
3. Questions are answered from a knowledge base: the model writes the key of a fact, and a prefix
   tree of all keys leaves it no other words (kexue.fm/archives/8802).
4. The model is exported, and a process that knows only TensorFlow serves the same numbers.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").setLevel("ERROR")  # it warns of the first few input lengths

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "examples" / "data"
TOLERANCE = 1e-4

SERVE = """
import sys
import numpy as np
import tensorflow as tf

folder, inputs, outputs = sys.argv[1:]
serve = tf.saved_model.load(folder).signatures["serving_default"]
results = {}
with np.load(inputs) as arrays:
    for batch in sorted({name.split("/")[0] for name in arrays.files}):
        named = {n: tf.constant(arrays[f"{batch}/{n}"]) for n in ("token_ids", "segment_ids")}
        for name, value in serve(**named).items():
            results[f"{batch}/{name}"] = value.numpy()
# (TensorFlow itself loads Keras where it finds it.)
assert not any(name.startswith("bert4kexue") for name in sys.modules), "TensorFlow alone serves"
np.savez(outputs, **results)
"""


def main() -> int:
    """Run the four parts; the exit code is 1 where the served numbers differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "pretrained" / "roformer_tiny_zh")
    parser.add_argument("--topk", type=int, default=3, help="hypotheses of the beam search")
    parser.add_argument("--smoke", action="store_true", help="two queries and three questions")
    options = parser.parse_args()

    from bert4kexue.models import build_transformer_model
    from bert4kexue.tokenizers import Tokenizer

    tokenizer = Tokenizer(str(options.model / "vocab.txt"), do_lower_case=True)
    model = build_transformer_model(
        options.model, model="roformer", application="unilm", with_pool="linear"
    )
    print(f"# {options.model.name}: {model.count_params():,} weights")

    queries = read_lines("demo_queries.txt")
    show_nearest(model, tokenizer, queries[: 2 if options.smoke else None])
    questions = [line.split("\t") for line in read_lines("demo_questions.tsv")]
    few = questions[:3] if options.smoke else questions
    show_answers(model, tokenizer, few, options.topk)
    return show_service(model, tokenizer, queries)


def read_lines(name: str) -> list[str]:
    """The lines of a file of examples/data."""
    return (DATA / name).read_text(encoding="utf-8").splitlines()


def show_nearest(model, tokenizer, queries: list[str]) -> None:
    """Print the three nearest sentences of the corpus to each query, with their cosines."""
    from bert4kexue.methods.sentence_encoder import SentenceEncoder
    from bert4kexue.methods.vector_index import VectorIndex

    corpus = read_lines("demo_corpus.txt")
    print(f"\n# Nearest of {len(corpus)} sentences")
    encoder = SentenceEncoder(model, tokenizer)
    index = VectorIndex.build(encoder.encode(corpus))
    found, cosines = index.search(encoder.encode(queries), k=3)
    for query, rows, scores in zip(queries, found, cosines, strict=True):
        print(query)
        for row, score in zip(rows, scores, strict=True):
            print(f"    {score:.3f}  {corpus[row]}")


def show_answers(model, tokenizer, questions: list[list[str]], topk: int) -> None:
    """Answer each question from the knowledge base, and count the right ones."""
    from bert4kexue.methods.knowledge_base import KnowledgeBase, split_meaning
    from bert4kexue.methods.knowledge_qa import KnowledgeQA

    triples = [tuple(line.split("\t")) for line in read_lines("demo_triples.tsv")]
    knowledge = KnowledgeBase.build(triples, tokenizer)
    qa = KnowledgeQA(model, tokenizer, knowledge)
    print(f"\n# Questions over {len(triples)} facts, beam of {topk}")
    right = 0
    answers = qa.answer_batch([question for question, _, _ in questions], topk)
    for (question, name, predicate), (best, *_) in zip(questions, answers, strict=True):
        subject, meaning = split_meaning(name)
        correct = best[:3] == (subject, predicate, meaning)
        right += correct
        fact = " | ".join([best.subject, best.predicate, best.meaning or "-"])
        verdict = "right" if correct else f"WRONG, asked for {name} | {predicate}"
        print(f"{question}\n    {fact} -> {'；'.join(best.objects)}")
        print(f"    probability {np.exp(best.score):.3f}, {verdict}")
    print(f"{right} of {len(questions)} right")


def show_service(model, tokenizer, texts: list[str]) -> int:
    """Export, serve in a process that imports TensorFlow only, and compare; 1 if they differ."""
    from bert4kexue.serving import default_signature, export_saved_model

    print("\n# Export and serve with TensorFlow alone")
    batches = {}
    for number, rows in enumerate([texts[:1], texts[1:4], texts[4:6]]):
        batch = tokenizer.encode_batch(rows, pad_to=8 + 8 * number)
        batches[f"batch{number}"] = [batch.token_ids, batch.segment_ids]
    names = default_signature(model)
    with tempfile.TemporaryDirectory() as temporary:
        folder, inputs, outputs = (Path(temporary, n) for n in ("model", "in.npz", "out.npz"))
        export_saved_model(model, folder)
        arrays = {
            f"{batch}/{name}": array.astype(np.int32)
            for batch, pair in batches.items()
            for name, array in zip(names.inputs, pair, strict=True)
        }
        np.savez(inputs, **arrays)
        subprocess.run([sys.executable, "-c", SERVE, folder, inputs, outputs], check=True)
        with np.load(outputs) as file:
            served = dict(file)
    worst = 0.0
    for batch, pair in batches.items():
        for name, own in zip(names.outputs, model.predict_on_batch(pair), strict=True):
            difference = float(np.abs(np.asarray(own) - served[f"{batch}/{name}"]).max())
            worst = float(np.maximum(worst, difference))  # keeps a NaN
        print(f"(b, n) = {pair[0].shape}: {', '.join(names.outputs)} served")
    agree = worst <= TOLERANCE
    print(f"max |difference| {worst:.1e}: the two {'agree' if agree else 'DISAGREE'}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
