"""How positions enter attention: functions looked up by name.

A new kind of position is an entry in ``POSITION_BIASES`` and no new branch in the layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bert4kexue.ops.positions import apply_rotary_position_embeddings


class PositionBias(NamedTuple):
    """How a position tensor enters attention.

    ``rotate(tensor, query, key) -> (query, key)`` acts before the product, ``add(tensor, scores,
    query)`` on the scores, ``output(tensor, weights, mixed)`` on the weighted sum.
    """

    rotate: Callable[[Any, Any, Any], tuple[Any, Any]] = lambda tensor, query, key: (query, key)
    add: Callable[[Any, Any, Any], Any] = lambda tensor, scores, query: scores
    output: Callable[[Any, Any, Any], Any] = lambda tensor, weights, mixed: mixed

    @property
    def only_rotates(self) -> bool:
        """Whether the positions are all in the queries and keys once these are rotated."""
        return self[1:] == NO_POSITIONS[1:]


NO_POSITIONS = PositionBias()


def _rotary(tensor: Any, query: Any, key: Any) -> tuple[Any, Any]:
    n = query.shape[1]
    if n is None or n == key.shape[1]:
        query, key = apply_rotary_position_embeddings(tensor, query, key)
        return query, key
    # Fewer queries than keys are the first ones.
    query = apply_rotary_position_embeddings(tensor[:, :n], query)
    return query, apply_rotary_position_embeddings(tensor, key)


POSITION_BIASES: dict[str | None, PositionBias] = {
    None: NO_POSITIONS,
    "rotary": PositionBias(rotate=_rotary),
}


def find_position_bias(name: str | None) -> PositionBias:
    """The entry of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in POSITION_BIASES:
        known = sorted(n for n in POSITION_BIASES if n)
        raise ValueError(f"p_bias={name!r} is unknown: choose None or one of {known}")
    return POSITION_BIASES[name]
