"""What the small RoFormer is trained on: vocabulary, swapped subjects, sets and their splits."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.methods.question_rewriting import QuestionWriter
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training import vocabulary as library_vocabulary

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def examples():
    """The example scripts as modules; they import each other by bare name."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import ship_sets
    finally:
        sys.path.remove(str(EXAMPLES))

    class Modules:
        vocabulary, sets = library_vocabulary, ship_sets

    return Modules


TEXTS = [
    "李白的出生地是哪里？",
    "《静夜思》的作者是李白吗",
    "显卡gtx1060和gtx1080的显存，GTX系列，radeon；radeons",
    "北京（中国）的面积 16410 平方公里 café",
]


# --- the vocabulary -----------------------------------------------------------------------------


def test_vocabulary_begins_with_the_special_tokens_and_repeats_none(examples):
    tokens = examples.vocabulary.make_vocabulary(TEXTS)
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(tokens)) == len(tokens)
    assert tokens == examples.vocabulary.make_vocabulary(iter(TEXTS))


def test_vocabulary_orders_characters_by_frequency_then_code_point(examples):
    tokens = examples.vocabulary.make_vocabulary(["乙甲丙", "丙"])
    assert [t for t in tokens if t in "甲乙丙"] == ["丙", "乙", "甲"]


def test_words_are_counted_as_the_texts_pass(examples):
    def texts():
        for _ in range(50):
            yield Text("我们喜欢自然语言处理，我们学习")

    class Text(str):
        alive = most = 0

        def __init__(self, _):
            Text.alive += 1
            Text.most = max(Text.most, Text.alive)

        def __del__(self):
            Text.alive -= 1

    tokens = examples.vocabulary.make_vocabulary(texts(), words=2)
    assert [t for t in tokens[5:] if len(t.removeprefix("##")) > 1] == ["我们", "喜欢"]
    assert Text.most < 5, "the texts are kept"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("abc1 中文，αβ", max_size=12), max_size=8))
def test_what_made_the_vocabulary_is_never_unknown(examples, texts):
    texts = [*texts, "中"]
    make_vocabulary = examples.vocabulary.make_vocabulary
    tokens = make_vocabulary(texts, merges=5)
    tokenizer = Tokenizer({t: i for i, t in enumerate(tokens)}, do_lower_case=True)
    for text in texts:
        ids, _ = tokenizer.encode(text)
        assert tokenizer._token_unk_id not in ids


def test_merges_are_those_of_byte_pair_encoding(examples):
    # ab occurs 5 times, then (ab, c) 3 times; the pair (##b, ##d) once is below the limit of 2.
    words = Counter({"ab": 1, "abc": 3, "abd": 1})
    assert examples.vocabulary.merge_pieces(words, 10, 2) == ["ab", "abc"]
    assert examples.vocabulary.merge_pieces(Counter({"aaaa": 2}), 1, 2) == ["##aa"]


def test_size_and_rarity_bound_the_vocabulary(examples):
    make = examples.vocabulary.make_vocabulary
    assert len(make(TEXTS, size=40)) == 40
    assert "兲" in make(["兲"])
    assert "兲" not in make(["兲"], min_count=2)


# --- questions ----------------------------------------------------------------------------------


def test_rewritten_questions_still_hold_what_their_key_says(examples):
    question = examples.sets.Question
    rows = [
        question("请问李白的出生地是哪里？", "李白", "出生地", ""),
        question("北京（中国）有多大", "北京", "面积", "中国"),
    ]
    writer = QuestionWriter(rows, ["王小明"], ["显存容量大吗看看这个标题"], list("甲乙丙"))
    rng = np.random.default_rng(0)
    seen = Counter()
    for _ in range(400):
        for row in rows:
            new = writer.write(row, rng)
            assert new.subject in new.question
            seen["swapped"] += new.subject != row.subject
            seen["said"] += bool(new.meaning) and new.meaning in new.question
            seen["unsaid"] += bool(new.meaning) and new.meaning not in new.question
            if row.predicate == "出生地":
                assert new.predicate == "出生地"
                assert "出生地" in new.question
    assert min(seen.values()) > 20


def test_a_question_without_its_subject_is_left_alone(examples):
    row = examples.sets.Question("中国盛行哪些宗教", "中华人民共和国", "主要宗教", "")
    writer = QuestionWriter([row], ["名"], ["题"], ["字"])
    rng = np.random.default_rng(0)
    assert all(writer.write(row, rng) == row for _ in range(50))


# --- sets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("李娜（歌手）", ("李娜", "歌手")),
        ("李娜", ("李娜", "")),
        ("甲（乙）（丙）", ("甲（乙）", "丙")),
        ("（丙）", ("（丙）", "")),
    ],
)
def test_the_last_full_width_parentheses_are_the_meaning(examples, subject, expected):
    assert examples.sets.split_meaning(subject) == expected


def test_predicates_lose_what_the_crawl_left(examples):
    clean = examples.sets.clean_predicate
    assert [clean(p) for p in ("职 务", "【年代】", "地区**", "cas no.")] == [
        "职务",
        "年代",
        "地区",
        "cas no.",
    ]


@settings(deadline=None)
@given(st.text("甲乙，。 \n", max_size=80), st.integers(4, 30))
def test_pieces_keep_the_characters_in_order_and_the_limit(examples, text, limit):
    pieces = examples.sets.pieces
    cut = pieces(text, limit)
    assert all(3 < len(p) <= limit for p in cut)
    rest = " ".join(text.split())
    for piece in cut:
        at = rest.index(piece)
        # Only pieces too short to learn from, and the spaces around them, are left out.
        rest = rest[at + len(piece) :]


def test_nothing_held_out_is_trained_on(examples, data_dir):
    train, held = (examples.sets.questions(data_dir, s) for s in ("train", "held_out"))
    # One of the 14,609 has an empty subject.
    assert len(train) + len(held) == 14_608
    assert not {q.subject for q in train} & {q.subject for q in held}
    assert 0.08 < len(held) / 14_609 < 0.12
    text, unseen = (
        {p for ps in examples.sets.running_text(data_dir, s).values() for p in ps}
        for s in ("train", "held_out")
    )
    assert text
    assert unseen
    assert not text & unseen
    assert [len(examples.sets.sentence_pairs(data_dir, s)) for s in ("train", "dev", "test")] == [
        5231,
        1458,
        1361,
    ]
