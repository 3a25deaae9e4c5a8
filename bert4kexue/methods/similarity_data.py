"""Files of pairs: scored, labelled by inference, or only said to be alike; and the known sets.

Formats:

* scored: first, second, score between tabs (ATEC, BQ, LCQMC, PAWSX, STS-B, as CoSENT's author
  shared them), `id||first||second||score` (CNSD STS-B), JSON lines with sentence1, sentence2 and
  label (SimCLUE, BUSTM);
* inference: JSON lines with sentence1, sentence2 and label or gold_label; '-' means that the
  annotators did not agree, and such rows are passed over;
* alike: first, second between tabs, JSON lines `{"text_a", "text_b"}`, `{"query", "title"}` or
  `{"text", "synonyms": [...]}`;
* triples (SimCLUE): an anchor, what is nearer to it, what is farther.

Every reader names file and line of what it cannot read. `SETS` says where each set lies in a data
folder and how it is read; `read_set` reads it.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bert4kexue.methods.similarity_labels import LABELS
from bert4kexue.training.corpora import CorpusError, read_rows

INFERENCE = ("contradiction", "entailment", "neutral")
#: STS-B scores above it are "similar" where a yes or no is wanted (kexue.fm/archives/8541).
STS_B_THRESHOLD = 2.5


class ScoredPair(NamedTuple):
    """Two sentences and how alike they are."""

    first: str
    second: str
    score: float


class LabelledPair(NamedTuple):
    """Two sentences and a number of `similarity_labels.LABELS`."""

    first: str
    second: str
    label: int


class Triple(NamedTuple):
    """A sentence, one that is nearer to it and one that is farther."""

    anchor: str
    near: str
    far: str


# --- readers ------------------------------------------------------------------------------------


def read_scored(
    path: str | os.PathLike[str],
    *,
    separator: str = "\t",
    first_column: int = 0,
    skip_bad: bool = False,
) -> list[ScoredPair]:
    """Rows of two sentences and a score.

    Args:
        path: UTF-8 text.
        separator: of columns.
        first_column: of the first sentence; the second and the score follow it and end the row.
        skip_bad: pass over rows of another number of columns, as the post's scripts do.

    Raises:
        CorpusError: no file, no row, another number of columns, an empty sentence, a score that is
            no finite number; with file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError(f"there is no file {path}")
    lines = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="\n")
    return _scored(str(path), lines, separator, first_column, skip_bad)


def _scored(
    name: str, lines: Any, separator: str, first_column: int, skip_bad: bool
) -> list[ScoredPair]:
    rows = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            continue
        columns = line.split(separator)[first_column:]
        if len(columns) != 3:
            if skip_bad:
                continue
            raise CorpusError(
                f"{name}, line {number} has {len(columns) + first_column} columns and needs "
                f"{3 + first_column}, separated by {separator!r}: correct it, or skip such rows "
                "(skip_bad=True, --skip-bad)"
            )
        first, second, score = (column.strip() for column in columns)
        try:
            value = float(score)
        except ValueError:
            value = float("nan")
        if not value - value == 0:
            raise CorpusError(
                f"{name}, line {number}: the score is {score!r:.40}, and must be a finite number"
            )
        if not first or not second:
            raise CorpusError(f"{name}, line {number} has an empty sentence: fill or remove it")
        rows.append(ScoredPair(first, second, value))
    if not rows:
        raise CorpusError(f"{name} holds no row of two sentences and a score")
    return rows


def read_json_scored(path: str | os.PathLike[str]) -> list[ScoredPair]:
    """JSON lines of sentence1, sentence2 and a label 0 or 1."""
    fields = {"sentence1": str, "sentence2": str, "label": str | int}
    rows = list(read_rows(Path(path), fields))
    wrong = [row for row in rows if str(row["label"]) not in ("0", "1")]
    if wrong:
        raise CorpusError(f"{path}: label {wrong[0]['label']!r} is neither 0 nor 1")
    return [ScoredPair(r["sentence1"], r["sentence2"], float(r["label"])) for r in rows]


def read_inference(path: str | os.PathLike[str]) -> list[LabelledPair]:
    """JSON lines of sentence1, sentence2 and label or gold_label.

    Raises:
        CorpusError: a label that is none of contradiction, entailment, neutral and '-'.
    """
    found = []
    for row in read_rows(Path(path), {"sentence1": str, "sentence2": str}):
        label = row.get("label", row.get("gold_label"))
        if label == "-":
            continue
        if label not in INFERENCE:
            raise CorpusError(
                f"{path}: label {label!r} is none of {', '.join(INFERENCE)}; '-' marks a row "
                "without one"
            )
        found.append(LabelledPair(row["sentence1"], row["sentence2"], LABELS[label]))
    if not found:
        raise CorpusError(f"{path} holds no labelled pair")
    return found


def read_unlabelled(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """JSON lines of sentence1 and sentence2 of which nothing is said."""
    rows = read_rows(Path(path), {"sentence1": str, "sentence2": str})
    return [(row["sentence1"], row["sentence2"]) for row in rows]


def read_alike(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Pairs that mean the same, in any of the formats above.

    Of `{"text", "synonyms"}` each synonym is a pair with its text.

    Raises:
        CorpusError: no pair, or a row of another format.
    """
    path = Path(path)
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson"):
        pairs = [pair for row in read_rows(path, {}) for pair in _alike(path, row)]
    else:
        pairs = []
        text = path.read_bytes().decode("utf-8-sig")
        for number, line in enumerate(io.StringIO(text, newline="\n"), 1):
            columns = line.rstrip("\r\n").split("\t")
            if not line.strip():
                continue
            if len(columns) != 2:
                raise CorpusError(
                    f"{path}, line {number} has {len(columns)} columns and needs 2, separated by a "
                    "tab: two sentences that mean the same"
                )
            pairs.append((columns[0].strip(), columns[1].strip()))
    if not pairs:
        raise CorpusError(f"{path} holds no pair")
    return pairs


def _alike(path: Path, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for keys in (("text_a", "text_b"), ("query", "title"), ("a", "b")):
        if all(isinstance(row.get(key), str) for key in keys):
            yield row[keys[0]], row[keys[1]]
            return
    if isinstance(row.get("text"), str) and isinstance(row.get("synonyms"), list):
        yield from ((row["text"], str(synonym)) for synonym in row["synonyms"])
        return
    raise CorpusError(
        f"{path}: a row has the keys {sorted(row)}; it needs text_a and text_b, query and title, a "
        "and b, or text and synonyms (a list)"
    )


def read_triples(path: str | os.PathLike[str]) -> list[Triple]:
    """SimCLUE's triples: sentence_0 with `label` saying which of the others is nearer; or ranks."""
    found = []
    for row in read_rows(Path(path), {}):
        if "neg_title" in row:
            found.append(Triple(row["query"], row["title"], row["neg_title"]))
            continue
        if str(row.get("label")) not in ("1", "2"):
            raise CorpusError(f"{path}: a triple has the label {row.get('label')!r}, not 1 or 2")
        nearer = int(row["label"])
        near, far = row[f"sentence_{nearer}"], row[f"sentence_{3 - nearer}"]
        found.append(Triple(row["sentence_0"], near, far))
    return found


def read_sentences(path: str | os.PathLike[str]) -> list[str]:
    """A sentence a line, blank ones passed over."""
    path = Path(path)
    lines = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="\n")
    return [line.strip() for line in lines if line.strip()]


def _read_cnsd(path: Path) -> list[ScoredPair]:
    return read_scored(path, separator="||", first_column=1)


def _read_zipped(path: Path) -> list[ScoredPair]:
    """`archive.zip/member`: a scored file inside of an archive."""
    archive = next(p for p in path.parents if p.suffix == ".zip")
    member = path.relative_to(archive).as_posix()
    with zipfile.ZipFile(archive) as opened:
        text = opened.read(member).decode("utf-8")
    return _scored(f"{archive}, {member}", io.StringIO(text, newline="\n"), "\t", 0, False)


# --- the sets of a data folder ------------------------------------------------------------------

Kind = Literal["scored", "inference", "alike", "unlabelled", "triples", "sentences"]
_READERS: dict[Kind, Callable[[Path], list[Any]]] = {
    "scored": read_scored,
    "inference": read_inference,
    "alike": read_alike,
    "unlabelled": read_unlabelled,
    "triples": read_triples,
    "sentences": read_sentences,
}


@dataclasses.dataclass(frozen=True)
class PairSet:
    """A set of sentences: where its files lie and how they are read.

    Attributes:
        kind: what its rows are.
        files: split to path below the data folder.
        reader: another reader than the kind's.
        highest: the score of sentences that mean the same, for scored sets.
    """

    kind: Kind
    files: Mapping[str, str]
    reader: Callable[[Path], list[Any]] | None = None
    highest: float = 1.0


def _fewclue(name: str) -> dict[str, str]:
    parts = [f"{s}_{n}" for s, n in itertools.product(("train", "dev"), (*range(5), "few_all"))]
    return {part: f"fewclue/{name}/{part}.json" for part in parts}


SETS: dict[str, PairSet] = {
    **{
        name: PairSet("scored", {"valid": f"sts_zh_cosent/{name}/{name}.valid.data"})
        for name in ("ATEC", "BQ", "LCQMC", "PAWSX")
    },
    "STS-B": PairSet(
        "scored",
        {s: f"sts_zh_cosent/STS-B/STS-B.{s}.data" for s in ("train", "valid", "test")},
        highest=5.0,
    ),
    "CNSD-STS-B": PairSet(
        "scored",
        {s: f"cnsd_sts_b/cnsd-sts-{s}.txt" for s in ("train", "dev", "test")},
        _read_cnsd,
        highest=5.0,
    ),
    "LCQMC-sample": PairSet(
        "scored",
        {
            s: f"bert4keras_examples/lcqmc.zip/lcqmc/lcqmc.{s}.data"
            for s in ("train", "valid", "test")
        },
        _read_zipped,
    ),
    "BUSTM": PairSet("scored", _fewclue("bustm"), read_json_scored),
    "BUSTM-unlabelled": PairSet("unlabelled", {"all": "fewclue_unlabeled/bustm.json"}),
    "SimCLUE-pair": PairSet("scored", {"train": "simclue/train_pair_1w.json"}, read_json_scored),
    "SimCLUE-positive": PairSet("alike", {"train": "simclue/train_pair_postive_1w.json"}),
    "SimCLUE-rank": PairSet("triples", {"train": "simclue/train_rank_1w.json"}),
    "SimCLUE-corpus": PairSet("sentences", {"all": "simclue/corpus_1w.txt"}),
    "triCLUE": PairSet(
        "triples", {s: f"simclue/triclue_small/{s}.json" for s in ("train", "dev", "test")}
    ),
    "OCNLI": PairSet(
        "inference",
        {
            "train": "ocnli/train.10k.json",
            "train_3k": "ocnli/train.3k.json",
            "dev": "ocnli/dev.json",
        },
    ),
    "OCNLI-test": PairSet("unlabelled", {"test": "ocnli/test.json"}),
    "FewCLUE-OCNLI": PairSet("inference", _fewclue("ocnli")),
}


def read_set(root: str | os.PathLike[str], name: str, split: str) -> list[Any]:
    """The rows of a split of one of `SETS`.

    Args:
        root: the data folder.
        name: of the set.
        split: one of its files.

    Raises:
        ValueError: an unknown set or split.
        CorpusError: the file is not there or cannot be read.
    """
    if name not in SETS:
        raise ValueError(f"there is no set {name!r}; the sets are {', '.join(SETS)}")
    found = SETS[name]
    if split not in found.files:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(found.files)}")
    return (found.reader or _READERS[found.kind])(Path(root) / found.files[split])
