"""A knowledge base as a prefix tree: facts (S, P, M) -> objects.

The key of a fact is `S [SEP] P [SEP] M [SEP]`: subject S, predicate P and meaning M (which of
several things called S is meant; often empty).

The last [SEP] belongs to the key: without it a key with an empty meaning would begin those that
have one, and could not be chosen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bert4kexue.decoding import PrefixTree, vocabulary_hash

TREE, MANIFEST = "facts.tree", "knowledge.json"
"""A knowledge base in its folder, and what says how it was built."""

PARTS = 3
"""Subject, predicate and meaning: each ends with one [SEP]."""

Order = Literal["spm", "smp"]
"""What a key's parts are, one after the other: S, P, M unless a model was trained on S, M, P."""

_KEYS = 1 << 18  # whose values are looked at together

_PLACES = {"spm": (0, 1, 2), "smp": (0, 2, 1)}


def split_meaning(name: str) -> tuple[str, str]:
    """Subject and meaning of a name such as `李白（唐代诗人）`.

    The meaning is the last group in full-width parentheses, nested ones included, if it ends the
    name and leaves a subject; otherwise it is empty. A name without its own pair stays whole.

        >>> [split_meaning(name) for name in ["李白（唐代诗人）", "红（A（B））", "甲（一）（二）"]]
        [('李白', '唐代诗人'), ('红', 'A（B）'), ('甲（一）', '二')]
    """
    depth = 0
    if name.endswith("）"):
        for place in range(len(name) - 1, -1, -1):
            depth += {"）": 1, "（": -1}.get(name[place], 0)
            if depth == 0:
                subject, meaning = name[:place], name[place + 1 : -1]
                return (subject, meaning) if subject and meaning else (name, "")
    return name, ""


class KnowledgeBase:
    """Facts (S, P, M) -> objects in a prefix tree over a tokenizer's ids.

    Attributes:
        tree: its keys are `S [SEP] P [SEP] M [SEP]`.
        order: of the parts of its keys.
    """

    def __init__(self, tree: PrefixTree, order: Order = "spm") -> None:
        self.tree, self.order = tree, order

    @classmethod
    def build(
        cls, triples: Iterable[tuple[str, str, str]], tokenizer: Any, order: Order = "spm"
    ) -> KnowledgeBase:
        """The knowledge base of triples (`S（M）`, P, O).

        Several objects of one fact are kept in the order given.

        Args:
            triples: facts.
            tokenizer: what the model reads with.
            order: of the parts of a key, that of the model's training.

        Raises:
            ValueError: a triple without subject or predicate (the message has its number).
        """
        keys, values = [], []
        for number, (name, predicate, value) in enumerate(triples, start=1):
            subject, meaning = split_meaning(name.strip())
            predicate, value = predicate.strip(), value.strip()
            if not subject or not predicate:
                raise ValueError(
                    f"triple {number} needs a subject and a predicate, got {(name, predicate)}"
                )
            keys.append(fact_key(tokenizer, (subject, predicate, meaning), order))
            values.append(json.dumps([subject, predicate, meaning, value], ensure_ascii=False))
        vocabulary = vocabulary_hash(tokenizer._token_dict)
        return cls(PrefixTree.from_keys(keys, values, vocabulary=vocabulary), order)

    def __len__(self) -> int:
        """The number of different keys."""
        return len(self.tree)

    def facts(self, key: Iterable[int]) -> dict[tuple[str, str, str], tuple[str, ...]]:
        """{(subject, predicate, meaning): objects} of the ids of a key; empty for no key."""
        node = self.tree.find(list(key))
        return {} if node < 0 else _facts(self.tree.values(node))

    def collisions(self) -> list[list[tuple[str, str, str]]]:
        """Facts that share a key, because the vocabulary does not tell them apart.

        [UNK] and letter case do that. Such facts are answered together.
        """
        groups = (list(self.facts(key)) for key in self.tree)
        return [group for group in groups if len(group) > 1]

    def shared_keys(self) -> int:
        """How many keys lead to more than one fact: the number of `collisions`, by fewer steps."""
        several, found = np.flatnonzero(self.tree.value_counts() > 1), 0
        for start in range(0, len(several), _KEYS):
            columns = self.tree.value_columns(several[start : start + _KEYS])
            assert columns is not None
            counts, flat, sizes = columns
            text, ends = flat.tobytes(), np.cumsum(sizes).tolist()
            # Objects are stripped, so the last such quotes are those before the object.
            facts = [
                text[begin:end].rpartition(b'", "')[0]
                for begin, end in zip([0, *ends], ends, strict=False)
            ]
            bounds = np.cumsum(counts).tolist()
            pairs = zip([0, *bounds], bounds, strict=False)
            found += sum(len(set(facts[first:last])) > 1 for first, last in pairs)
        return found

    def save(self, path: str | Path) -> None:
        """Write one file, complete or not at all."""
        self.tree.save(path)

    @classmethod
    def load(cls, path: str | Path, tokenizer: Any) -> KnowledgeBase:
        """Map a saved knowledge base into memory.

        Args:
            path: the file, or the folder that `bert4kexue kgqa build` wrote.
            tokenizer: the one it was built with.

        Raises:
            ValueError: the file is damaged or was built with another vocabulary.
        """
        path = Path(path)
        order: Order = "spm"
        if path.is_dir():
            if not (path / MANIFEST).is_file():
                raise FileNotFoundError(
                    f"{path} holds no {MANIFEST}: give the folder that `bert4kexue kgqa build` "
                    "wrote"
                )
            path, order = path / TREE, read_manifest(path / MANIFEST)["order"]
        return cls(PrefixTree.load(path, vocabulary=vocabulary_hash(tokenizer._token_dict)), order)

    def facts_of(self, number: int) -> dict[tuple[str, str, str], tuple[str, ...]]:
        """The same of key `number` of the tree, 0 to ``len(self) - 1``."""
        return _facts(self.tree.values_of(number))


def read_manifest(path: str | Path) -> dict[str, Any]:
    """What a folder's JSON file says of it; the order of a key's parts is S, P, M if not said.

    Raises:
        ValueError: no JSON object, or an order that is none.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): write the folder again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object: write the folder again")
    found.setdefault("order", "spm")
    if found["order"] not in list(_PLACES):
        raise ValueError(
            f"{path} has the order {found['order']!r}, not one of {', '.join(_PLACES)}: write the "
            "folder again"
        )
    return found


def _facts(texts: Iterable[str]) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """A key's values, each `[S, P, M, O]` in JSON, by fact."""
    facts: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for text in texts:
        subject, predicate, meaning, value = json.loads(text)
        fact = (subject, predicate, meaning)
        facts[fact] = (*facts.get(fact, ()), value)
    return facts


def fact_key(tokenizer: Any, fact: tuple[str, str, str], order: Order = "spm") -> list[int]:
    """`S [SEP] P [SEP] M [SEP]`: each part without its [CLS]."""
    return [token for part in ordered(fact, order) for token in tokenizer.encode(part)[0][1:]]


def ordered(fact: Sequence[str], order: Order) -> list[str]:
    """Subject, predicate and meaning in the order of a key.

    Raises:
        ValueError: an order that is none.
    """
    if order not in _PLACES:
        raise ValueError(f"order is one of {', '.join(_PLACES)}, got {order!r}")
    return [fact[place] for place in _PLACES[order]]
