"""What a Transformer costs (kexue.fm/archives/8610): multiplications, operations, memory, by part.

Of a layer of n tokens with h heads of size d, H = h d, a value head size d_v and a feed-forward
width F the post counts multiplications of matrix products:

    projections    n H (2 h d + 2 h d_v)            = 4 n H^2
    core, softmax  n^2 h (d + d_v)                  = 2 n^2 H
    core, linear   n h (2 m d_v)                    = 2 n H m      m features of each head
    feed-forward   2 n H F                          = 8 n H^2  for F = 4 H

so that attention outweighs the feed-forward from n > 2 H on, the quadratic part all the rest from
n > 6 H, and linear attention is cheaper from n > m. All comparisons are strict: at n = 2 H exactly
the two are level.

Every part is a :class:`Cost` of multiplications and operations (FLOPs, additions counted too: two
for each multiplication of a product). Softmax, normalization and activations are counted apart,
being bound by memory rather than by arithmetic.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

Attention = Literal["softmax", "linear", "performer"]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Multiplications in matrix products, and all operations with them."""

    multiplications: int = 0
    operations: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.multiplications + other.multiplications, self.operations + other.operations
        )

    def __mul__(self, factor: int) -> Cost:
        return Cost(self.multiplications * factor, self.operations * factor)


def matrix_product(rows: int, inner: int, columns: int, times: int = 1) -> Cost:
    """(rows, inner) by (inner, columns), `times` over."""
    count = rows * inner * columns * times
    return Cost(count, 2 * count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes that a Transformer's cost depends on.

    Args:
        layers: number of blocks.
        hidden: H.
        heads: h.
        head_size: d of queries and keys; hidden / heads when None.
        value_size: d_v of values; head_size when None.
        feed_forward: F; 0 for blocks without one (gated attention units).
        gated_feed_forward: the feed-forward has two matrices into its width (T5.1.1).
        vocabulary: v; 0 leaves the token head out.
        embedding: of tokens, where it is not H.
        attention: 'softmax'; 'linear', a feature map of `features` numbers that costs nothing;
            'performer', random features of `features` numbers, whose own products are counted.
        features: m of each head; head_size when None.
        cross_attention: every block also attends to a source (T5's decoder).
        gated_unit: gated attention units in place of attention and feed-forward: one head of size
            `head_size` over a gate of width `feed_forward` (GAU, kexue.fm/archives/8934).
    """

    layers: int
    hidden: int
    heads: int
    head_size: int | None = None
    value_size: int | None = None
    feed_forward: int = 0
    gated_feed_forward: bool = False
    vocabulary: int = 0
    embedding: int | None = None
    attention: Attention = "softmax"
    features: int | None = None
    cross_attention: bool = False
    gated_unit: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads"):
            _positive(name, getattr(self, name))
        for name in ("feed_forward", "vocabulary"):  # 0 is none
            if getattr(self, name) != 0:
                _positive(name, getattr(self, name))
        if self.head_size is None and self.hidden % self.heads:
            raise ValueError(
                f"hidden={self.hidden} is not divided by heads={self.heads}: give head_size"
            )
        if self.attention not in ("softmax", "linear", "performer"):
            raise ValueError(
                f"attention must be 'softmax', 'linear' or 'performer', got {self.attention!r}"
            )
        for name in ("head_size", "value_size", "features", "embedding"):
            if (value := getattr(self, name)) is not None:
                _positive(name, value)

    @property
    def d(self) -> int:
        """Size of a head of queries and keys."""
        return self.head_size or self.hidden // self.heads

    @property
    def d_v(self) -> int:
        """Size of a head of values."""
        return self.value_size or self.d

    @property
    def m(self) -> int:
        """Features of a head of linear attention."""
        return self.features or self.d


def from_config(config: Mapping[str, Any], **changes: Any) -> Shape:
    """The shape that a ``bert_config.json`` describes.

    Args:
        config: its keys; T5's (`d_model`, `num_layers`, `d_kv`, `d_ff`) as well.
        **changes: fields of :class:`Shape` that win.

    Raises:
        ValueError: a key is missing, or keys and values are shared by several query heads, which
            none of these formulas counts.
    """
    heads = _first(config, "num_attention_heads", "num_heads")
    if (shared := config.get("num_key_value_heads", heads)) != heads:
        raise ValueError(
            f"num_key_value_heads={shared} for {heads} heads: shared keys and values are not "
            "counted"
        )
    fields: dict[str, Any] = {
        "layers": _first(config, "num_hidden_layers", "num_layers"),
        "hidden": _first(config, "hidden_size", "d_model"),
        "heads": heads,
        "head_size": config.get("attention_key_size") or config.get("d_kv"),
        "value_size": config.get("attention_head_size") or config.get("d_kv"),
        "feed_forward": _first(config, "intermediate_size", "d_ff"),
        "gated_feed_forward": "gated" in str(config.get("feed_forward_proj", "")),
        "vocabulary": _first(config, "vocab_size"),
        "embedding": config.get("embedding_size"),
    }
    return Shape(**{**fields, **changes})


# --- parts --------------------------------------------------------------------------------------


def layer_cost(
    shape: Shape, length: int, *, causal: bool = False, source: int = 0
) -> dict[str, Cost]:
    """One block on one row of `length` tokens, by part.

    Args:
        shape: sizes.
        length: n.
        causal: count only the pairs that left-to-right attention needs, n (n + 1) / 2, as a kernel
            that skips the others does; what computes all of them and masks costs the whole square.
        source: length of what cross-attention looks at.

    Returns:
        'projections', 'core', 'feed_forward' and 'element_wise' (softmax, normalization,
        activations), and with a Performer 'features'.
    """
    _positive("length", length)
    n, hidden, heads = length, shape.hidden, shape.heads
    if shape.gated_unit:
        return _gated_unit(shape, n, causal)
    widths = 2 * heads * shape.d + 2 * heads * shape.d_v
    projections = matrix_product(n, hidden, widths)
    core, soft, features = core_cost(shape, n, n, causal)
    if shape.cross_attention:
        _positive("source", source)
        projections += matrix_product(n, hidden, heads * (shape.d + shape.d_v))
        projections += matrix_product(source, hidden, heads * (shape.d + shape.d_v))
        more, more_soft, more_features = core_cost(shape, n, source, False)
        core, soft, features = core + more, soft + more_soft, features + more_features
    ways = 3 if shape.gated_feed_forward else 2
    feed_forward = matrix_product(n, hidden, ways * shape.feed_forward)
    norms = 3 if shape.cross_attention else 2
    element_wise = soft + Cost(0, n * (NORM * norms * hidden + ACTIVATION * shape.feed_forward))
    parts = {
        "projections": projections,
        "core": core,
        "feed_forward": feed_forward,
        "element_wise": element_wise,
    }
    return parts | ({"features": features} if shape.attention == "performer" else {})


# Operations a number: softmax is a maximum, a difference, an exponential, a sum and a quotient;
# normalization a mean, a variance (three), a difference, a quotient, a scale and an offset; a gelu
# is taken for one function and three products.
SOFTMAX, NORM, ACTIVATION = 5, 8, 4


def core_cost(shape: Shape, n: int, keys: int, causal: bool) -> tuple[Cost, Cost, Cost]:
    """The attention core of n queries and so many keys, its element-wise part, its features."""
    heads, d, d_v, m = shape.heads, shape.d, shape.d_v, shape.m
    if shape.attention == "softmax":
        pairs = n * (n + 1) // 2 if causal else n * keys
        core = matrix_product(pairs, d, 1, heads) + matrix_product(pairs, d_v, 1, heads)
        return core, Cost(0, SOFTMAX * pairs * heads), Cost()
    core = matrix_product(keys, m, d_v, heads) + matrix_product(n, m, d_v, heads)
    # The denominator: a sum of features of the keys, and its product with those of each query.
    soft = Cost(0, heads * (keys * m + 2 * n * m + n * d_v) + heads * (n + keys) * m)
    features = Cost()
    if shape.attention == "performer":
        features = matrix_product(n + keys, d, m, heads)
    return core, soft, features


def _gated_unit(shape: Shape, n: int, causal: bool) -> dict[str, Cost]:
    """U, V (n, e) and Z (n, s) of one matrix; V mixed by relu^2(Q K^T) / n; U * that, projected."""
    e, s, hidden = shape.feed_forward, shape.d, shape.hidden
    _positive("feed_forward", e)
    pairs = n * (n + 1) // 2 if causal else n * n
    core = matrix_product(pairs, s, 1) + matrix_product(pairs, e, 1)
    return {
        "projections": matrix_product(n, hidden, 2 * e + s) + matrix_product(n, e, hidden),
        "core": core,
        "feed_forward": Cost(),
        "element_wise": Cost(0, 3 * pairs + n * (NORM * hidden + ACTIVATION * (2 * e + s) + e)),
    }


def transformer_cost(
    shape: Shape, length: int, *, batch: int = 1, causal: bool = False, source: int = 0
) -> dict[str, Cost]:
    """A whole forward pass: the blocks' parts, 'embeddings' and, with a vocabulary, 'head'."""
    _positive("batch", batch)
    parts = {
        name: cost * (shape.layers * batch)
        for name, cost in layer_cost(shape, length, causal=causal, source=source).items()
    }
    n, hidden = length * batch, shape.hidden
    width = shape.embedding or hidden
    parts["embeddings"] = Cost(0, n * (2 + NORM) * width)
    if width != hidden:
        parts["embeddings"] += matrix_product(n, width, hidden)
    if shape.vocabulary:
        # The masked-word head: a dense layer, normalization, and the tied table.
        parts["head"] = (
            matrix_product(n, hidden, width)
            + matrix_product(n, width, shape.vocabulary)
            + Cost(0, n * (ACTIVATION + NORM) * width)
        )
    return parts


def decoding_step(shape: Shape, past: int, *, batch: int = 1) -> dict[str, Cost]:
    """One token more, with the keys and values of `past` earlier ones kept.

    Linear attention keeps a state of m by d_v for each head instead, and costs the same at any
    length.
    """
    if past < 0:
        raise ValueError(f"past must be 0 or more, got {past}")
    _positive("batch", batch)
    parts = layer_cost(shape, 1)
    if shape.attention == "softmax" and not shape.gated_unit:
        keys = past + 1
        parts["core"] = matrix_product(keys, shape.d + shape.d_v, 1, shape.heads)
        soft = Cost(0, SOFTMAX * shape.heads * past)
        parts["element_wise"] = parts["element_wise"] + soft
    elif shape.gated_unit:
        parts["core"] = matrix_product(past + 1, shape.d + shape.feed_forward, 1)
    return {name: cost * (shape.layers * batch) for name, cost in parts.items()}


def backward(parts: Mapping[str, Cost]) -> dict[str, Cost]:
    """The backward pass of these parts: each product gives two, one for either factor."""
    return {name: cost * 2 for name, cost in parts.items()}


def total(parts: Mapping[str, Cost]) -> Cost:
    """The sum of all parts."""
    return sum(parts.values(), Cost())


# --- when linear attention pays -----------------------------------------------------------------


def crossover_lengths(
    shape: Shape, *, widen: Literal["none", "heads", "projections"] = "none"
) -> dict[str, int]:
    """The smallest lengths from which one part is strictly dearer than another.

    Args:
        shape: of softmax attention; `features` says what linear attention would have.
        widen: 'none' gives linear attention its m features for nothing, beside values of their own
            size; 'heads' widens the values to m numbers as well, as the post counts heads four
            times as wide: 2 n m^2 a head against 2 n^2 d; 'projections' leaves the values, widens
            the query and key projections to m numbers a head and counts what that costs.

    Returns:
        'attention_over_feed_forward', 'quadratic_over_rest' (the quadratic core over everything
        else of the layer) and 'linear_cheaper' (a layer with linear attention over one without).
    """
    if widen not in ("none", "heads", "projections"):
        raise ValueError(f"widen must be 'none', 'heads' or 'projections', got {widen!r}")
    base = dataclasses.replace(shape, attention="softmax")
    # Per token: the core costs `slope` times n, everything else a constant.
    slope = shape.heads * (shape.d + shape.d_v)
    one = layer_cost(base, 1)
    projections = one["projections"].multiplications
    feed_forward = one["feed_forward"].multiplications
    linear_core = 2 * shape.heads * shape.m * (shape.m if widen == "heads" else shape.d_v)
    if widen == "projections":
        linear_core += 2 * shape.hidden * shape.heads * (shape.m - shape.d)
    if shape.attention == "performer":
        linear_core += 2 * shape.heads * shape.d * shape.m
    return {
        "attention_over_feed_forward": _above(feed_forward - projections, slope),
        "quadratic_over_rest": _above(feed_forward + projections, slope),
        "linear_cheaper": _above(linear_core, slope),
    }


def _above(constant: int, slope: int) -> int:
    """The smallest n of 1 or more with slope * n > constant."""
    return max(1, math.floor(constant / slope) + 1)


def core_share(shape: Shape, length: int) -> float:
    """The share of the attention core among a layer's multiplications, 0 to 1."""
    parts = layer_cost(shape, length)
    return parts["core"].multiplications / total(parts).multiplications


# --- memory -------------------------------------------------------------------------------------


def parameters(shape: Shape, positions: int = 0, segments: int = 2) -> int:
    """Numbers in the weights of an encoder without heads, biases and normalization included."""
    hidden, width = shape.hidden, shape.embedding or shape.hidden
    inner, outer = shape.heads * shape.d, shape.heads * shape.d_v
    attention = 2 * (hidden + 1) * inner + (hidden + 1) * outer + (outer + 1) * hidden
    feed_forward = (hidden + 1) * shape.feed_forward + (shape.feed_forward + 1) * hidden
    embeddings = (shape.vocabulary + positions + segments) * width + 2 * width
    if width != hidden:
        embeddings += (width + 1) * hidden
    return embeddings + shape.layers * (attention + feed_forward + 4 * hidden)


def activation_numbers(shape: Shape, length: int, *, batch: int = 1) -> int:
    """Numbers that training keeps for the backward pass, each intermediate result once.

    Of a block: its input, queries, keys, values, scores and probabilities (with softmax), what
    attention gives before and after its projection, the two sums and normalizations, and the
    feed-forward's inner values before and after its activation.
    """
    n, h = length, shape.heads
    kept = n * (6 * shape.hidden + 2 * h * shape.d + 2 * h * shape.d_v + 2 * shape.feed_forward)
    if shape.attention == "softmax":
        kept += 2 * h * n * n
    else:
        kept += 2 * h * n * shape.m + h * shape.m * shape.d_v
    return batch * (shape.layers * kept + 2 * n * shape.hidden)


def cache_numbers(shape: Shape, length: int, *, batch: int = 1) -> int:
    """Numbers kept between decoding steps: keys and values of all tokens, or linear states."""
    if shape.attention == "softmax":
        return batch * shape.layers * shape.heads * length * (shape.d + shape.d_v)
    return batch * shape.layers * shape.heads * shape.m * (shape.d_v + 1)


def _first(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        if config.get(name) is not None:
            return int(config[name])
    raise ValueError(f"the config has no {' or '.join(names)}")


def _positive(name: str, value: int) -> None:
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"{name} must be a whole number of 1 or more, got {value!r}")
