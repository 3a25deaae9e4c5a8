"""Vocabulary files: one token a line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, overload

from bert4kexue.text.codepoints import is_cjk, is_punctuation


def stem(token: str) -> str:
    """The token without the '##' that marks the continuation of a word."""
    return token[2:] if token.startswith("##") else token


def is_redundant(token: str) -> bool:
    """Whether the tokenizer can never produce the token from running text.

    True for tokens of several characters that hold a CJK character or punctuation, since each of
    those is always a token by itself: '##中', '...', and also '[MASK]'.
    """
    return len(token) > 1 and any(is_cjk(c) or is_punctuation(c) for c in stem(token))


@overload
def load_vocab(
    dict_path: str | os.PathLike[str],
    encoding: str = ...,
    simplified: Literal[False] = ...,
    startswith: Iterable[str] | None = ...,
) -> dict[str, int]: ...
@overload
def load_vocab(
    dict_path: str | os.PathLike[str],
    encoding: str = ...,
    *,
    simplified: Literal[True],
    startswith: Iterable[str] | None = ...,
) -> tuple[dict[str, int], list[int]]: ...
def load_vocab(
    dict_path: str | os.PathLike[str],
    encoding: str = "utf-8",
    simplified: bool = False,
    startswith: Iterable[str] | None = None,
) -> dict[str, int] | tuple[dict[str, int], list[int]]:
    """Read a BERT vocabulary.

    A line's token is its first field; a blank line gives the empty token. The id is the number of
    different tokens before it, so a repeated token shifts the ids that follow (as in bert4keras,
    with which ids stay compatible).

    Args:
        dict_path: the vocabulary file.
        encoding: its text encoding.
        simplified: also drop the tokens that can never occur (`is_redundant`). Bracketed tokens
            are among them: name the ones you need in `startswith`.
        startswith: with `simplified`, the tokens that come first, in this order.

    Returns:
        {token: id}; with `simplified` a pair ({token: new id}, keep_tokens), where keep_tokens[i]
        is the old id of the new id i, for `build_transformer_model(keep_tokens=...)`.

    Raises:
        KeyError: a token of `startswith` is not in the file.
        ValueError: the file has another encoding.

    Example:
        >>> token_dict, keep_tokens = load_vocab(
        ...     "vocab.txt", simplified=True, startswith=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        ... )  # doctest: +SKIP
    """
    token_dict: dict[str, int] = {}
    try:
        with open(dict_path, encoding=encoding) as lines:
            for line in lines:
                fields = line.split(maxsplit=1)
                token = fields[0] if fields else ""
                token_dict[token] = len(token_dict)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{os.fspath(dict_path)} is not {encoding} ({error.reason}): name its encoding, or "
            "convert it, for instance with iconv -f GB18030 -t UTF-8"
        ) from None
    return _simplify(token_dict, startswith or (), dict_path) if simplified else token_dict


def _simplify(
    token_dict: dict[str, int], startswith: Iterable[str], dict_path: str | os.PathLike[str]
) -> tuple[dict[str, int], list[int]]:
    first = list(startswith)
    absent = [token for token in first if token not in token_dict]
    if absent:
        raise KeyError(
            f"startswith names tokens that {os.fspath(dict_path)} does not have: {absent}; "
            "remove them from startswith or take another vocabulary"
        )
    chosen = set(first)
    by_id = sorted(token_dict, key=token_dict.__getitem__)
    order = first + [t for t in by_id if t not in chosen and not is_redundant(t)]
    new_dict: dict[str, int] = {}
    for token in order:
        new_dict[token] = len(new_dict)
    return new_dict, [token_dict[token] for token in order]


def save_vocab(
    dict_path: str | os.PathLike[str], token_dict: Mapping[str, int], encoding: str = "utf-8"
) -> None:
    """Write the tokens by id, one a line, so that `load_vocab` reads the same ids back.

    Raises:
        ValueError: the ids are not 0, 1, 2, ...: a file has no place for gaps.
    """
    tokens = sorted(token_dict, key=token_dict.__getitem__)
    for expected, token in enumerate(tokens):
        if token_dict[token] != expected:
            raise ValueError(
                f"a vocabulary file numbers its lines 0, 1, 2, ...; here token {token!r} has id "
                f"{token_dict[token]} where {expected} is due: renumber the ids without gaps"
            )
        if token.split(maxsplit=1) not in ([token], []):
            raise ValueError(
                f"a vocabulary file's token ends at white space; {token!r} (id {expected}) would "
                "not be read back: remove the white space"
            )
    path = Path(dict_path)
    scratch = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(scratch, "w", encoding=encoding, newline="\n") as file:
            file.writelines(token + "\n" for token in tokens)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
