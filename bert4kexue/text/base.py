"""What every tokenizer does once it can cut text into tokens: frame, truncate, number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal


class TokenizerBase:
    """Frames token lists with start and end tokens, truncates them and turns them into ids.

    A subclass defines `_tokenize`, `token_to_id`, `id_to_token` and `decode`.

    Args:
        token_start: put before every text; None for nothing.
        token_end: put after every text; None for nothing.
        pre_tokenize: cuts a text into pieces (words) before the tokenizer proper sees it.
        token_translate: {token of the text: token to use instead}.
    """

    def __init__(
        self,
        token_start: str | None = "[CLS]",
        token_end: str | None = "[SEP]",
        pre_tokenize: Callable[[str], Iterable[str]] | None = None,
        token_translate: Mapping[str, str] | None = None,
    ) -> None:
        self._token_pad = "[PAD]"
        self._token_unk = "[UNK]"
        self._token_mask = "[MASK]"
        self._token_start = token_start
        self._token_end = token_end
        self._pre_tokenize = pre_tokenize
        self._token_translate = dict(token_translate or {})
        self._token_translate_inv = {new: old for old, new in self._token_translate.items()}

    def tokenize(self, text: str, maxlen: int | None = None) -> list[str]:
        """The text's tokens with start and end token, at most `maxlen` of them.

        A word that the vocabulary cannot spell stays as it is; only `token_to_id` makes it [UNK].
        """
        if not isinstance(text, str):
            raise ValueError(f"tokenize takes a string, not {type(text).__name__}: {text!r:.80}")
        translate = self._token_translate
        tokens = self._tokenize(text)
        if translate:
            tokens = [translate.get(token) or token for token in tokens]
        if self._token_start is not None:
            tokens = [self._token_start, *tokens]
        if self._token_end is not None:
            tokens = [*tokens, self._token_end]
        if maxlen is not None:
            tokens = truncate(maxlen, self._truncation_index("right"), tokens)[0]
        return tokens

    def encode(
        self,
        first_text: str | Sequence[str],
        second_text: str | Sequence[str] | None = None,
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: Literal["left", "right"] | int = "right",
    ) -> tuple[list[int], list[int]]:
        """Token ids and segment ids of a text or of a pair of texts.

        Args:
            first_text: a string, or a list of tokens, which is taken as it is, without start and
                end tokens.
            second_text: the second text of a pair, likewise.
            maxlen: the most ids to give back. The longer of the two texts is shortened first, the
                first one where they are equally long.
            pattern: 'S*E*E' leaves out the second text's start token; any other pattern
                (conventionally 'S*ES*E') keeps it.
            truncate_from: 'right' shortens before the end token, 'left' after the start token; an
                integer is the index at which tokens are removed.

        Returns:
            Two lists of equal length; segment ids are 0 for the first text and 1 for the second.

        Raises:
            ValueError: `maxlen` leaves no room for what may not be removed, `truncate_from` is
                unknown, or the vocabulary has no [UNK] and needs one.
        """
        first, second = self._encode_tokens(first_text, second_text, maxlen, pattern, truncate_from)
        token_ids = self.tokens_to_ids([*first, *second])
        return token_ids, [0] * len(first) + [1] * len(second)

    def token_to_id(self, token: str) -> int:
        """The token's id."""
        raise NotImplementedError

    def tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """The tokens' ids."""
        return [self.token_to_id(token) for token in tokens]

    def id_to_token(self, i: int) -> str:
        """The token with this id."""
        raise NotImplementedError

    def ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """The tokens with these ids."""
        return [self.id_to_token(i) for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text."""
        raise NotImplementedError

    def _tokenize(self, text: str) -> list[str]:
        raise NotImplementedError

    def _encode_tokens(
        self,
        first_text: str | Sequence[str],
        second_text: str | Sequence[str] | None = None,
        maxlen: int | None = None,
        pattern: str = "S*E*E",
        truncate_from: Literal["left", "right"] | int = "right",
    ) -> tuple[list[str], list[str]]:
        """The tokens that `encode` numbers, of the first and of the second text."""
        first = self._tokens_of(first_text)
        second = [] if second_text is None else self._tokens_of(second_text)
        drop_start = second_text is not None and pattern == "S*E*E" and bool(self._token_start)
        if maxlen is not None:
            index = self._truncation_index(truncate_from)
            # The second start token is removed afterwards, so there may be one more till then.
            first, second = truncate(maxlen + drop_start, index, first, second)
        return first, second[drop_start:]

    def _tokens_of(self, text: str | Sequence[str]) -> list[str]:
        return self.tokenize(text) if isinstance(text, str) else list(text)

    def _truncation_index(self, truncate_from: str | int) -> int:
        if truncate_from == "right":
            return -1 if self._token_end is None else -2
        if truncate_from == "left":
            return 0 if self._token_start is None else 1
        if isinstance(truncate_from, str):
            raise ValueError(
                f"truncate_from must be 'right', 'left' or an integer index, not {truncate_from!r}"
            )
        return truncate_from


def truncate(maxlen: int, index: int, *sequences: list[str]) -> list[list[str]]:
    """One or two lists, shortened by removing at `index` from the longer (first of equals).

    The result is that of removing one element at a time until the total is `maxlen`; the lists
    given are not changed.
    """
    lengths = [len(s) for s in sequences]
    if sum(lengths) <= maxlen:
        return list(sequences)
    targets = truncated_lengths(maxlen, *lengths)[: len(lengths)]
    least = index if index >= 0 else -index - 1  # what must remain for the index to exist
    for length, target in zip(lengths, targets, strict=True):
        if target < min(least, length) or target < 0:
            raise ValueError(
                f"maxlen={maxlen} is too small: it leaves {target} of {length} tokens, and "
                f"removing at index {index} needs at least {least} left; give a larger maxlen"
            )
    return [
        remove_at(s, index, length - target)
        for s, length, target in zip(sequences, lengths, targets, strict=True)
    ]


def truncated_lengths(maxlen: int, first: int, second: int = 0) -> tuple[int, int]:
    """Lengths of two texts, too long together, after the longer was shortened step by step."""
    kept = min(first, max(maxlen // 2, maxlen - second))
    return kept, maxlen - kept


def remove_at(tokens: list[str], index: int, count: int) -> list[str]:
    """What `count` calls of `tokens.pop(index)` leave."""
    if count == 0:
        return tokens
    if index >= 0:
        return tokens[:index] + tokens[index + count :]
    stop = len(tokens) + index + 1
    return tokens[: stop - count] + tokens[stop:]
