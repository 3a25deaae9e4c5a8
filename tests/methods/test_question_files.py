"""Files of questions in three formats, with answers and without; hostile rows and characters."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.methods.kgclue import read_predictions, write_submission
from bert4kexue.methods.question_files import (
    LabelledQuestion,
    Question,
    Triple,
    iter_questions,
    iter_texts,
    read_questions,
    with_own_ids,
)
from bert4kexue.text.lines import read_lines

BREAKS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""What ends a line for `str.splitlines`, and for no file of lines."""

NLPCC = """<question id={0}>\t谁写了静夜思？
<triple id={0}>\t静夜思 ||| 作者 ||| {1}
<answer id={0}>\t{1}
==================================================
"""


def written(path, text):
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 3, "question": "谁"}\n{"id": 4, "question": "何"}\n',
        "<question id=3>\t谁\n<question id=4>\t何\n",
        "<question id=3>\t谁\n=====\n\n<question id=4>\t何\n=====\n",
        "<question id=3>\t谁\n<triple id=3>\t ||| 何\n<question id=4>\t何\n<answer id=4>\t何",
        '\n{"id": "3", "question": "谁", "answer": 5}\r\n\n{"id": 4, "question": "何"}',
    ],
)
def test_what_is_asked_needs_no_answer(text, tmp_path):
    path = written(tmp_path / "test", text)
    assert list(iter_texts(path)) == [Question(3, "谁"), Question(4, "何")]
    rejected = []
    assert read_questions(path, rejected) == []
    assert len(rejected) == 2
    assert "one answer" in rejected[1]


def test_texts_are_numbered(tmp_path):
    path = written(tmp_path / "texts", "\ufeff谁 \r\n\n 何\u2028\u2029时\x85")
    assert list(iter_texts(path)) == [Question(0, "谁 "), Question(1, " 何\u2028\u2029时\x85")]
    with pytest.raises(ValueError, match="holds no question"):
        iter_texts(written(path, " \n\n"))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ('{"question": 5}', "line 2 of rows needs an object with `question`"),
        ('{"question": null}', "line 2 of rows needs an object with `question`"),
        ('{"question": "\\ud800"}', "line 2 of rows needs an object with `question`"),
        ('{"id": 9}', "line 2 of rows needs an object with `question`"),
        ("[1]", "line 2 of rows needs an object with `question`"),
        ('{"id": 1.5, "question": "何"}', "line 2 of rows: `id` is a whole number, got '1.5'"),
        ('{"id": true, "question": "何"}', "line 2 of rows: `id` is a whole number, got 'True'"),
        ('{"id": null, "question": "何"}', "line 2 of rows: `id` is a whole number, got 'None'"),
        ('{"id": "a", "question": "何"}', "line 2 of rows: `id` is a whole number, got 'a'"),
        ('{"id": 0, "question": "何"}', "id 0 of rows comes twice, the second time with '何'"),
        ("{", "line 2 of rows is no JSON"),
        ('{"id": ' + 5000 * "1" + "}", "line 2 of rows is no JSON"),
        ("[" * 100_000, "line 2 of rows is no JSON"),
    ],
    ids=lambda text: text[:20],
)
def test_rows_that_break_the_format_are_told_and_the_others_kept(row, told, tmp_path):
    path = written(tmp_path / "rows", f'{{"id": 0, "question": "谁"}}\n{row}\n')
    rejected = []
    assert list(iter_texts(path, rejected)) == [Question(0, "谁")]
    assert len(rejected) == 1
    assert rejected[0].startswith(told)
    with pytest.raises(ValueError, match=r"(line 2|id 0) of rows"):
        list(iter_texts(path))


@pytest.mark.parametrize("answer", ["3", "null", '"\\ud800 ||| b ||| c"', '["a ||| b ||| c"]'])
def test_an_answer_is_a_text(answer, tmp_path):
    path = written(tmp_path / "rows", f'{{"question": "谁", "answer": {answer}}}')
    with pytest.raises(ValueError, match="line 1 of rows needs one answer"):
        read_questions(path)


def test_questions_of_one_number_are_both_read_and_told_where_numbers_count(tmp_path):
    path = written(tmp_path / "rows", NLPCC.format(7, "李白") + NLPCC.format(7, "谁"))
    both = [
        LabelledQuestion(7, "谁写了静夜思？", "静夜思", "作者", each) for each in ("李白", "谁")
    ]
    assert read_questions(path) == both
    rejected = []
    assert list(with_own_ids(both, path, rejected)) == both[:1]
    assert list(iter_texts(path, rejected)) == [Question(7, "谁写了静夜思？")]
    assert len(rejected) == 2
    assert all(why.startswith("id 7 of rows comes twice") for why in rejected)


@given(st.lists(st.integers(-600, 600) | st.integers()))
def test_numbers_that_come_twice_are_found(numbers):
    questions = [Question(number, "") for number in numbers]
    rejected = []
    found = [question.id for question in with_own_ids(questions, "rows", rejected)]
    assert found == list(dict.fromkeys(numbers))
    assert len(rejected) == len(numbers) - len(found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("<question id=1>\t谁\n<triple id=2>\ta ||| b ||| c", "needs one answer"),
        ("<question id=1>\t谁\n" + 2 * "<triple id=1>\ta ||| b ||| c\n", "needs one answer"),
        ("<question id=>\t谁", "is none of"),
        (f"<question id={5000 * '1'}>\t谁", "is none of"),
    ],
)
def test_blocks_that_break_the_format_are_told(text, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        read_questions(written(tmp_path / "blocks", text))


def test_lines_without_their_question_are_told(tmp_path):
    text = "<question id=1>\t谁\n<question id=2>\t何\n<triple id=1>\ta ||| b ||| c\n"
    rejected = []
    path = written(tmp_path / "blocks", text)
    assert [question.id for question in iter_texts(path, rejected)] == [1, 2]
    assert rejected == ["question 1 of blocks needs a line <question id=1> right before its others"]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_other_encodings_are_told_with_a_remedy(encoding, tmp_path):
    path = tmp_path / "questions.json"
    path.write_text('{"question": "谁写了静夜思"}\n', encoding=encoding, newline="\n")
    for read in (read_questions, lambda path: list(iter_texts(path))):
        with pytest.raises(ValueError, match=r"line 1 of .*questions\.json is not UTF-8.*iconv"):
            read(path)


@pytest.mark.parametrize("line", ["\x0b", "\x85", "a\rb", "\u2028a", "a\x1c "])
def test_only_newlines_end_lines(line, tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(f"\ufeff{line}\r\n{line}\n\n{line}".encode())
    assert list(read_lines(path)) == [line, line, "", line]


@given(st.lists(st.tuples(st.text(), st.text(st.sampled_from(BREAKS + "甲 |\r\n\t"))), max_size=5))
def test_submissions_come_back_whatever_they_hold(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("round") / "answers.json"
    questions = [
        LabelledQuestion(i, text, "甲" + text.replace("|", "").strip(), "乙", other.strip())
        for i, (text, other) in enumerate(rows)
    ]
    answers = [question.triple for question in questions]
    write_submission(path, questions, answers)
    assert list(read_predictions(path).values()) == answers
    if rows:
        assert read_questions(path) == questions
        assert list(iter_texts(path)) == [Question(*question[:2]) for question in questions]


@given(st.text())
def test_a_name_of_any_characters_is_an_alias(tmp_path_factory, name):
    from bert4kexue.methods.knowledge_files import read_aliases

    name = " ".join(name.translate(dict.fromkeys(map(ord, "\t\r\n"))).split(" ")).strip()
    if name:
        path = written(tmp_path_factory.mktemp("names") / "names.tsv", f"甲\t{name}\n")
        assert read_aliases(path) == {"甲": [name]}


@pytest.mark.parametrize("kind", ["json", "nlpcc"])
def test_memory_does_not_grow_with_the_file(kind, tmp_path):
    def row(i):
        if kind == "nlpcc":
            return NLPCC.format(i, "李白")
        answer = "静夜思 ||| 作者 ||| 李白"
        return json.dumps({"id": i, "question": "谁写了静夜思？", "answer": answer}) + "\n"

    path = written(tmp_path / "many", "".join(map(row, range(20_000))))
    for read in (iter_questions, iter_texts):
        tracemalloc.start()
        assert sum(1 for _ in read(path)) == 20_000
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 300_000


def test_the_question_without_a_subject_is_asked(data_dir):
    path = data_dir / "nlpcc2016kbqa" / "nlpcc-iccpol-2016.kbqa.training-data"
    texts = list(iter_texts(path))
    assert len(texts) == 14609
    assert texts[12901] == Question(12902, "请问卡雅的日文怎么写？")
    assert Triple("", "", "") not in [question.triple for question in read_questions(path, [])]
