"""NLPCC 2016 KBQA: the same as `task_kgclue.py`, with a tenth of the subjects held out.

    BERT4KEXUE_DATA=... python examples/task_kbqa_nlpcc.py --output runs/nlpcc

The set has no dev of its own: questions are split by a hash of their subject, so that no subject is
both trained on and measured. The base holds the gold triples; `--knowledge` takes another.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from kgqa_task import Task, arguments
from ship_sets import data_folder, is_held_out

from bert4kexue.methods.question_files import read_questions


def main() -> None:
    """Train, measure, keep the best epoch's model and predictions."""
    options = arguments(__doc__).parse_args()
    path = data_folder() / "nlpcc2016kbqa" / "nlpcc-iccpol-2016.kbqa.training-data"
    rejected: list[str] = []
    questions = read_questions(path, rejected)
    for why in rejected:
        print(f"left out: {why}")
    train = [q for q in questions if not is_held_out(q.fact[0])]
    valid = [q for q in questions if is_held_out(q.fact[0])]
    Task(options, train, valid).run()


if __name__ == "__main__":
    main()
