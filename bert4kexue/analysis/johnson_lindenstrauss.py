"""The Johnson-Lindenstrauss lemma as the posts state it (kexue.fm/archives/8679 and 8706).

N vectors of any size keep their distances within a factor of 1 +- eps, squared, under a Gaussian
projection to n > 24 ln N / eps^2 dimensions, with probability (N - 1) / N at least; with 16 in
place of 24 such a projection exists. Unit vectors keep their inner products within eps at the same
n, with probability (N - 2) / N at least. All logarithms are natural.

The bounds come from P(| |u|^2 - 1 | >= eps) <= 2 exp(-eps^2 n / 8) for u of n numbers N(0, 1/n),
and twice that for an inner product. `exact_failure` is that probability itself.
"""

from __future__ import annotations

import math
from typing import Literal

from bert4kexue.analysis.chi_square import inner_product_failure, norm_failure

What = Literal["norms", "distances", "inner products"]


def jl_dim(vectors: int, eps: float, constant: float = 24) -> int:
    """The smallest whole n above constant ln N / eps^2.

    Args:
        vectors: N, 2 or more.
        eps: distortion of squared distances, or of inner products of unit vectors; in (0, 1).
        constant: 24 for probability (N - 1) / N, 16 for existence.

    Raises:
        ValueError: N below 2, eps outside (0, 1), or a constant that is not positive.

    Example:
        >>> jl_dim(100, 0.5)
        443
    """
    _check(vectors, eps)
    if not constant > 0:
        raise ValueError(f"the constant must be above 0 (24, or 16 for existence), got {constant}")
    return math.floor(constant * math.log(vectors) / eps**2) + 1


def jl_failure_bound(vectors: int, n: int, eps: float, what: What = "distances") -> float:
    """The post's bound on the probability that any of them fails, 1 at most.

    Args:
        vectors: N.
        n: dimensions.
        eps: in (0, 1).
        what: "norms" of N vectors, 2 N e; "distances" of all pairs, N (N - 1) e; "inner products"
            of all pairs of unit vectors, 2 N (N - 1) e; with e = exp(-eps^2 n / 8).
    """
    _check(vectors, eps, least=1 if what == "norms" else 2)
    _check_dimensions(n)
    one = math.exp(-(eps**2) * n / 8)
    return min(1.0, _count(vectors, what) * (4 if what == "inner products" else 2) * one)


def exact_failure(n: int, eps: float, what: What = "distances", cosine: float = 0.0) -> float:
    """The probability itself that one norm, distance or inner product fails.

    Args:
        n: dimensions.
        eps: in (0, 1).
        what: a norm or a distance is a chi-square tail; an inner product of unit vectors is one of
            a difference of two.
        cosine: of the two vectors, for "inner products".
    """
    _check(2, eps)
    _check_dimensions(n)
    _count(2, what)
    if not -1 <= cosine <= 1:
        raise ValueError(f"a cosine lies in [-1, 1], got {cosine}")
    if what == "inner products":
        return inner_product_failure(n, eps, cosine)
    return norm_failure(n, eps)


def exact_dim(vectors: int, eps: float, probability: float, what: What = "distances") -> int:
    """The smallest n at which the union of exact failures stays within `probability`.

    What the bound would give without the slack of Chernoff's inequality; for inner products the
    vectors count as orthogonal.
    """
    _check(vectors, eps, least=1 if what == "norms" else 2)
    if not 0 < probability < 1:
        raise ValueError(f"probability must lie in (0, 1), got {probability}")
    count = _count(vectors, what)
    low, high = 0, 1
    while count * exact_failure(high, eps, what) > probability:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if count * exact_failure(middle, eps, what) > probability:
            low = middle
        else:
            high = middle
    return high


def head_size_rule(length: float) -> float:
    """8.33 ln L: the post's size of an attention head that can tell L positions apart.

    For L = 512 that is 51.97, beside BERT's 64; for a vocabulary it is the size of word vectors.
    """
    if not length >= 2:
        raise ValueError(f"a sequence to tell apart has 2 positions or more, got {length}")
    return 8.33 * math.log(length)


def _count(vectors: int, what: str) -> float:
    if what == "norms":
        return vectors
    if what in ("distances", "inner products"):
        return vectors * (vectors - 1) / 2
    raise ValueError(f"what must be norms, distances or inner products, got {what!r}")


def _check(vectors: int, eps: float, least: int = 2) -> None:
    if not vectors >= least:
        raise ValueError(f"the lemma is about {least} or more vectors, got {vectors}")
    if not 0 < eps < 1:
        raise ValueError(
            f"eps must lie in (0, 1), got {eps}: 0.5 keeps squared distances to a half"
        )


def _check_dimensions(n: int) -> None:
    if not n >= 1:
        raise ValueError(f"a projection has 1 dimension or more, got {n}")
