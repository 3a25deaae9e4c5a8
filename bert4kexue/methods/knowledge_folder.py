"""A knowledge base as a folder: the tree with its values, a manifest, the lines that gave no fact.

facts.tree      the `KnowledgeBase`
knowledge.json  what it was made of: lines, keys, vocabulary, how many lines for which reason, how
                many keys lead to several facts
rejected.tsv    number and reason of each rejected line, where there are any
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bert4kexue._files import atomic_folder
from bert4kexue.decoding import vocabulary_hash
from bert4kexue.methods.knowledge_base import MANIFEST, TREE, Order, read_manifest
from bert4kexue.methods.knowledge_files import BuildReport, build_tree_file
from bert4kexue.methods.question_files import begins_labelled, iter_questions

BLOCKS = "blocks"
"""In `.NAME.building`, what a killed build has finished."""

MODEL_MARK = "kgqa.json"
"""What a model's folder says of its training: the order of a key's parts."""


def build_knowledge_folder(
    source: str | Path,
    target: str | Path,
    tokenizer: Any,
    *,
    maxlen: int = 512,
    workers: int = 1,
    order: Order = "spm",
    aliases: Mapping[str, Sequence[str]] | None = None,
    watch: Callable[[Iterable[Any], int], Iterable[Any]] = lambda blocks, size: blocks,
    went_on: Callable[[int], None] = lambda lines: None,
) -> BuildReport:
    """Write the folder of a file of facts; it appears complete or not at all.

    It grows beside its place, in `.NAME.building`, which is gone once the folder is there: a build
    that was killed goes on where it was when it is called again.

    Args:
        source: UTF-8. Told by its first line: `S（M）`, P, O with tabs between them, or with
            ` ||| ` as in NLPCC's .kb; or the labelled questions of KgCLUE or NLPCC, whose answers
            are the facts.
        target: the folder to write; an older one is replaced.
        tokenizer: what the model reads with.
        maxlen: a longer key is rejected, since no model could write it.
        workers: processes that tokenize.
        order: of the parts of a key, that of the model's training.
        aliases: as of `build_tree_file`.
        watch, went_on: as of `build_tree_file`.

    Raises:
        ValueError: nothing in the file gave a fact, or as of `build_tree_file`.
    """
    source, target = Path(source), Path(target)
    separator = _separator(source)
    with _building(target) as building, atomic_folder(target, building) as new:
        lines = source
        without_fact: tuple[str, ...] = ()
        if separator is None:
            lines, separator = building / "facts.tsv", "\t"
            without_fact = _write_facts(source, lines)
        report = build_tree_file(
            lines,
            new / TREE,
            tokenizer,
            maxlen=maxlen,
            workers=workers,
            separator=separator,
            order=order,
            aliases=aliases,
            stages=building / BLOCKS,
            watch=watch,
            went_on=went_on,
            called=source,
        )._replace(without_fact=without_fact)
        manifest = {
            "source": source.name,
            "bytes": source.stat().st_size,
            "lines": report.lines,
            "keys": report.keys,
            "keys_of_several_facts": report.shared,
            "order": order,
            "aliases": sum(map(len, (aliases or {}).values())),
            "rejected": dict(report.reasons()),
            "questions_without_a_fact": without_fact,
            "vocabulary": vocabulary_hash(tokenizer._token_dict),
        }
        text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
        (new / MANIFEST).write_text(text, encoding="utf-8", newline="\n")
        if report.rejected:
            rows = "".join(f"{number}\t{reason}\n" for number, reason in report.rejected)
            (new / "rejected.tsv").write_text(rows, encoding="utf-8", newline="\n")
    return report


def check_orders(model: str | Path, knowledge: str | Path) -> None:
    """Refuse a trained model beside a knowledge base whose keys have their parts in another order.

    Folders that say nothing of it are taken as S, P, M.

    Raises:
        ValueError: the orders differ, or a file that says them is damaged.
    """
    found = []
    for path in (Path(model, MODEL_MARK), Path(knowledge, MANIFEST)):
        found.append(read_manifest(path)["order"] if path.is_file() else "spm")
    if found[0] != found[1]:
        raise ValueError(
            f"the model writes keys in the order {found[0]}, and the base holds them in the order "
            f"{found[1]}: build the base with --order {found[0]}"
        )


@contextmanager
def _building(target: Path) -> Iterator[Path]:
    """The folder in which a target grows, gone at the end unless there is something to go on with.

    What else a killed build left in it is removed.
    """
    folder = target.with_name(f".{target.name}.building")
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if left.is_file():
            left.unlink()
        elif left.name != BLOCKS:
            shutil.rmtree(left)
    try:
        yield folder
    finally:
        if not (folder / BLOCKS).is_dir():
            shutil.rmtree(folder)


def _separator(source: Path) -> str | None:
    """What stands between the columns; None for labelled questions."""
    with open(source, encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    if begins_labelled(first) and not _is_triple(first):
        return None
    return "\t" if "\t" in first or "|||" not in first else "|||"


def _is_triple(line: str) -> bool:
    """Whether a line that begins as a labelled question is a triple: subjects may have braces."""
    if not line.lstrip().startswith("{") or line.count("\t") != 2:
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def _write_facts(source: Path, target: Path) -> tuple[str, ...]:
    """The answers of labelled questions as lines; what was wrong with the others."""
    rejected: list[str] = []
    with open(target, "w", encoding="utf-8", newline="\n") as file:
        for question in iter_questions(source, rejected):
            columns = (" ".join(part.split()) for part in question[2:])
            file.write("\t".join(columns) + "\n")
    if not target.stat().st_size:
        raise ValueError(
            f"{source} begins as labelled questions do, and none of them gives a fact. The first: "
            f"{rejected[0]}. Facts are `S（M）`, P, O with tabs between them, a line each"
        )
    return tuple(rejected)
