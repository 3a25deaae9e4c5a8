"""RoFormer (kexue.fm/archives/8265) and RoFormer-Sim: BERT with rotary positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bert4kexue.models import parts
from bert4kexue.models.architecture import Architecture
from bert4kexue.models.architectures import bert

if TYPE_CHECKING:
    from bert4kexue.models.builder import Transformer

_EPSILON = 1e-7


def embed(b: Transformer, inputs: list[Any]) -> Any:
    """Tokens and segments; positions enter in the blocks."""
    return parts.finish_embeddings(b, parts.embed_tokens(b, inputs), epsilon=_EPSILON)


def block(b: Transformer, x: Any, index: int) -> Any:
    """One post-norm block with rotated queries and keys."""
    return parts.post_norm_block(b, x, index, epsilon=_EPSILON, p_bias="rotary")


ROFORMER = Architecture(
    name="roformer",
    embed=embed,
    block=block,
    head=parts.heads,
    position_bias=parts.rotary_table,
    weights=tuple(row for row in bert.WEIGHTS if row is not bert.POSITIONS),
    ignored_variables=bert.IGNORED_VARIABLES,
)
