"""KgCLUE: a question is answered by writing the key of its fact inside the tree of all facts.

    BERT4KEXUE_DATA=... python examples/task_kgclue.py --output runs/kgclue

kexue.fm/archives/8802. Rows `[CLS] Q [SEP] S [SEP] P [SEP] M [SEP]` under the UniLM mask; beams of
three with the look-ahead; after every epoch EM and F1 of dev. The base holds the gold triples of
both splits, in which a subject has one predicate: `--knowledge` takes a larger one, such as
KgCLUE's own 20 million lines after `bert4kexue kgqa build`. What the gold triples hide is measured
by `kgqa_results.py`; `bert4kexue kgqa train` does the same and resumes.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from kgqa_task import Task, arguments
from ship_sets import data_folder

from bert4kexue.methods.question_files import read_questions


def main() -> None:
    """Train, measure, keep the best epoch's model and predictions."""
    options = arguments(__doc__).parse_args()
    folder = data_folder() / "kgclue"
    train, valid = (read_questions(folder / f"{name}.json") for name in ("train", "dev"))
    Task(options, train, valid).run()


if __name__ == "__main__":
    main()
