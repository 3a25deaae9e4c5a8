"""KgCLUE's and NLPCC's files, and the benchmark's scores on cases worked out by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.methods.kgclue import f1, normalized, read_predictions, scores, write_submission
from bert4kexue.methods.question_files import LabelledQuestion, Triple, parse_answer, read_questions

NLPCC = """<question id=1>\t谁写了静夜思？
<triple id=1>\t静夜思（诗） ||| 作者 ||| 李白 ||| 唐
<answer id=1>\t李白
==================================================
<question id=2>\t龙编站的坐标？
<triple id=2>\t龙编站 ||| 坐标 ||| 21°
<answer id=2>\t21°
"""


def test_both_formats_give_the_same_questions(tmp_path):
    nlpcc, kgclue = tmp_path / "a.txt", tmp_path / "a.json"
    nlpcc.write_text(NLPCC, encoding="utf-8", newline="\r\n")
    expected = [
        LabelledQuestion(1, "谁写了静夜思？", "静夜思（诗）", "作者", "李白 ||| 唐"),
        LabelledQuestion(2, "龙编站的坐标？", "龙编站", "坐标", "21°"),
    ]
    assert read_questions(nlpcc) == expected
    write_submission(kgclue, expected, [Triple(*each[2:]) for each in expected])
    assert read_questions(kgclue) == expected
    assert expected[0].fact == ("静夜思", "作者", "诗")
    assert read_predictions(kgclue) == {each.id: Triple(*each[2:]) for each in expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ('{"question": "谁"}', "line 1 .* needs one answer"),
        ('{"question": "谁", "answer": "a ||| b"}', r"line 1 .*`S \|\|\| P \|\|\| O`, got 2 parts"),
        ('{"question": "谁", "answer": " ||| b ||| c"}', "needs a subject and a predicate"),
        ('{"question": "谁", "answer": 3}', "line 1"),
        ("[]", "line 1"),
        ("{", "line 1 .* is no JSON"),
        ("<question id=1>\t谁\nabc", "line 2 .* is none of"),
        ("<question id=1>\t谁", "question 1 .* needs one answer"),
        ("<question id=1>\t谁\n<triple id=1>\ta", "question 1 .* got 1 parts"),
    ],
)
def test_bad_files_are_told_with_their_line(text, message, tmp_path):
    path = tmp_path / "questions"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_questions(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x", "line 2"),
        ('{"id": 5, "answer": "a ||| b"}', "no three parts"),
        ('{"id": 1, "answer": "a ||| b ||| c"}', "id 1 comes twice"),
    ],
)
def test_bad_predictions_are_told(line, message, tmp_path):
    path = tmp_path / "predictions"
    path.write_text('{"id": 1, "answer": "a ||| b ||| "}\n' + line, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_predictions(path)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("固体物理", "《固体物理》", 0.8),
        ("", "", 0.0),
        ("甲", "", 0.0),
        ("甲乙", "乙甲", 0.5),
        ("甲乙丙", "甲丙", 0.8),
    ],
)
def test_f1_of_hand_cases(a, b, expected):
    assert f1(a, b) == pytest.approx(expected)
    assert f1(b, a) == pytest.approx(expected)


@given(st.text("ab", max_size=6), st.text("abc", max_size=6))
def test_f1_is_that_of_the_longest_common_subsequence(a, b):
    def subsequences(text):
        found = {""}
        for character in text:
            found |= {each + character for each in found}
        return found

    common = max(len(each) for each in subsequences(a) & subsequences(b))
    assert f1(a, b) == (2 * common / (len(a) + len(b)) if a or b else 0.0)


def test_scores_of_three_questions():
    gold = [
        Triple("静夜思（诗）", "作者", "李白"),
        Triple("Metasploit", "开发 时间", "2003年"),
        Triple("甲", "乙", ""),
    ]
    predicted = [
        Triple("静夜思", "作者", "《李白》"),
        Triple("metasploit", "开发  时间 ", "2003年"),
        Triple("甲", "丙", ""),
    ]
    found = scores(predicted, gold)
    assert found.em_s == pytest.approx(2 / 3)
    assert found.em_p == pytest.approx(2 / 3)
    assert found.em_o == pytest.approx(2 / 3)  # two empty objects are equal
    assert found.em_all == pytest.approx(1 / 3)
    assert found.f1_s == pytest.approx((2 * 3 / 9 + 1 + 1) / 3)
    assert found.f1_p == pytest.approx((1 + 1 + 0) / 3)
    assert found.f1_o == pytest.approx((4 / 6 + 1 + 0) / 3)  # but their F1 is 0
    assert found.f1_all == pytest.approx((2 * 7 / 19 + 1 + 2 * 1 / 4) / 3)
    assert found.score == pytest.approx((found.em_o + found.f1_o) / 2)
    assert found.em_o <= 1 >= found.f1_o
    with pytest.raises(ValueError, match="2 predictions for 3 questions"):
        scores(predicted[:2], gold)
    with pytest.raises(ValueError, match="one question at least"):
        scores([], [])


def test_normalization_is_the_benchmarks():
    assert normalized("  Open　Source\t Kit ") == "open source kit"
    assert parse_answer("a|||b ||| c") == Triple("a", "b", "c")


def test_the_real_files(data_dir):
    questions = read_questions(data_dir / "kgclue" / "dev.json")
    assert len(questions) == 2000
    assert len(read_questions(data_dir / "kgclue" / "train.json")) == 18000
    nlpcc = data_dir / "nlpcc2016kbqa" / "nlpcc-iccpol-2016.kbqa.training-data"
    rejected: list[str] = []
    assert len(read_questions(nlpcc, rejected)) + len(rejected) == 14609
    assert rejected[0].startswith("question 12902 ")
    with pytest.raises(ValueError, match=r"question 12902 .* needs a subject"):
        read_questions(nlpcc)
    with_meaning = sum(bool(each.fact[2]) for each in questions) / 2000
    assert 0.2 < with_meaning < 0.3
    rows = (data_dir / "kgclue" / "dev.json").read_text(encoding="utf-8").splitlines()
    assert questions[3].name == json.loads(rows[3])["answer"].split(" ||| ")[0]
