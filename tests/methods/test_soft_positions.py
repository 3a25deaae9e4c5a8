"""Soft positions: a permutation, synchronized with the tokens also where the text is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model, tiny_tokenizer

from bert4kexue.methods.nsp_prompt import NSPScorer
from bert4kexue.methods.soft_positions import cloze_rows, score_cloze, soft_position_ids

PLACES = ["prefix", "suffix"]


@pytest.fixture(scope="module")
def model():
    return tiny_model(family="bert", with_nsp=True, custom_position_ids=True)


@given(st.integers(0, 30), st.integers(1, 6), st.integers(0, 30), st.sampled_from(PLACES))
@settings(deadline=None)
def test_positions_are_a_permutation(before, candidate, after, place):
    ids = soft_position_ids(before, candidate, after, place)
    assert sorted(ids) == list(range(before + candidate + after + 3))


def test_positions_written_out():
    assert soft_position_ids(2, 1, 1, "prefix") == [0, 4, 1, 2, 3, 5, 6]
    assert soft_position_ids(2, 1, 1, "suffix") == [0, 1, 2, 4, 5, 3, 6]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(8, 60), st.sampled_from(PLACES))
@settings(deadline=None)
def test_read_by_position_the_candidate_fills_the_blank(model, before, after, maxlen, place):
    tokenizer = tiny_tokenizer()
    scorer = NSPScorer(model, tokenizer, maxlen=maxlen)
    left, right = "今天气很" * 10, "李白唐代" * 10
    left, right = left[len(left) - before :], right[:after]
    rows = cloze_rows(scorer, f"{left}#idiom#{right}", ["游戏", "静夜思"], place)
    for row, candidate in zip(rows, ["游戏", "静夜思"], strict=True):
        assert sorted(row.position_ids) == list(range(len(row.token_ids)))
        assert len(row.token_ids) == min(before + after + len(candidate) + 3, maxlen)
        by_position = [row.token_ids[i] for i in np.argsort(row.position_ids)]
        skip = 2 if place == "prefix" else 1
        text = "".join(tokenizer.id_to_token(i) for i in by_position[skip : skip - 3])
        assert text in left + candidate + right
        assert candidate in text


def test_scores_are_the_models_with_these_positions(model):
    tokenizer = tiny_tokenizer()
    scorer = NSPScorer(model, tokenizer, tokens_per_batch=30, maxlen=30)
    texts = ["今天#idiom#很好", "#idiom#李白是唐代诗人李白是唐代诗人李白是唐代诗人"]
    candidates = [["天气", "游戏"], ["诗人", "角色", "作者"]]
    found = score_cloze(scorer, texts, candidates)
    assert [len(scores) for scores in found] == [2, 3]
    for text, some, scores in zip(texts, candidates, found, strict=True):
        for row, score in zip(cloze_rows(scorer, text, some), scores, strict=True):
            expected = model.predict_on_batch([np.array([ids]) for ids in row])
            assert score == pytest.approx(float(np.asarray(expected)[0, 0]), abs=1e-5)


@pytest.mark.parametrize("text", ["今天很好", "#idiom#今天#idiom#"])
def test_not_exactly_one_blank_is_refused(model, text):
    with pytest.raises(ValueError, match="exactly one #idiom#"):
        score_cloze(NSPScorer(model, tiny_tokenizer(), maxlen=30), [text], [["天气", "游戏"]])


@pytest.mark.parametrize("candidates", [["天气"], ["天气", "天气"], "天气"])
def test_candidates_that_leave_no_choice_are_refused(model, candidates):
    scorer = NSPScorer(model, tiny_tokenizer(), maxlen=30)
    with pytest.raises(ValueError, match="different candidates"):
        score_cloze(scorer, ["今天#idiom#"], [candidates])


def test_a_candidate_that_leaves_no_room_is_refused(model):
    scorer = NSPScorer(model, tiny_tokenizer(), maxlen=6)
    with pytest.raises(ValueError, match="room for a text"):
        score_cloze(scorer, ["今天#idiom#"], [["天气很好", "天"]])


def test_as_many_lists_of_candidates_as_texts(model):
    with pytest.raises(ValueError, match="1 texts and 2 lists"):
        score_cloze(NSPScorer(model, tiny_tokenizer(), maxlen=30), ["#idiom#"], [["天"], ["气"]])


def test_a_model_that_takes_no_positions_is_refused():
    scorer = NSPScorer(tiny_model(family="bert", with_nsp=True), tiny_tokenizer(), maxlen=30)
    with pytest.raises(ValueError, match="custom_position_ids=True"):
        score_cloze(scorer, ["今天#idiom#"], [["天气", "游戏"]])
