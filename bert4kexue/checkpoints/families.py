"""Which family a checkpoint belongs to, told by its variables' names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable

# In the order they are tried; a pattern matches the beginning of a name.
_MARKS: tuple[tuple[str, str], ...] = (
    (r"bert/encoder/transformer/group_\d+/inner_group_", "ALBERT"),
    (r"bert/encoder/layer_shared/|bert/embeddings/word_embeddings_2", "ALBERT (early layout)"),
    (r"(encoder|decoder)/block_\d{3}/", "T5"),
    (r"model/(h\d+/attn/|wte)", "GPT-2 (OpenAI)"),
    (r"newslm/", "GPT2_ML"),
    (r"GAU_alpha/", "GAU-alpha"),
    (r"electra/", "ELECTRA"),
    (r"gpt/transformer/layer_\d+/attention/input/", "GPT2 (CPM)"),
    (r"gpt/", "GPT"),
)
_BLOCK = re.compile(r"bert/encoder/layer_\d+/attention/self/")
_LEARNED = re.compile(r"bert/encoder/layer_\d+/.*/(bias|beta|gamma)$")


def family_of(names: Iterable[str]) -> str | None:
    """Name the family that gives its variables such names; None where nothing tells.

    Args:
        names: A checkpoint's original (TensorFlow) names.

    Returns:
        'BERT', 'RoFormer or NEZHA' (both are BERT's names without a position table),
        'RoFormerV2', 'ALBERT', ... or None.

    Example:
        >>> family_of(["electra/embeddings/word_embeddings"])
        'ELECTRA'
    """
    names = list(names)
    for pattern, family in _MARKS:
        if any(re.match(pattern, name) for name in names):
            return family
    if not any(_BLOCK.match(name) for name in names):
        return None
    if not any(_LEARNED.match(name) for name in names):
        return "RoFormerV2"
    has_positions = "bert/embeddings/position_embeddings" in names
    return "BERT" if has_positions else "RoFormer or NEZHA"
