"""What the two FewCLUE examples share: rows of the files, lines of the tables, kept results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ship_sets import data_folder

from bert4kexue.methods.fewclue import TASKS, FewClueTask
from bert4kexue.methods.fewclue_scores import Accuracy, accuracy

SHIPPED = Path(__file__).resolve().parent.parent / "pretrained/bert_tiny_nsp_zh"


def read_split(
    task: FewClueTask, split: str, limit: int | None = None
) -> tuple[list[str], np.ndarray]:
    """Texts and numbers of labels of TASK/SPLIT.json; of `limit` rows, evenly taken."""
    samples = task.read(data_folder() / "fewclue" / task.name / f"{split}.json")
    if limit is not None and limit < len(samples):
        samples = [samples[i * len(samples) // limit] for i in range(limit)]
    return [sample.text for sample in samples], np.array([sample.label for sample in samples])


def tasks_of(words: str) -> list[FewClueTask]:
    """The tasks named, with commas between."""
    return [TASKS[word.strip()] for word in words.split(",") if word.strip()]


def percent(score: Accuracy) -> str:
    """Accuracy with its 95 % interval."""
    return f"{100 * score.value:.2f} ({100 * score.low:.1f} to {100 * score.high:.1f})"


def over_splits(
    task: FewClueTask,
    splits: Sequence[int],
    learned: Callable[[list[str], list[str]], Callable[[Sequence[str]], np.ndarray]],
    texts: list[str],
    wanted: np.ndarray,
) -> list[float]:
    """Accuracy on `texts` of what is learned from train_0, train_1, ..., in percent."""
    found = []
    for split in splits:
        rows, labels = read_split(task, f"train_{split}")
        classify = learned(rows, [task.labels[i] for i in labels])
        found.append(100 * accuracy(classify(texts), wanted.tolist()).value)
        print(f"{task.name} train_{split}: {found[-1]:.2f}", flush=True)
    return found


def mean_deviation(values: Sequence[float]) -> str:
    """Mean and sample deviation."""
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def keep(path: Path, **results: Any) -> None:
    """Add results to a JSON file, as they come."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(known | results, ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
