"""Few-shot: the losses by their formulas, training scores equal to the classifiers', and PET."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tiny_models import scattered_model, tiny_model, tiny_tokenizer

from bert4kexue.methods.mlm_prompt import MaskedPromptClassifier, MaskedTemplate
from bert4kexue.methods.nsp_prompt import PromptTemplate
from bert4kexue.methods.pet import PetClassifier, _Taught, distillation_loss, soft_labels
from bert4kexue.methods.prompt_tuning import (
    MaskedPrompts,
    PromptBatches,
    SentencePrompts,
    _MaskedRows,
    _SentenceRows,
    prompt_loss,
    tune,
)
from bert4kexue.methods.zero_shot import ZeroShotClassifier

LABELS = ["天气", "诗人", "法"]
TEXTS = ["今天天气很好", "李白是唐代诗人", "今天很好", "谁是诗人"]
WANTED = ["天气", "诗人", "天气", "诗人"]
TWO = [PromptTemplate(("天气", "诗人", "法")), PromptTemplate(("是天", "写诗", "法师"), "suffix")]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def sentences(tokenizer, template=TWO):
    model = scattered_model(family="bert", with_nsp=True)
    return ZeroShotClassifier(model, tokenizer, LABELS, template, maxlen=24)


def masked(tokenizer, template=("是[MASK]的{}", "{}[MASK]")):
    model = scattered_model(family="bert", with_mlm=True)
    return MaskedPromptClassifier(model, tokenizer, LABELS, list(template), maxlen=24)


def test_losses_are_their_formulas():
    rng = np.random.default_rng(0)
    scores, right = 3 * rng.normal(size=(5, 4)), rng.integers(0, 4, 5)
    one_hot = np.eye(4)[right]
    s = 1 / (1 + np.exp(-scores))

    def cross_entropy(logits):
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return -np.log((p * one_hot).sum(1))

    expected = {
        "bce": -(one_hot * np.log(s) + (1 - one_hot) * np.log(1 - s)).mean(1),
        "softmax": cross_entropy(scores),
        "contrastive": cross_entropy(s / 0.2),
    }
    for kind, value in expected.items():
        found = prompt_loss(kind, 0.2)(right[:, None], keras.ops.convert_to_tensor(scores))
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found), value, rtol=1e-5)


@pytest.mark.parametrize("make", [sentences, masked])
def test_what_is_trained_is_what_the_classifier_scores(tokenizer, make):
    classifier = make(tokenizer)
    rows = (_SentenceRows if make is sentences else _MaskedRows)(classifier, TEXTS)
    trained = (
        SentencePrompts(classifier.scorer.model) if make is sentences else MaskedPrompts(classifier)
    )
    every, prompts = np.arange(4), np.tile(np.arange(3), (4, 1))
    for number, template in enumerate(classifier.templates):
        found = keras.ops.convert_to_numpy(trained(rows.inputs(every, number, prompts)))
        expected = classifier.template_scores(TEXTS, template)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert np.ptp(expected) > 1e-3


@pytest.mark.parametrize("loss", ["bce", "softmax", "contrastive"])
def test_next_sentence_prompts_learn_from_a_few_texts(tokenizer, loss):
    classifier = sentences(tokenizer, TWO[0])
    options = {"negatives": 1} if loss == "softmax" else {}
    history = tune(classifier, TEXTS, WANTED, loss=loss, epochs=40, batch=2, rate=3e-3, **options)
    losses = history.history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert classifier.predict(TEXTS) == WANTED


def test_masked_words_learn_from_a_few_texts(tokenizer):
    classifier = masked(tokenizer)
    classifier.calibrate()
    tune(classifier, TEXTS, WANTED, epochs=40, batch=4, rate=1e-2)
    assert classifier.predict(TEXTS) == WANTED
    assert not classifier.offsets.any()


@pytest.mark.parametrize("make", [sentences, masked])
def test_a_long_text_may_come_late_in_an_epoch(tokenizer, make):
    texts, wanted = ["很好"] * 4, ["天气"] * 4
    last = np.random.default_rng([0, 0]).permutation(4)[-1]  # fit looks at two batches beforehand
    texts[last] = "今天天气很好" * 2
    assert len(tune(make(tokenizer), texts, wanted, epochs=1, batch=1).history["loss"]) == 1


def test_negatives_are_wrong_different_and_drawn_anew(tokenizer):
    classifier = sentences(tokenizer, TWO[0])

    class Rows(_SentenceRows):
        def inputs(self, texts, template, prompts):
            return prompts

    right = classifier.label_numbers(WANTED)
    data = PromptBatches(Rows(classifier, TEXTS), right, 3, 1, 0)
    seen = []
    for _ in range(6):
        for step in range(len(data)):
            prompts, places = data[step]
            assert prompts.shape[1] == 2
            assert (prompts[:, 0] == right[data.order[step * 3 :][: len(prompts)]]).all()
            assert (prompts[:, 0] != prompts[:, 1]).all()
            assert not places.any()
            seen += map(tuple, prompts.tolist())
        data.on_epoch_end()
    assert set(seen) == {(0, 1), (0, 2), (1, 0), (1, 2)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": []}, "0 texts and 4 labels"),
        ({"labels": WANTED[:2]}, "4 texts and 2 labels"),
        ({"labels": ["天气", "诗人", "天气", "猫"]}, "'猫' is no label of this classifier"),
        ({"loss": "hinge"}, "the loss must be one of bce, softmax, contrastive"),
        ({"epochs": 0}, "1 or more"),
        ({"negatives": 0}, "1 or more"),
        ({"temperature": 0.0}, "temperature above 0"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        tune(sentences(tokenizer), **({"texts": TEXTS, "labels": WANTED} | options))


@pytest.mark.parametrize("options", [{"loss": "bce"}, {"negatives": 2}])
def test_masked_words_have_one_loss_and_no_negatives(tokenizer, options):
    with pytest.raises(ValueError, match="masked words"):
        tune(masked(tokenizer), TEXTS, WANTED, **options)


def test_soft_labels_are_the_weighted_mean_at_a_temperature():
    scores = np.log([[[0.9, 0.1], [0.5, 0.5]], [[0.3, 0.7], [0.2, 0.8]]])
    found = soft_labels(scores, [3, 1], 2.0)
    weight = np.exp((3 * scores[0] + scores[1]) / 4 / 2)
    np.testing.assert_allclose(found, weight / weight.sum(1, keepdims=True))
    even = soft_labels(scores, [0, 0], 1.0)
    np.testing.assert_allclose(even, soft_labels(scores, [1, 1], 1.0))
    with pytest.raises(ValueError, match="2 patterns need as many weights"):
        soft_labels(scores, [1.0])


def test_distillation_is_least_where_the_student_says_the_same():
    logits = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=(3, 4)))
    taught = keras.ops.softmax(logits / 2)
    best = keras.ops.convert_to_numpy(distillation_loss(2.0)(taught, logits))
    p = keras.ops.convert_to_numpy(taught)
    np.testing.assert_allclose(best, -4 * (p * np.log(p)).sum(1), rtol=1e-6)
    worse = keras.ops.convert_to_numpy(distillation_loss(2.0)(taught, logits[:, ::-1]))
    assert (worse > best).all()


def test_the_students_first_two_batches_show_fit_that_widths_differ():
    rows = [[2, 3]] * 12 + [[2] * 20]
    data = _Taught(rows, np.eye(13), 4, 1, seed=0)
    for epoch in range(2):
        batches = [data[i] for i in range(len(data))]
        taught = np.concatenate([y for _, y in batches]).argmax(1)
        assert sorted(taught.tolist()) == list(range(13))
        if epoch == 0:
            assert [ids.shape for ids, _ in batches[:2]] == [(1, 24), (4, 8)]
        data.on_epoch_end()


@pytest.mark.long
def test_pet_teaches_a_classifier_what_its_patterns_learned(tokenizer):
    templates = [MaskedTemplate(p, tuple(LABELS)) for p in ("是[MASK]的{}", "{}[MASK]")]

    def build():
        return tiny_model(family="bert", with_mlm=True)

    pet = PetClassifier(
        build,
        tokenizer,
        LABELS,
        templates,
        epochs=30,
        rate=1e-2,
        student_epochs=60,
        student_rate=1e-2,
        batch=4,
    )
    with pytest.raises(ValueError, match="call fit"):
        pet.predict(TEXTS)
    with pytest.raises(ValueError, match="unlabelled texts, got none"):
        pet.fit(TEXTS, WANTED, [])
    pet.fit(TEXTS, WANTED, ["今天天气", "天气很好", "唐代诗人", "诗人李白", *TEXTS])
    assert pet.weights_.shape == (2,)
    assert pet.predict(TEXTS) == WANTED
    np.testing.assert_allclose(pet.predict_proba(TEXTS).sum(1), 1)
    assert set(pet.predict(["今天天气很好" * 30])) <= set(
        LABELS
    )  # longer than the model's positions
    with pytest.raises(ValueError, match="at least one pattern"):
        PetClassifier(build, tokenizer, LABELS, [])
