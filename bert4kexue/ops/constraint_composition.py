"""Constraints out of constraints inside the graph: all at once, or one after the other.

The NumPy ones with the same meaning are in `bert4kexue.decoding.composition`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from keras import ops

from bert4kexue.decoding.composition import check_chain, is_complete
from bert4kexue.ops.constraint_masks import select, with_column
from bert4kexue.ops.constraints import GraphConstraint


class GraphIntersection:
    """What every part allows. Implements `GraphConstraint`."""

    def __init__(self, *parts: GraphConstraint) -> None:
        if not parts:
            raise ValueError("an intersection needs at least one constraint")
        self.parts = parts
        self.variables = _variables(parts)

    def initial_state(self, rows: Any) -> tuple:
        """The states of all parts."""
        return tuple(part.initial_state(rows) for part in self.parts)

    def allowed(self, state: tuple) -> Any:
        """Tokens that every part allows, (rows, v)."""
        pairs = zip(self.parts, state, strict=True)
        return reduce(ops.logical_and, [part.allowed(own) for part, own in pairs])

    def candidates(self, state: tuple) -> tuple[Any, Any] | None:
        """The list of the first part that has one, with what the others do not allow marked."""
        for index, part in enumerate(self.parts):
            lists = candidates_of(part, state[index])
            if lists is None:
                continue
            tokens, valid = lists
            for other, own in zip(self.parts, state, strict=True):
                if other is not part:
                    fits = ops.take_along_axis(other.allowed(own), tokens, axis=1)
                    valid = ops.logical_and(valid, fits)
            return tokens, valid
        return None

    def advance(self, state: tuple, tokens: Any) -> tuple:
        """All parts go one token further."""
        pairs = zip(self.parts, state, strict=True)
        return tuple(part.advance(own, tokens) for part, own in pairs)

    def complete(self, state: tuple) -> Any:
        """Where every part may end."""
        pairs = zip(self.parts, state, strict=True)
        return reduce(ops.logical_and, [is_complete(part, own) for part, own in pairs])

    def rescore(self, state: tuple, log_probs: Any) -> Any:
        """The scores after each part that changes them, in order."""
        for part, own in zip(self.parts, state, strict=True):
            rescore = getattr(part, "rescore", None)
            log_probs = log_probs if rescore is None else rescore(own, log_probs)
        return log_probs


class GraphChain:
    """One constraint after another, closed by separators. Implements `GraphConstraint`.

    Args:
        parts: constraints, the first generated first; all but a last one without a separator need
            `complete`.
        separators: a token id for each part; the last may be None.
    """

    def __init__(self, parts: Sequence[GraphConstraint], separators: Sequence[int | None]) -> None:
        check_chain(parts, separators)
        self.parts, self.separators = tuple(parts), tuple(separators)
        self.variables = _variables(parts)

    def initial_state(self, rows: Any) -> tuple:
        """Which part each row is in, (rows,), and the states of the parts."""
        parts = tuple(part.initial_state(rows) for part in self.parts)
        return ops.zeros((rows,), dtype="int32"), parts

    def allowed(self, state: tuple) -> Any:
        """What the part in charge allows, or its separator; nothing after the last one."""
        stage, parts = state
        result = None
        for index, (part, separator, own) in enumerate(
            zip(self.parts, self.separators, parts, strict=True)
        ):
            mask = part.allowed(own)
            if separator is not None:
                mask = with_column(mask, separator, is_complete(part, own))
            mask = ops.logical_and(mask, (stage == index)[:, None])
            result = mask if result is None else ops.logical_or(result, mask)
        return result

    def advance(self, state: tuple, tokens: Any) -> tuple:
        """The part in charge goes on; its separator hands over to the next."""
        stage, parts = state
        following, advanced = stage, []
        for index, (part, separator, own) in enumerate(
            zip(self.parts, self.separators, parts, strict=True)
        ):
            inside = stage == index
            if separator is not None:
                leaves = ops.logical_and(inside, tokens == separator)
                # One that may not leave yet has nowhere to go: beyond the last part.
                target = ops.where(is_complete(part, own), index + 1, len(self.parts) + 1)
                following = ops.where(leaves, target, following)
                inside = ops.logical_and(inside, ops.logical_not(leaves))
            advanced.append(select(inside, part.advance(own, tokens), own))
        return ops.cast(following, "int32"), tuple(advanced)

    def complete(self, state: tuple) -> Any:
        """Where the last part has been closed, or may end without a separator."""
        stage, parts = state
        if self.separators[-1] is not None:
            return stage == len(self.parts)
        inside = stage == len(self.parts) - 1
        return ops.logical_and(inside, is_complete(self.parts[-1], parts[-1]))

    def rescore(self, state: tuple, log_probs: Any) -> Any:
        """The scores as the part in charge changes them."""
        stage, parts = state
        for index, (part, own) in enumerate(zip(self.parts, parts, strict=True)):
            rescore = getattr(part, "rescore", None)
            if rescore is not None:
                changed = rescore(own, log_probs)
                log_probs = ops.where((stage == index)[:, None], changed, log_probs)
        return log_probs


def candidates_of(constraint: GraphConstraint, state: Any) -> tuple[Any, Any] | None:
    """The constraint's `candidates`, None where it has no such function."""
    function = getattr(constraint, "candidates", None)
    return None if function is None else function(state)


def _variables(parts: Sequence[GraphConstraint]) -> list[Any]:
    return [variable for part in parts for variable in getattr(part, "variables", [])]
