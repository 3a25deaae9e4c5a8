"""What an architecture is: three functions and a table of weights.

Architectures that differ by a value differ in data here; those that differ by a computation bring a
function of their own. Nobody subclasses a model to make another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from bert4kexue.checkpoints.table import Row
from bert4kexue.models.config import ModelConfig

if TYPE_CHECKING:
    from bert4kexue.models.builder import Transformer


@dataclasses.dataclass(frozen=True)
class WeightRow:
    """One weight and its variable in the original checkpoint.

    Args:
        weight: layer and attributes, ``'Transformer-{i}-FeedForward/i0_dense/kernel'``; ``{i}``
            stands for each block in turn.
        variable: the checkpoint's name, ``{i}`` as above.
        shape: the checkpoint's shape, as names of ``ModelConfig`` fields or products of two of them
            (``'num_attention_heads*attention_key_size'``) or numbers, separated by blanks.
        when: name of a condition in :data:`CONDITIONS`: the weight is built only where it holds.
        transform: ``'transpose'`` when the checkpoint stores the matrix turned.
        vocab_axis: the axis that ``keep_tokens`` and ``compound_tokens`` act on.
    """

    weight: str
    variable: str
    shape: str
    when: str | None = None
    transform: Literal["transpose"] | None = None
    vocab_axis: int | None = None

    def expand(self, config: ModelConfig) -> list[tuple[Row, bool]]:
        """The rows of every block, each with whether the configured model has it."""
        count = config.num_hidden_layers if "{i}" in self.weight else 1
        built = self.when is None or CONDITIONS[self.when](config)
        shape = tuple(_size(config, size) for size in self.shape.split())
        return [
            (
                Row(
                    weight=self.weight.replace("{i}", str(i)),
                    variable=self.variable.replace("{i}", str(i)),
                    shape=shape,
                    transform=self.transform,
                    vocab_axis=self.vocab_axis,
                ),
                built,
            )
            for i in range(count)
        ]


CONDITIONS: dict[str, Callable[[ModelConfig], bool]] = {
    "segments": lambda c: bool(c.segment_vocab_size) and not c.shared_segment_embeddings,
    "mapping": lambda c: c.embedding_size != c.hidden_size,
    "pool": lambda c: bool(c.with_pool),
    "nsp": lambda c: c.with_nsp,
    "mlm": lambda c: bool(c.with_mlm),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A family of models.

    Args:
        name: the name that ``build_transformer_model(model=...)`` takes.
        aliases: other names.
        embed: ``(builder, inputs) -> x``, from the inputs to the first block.
        block: ``(builder, x, index) -> x``.
        head: ``(builder, x) -> outputs``, one tensor or a list.
        weights: the two-way table of weights and variables.
        position_bias: ``(builder, inputs) -> tensor`` that every attention layer takes, made once;
            or None.
        ignored_variables: regular expressions, each for a whole name, of variables that such
            checkpoints hold and no model needs.
    """

    name: str
    aliases: tuple[str, ...] = ()
    embed: Callable[[Transformer, list[Any]], Any]
    block: Callable[[Transformer, Any, int], Any]
    head: Callable[[Transformer, Any], Any]
    weights: tuple[WeightRow, ...]
    position_bias: Callable[[Transformer, list[Any]], Any] | None = None
    ignored_variables: tuple[str, ...] = ()

    def rows(self, config: ModelConfig) -> tuple[list[Row], set[str]]:
        """Every row of the table for this configuration, and the weights that the model has."""
        expanded = [pair for row in self.weights for pair in row.expand(config)]
        return [row for row, _ in expanded], {row.weight for row, built in expanded if built}


def _size(config: ModelConfig, expression: str) -> int:
    size = 1
    for factor in expression.split("*"):
        size *= int(factor) if factor.isdigit() else getattr(config, factor)
    return size
