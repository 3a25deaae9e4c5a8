"""Feature maps: functions phi with phi(q) . phi(k) in place of exp(q . k).

Linear attention (kexue.fm/archives/7546) needs a kernel that is an inner product of features. Which
one, a :class:`FeatureMap` says; q and k are the scaled queries and keys.

| kind       | kernel                              | m, for d channels       |
|------------|-------------------------------------|-------------------------|
| elu1       | (elu(q) + 1) . (elu(k) + 1)         | d                       |
| exp        | exp(q) . exp(k)                     | d                       |
| dsoftmax   | softmax(q) . exp(k), each feature   | d                       |
|            | normalized over the keys by itself  |                         |
| cos1       | 1 + cos(q, k)                       | d + 1                   |
| performer  | exp(q . k), in expectation          | features                |
| taylor     | sum over i <= order of (q . k)^i/i! | C(d + order, order)     |
| limit      | (1 + q . k / order)^order           | C(d + order, order)     |

Sources: elu1 Katharopoulos et al. 2020; exp kexue.fm/archives/8338; dsoftmax Shen et al. 2018; cos1
kexue.fm/archives/7546; performer Choromanski et al. 2020 (positive orthogonal random features);
taylor and limit kexue.fm/archives/8601. The last two are tensor powers of q, of which equal entries
are merged: x1 x2 and x2 x1 are one feature with the weight sqrt(2). So m is C(d + n, n) and not the
(d^(n+1) - 1) / (d - 1) or (d + 1)^n of the powers themselves, and the kernel is the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from bert4kexue.ops.monomials import monomial_weights, monomials

#: More features than this are refused: a state of m x d numbers a head would dwarf its inputs.
MAX_FEATURES = 16384


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
    """How a kind computes.

    ``expand(map, x, frequencies)`` gives features (..., m) of x (..., d), or their logarithms when
    ``exponential``. ``kernel(map, q, k)`` is the closed form (..., n, m) of q (..., n, d) and k;
    ``polynomial(map, x)`` the same where it is a polynomial of x = q . k alone. ``signed`` features
    may be negative, though no kernel is.
    """

    size: Callable[[FeatureMap, int], int]
    expand: Callable[[FeatureMap, Any, Any], Any]
    kernel: Callable[[FeatureMap, Any, Any], Any]
    exponential: bool = False
    polynomial: Callable[[FeatureMap, Any], Any] | None = None
    signed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """A feature map; see the module for the kinds.

    Args:
        kind: one of :data:`KINDS`.
        order: n of taylor and limit: even and positive, 2 when None. An odd polynomial is negative
            for some q . k, and then nothing keeps a row's weights from summing to zero.
        features: m of performer; int(d ln d) when None.
        orthogonal: whether performer's directions are orthogonal in blocks of d.
        seed: of performer's frequencies; None takes another one each time.

    Raises:
        ValueError: an unknown kind, an odd order, an option that the kind does not have.
    """

    kind: str
    order: int | None = None
    features: int | None = None
    orthogonal: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"feature map {self.kind!r} is unknown: choose one of {sorted(KINDS)}")
        if not self.polynomial:
            if self.order is not None:
                raise ValueError(
                    f"feature map {self.kind!r} has no order (got {self.order!r}): leave it out, "
                    "or choose 'taylor' or 'limit'"
                )
        else:
            order = 2 if self.order is None else self.order
            if isinstance(order, bool) or not isinstance(order, int) or order < 2 or order % 2:
                raise ValueError(
                    f"order={order!r} of the feature map {self.kind!r} must be an even integer, 2 "
                    "or more: an odd polynomial is negative somewhere, and rows of weights may "
                    "then sum to zero"
                )
            object.__setattr__(self, "order", order)
        if not self.random:
            given = {"features": self.features, "seed": self.seed}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(
                        f"feature map {self.kind!r} has no {name} (got {value!r}): only "
                        "'performer' is random"
                    )
        elif self.features is not None and (
            isinstance(self.features, bool)
            or not isinstance(self.features, int)
            or not 1 <= self.features <= MAX_FEATURES
        ):
            raise ValueError(
                f"features={self.features!r} must be an integer from 1 to {MAX_FEATURES}"
            )

    @property
    def random(self) -> bool:
        """Whether the map has frequencies, to be drawn once and kept."""
        return self.kind == "performer"

    @property
    def exponential(self) -> bool:
        """Whether :meth:`expand` gives logarithms of features."""
        return KINDS[self.kind].exponential

    @property
    def signed(self) -> bool:
        """Whether features may be negative, so that they cancel in a row's sum of weights."""
        return KINDS[self.kind].signed

    @property
    def polynomial(self) -> bool:
        """Whether the kernel is a polynomial of q . k, and the features are monomials."""
        return KINDS[self.kind].polynomial is not None

    @property
    def by_feature(self) -> bool:
        """Whether each feature is normalized over the keys by itself, and not each row."""
        return self.kind == "dsoftmax"

    def size(self, d: int) -> int:
        """m, the number of features of d channels.

        Raises:
            ValueError: it is above :data:`MAX_FEATURES`.
        """
        m = KINDS[self.kind].size(self, d)
        if m > MAX_FEATURES:
            raise ValueError(
                f"feature map {self.kind!r} of order {self.order} makes {m:,} features of {d} "
                f"channels, and {MAX_FEATURES:,} are the most: use a lower order, smaller heads, "
                "or 'performer'"
            )
        return m

    def expand(self, x: Any, frequencies: Any = None) -> Any:
        """Features (..., m) of x (..., d), or their logarithms for an exponential map.

        ``frequencies`` (m, d) are performer's.
        """
        return KINDS[self.kind].expand(self, x, frequencies)

    def log_keys(self, key: Any, frequencies: Any, real: Any, low: float) -> Any:
        """As :meth:`expand` of an exponential map, and ``low`` where ``real`` (..., 1) is False.

        What depends on the token alone goes into the product with performer's frequencies as one
        more channel: no pass over the features.
        """
        if not self.random:
            return ops.where(real, key, low)
        constant = ops.where(real, self._constant(key), low)
        key = ops.concatenate([ops.where(real, key, 0.0), constant], axis=-1)
        rows = ops.cast(frequencies, key.dtype)
        return _product(key, ops.concatenate([rows, ops.ones_like(rows[:, :1])], axis=-1))

    def log_queries(self, query: Any, frequencies: Any) -> Any:
        """As :meth:`expand` of an exponential map, but for a constant of each token.

        It cancels wherever a row of weights is normalized.
        """
        return _product(query, ops.cast(frequencies, query.dtype)) if self.random else query

    def monomials(self, x: Any) -> Any:
        """Features (..., m) of a polynomial map without the weights of :meth:`weights`."""
        return monomials(x, self.order or 2)

    def weights(self, d: int) -> np.ndarray:
        """Weights (m,) with which products of :meth:`monomials` add up to the kernel."""
        return monomial_weights(d, _degrees(self))

    def lengths(self, x: Any) -> Any:
        """Lengths (..., 1) of the features of x (..., d): the root of the kernel of x and itself.

        Raises:
            ValueError: the map is not signed; nothing asks for the lengths of others.
        """
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        polynomial = KINDS[self.kind].polynomial
        if polynomial is not None:
            return ops.sqrt(polynomial(self, squares))
        if not self.signed:
            raise ValueError(f"feature map {self.kind!r} has no signed features")
        return ops.sqrt(1.0 + ops.cast(squares > 0, x.dtype))  # 1 and a unit vector

    def _constant(self, x: Any) -> Any:
        """What a token adds to the logarithm of each of performer's features."""
        m = self.size(x.shape[-1])
        return -ops.sum(ops.square(x), axis=-1, keepdims=True) / 2 - math.log(m) / 2

    def kernel(self, query: Any, key: Any) -> Any:
        """The kernel itself, (..., n, m) for queries (..., n, d) and keys (..., m, d).

        Of performer it is what the features give in expectation; of dsoftmax what they give before
        each feature is normalized over the keys.
        """
        return KINDS[self.kind].kernel(self, query, key)

    def draw(self, d: int, seed: int | None = None) -> np.ndarray:
        """Frequencies (m, d): standard normal rows, in blocks of d orthogonal to each other.

        Orthogonal rows keep the lengths of normal ones, so each row by itself is N(0, I) and the
        kernel stays unbiased.
        """
        random = np.random.RandomState(self.seed if seed is None else seed)
        m = self.size(d)
        normal = random.normal(size=(-(-m // d) * d, d))
        if self.orthogonal:
            directions = [np.linalg.qr(block.T)[0].T for block in normal.reshape(-1, d, d)]
            # Lengths of other normal vectors: those of the same rows would depend on directions.
            lengths = np.linalg.norm(random.normal(size=normal.shape), axis=1)
            signs = random.choice([-1.0, 1.0], size=len(normal))  # QR fixes a sign of each row
            normal = np.concatenate(directions) * (lengths * signs)[:, None]
        return normal[:m].astype("float32")

    def get_config(self) -> dict[str, Any]:
        """The arguments that are not defaults; :func:`feature_map` takes them."""
        fields = dataclasses.fields(self)
        given = {f.name: getattr(self, f.name) for f in fields if f.name != "kind"}
        defaults = {f.name: f.default for f in fields if f.name != "kind"}
        return {"kind": self.kind} | {k: v for k, v in given.items() if v != defaults[k]}


def feature_map(spec: str | Mapping[str, Any] | FeatureMap) -> FeatureMap:
    """A feature map of its name, of a mapping of its arguments, or itself.

    Raises:
        ValueError: what the spec asks for does not exist.

    Example::

        feature_map({"kind": "performer", "features": 256, "seed": 0})
    """
    if isinstance(spec, FeatureMap):
        return spec
    if isinstance(spec, str):
        return FeatureMap(kind=spec)
    if isinstance(spec, Mapping):
        known = [f.name for f in dataclasses.fields(FeatureMap)]
        unknown = sorted(set(spec) - set(known))
        if unknown or "kind" not in spec:
            raise ValueError(
                f"a feature map is given by 'kind' and some of {known[1:]}, not {dict(spec)!r}"
            )
        return FeatureMap(**spec)
    raise ValueError(
        f"feature_map={spec!r} must be one of {sorted(KINDS)}, a mapping with 'kind', or a "
        "FeatureMap"
    )


# --- elementwise maps ---------------------------------------------------------------------------


def _product(a: Any, b: Any) -> Any:
    """Inner products of the rows: (..., n, m)."""
    return ops.matmul(a, ops.swapaxes(b, -1, -2))


def _elu1(fmap: FeatureMap, x: Any, _: Any) -> Any:
    # elu(x) + 1, without losing exp(x) beside the 1 it is added to.
    return ops.where(x > 0, x + 1.0, ops.exp(ops.minimum(x, 0.0)))


def _softmax(x: Any) -> Any:
    e = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
    return e / ops.sum(e, axis=-1, keepdims=True)


def _unit(x: Any) -> Any:
    # A vector of zeros has no direction: it stays zeros and its cosines are 0.
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-24))


def _with_one(fmap: FeatureMap, x: Any, _: Any) -> Any:
    return ops.concatenate([ops.ones_like(x[..., :1]), _unit(x)], axis=-1)


# --- random features ----------------------------------------------------------------------------


def _performer(fmap: FeatureMap, x: Any, frequencies: Any) -> Any:
    """log phi_r(x) = w_r . x - |x|^2 / 2 - ln(m) / 2."""
    return fmap.log_queries(x, frequencies) + fmap._constant(x)


# --- polynomials --------------------------------------------------------------------------------


def _degrees(fmap: FeatureMap) -> list[float]:
    """Coefficients c_i of the kernel's sum over i of c_i (q . k)^i, times i!."""
    n = fmap.order or 2
    if fmap.kind == "taylor":
        return [1.0] * (n + 1)
    return [math.perm(n, i) / n**i for i in range(n + 1)]  # C(n, i) / n^i * i!


def _weighted_monomials(fmap: FeatureMap, x: Any, _: Any) -> Any:
    roots = np.sqrt(fmap.weights(x.shape[-1]))
    return fmap.monomials(x) * ops.convert_to_tensor(roots, dtype=x.dtype)


def _taylor(fmap: FeatureMap, x: Any) -> Any:
    total = ops.ones_like(x)
    for i in range(fmap.order or 2, 0, -1):
        total = 1.0 + total * x / i
    return total


def _limit(fmap: FeatureMap, x: Any) -> Any:
    n = fmap.order or 2
    return (1.0 + x / n) ** n


def _combinations(fmap: FeatureMap, d: int) -> int:
    n = fmap.order or 2
    return math.comb(d + n, n)


KINDS: dict[str, _Kind] = {
    "elu1": _Kind(
        size=lambda fmap, d: d,
        expand=_elu1,
        kernel=lambda fmap, q, k: _product(_elu1(fmap, q, None), _elu1(fmap, k, None)),
    ),
    "exp": _Kind(
        size=lambda fmap, d: d,
        expand=lambda fmap, x, _: x,
        kernel=lambda fmap, q, k: _product(ops.exp(q), ops.exp(k)),
        exponential=True,
    ),
    "dsoftmax": _Kind(
        size=lambda fmap, d: d,
        expand=lambda fmap, x, _: x,
        kernel=lambda fmap, q, k: _product(_softmax(q), ops.exp(k)),
        exponential=True,
    ),
    "cos1": _Kind(
        size=lambda fmap, d: d + 1,
        expand=_with_one,
        kernel=lambda fmap, q, k: 1.0 + _product(_unit(q), _unit(k)),
        signed=True,
    ),
    "performer": _Kind(
        size=lambda fmap, d: fmap.features or max(1, int(d * math.log(d))),
        expand=_performer,
        kernel=lambda fmap, q, k: ops.exp(_product(q, k)),
        exponential=True,
    ),
    "taylor": _Kind(
        size=_combinations,
        expand=_weighted_monomials,
        kernel=lambda fmap, q, k: _taylor(fmap, _product(q, k)),
        polynomial=_taylor,
        signed=True,
    ),
    "limit": _Kind(
        size=_combinations,
        expand=_weighted_monomials,
        kernel=lambda fmap, q, k: _limit(fmap, _product(q, k)),
        polynomial=_limit,
        signed=True,
    ),
}
