"""Constraints out of constraints: all of them at once, or one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bert4kexue.decoding.constraints import Choices, Constraint


class Intersection:
    """What every part allows.

    Parts may agree on a beginning and on no way to end it; such a row runs into a dead end and
    leaves the beam.
    """

    def __init__(self, *parts: Constraint) -> None:
        if not parts:
            raise ValueError("an intersection needs at least one constraint")
        self.parts = parts

    def initial_state(self, rows: int) -> tuple:
        """The states of all parts."""
        return tuple(part.initial_state(rows) for part in self.parts)

    def allowed(self, state: tuple) -> np.ndarray:
        """Tokens that every part allows, (rows, v)."""
        masks = [part.allowed(own) for part, own in zip(self.parts, state, strict=True)]
        width = min(mask.shape[1] for mask in masks)
        return np.logical_and.reduce([mask[:, :width] for mask in masks])

    def advance(self, state: tuple, tokens: np.ndarray) -> tuple:
        """All parts go one token further."""
        return tuple(part.advance(own, tokens) for part, own in zip(self.parts, state, strict=True))

    def complete(self, state: tuple) -> np.ndarray:
        """Where every part may end."""
        pairs = zip(self.parts, state, strict=True)
        return np.logical_and.reduce([is_complete(part, own) for part, own in pairs])

    def choices(self, state: tuple) -> Choices | None:
        """The lists of the first part that has some, less what the others do not allow.

        None where there is no such part, or where another one changes scores.
        """
        pairs = list(zip(self.parts, state, strict=True))
        for index, (part, own) in enumerate(pairs):
            found = part.choices(own) if hasattr(part, "choices") else None
            others = pairs[:index] + pairs[index + 1 :]
            if found is None or any(hasattr(other, "rescore") for other, _ in others):
                continue
            rows, kept = np.repeat(np.arange(len(found.counts)), found.counts), found.tokens >= 0
            for other, its in others:
                mask = other.allowed(its)
                kept &= found.tokens < mask.shape[1]
                kept &= mask[rows, np.minimum(found.tokens, mask.shape[1] - 1)]
            counts = np.bincount(rows[kept], minlength=len(found.counts))
            return Choices(counts, found.tokens[kept], found.divisors[kept])
        return None

    def rescore(self, state: tuple, log_probs: np.ndarray) -> np.ndarray:
        """The scores after each part that changes them, in order."""
        for part, own in zip(self.parts, state, strict=True):
            rescore = getattr(part, "rescore", None)
            log_probs = log_probs if rescore is None else rescore(own, log_probs)
        return log_probs


class Chain:
    """One constraint after another, each but perhaps the last closed by a separator token.

    A part is left by its separator, which is allowed where the part is `complete` and nowhere else;
    a separator that the part itself allows is taken from it. So what is generated is read in one
    way only. A last part without a separator carries its own end, as the keys of a tree do.

        Chain([span, tree], [sep, None])      a span of a passage, [SEP], a key of the tree
        Chain([number], [end])                one of the texts of an expression, then the end

    Args:
        parts: constraints, the first generated first.
        separators: a token id for each part; the last may be None.
    """

    def __init__(self, parts: Sequence[Constraint], separators: Sequence[int | None]) -> None:
        check_chain(parts, separators)
        self.parts = tuple(parts)
        self.separators = tuple(separators)

    def initial_state(self, rows: int) -> tuple:
        """Which part each row is in, (rows,), and the states of the parts."""
        parts = tuple(part.initial_state(rows) for part in self.parts)
        return np.zeros(rows, np.int32), parts

    def allowed(self, state: tuple) -> np.ndarray:
        """What the part in charge allows, or its separator; nothing after the last one."""
        stage, parts = state
        masks = []
        for part, separator, own in zip(self.parts, self.separators, parts, strict=True):
            mask = part.allowed(own)
            if separator is not None:
                mask = np.pad(mask, ((0, 0), (0, max(0, separator + 1 - mask.shape[1]))))
                mask[:, separator] = is_complete(part, own)
            masks.append(mask)
        result = np.zeros((len(stage), max(mask.shape[1] for mask in masks)), bool)
        for index, mask in enumerate(masks):
            rows = stage == index
            result[rows, : mask.shape[1]] = mask[rows]
        return result

    def advance(self, state: tuple, tokens: np.ndarray) -> tuple:
        """The part in charge goes on; its separator hands over to the next."""
        stage, parts = state
        tokens = np.asarray(tokens)
        following, advanced = stage.copy(), []
        for index, (part, separator, own) in enumerate(
            zip(self.parts, self.separators, parts, strict=True)
        ):
            inside = stage == index
            if separator is not None:
                leaves = inside & (tokens == separator)
                # One that may not leave yet has nowhere to go: beyond the last part.
                following[leaves] = np.where(
                    is_complete(part, own)[leaves], index + 1, len(self.parts) + 1
                )
                inside = inside & ~leaves
            advanced.append(select(inside, part.advance(own, tokens), own))
        return following, tuple(advanced)

    def complete(self, state: tuple) -> np.ndarray:
        """Where the last part has been closed, or may end without a separator."""
        stage, parts = state
        if self.separators[-1] is not None:
            return stage == len(self.parts)
        return (stage == len(self.parts) - 1) & is_complete(self.parts[-1], parts[-1])

    def rescore(self, state: tuple, log_probs: np.ndarray) -> np.ndarray:
        """The scores as the part in charge changes them."""
        stage, parts = state
        for index, (part, own) in enumerate(zip(self.parts, parts, strict=True)):
            rescore = getattr(part, "rescore", None)
            if rescore is not None:
                log_probs = np.where((stage == index)[:, None], rescore(own, log_probs), log_probs)
        return log_probs


def check_chain(parts: Sequence[Any], separators: Sequence[int | None]) -> None:
    """Refuse a chain that cannot be read in one way."""
    if not parts or len(parts) != len(separators):
        raise ValueError(
            f"a chain needs one separator for each of its parts (None for a last part that ends by "
            f"itself), got {len(parts)} parts and {len(separators)} separators"
        )
    if None in separators[:-1]:
        raise ValueError(
            f"only the last part of a chain may have no separator, got {list(separators)}: name "
            "the token that closes each part"
        )


def is_complete(part: Any, state: Any) -> Any:
    """The part's `complete`.

    Raises:
        ValueError: it has none.
    """
    if not hasattr(part, "complete"):
        raise ValueError(f"{part!r} has no complete(state), so a chain cannot tell where it ends")
    return part.complete(state)


def select(rows: np.ndarray, new: Any, old: Any) -> Any:
    """States: `new` where `rows` (rows,) is True, else `old`."""
    if isinstance(new, tuple):
        return tuple(select(rows, *pair) for pair in zip(new, old, strict=True))
    return np.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)
