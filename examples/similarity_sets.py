"""The files that the examples of sentence similarity train and report on, out of the data folder.

    BERT4KEXUE_DATA=... python examples/similarity_sets.py runs/similarity

writes `train/*.tsv` and `reported/*.tsv` (ATEC, BQ, LCQMC, PAWSX: of the validation file, the only
one there, a fixed hash takes a fifth for reporting; STS-B: its own train and test), `nli.jsonl`
(OCNLI's training file), `pairs.tsv` and `pairs_held_out.tsv` (what SimCLUE and triCLUE call alike,
and STS-B's training pairs of score 4 and 5) and `counts.json`. A row of what is trained on is left
out where both of its sentences are nearly those of a reported or held-out row
(bert4kexue.methods.near_duplicates), whichever comes first.
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bert4kexue.methods.near_duplicates import near_groups, pair_keys
from bert4kexue.methods.similarity_data import LabelledPair, ScoredPair, read_set
from bert4kexue.methods.similarity_labels import LABELS

REPORTED = ("ATEC", "BQ", "LCQMC", "PAWSX", "STS-B")


def share(first: str, second: str, parts: int) -> int:
    """Which of `parts` equal parts a row belongs to, for ever."""
    return zlib.crc32(f"{first}\t{second}".encode()) % parts


def split(root: Path) -> tuple[dict[str, list[ScoredPair]], dict[str, list[ScoredPair]]]:
    """What is trained on and what is reported, by set, before near-duplicates are removed."""
    train: dict[str, list[ScoredPair]] = {}
    reported: dict[str, list[ScoredPair]] = {}
    for name in REPORTED[:-1]:
        rows = read_set(root, name, "valid")
        reported[name] = [row for row in rows if share(row.first, row.second, 5) == 0]
        train[name] = [row for row in rows if share(row.first, row.second, 5) != 0]
    train["STS-B"] = read_set(root, "STS-B", "train")
    reported["STS-B"] = read_set(root, "STS-B", "test")
    return train, reported


def alike(root: Path) -> list[tuple[str, str]]:
    """Pairs that mean the same, once each, whichever comes first."""
    rows = [tuple(row) for row in read_set(root, "SimCLUE-positive", "train")]
    rows += [row[:2] for row in read_set(root, "SimCLUE-pair", "train") if row.score == 1]
    rows += [row[:2] for row in read_set(root, "SimCLUE-rank", "train")]
    rows += [row[:2] for row in read_set(root, "triCLUE", "train")]
    rows += [row[:2] for row in read_set(root, "STS-B", "train") if row.score >= 4]
    return list({tuple(sorted(row)): row for row in rows if row[0] != row[1]}.values())


def write(root: Path, folder: Path) -> dict[str, Any]:
    """Write everything; the counts."""
    train, reported = split(root)
    pairs, inference = alike(root), read_set(root, "OCNLI", "train")
    held_out = [pair for pair in pairs if share(*pair, 20) == 0]
    pairs = [pair for pair in pairs if share(*pair, 20) != 0]
    parts = [*train.values(), *reported.values(), pairs, held_out, inference]
    sentences = list(dict.fromkeys(x for rows in parts for row in rows for x in row[:2]))
    groups = dict(zip(sentences, near_groups(sentences).tolist(), strict=True))

    def keys(rows: Iterable[Sequence[Any]]) -> list[tuple[int, int]]:
        return pair_keys([(row[0], row[1]) for row in rows], groups)

    forbidden = {key for rows in reported.values() for key in keys(rows)}
    kept = lambda rows, taken: [  # noqa: E731
        row for row, key in zip(rows, keys(rows), strict=True) if key not in taken
    ]
    counts: dict[str, Any] = {"sentences": len(sentences), "groups": len(set(groups.values()))}
    held_out = kept(held_out, forbidden)
    known = {groups[x] for rows in reported.values() for row in rows for x in row[:2]}
    for name in REPORTED:
        rows = kept(train[name], forbidden)
        touching = sum(groups[r.first] in known or groups[r.second] in known for r in rows)
        counts[name] = {
            "train": len(rows),
            "removed": len(train[name]) - len(rows),
            "train_rows_with_a_reported_sentence": touching,
            "reported": len(reported[name]),
        }
        train[name] = rows
    both = forbidden | set(keys(held_out))
    for name, rows, taken in (("pairs", pairs, both), ("nli", inference, forbidden)):
        counts[name] = {"train": len(kept(rows, taken)), "removed": len(rows)}
        counts[name]["removed"] -= counts[name]["train"]
    pairs, inference = kept(pairs, both), kept(inference, forbidden)
    counts["pairs"]["held_out"] = len(held_out)

    for part, sets in (("train", train), ("reported", reported)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name, rows in sets.items():
            _write(folder / part / f"{name}.tsv", (f"{a}\t{b}\t{s:g}" for a, b, s in rows))
    _write(folder / "pairs.tsv", ("\t".join(pair) for pair in pairs))
    _write(folder / "pairs_held_out.tsv", ("\t".join(pair) for pair in held_out))
    _write(folder / "nli.jsonl", (_inference(row) for row in inference))
    _write(folder / "counts.json", [json.dumps(counts, indent=1)])
    return counts


def _inference(row: LabelledPair) -> str:
    names = {number: name for name, number in LABELS.items()}
    fields = {"sentence1": row.first, "sentence2": row.second, "label": names[row.label]}
    return json.dumps(fields, ensure_ascii=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def main() -> None:
    """Write the files, print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the files go")
    arguments = parser.parse_args()
    if not os.environ.get("BERT4KEXUE_DATA"):
        raise SystemExit("set BERT4KEXUE_DATA to the data folder")
    counts = write(Path(os.environ["BERT4KEXUE_DATA"]), arguments.folder)
    print(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
