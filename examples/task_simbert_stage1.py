"""Stage 1 of SimBERT and RoFormer-Sim: paraphrases written, and found in the batch.

    BERT4KEXUE_DATA=... python examples/similarity_sets.py runs/similarity
    python examples/task_simbert_stage1.py --data runs/similarity --output runs/stage1

kexue.fm/archives/7427 and 8454. Each pair of `pairs.tsv` is two rows, a -> b and b -> a, under the
UniLM mask; half of the sources are corrupted by whole words; the [CLS] vectors of a pair find each
other among those of the batch, at scale 20. `bert4kexue similar train` does the same and resumes.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from similarity_task import Task, arguments, report

from bert4kexue.methods.similarity_data import read_alike
from bert4kexue.methods.similarity_rows import ParaphraseRows


def main() -> None:
    """Train and report."""
    options = arguments(__doc__).parse_args()
    pairs = read_alike(options.data / "pairs.tsv")
    task = Task(options.model, [text for pair in pairs for text in pair])
    rows = ParaphraseRows(pairs, task.sentences, task.special)
    task.fit(options, {"paraphrases": rows}, scale=20.0)
    report(options.data, options.model, options.output)


if __name__ == "__main__":
    main()
