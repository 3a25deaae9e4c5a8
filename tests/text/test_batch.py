"""encode_batch is encode, row by row; offsets are rematch."""

from __future__ import annotations

import _tokenizer_cases as cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.tokenizers import Tokenizer

VOCABULARY = {token: i for i, token in enumerate(cases.vocabulary())}
TOKENIZERS = {
    "cased": Tokenizer(VOCABULARY),
    "uncased": Tokenizer(VOCABULARY, do_lower_case=True),
    "short words": Tokenizer(VOCABULARY, do_lower_case=True, word_maxlen=3),
    "no frame": Tokenizer(VOCABULARY, token_start=None, token_end=None),
    "start only": Tokenizer(VOCABULARY, token_end=None),
    "end only": Tokenizer(VOCABULARY, do_lower_case=True, token_start=None),
    "translated": Tokenizer(VOCABULARY, token_translate={"中": "[MASK]", "zzz": "国"}),
    "cut": Tokenizer(VOCABULARY, do_lower_case=True, pre_tokenize=lambda t: [t[:2], t[2:]]),
}
HOSTILE = st.sampled_from(sorted({*"".join(cases.HOSTILE.values()), *cases.CHINESE}))
WORD = st.sampled_from([*cases.WORDS, "unplaying", "2019201", "[MASK]", "ΑΣ", "\u302e\U0001d165"])
TEXT = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(codec=None), max_size=20),  # surrogates too
    st.lists(HOSTILE, max_size=20).map("".join),
    st.lists(st.one_of(HOSTILE, WORD), max_size=12).map("".join),
    st.lists(WORD, max_size=6).map(" ".join),
    st.builds(lambda c, k: c * k, HOSTILE, st.integers(190, 700)),
)
ROWS = st.lists(st.tuples(TEXT, TEXT), max_size=6)


def expected_offsets(tokenizer: Tokenizer, texts: list[str], tokens: list[list[str]]) -> list:
    places = [p for t, w in zip(texts, tokens, strict=False) for p in tokenizer.rematch(t, w)]
    return [[p[0], p[-1] + 1] if p else [0, 0] for p in places]


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(TOKENIZERS)),
    rows=ROWS,
    paired=st.booleans(),
    maxlen=st.one_of(st.none(), st.integers(3, 24)),
    extra=st.one_of(st.none(), st.integers(0, 3)),
)
def test_a_row_of_a_batch_is_the_text_alone(name, rows, paired, maxlen, extra) -> None:
    tokenizer = TOKENIZERS[name]
    texts = [first for first, _ in rows]
    seconds = [second for _, second in rows] if paired else None
    alone = [
        tokenizer.encode(first, second if paired else None, maxlen=maxlen) for first, second in rows
    ]
    longest = max((len(ids) for ids, _ in alone), default=0)
    pad_to = None if extra is None else longest + extra
    batch = tokenizer.encode_batch(texts, seconds, maxlen=maxlen, pad_to=pad_to)
    width = longest if pad_to is None else pad_to
    assert batch.token_ids.shape == batch.segment_ids.shape == (len(rows), width)
    assert batch.token_ids.dtype == batch.segment_ids.dtype == np.int32
    for ids, segments, row, segment_row in (
        zip(
            *zip(*alone, strict=True),
            batch.token_ids.tolist(),
            batch.segment_ids.tolist(),
            strict=True,
        )
        if alone
        else ()
    ):
        padding = [0] * (width - len(ids))
        assert row == ids + padding
        assert segment_row == segments + padding


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["cased", "uncased", "short words", "no frame", "start only"]),
    rows=ROWS.filter(bool),
    paired=st.booleans(),
    maxlen=st.one_of(st.none(), st.integers(3, 24)),
)
def test_offsets_are_those_of_rematch(name, rows, paired, maxlen) -> None:
    tokenizer = TOKENIZERS[name]
    texts = [first for first, _ in rows]
    seconds = [second for _, second in rows] if paired else None
    batch = tokenizer.encode_batch(texts, seconds, maxlen=maxlen, return_offsets=True)
    plain = tokenizer.encode_batch(texts, seconds, maxlen=maxlen)
    assert np.array_equal(batch.token_ids, plain.token_ids)
    for (first, second), row in zip(rows, batch.offsets.tolist(), strict=True):
        tokens = tokenizer._encode_tokens(first, second if paired else None, maxlen)
        expected = expected_offsets(tokenizer, [first, second], tokens)
        assert row[: len(expected)] == expected
        assert not np.any(row[len(expected) :])


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_rematch_points_at_the_characters_of_the_token(text) -> None:
    tokenizer = TOKENIZERS["cased"]
    tokens = tokenizer.tokenize(text)
    for token, place in zip(tokens[1:-1], tokenizer.rematch(text, tokens)[1:-1], strict=True):
        assert "".join(text[i] for i in place) == tokenizer.stem(token)


@pytest.mark.parametrize("name", ["cased", "uncased"])
@pytest.mark.parametrize(
    "text", ["中\u200b国", "the\u200b中", "中\u200bthe", "the\u200b\ufffd the"]
)
@pytest.mark.parametrize("other", ["", "the", "t\u200bhe", "\u200b"])
def test_what_vanishes_belongs_to_no_token(name, text, other) -> None:
    # With "t\u200bhe" in the batch the vanishing characters are cut out, without it they are not.
    tokenizer = TOKENIZERS[name]
    ids, _, offsets = tokenizer.encode_batch([text, other], return_offsets=True)
    for row, string in enumerate([text, other]):
        expected = tokenizer.encode(string)[0]
        assert ids[row, : len(expected)].tolist() == expected
        tokens = tokenizer.tokenize(string)
        places = expected_offsets(tokenizer, [string], [tokens])
        assert offsets[row, : len(tokens)].tolist() == places


def test_one_text_in_a_batch_does_not_change_another() -> None:
    tokenizer = TOKENIZERS["uncased"]
    texts = cases.texts()
    together = tokenizer.encode_batch(texts).token_ids
    for text, row in zip(texts, together, strict=True):
        alone = tokenizer.encode_batch([text]).token_ids[0]
        assert np.array_equal(row[: len(alone)], alone)


def test_an_unknown_id_set_afterwards_is_used() -> None:
    tokenizer = Tokenizer(VOCABULARY)
    tokenizer._token_unk_id = 77
    assert tokenizer.encode("龘")[0] == tokenizer.encode_batch(["龘"]).token_ids[0].tolist()
    assert tokenizer.encode("龘")[0][1] == 77


def test_a_vocabulary_that_grew_is_read_again() -> None:
    tokenizer = Tokenizer(dict(VOCABULARY))
    tokenizer._token_dict["龘"] = 900
    assert tokenizer.encode_batch(["龘"]).token_ids.tolist() == [[2, 900, 3]]


def test_a_subclass_with_its_own_words_is_asked() -> None:
    class Letters(Tokenizer):
        def _tokenize(self, text, pre_tokenize=True):
            return list(text)

    tokenizer = Letters(VOCABULARY)
    ids = tokenizer.encode_batch(["the 中"]).token_ids[0].tolist()
    assert ids == tokenizer.encode("the 中")[0]
    assert len(ids) == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"texts": "中国"}, "not one string"),
        ({"texts": ["a", None]}, r"texts\[1\] is NoneType"),
        ({"texts": ["a"], "pairs": [3]}, r"pairs\[0\] is int"),
        ({"texts": ["a", "b"], "pairs": ["c"]}, "2 texts and 1 pairs"),
        ({"texts": ["a", "a b c"], "pad_to": 4}, "row 1 has 5 tokens.*maxlen=4"),
        ({"texts": ["a b c"], "maxlen": 0}, "maxlen=0 is too small"),
    ],
)
def test_errors_say_what_to_do(arguments, words) -> None:
    with pytest.raises(ValueError, match=words):
        TOKENIZERS["cased"].encode_batch(**arguments)


def test_a_vocabulary_without_unknown_token_says_so() -> None:
    tokenizer = Tokenizer({"[CLS]": 0, "[SEP]": 1, "a": 2})
    assert tokenizer.encode_batch(["a"]).token_ids.tolist() == [[0, 2, 1]]
    with pytest.raises(ValueError, match=r"\[UNK\]"):
        tokenizer.encode_batch(["b"])
    with pytest.raises(ValueError, match=r"\[UNK\]"):
        tokenizer.encode("b")
