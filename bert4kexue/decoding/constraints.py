"""What may come next: rules that decoding asks before it chooses a token.

A rule keeps one state per hypothesis. The decoder takes `start()` for the first, asks `allowed`
before every token and `advance`s along the token that was chosen; it never looks into a state.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from bert4kexue.decoding.trie import ABSENT, PrefixTree


class Constraint(Protocol):
    """Which tokens may continue a hypothesis. States are never changed in place."""

    def start(self) -> Any:
        """The state of the empty output (before its first generated token)."""

    def allowed(self, state: Any) -> np.ndarray:
        """The token ids that may come next, ascending; empty where the output cannot go on."""

    def advance(self, state: Any, token: int) -> Any:
        """The state after `token`, which must be one of the allowed."""


class TreeConstraint:
    """Only keys of a prefix tree. The state is the tree's node."""

    def __init__(self, tree: PrefixTree) -> None:
        self.tree = tree

    def start(self) -> int:
        """The root."""
        return self.tree.root

    def allowed(self, state: int) -> np.ndarray:
        """The tokens on the edges of the node."""
        return self.tree.allowed(state)

    def advance(self, state: int, token: int) -> int:
        """The node behind the edge.

        Raises:
            ValueError: no key goes on with `token` here.
        """
        node = self.tree.step(state, token)
        if node == ABSENT:
            raise ValueError(
                f"token {token} is not allowed after node {state} of the tree: advance only along "
                "tokens that `allowed` gave"
            )
        return node
