"""Stage 2 of RoFormer-Sim: another model's cosines, and the writing kept.

    python examples/task_roformer_sim_stage2.py --data runs/similarity --model runs/stage1 \\
        --teacher runs/ft --output runs/roformer-sim-ft

kexue.fm/archives/8454; with the fine-tuned model of `task_roformer_sim_ft.py` as the teacher it is
the last step of 8541: the student takes over the teacher's cosines, for which a Sentence-BERT gave
up writing, and still writes. The teacher reads every clean sentence once, with its own tokenizer.
`bert4kexue similar distill` does the same and resumes.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from similarity_task import MAXLEN, Task, arguments, report

from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.methods.similarity_data import read_alike
from bert4kexue.methods.similarity_rows import ParaphraseRows, TeacherVectors


def main() -> None:
    """Ask the teacher, train, report."""
    parser = arguments(__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="folder of the teacher")
    options = parser.parse_args()
    pairs = read_alike(options.data / "pairs.tsv")
    task = Task(options.model, [text for pair in pairs for text in pair])
    texts = list(task.sentences.numbers)
    teacher = SentenceEncoder.load(options.teacher, maxlen=MAXLEN, long="cut")
    known = TeacherVectors(texts, teacher.encode(texts, show_progress=True))
    rows = ParaphraseRows(pairs, task.sentences, task.special, teacher=known)
    task.fit(options, {"distilled": rows}, distillation_weight=100.0)
    report(options.data, options.teacher, options.model, options.output)


if __name__ == "__main__":
    main()
