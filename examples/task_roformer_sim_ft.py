"""RoFormer-Sim-FT: labelled pairs, as a Sentence-BERT with two and three classes.

    python examples/task_roformer_sim_ft.py --data runs/similarity --model runs/stage1 \\
        --output runs/ft [--loss classes|cosine|cosine_opposite|cosine_margin]

kexue.fm/archives/8541. Similar or not (ATEC, BQ, LCQMC, PAWSX, and STS-B above 2.5) and entailed,
contradicted or neither (OCNLI) alternate; one layer of five classes over [u; v; |u - v|] serves
both, each task blind to the other's classes. Distil the result back with
`task_roformer_sim_stage2.py`. `bert4kexue similar finetune` does the same and resumes.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from similarity_task import Task, arguments, report

from bert4kexue.methods.similarity_data import STS_B_THRESHOLD, read_inference, read_scored
from bert4kexue.methods.similarity_rows import LabelledPairs


def labelled(data: Path) -> dict[str, list[tuple[str, str, int]]]:
    """Rows of both tasks."""
    similar = [
        (row.first, row.second, int(row.score > (STS_B_THRESHOLD if "STS" in path.stem else 0.5)))
        for path in sorted((data / "train").glob("*.tsv"))
        for row in read_scored(path)
    ]
    inference = [tuple(row) for row in read_inference(data / "nli.jsonl")]
    return {"similar": similar, "inference": inference}


def main() -> None:
    """Train and report."""
    parser = arguments(__doc__)
    parser.add_argument(
        "--loss",
        choices=("classes", "cosine", "cosine_opposite", "cosine_margin"),
        default="classes",
    )
    options = parser.parse_args()
    parts = labelled(options.data)
    task = Task(
        options.model, [text for rows in parts.values() for row in rows for text in row[:2]]
    )
    tasks = {
        name: LabelledPairs(
            [row[:2] for row in rows], [row[2] for row in rows], task.sentences, task.special
        )
        for name, rows in parts.items()
    }
    task.fit(options, tasks, pair_loss=options.loss)
    report(options.data, options.model, options.output)


if __name__ == "__main__":
    main()
