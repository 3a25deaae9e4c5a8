"""Windows and training rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer

from bert4kexue.methods.reading_comprehension import special_ids
from bert4kexue.methods.reading_data import ReadingQuestion
from bert4kexue.methods.reading_rows import (
    Draws,
    Layout,
    MaskedAnswers,
    cut,
    encode_texts,
    examples,
    token_span,
    written_answers,
)
from bert4kexue.training.plan import Plan

LAYOUT = Layout(maxlen=24, question=4, answer=3, overlap=4)
PASSAGE = "今天气很好的是李白唐代诗人游戏角色作者国籍中谁写静夜思法师职业出生地"


@given(st.integers(1, 200), st.integers(2, 50), st.data())
def test_every_span_within_the_overlap_stands_whole_in_a_window(length, room, data):
    overlap = data.draw(st.integers(0, room - 1))
    windows = cut(length, room, overlap)
    assert all(0 <= start < stop <= length and stop - start <= room for start, stop in windows)
    assert windows[0][0] == 0
    assert windows[-1][1] == length
    for width in range(min(overlap, length) + 1):
        for start in range(length - width + 1):
            assert any(a <= start and start + width <= b for a, b in windows)


def test_tokens_of_characters():
    (text,) = encode_texts(tiny_tokenizer(), ["李白 abc 写"])
    assert text.offsets.tolist() == [[0, 1], [1, 2], [3, 6], [7, 8]]
    assert token_span(text.offsets, 1, 4) == (1, 3)  # a token that lies there in part counts
    assert token_span(text.offsets, 2, 3) is None
    assert encode_texts(tiny_tokenizer(), []) == []


def test_a_layout_without_room_is_an_error():
    assert LAYOUT.room(2) == 14
    assert LAYOUT.room(9) == 12
    with pytest.raises(ValueError, match="no more than overlap=4"):
        Layout(maxlen=16, question=4, answer=3, overlap=4).room(4)


def _draws(empty=0.5):
    questions = [
        ReadingQuestion("1", "谁写静夜思诗", PASSAGE, ("李白",), (7,)),
        ReadingQuestion("2", "职业", "职业诗人", ("诗人", "人"), (2, 3)),
        ReadingQuestion("3", "太长", PASSAGE, (PASSAGE[:9],), (0,)),
        ReadingQuestion("4", "不在", PASSAGE, ("杜甫",), (-1,)),
    ]
    return Draws(examples(questions, tiny_tokenizer(), LAYOUT), LAYOUT, empty)


def test_rows_hold_window_question_and_answer():
    draws, special = _draws(), special_ids(tiny_tokenizer())
    assert [e.spans for e in draws.examples] == [((7, 9),), ((2, 4), (3, 4))]
    seen = set()
    for objective in (written_answers(draws, special), MaskedAnswers(draws, special)):
        plan = Plan(objective, 48, LAYOUT.maxlen, [1], LAYOUT.maxlen)
        for number in range(60):
            batch = plan.batch(number, np.random.default_rng(number))
            assert batch["token_ids"].shape == (2, 24)
            for line in range(2):
                ids, at = batch["token_ids"][line], batch["positions"][line]
                asked = batch["weights"][line] > 0
                answer = batch["labels"][line][asked].tolist()
                assert answer[-1] == special.end
                ends = np.flatnonzero(ids == special.end)
                if isinstance(objective, MaskedAnswers):
                    assert (ids[at] == special.mask).all()
                    assert (at == np.arange(1, 5)).all()
                    question, window = ids[6 : ends[1]], ids[ends[1] + 1 : ends[2]]
                else:
                    window, question = ids[1 : ends[0]], ids[ends[0] + 1 : ends[1]]
                    assert ids[at[asked] + 1].tolist() == answer
                    assert (batch["segment_ids"][line] == 1).sum() == len(answer)
                which = next(
                    i
                    for i, e in enumerate(draws.examples)
                    if e.question.tolist() == question.tolist()
                )
                passage = draws.examples[which].passage.tolist()
                text, span = " ".join(map(str, passage)), " ".join(map(str, window))
                assert f" {span} " in f" {text} "
                if len(answer) > 1:
                    right = [passage[a:b] for a, b in draws.examples[which].spans]
                    assert answer[:-1] in right
                    assert " ".join(map(str, answer[:-1])) in span
                else:
                    assert which == 0  # only a passage longer than a window has one without it
                    assert " ".join(map(str, passage[7:9])) not in span
                seen.add((type(objective), which, len(answer)))
    assert len(seen) == 8  # of each objective: two answers and none, one answer, another one


def test_without_empty_rows_every_window_holds_the_answer():
    draws = _draws(empty=0.0)
    starts = set()
    for seed in range(200):
        window, _, answer = draws.draw(0, np.random.default_rng(seed))
        assert len(answer) == 2
        assert len(window) == LAYOUT.room(4)
        starts.add(draws.examples[0].passage.tolist().index(window[0]))
    assert starts == set(range(0, 8))  # every window of that length that holds tokens 7 and 8
