"""Masked-word prompts against the whole model called on one row; cuts; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import CHARACTERS, scattered_model, tiny_model, tiny_tokenizer, tiny_vocabulary

from bert4kexue.methods.mlm_prompt import MaskedPromptClassifier, MaskedScorer, MaskedTemplate
from bert4kexue.tokenizers import Tokenizer

TEXTS = ["今天天气很好", "", "李白是唐代诗人" * 6, "谁写静夜思"]
WORDS = ("好", "天气", "诗人", "唐代诗")


@pytest.fixture(scope="module")
def model():
    return scattered_model(family="bert", with_mlm=True)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def probabilities(model, row):
    ids = np.zeros((1, 40), np.int32)  # one shape for all; padding changes nothing
    ids[0, : len(row)] = row
    return np.asarray(model.predict_on_batch([ids, np.zeros_like(ids)]))[0].astype(np.float64)


def spelled(tokenizer, before, word, after, maxlen=40):
    """`[CLS] before word after [SEP]`, and where the word begins."""
    ids = [tokenizer.token_to_id(c) for c in (*before, *word, *after)]
    return [tokenizer._token_start_id, *ids, tokenizer._token_end_id], 1 + len(before)


def by_definition(model, tokenizer, before, word, after, surest):
    """Mean log p of a word's characters: all holes open, or the surest filled in first."""
    row, start = spelled(tokenizer, before, word, after)
    wanted = row[start : start + len(word)]
    row[start : start + len(word)] = [tokenizer._token_mask_id] * len(word)
    left, total = set(range(len(word))), 0.0
    while left:
        p = probabilities(model, row)
        logs = {j: np.log(p[start + j, wanted[j]]) for j in left}
        if not surest:
            return sum(logs.values()) / len(word)
        best = max(logs, key=logs.get)
        total += logs[best]
        row[start + best] = wanted[best]
        left.remove(best)
    return total / len(word)


@pytest.mark.parametrize("reading", ["together", "surest"])
def test_a_score_is_its_definition_written_out(model, tokenizer, reading):
    scorer = MaskedScorer(model, tokenizer, maxlen=40, tokens_per_batch=90, reading=reading)
    texts = ["今天天气很好", "", "谁写静夜思"]
    found = scorer.score(texts, MaskedTemplate("是[MASK]的{}中", WORDS))
    expected = [
        [
            by_definition(model, tokenizer, "是", word, f"的{t}中", reading == "surest")
            for word in WORDS
        ]
        for t in texts
    ]
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_two_readings_differ_for_words_of_several_tokens_only(model, tokenizer):
    template = MaskedTemplate("是[MASK]的{}", WORDS)
    both = [
        MaskedScorer(model, tokenizer, maxlen=40, reading=reading).score(["今天"], template)[0]
        for reading in ("together", "surest")
    ]
    differ = np.abs(both[0] - both[1])
    assert differ[0] < 1e-6
    assert differ[1:].max() > 1e-3


def test_neither_order_nor_batches_change_a_score(model, tokenizer):
    template = MaskedTemplate("{}是[MASK]", WORDS)
    whole = MaskedScorer(model, tokenizer, maxlen=40).score(TEXTS, template)
    other = MaskedScorer(model, tokenizer, maxlen=40, tokens_per_batch=17)
    np.testing.assert_allclose(other.score(TEXTS[::-1], template)[::-1], whole, atol=1e-5)


def test_truncation_takes_from_the_text_and_never_from_the_pattern(model, tokenizer):
    scorer = MaskedScorer(model, tokenizer, maxlen=12)
    text = scorer.encode_texts(["李白是唐代诗人李白"])["李白是唐代诗人李白"]
    for pattern in ("今天[MASK]很{}好", "今{}天[MASK]很好"):
        row = scorer.row(MaskedTemplate(pattern, WORDS), text, 2)
        shown = "".join(tokenizer.id_to_token(i) for i in row.token_ids[1:-1])
        assert shown == pattern.replace("[MASK]", "[MASK][MASK]").replace("{}", "李白是唐")
        assert len(row.token_ids) == 12
        assert row.token_ids[row.hole : row.hole + 2] == [tokenizer._token_mask_id] * 2


def test_a_mask_written_in_a_text_is_text(model, tokenizer):
    scorer = MaskedScorer(model, tokenizer, maxlen=40)
    row = scorer.row(
        MaskedTemplate("是[MASK]{}", WORDS), scorer.encode_texts(["[MASK]"])["[MASK]"], 1
    )
    assert row.token_ids.count(tokenizer._token_mask_id) == 1


def test_probabilities_are_priors_times_the_words(model, tokenizer):
    labels, priors = ["a", "b", "c"], [0.5, 0.2, 0.3]
    two = [MaskedTemplate("是[MASK]的{}", WORDS[:3]), MaskedTemplate("{}[MASK]", WORDS[1:])]
    found = MaskedPromptClassifier(model, tokenizer, labels, two, priors=priors, maxlen=40)
    scorer = MaskedScorer(model, tokenizer, maxlen=40)
    weight = np.exp(sum(scorer.score(TEXTS, one) for one in two) / 2) * priors
    expected = weight / weight.sum(1, keepdims=True)
    np.testing.assert_allclose(found.predict_proba(TEXTS), expected, rtol=1e-5)
    assert found.predict(TEXTS) == [labels[i] for i in expected.argmax(1)]


def test_calibration_leaves_nothing_to_texts_that_say_nothing(model, tokenizer):
    classifier = MaskedPromptClassifier(model, tokenizer, WORDS, "是[MASK]的{}").calibrate(["今天"])
    np.testing.assert_allclose(classifier.predict_proba(["今天"]), 0.25, atol=1e-5)


def test_a_model_without_the_head_is_refused(tokenizer):
    with pytest.raises(ValueError, match="no masked-word head"):
        MaskedScorer(tiny_model(family="bert", with_nsp=True), tokenizer)


def test_a_vocabulary_without_a_mask_is_refused(model):
    tokens = {token: i for token, i in tiny_vocabulary().items() if token != "[MASK]"}
    with pytest.raises(ValueError, match=r"has no \[MASK\]"):
        MaskedScorer(model, Tokenizer(tokens))


def test_a_word_that_the_vocabulary_does_not_know_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="the word '鲸' has a character"):
        MaskedPromptClassifier(model, tokenizer, ["天气", "鲸"], "是[MASK]{}")


def test_a_pattern_that_leaves_no_room_is_refused(model, tokenizer):
    scorer = MaskedScorer(model, tokenizer, maxlen=20)
    with pytest.raises(ValueError, match="leaves no room for a text within maxlen=20"):
        scorer.score(["今天"], MaskedTemplate(CHARACTERS[:18] + "[MASK]{}", WORDS))


def test_more_tokens_than_positions_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="at most the model's 64 positions"):
        MaskedScorer(model, tokenizer, maxlen=65)


def test_another_reading_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="reading must be 'together' or 'surest'"):
        MaskedScorer(model, tokenizer, reading="left")


@pytest.mark.parametrize("pattern", ["是{}", "是[MASK]", "[MASK]{}[MASK]", "{}[MASK]{}"])
def test_a_pattern_needs_one_hole_and_one_text(pattern):
    with pytest.raises(ValueError, match="once, where the word goes"):
        MaskedTemplate(pattern, WORDS)


@pytest.mark.parametrize("words", [("好",), ("好", "好"), ("好", ""), "好坏"])
def test_words_that_cannot_tell_labels_apart_are_refused(words):
    with pytest.raises(ValueError, match="words"):
        MaskedTemplate("[MASK]{}", words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["好"]}, "labels must be two or more"),
        ({"labels": ["好", "天"], "template": MaskedTemplate("[MASK]{}", WORDS)}, "4 words and"),
        ({"labels": ["好", "天"], "template": []}, "at least one template"),
    ],
)
def test_a_classifier_that_cannot_be_is_refused(model, tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        MaskedPromptClassifier(model, tokenizer, **({"template": "[MASK]{}"} | options))


def test_scores_that_are_no_numbers_are_refused(tokenizer):
    broken = tiny_model(family="bert", with_mlm=True)
    broken.weights[0].assign(np.nan * broken.weights[0])
    with pytest.raises(ValueError, match="are no numbers"):
        MaskedScorer(broken, tokenizer).score(["今天"], MaskedTemplate("[MASK]{}", WORDS))
