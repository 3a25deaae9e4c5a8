"""The tokenizer's own promises, beyond bert4keras's answers."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.text.base import truncate
from bert4kexue.tokenizers import Tokenizer, UnknownIdError, load_vocab, save_vocab

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "中", "国", "a", "##b", "b"]
VOCABULARY = {token: i for i, token in enumerate(TOKENS)}


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=2),
    maxlen=st.integers(0, 24),
    index=st.integers(-3, 3),
)
def test_truncation_is_one_pop_at_a_time(sizes, maxlen, index) -> None:
    sequences = [[f"{i}.{j}" for j in range(size)] for i, size in enumerate(sizes)]
    expected: list[list[str]] | None = [list(s) for s in sequences]
    try:
        while sum(map(len, expected)) > maxlen:
            max(expected, key=len).pop(index)  # the first of equals, as max is
    except IndexError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError, match="too small"):
            truncate(maxlen, index, *sequences)
    else:
        assert truncate(maxlen, index, *sequences) == expected


def test_lists_of_tokens_are_taken_as_they_are_and_not_changed() -> None:
    tokens = ["[CLS]", "中", "国", "[SEP]"]
    tokenizer = Tokenizer(VOCABULARY)
    assert tokenizer.encode(tokens, maxlen=3) == ([2, 4, 3], [0, 0, 0])
    assert tokens == ["[CLS]", "中", "国", "[SEP]"]


def test_an_unspellable_word_stays_readable_until_it_becomes_an_id() -> None:
    tokenizer = Tokenizer(VOCABULARY)
    tokens = tokenizer.tokenize("中 xyz")
    assert tokens == ["[CLS]", "中", "xyz", "[SEP]"]
    assert tokenizer.rematch("中 xyz", tokens) == [[], [0], [2, 3, 4], []]
    assert tokenizer.tokens_to_ids(tokens) == [2, 4, 1, 3]


def test_rematch_counts_in_the_original_text() -> None:
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True)
    text = "\u0130 中"  # lower-cased it is one character longer
    assert tokenizer.rematch(text, tokenizer.tokenize(text)) == [[], [0], [2], []]


def test_rematch_refuses_tokens_of_another_text() -> None:
    with pytest.raises(ValueError, match="'国' does not occur"):
        Tokenizer(VOCABULARY).rematch("中", ["国"])


def test_unknown_ids_and_missing_specials_are_named() -> None:
    tokenizer = Tokenizer({"a": 0})
    with pytest.raises(UnknownIdError, match="no token has id 5") as caught:
        tokenizer.decode([0, 5])
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, ValueError)
    assert not hasattr(tokenizer, "_token_mask_id")
    with pytest.raises(AttributeError, match=r"no '\[MASK\]'"):
        _ = tokenizer._token_mask_id


def test_wrong_arguments_are_named() -> None:
    tokenizer = Tokenizer(VOCABULARY)
    with pytest.raises(ValueError, match="takes a string, not int"):
        tokenizer.tokenize(3)
    with pytest.raises(ValueError, match="truncate_from must be"):
        tokenizer.encode("a b", maxlen=3, truncate_from="middle")


def test_a_truncated_pair_without_start_token_keeps_to_maxlen() -> None:
    tokenizer = Tokenizer(VOCABULARY, token_start=None)
    assert len(tokenizer.encode("中国中国", "国中国中", maxlen=6)[0]) == 6


def test_vocabulary_files_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    save_vocab(path, VOCABULARY)
    assert path.read_bytes().decode("utf-8") == "\n".join(TOKENS) + "\n"
    assert load_vocab(path) == VOCABULARY
    assert [p.name for p in tmp_path.iterdir()] == ["vocab.txt"]


def test_a_vocabulary_in_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n中国\n", encoding="gb18030")
    with pytest.raises(ValueError, match=r"vocab\.txt is not utf-8 .*iconv"):
        load_vocab(path)
    assert load_vocab(path, encoding="gb18030") == {"[PAD]": 0, "中国": 1}


def test_a_vocabulary_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="id 2 where 1 is due"):
        save_vocab(tmp_path / "vocab.txt", {"a": 0, "b": 2})
    with pytest.raises(ValueError, match="white space"):
        save_vocab(tmp_path / "vocab.txt", {"a b": 0})
    assert list(tmp_path.iterdir()) == []


def test_startswith_must_be_in_the_vocabulary(tmp_path: Path) -> None:
    save_vocab(tmp_path / "vocab.txt", VOCABULARY)
    with pytest.raises(KeyError, match=r"\[MASK\]"):
        load_vocab(tmp_path / "vocab.txt", simplified=True, startswith=["[MASK]"])


def test_a_tokenizer_is_ready_quickly(tmp_path: Path) -> None:
    tokens = [*TOKENS, *map(chr, range(0x4E01, 0x9FFF)), *(f"##w{i}" for i in range(5000))]
    save_vocab(tmp_path / "vocab.txt", {t: i for i, t in enumerate(dict.fromkeys(tokens))})
    times = []
    for _ in range(5):
        start = time.perf_counter()
        Tokenizer(tmp_path / "vocab.txt", do_lower_case=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_tokenizers_need_neither_keras_nor_a_backend() -> None:
    code = (
        "import sys, bert4kexue.tokenizers as t; t.Tokenizer({'[UNK]': 0}).encode('a');"
        "assert not {'keras', 'tensorflow', 'torch', 'jax', 'jieba'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
