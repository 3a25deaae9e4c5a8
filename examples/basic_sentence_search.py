"""Sentence search in a few lines: encode, index, save, search.

    python examples/basic_sentence_search.py [--model DIR] [--kind exact|flat|ivf|hnsw] [QUERY ...]

The corpus is `examples/data/demo_corpus.txt` and the model the small RoFormer that comes with the
project; a released checkpoint of SimBERT or RoFormer-Sim takes its place by its name. 'exact' needs
NumPy alone, the other kinds the faiss library (`pip install '.[search]'`).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.methods.vector_index import VectorIndex

HERE = Path(__file__).resolve().parent
QUERIES = ["怎么开机", "天气怎么样", "我想退货"]


def main() -> None:
    """Print each query's nearest sentences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=HERE.parent / "pretrained" / "roformer_tiny_zh")
    parser.add_argument("--corpus", type=Path, default=HERE / "data" / "demo_corpus.txt")
    parser.add_argument("--kind", choices=("exact", "flat", "ivf", "hnsw"), default="exact")
    parser.add_argument("query", nargs="*", default=QUERIES)
    options = parser.parse_args()

    encoder = SentenceEncoder.load(options.model)
    sentences = options.corpus.read_text(encoding="utf-8").splitlines()
    index = VectorIndex.build(encoder.encode(sentences), options.kind)
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")  # and later, or elsewhere:
        index = VectorIndex.load(Path(folder) / "index", mapped=False)
    rows, cosines = index.search(encoder.encode(options.query), k=3)
    for query, near, scores in zip(options.query, rows, cosines, strict=True):
        print(query)
        for row, score in zip(near, scores, strict=True):
            print(f"  {score:.4f}  {sentences[row]}")


if __name__ == "__main__":
    main()
