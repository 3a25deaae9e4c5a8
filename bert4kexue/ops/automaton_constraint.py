"""An automaton over tokens inside the graph: texts that match a regular expression.

The NumPy one, which makes the automaton, is `bert4kexue.decoding.automaton.RegexConstraint`.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from bert4kexue.decoding.automaton import RegexConstraint
from bert4kexue.decoding.regular import DEAD, START
from bert4kexue.ops.constraint_masks import constant, with_column


class GraphAutomaton:
    """Only texts that match a regular expression. Implements `GraphConstraint`.

    The states are the automaton's, (rows,) int32; its table (states, v) is held as a variable.
    """

    def __init__(self, rule: RegexConstraint) -> None:
        self.vocab_size, self.end_id = rule.vocab_size, rule.end_id
        self.table = constant(rule.automaton.table, "automaton_table")
        self.accepting = constant(rule.automaton.accepting, "automaton_accepting")
        self.variables = [self.table, self.accepting]

    def initial_state(self, rows: Any) -> Any:
        """The first state for each row."""
        return ops.full((rows,), START, dtype="int32")

    def allowed(self, state: Any) -> Any:
        """The tokens after which the text can still be completed, and the end where it matches."""
        mask = ops.take(self.table, state, axis=0) != DEAD
        return mask if self.end_id is None else with_column(mask, self.end_id, self.complete(state))

    def advance(self, state: Any, tokens: Any) -> Any:
        """The next states."""
        rows = ops.take(self.table, state, axis=0)
        tokens = ops.clip(ops.cast(tokens, "int32"), 0, self.vocab_size - 1)
        return ops.take_along_axis(rows, tokens[:, None], axis=1)[:, 0]

    def complete(self, state: Any) -> Any:
        """Where the text matches."""
        return ops.take(self.accepting, state) > 0
