"""The ids of a vocabulary that mean something to a model."""

from __future__ import annotations

from typing import Any, NamedTuple


class Special(NamedTuple):
    """Ids that mean something to the model, and the first one that is an ordinary token."""

    start: int
    end: int
    mask: int
    vocabulary: int
    first_ordinary: int = 5

    @classmethod
    def of(cls, tokenizer: Any) -> Special:
        """Those of a tokenizer."""
        return cls(
            tokenizer._token_start_id,
            tokenizer._token_end_id,
            tokenizer._token_mask_id,
            tokenizer._vocab_size,
        )
