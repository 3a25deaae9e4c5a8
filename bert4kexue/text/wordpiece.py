"""BERT's tokenizer: basic splitting, then greedy longest-match WordPiece.

A text is normalised (uncased vocabularies only), each punctuation mark and each CJK character is
set apart, controls are dropped, and every word between spaces is spelled with the longest pieces of
the vocabulary, from left to right; pieces after a word's first carry '##'.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bert4kexue.text import codepoints
from bert4kexue.text.base import TokenizerBase
from bert4kexue.text.batch import Batch, BatchWithOffsets, encode_batch
from bert4kexue.text.detokenize import CJK_PUNCTUATION, join_tokens
from bert4kexue.text.scan import Scanner
from bert4kexue.text.vocab import is_redundant, load_vocab, stem

# What the scan does in the place of these methods; a subclass that replaces one is asked instead.
_SCANNED = ("tokenize", "_tokenize", "_word_piece_tokenize", "_piece_starts", "token_to_id")


class UnknownIdError(KeyError, ValueError):
    """An id that the vocabulary does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


class Tokenizer(TokenizerBase):
    """WordPiece tokenizer with bert4keras's ids.

    Args:
        token_dict: {token: id}, or the path of a vocabulary file.
        do_lower_case: lower-case and remove accents first, as uncased vocabularies want it
            (Chinese BERT vocabularies are uncased).
        word_maxlen: longer words, in characters, become [UNK].
        token_start: put before every text; None for nothing.
        token_end: put after every text; None for nothing.
        pre_tokenize: cuts the (normalised) text into pieces; those that are in the vocabulary are
            kept whole, the others are tokenized as usual. For word-based models, see
            `bert4kexue.text.segment.word_segmenter`.
        token_translate: {token of the text: token to use instead}.

    Strings such as '[MASK]' inside a text are text, not special tokens: insert those by id.

    Example:
        >>> tokenizer = Tokenizer({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "深": 3, "圳": 4})
        >>> tokenizer.encode("深圳")
        ([1, 3, 4, 2], [0, 0, 0, 0])
    """

    def __init__(
        self,
        token_dict: Mapping[str, int] | str | os.PathLike[str],
        do_lower_case: bool = False,
        word_maxlen: int = 200,
        token_start: str | None = "[CLS]",
        token_end: str | None = "[SEP]",
        pre_tokenize: Callable[[str], Iterable[str]] | None = None,
        token_translate: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(token_start, token_end, pre_tokenize, token_translate)
        if isinstance(token_dict, str | os.PathLike):
            token_dict = load_vocab(token_dict)
        self._do_lower_case = do_lower_case
        self._token_dict = token_dict
        self._token_dict_inv = {i: token for token, i in token_dict.items()}
        self._vocab_size = len(token_dict)
        self._word_maxlen = word_maxlen
        for role in ("pad", "unk", "mask", "start", "end"):
            token = getattr(self, f"_token_{role}")
            if token in token_dict:
                setattr(self, f"_token_{role}_id", token_dict[token])
        self._longest = max(map(len, token_dict), default=0)
        self._folding = codepoints.Folding() if do_lower_case else None
        self._spacing = _Spacing()
        self._scanner = Scanner(token_dict, self._folding, word_maxlen)

    def __getattr__(self, name: str) -> Any:
        # Reached only where an attribute is absent: ids of special tokens are set only if known.
        if name.startswith("_token_") and name.endswith("_id"):
            token = self.__dict__.get(name.removesuffix("_id"))
            raise AttributeError(
                f"{name} does not exist: the vocabulary has no {token!r}; add the token to it, or "
                f"set the attribute to the id that plays its part"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def encode_batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        maxlen: int | None = None,
        pad_to: int | None = None,
        return_offsets: bool = False,
    ) -> Batch | BatchWithOffsets:
        """Encode many texts, or pairs of texts, at once: the ids of `encode`, padded with 0.

        Row i equals `encode(texts[i], pairs[i], maxlen=maxlen)`, many times faster.

        Args:
            texts: b strings.
            pairs: None, or b second texts.
            maxlen: the most tokens of a row, as in `encode`.
            pad_to: the width n of the result; None for that of the longest row.
            return_offsets: also say where in its own text each token lies.

        Returns:
            A named tuple of `token_ids` and `segment_ids`, int32 (b, n), and with return_offsets
            `offsets`, int32 (b, n, 2): the first character and one past the last one of those that
            `rematch` lists; 0, 0 for special tokens and padding.

        Raises:
            ValueError: not strings, texts and pairs of different number, a row longer than
                `pad_to`, `maxlen` too small, or no [UNK] where one is needed.

        Example:
            >>> tokenizer = Tokenizer({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "深": 3, "圳": 4})
            >>> tokenizer.encode_batch(["深圳", "深"]).token_ids.tolist()
            [[1, 3, 4, 2], [1, 3, 2, 0]]
        """
        if not self._scanner.serves(self._token_dict, self._word_maxlen):
            self._scanner = Scanner(self._token_dict, self._folding, self._word_maxlen)
        one_by_one = (
            self._pre_tokenize is not None
            or bool(self._token_translate)
            or self._token_start == ""  # kept, for once, before a second text
            or any(getattr(type(self), name) is not getattr(Tokenizer, name) for name in _SCANNED)
        )
        return encode_batch(self, texts, pairs, maxlen, pad_to, return_offsets, one_by_one)

    def token_to_id(self, token: str) -> int:
        """The token's id; that of [UNK] where the vocabulary does not have it."""
        found = self._token_dict.get(token)
        if found is not None:
            return found
        try:
            return self._token_unk_id
        except AttributeError:
            raise ValueError(
                f"the vocabulary has neither {token!r} nor {self._token_unk!r}, which stands for "
                "unknown tokens; add one of them, or set tokenizer._token_unk_id"
            ) from None

    def id_to_token(self, i: int) -> str:
        """The token with this id.

        Raises:
            UnknownIdError: (a KeyError and a ValueError) no token has it.
        """
        try:
            return self._token_dict_inv[i]
        except KeyError:
            raise UnknownIdError(
                f"no token has id {i}: this vocabulary has {self._vocab_size} tokens; are the ids "
                "from another vocabulary, or from one simplified differently?"
            ) from None

    def decode(self, ids: Iterable[int], tokens: Sequence[str] | None = None) -> str:
        """Readable text of ids, or of `tokens` where given; special tokens are left out."""
        tokens = tokens or self.ids_to_tokens(ids)
        return join_tokens(token for token in tokens if not self._is_special(token))

    def rematch(self, text: str, tokens: Iterable[str]) -> list[list[int]]:
        """For each token the indices of the characters of `text` that it was made of.

        Args:
            text: the original text, before any normalisation.
            tokens: what `tokenize(text)` gave, possibly truncated on the right.

        Returns:
            One list of indices per token; empty for special tokens.

        Raises:
            ValueError: a token does not occur after the ones before it.
        """
        if self._folding is None:
            normal, origin = text, list(range(len(text)))
        else:
            normal, origin = self._folding.fold_aligned(text)
        kept = [i for i, character in enumerate(normal) if not codepoints.is_removed(character)]
        normal, origin = "".join([normal[i] for i in kept]), [origin[i] for i in kept]
        mapping: list[list[int]] = []
        offset = 0
        for token in tokens:
            if self._is_special(token):
                mapping.append([])
                continue
            piece = stem(token)
            start = normal.find(piece, offset)
            if start < 0:
                raise ValueError(
                    f"token {token!r} does not occur in the text after the tokens before it; give "
                    "rematch the text and the tokens that this tokenizer made of it"
                )
            offset = start + len(piece)
            mapping.append(origin[start:offset])
        return mapping

    def _tokenize(self, text: str, pre_tokenize: bool = True) -> list[str]:
        if self._folding is not None:
            text = self._folding.fold(text)
        if pre_tokenize and self._pre_tokenize is not None:
            tokens: list[str] = []
            for piece in self._pre_tokenize(text):
                if piece in self._token_dict:
                    tokens.append(piece)
                else:
                    tokens += self._tokenize(piece, False)
            return tokens
        vocabulary = self._token_dict
        tokens = []
        for word in text.translate(self._spacing).split(" "):
            if word in vocabulary:
                if word:
                    tokens.append(word)
            elif word:
                tokens += self._word_piece_tokenize(word)
        return tokens

    def _word_piece_tokenize(self, word: str) -> list[str]:
        """The word's pieces; the word itself where there are none."""
        starts = self._piece_starts(word)
        if not starts:
            return [word]
        stops = [*starts[1:], len(word)]
        first, *rest = (word[a:b] for a, b in zip(starts, stops, strict=True))
        return [first, *("##" + piece for piece in rest)]

    def _piece_starts(self, word: str) -> list[int]:
        """Where the word's pieces start; [] where it is too long or cannot be spelled."""
        if len(word) > self._word_maxlen:
            return []
        vocabulary, longest = self._token_dict, self._longest
        starts = []
        start, mark = 0, ""
        while start < len(word):
            stop = min(len(word), start + longest)
            while stop > start and mark + word[start:stop] not in vocabulary:
                stop -= 1
            if stop == start:
                return []
            starts.append(start)
            start, mark = stop, "##"
        return starts

    # The names under which scripts know the character tests.
    stem = staticmethod(stem)
    _is_space = staticmethod(codepoints.is_space)
    _is_punctuation = staticmethod(codepoints.is_punctuation)
    _is_cjk_character = staticmethod(codepoints.is_cjk)
    _is_control = staticmethod(codepoints.is_control)
    _is_redundant = staticmethod(is_redundant)

    @staticmethod
    def _cjk_punctuation() -> str:
        return CJK_PUNCTUATION

    @staticmethod
    def _is_special(token: str) -> bool:
        return token.startswith("[") and token.endswith("]")


class _Spacing(dict[int, str]):
    """Code point -> its text with the spaces that set it apart, filled as characters are met."""

    def __missing__(self, point: int) -> str:
        character = chr(point)
        if codepoints.is_punctuation(character) or codepoints.is_cjk(character):
            text = f" {character} "
        elif codepoints.is_separator(character):
            text = " "
        else:
            text = "" if codepoints.is_removed(character) else character
        self[point] = text
        return text
