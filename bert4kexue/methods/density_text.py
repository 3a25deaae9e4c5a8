"""Short texts as rows of character ids, for the categorical decoder.

Id 0 is padding, 1 stands for every character that is not in the alphabet. Texts over a small
alphabet are coded exactly; where characters fall to id 1, the density is that of the texts with all
of these made equal, and `unknown_share` says how much of a text that is.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

PADDING, UNKNOWN = 0, 1
_SIGN_OF_UNKNOWN = "□"


@dataclasses.dataclass(frozen=True)
class CharacterCodec:
    """Characters to ids and back.

    Args:
        characters: the alphabet; the first has id 2.
        length: characters of the longest text.
    """

    characters: str
    length: int

    def __post_init__(self) -> None:
        """Refuse an alphabet that has a character twice."""
        if len(set(self.characters)) != len(self.characters) or not self.characters:
            raise ValueError("the alphabet must hold one character at least, and none twice")
        if self.length < 1:
            raise ValueError(f"length must be 1 or more, got {self.length}")

    @classmethod
    def of(cls, texts: Iterable[str], length: int | None = None, least: int = 1) -> CharacterCodec:
        """The alphabet of some texts, the most frequent first.

        Args:
            texts: what the model will be trained on.
            length: that of the longest text when None.
            least: a character seen less often is left out.
        """
        texts = list(texts)
        counts = collections.Counter(character for text in texts for character in text)
        kept = sorted((c for c, n in counts.items() if n >= least), key=lambda c: (-counts[c], c))
        return cls("".join(kept), length or max(map(len, texts), default=0))

    @property
    def vocabulary(self) -> int:
        """How many ids there are."""
        return len(self.characters) + 2

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, length) int32.

        Raises:
            ValueError: a text is longer: cut off, it would be another text's density.
        """
        if isinstance(texts, str):
            raise ValueError("encode takes a list of texts, got one string: pass [text]")
        table = {character: i for i, character in enumerate(self.characters, 2)}
        ids = np.full((len(texts), self.length), PADDING, np.int32)
        for row, text in enumerate(texts):
            if len(text) > self.length:
                raise ValueError(
                    f"text {row} has {len(text)} characters, the model takes {self.length}: split "
                    "it, or train with a greater length"
                )
            ids[row, : len(text)] = [table.get(character, UNKNOWN) for character in text]
        return ids

    def decode(self, ids: np.ndarray) -> list[str]:
        """Texts of ids (rows, length); padding is left out, wherever it is."""
        signs = "\0" + _SIGN_OF_UNKNOWN + self.characters
        return ["".join(signs[i] for i in row if i != PADDING) for row in np.asarray(ids)]

    def unknown_share(self, ids: np.ndarray) -> float:
        """The share of characters that the alphabet lacks."""
        ids = np.asarray(ids)
        return float((ids == UNKNOWN).sum() / max((ids != PADDING).sum(), 1))
