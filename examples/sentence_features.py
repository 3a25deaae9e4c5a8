"""What two examples share: labelled Chinese sentences, and their vectors by a checkpoint.

The sets are FewCLUE's EPRSTMT, TNEWS and CSLDCP (`train_few_all`, reported on `dev_few_all`) and
ChnSentiCorp (train, reported on dev and test together). Rows whose text occurs in the training part
are taken out of the reported part. Vectors are the pooled [CLS] of length one, 128 tokens at most.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.models import build_transformer_model
from bert4kexue.tokenizers import Tokenizer

TASKS = ("EPRSTMT", "TNEWS", "CSLDCP", "ChnSentiCorp")
FIELDS = {"EPRSTMT": "sentence", "TNEWS": "sentence", "CSLDCP": "content"}


class Texts(NamedTuple):
    """A task: texts and labels to fit, texts and labels to report on."""

    train: list[str]
    train_labels: np.ndarray
    test: list[str]
    test_labels: np.ndarray


class Features(NamedTuple):
    """The same as vectors (n, d) float32."""

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def read_task(data: Path, task: str) -> Texts:
    """The rows of a task; `data` is the folder that BERT4KEXUE_DATA names."""
    if task == "ChnSentiCorp":
        train = _tsv(data, "train.tsv")
        test = _tsv(data, "dev.tsv") + _tsv(data, "test.tsv")
    else:
        folder = data / "fewclue" / task.lower()
        train = _json(folder / "train_few_all.json", FIELDS[task])
        test = _json(folder / "dev_few_all.json", FIELDS[task])
    seen = {"".join(text.split()) for text, _ in train}
    test = [(text, label) for text, label in test if "".join(text.split()) not in seen]
    texts, labels = zip(*train, strict=True)
    test_texts, test_labels = zip(*test, strict=True)
    return Texts(list(texts), np.array(labels), list(test_texts), np.array(test_labels))


def vectors(model_folder: Path, texts: list[str]) -> np.ndarray:
    """Unit vectors (n, H) of a checkpoint with a pooler."""
    model = build_transformer_model(model_folder, model="roformer", with_pool="linear")
    tokenizer = Tokenizer(str(model_folder / "vocab.txt"), do_lower_case=True)
    return SentenceEncoder(model, tokenizer, long="cut").encode(texts)


def features(data: Path, model_folder: Path, task: str, cache: Path | None = None) -> Features:
    """The vectors of a task, read from `cache` where they lie there already."""
    file = None if cache is None else cache / f"{task.lower()}.npz"
    if file is not None and file.is_file():
        with np.load(file) as archive:
            return Features(archive["x"], archive["y"], archive["test_x"], archive["test_y"])
    texts = read_task(data, task)
    both = vectors(model_folder, texts.train + texts.test)
    cut = len(texts.train)
    found = Features(both[:cut], texts.train_labels, both[cut:], texts.test_labels)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **found._asdict())
    return found


def table_row(*cells: object) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def table_head(*cells: object) -> list[str]:
    """The first two rows of a Markdown table."""
    return [table_row(*cells), "|---" * len(cells) + "|"]


def _json(path: Path, field: str) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    return [(row[field], str(row["label"])) for row in rows]


def _tsv(data: Path, name: str) -> list[tuple[str, str]]:
    with zipfile.ZipFile(data / "chnsenticorp" / "chnsenticorp.zip") as archive:
        lines = archive.read(name).decode("utf-8").splitlines()[1:]  # the first names the columns
    rows = [line.split("\t", 1) for line in lines if "\t" in line]
    return [(text, label) for label, text in rows]
