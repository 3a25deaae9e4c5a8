"""The beam search for keys that `knowledge_qa` answers with: around the compiled step, or inside of
the compiled loop. Both find the same keys with the same scores.

Axis letters: b questions, n tokens of a question, k subjects, l tokens of a subject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert4kexue.decoding import (
    Constraint,
    Intersection,
    LookAhead,
    PrefixChoice,
    PrefixTree,
    TreeConstraint,
)
from bert4kexue.decoding.lookahead import PADDING
from bert4kexue.methods.knowledge_base import PARTS
from bert4kexue.methods.knowledge_subjects import subject_rows
from bert4kexue.models.compilation import compiled, shapes_are_static
from bert4kexue.models.generation import Generator
from bert4kexue.models.prompts import bucketed, prompts


class FoundKey(NamedTuple):
    """A key, or the beginning of one that has more tokens than were asked for."""

    ids: list[int]
    score: float
    ended: bool


class KeySearch:
    """Finds the best keys for questions, led by a tree that stays where it is, its memory map say.

    The tree says step by step what may come next; only that is scored, and questions leave the
    batch as they are answered.

    Args:
        generator: of the model.
        tree: of the keys.
        end: the token that ends each of a key's parts.
        lookahead: weigh the next tokens by what keys that go on with them repeat of the question.
        maxlen: the most tokens of a question.
    """

    def __init__(
        self, generator: Generator, tree: PrefixTree, end: int, lookahead: bool, maxlen: int
    ) -> None:
        self.generator, self.tree, self.end = generator, tree, end
        self.lookahead, self.maxlen = lookahead, maxlen
        self.static = shapes_are_static(generator.jit_compile)
        self.vocab_size: int = generator.decoder.vocab_size

    def __call__(
        self,
        rows: list[list[int]],
        subjects: list[list[list[int]]] | None,
        topk: int,
        beams: int,
        steps: int,
    ) -> list[list[FoundKey]]:
        """The best keys of each question, best first.

        Args:
            rows: the tokens of the questions.
            subjects: of each, the tokens of those subjects that an answer may have, any where there
                are none; or None: any for all.
            topk: keys of each at most.
            beams: the width of the beam.
            steps: tokens of a key at most.
        """
        rule: Constraint = TreeConstraint(self.tree)
        if self.lookahead:
            tokens = self._questions(rows)[0][: len(rows)]
            rule = LookAhead(self.tree, np.where(tokens == 0, PADDING, tokens), self.end)
        if subjects is not None:
            rule = Intersection(rule, PrefixChoice(self._several(subjects), self.vocab_size))
        found = self.generator.generate(rows, constraint=rule, **self._options(topk, beams, steps))
        return [[FoundKey(h.ids.tolist(), h.score, h.finished) for h in each] for each in found]

    def _questions(self, rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Token and segment ids (b, n), padded to a bucket of shapes where these are fixed."""
        both = prompts(rows, None, self.generator.decoder, self.tree.depth)
        if self.static:
            both = tuple(bucketed(x, self.generator.multiple) for x in both)  # type: ignore[assignment]
        return both

    def _several(self, subjects: Sequence[list[list[int]]]) -> np.ndarray:  # (b, k, l)
        return subject_rows(subjects, 32 if self.static else 8)

    def _options(self, topk: int, beams: int, steps: int) -> dict[str, Any]:
        return {
            "min_ends": PARTS,
            "max_new_tokens": steps,
            # Scores only fall: a key that is cut off and stands below `topk` others stays there.
            "return_unfinished": steps < self.tree.depth,
            "num_beams": beams,
            "num_return_sequences": topk,
        }


class GraphKeySearch(KeySearch):
    """The same with the tree, 12 bytes a node, inside of the compiled loop; for the arguments see
    there."""

    def __init__(
        self, generator: Generator, tree: PrefixTree, end: int, lookahead: bool, maxlen: int
    ) -> None:
        from bert4kexue.ops.lookahead import GraphLookAhead
        from bert4kexue.ops.tree_constraint import GraphTree

        super().__init__(generator, tree, end, lookahead, maxlen)
        self._rule: Any = (
            GraphLookAhead(tree, [[0]], end, self.vocab_size)  # questions are set when they come
            if lookahead
            else GraphTree(tree, self.vocab_size)
        )
        self._compiled: dict[tuple[int, int, int], Callable[..., Any]] = {}

    def __call__(
        self,
        rows: list[list[int]],
        subjects: list[list[list[int]]] | None,
        topk: int,
        beams: int,
        steps: int,
    ) -> list[list[FoundKey]]:
        """See :meth:`KeySearch.__call__`.

        Raises:
            ValueError: NaN from the model.
        """
        tokens, segments = self._questions(rows)
        choices = []
        if subjects is not None:
            choices = [self._several([*subjects, *[[]] * (len(tokens) - len(rows))])]
        outputs = self._function(topk, beams, steps)(tokens, segments, *choices)
        found = {name: np.asarray(value)[: len(rows)] for name, value in outputs.items()}
        if found["invalid"].any():
            raise ValueError(
                "the model gave NaN for the next token: no answer can be chosen by it. Check its "
                "weights"
            )
        names = ("token_ids", "lengths", "scores", "finished")
        return [
            [
                FoundKey(ids[:length].tolist(), float(score), bool(ended))
                for ids, length, score, ended in zip(*each, strict=True)
                if score > -np.inf
            ]
            for each in zip(*(found[name] for name in names), strict=True)
        ]

    def _function(self, topk: int, beams: int, steps: int) -> Callable[..., Any]:
        """The search as a compiled function of (token_ids, segment_ids); one for each width."""
        if (topk, beams, steps) not in self._compiled:
            from keras import ops

            from bert4kexue.ops.constraint_composition import GraphIntersection
            from bert4kexue.ops.token_constraints import GraphPrefixChoice

            generator, options = self.generator, self._options(topk, beams, steps)

            def search(token_ids: Any, segment_ids: Any, *choices: Any) -> Any:
                rule = self._rule
                if self.lookahead:
                    questions = ops.where(token_ids == 0, PADDING, token_ids)
                    rule = rule.with_questions(questions, self.maxlen)
                if choices:
                    rule = GraphIntersection(rule, GraphPrefixChoice(choices[0], self.vocab_size))
                function = generator.generate_function(constraint=rule, **options)
                return function(token_ids, segment_ids)

            variables = generator.generate_function(constraint=self._rule, **options).variables  # type: ignore[attr-defined]
            function = compiled(search, variables, jit_compile=generator.jit_compile)

            def run(*arrays: np.ndarray) -> Any:
                outputs = function(*map(ops.convert_to_tensor, arrays))
                return {name: ops.convert_to_numpy(value) for name, value in outputs.items()}

            self._compiled[topk, beams, steps] = run
        return self._compiled[topk, beams, steps]
