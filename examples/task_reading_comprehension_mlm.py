"""Reading comprehension by filling in: all tokens of the answer in one forward.

    BERT4KEXUE_DATA=... python examples/reading_sets.py runs/reading
    python examples/task_reading_comprehension_mlm.py --data runs/reading --output runs/mlm

kexue.fm/archives/7148. Rows `[CLS] [MASK] ... [SEP] question [SEP] window [SEP]`; the answer is the
likeliest span of the window, and windows of a long passage vote. A killed run goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from reading_task import Training, arguments, report

from bert4kexue.methods.reading_comprehension import MaskedReader
from bert4kexue.methods.reading_rows import MaskedAnswers
from bert4kexue.models import build_transformer_model


def main() -> None:
    """Train and report."""
    options = arguments(__doc__).parse_args()
    task = Training(options)
    folder = options.trained or task.run(
        lambda draws: MaskedAnswers(draws, task.special), "bidirectional"
    )
    if options.train_only:
        return
    keras.config.set_dtype_policy("float32")
    model = build_transformer_model(folder, model="roformer", with_mlm="linear")
    reader = MaskedReader(model, task.tokenizer, task.layout)
    report(
        task,
        folder,
        "mlm",
        lambda qs: [a.text for a in reader.answer_batch([(q.question, q.passage) for q in qs])],
    )


if __name__ == "__main__":
    main()
