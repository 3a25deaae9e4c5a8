"""From a checkpoint into a model and back: planned against the table, then carried out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from bert4kexue.checkpoints import (
    Checkpoint,
    CheckpointError,
    CheckpointMismatch,
    Comparison,
    Plan,
    as_original,
    compare,
    open_checkpoint,
    select_tokens,
    write_tf_checkpoint,
)
from bert4kexue.checkpoints.resizing import resize_weight
from bert4kexue.models.architecture import Architecture
from bert4kexue.models.config import ModelConfig

if TYPE_CHECKING:
    from bert4kexue.models.builder import Transformer


#: Activations with f(a x) = a f(x) for a > 0.
_HOMOGENEOUS = ("relu", "leaky_relu")


@dataclasses.dataclass(frozen=True)
class LoadPlan:
    """A checkpoint that fits, open: a context manager that closes it.

    Args:
        checkpoint: the open checkpoint.
        plan: which variable goes into which weight.
        warnings: what was skipped because ``ignore_invalid_weights`` allowed it.
    """

    checkpoint: Checkpoint
    plan: Plan
    warnings: tuple[str, ...] = ()

    def __enter__(self) -> LoadPlan:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.checkpoint.close()


def plan_weights(
    architecture: Architecture, config: ModelConfig, source: Any, *, verify: bool = True
) -> LoadPlan:
    """Open a checkpoint and check it against the table, without any model.

    Args:
        architecture: the family.
        config: the model to be.
        source: what ``open_checkpoint`` takes; Hugging Face names are translated.
        verify: compare the checksums of what will be read.

    Raises:
        CheckpointError: it cannot be opened, does not fit, or its bytes are damaged.
    """
    checkpoint = as_original(open_checkpoint(source))
    try:
        rows, wanted = architecture.rows(config)
        comparison = compare(rows, checkpoint, wanted=wanted, known=architecture.ignored_variables)
        messages: tuple[str, ...] = ()
        if not comparison.fits:
            if config.autoresize_weights:
                comparison = _accept_other_widths(comparison)
            if not comparison.fits:
                error = CheckpointMismatch(comparison, _context(architecture, config))
                if not config.ignore_invalid_weights or comparison.unexpected:
                    raise error
                messages = tuple(_skipped(comparison))
        plan = comparison.plan
        _check_kept_tokens(config)
        if verify:
            checkpoint.verify(row.variable for row in plan.rows.values())
    except BaseException:
        checkpoint.close()
        raise
    return LoadPlan(checkpoint, plan, messages)


def assign_weights(loaded: LoadPlan, builder: Transformer) -> None:
    """Copy every planned variable into the builder's layers."""
    config = builder.config
    for weight in loaded.plan.weights():
        value = loaded.plan.read(weight, config.keep_tokens, config.compound_tokens)
        variable = find_weight(builder, weight)
        if tuple(variable.shape) != value.shape and config.autoresize_weights:
            value = resize_weight(
                weight, value, variable.shape, homogeneous=config.hidden_act in _HOMOGENEOUS
            )
        if tuple(variable.shape) != value.shape:
            raise CheckpointError(
                f"{loaded.checkpoint.description}: {weight} has shape "
                f"{tuple(variable.shape)} in the model and {value.shape} in the "
                "checkpoint; was the layer shared from another model?"
            )
        variable.assign(np.asarray(value).astype(variable.dtype, copy=False))


def storage_dtype(dtype: Any) -> np.dtype:
    """The type of numbers that checkpoints are stored in.

    Args:
        dtype: a name or a NumPy type.

    Raises:
        ValueError: it is none of float16, bfloat16, float32 and float64.
    """
    known = ("float16", "bfloat16", "float32", "float64")
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in known:
        raise ValueError(f"the dtype of a checkpoint is one of {', '.join(known)}; got {dtype!r}")
    return found


def write_weights(
    builder: Transformer, filename: str | Path, dtype: np.dtype | None, shards: int
) -> None:
    """Write a builder's weights as an original checkpoint; see ``save_weights_as_checkpoint``."""
    config = builder.config
    if config.token_count != config.vocab_size:
        raise ValueError(
            f"the model's vocabulary was changed from {config.vocab_size} to "
            f"{config.token_count} tokens by keep_tokens or compound_tokens, so its config "
            "does not describe what would be written: build it with the new vocab_size and "
            "set its weights, then save"
        )
    write_tf_checkpoint(filename, _OriginalWeights(builder, dtype), shards=shards)


class _OriginalWeights(Mapping[str, np.ndarray]):
    """The weights under their original names, fetched from the device one at a time."""

    def __init__(self, builder: Transformer, dtype: np.dtype | None) -> None:
        rows, wanted = builder.architecture.rows(builder.config)
        self._rows = {row.variable: row for row in rows if row.weight in wanted}
        self._builder = builder
        self._dtype = dtype

    def __getitem__(self, name: str) -> np.ndarray:
        row = self._rows[name]
        value = keras.ops.convert_to_numpy(find_weight(self._builder, row.weight))
        if self._dtype is not None:
            value = value.astype(self._dtype)
        return np.ascontiguousarray(value.T) if row.transform == "transpose" else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def find_weight(builder: Transformer, weight: str) -> Any:
    """The variable of a weight's path: layer, then attributes."""
    layer, *attributes = weight.split("/")
    found: Any = builder.layers[builder.prefixed(layer)]
    for attribute in attributes:
        found = getattr(found, attribute)
    return found


def _context(architecture: Architecture, config: ModelConfig) -> str:
    return (
        f"model={architecture.name!r} with {config.num_hidden_layers} layers, hidden_size="
        f"{config.hidden_size}, vocab_size={config.vocab_size}"
    )


def _accept_other_widths(comparison: Comparison) -> Comparison:
    """Misshapen rows that can be resized join the plan; a vocabulary cannot be."""
    refused, rows = [], dict(comparison.plan.rows)
    for item in comparison.misshapen:
        axis, expected, found = item.row.vocab_axis, item.row.shape, item.found
        same_vocabulary = axis is None or expected[axis] == found[axis]
        if len(found) == len(expected) and same_vocabulary:
            rows[item.row.weight] = item.row
        else:
            refused.append(item)
    plan = dataclasses.replace(comparison.plan, rows=rows)
    return dataclasses.replace(comparison, plan=plan, misshapen=tuple(refused))


def _skipped(comparison: Comparison) -> Iterator[str]:
    option = "ignore_invalid_weights"
    for row in comparison.missing:
        yield f"{option}: {row.variable} is not in the checkpoint; {row.weight} is random"
    for item in comparison.misshapen:
        row = item.row
        yield (
            f"{option}: {row.variable} has shape {item.found}, not {row.shape}; {row.weight} is "
            "random"
        )


def _check_kept_tokens(config: ModelConfig) -> None:
    """Wrong ids must be told before a model is built: try them on one column of nothing."""
    if config.keep_tokens is not None or config.compound_tokens:
        column = np.zeros((config.vocab_size,), np.float32)
        select_tokens(column, config.keep_tokens, config.compound_tokens)
