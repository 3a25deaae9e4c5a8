"""Attention in time linear in the length, for any feature map (kexue.fm/archives/7546, 8601).

    o_i = phi(q_i)^T S_i / phi(q_i)^T z_i,   S_i = sum_j phi(k_j) v_j^T,   z_i = sum_j phi(k_j)

with j over the keys that query i sees. z is kept as S's last column, since it is the S of values
that are all 1; in padding that 1 is a zero, and so are the values. Which keys are seen is one of
three structures:

- all of them (bidirectional);
- those up to i (causal): blocks in turn, each block in chunks; earlier chunks come in as their S,
  the own one as a triangle of products, or, where the kernel is a polynomial of q . k, of that: d
  products and not f. Exact, and no more numbers than O(n);
- a prefix that sees itself whole, then causal (UniLM): two sums.

Exponential features are divided by a running maximum over the keys, feature by feature; queries
are multiplied by it and then divided by their own maximum. Both cancel in the quotient, and neither
sum can overflow. Sums are float32 whatever the inputs are.

Signed features (cos1, taylor, limit) cancel where every key of a query stands where the kernel is
zero, and what z leaves of the denominator is rounding. That is at most about eps |phi(q)| times the
sum of |phi(k)|, and the denominator is never let below a few times that: such a row gives numbers
of the values' size, and a row that keeps a digit is what it was. Weights of a triangle are held one
by one; of those it is enough that none is negative, as no kernel here is.

Axis letters: b batch, h heads, n queries, m keys, d head size, e value size, f features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from bert4kexue.ops.blocks import even, in_blocks, in_line, joined, smaller
from bert4kexue.ops.feature_maps import FeatureMap
from bert4kexue.ops.normalization import at_least_float32

_CHUNK = 128
_BLOCK_NUMBERS = 2**19  # features of a block and head that are held at once
_LOW = -1e30  # the logarithm of no feature: finite, so that differences stay numbers
_TINY = 1e-30
#: A denominator that is a smaller share of |phi(q)| sum |phi(k)| is its rounding in float32.
ROUNDING = 8 * 2.0**-23


class LinearState(NamedTuple):
    """What a query needs of all keys before it; its size does not depend on their number.

    ``sums`` (b, h, f, e + 1) are S and, in the last column, z, of features divided by
    exp(``peak``), (b, h, f); the peak of maps that are not exponential means nothing. Monomials
    have their weights in the sums, and queries theirs without. ``lengths`` (b, h, 1) are the sum of
    |phi(k)| of signed features, and zeros for others.
    """

    sums: Any
    peak: Any
    lengths: Any


def empty_state(batch: Any, heads: int, features: int, values: int, dtype: Any) -> LinearState:
    """The state before any key."""
    return LinearState(
        ops.zeros((batch, heads, features, values + 1), dtype=dtype),
        ops.full((batch, heads, features), _LOW, dtype=dtype),
        ops.zeros((batch, heads, 1), dtype=dtype),
    )


def linear_attention(
    query: Any,
    key: Any,
    value: Any,
    feature_map: FeatureMap,
    frequencies: Any = None,
    *,
    key_mask: Any = None,
    causal: bool = False,
    prefix: Any = None,
    state: LinearState | None = None,
) -> tuple[Any, LinearState]:
    """Attend.

    Args:
        query: (b, n, h, d), scaled.
        key: (b, m, h, d), scaled.
        value: (b, m, h, e).
        feature_map: phi.
        frequencies: (f, d), of a random map.
        key_mask: (b, m), True for real keys; others add nothing to any sum.
        causal: query i sees keys up to i alone (n and m are equal).
        prefix: (b, n) booleans, True in a first part of each row that sees itself whole, whatever
            comes after it; with ``causal`` only.
        state: of earlier keys, which all queries see; with ``causal``.

    Returns:
        The output (b, n, h, e) in the values' dtype, zeros where a query sees no key, and the
        state after all keys.
    """
    dtype = value.dtype
    phi = _Phi(feature_map, frequencies)
    query, key, value = _by_head(query, key, value, key_mask)
    if state is None:
        b, h = ops.shape(key)[:2]
        state = empty_state(b, h, feature_map.size(key.shape[-1]), value.shape[-1] - 1, key.dtype)
    if causal:
        output, last = _causal(phi, query, key, value, state)
        if prefix is not None:
            output = _with_prefix(phi, query, key, value, state, prefix, output)
    else:
        last = _gather(phi, key, value, state)
        output = _read(phi, query, last)
    return ops.cast(ops.transpose(output, (0, 2, 1, 3)), dtype), last


def linear_step(
    query: Any,
    key: Any,
    value: Any,
    feature_map: FeatureMap,
    frequencies: Any,
    state: LinearState,
    key_mask: Any = None,
) -> tuple[Any, LinearState]:
    """The recurrent form: a few keys join the state, and then the queries read it.

    Args:
        query: (b, n, h, d), scaled; each sees everything in the new state.
        key: (b, m, h, d), scaled; few, since their features are held at once.
        value: (b, m, h, e).
        feature_map: phi.
        frequencies: (f, d), of a random map.
        state: of all keys before.
        key_mask: (b, m) booleans, False where a new token is padding; None where none is.

    Returns:
        The output (b, n, h, e) and the new state.
    """
    dtype = value.dtype
    phi = _Phi(feature_map, frequencies)
    query, key, value = _by_head(query, key, value, key_mask)
    state = _add(phi, state, key, value)
    output = _read_block(phi, query, state)
    return ops.cast(ops.transpose(output, (0, 2, 1, 3)), dtype), state


class _Phi(NamedTuple):
    """A feature map with its frequencies, kept from overflowing by the peak of the keys."""

    map: FeatureMap
    frequencies: Any

    def keys(self, key: Any, value: Any, peak: Any) -> tuple[Any, Any]:
        """Features (b, h, m, f) of keys and the new peak (b, h, f).

        Those of a padded key are numbers of which nothing is asked: its values are zeros.
        """
        if self.map.polynomial:
            return self.map.monomials(key), peak
        if not self.map.exponential:
            return self.map.expand(key, self.frequencies), peak
        logs = self.map.log_keys(key, self.frequencies, _real(value), _LOW)
        peak = ops.maximum(peak, ops.max(ops.stop_gradient(logs), axis=2))
        return ops.exp(logs - peak[:, :, None]), peak

    def queries(self, query: Any, peak: Any) -> Any:
        """Features (b, h, n, f) of queries, each times exp(peak) / its row's largest."""
        if self.map.polynomial:
            return self.map.monomials(query)
        if not self.map.exponential:
            return self.map.expand(query, self.frequencies)
        logs = self.map.log_queries(query, self.frequencies)
        if not self.map.by_feature:
            logs = logs + peak[:, :, None]
        highest = ops.stop_gradient(ops.max(logs, axis=-1, keepdims=True))
        features = ops.exp(logs - highest)
        if self.map.by_feature:
            features = features / ops.sum(features, axis=-1, keepdims=True)
        return features

    def sums(self, features: Any, value: Any, d: int) -> Any:
        """Sums (..., f, e + 1) over the keys of their features times their values.

        d is the size of a key.
        """
        sums = ops.matmul(ops.swapaxes(features, -1, -2), value)
        if self.map.polynomial:
            # Here and not on the features: these are fewer numbers.
            weights = self.map.weights(d)
            sums = sums * ops.convert_to_tensor(weights[:, None], dtype=sums.dtype)
        return sums

    def triangle(self, query: Any, key: Any, asked: Any, features: Any) -> Any:
        """The kernel (..., n, n) of a chunk's queries and keys, never negative."""
        if self.map.polynomial:
            return self.map.kernel(query, key)
        weights = ops.matmul(asked, ops.swapaxes(features, -1, -2))
        return ops.relu(weights) if self.map.signed else weights

    def lengths(self, key: Any, value: Any) -> Any:
        """|phi| of each key, (..., 1), of signed features; nothing trains by them."""
        return ops.where(_real(value), self.map.lengths(ops.stop_gradient(key)), 0.0)

    def least(self, query: Any, lengths: Any) -> Any:
        """What a denominator has to reach: the queries, and the sum of |phi| of the keys."""
        if not self.map.signed:
            return _TINY
        asked = self.map.lengths(ops.stop_gradient(query))
        return ops.maximum(ROUNDING * asked * lengths, _TINY)

    def block(self, key: Any) -> int:
        """How many tokens' features are held at once: a multiple of the chunk."""
        held = _BLOCK_NUMBERS // self.map.size(key.shape[-1])
        return max(1, held // _CHUNK) * _CHUNK


def _by_head(query: Any, key: Any, value: Any, key_mask: Any) -> tuple[Any, Any, Any]:
    """(b, h, n, d) each, values with a column of ones; of a padded key all are zeros."""
    query, key, value = (
        ops.transpose(at_least_float32(x), (0, 2, 1, 3)) for x in (query, key, value)
    )
    value = ops.concatenate([value, ops.ones_like(value[..., :1])], axis=-1)  # (b, h, m, e + 1)
    if key_mask is None:
        return query, key, value
    real = ops.cast(key_mask, "bool")[:, None, :, None]
    # Not a product: what stands in padding may be infinite.
    return query, ops.where(real, key, 0.0), ops.where(real, value, 0.0)


def _real(value: Any) -> Any:
    """Booleans (..., m, 1): the column of ones is zero where a key is padding."""
    return value[..., -1:] > 0


def _add(phi: _Phi, state: LinearState, key: Any, value: Any) -> LinearState:
    """The state after a block of keys."""
    features, peak = phi.keys(key, value, state.peak)
    new = phi.sums(features, value, key.shape[-1])  # (b, h, f, e + 1)
    lengths = state.lengths
    if phi.map.signed:
        lengths = lengths + ops.sum(phi.lengths(key, value), axis=2)
    return LinearState(_rescaled(phi, state, peak) + new, peak, lengths)


def _rescaled(phi: _Phi, state: LinearState, peak: Any) -> Any:
    if not phi.map.exponential:
        return state.sums
    return state.sums * ops.exp(state.peak - peak)[..., None]


def _read_block(phi: _Phi, query: Any, state: LinearState) -> Any:
    """What queries that see the whole state give: (b, h, n, e)."""
    features = phi.queries(query, state.peak)
    if phi.map.by_feature:
        return _divided_by_feature(features, state.sums[..., -1][:, :, None]) @ state.sums[..., :-1]
    least = phi.least(query, state.lengths[:, :, None])
    return _divided(ops.matmul(features, state.sums), least)


def _divided(mixed: Any, least: Any) -> Any:
    """(..., e + 1), the last column being the weights' sum, to (..., e)."""
    return mixed[..., :-1] / ops.maximum(mixed[..., -1:], least)


def _divided_by_feature(features: Any, totals: Any) -> Any:
    return features / ops.maximum(totals, _TINY)


def _causal_block(
    phi: _Phi, query: Any, key: Any, value: Any, state: LinearState, chunk: Any
) -> tuple[Any, LinearState]:
    """A block of whole chunks: the output (b, h, n, e) and the state after it."""
    features, peak = phi.keys(key, value, state.peak)
    sums = _rescaled(phi, state, peak)
    asked = phi.queries(query, peak)
    b, h, n = ops.shape(value)[:3]
    f, e = features.shape[-1], value.shape[-1]
    count = n // chunk

    def chunks(x: Any) -> Any:
        return ops.reshape(x, (b, h, count, chunk, x.shape[-1]))

    query, key, value, features, asked = map(chunks, (query, key, value, features, asked))
    own = phi.sums(features, value, key.shape[-1])  # (b, h, count, f, e + 1)
    one = isinstance(count, int) and count == 1
    # Sums over earlier chunks as a product: cumsum less the own chunk would cancel digits.
    earlier = ops.cast(_below(count, strictly=True), own.dtype)
    before = sums[:, :, None]
    if not one:
        of_block = ops.matmul(earlier, ops.reshape(own, (b, h, count, f * e)))
        before = before + ops.reshape(of_block, (b, h, count, f, e))
    lower = _below(chunk)
    if phi.map.by_feature:
        totals = before[..., -1][..., None, :] + ops.matmul(
            ops.cast(lower, features.dtype), features
        )
        asked = _divided_by_feature(asked, totals)
    weights = ops.where(lower, phi.triangle(query, key, asked, features), 0.0)
    lengths, least = state.lengths, _TINY
    if phi.map.signed:
        each = ops.sum(phi.lengths(key, value), axis=3)  # (b, h, count, 1)
        before_each = state.lengths[:, :, None] + ops.matmul(earlier, each)
        least = phi.least(query, before_each[:, :, :, None])
        lengths = lengths + ops.sum(each, axis=2)
    mixed = ops.matmul(asked, before) + ops.matmul(weights, value)
    output = mixed[..., :-1] if phi.map.by_feature else _divided(mixed, least)
    last = LinearState(sums + (own[:, :, 0] if one else ops.sum(own, axis=2)), peak, lengths)
    return ops.reshape(output, (b, h, n, e - 1)), last


def _with_prefix(
    phi: _Phi, query: Any, key: Any, value: Any, state: LinearState, prefix: Any, output: Any
) -> Any:
    """The causal output, with that of a prefix's queries over the whole prefix put in."""
    inside = ops.cast(prefix, "bool")[:, None, :, None]  # (b, 1, n, 1)

    def whole() -> Any:
        held = _gather(phi, key, ops.where(inside, value, 0.0), state)
        return ops.where(inside, _read(phi, query, held), output)

    # A prefix of one token, as every language model has it, is causal already.
    longer = ops.any(inside[:, :, 1:]) if inside.shape[2] != 1 else False
    return output if longer is False else ops.cond(longer, whole, lambda: output)


def _below(n: Any, strictly: bool = False) -> Any:
    """Booleans (n, n), True below the diagonal and, unless strictly, on it."""
    places = ops.arange(n)
    if strictly:
        return places[None, :] < places[:, None]
    return places[None, :] <= places[:, None]


def _gather(phi: _Phi, key: Any, value: Any, state: LinearState) -> LinearState:
    """The state after all keys, block by block."""
    n, size = ops.shape(key)[2], phi.block(key)
    if isinstance(n, int) and n <= size:
        return _add(phi, state, key, value)
    together, parts = joined(key, value)

    def body(carry: Any, block: Any) -> tuple[Any, Any]:
        after = tuple(_add(phi, LinearState(*carry), *parts(block)))
        return after, after

    carry, _ = ops.scan(body, tuple(state), in_blocks(together, even(size, n)))
    return LinearState(*carry)


def _read(phi: _Phi, query: Any, state: LinearState) -> Any:
    """As :func:`_read_block`, block by block."""
    n, size = ops.shape(query)[2], phi.block(query)
    if isinstance(n, int) and n <= size:
        return _read_block(phi, query, state)
    blocks = in_blocks(query, even(size, n))
    return in_line(ops.map(lambda q: _read_block(phi, q, state), blocks), n)


def _causal(
    phi: _Phi, query: Any, key: Any, value: Any, state: LinearState
) -> tuple[Any, LinearState]:
    """As :func:`_causal_block` for any length, block by block."""
    n, size = ops.shape(query)[2], phi.block(query)
    chunk = smaller(_CHUNK, n)
    size = even(size, n, chunk)
    if isinstance(n, int) and n <= size:
        q, k, v = (_lengthened(x, size - n) for x in (query, key, value))
        output, last = _causal_block(phi, q, k, v, state, chunk)
        return output[:, :, :n], last
    together, parts = joined(query, key, value)
    blocks = in_blocks(together, size)
    b, h = ops.shape(query)[:2]

    def body(carry: Any, block: Any) -> tuple[Any, Any]:
        q, k, v = parts(block)
        output, after = _causal_block(phi, q, k, v, LinearState(*carry[1:]), chunk)
        return (output, *after), (output, *after)

    # The output is carried too, and read by nobody: on TensorFlow a scan gives what it carries.
    nothing = ops.zeros((b, h, size, value.shape[-1] - 1), dtype=value.dtype)
    (_, *carry), (outputs, *_) = ops.scan(body, (nothing, *state), blocks)
    return in_line(outputs, n), LinearState(*carry)


def _lengthened(x: Any, more: int) -> Any:
    """(b, h, n, d) with so many zeros at the end."""
    return ops.pad(x, [[0, 0], [0, 0], [0, more], [0, 0]]) if more else x
