"""Names, keys and answers of the knowledge base; answers against scoring every key by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_model, tiny_tokenizer

from bert4kexue.methods import knowledge_qa
from bert4kexue.methods.knowledge_base import KnowledgeBase, split_meaning
from bert4kexue.methods.knowledge_files import build_tree_file
from bert4kexue.methods.knowledge_qa import Answer, KnowledgeQA, answer
from bert4kexue.methods.knowledge_subjects import SubjectIndex, named_subjects

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


@pytest.mark.parametrize("in_graph", [True, False])
def test_answers_about_named_subjects_are_those_of_a_base_without_the_others(model, in_graph):
    tokenizer = tiny_tokenizer()
    options = {"lookahead": True, "in_graph": in_graph, "batch_size": 2}
    whole = KnowledgeBase.build(TRIPLES, tokenizer)
    found = KnowledgeQA(model, tokenizer, whole, subjects="named", **options).answer_batch(
        ["静夜思的作者是谁", "李白的职业", "李白的静夜思", "谁写的"], 9
    )
    for answers, subjects in zip(
        found, (["静夜思"], ["李白"], ["李白", "静夜思"], ["李白", "静夜思"]), strict=True
    ):
        assert {each.subject for each in answers} == set(subjects)
    alone = KnowledgeBase.build([t for t in TRIPLES if t[0] != "静夜思"], tokenizer)
    expected = KnowledgeQA(model, tokenizer, alone, **options).answer("李白的职业", 9)
    assert [each[:4] for each in found[1]] == [each[:4] for each in expected]
    for mine, theirs in zip(found[1], expected, strict=True):
        assert mine.score == pytest.approx(theirs.score, abs=1e-4)
    with pytest.raises(ValueError, match="subjects='some': choose one of"):
        KnowledgeQA(model, tokenizer, whole, subjects="some")


@pytest.mark.parametrize("order", ["spm", "smp"])
def test_the_fit_is_the_probability_of_what_is_said_without_the_tree(order):
    tokenizer = tiny_tokenizer()
    model = tiny_model(application="unilm", with_mlm="linear")
    knowledge = KnowledgeBase.build(TRIPLES, tokenizer, order)
    qa = KnowledgeQA(model, tokenizer, knowledge, batch_size=2)
    questions = ["静夜思的作者是谁", "李白", "谁写的"]
    answers = [found[0] for found in qa.answer_batch(questions, 1)]
    vocabulary, end = tokenizer._token_dict, tokenizer._token_end_id
    for question, best, fit in zip(questions, answers, qa.fit(questions, answers), strict=True):
        parts = [best.subject, best.predicate]
        parts = parts if order == "spm" else [best.subject, best.meaning, best.predicate]
        said = [i for part in parts for i in (*(vocabulary[c] for c in part), end)]
        prompt, total = tokenizer.encode(question)[0], 0.0
        for place, token in enumerate(said):  # one more token of the key at a time
            ids = np.array([[*prompt, *said[:place]]])
            segments = np.array([[0] * len(prompt) + [1] * place])
            logits = np.asarray(model.predict_on_batch([ids, segments])[0, -1], np.float64)
            total += logits[token] - np.logaddexp.reduce(logits)
        assert fit == pytest.approx(total, abs=1e-3)


@pytest.fixture
def other_names(tmp_path):
    """The triples with other names of 李白 and 静夜思 as a base."""
    tokenizer = tiny_tokenizer()
    text = "".join("\t".join(triple) + "\n" for triple in TRIPLES)
    (tmp_path / "facts.tsv").write_text(text, encoding="utf-8")
    aliases = {"李白（唐代诗人）": ["角色今天"], "静夜思": ["思"]}
    build_tree_file(tmp_path / "facts.tsv", tmp_path / "tree", tokenizer, aliases=aliases)
    knowledge = KnowledgeBase.load(tmp_path / "tree", tokenizer)
    yield knowledge
    knowledge.tree.close()


def test_a_fact_with_several_keys_is_answered_once_by_the_best_of_them(model, other_names):
    tokenizer = tiny_tokenizer()
    qa = KnowledgeQA(model, tokenizer, other_names)
    assert len(other_names) == 5 + 3
    by_key = {tuple(ids): score for ids, score in qa._search([[2, 5, 3]], 8, 8, 32)[0]}
    best: dict = {}
    for key, score in by_key.items():
        ((fact, _),) = other_names.facts(key).items()
        best[fact] = max(score, best.get(fact, -np.inf))
    question = tokenizer.decode([5])
    answers = qa.answer(question, 8)
    assert len(answers) == len(best) == 5
    for each in answers:
        assert each.score == pytest.approx(best[each[:3]], abs=1e-4)
        assert by_key[each.key] == pytest.approx(each.score, abs=1e-4)
    scores = [each.score for each in answers]
    assert scores == sorted(scores, reverse=True)
    assert [candidate.answer for candidate in qa.explain(question, 8)] == answers


def test_the_fit_of_a_fact_is_that_of_the_name_it_was_found_by(model, other_names):
    tokenizer = tiny_tokenizer()
    qa = KnowledgeQA(model, tokenizer, other_names, subjects="named")
    question = "角色今天的职业"
    best = qa.answer(question, 1)[0]
    assert best.subject == "李白"
    written = Answer("角色今天", best.predicate, "", (), 0)
    plain = Answer(*best[:4], 0)
    fits = qa.fit([question] * 3, [best, written, plain])
    assert fits[0] == pytest.approx(fits[1], abs=1e-4)
    assert abs(fits[0] - fits[2]) > 0.1


def test_of_facts_that_the_vocabulary_makes_alike_the_one_that_is_named_comes_first(model):
    tokenizer = tiny_tokenizer()
    knowledge = KnowledgeBase.build([("龘", "作者", "甲"), ("驫", "作者", "乙")], tokenizer)
    for name, other in ("龘驫", "驫龘"):
        answers = answer(model, tokenizer, knowledge, f"{name}的作者", topk=1)
        assert [each.subject for each in answers] == [name, other]


def test_subjects_with_a_typo_are_found_among_all():
    tokenizer = tiny_tokenizer()
    names = ["静夜思", "李白", "唐代诗人", "游戏角色职业很好", "今天"]
    tree = KnowledgeBase.build([(name, "作者", "谁") for name in names], tokenizer).tree
    ids, end = tokenizer._token_dict, tokenizer._token_end_id
    index = SubjectIndex(tree, end)
    for question, subjects in (
        ("静夜写的作者", ["静夜思"]),  # one of three is another
        ("写静思谁", ["静夜思"]),  # one is left out
        ("静夜写思谁", ["静夜思"]),  # one is put in
        ("李的白", []),  # of two none may be wrong
        ("唐代诗人和静夜写", ["静夜思"]),  # the other stands in it
        ("谁的游戏色职业很好", ["游戏角色职业很好"]),
        ("谁游戏角职业好静夜写", ["静夜思", "游戏角色职业很好"]),  # the fewest edits first
        ("静", []),
        ("", []),
    ):
        found = index.similar([ids.get(c, 1) for c in question])
        assert found == [[*(ids[c] for c in subject), end] for subject in subjects], question
    both = [ids.get(c, 1) for c in "谁游戏角职业好静夜写"]
    assert index.similar(both, limit=1) == [[*(ids[c] for c in "静夜思"), end]]


def test_a_typo_is_seen_beside_many_subjects_that_stand_in_the_question():
    tokenizer = tiny_tokenizer()
    question, ids, end = "静夜写的作者是谁李白诗人", tokenizer._token_dict, tokenizer._token_end_id
    exact = sorted({question[i : i + n] for n in (1, 2, 3) for i in range(3, len(question) - n)})
    triples = [(name, "作者", "谁") for name in ["静夜思", *exact]]
    tree = KnowledgeBase.build(triples, tokenizer).tree
    row = [ids[c] for c in question]
    assert len(exact) >= 20
    assert len(named_subjects(tree, row, end)) >= 20
    assert [ids[c] for c in "静夜思"] + [end] in SubjectIndex(tree, end).similar(row)


def test_a_typo_in_the_subject_is_seen_through_if_asked(model):
    tokenizer = tiny_tokenizer()
    triples = [("静夜思", "作者", "李白"), ("唐代诗人", "作者", "谁")]
    knowledge = KnowledgeBase.build(triples, tokenizer)
    for question, subject in (("静夜写的作者", "静夜思"), ("唐代诗写的作者", "唐代诗人")):
        qa = KnowledgeQA(model, tokenizer, knowledge, subjects="similar")
        assert {a.subject for a in qa.answer(question, 3)} == {subject}
        free = KnowledgeQA(model, tokenizer, knowledge, subjects="named")
        assert len(free.answer(question, 3)) == 2


def test_named_subjects_stand_in_the_question():
    tokenizer = tiny_tokenizer()
    tree = KnowledgeBase.build([*TRIPLES, ("夜", "作者", "谁")], tokenizer).tree
    ids, end = tokenizer._token_dict, tokenizer._token_end_id
    for question, subjects in (
        ("静夜思的夜", ["静夜思", "夜"]),
        ("静夜", ["夜"]),
        ("李的白", []),
        ("", []),
    ):
        found = named_subjects(tree, [ids[c] for c in question], end)
        assert found == [[*(ids[c] for c in subject), end] for subject in subjects]
    assert named_subjects(tree, tokenizer.encode("李白")[0], end) == [[ids["李"], ids["白"], end]]


QUESTIONS = [
    "静夜思的作者是谁",
    "李白",
    "",
    "谁写的诗" * 12,
    "\x00\x07",
    "'; DROP TABLE facts;--",
    "ΣKöln",
]


@pytest.fixture(scope="module")
def facts():
    return KnowledgeBase.build(TRIPLES, tiny_tokenizer())


@pytest.mark.parametrize("lookahead", [False, True])
def test_questions_in_batches_are_the_questions_alone(model, facts, lookahead):
    """Inside of the compiled loop, and with the tree outside of it."""
    inside, outside = (
        KnowledgeQA(
            model,
            tiny_tokenizer(),
            facts,
            lookahead=lookahead,
            maxlen=40,
            batch_size=3,
            in_graph=in_graph,
        )
        for in_graph in (True, False)
    )
    seen = []
    together = inside.answer_batch(
        QUESTIONS, 4, watch=lambda batches, count: seen.append((len(batches), count)) or batches
    )
    assert seen == [(3, len(QUESTIONS))]
    for question, found, other in zip(
        QUESTIONS, together, outside.answer_batch(QUESTIONS, 4), strict=True
    ):
        alone = inside.answer(question, 4)
        assert [each[:4] for each in found] == [each[:4] for each in alone]
        assert [each[:4] for each in found] == [each[:4] for each in other]
        scores = [[each.score for each in answers] for answers in (found, alone, other)]
        np.testing.assert_allclose(scores[1:], [scores[0]] * 2, atol=1e-4)
        assert all((e.subject, e.predicate, e.meaning) in _FACTS for e in found)


@pytest.mark.parametrize("in_graph", [True, False])
def test_keys_longer_than_the_first_search_are_found_by_the_second(
    model, facts, in_graph, monkeypatch
):
    options = {"in_graph": in_graph, "batch_size": 2}
    qa = KnowledgeQA(model, tiny_tokenizer(), facts, **options)
    questions = ["李白的职业", "静夜思", "谁"]
    expected = qa.answer_batch(questions, 2)
    lengths = []
    real = KnowledgeQA._search
    monkeypatch.setattr(knowledge_qa, "SHORT", 8)  # of 静夜思 + 作者 + an empty meaning
    monkeypatch.setattr(
        KnowledgeQA, "_search", lambda self, *a: lengths.append(a[3]) or real(self, *a)
    )
    found = qa.answer_batch(questions, 2)
    assert set(lengths) == {8, facts.tree.depth}
    for mine, theirs in zip(found, expected, strict=True):
        assert [each[:4] for each in mine] == [each[:4] for each in theirs]
        scores = [[each.score for each in answers] for answers in (mine, theirs)]
        np.testing.assert_allclose(*scores, atol=1e-4)


_FACTS = {
    (*split_meaning(name)[:1], predicate, split_meaning(name)[1]) for name, predicate, _ in TRIPLES
}


def test_the_explanation_holds_what_the_model_says_alone(model, facts):
    tokenizer, question = tiny_tokenizer(), "静夜思的作者是谁"
    plain = {a[:3]: a.score for a in KnowledgeQA(model, tokenizer, facts).answer(question, 9)}
    qa = KnowledgeQA(model, tokenizer, facts, lookahead=True)
    candidates = qa.explain(question, 9)
    assert [c.answer for c in candidates] == qa.answer(question, 9)
    assert {c.answer[:3] for c in candidates} == set(plain)
    for candidate in candidates:
        assert candidate.model_score == pytest.approx(plain[candidate.answer[:3]], abs=1e-4)
    gains = {c.answer.name + c.answer.predicate: c.gain for c in candidates}
    # Of the question 作者 follows 静夜思; of 李白 nothing stands in it.
    assert gains["静夜思作者"] == 2
    assert gains["李白（唐代诗人）出生地"] == 0


def test_wrong_numbers_are_told_before_anything_is_computed(model, facts):
    tokenizer = tiny_tokenizer()
    with pytest.raises(ValueError, match="positions, and the model has 64"):
        KnowledgeQA(tiny_model(family="bert", application="unilm"), tokenizer, facts, maxlen=60)
    with pytest.raises(ValueError, match="maxlen=2 must be 3"):
        KnowledgeQA(model, tokenizer, facts, maxlen=2)
    qa = KnowledgeQA(model, tokenizer, facts)
    for topk, beams in ((0, None), (3, 2)):
        with pytest.raises(ValueError, match="must be 1 or more"):
            qa.answer("谁", topk, beams)
    with pytest.raises(ValueError, match="application='unilm'"):
        KnowledgeQA(tiny_model(application="lm"), tokenizer, facts)
    assert len(qa.answer("谁", 50)) == 5, "no more than there are keys"
