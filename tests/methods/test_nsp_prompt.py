"""Next-sentence prompts: the model called on one pair at a time, cuts, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CHARACTERS, scattered_model, tiny_model, tiny_tokenizer

from bert4kexue.methods.nsp_prompt import NSPScorer, PromptTemplate, two_stage
from bert4kexue.methods.zero_shot import ZeroShotClassifier

TEXTS = ["今天天气很好", "", "李白是唐代诗人" * 6, "谁写静夜思", "游戏角色"]
PROMPTS = ("天气", "这是诗人的作者", "游戏")


@pytest.fixture(scope="module")
def model():
    return scattered_model(family="bert", with_nsp=True)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def alone(model, ids, segments):
    return float(np.asarray(model.predict_on_batch([np.array([ids]), np.array([segments])]))[0, 0])


def test_a_score_is_the_first_probability_of_the_pair_alone(model, tokenizer):
    pairs = [(a, b) for a in TEXTS for b in PROMPTS]
    found = NSPScorer(model, tokenizer, maxlen=64, tokens_per_batch=100).score(pairs)
    expected = [alone(model, *tokenizer.encode(a, b)) for a, b in pairs]
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("place", ["prefix", "suffix"])
def test_prompts_are_pairs_with_the_prompt_on_its_side(model, tokenizer, place):
    scorer = NSPScorer(model, tokenizer, maxlen=64)
    found = scorer.score_prompts(TEXTS, PromptTemplate(PROMPTS, place))
    pairs = [(p, t) if place == "prefix" else (t, p) for t in TEXTS for p in PROMPTS]
    np.testing.assert_allclose(found, scorer.score(pairs).reshape(5, 3), atol=1e-6)


@given(st.permutations(range(5)), st.integers(1, 300))
@settings(max_examples=10, deadline=None)
def test_neither_order_nor_batches_change_a_score(model, tokenizer, order, tokens):
    template = PromptTemplate(PROMPTS)
    scorer = NSPScorer(model, tokenizer, maxlen=40, tokens_per_batch=tokens)
    whole = NSPScorer(model, tokenizer, maxlen=40).score_prompts(TEXTS, template)
    found = scorer.score_prompts([TEXTS[i] for i in order], template)
    np.testing.assert_allclose(found, whole[list(order)], atol=1e-5)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(5, 60))
@settings(deadline=None)
def test_truncation_takes_from_the_text_and_never_from_the_prompt(model, tokenizer, a, b, maxlen):
    scorer = NSPScorer(model, tokenizer, maxlen=maxlen)
    first, second = list(range(100, 100 + a)), list(range(200, 200 + b))
    if a + b > maxlen - 3 and a >= maxlen - 3:
        with pytest.raises(ValueError, match="leaves no room"):
            scorer.row(first, second, cut="second")
    else:
        row = scorer.row(first, second, cut="second")
        assert row.token_ids[1 : a + 1] == first
        assert row.token_ids[a + 2 : -1] == second[: maxlen - 3 - a]
        assert len(row.token_ids) == len(row.segment_ids) == min(a + b + 3, maxlen)
        assert row.segment_ids == [0] * (a + 2) + [1] * (len(row.token_ids) - a - 2)
    row = scorer.row(first, second)
    assert len(row.token_ids) == min(a + b + 3, maxlen)


def test_what_looks_like_a_special_token_is_text(model, tokenizer):
    scorer = NSPScorer(model, tokenizer)
    row = scorer.row(*scorer.encode(["今天[SEP]天气", "好"]).values())
    assert row.token_ids.count(tokenizer._token_end_id) == 2
    assert scorer.score([("今天[SEP]天气", "好")]).shape == (1,)


def test_the_second_stage_names_what_is_asked():
    assert two_stage("他说他来。", "他") == "他说他来。上文中他是指"
    assert two_stage("他来。", "他", "其中{}是指") == "他来。其中他是指"
    with pytest.raises(ValueError, match="a mention is not empty"):
        two_stage("他来。", "")


def test_probabilities_are_priors_times_odds(model, tokenizer):
    labels, priors = ["a", "b", "c"], [0.5, 0.2, 0.3]
    two = [PromptTemplate(PROMPTS), PromptTemplate(PROMPTS, "suffix")]
    found = ZeroShotClassifier(model, tokenizer, labels, two, priors=priors, maxlen=40)
    scorer = NSPScorer(model, tokenizer, maxlen=40)
    odds = [s / (1 - s) for s in (scorer.score_prompts(TEXTS, one) for one in two)]
    weight = np.sqrt(odds[0] * odds[1]) * priors
    expected = weight / weight.sum(1, keepdims=True)
    np.testing.assert_allclose(found.predict_proba(TEXTS), expected, rtol=1e-5)
    assert found.predict(TEXTS) == [labels[i] for i in expected.argmax(1)]


def test_with_equal_priors_the_label_is_the_best_prompt(model, tokenizer):
    found = ZeroShotClassifier(model, tokenizer, PROMPTS, "{}").predict(TEXTS)
    scores = NSPScorer(model, tokenizer).score_prompts(TEXTS, PromptTemplate(PROMPTS))
    assert found == [PROMPTS[i] for i in scores.argmax(1)]


def test_calibration_leaves_nothing_to_texts_that_say_nothing(model, tokenizer):
    classifier = ZeroShotClassifier(model, tokenizer, PROMPTS).calibrate(["今天"])
    np.testing.assert_allclose(classifier.predict_proba(["今天"]), 1 / 3, atol=1e-5)
    plain = ZeroShotClassifier(model, tokenizer, PROMPTS)
    away = plain.decision_function(TEXTS) - classifier.decision_function(TEXTS)
    np.testing.assert_allclose(away, np.repeat(away[:1], 5, 0), atol=1e-5)


def test_abstains_below_a_probability(model, tokenizer):
    classifier = ZeroShotClassifier(model, tokenizer, PROMPTS, abstain_below=1.0)
    assert classifier.predict(TEXTS) == [None] * 5
    sure = classifier.predict_proba(TEXTS).max(1)
    classifier.abstain_below = float(np.sort(sure)[2])
    assert [label is None for label in classifier.predict(TEXTS)] == list(sure < np.sort(sure)[2])


def test_log_odds_keep_their_order_where_probabilities_round_to_one(tokenizer):
    sure = tiny_model(family="bert", with_nsp=True)
    head = sure.get_layer("NSP-Proba")
    head.kernel.assign(200 * np.asarray(head.kernel))
    head.bias.assign([30.0, -30.0])
    scorer, template = NSPScorer(sure, tokenizer, maxlen=40), PromptTemplate(PROMPTS)
    assert np.ptp(scorer.score_prompts(TEXTS, template)) < 1e-6
    odds = scorer.score_prompts(TEXTS, template, log_odds=True)
    assert np.isfinite(odds).all()
    assert np.ptp(odds) > 1e-3
    head.bias.assign([1000.0, -1000.0])
    assert np.isfinite(scorer.score_prompts(TEXTS, template, log_odds=True)).all()


def test_a_model_without_the_head_is_refused(tokenizer):
    for options in ({}, {"with_pool": "tanh"}, {"with_mlm": True}):
        with pytest.raises(ValueError, match="no next-sentence head"):
            NSPScorer(tiny_model(family="bert", **options), tokenizer)


def test_other_heads_beside_it_do_not_matter(tokenizer):
    both = tiny_model(family="bert", with_nsp=True, with_mlm=True)
    first = np.asarray(both.predict_on_batch([np.array([[2, 7, 3, 8, 3]]), np.zeros((1, 5))])[0])
    scorer = NSPScorer(both, tokenizer)
    row = scorer.row([7], [8])
    assert row.token_ids == [2, 7, 3, 8, 3]
    score = scorer.score_rows([row._replace(segment_ids=[0] * 5)])[0]
    assert score == pytest.approx(float(first[0, 0]), abs=1e-5)


@pytest.mark.parametrize("pairs", ["今天", ["今天"], [("今天",)], [("今天", 3)]])
def test_what_is_no_pair_is_refused(model, tokenizer, pairs):
    with pytest.raises(ValueError, match="tuples of strings"):
        NSPScorer(model, tokenizer).score(pairs)


def test_scores_that_are_no_numbers_are_refused(tokenizer):
    broken = tiny_model(family="bert", with_nsp=True)
    broken.weights[0].assign(np.nan * broken.weights[0])
    with pytest.raises(ValueError, match="1 of 1 scores are no numbers"):
        NSPScorer(broken, tokenizer).score([("今天", "天气")])


def test_a_prompt_that_leaves_no_room_is_refused(model, tokenizer):
    template = PromptTemplate((CHARACTERS[:20], "天气"))
    with pytest.raises(ValueError, match="a prompt of 20 tokens leaves no room"):
        NSPScorer(model, tokenizer, maxlen=20).score_prompts(["今天" * 20], template)


def test_more_tokens_than_positions_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="at most the model's 64 positions"):
        NSPScorer(model, tokenizer, maxlen=65)


@pytest.mark.parametrize("texts", [("好",), ("好", "好"), ("好", ""), "好坏"])
def test_prompts_that_cannot_tell_labels_apart_are_refused(texts):
    with pytest.raises(ValueError, match="prompts"):
        PromptTemplate(texts)


@pytest.mark.parametrize("pattern", ["新闻", "{}和{}"])
def test_a_pattern_needs_one_place_for_the_label(pattern):
    with pytest.raises(ValueError, match=r"holds \{\} once"):
        PromptTemplate.of(pattern, ["好", "坏"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["好"]}, "labels must be two or more"),
        ({"labels": ["好", "好"]}, "labels must be two or more"),
        (
            {"labels": ["好", "坏"], "template": PromptTemplate(PROMPTS)},
            "3 prompts and there are 2",
        ),
        ({"labels": ["好", "坏"], "template": []}, "at least one template"),
        ({"labels": ["好", "坏"], "priors": [0.5, 0.6]}, "sum to 1"),
        ({"labels": ["好", "坏"], "abstain_below": 2}, "between 0 and 1"),
    ],
)
def test_a_classifier_that_cannot_be_is_refused(model, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        ZeroShotClassifier(model, tokenizer, **options)
