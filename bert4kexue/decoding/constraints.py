"""What may come next: rules that decoding asks before it chooses a token, one call for a beam.

A rule keeps one state per hypothesis, all of them together as arrays with a first axis of rows. The
decoder takes `initial_state(rows)`, asks `allowed` before every token and `advance`s along the
tokens that were chosen; it re-indexes states with `take`, and never looks into them.
`bert4kexue.ops.constraints` has the same three verbs for what is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from bert4kexue.decoding.trie import ABSENT, PrefixTree


class Choices(NamedTuple):
    """What `allowed` and `rescore` say, ragged: the tokens of the first row, then of the next."""

    counts: np.ndarray
    """(rows,) tokens of each row."""
    tokens: np.ndarray
    """(tokens,) int32, ascending within a row."""
    divisors: np.ndarray
    """(tokens,) what `rescore` divides their log-probabilities by."""


@runtime_checkable
class Constraint(Protocol):
    """Which tokens may continue each hypothesis. States are never changed in place.

    Optional: `complete(state) -> (rows,) bool`, whether the output so far may be the whole of what
    the rule describes (`Chain` asks it), and `rescore(state, log_probs (rows, v)) -> log_probs`,
    which changes scores before `allowed` removes tokens and the rest is renormalised. Where few
    tokens are allowed, `choices(state) -> Choices | None` says what both say, without their many
    columns.
    """

    def initial_state(self, rows: int) -> Any:
        """The states of `rows` empty outputs: nested tuples of arrays with a first axis of rows."""

    def allowed(self, state: Any) -> np.ndarray:
        """Which tokens may come next, (rows, v) bool; tokens beyond the last column may not.

        A row of False is an output that cannot go on.
        """

    def advance(self, state: Any, tokens: np.ndarray) -> Any:
        """The states after `tokens`, (rows,); one that was not allowed leads to a dead end."""


class TreeConstraint:
    """Only keys of a prefix tree. The states are the tree's nodes, (rows,).

    Args:
        tree: keys end with the decoder's end id.
        vocab_size: the columns of `allowed`; as many as the rows at hand need when None.
        vocabulary: the `vocabulary_hash` of the tokenizer in use; a tree of another is refused.

    Raises:
        ValueError: the tree holds no key, or was built with another vocabulary.
    """

    def __init__(
        self, tree: PrefixTree, vocab_size: int | None = None, *, vocabulary: str | None = None
    ) -> None:
        check_tree(tree, vocabulary)
        self.tree = tree
        self.vocab_size = vocab_size

    def initial_state(self, rows: int) -> np.ndarray:
        """The root for each row."""
        return np.full(rows, self.tree.root, np.int64)

    def allowed(self, state: np.ndarray) -> np.ndarray:
        """The tokens on the edges of the nodes.

        Raises:
            ValueError: a token of the tree is beyond `vocab_size`.
        """
        children = [
            self.tree.allowed(node) if node != ABSENT else np.zeros(0, np.int32)
            for node in state.tolist()
        ]
        largest = max((int(tokens[-1]) for tokens in children if len(tokens)), default=-1)
        width = largest + 1 if self.vocab_size is None else self.vocab_size
        check_width(largest, width)
        mask = np.zeros((len(state), width), bool)
        for row, tokens in zip(mask, children, strict=True):
            row[tokens] = True
        return mask

    def choices(self, state: np.ndarray) -> Choices | None:
        """The tokens on the edges of the nodes as lists; None if the tree has no `children`.

        Raises:
            ValueError: a token of the tree is beyond `vocab_size`.
        """
        if not hasattr(self.tree, "children"):
            return None
        counts, tokens, _ = self.tree.children(state)
        if self.vocab_size is not None:
            check_width(int(tokens.max(initial=-1)), self.vocab_size)
        return Choices(counts, tokens, np.ones(len(tokens), np.int64))

    def advance(self, state: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The nodes behind the edges; -1 where no key goes on so."""
        pairs = zip(state.tolist(), np.asarray(tokens).tolist(), strict=True)
        nodes = [self.tree.step(node, token) if node != ABSENT else ABSENT for node, token in pairs]
        return np.array(nodes, np.int64)

    def complete(self, state: np.ndarray) -> np.ndarray:
        """Where a key ends."""
        keys = [node != ABSENT and self.tree.is_key(node) for node in state.tolist()]
        return np.array(keys, bool)


def as_constraint(rule: Constraint | PrefixTree | None) -> Constraint | None:
    """A prefix tree as the constraint to its keys; a constraint or None as it is.

    Raises:
        ValueError: something else, or an empty tree.
    """
    if rule is None:
        return None
    if isinstance(rule, Constraint):
        return rule
    if all(hasattr(rule, verb) for verb in ("root", "step", "allowed", "is_key")):
        return TreeConstraint(rule)
    raise ValueError(
        f"a constraint is a PrefixTree or has initial_state, allowed and advance, got {rule!r}"
    )


def check_tree(tree: PrefixTree, vocabulary: str | None) -> None:
    """Refuse a tree without keys, or of another vocabulary."""
    if not len(tree):
        raise ValueError("the prefix tree holds no key, so no token is allowed: add keys to it")
    if vocabulary is not None and tree.vocabulary not in ("", vocabulary):
        raise ValueError(
            f"the tree was built with another vocabulary ({tree.vocabulary[:12]}..., not "
            f"{vocabulary[:12]}...): build it again with this tokenizer"
        )


def check_width(largest: int, vocab_size: int) -> None:
    """Refuse tokens that the model does not score."""
    if largest >= vocab_size:
        raise ValueError(
            f"the constraint allows token {largest}, the model scores {vocab_size} tokens: build "
            "the constraint with the model's own vocabulary"
        )


def take(state: Any, rows: np.ndarray) -> Any:
    """States re-indexed along their first axis."""
    if isinstance(state, tuple):
        return tuple(take(part, rows) for part in state)
    return state[rows]


def accepts(constraint: Constraint, ids: Sequence[int]) -> bool:
    """Whether each token of an output was allowed where it stands."""
    state = constraint.initial_state(1)
    for token in ids:
        mask = constraint.allowed(state)[0]
        if not 0 <= token < len(mask) or not mask[token]:
            return False
        state = constraint.advance(state, np.array([token]))
    return True


def repeat_rows(values: np.ndarray, rows: int, what: str) -> np.ndarray:
    """One row per sample -> one per hypothesis: row r belongs to sample r // (rows // samples).

    Raises:
        ValueError: `rows` is not a multiple of the samples.
    """
    samples = len(values)
    if samples == 0 or rows % samples:
        raise ValueError(
            f"{rows} rows are no multiple of {samples} {what}: give one for all samples, or one "
            "for each"
        )
    return np.repeat(values, rows // samples, axis=0)
