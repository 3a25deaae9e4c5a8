"""A tiny BERT learns synthetic topics by both heads, and tells them apart without any label.

Every topic has a name of two characters and six more. A text of training holds both; the texts that
are classified hold none of their topic's name, and a prompt nothing but the name.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tiny_models import CHARACTERS, CONFIG, tiny_tokenizer, tiny_vocabulary

from bert4kexue.methods.mlm_prompt import MaskedPromptClassifier
from bert4kexue.methods.nsp_prompt import NSPScorer
from bert4kexue.methods.samples_contrast import SamplesContrast
from bert4kexue.methods.zero_shot import ZeroShotClassifier
from bert4kexue.models import build_transformer_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="training once shows it"
)

LETTERS = sorted(set(CHARACTERS))
TOPICS = [LETTERS[8 * t : 8 * t + 8] for t in range(4)]
NAMES = ["".join(topic[:2]) for topic in TOPICS]
N = 20  # tokens of a row


def text(topic, rng, named, length=7, noise=0.15):
    """Characters of the topic, some of any; names stand in texts of training only."""
    own = TOPICS[topic] if named else TOPICS[topic][2:]
    every = [letter for several in TOPICS for letter in several[2:]]
    return "".join(rng.choice(every if rng.random() < noise else own) for _ in range(length))


def batches(tokenizer, rng, steps, size=64):
    """Two texts of a topic, or of two; one in eight tokens hidden."""
    mask = tokenizer._token_mask_id
    for _ in range(steps):
        ids, segments = np.zeros((2, size, N), np.int32)
        follows = rng.random(size) < 0.5
        for row in range(size):
            first = int(rng.integers(4))
            second = first if follows[row] else (first + int(rng.integers(1, 4))) % 4
            short = text(first, rng, True, length=int(rng.integers(2, 8)))
            one, two = tokenizer.encode(short, text(second, rng, True))
            ids[row, : len(one)], segments[row, : len(two)] = one, two
        hidden = (rng.random(ids.shape) < 0.125) & (ids > mask)
        given = np.where(hidden, mask, ids)
        # the head's index 0 is IsNext
        yield (given, segments), (1 - follows.astype(int), ids), hidden.astype(np.float32)


@pytest.fixture(scope="module")
def learned():
    keras.utils.set_random_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": len(tiny_vocabulary())}
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = build_transformer_model(CONFIG | sizes, model="bert", with_nsp=True, with_mlm=True)
    tokenizer, rng = tiny_tokenizer(), np.random.default_rng(0)
    trained = keras.Model(model.inputs, model.outputs)
    trained.compile(
        keras.optimizers.Adam(3e-3), ["sparse_categorical_crossentropy"] * 2, jit_compile=False
    )
    for given, wanted, hidden in batches(tokenizer, rng, 450):
        trained.train_on_batch(list(given), list(wanted), [np.ones(len(hidden)), 4 * hidden])
    return model, tokenizer


def test_topics_are_told_without_a_label(learned):
    rng = np.random.default_rng(1)
    wanted = rng.integers(0, 4, 200)
    texts = [text(topic, rng, named=False) for topic in wanted]
    assert not set("".join(NAMES)) & set("".join(texts))
    found = ZeroShotClassifier(*learned, NAMES).decision_function(texts).argmax(1)
    assert (found == wanted).mean() > 0.8  # chance is 0.25
    words = MaskedPromptClassifier(*learned, NAMES, "[MASK]{}").calibrate()
    assert (words.decision_function(texts).argmax(1) == wanted).mean() > 0.6


def test_samples_contrast_beats_a_fixed_threshold_where_all_scores_lean(learned):
    """Had 999 of 1,000 training pairs gone on, the head's bias would lean by log 999, no more."""
    model, tokenizer = learned
    head = model.get_layer("NSP-Proba")
    bias = np.array(head.bias)
    rng = np.random.default_rng(2)
    same, pairs = rng.integers(0, 2, 300), []
    for together in same:
        first = int(rng.integers(4))
        second = first if together else (first + int(rng.integers(1, 4))) % 4
        pairs.append(tuple(text(t, rng, False, length=3, noise=0.3) for t in (first, second)))
    try:
        head.bias.assign(bias + np.array([np.log(999), 0]))
        scores = NSPScorer(model, tokenizer).score(pairs)
    finally:
        head.bias.assign(bias)
    contrast = (SamplesContrast(2).predict(scores) == same).mean()
    fixed = ((scores > 0.5) == same).mean()
    assert contrast > fixed + 0.1  # .77 and .52
    assert contrast > 0.65
