"""The frozen Unicode tables, against `unicodedata` where this Python has the same version."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.text import codepoints, unicode14

SAME = pytest.mark.skipif(
    unicodedata.unidata_version != unicode14.VERSION,
    reason="the tables are those of Unicode 14.0.0, which Python 3.11 has",
)
FOLDING = codepoints.Folding()
ORDERED = sorted(chr(p) for p in FOLDING._classes)


def fold_by_python(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


@SAME
def test_every_code_point_folds_and_is_classed_as_python_says() -> None:
    kinds = codepoints.character_kinds()
    for point in range(codepoints.POINTS):
        character = chr(point)
        category = unicodedata.category(character)
        assert FOLDING.fold(character) == fold_by_python(character), hex(point)
        assert codepoints.is_control(character) == (category in ("Cc", "Cf")), hex(point)
        assert codepoints.is_separator(character) == (kinds[point] == codepoints.SPACE), hex(point)
        single = codepoints.is_punctuation(character) or codepoints.is_cjk(character)
        assert single == (kinds[point] == codepoints.SINGLE), hex(point)
        if point >= 128:
            assert codepoints.is_punctuation(character) == (category[0] == "P"), hex(point)


@SAME
@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(ORDERED),
            st.sampled_from(sorted(FOLDING.exact)),
            st.sampled_from("AaΣΣσς.'\u00ad\u0345한가İéÅ "),
            st.characters(codec=None),
        ),
        max_size=12,
    ).map("".join)
)
def test_texts_fold_as_python_says_with_sigma_and_mark_order(text: str) -> None:
    folded, origin = FOLDING.fold_aligned(text)
    assert folded == FOLDING.fold(text) == fold_by_python(text)
    assert len(origin) == len(folded)


@given(st.text(max_size=20))
def test_alignment_names_the_character_that_gave_the_letter(text: str) -> None:
    folded, origin = FOLDING.fold_aligned(text)
    for letter, index in zip(folded, origin, strict=True):
        source = text[index]
        assert letter in FOLDING.fold(source) or source == "Σ"


def test_folding_twice_changes_nothing() -> None:
    folded, kinds = FOLDING.tables(codepoints.character_kinds())
    assert np.array_equal(folded[folded], folded)
    assert np.isin(kinds[folded[kinds < codepoints.DROP]], [0, 1, 2]).all()


@SAME
def test_the_committed_tables_are_what_the_tool_makes() -> None:
    tool = Path(__file__).parents[2] / "tools" / "make_codepoints.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
