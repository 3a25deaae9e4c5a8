"""Trees of keys from text files of any size: read in blocks, tokenized by worker processes.

Two kinds of lines, columns separated by tabs:

    triples   `S（M）`, P, O: the key is `S [SEP] P [SEP] M [SEP]` (or in another order), the value
              is the fact. The file written is a `KnowledgeBase`.
    keys      any number of columns: the key is each column with a [SEP] behind it; no values.

Tokens and values go to temporary files beside the result, so memory does not grow with the text:
it is that of `decoding.trie_build`, about 100 bytes a key and some bytes a token. These files have
no names (where the system allows), so that they go with the process, however it ends; or they are
kept by name, for a killed build to go on (`knowledge_stages`).
"""

from __future__ import annotations

import codecs
import json
import multiprocessing
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from bert4kexue.decoding import PrefixTree, vocabulary_hash
from bert4kexue.methods.knowledge_base import KnowledgeBase, Order, ordered, split_meaning
from bert4kexue.methods.knowledge_stages import Block, Rejected, Stages
from bert4kexue.text.lines import read_lines

BLOCK = 1 << 20
"""Bytes of text that are tokenized together."""

NOT_UTF8 = "is not UTF-8: convert the file, for instance with iconv -f GB18030 -t UTF-8"

_JSON = json.JSONEncoder(ensure_ascii=False)  # `json.dumps` would make one for every line

Kind = Literal["triples", "keys"]
Line = tuple[list[str], str]  # the parts of a key, and its value


class BuildReport(NamedTuple):
    """What became of a file's lines."""

    lines: int
    keys: int
    rejected: list[Rejected]
    """Each line once, those included of which a name or one of its other names gave no key."""
    shared: int = 0
    """Keys that lead to more than one fact, see `KnowledgeBase.collisions`."""
    without_fact: tuple[str, ...] = ()
    """What is wrong with each labelled question that gave no fact."""

    def reasons(self) -> Counter[str]:
        """How many lines were rejected for each reason."""
        return Counter(line.reason for line in self.rejected)


class Lines(NamedTuple):
    """How lines are read."""

    kind: Kind
    maxlen: int
    separator: str
    order: Order = "spm"
    aliases: Mapping[str, Sequence[str]] = MappingProxyType({})


def build_tree_file(
    source: str | Path,
    target: str | Path,
    tokenizer: Any,
    kind: Kind = "triples",
    *,
    maxlen: int = 512,
    workers: int = 1,
    separator: str = "\t",
    order: Order = "spm",
    aliases: Mapping[str, Sequence[str]] | None = None,
    stages: Path | None = None,
    watch: Callable[[Iterable[Block], int], Iterable[Block]] = lambda blocks, size: blocks,
    went_on: Callable[[int], None] = lambda lines: None,
    called: str | Path | None = None,
) -> BuildReport:
    r"""Write the tree of a text file; the target appears complete or not at all.

    Args:
        source: UTF-8, lines end with "\n" or "\r\n".
        target: the tree file to write.
        tokenizer: what the model reads with.
        kind: what a line is, see the module.
        maxlen: a longer key is rejected, since no model could write it.
        workers: processes that tokenize; 1 does it in this one.
        separator: between the columns; the last column of a triple may hold it again unless it is
            a tab.
        order: of the parts of a triple's key.
        aliases: other names of subjects, by `S（M）` or by S alone, for all its meanings. A fact
            has a key for each of them as well; its value keeps the subject as it is written.
        stages: a folder for what is finished, removed at the end: after a kill the same call goes
            on from there, if text and settings are the same. None begins anew.
        watch: wraps the blocks as they come, given the size of the file in bytes; a block's
            `size` says how many bytes it was. For a progress bar.
        went_on: told how many lines a killed build had finished.
        called: what errors call the source; its path when None.

    Raises:
        ValueError: no line gave a key, the text is UTF-16, or `maxlen` or `workers` below 1.
    """
    source, target = Path(source), Path(target)
    if kind not in ("triples", "keys"):
        raise ValueError(f"kind is 'triples' or 'keys', got {kind!r}")
    ordered(("", "", ""), order)
    if maxlen < 1 or workers < 1:
        raise ValueError(f"maxlen={maxlen} and workers={workers} must be 1 or more")
    called = source if called is None else called
    with open(source, "rb") as file:
        begin = file.read(2)
    if not begin:
        raise ValueError(f"{called} is empty: it needs one {kind[:-1]} a line")
    if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise ValueError(f"{called} is UTF-16: convert it with iconv -f UTF-16 -t UTF-8")
    rules = Lines(kind, maxlen, separator, order, dict(aliases or {}))
    vocabulary = vocabulary_hash(tokenizer._token_dict)
    about = rules._asdict() | {"vocabulary": vocabulary, "lower": tokenizer._do_lower_case}
    with Stages(stages, target.parent, about) as kept:
        kept.resume(source)
        if kept.done:
            went_on(kept.lines)
        blocks = _tokenized(source, tokenizer, rules, workers, kept.done)
        for block in watch(blocks, source.stat().st_size - kept.done):
            kept.append(block)
        kept.flush()
        tokens, lengths, text, sizes = kept.files
        starts = _starts(lengths)
        if len(starts) == 1:
            raise ValueError(_no_key(called, rules, kept.lines, kept.rejected[0]))
        values = (_mapped(text, np.uint8), _starts(sizes)) if kind == "triples" else None
        tree = PrefixTree.from_arrays(
            _mapped(tokens, np.int32), starts, values, vocabulary=vocabulary
        )
        tree.save(target)
        shared = KnowledgeBase(tree, order).shared_keys()
        report = BuildReport(kept.lines, len(tree), kept.rejected, shared)
        del tree, values, tokens, text  # Windows removes no file that is mapped
        return report


def _no_key(called: str | Path, rules: Lines, lines: int, first: Rejected) -> str:
    between = "tabs" if rules.separator == "\t" else f"`{rules.separator}`"
    line = "`S（M）`, P, O" if rules.kind == "triples" else "the parts of a key"
    return (
        f"none of the {lines:,} lines of {called} gave a key. Line {first.number} {first.reason}. "
        f"A line is {line} with {between} between them, its key at most {rules.maxlen} tokens"
    )


def read_aliases(path: str | Path) -> dict[str, list[str]]:
    """Other names by subject, from lines of a name as it stands in triples, a tab, another name.

    Raises:
        ValueError: a line without two names, or no line at all.
    """
    found: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            columns = [column.strip() for column in line.split("\t")]
            if len(columns) != 2 or not all(columns):
                raise ValueError(f"line {number} of {path} is no name, a tab, another: {line!r}")
            found.setdefault(columns[0], []).append(columns[1])
    if not found:
        raise ValueError(f"{path} holds no name")
    return found


def read_blocks(file: IO[bytes], size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a file in blocks of whole lines."""
    while block := file.read(size):
        yield block + file.readline()


def _tokenized(
    source: Path, tokenizer: Any, rules: Lines, workers: int, begin: int
) -> Iterator[Block]:
    with open(source, "rb") as file:
        file.seek(begin)
        blocks = read_blocks(file)
        if workers <= 1:
            for block in blocks:
                yield _tokenize(tokenizer, block, rules)
            return
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers, _start_worker, (tokenizer, rules)) as pool:
            waiting: deque = deque()  # bounded, or all of the file would be read ahead
            for block in blocks:
                waiting.append(pool.apply_async(_work, (block,)))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().get()
            while waiting:
                yield waiting.popleft().get()


def _start_worker(*settings: Any) -> None:
    """Keep a worker's settings where `_work` finds them: on the function, in that process alone."""
    _work.settings = settings  # type: ignore[attr-defined]


def _work(block: bytes) -> Block:
    tokenizer, rules = _work.settings  # type: ignore[attr-defined]
    return _tokenize(tokenizer, block, rules)


def _tokenize(tokenizer: Any, block: bytes, rules: Lines) -> Block:
    """The keys of a block's lines."""
    rows = block.removesuffix(b"\n").split(b"\n")
    rejected: list[Rejected] = []
    kept: list[Line] = []
    numbers: list[int] = []
    for number, row in enumerate(rows, 1):
        try:
            found = _parse(row.removesuffix(b"\r").decode("utf-8"), rules)
            kept += found
            numbers += [number] * len(found)
        except UnicodeDecodeError:
            rejected.append(Rejected(number, NOT_UTF8))
        except ValueError as error:
            rejected.append(Rejected(number, str(error)))
    parts = [part for columns, _ in kept for part in columns]
    per_line = np.fromiter((len(columns) for columns, _ in kept), np.int64, len(kept))
    tokens, sizes = encode_parts(tokenizer, parts)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    begins = bounds[np.cumsum(per_line) - per_line]
    lengths = bounds[np.cumsum(per_line)] - begins
    fits = lengths <= rules.maxlen
    rejected += [
        Rejected(number, f"has a key of more than {rules.maxlen} tokens")
        for number in dict.fromkeys(numbers[i] for i in np.flatnonzero(~fits))
    ]
    texts = [kept[i][1].encode("utf-8") for i in np.flatnonzero(fits)]
    return Block(
        len(block),
        zlib.crc32(block),
        len(rows),
        tokens[np.repeat(fits, lengths)],
        lengths[fits].astype(np.int32),
        b"".join(texts),
        np.fromiter(map(len, texts), np.int32, len(texts)),
        sorted(rejected),
    )


def _parse(line: str, rules: Lines) -> list[Line]:
    """The parts of a line's keys and its value; a ValueError says what is wrong."""
    most = 2 if rules.kind == "triples" and rules.separator != "\t" else -1
    parts = line.lstrip("\ufeff").split(rules.separator, most)
    columns = [column.strip() for column in parts]
    if columns == [""]:
        raise ValueError("is empty")
    if rules.kind == "keys":
        if not columns[0]:
            raise ValueError("has an empty first column")
        return [(columns, "")]
    if len(columns) != 3:
        raise ValueError(f"has {len(columns)} columns, not 3")
    name, predicate, value = columns
    subject, meaning = split_meaning(name)
    if not subject or not predicate:
        raise ValueError("has an empty subject or predicate")
    text = _JSON.encode([subject, predicate, meaning, value])
    others: Iterable[str] = ()
    if rules.aliases:
        others = dict.fromkeys((*rules.aliases.get(name, ()), *rules.aliases.get(subject, ())))
    return [
        (ordered((known, predicate, meaning), rules.order), text) for known in (subject, *others)
    ]


def encode_parts(tokenizer: Any, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Each text's ids with its [SEP], without [CLS], end to end; and their numbers."""
    if not texts:
        return np.zeros(0, np.int32), np.zeros(0, np.int64)
    unique = list(dict.fromkeys(texts))  # subjects and predicates repeat
    place = {text: row for row, text in enumerate(unique)}
    ids = tokenizer.encode_batch(unique).token_ids[:, 1:]
    sizes = ids.shape[1] - np.argmax(ids[:, ::-1] == tokenizer._token_end_id, axis=1)
    rows = np.fromiter((place[text] for text in texts), np.int64, len(texts))
    taken = ids[rows]
    return taken[np.arange(ids.shape[1]) < sizes[rows, None]], sizes[rows]


def _mapped(file: Any, dtype: type) -> np.ndarray:
    return np.memmap(file, dtype, "r") if file.tell() else np.zeros(0, dtype)


def _starts(file: Any) -> np.ndarray:
    lengths = _mapped(file, np.int32)
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts
