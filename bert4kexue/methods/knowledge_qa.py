"""Questions over a knowledge base by constrained generation (kexue.fm/archives/8802).

The model writes the key of a fact, `S [SEP] P [SEP] M [SEP]`, after the question, and a prefix tree
of all keys leaves it no other words: subject S, predicate P and meaning M (which of several things
called S is meant; often empty). The objects are the values of the key.

The last [SEP] belongs to the key: without it a key with an empty meaning would begin those that
have one, and could not be chosen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bert4kexue.decoding import AutoRegressiveDecoder, PrefixTree, TreeConstraint, vocabulary_hash

PARTS = 3
"""Subject, predicate and meaning: each ends with one [SEP]."""


class Answer(NamedTuple):
    """A fact of the knowledge base, and how likely the model finds it."""

    subject: str
    predicate: str
    meaning: str
    objects: tuple[str, ...]
    score: float
    """The log-probability of the fact's key among all keys."""


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
    """

    def __init__(self, tree: PrefixTree) -> None:
        self.tree = tree

    @classmethod
    def build(cls, triples: Iterable[tuple[str, str, str]], tokenizer: Any) -> KnowledgeBase:
        """The knowledge base of triples (`S（M）`, P, O).

        Several objects of one fact are kept in the order given.

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
            keys.append(_key(tokenizer, (subject, predicate, meaning)))
            values.append(json.dumps([subject, predicate, meaning, value], ensure_ascii=False))
        vocabulary = vocabulary_hash(tokenizer._token_dict)
        return cls(PrefixTree.from_keys(keys, values, vocabulary=vocabulary))

    def __len__(self) -> int:
        """The number of different keys."""
        return len(self.tree)

    def facts(self, key: Iterable[int]) -> dict[tuple[str, str, str], tuple[str, ...]]:
        """{(subject, predicate, meaning): objects} of the ids of a key; empty for no key."""
        node = self.tree.find(list(key))
        return {} if node < 0 else self._facts(node)

    def collisions(self) -> list[list[tuple[str, str, str]]]:
        """Facts that share a key, because the vocabulary does not tell them apart.

        [UNK] and letter case do that. Such facts are answered together.
        """
        groups = (list(self.facts(key)) for key in self.tree)
        return [group for group in groups if len(group) > 1]

    def save(self, path: str | Path) -> None:
        """Write one file, complete or not at all."""
        self.tree.save(path)

    @classmethod
    def load(cls, path: str | Path, tokenizer: Any) -> KnowledgeBase:
        """Map a saved knowledge base into memory.

        Raises:
            ValueError: the file is damaged or was built with another vocabulary.
        """
        return cls(PrefixTree.load(path, vocabulary=vocabulary_hash(tokenizer._token_dict)))

    def _facts(self, node: int) -> dict[tuple[str, str, str], tuple[str, ...]]:
        facts: dict[tuple[str, str, str], tuple[str, ...]] = {}
        for text in self.tree.values(node):
            subject, predicate, meaning, value = json.loads(text)
            fact = (subject, predicate, meaning)
            facts[fact] = (*facts.get(fact, ()), value)
        return facts


class KnowledgeQA(AutoRegressiveDecoder):
    """Answers questions from a knowledge base with a UniLM model.

    Args:
        model: from `build_transformer_model(..., application='unilm')`, alone or with a pooled
            output before the token scores.
        tokenizer: with the model's vocabulary, the one the knowledge base was built with.
        knowledge: the facts.
        scores: 'probas' when the model ends in a softmax (the default of unilm), 'logits' for
            `with_mlm='linear'`.
        maxlen: the most tokens of a question that are read.

    Raises:
        ValueError: the model gives no token scores, or the knowledge base is empty or of another
            vocabulary.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        knowledge: KnowledgeBase,
        scores: Literal["probas", "logits"] = "probas",
        maxlen: int = 128,
    ) -> None:
        if not len(knowledge):
            raise ValueError("the knowledge base holds no fact: build it from at least one triple")
        if knowledge.tree.vocabulary != vocabulary_hash(tokenizer._token_dict):
            raise ValueError(
                "the knowledge base was built with another vocabulary than the tokenizer's: build "
                "it again with this tokenizer"
            )
        super().__init__(
            start_id=None,
            end_id=tokenizer._token_end_id,
            maxlen=knowledge.tree.depth,
            constraint=TreeConstraint(knowledge.tree),
        )
        self.tokenizer, self.knowledge, self.question_maxlen = tokenizer, knowledge, maxlen
        self._model = self.last_token(_token_scores(model))
        self._read = self.wraps(scores)(type(self)._next_scores)

    def predict(self, *arguments: Any, **options: Any) -> Any:
        """The next token's scores after `[CLS] question [SEP] key so far`."""
        return self._read(self, *arguments, **options)

    def answer(self, question: str, topk: int = 5) -> list[Answer]:
        """The facts that a beam of `topk` finds, the most likely first; `topk` keys at most."""
        token_ids, _ = self.tokenizer.encode(question, maxlen=self.question_maxlen)
        found = self.beam_search([token_ids], topk, min_ends=PARTS, n_best=topk)
        return [
            Answer(*fact, objects, hypothesis.score)
            for hypothesis in found
            for fact, objects in self.knowledge.facts(hypothesis.ids).items()
        ]

    def _next_scores(
        self, inputs: list[np.ndarray], output_ids: np.ndarray, states: Any
    ) -> np.ndarray:
        token_ids = np.concatenate([inputs[0], output_ids], axis=1)
        segment_ids = np.concatenate([np.zeros_like(inputs[0]), np.ones_like(output_ids)], axis=1)
        return self._model.predict([token_ids, segment_ids])


def answer(
    model: Any, tokenizer: Any, knowledge: KnowledgeBase, question: str, topk: int = 5
) -> list[Answer]:
    """One question; for many make one `KnowledgeQA` and keep it."""
    return KnowledgeQA(model, tokenizer, knowledge).answer(question, topk)


def _key(tokenizer: Any, fact: tuple[str, str, str]) -> list[int]:
    """`S [SEP] P [SEP] M [SEP]`: each part without its [CLS]."""
    return [token for part in fact for token in tokenizer.encode(part)[0][1:]]


def _token_scores(model: Any) -> Any:
    """The part of the model that ends in token scores, (b, n, v)."""
    import keras

    output = model.outputs[-1]
    if len(output.shape) != 3 or len(model.inputs) != 2:
        raise ValueError(
            f"a model from token and segment ids to token scores (b, n, v) is needed, got "
            f"{len(model.inputs)} inputs and a last output of shape {tuple(output.shape)}: build "
            "it with application='unilm'"
        )
    return keras.Model(model.inputs, output)
