"""Questions over a knowledge base by constrained generation (kexue.fm/archives/8802).

The model writes the key of a fact, `S [SEP] P [SEP] M [SEP]`, after the question, and a prefix tree
of all keys leaves it no other words (`methods.knowledge_base`). The objects are the values of the
key. Many questions are searched together (`methods.knowledge_search`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from bert4kexue.decoding import vocabulary_hash
from bert4kexue.decoding.lookahead import lcs_lengths
from bert4kexue.methods.knowledge_base import KnowledgeBase, fact_key
from bert4kexue.methods.knowledge_scores import WrittenKeys, token_scores
from bert4kexue.methods.knowledge_subjects import SubjectIndex, named_subjects

SHORT = 24
"""Tokens of a key that are searched for first: the cache of a search is as long as its keys may be,
and few keys are longer. Questions whose beam holds a longer one are searched again."""

Subjects = Literal["all", "named", "similar"]
"""Which subjects an answer may have: all; or those that stand in the question; or those that nearly
stand in it as well. Where there is none, all."""


class Answer(NamedTuple):
    """A fact of the knowledge base, and how likely the model finds it."""

    subject: str
    predicate: str
    meaning: str
    objects: tuple[str, ...]
    score: float
    """The log-probability of the fact's key among all keys; of the re-weighted ones if the
    look-ahead is on."""
    key: tuple[int, ...] = ()
    """The token ids that were written: another name of the subject may stand in them. Empty for
    the subject as it is."""

    @property
    def name(self) -> str:
        """Subject and meaning as they stand in triples: `S（M）`."""
        return f"{self.subject}（{self.meaning}）" if self.meaning else self.subject


class Candidate(NamedTuple):
    """Why a fact was, or was not, the answer."""

    answer: Answer
    model_score: float
    """The log-probability of its key among all keys by the model alone, without look-ahead."""
    gain: int
    """How many tokens the key shares with the question beyond those of its subject (the longest
    common subsequences of token ids)."""


class KnowledgeQA:
    """Answers questions from a knowledge base with a UniLM model.

    Args:
        model: from `build_transformer_model(..., application='unilm')`, with token probabilities
            or logits, alone or beside a pooled output.
        tokenizer: with the model's vocabulary, the one the knowledge base was built with.
        knowledge: the facts.
        lookahead: weigh the next tokens by what the keys that go on with them repeat of the
            question.
        subjects: 'named' restricts answers to the subjects that stand in the question, token by
            token; a question in which none stands is free. 'similar' allows those as well that
            stand in it but for a typo (`SubjectIndex`, which needs rapidfuzz).
        maxlen: the most tokens of a question that are read; longer ones lose their end.
        batch_size: questions that are searched together.
        jit_compile: XLA on TensorFlow, which compiles for each bucket of lengths.
        multiple: where shapes are fixed (XLA, JAX), questions are padded to a multiple of it.
        in_graph: hold the tree inside of the compiled loop, 12 bytes a node. Else it stays in its
            file's memory map and drives the compiled step: questions leave the batch as they are
            answered, and only what the tree allows is scored. On two cores, with look-ahead, the
            loop took 0.6 times as long for batches of 32 made-up questions, twice as long for 32
            of KgCLUE's, two thirds for single ones; it compiles for longer.

    Raises:
        ValueError: the model gives no token scores or is no unilm, or the knowledge base is empty
            or of another vocabulary.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        knowledge: KnowledgeBase,
        *,
        lookahead: bool = False,
        subjects: Subjects = "all",
        maxlen: int = 128,
        batch_size: int = 32,
        jit_compile: bool = False,
        multiple: int = 16,
        in_graph: bool = False,
    ) -> None:
        from bert4kexue.methods.knowledge_search import GraphKeySearch, KeySearch
        from bert4kexue.models.generation import Generator

        tree = knowledge.tree
        if not len(knowledge):
            raise ValueError("the knowledge base holds no fact: build it from at least one triple")
        if tree.vocabulary != vocabulary_hash(tokenizer._token_dict):
            raise ValueError(
                "the knowledge base was built with another vocabulary than the tokenizer's: build "
                "it again with this tokenizer"
            )
        if maxlen < 3 or batch_size < 1:
            raise ValueError(
                f"maxlen={maxlen} must be 3 or more, batch_size={batch_size} 1 or more"
            )
        if subjects not in get_args(Subjects):
            raise ValueError(f"subjects={subjects!r}: choose one of {list(get_args(Subjects))}")
        end = tokenizer._token_end_id
        self._generator = Generator(
            token_scores(model), end_token_id=end, jit_compile=jit_compile, multiple=multiple
        )
        if self._generator.decoder.causal:
            raise ValueError("the question has to be read from both sides: application='unilm'")
        limit = self._generator.decoder.limit
        if limit is not None and maxlen + tree.depth - 1 > limit:
            raise ValueError(
                f"questions of {maxlen} tokens and keys of {tree.depth} need "
                f"{maxlen + tree.depth - 1} positions, and the model has {limit}: lower maxlen"
            )
        self.tokenizer, self.knowledge, self.lookahead = tokenizer, knowledge, lookahead
        self.subjects, self.maxlen, self.batch_size = subjects, maxlen, batch_size
        self._index = SubjectIndex(tree, end) if subjects == "similar" else None
        search = GraphKeySearch if in_graph else KeySearch
        self._find = search(self._generator, tree, end, lookahead, maxlen)
        self._written = WrittenKeys(self._generator.decoder)

    def answer(self, question: str, topk: int = 5, num_beams: int | None = None) -> list[Answer]:
        """The facts that a beam finds for one question, the most likely first.

        Args:
            question: any text.
            topk: keys at most; facts that share a key are answered together, and a fact that has
                several keys, since its subject has other names, by the best of them alone.
            num_beams: the width of the beam; `topk` when None.
        """
        return self.answer_batch([question], topk, num_beams)[0]

    def answer_batch(
        self,
        questions: Sequence[str],
        topk: int = 5,
        num_beams: int | None = None,
        watch: Callable[[Iterable[Any], int], Iterable[Any]] = lambda batches, count: batches,
    ) -> list[list[Answer]]:
        """`answer` of many questions, in their order.

        Questions of similar length share a batch; what stands beside a question changes nothing.

        Args:
            questions: texts.
            topk: keys of each at most.
            num_beams: the width of the beam; `topk` when None.
            watch: wraps the batches of indices as they come, given the number of questions. For a
                progress bar.

        Raises:
            ValueError: `topk` or `num_beams` below 1, or NaN from the model.
        """
        beams = num_beams or topk
        if topk < 1 or beams < topk:
            raise ValueError(
                f"topk={topk} must be 1 or more, and num_beams={num_beams} no less than it"
            )
        rows = [self._encode(question) for question in questions]
        order = np.argsort([len(row) for row in rows], kind="stable").tolist()
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        found: list[Any] = [None] * len(rows)
        longest = self.knowledge.tree.depth
        again: list[int] = []
        for batch in watch(batches, len(rows)):
            several = [rows[i] for i in batch]
            for i, keys in zip(
                batch, self._search(several, topk, beams, min(SHORT, longest)), strict=True
            ):
                found[i] = keys
                if keys is None:
                    again.append(i)
        for start in range(0, len(again), self.batch_size):
            batch = again[start : start + self.batch_size]
            several = [rows[i] for i in batch]
            for i, keys in zip(batch, self._search(several, topk, beams, longest), strict=True):
                found[i] = keys
        return [
            self._answers(keys, question) for question, keys in zip(questions, found, strict=True)
        ]

    def fit(self, questions: Sequence[str], answers: Sequence[Answer]) -> np.ndarray:
        """How well each answer fits its question, (questions,): low where no fact does.

        The log-probability that the model, free to write anything, writes the subject, by the name
        that the answer was found by, and the predicate (and the meaning, where that is written
        before). The score of an answer compares it with the other facts of the base, and is high
        for the best of a bad lot as well.

        Args:
            questions: texts.
            answers: one for each.
        """
        rows = [self._encode(question) for question in questions]
        keys = [self._said(answer) for answer in answers]
        found = np.zeros(len(rows))
        order = np.argsort([len(r) + len(k) for r, k in zip(rows, keys, strict=True)]).tolist()
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            several = [keys[i] for i in batch]
            logs = self._written.log_probabilities([rows[i] for i in batch], several)
            for i, key, log in zip(batch, several, logs, strict=True):
                found[i] = sum(log[place, token] for place, token in enumerate(key))
        return found

    def explain(
        self, question: str, topk: int = 5, num_beams: int | None = None
    ) -> list[Candidate]:
        """The answers to one question, with what the model alone and the question's words say.

        Args:
            question: any text.
            topk: keys at most.
            num_beams: the width of the beam; `topk` when None.
        """
        row = self._encode(question)
        keys = self._search([row], topk, num_beams or topk, self.knowledge.tree.depth)[0] or []
        answers = self._answers(keys, question)
        several = [list(answer.key) for answer in answers]
        scores = self._written.scores_in_tree(self.knowledge.tree, row, several)
        candidates = []
        for answer, ids, alone in zip(answers, several, scores, strict=True):
            subject = ids[: ids.index(self.tokenizer._token_end_id) + 1]
            whole, part = lcs_lengths([ids, subject], row).tolist()
            candidates.append(Candidate(answer, alone, whole - part))
        return candidates

    # --- the search ------------------------------------------------------------------------------

    def _encode(self, question: str) -> list[int]:
        return list(self.tokenizer.encode(question, maxlen=self.maxlen)[0])

    def _search(
        self, rows: list[list[int]], topk: int, beams: int, steps: int
    ) -> list[list[tuple[list[int], float]] | None]:
        """The best keys of each row and their scores; None where one is longer than `steps`."""
        subjects = None if self.subjects == "all" else self._named(rows)
        return [
            [(ids, score) for ids, score, _ in keys] if all(key.ended for key in keys) else None
            for keys in self._find(rows, subjects, topk, beams, steps)
        ]

    def _named(self, rows: list[list[int]]) -> list[list[list[int]]]:
        """The subjects that each question may be answered about."""
        tree, end = self.knowledge.tree, self.tokenizer._token_end_id
        found = [named_subjects(tree, row[1:-1], end) for row in rows]
        if self._index is not None:
            for row, named in zip(rows, found, strict=True):
                named += self._index.similar(row[1:-1])
        return found

    def _said(self, answer: Answer) -> list[int]:
        """The key of an answer up to its predicate."""
        order, end = self.knowledge.order, self.tokenizer._token_end_id
        key = list(answer.key) or fact_key(self.tokenizer, answer[:3], order)
        if order == "spm":
            return key[: key.index(end, key.index(end) + 1) + 1]
        return key

    def _answers(self, keys: list[tuple[list[int], float]], question: str) -> list[Answer]:
        """The facts of keys, best first, each once."""
        found: dict[tuple[str, str, str], Answer] = {}
        for ids, score in keys:
            for fact, objects in self._facts(ids, question):
                found.setdefault(fact, Answer(*fact, objects, score, tuple(ids)))
        return list(found.values())

    def _facts(
        self, key: list[int], question: str
    ) -> list[tuple[tuple[str, str, str], tuple[str, ...]]]:
        """The facts of a key; of several that [UNK] makes alike, first those the question names."""
        facts = list(self.knowledge.facts(key).items())
        if len(facts) > 1:
            text = question.lower()
            facts.sort(key=lambda fact: fact[0][0].lower() not in text)
        return facts


def answer(
    model: Any, tokenizer: Any, knowledge: KnowledgeBase, question: str, topk: int = 5
) -> list[Answer]:
    """One question; for many make one `KnowledgeQA` and keep it."""
    return KnowledgeQA(model, tokenizer, knowledge).answer(question, topk)
