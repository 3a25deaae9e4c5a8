"""The ids of a vocabulary that mean something to a model."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

_UNUSED = re.compile(r"\[unused\d+\]")


@dataclasses.dataclass(frozen=True)
class Special:
    """Ids that mean something to the model; all others are ordinary tokens.

    Args:
        start: [CLS].
        end: [SEP].
        mask: [MASK].
        vocabulary: number of tokens.
        apart: ids of the further tokens that stand for no text: [PAD], [UNK], [unused1], ...
    """

    start: int
    end: int
    mask: int
    vocabulary: int
    apart: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, tokenizer: Any) -> Special:
        """Those of a tokenizer, wherever its vocabulary has them."""
        roles = [getattr(tokenizer, f"_token_{role}_id", None) for role in ("pad", "unk")]
        tokens = getattr(tokenizer, "_token_dict", {})
        unused = (i for token, i in tokens.items() if _UNUSED.fullmatch(token))
        return cls(
            tokenizer._token_start_id,
            tokenizer._token_end_id,
            tokenizer._token_mask_id,
            tokenizer._vocab_size,
            tuple(sorted({0, *(i for i in roles if i is not None), *unused})),
        )

    def ordinary(self) -> np.ndarray:
        """(vocabulary,) bool, False at the special ids: what may be asked for, or drawn."""
        found = np.ones(self.vocabulary, bool)
        found[[self.start, self.end, self.mask, *self.apart]] = False
        return found
