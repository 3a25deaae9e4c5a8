"""Rows that the model of `KnowledgeQA` is trained on."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import save_tiny_model, tiny_tokenizer

from bert4kexue.methods.knowledge_base import KnowledgeBase, fact_key, ordered
from bert4kexue.methods.knowledge_training import (
    KnowledgeTraining,
    as_questions,
    rewritten,
    subject_pieces,
    training_rows,
    training_run,
)
from bert4kexue.methods.question_files import LabelledQuestion
from bert4kexue.methods.question_rewriting import QuestionWriter
from bert4kexue.training.objectives import Continuations
from bert4kexue.training.special import Special

LABELLED = [
    LabelledQuestion(0, "谁写的静夜思", "静夜思", "作者", "李白"),
    LabelledQuestion(1, "李白的国籍", "李白（唐代诗人）", "国籍", "中国"),
]


@pytest.mark.parametrize("order", ["spm", "smp"])
def test_a_row_is_the_question_and_its_key(order):
    tokenizer = tiny_tokenizer()
    rows, left_out = training_rows(as_questions(LABELLED), tokenizer, order)
    assert left_out == 0
    vocabulary, end = tokenizer._token_dict, tokenizer._token_end_id
    for (source, target), question in zip(rows, LABELLED, strict=True):
        assert source == [vocabulary[c] for c in question.question]
        subject, predicate, meaning = question.fact
        parts = [subject, predicate, meaning] if order == "spm" else [subject, meaning, predicate]
        assert target == [i for part in parts for i in (*(vocabulary[c] for c in part), end)]
        assert target == fact_key(tokenizer, question.fact, order)
    special = Special(tokenizer._token_start_id, end, tokenizer._token_mask_id, len(vocabulary))
    batch = Continuations(rows, special, multiple=32).batch(
        np.array([0, 1]), (2, 64), np.random.default_rng(0)
    )
    assert batch["positions"].shape == (2, 32), "one shape for all batches"


def test_keys_that_are_too_long_are_left_out_and_counted():
    questions = [*as_questions(LABELLED), *as_questions([LABELLED[0]._replace(name="诗" * 9)])]
    rows, left_out = training_rows(questions, tiny_tokenizer(), length=24)
    assert (len(rows), left_out) == (2, 1)
    with pytest.raises(ValueError, match="none of the 3 questions has a key of at most 4 tokens"):
        training_rows(questions, tiny_tokenizer(), length=8)


def test_what_would_fail_after_the_training_is_told_before_it(tmp_path):
    questions, settings = as_questions(LABELLED), KnowledgeTraining(steps=2)
    tokenizer, model, output = tiny_tokenizer(), tmp_path / "model", tmp_path / "run"
    save_tiny_model(model)
    with pytest.raises(ValueError, match=r"is one of float16, .* got 'flaot16'"):
        training_run(output, model, questions, tokenizer, settings, dtype="flaot16")
    with (model / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("𠮷\n")
    with pytest.raises(ValueError, match="the config beside it vocab_size="):
        training_run(output, model, questions, tokenizer, settings)
    assert not output.exists()


def test_rewritten_copies_follow_the_questions_and_keep_to_the_seed():
    questions = as_questions(LABELLED)
    found = rewritten(questions, 3, seed=7, names=["法师"])
    assert found[:2] == questions
    assert len(found) == 8
    assert found == rewritten(questions, 3, seed=7, names=["法师"])
    assert found != rewritten(questions, 3, seed=8, names=["法师"])
    assert all(q.subject in q.question for q in found)
    with pytest.raises(ValueError, match="rewrites must be 0 or more"):
        rewritten(questions, -1, seed=7)


def test_random_subjects_are_of_the_vocabularys_pieces():
    tokenizer = tiny_tokenizer()
    pieces = subject_pieces(tokenizer)
    assert all(piece.isalnum() for piece in pieces)
    assert {"诗", "人"} <= set(pieces)
    assert not {"[CLS]", "##", "（"} & set(pieces)
    questions = as_questions(LABELLED)
    found = rewritten(questions, 400, seed=7, names=["法师"], pieces=["酞", "蜓"])[2:]
    random = [q for q in found if set(q.subject.strip("《》")) <= {"酞", "蜓"}]
    swapped = [q for q in found if q.subject not in {q.subject for q in questions}]
    assert len(random) / len(found) == pytest.approx(0.65 * 0.4, abs=0.05)
    assert len(random) < len(swapped)


def test_names_in_quotes_are_keys_with_and_without_them():
    found = rewritten(as_questions(LABELLED), 400, seed=7, names=["法师"])[2:]
    quoted = [q for q in found if f"《{q.subject.strip('《》')}》" in q.question and not q.meaning]
    kept = sum(q.subject.startswith("《") for q in quoted)
    assert len(quoted) > 20
    assert kept / len(quoted) == pytest.approx(0.5, abs=0.15)
    assert all(q.subject in q.question for q in found)
    with pytest.raises(ValueError, match=r"noise=2 and quoted=0\.0 are shares"):
        QuestionWriter(as_questions(LABELLED), noise=2)


def test_orders_that_are_none_are_refused():
    assert ordered(("s", "p", "m"), "smp") == ["s", "m", "p"]
    with pytest.raises(ValueError, match="order is one of spm, smp, got 'pms'"):
        ordered(("s", "p", "m"), "pms")
    with pytest.raises(ValueError, match="order is one of"):
        KnowledgeTraining(steps=1, order="mps")
    with pytest.raises(ValueError, match="length=4 must be 8 or more"):
        KnowledgeTraining(steps=1, length=4)
    with pytest.raises(ValueError, match="dropout must be at least 0"):
        KnowledgeTraining(steps=1, dropout=1)


def test_facts_are_the_same_in_either_order():
    triples = [("李白（唐代诗人）", "国籍", "中国"), ("李白（唐代诗人）", "职业", "诗人")]
    tokenizer = tiny_tokenizer()
    found = {}
    for order in ("spm", "smp"):
        knowledge = KnowledgeBase.build(triples, tokenizer, order)
        keys = list(knowledge.tree)
        assert keys != found.get("keys")
        found["keys"] = keys
        facts = [fact for key in keys for fact in knowledge.facts(key).items()]
        assert sorted(facts) == [
            (("李白", "国籍", "唐代诗人"), ("中国",)),
            (("李白", "职业", "唐代诗人"), ("诗人",)),
        ]
