"""The weighted mean of checkpoints: between a model and what fine-tuning made of it.

Half-way to a fine-tuned model a network keeps most of what it knew and has most of what it learned,
often more of both than either end (arXiv 2109.01903); means of several fine-tunings of one model do
better than each (arXiv 2203.05482). It holds for models of one origin alone: means of weights that
were never the same are noise.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from .base import Checkpoint, CheckpointError
from .reader import open_checkpoint
from .table import TRAINING_STATE
from .tf_writer import write_tf_checkpoint


def average_checkpoints(
    paths: Sequence[str | os.PathLike[str]],
    prefix: str | os.PathLike[str],
    shares: Sequence[float] | None = None,
) -> None:
    """Write the mean as a TensorFlow checkpoint, whole or not at all; one variable is held at once.

    Args:
        paths: checkpoints of any format with the same variables; an optimizer's state is left out.
        prefix: of the files written, as :func:`write_tf_checkpoint` takes it.
        shares: of each; what they sum to is divided by. All alike when None. A negative one leads
            away from its checkpoint.

    Raises:
        CheckpointError: fewer than two checkpoints, shares that do not fit them, variables or
            shapes that differ, or a variable that is not of floating point and differs.

    Example:
        >>> average_checkpoints(["stage1", "finetuned"], "between/bert_model.ckpt", [0.7, 0.3])
    """
    given = [1.0] * len(paths) if shares is None else [float(share) for share in shares]
    if len(paths) < 2:
        raise CheckpointError(f"a mean is of two checkpoints or more, got {len(paths)}")
    if len(given) != len(paths) or not all(map(math.isfinite, given)) or not sum(given):
        raise CheckpointError(
            f"{len(paths)} checkpoints need as many finite shares that do not sum to 0, got {given}"
        )
    with ExitStack() as stack:
        opened = [stack.enter_context(open_checkpoint(path)) for path in paths]
        write_tf_checkpoint(prefix, _Mean(opened, np.array(given) / sum(given)))


class _Mean(Mapping[str, np.ndarray]):
    """The mean of each variable, made when it is asked for."""

    def __init__(self, checkpoints: list[Checkpoint], shares: np.ndarray) -> None:
        self.checkpoints, self.shares = checkpoints, shares
        first, *others = checkpoints
        self.names = names = _weights(first)
        for other in others:
            missing = set(names) ^ set(_weights(other))
            differ = [n for n in names if n not in missing and first.shape(n) != other.shape(n)]
            if missing or differ:
                some = sorted(missing) or [f"{n} {first.shape(n)}" for n in differ]
                raise CheckpointError(
                    f"a mean is of checkpoints with the same variables; {first.description} and "
                    f"{other.description} differ in {len(some)}: {', '.join(some[:5])}"
                )

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> np.ndarray:
        arrays = [checkpoint.read(name) for checkpoint in self.checkpoints]
        dtype = self.checkpoints[0].dtype(name)
        if np.issubdtype(dtype, np.integer) or dtype.kind in "bOSU":
            if any(not np.array_equal(arrays[0], array) for array in arrays[1:]):
                raise CheckpointError(f"{name} is of {dtype} and differs: no mean can be taken")
            return arrays[0]
        total = sum(s * a.astype(np.float64) for s, a in zip(self.shares, arrays, strict=True))
        return np.asarray(total).astype(dtype)


def _weights(checkpoint: Checkpoint) -> list[str]:
    names = checkpoint.names()
    return [n for n in names if not any(re.fullmatch(rule, n) for rule in TRAINING_STATE)]
