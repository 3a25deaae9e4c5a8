"""What a compiled decoding loop asks before it chooses a token: the protocol of its constraints.

A constraint keeps one state per hypothesis: a tree of tensors whose first axis is rows = batch *
beams, so that a loop can carry it and gather it along with its beams. Whatever does not change
from row to row (a tree's arrays, an automaton's table) is no state: it is held in the constraint's
`variables`, since a compiler that takes megabytes for constants spends seconds and gigabytes.

The rules themselves are in `tree_constraint`, `token_constraints`, `substring_constraint` and
`automaton_constraint`, their composition in `constraint_composition`. `bert4kexue.decoding` has the
same on NumPy arrays, with the same three verbs.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class GraphConstraint(Protocol):
    """Which tokens may continue each row, in functions that a graph can hold.

    Optional, asked for with `getattr(constraint, name, None)`:

    * `variables`: a list of keras Variables that the three verbs read.
    * `candidates(state) -> (token_ids (rows, c) int32, valid (rows, c) bool)` with a static c: the
      allowed tokens as a list; None where a list of that length could not hold them. It says the
      same as `allowed`.
    * `rescore(state, log_probs (rows, v)) -> log_probs`: changes scores before `allowed` removes
      tokens and the rest is renormalised; it is given log-probabilities over all v tokens.
    * `complete(state) -> (rows,) bool`: whether the output so far may be the whole of what the
      constraint describes. Sequences of constraints ask it.
    """

    def initial_state(self, rows: Any) -> Any:
        """The states of `rows` (an int or a scalar tensor) empty outputs.

        A constraint that was given something for each sample of a batch (passages, questions)
        repeats it for the beams: row r belongs to sample r // (rows // batch).
        """

    def allowed(self, state: Any) -> Any:
        """Which tokens may come next, (rows, v) bool; no token where an output cannot go on."""

    def advance(self, state: Any, tokens: Any) -> Any:
        """The states after `tokens`, (rows,) int32.

        A token that was not allowed (a row that has ended is given any) leads to a state that
        allows nothing or anything, never to an error.
        """
