"""What one layer of a Transformer takes on this machine, part by part, beside what it should cost.

The formulas of :mod:`bert4kexue.analysis.flops` count multiplications; a clock also sees softmax,
normalization and memory. Parts are real layers of the library, without gradients, compiled as the
backend compiles without XLA where that is a choice; at each length they take turns, so that a
disturbance of the machine meets all of them, and the median is kept.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from bert4kexue.analysis.flops import Shape
from bert4kexue.layers import FeedForward, LayerNormalization, LinearAttention, MultiHeadAttention
from bert4kexue.models.compilation import compiled
from bert4kexue.ops.attention import attention_normalize, attention_scores, weighted_values
from bert4kexue.ops.linear_attention import linear_attention


@dataclasses.dataclass(frozen=True)
class LayerTimes:
    """Seconds at one length, and the repetitions that they are medians of.

    Args:
        length: n.
        projections: queries, keys, values and the output.
        products: the two matrix products of softmax attention's core.
        core: the same with its softmax.
        feed_forward: both matrices and the activation.
        layer: a whole block, residuals and normalization included.
        linear_core: the core of linear attention, features included.
        linear_layer: the whole block with it.
        repetitions: of every part.
    """

    length: int
    projections: float
    products: float
    core: float
    feed_forward: float
    layer: float
    linear_core: float
    linear_layer: float
    repetitions: int

    @property
    def share(self) -> float:
        """Of the core in the layer's time."""
        return self.core / self.layer


def measure_layers(
    shape: Shape,
    lengths: Sequence[int],
    *,
    batch: int = 1,
    feature_map: Any = "elu1",
    activation: Any = "gelu",
    least_seconds: float = 1.0,
    said: Callable[[LayerTimes], None] = lambda row: None,
) -> list[LayerTimes]:
    """Time one layer of random weights.

    Args:
        shape: sizes; one with softmax attention and a plain feed-forward.
        lengths: in tokens.
        batch: rows.
        feature_map: of the linear attention beside it.
        activation: of the feed-forward.
        least_seconds: parts are repeated until the layer has taken so long at each length, 3 times
            at least and 50 at most.
        said: called with each length's row as it is done.

    Raises:
        ValueError: a length or batch below 1, or a layer that these parts are not.
    """
    for name, value in [("length", n) for n in lengths] + [("batch", batch)]:
        if isinstance(value, bool) or value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")
    if not lengths:
        raise ValueError("no length to measure: give one or more")
    if shape.gated_unit or shape.cross_attention or shape.gated_feed_forward:
        raise ValueError(
            "only blocks of self-attention and a feed-forward of two matrices are timed, not "
            f"gated_unit={shape.gated_unit}, cross_attention={shape.cross_attention}, "
            f"gated_feed_forward={shape.gated_feed_forward}"
        )
    if not shape.feed_forward:
        raise ValueError("a block without a feed-forward is not timed: give feed_forward")
    random, rows = np.random.RandomState(0), []
    for n in lengths:
        # Anew for each length, so that every graph knows its own.
        parts = _parts(shape, feature_map, activation)
        x = random.normal(size=(batch, n, shape.hidden))
        heads = [
            random.normal(size=(batch, n, shape.heads, size))
            for size in (shape.d, shape.d, shape.d_v)
        ]
        inputs = {
            name: [ops.convert_to_tensor(y, "float32") for y in (heads if of_heads else [x])]
            for name, (_, of_heads) in parts.items()
        }
        rows.append(_timed(n, parts, inputs, least_seconds))
        said(rows[-1])
    return rows


def measured_crossovers(rows: Sequence[LayerTimes]) -> dict[str, float]:
    """The lengths from which on one part takes longer than another, as `crossover_lengths` counts.

    Between two measured lengths the logarithm of the ratio is taken for a straight line over the
    logarithm of the length.

    Returns:
        Lengths under the names of :func:`bert4kexue.analysis.flops.crossover_lengths`: 0 where the
        first measured length is beyond already, infinity where the last is not.
    """
    rows = sorted(rows, key=lambda row: row.length)
    ratios = {
        "attention_over_feed_forward": [(r.projections + r.core) / r.feed_forward for r in rows],
        "quadratic_over_rest": [r.core / max(r.layer - r.core, 1e-12) for r in rows],
        "linear_cheaper": [r.layer / r.linear_layer for r in rows],
    }
    return {name: crossing([r.length for r in rows], ratios[name]) for name in ratios}


def crossing(lengths: list[int], ratios: list[float]) -> float:
    """The length from which on a ratio stays above 1, as :func:`measured_crossovers` reads it.

    Args:
        lengths: ascending.
        ratios: one for each.
    """
    below = [i for i, ratio in enumerate(ratios) if ratio <= 1]
    if not below:
        return 0.0
    i = below[-1]
    if i == len(ratios) - 1:
        return math.inf
    low, high = math.log(ratios[i]), math.log(ratios[i + 1])
    part = -low / (high - low)
    return math.exp((1 - part) * math.log(lengths[i]) + part * math.log(lengths[i + 1]))


Part = tuple[Callable[..., Any], bool]


def _parts(shape: Shape, feature_map: Any, activation: Any) -> dict[str, Part]:
    """Each part compiled, and whether it takes projected heads."""
    sizes: dict[str, Any] = {
        "heads": shape.heads,
        "head_size": shape.d_v,
        "out_dim": shape.hidden,
        "key_size": shape.d,
    }
    attention = MultiHeadAttention(**sizes)
    linear = LinearAttention(**sizes, feature_map=feature_map)
    feed_forward = FeedForward(shape.feed_forward, activation)
    norms = [LayerNormalization(epsilon=1e-12) for _ in range(2)]
    whole = (None, None, shape.hidden)
    for layer in (attention, linear):
        layer.build([whole] * 3)
    for layer in (feed_forward, *norms):
        layer.build(whole)

    def projections(x: Any) -> Any:
        parts = [layer(x) for layer in (attention.q_dense, attention.k_dense, attention.v_dense)]
        return parts[0], parts[1], attention.o_dense(parts[2])

    def products(q: Any, k: Any, v: Any) -> Any:
        return weighted_values(attention_scores(q, k), v)

    def core(q: Any, k: Any, v: Any) -> Any:
        return weighted_values(attention_normalize(attention_scores(q, k)), v)

    def linear_core(q: Any, k: Any, v: Any) -> Any:
        q, k = q / shape.d**0.25, k / shape.d**0.25
        return linear_attention(q, k, v, linear.feature_map, linear.frequencies)[0]

    def block(kind: Any) -> Callable[[Any], Any]:
        def call(x: Any) -> Any:
            x = norms[0](x + kind([x, x, x]))
            return norms[1](x + feed_forward(x))

        return call

    functions: dict[str, tuple[Callable[..., Any], list[Any], bool]] = {
        "projections": (projections, attention.variables, False),
        "products": (products, [], True),
        "core": (core, [], True),
        "feed_forward": (feed_forward, feed_forward.variables, False),
        "layer": (block(attention), _variables(attention, feed_forward, *norms), False),
        "linear_core": (linear_core, linear.variables, True),
        "linear_layer": (block(linear), _variables(linear, feed_forward, *norms), False),
    }
    return {
        name: (compiled(function, variables, jit_compile=False), of_heads)
        for name, (function, variables, of_heads) in functions.items()
    }


def _variables(*layers: Any) -> list[Any]:
    return [v for layer in layers for v in layer.variables]


def _timed(
    n: int, parts: dict[str, Part], inputs: dict[str, list[Any]], least_seconds: float
) -> LayerTimes:
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for name, (run, _) in parts.items():
        _wait(run(*inputs[name]))  # compiled, and its memory taken

    def enough() -> bool:
        turns = len(seconds["layer"])
        return turns >= 50 or (turns >= 3 and sum(seconds["layer"]) >= least_seconds)

    while not enough():
        for name, (run, _) in parts.items():
            begun = time.perf_counter()
            _wait(run(*inputs[name]))
            seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return LayerTimes(length=n, **medians, repetitions=len(seconds["layer"]))


def _wait(outputs: Any) -> None:
    """Until they are computed: backends hand out promises."""
    for y in keras.tree.flatten(outputs):
        ops.convert_to_numpy(y[0, 0])
