"""Names, keys and answers of the knowledge base; answers against scoring every key by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model, tiny_tokenizer

from bert4kexue.methods.knowledge_qa import KnowledgeBase, KnowledgeQA, answer, split_meaning

TRIPLES = [
    ("李白（唐代诗人）", "职业", "诗人"),
    ("李白（唐代诗人）", "出生地", "中"),
    ("李白（游戏角色）", "职业", "法师"),
    ("李白", "作者", "谁"),
    ("静夜思", "作者", "李白"),
    ("静夜思", "作者", "很好"),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("李白", ("李白", "")),
        ("李白（诗人）", ("李白", "诗人")),
        ("甲（一）（二）", ("甲（一）", "二")),
        ("红（A（B））", ("红", "A（B）")),
        ("甲（一）乙", ("甲（一）乙", "")),
        ("乙）", ("乙）", "")),
        ("乙（", ("乙（", "")),
        ("（诗人）", ("（诗人）", "")),
        ("李白（）", ("李白（）", "")),
        ("李白(诗人)", ("李白(诗人)", "")),
        ("", ("", "")),
    ],
)
def test_split_meaning(name, expected):
    assert split_meaning(name) == expected


@given(
    subject=st.text("李白）a", min_size=1, max_size=5),
    meaning=st.text("诗人a", min_size=1, max_size=5),
)
def test_a_name_put_together_is_taken_apart(subject, meaning):
    assert split_meaning(f"{subject}（{meaning}）") == (subject, meaning)


@pytest.fixture(scope="module")
def model():
    return tiny_model(application="unilm", with_pool="linear")


def test_keys_are_three_terminated_parts():
    tokenizer = tiny_tokenizer()
    ids, end = tokenizer._token_dict, tokenizer._token_dict["[SEP]"]
    knowledge = KnowledgeBase.build(TRIPLES, tokenizer)
    expected = set()
    for parts in [
        ("李白", "职业", "唐代诗人"),
        ("李白", "出生地", "唐代诗人"),
        ("李白", "职业", "游戏角色"),
        ("李白", "作者", ""),
        ("静夜思", "作者", ""),
    ]:
        expected.add(tuple(i for part in parts for i in [*(ids[c] for c in part), end]))
    assert set(knowledge.tree) == expected
    assert len(knowledge) == 5
    key = [ids[c] for c in "静夜思"] + [end] + [ids[c] for c in "作者"] + [end, end]
    assert knowledge.facts(key) == {("静夜思", "作者", ""): ("李白", "很好")}
    assert knowledge.facts(key[:-1]) == {}


def test_answers_are_the_keys_by_probability(model):
    """Every key's probability, token by token from the model itself, renormalised in the tree."""
    tokenizer = tiny_tokenizer()
    knowledge = KnowledgeBase.build(TRIPLES, tokenizer)
    question = "静夜思的作者是谁"
    prompt, keys = tokenizer.encode(question)[0], list(knowledge.tree)
    expected = {}
    for key in keys:
        ids = np.array([[*prompt, *key]])
        segments = np.array([[0] * len(prompt) + [1] * len(key)])
        probas = np.asarray(model.predict_on_batch([ids, segments])[1][0], np.float64)
        total = 0.0
        for place, token in enumerate(key):
            allowed = sorted({k[place] for k in keys if k[:place] == key[:place]})
            row = probas[len(prompt) + place - 1]
            total += np.log(row[token]) - np.log(row[allowed].sum())
        ((fact, objects),) = knowledge.facts(key).items()
        expected[fact] = (objects, total)
    answers = answer(model, tokenizer, knowledge, question, topk=9)
    assert [each.score for each in answers] == sorted(
        (each.score for each in answers), reverse=True
    )
    assert {each[:3] for each in answers} == set(expected)
    for each in answers:
        objects, score = expected[each[:3]]
        assert each.objects == objects
        assert each.score == pytest.approx(score, abs=1e-4)
    assert sum(np.exp([each.score for each in answers])) == pytest.approx(1, abs=1e-5)


def test_saved_knowledge_gives_the_same_answers(model, tmp_path):
    tokenizer = tiny_tokenizer()
    knowledge = KnowledgeBase.build(TRIPLES, tokenizer)
    knowledge.save(tmp_path / "facts.tree")
    loaded = KnowledgeBase.load(tmp_path / "facts.tree", tokenizer)
    both = [KnowledgeQA(model, tokenizer, each).answer("李白", 3) for each in (knowledge, loaded)]
    assert both[0] == both[1]
    loaded.tree.close()
    other = tiny_tokenizer("别的字")
    with pytest.raises(ValueError, match="another vocabulary"):
        KnowledgeBase.load(tmp_path / "facts.tree", other)
    with pytest.raises(ValueError, match="another vocabulary"):
        KnowledgeQA(model, other, knowledge)


def test_facts_with_the_same_ids_are_kept_apart(model):
    tokenizer = tiny_tokenizer()
    knowledge = KnowledgeBase.build([("龘", "作者", "甲"), ("驫", "作者", "乙")], tokenizer)
    assert len(knowledge) == 1
    assert knowledge.collisions() == [[("龘", "作者", ""), ("驫", "作者", "")]]
    answers = answer(model, tokenizer, knowledge, "谁", topk=3)
    assert [(each.subject, each.objects) for each in answers] == [("龘", ("甲",)), ("驫", ("乙",))]


def test_mistakes_are_named(model):
    tokenizer = tiny_tokenizer()
    with pytest.raises(ValueError, match="triple 2 needs a subject and a predicate"):
        KnowledgeBase.build([("李白", "作者", "谁"), (" ", "作者", "谁")], tokenizer)
    with pytest.raises(ValueError, match="holds no fact"):
        KnowledgeQA(model, tokenizer, KnowledgeBase.build([], tokenizer))
    knowledge = KnowledgeBase.build(TRIPLES, tokenizer)
    with pytest.raises(ValueError, match="application='unilm'"):
        KnowledgeQA(tiny_model(with_pool="linear"), tokenizer, knowledge)
