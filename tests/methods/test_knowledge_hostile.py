"""Whatever is asked, the answer is a fact of the base; whatever stands in files is told or kept."""

from __future__ import annotations

import numpy as np
import pytest
from _hostile import hostile_questions
from tiny_models import scattered_model, tiny_tokenizer

from bert4kexue.methods.knowledge_base import KnowledgeBase, split_meaning
from bert4kexue.methods.knowledge_files import build_tree_file
from bert4kexue.methods.knowledge_qa import KnowledgeQA
from bert4kexue.methods.question_files import parse_answer, read_questions

TRIPLES = [
    ("李白（唐代诗人）", "职业", "诗人"),
    ("李白（唐代诗人）", "出生地", "中"),
    ("李白（游戏角色）", "职业", "法师"),
    ("李白", "作者", "谁"),
    ("静夜思", "作者", "李白"),
    ("静夜思", "国籍", "很好"),
    ("龘", "作者", "甲"),
]


def ask_all(count, **options):
    tokenizer = tiny_tokenizer()
    knowledge = KnowledgeBase.build(TRIPLES, tokenizer)
    model = scattered_model(application="unilm", with_mlm="linear")
    qa = KnowledgeQA(model, tokenizer, knowledge, maxlen=32, batch_size=256, **options)
    questions = hostile_questions(count)
    facts: dict = {}
    for name, predicate, value in TRIPLES:
        subject, meaning = split_meaning(name)
        facts.setdefault((subject, predicate, meaning), []).append(value)
    found = qa.answer_batch(questions, 3)
    assert len(found) == count
    for question, answers in zip(questions, found, strict=True):
        assert answers, question[:40]
        for each in answers:
            assert facts[each[:3]] == list(each.objects), question[:40]
            assert np.isfinite(each.score)
    assert np.isfinite(qa.fit(questions[:300], [answers[0] for answers in found[:300]])).all()


def test_every_answer_to_sixty_hostile_questions_is_a_fact():
    ask_all(60, lookahead=True, subjects="named")


@pytest.mark.long
@pytest.mark.parametrize("in_graph", [True, False])
@pytest.mark.parametrize("subjects", ["all", "named", "similar"])
def test_every_answer_to_ten_thousand_hostile_questions_is_a_fact(subjects, in_graph, monkeypatch):
    monkeypatch.setattr("bert4kexue.ops.lookahead.FEW", 8)  # the base has seven keys
    ask_all(10_000, lookahead=True, subjects=subjects, in_graph=in_graph)


# --- what files may hold --------------------------------------------------------------------------


def built(tmp_path, text, **options):
    """The report on a file of facts, and all facts of its tree."""
    source, target = tmp_path / "facts.tsv", tmp_path / "tree"
    source.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    tokenizer = tiny_tokenizer()
    report = build_tree_file(source, target, tokenizer, **options)
    knowledge = KnowledgeBase.load(target, tokenizer)
    facts: dict = {}
    for key in list(knowledge.tree):
        facts |= knowledge.facts(key)
    knowledge.tree.close()
    return report, facts


def test_an_empty_subject_is_told(tmp_path):
    report, facts = built(tmp_path, "\t作者\t谁\n李白\t作者\t谁\n")
    assert report.rejected == [(1, "has an empty subject or predicate")]
    assert list(facts) == [("李白", "作者", "")]


@pytest.mark.parametrize(
    ("name", "subject", "meaning"),
    [
        ("李白）", "李白）", ""),
        ("李白（诗人）（中）", "李白（诗人）", "中"),
        ("（诗人）", "（诗人）", ""),
    ],
)
def test_parentheses_without_a_pair_stay_and_the_last_group_is_the_meaning(
    tmp_path, name, subject, meaning
):
    report, facts = built(tmp_path, f"{name}\t作者\t谁\n")
    assert not report.rejected
    assert facts == {(subject, "作者", meaning): ("谁",)}


def test_an_answer_without_two_separators_is_told(tmp_path):
    with pytest.raises(ValueError, match="got 2 parts"):
        parse_answer("李白 ||| 作者")
    path = tmp_path / "questions.json"
    path.write_text('{"question": "谁", "answer": "李白 ||| 作者"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1 of questions\.json"):
        read_questions(path)


def test_lines_with_too_few_or_too_many_columns_are_told(tmp_path):
    report, facts = built(tmp_path, "李白\t作者\n李白\t作者\t谁\t中\n李白\t作者\t谁\n")
    assert report.rejected == [(1, "has 2 columns, not 3"), (2, "has 4 columns, not 3")]
    assert facts == {("李白", "作者", ""): ("谁",)}


def test_objects_of_a_fact_that_comes_again_are_all_kept(tmp_path):
    report, facts = built(tmp_path, "李白\t作者\t谁\n李白\t作者\t中\n李白\t作者\t谁\n")
    assert report.keys == 1
    assert facts == {("李白", "作者", ""): ("谁", "中", "谁")}


def test_line_ends_of_windows_are_no_part_of_the_object(tmp_path):
    report, facts = built(tmp_path, "李白\t作者\t谁\r\n静夜思\t作者\t李白\r\n")
    assert not report.rejected
    assert facts == {("李白", "作者", ""): ("谁",), ("静夜思", "作者", ""): ("李白",)}


def test_a_tab_in_the_object_is_a_column_too_many_unless_something_else_separates(tmp_path):
    report, facts = built(tmp_path, "李白 ||| 作者 ||| 谁\t中\n", separator="|||")
    assert not report.rejected
    assert facts == {("李白", "作者", ""): ("谁\t中",)}


def test_a_key_that_no_model_could_write_is_counted(tmp_path):
    report, facts = built(tmp_path, f"{'李' * 40}\t作者\t谁\n李白\t作者\t谁\n", maxlen=20)
    assert report.rejected == [(1, "has a key of more than 20 tokens")]
    assert list(facts) == [("李白", "作者", "")]


def test_facts_that_the_vocabulary_makes_alike_are_kept_apart(tmp_path):
    report, facts = built(tmp_path, "龘\t作者\t甲\n驫\t作者\t乙\n")
    assert report.keys == 1
    assert facts == {("龘", "作者", ""): ("甲",), ("驫", "作者", ""): ("乙",)}


def test_an_empty_base_is_told(tmp_path):
    (tmp_path / "facts.tsv").touch()
    with pytest.raises(ValueError, match="is empty: it needs one triple a line"):
        build_tree_file(tmp_path / "facts.tsv", tmp_path / "tree", tiny_tokenizer())


@pytest.mark.parametrize("in_graph", [True, False])
@pytest.mark.parametrize("lookahead", [True, False])
def test_a_model_that_gives_every_allowed_token_no_probability_still_answers(lookahead, in_graph):
    tokenizer = tiny_tokenizer()
    knowledge = KnowledgeBase.build(TRIPLES, tokenizer)
    model = scattered_model(application="unilm", with_mlm="linear")
    bias = model.get_layer("MLM-Bias").weights[0] if "MLM-Bias" in _names(model) else None
    assert bias is not None, _names(model)
    values = np.full(bias.shape, -1e4, np.float32)
    values[tokenizer._token_dict["[PAD]"]] = 1e4  # the model wants what the tree never allows
    bias.assign(values)
    options = {"lookahead": lookahead, "in_graph": in_graph}
    answers = KnowledgeQA(model, tokenizer, knowledge, **options).answer("谁", 9)
    assert len(answers) == 7
    assert sum(np.exp(each.score) for each in answers) == pytest.approx(1, abs=1e-5)


def _names(model):
    return [layer.name for layer in model.layers]


def test_more_answers_than_there_are_keys_are_all_keys():
    tokenizer = tiny_tokenizer()
    knowledge = KnowledgeBase.build(TRIPLES, tokenizer)
    model = scattered_model(application="unilm", with_mlm="linear")
    assert len(KnowledgeQA(model, tokenizer, knowledge).answer("谁", 40)) == len(knowledge)


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path):
    KnowledgeBase.build(TRIPLES, tiny_tokenizer()).save(tmp_path / "tree")
    with pytest.raises(ValueError, match="another vocabulary"):
        KnowledgeBase.load(tmp_path / "tree", tiny_tokenizer("别的字"))
