"""The order of batches: buckets of one length or packed rows, each batch found by its number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert4kexue.training.data import bucketed_batches
from bert4kexue.training.objectives import Batch, Objective


class Plan:
    """Batches of an objective, epoch after epoch, each found by its number alone.

    Args:
        objective: rows.
        tokens: of a batch, padding included.
        longest: of a row; longer rows are cut.
        seed: of the order.
        multiple: widths are multiples of it, so that the shapes are few.

    Raises:
        ValueError: no rows, or a number below 1.
    """

    def __init__(
        self,
        objective: Objective,
        tokens: int,
        longest: int,
        seed: Sequence[int],
        multiple: int = 16,
    ) -> None:
        if min(tokens, longest, multiple) < 1:
            raise ValueError(
                f"tokens={tokens}, longest={longest} and multiple={multiple} must be 1 or more"
            )
        self.objective, self.tokens = objective, tokens
        self.multiple, self.seed = multiple, list(seed)
        widths = -(-np.minimum(objective.lengths(), longest) // multiple) * multiple
        if not len(widths):
            raise ValueError(f"{type(objective).__name__} has no rows")
        self.packed = getattr(objective, "packed", False)
        self._widths = widths
        self._lengths = np.minimum(objective.lengths(), longest)
        self._longest = int(-(-longest // multiple) * multiple)
        self._epoch: tuple[int, list[tuple[np.ndarray, tuple[int, int]]]] = (-1, [])
        self.steps_per_epoch = len(self._batches(0))

    def batch(self, number: int, rng: np.random.Generator) -> Batch:
        """Batch `number` of all epochs, counted from 0, its random choices drawn from `rng`."""
        epoch, at = divmod(number, self.steps_per_epoch)
        rows, shape = self._batches(epoch)[at]
        return self.objective.batch(rows, shape, rng)

    def _batches(self, epoch: int) -> list[tuple[np.ndarray, tuple[int, int]]]:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng([*self.seed, epoch])
            made = self._packed(rng) if self.packed else self._bucketed(rng)
            # Every epoch has as many batches as the first: packing may differ by one or two.
            count = getattr(self, "steps_per_epoch", len(made))
            made = [made[i % len(made)] for i in range(count)]
            self._epoch = (epoch, made)
        return self._epoch[1]

    def _bucketed(self, rng: np.random.Generator) -> list[tuple[np.ndarray, tuple[int, int]]]:
        batches = bucketed_batches(self._widths, self.tokens, self.multiple, rng)
        shaped = []
        for rows in batches:
            width = int(self._widths[rows[0]])
            shaped.append((rows, (max(1, self.tokens // width), width)))
        return shaped

    def _packed(self, rng: np.random.Generator) -> list[tuple[np.ndarray, tuple[int, int]]]:
        shape = (max(1, self.tokens // self._longest), self._longest)
        batches: list[tuple[np.ndarray, tuple[int, int]]] = []
        held: list[int] = []
        lines = [0] * shape[0]
        for row in rng.permutation(len(self._lengths)):
            length = int(self._lengths[row])
            fits = [i for i, used in enumerate(lines) if used + length <= shape[1]]
            if not fits:
                batches.append((np.array(held), shape))
                held, lines, fits = [], [0] * shape[0], [0]
            lines[fits[0]] += length
            held.append(int(row))
        return [*batches, (np.array(held), shape)] if held else batches
