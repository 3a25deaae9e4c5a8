"""Exact match and F1 by hand, and by CMRC 2018's script with NLTK's word tokenizer (3.9)."""

from __future__ import annotations

import pytest

from bert4kexue.methods.reading_data import ReadingQuestion
from bert4kexue.methods.reading_scores import (
    evaluate_reading,
    exact_match,
    f1,
    segments,
    shared_run,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("光荣和ω-force", ["光", "荣", "和", "ωforce"]),
        (" 《Misery Chastain》, 1987年。", ["misery", "chastain", ",", "1987", "年"]),
        ("1,000.5%", ["1,000.5", "%"]),
        ('学名："Col"（约3.5米）', ["学", "名", "``", "col", "''", "约", "3.5", "米"]),
        ("B. brancai", ["b.", "brancai"]),
        ("Service Co.", ["service", "co", "."]),
        ("don't", ["do", "n't"]),
        ("总管——", ["总", "管", "—", "—"]),
        ("未来……", ["未", "来", "……"]),
        ("", []),
    ],
)
def test_segments_are_those_of_the_script(text, expected):
    assert segments(text) == expected


def test_the_longest_run_is_contiguous():
    assert shared_run("abcxdef", "abcdef") == 3
    assert shared_run("", "a") == 0


def test_hand_cases():
    assert f1("《固体物理》", ["固体物理"]) == 1
    assert exact_match("《固体物理》", ["固体物理"]) == 1
    # 3 of 4 characters in a row: precision 3/3, recall 3/4
    assert f1("体物理", ["固体物理"]) == pytest.approx(6 / 7)
    # a run is broken by what stands between: 2 of 5 and 2 of 4
    assert f1("固体的物理", ["固体物理"]) == pytest.approx(2 * 0.4 * 0.5 / 0.9)
    assert f1("化学", ["物理"]) == 0
    assert exact_match("化学", ["物理"]) == 0
    assert exact_match("NEXON", ["Nexon", "韩国"]) == 1
    assert f1("韩国Nexon", ["韩国", "Nexon"]) == pytest.approx(2 * (2 / 3) / (5 / 3))
    assert f1("", ["韩国"]) == 0


def test_scores_are_means_over_all_questions():
    questions = [
        ReadingQuestion("1", "?", "固体物理", ("固体物理",), (0,)),
        ReadingQuestion("2", "?", "固体物理", ("物理", "固体"), (2, 0)),
        ReadingQuestion("3", "?", "固体物理", ("物理",), (2,)),
    ]
    score = evaluate_reading({"1": "固体物理", "2": "固体"}, questions)
    assert score.exact_match == pytest.approx(2 / 3)
    assert score.f1 == pytest.approx(2 / 3)
    assert score.questions == 3


def test_what_cannot_be_scored_is_an_error():
    with pytest.raises(ValueError, match="no question"):
        evaluate_reading({}, [])
    with pytest.raises(ValueError, match="question 9 has no right answer"):
        evaluate_reading({}, [ReadingQuestion("9", "?", "a", (), ())])
