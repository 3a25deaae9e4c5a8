"""Files in SQuAD's layout, and splits by passage."""

from __future__ import annotations

import json
import random

import pytest

from bert4kexue.methods.reading_baseline import overlap_answer
from bert4kexue.methods.reading_data import (
    ReadingQuestion,
    read_squad,
    split_by_passage,
    without_near,
    write_squad,
)


def _file(tmp_path, data):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def _article(**qa):
    qas = [{"id": "q", "question": "谁?", **qa}]
    return {"title": "t", "paragraphs": [{"context": "李白写静夜思", "qas": qas}]}


def test_an_answer_is_found_where_it_stands_even_if_its_place_has_moved(tmp_path):
    answers = [
        {"text": "李白", "answer_start": 0},
        {"text": "静夜思", "answer_start": 1},
        {"text": "杜甫", "answer_start": 0},
    ]
    (question,) = read_squad(_file(tmp_path, {"data": [_article(answers=answers)]}))
    assert question.starts == (0, 3, -1)
    assert question == ReadingQuestion(
        "q", "谁?", "李白写静夜思", ("李白", "静夜思", "杜甫"), (0, 3, -1), "t"
    )


def test_what_is_written_is_read_again(tmp_path):
    rows = [
        ReadingQuestion("1", "谁?", "李白写静夜思", ("李白",), (0,), "t"),
        ReadingQuestion("2", "什么?", "李白写静夜思", ("静夜思",), (3,), "t"),
        ReadingQuestion("3", "无?", "另一篇", (), ()),
    ]
    write_squad(tmp_path / "b.json", rows)
    assert read_squad(tmp_path / "b.json") == rows


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"data": []}, "no list under 'data'"),
        ([1], "no list under 'data'"),
        ({"data": [{"title": "t"}]}, r"data\[0\]: 'paragraphs'"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "'context'"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": [{}]}]}]}, "'question'"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": []}]}]}, "holds no question"),
    ],
)
def test_a_broken_file_is_an_error_that_says_where(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        read_squad(_file(tmp_path, data))


def test_no_json_is_an_error(tmp_path):
    (tmp_path / "c.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="no JSON"):
        read_squad(tmp_path / "c.json")


def _questions(count, title=lambda i: ""):
    rows, rng = [], random.Random(1)
    for i in range(count):
        passage = "".join(chr(rng.randrange(0x4E00, 0x5E00)) for _ in range(40))
        rows += [
            ReadingQuestion(f"{i}-{k}", "?", passage, ("a",), (-1,), title(i)) for k in range(2)
        ]
    return rows


def test_a_split_keeps_passages_titles_and_near_duplicates_together():
    rows = _questions(200, lambda i: f"t{i // 3}")
    near = rows[0]._replace(id="near", passage=rows[0].passage[:-1] + "。", title="other")
    train, held = split_by_passage([*rows, near])
    assert sorted(q.id for q in [*train, *held]) == sorted(q.id for q in [*rows, near])
    for part in ("passage", "title"):
        assert not {getattr(q, part) for q in train} & {getattr(q, part) for q in held}
    sides = {q.id: side for side, part in enumerate((train, held)) for q in part}
    assert sides["near"] == sides["0-0"]
    assert 0.1 < len(held) / len(rows) < 0.3
    # No order and no seed matters.
    assert {q.id for q in split_by_passage([near, *rows[::-1]])[1]} == {q.id for q in held}
    with pytest.raises(ValueError, match="parts"):
        split_by_passage(rows, 1)


def test_near_passages_are_left_out():
    rows = _questions(20)
    near = rows[7]._replace(passage=rows[7].passage + "！")
    assert without_near(rows, [near]) == [q for q in rows if q.passage != rows[7].passage]


def test_the_overlap_baseline_finds_what_the_question_leaves_open():
    passage = "天气很好。《静夜思》的作者是唐代诗人李白，收录于全唐诗。法师是游戏角色。"
    assert overlap_answer("《静夜思》的作者是谁？", passage, 12) == "唐代诗人李白"
    assert overlap_answer("谁", "", 5) == ""
    for width in (1, 3, 100):
        assert overlap_answer("作者是谁", passage, width) in passage
    with pytest.raises(ValueError, match="width"):
        overlap_answer("a", "b", 0)
