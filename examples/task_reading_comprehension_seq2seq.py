"""Reading comprehension by writing: the answer, token by token, in the passage's suffix tree.

    BERT4KEXUE_DATA=... python examples/reading_sets.py runs/reading
    python examples/task_reading_comprehension_seq2seq.py --data runs/reading --output runs/seq2seq

kexue.fm/archives/7115. Rows `[CLS] window [SEP] question [SEP] answer [SEP]` under the UniLM mask;
windows of a long passage vote on every token. A killed run goes on where it was.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
from reading_task import Training, arguments, report

from bert4kexue.methods.reading_comprehension import Seq2SeqReader
from bert4kexue.methods.reading_rows import written_answers
from bert4kexue.models import build_transformer_model


def main() -> None:
    """Train and report."""
    parser = arguments(__doc__)
    parser.add_argument("--beams", type=int, default=1, help="width of the search (1)")
    options = parser.parse_args()
    task = Training(options)
    folder = options.trained or task.run(
        lambda draws: written_answers(draws, task.special), "unilm"
    )
    if options.train_only:
        return
    keras.config.set_dtype_policy("float32")
    model = build_transformer_model(
        folder, model="roformer", application="unilm", with_mlm="linear"
    )
    reader = Seq2SeqReader(model, task.tokenizer, task.layout, num_beams=options.beams)
    report(
        task,
        folder,
        "seq2seq",
        lambda qs: [a.text for a in reader.answer_batch([(q.question, q.passage) for q in qs])],
    )


if __name__ == "__main__":
    main()
