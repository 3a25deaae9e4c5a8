"""Strings of numbered keys, several a key, as flat arrays beside a tree.

value_offsets  (keys + 1,)    the strings of a key are ``value_rows[offset:next offset]``
value_rows     (values,)      which text; texts stay in the order in which they were given
text_offsets   (values + 1,)  a text is ``text[offset:next offset]``
text           (bytes,)       UTF-8
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bert4kexue.decoding.trie_rows import gather

SECTIONS = ("value_offsets", "value_rows", "text_offsets", "text")


def value_arrays(
    numbers: np.ndarray, key_count: int, text: np.ndarray, text_offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """The arrays for text ``i``, ``text[text_offsets[i]:text_offsets[i + 1]]``, of key numbers[i].

    The texts of one key keep their order. `text` may be a memory map: it is not copied.
    """
    order = np.argsort(numbers, kind="stable")
    offsets = np.zeros(key_count + 1, np.int64)
    np.cumsum(np.bincount(numbers, minlength=key_count), out=offsets[1:])
    return {
        "value_offsets": narrow(offsets),
        "value_rows": narrow(order),
        "text_offsets": narrow(text_offsets),
        "text": text,
    }


def encode_texts(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Texts laid end to end as UTF-8, and where each begins, (texts + 1,) int64."""
    encoded = [text.encode("utf-8") for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def texts_of(arrays: Mapping[str, np.ndarray], number: int) -> list[str]:
    """The strings of a key."""
    first, last = (int(place) for place in arrays["value_offsets"][number : number + 2])
    offsets, text = arrays["text_offsets"], arrays["text"]
    return [
        text[int(offsets[row]) : int(offsets[row + 1])].tobytes().decode("utf-8")
        for row in arrays["value_rows"][first:last].tolist()
    ]


def narrow(numbers: np.ndarray) -> np.ndarray:
    """Four bytes a number where they suffice."""
    fits = numbers.size == 0 or numbers.max() < 2**32
    return numbers.astype(np.uint32 if fits else np.int64, copy=False)


def columns_of(
    arrays: Mapping[str, np.ndarray], numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The strings of (n,) keys: how many each has (n,), UTF-8 laid end to end, sizes in bytes."""
    offsets = arrays["value_offsets"].astype(np.int64)
    counts = np.diff(offsets)[numbers]
    rows = gather(arrays["value_rows"], offsets[numbers], counts)
    bounds = arrays["text_offsets"].astype(np.int64)
    sizes = np.diff(bounds)[rows]
    return counts, gather(arrays["text"], bounds[rows], sizes), sizes
