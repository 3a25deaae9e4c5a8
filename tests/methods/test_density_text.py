"""Characters to ids and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.methods.density_text import CharacterCodec


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1)
)
def test_texts_come_back(texts):
    if not any(texts):
        return
    codec = CharacterCodec.of(texts)
    ids = codec.encode(texts)
    assert ids.max() < codec.vocabulary
    assert codec.decode(ids) == texts
    assert codec.unknown_share(ids) == 0


def test_rare_characters_become_one_sign_and_are_counted():
    codec = CharacterCodec.of(["aab", "abc"], least=2)
    ids = codec.encode(["abcz"[:3], "z"])
    assert codec.characters == "ab"
    assert codec.decode(ids) == ["ab□", "□"]
    assert codec.unknown_share(ids) == 0.5


def test_what_is_refused():
    codec = CharacterCodec("ab", 2)
    with pytest.raises(ValueError, match="text 1 has 3 characters"):
        codec.encode(["a", "aba"])
    with pytest.raises(ValueError, match="pass \\[text\\]"):
        codec.encode("ab")
    for characters, length in (("", 2), ("aa", 2), ("ab", 0)):
        with pytest.raises(ValueError, match="must"):
            CharacterCodec(characters, length)
