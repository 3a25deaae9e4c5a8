"""The stages learn what they are for: languages small enough to be learned whole."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest

from bert4kexue.methods.roformer_sim import build_similarity_trainer
from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.methods.similarity_data import ScoredPair
from bert4kexue.methods.similarity_labels import LABELS
from bert4kexue.methods.similarity_rows import (
    LabelledPairs,
    ParaphraseRows,
    Sentences,
    TeacherVectors,
)
from bert4kexue.methods.sts import evaluate_sts
from bert4kexue.methods.word_corruption import tokens_by_word
from bert4kexue.models import build_transformer_model
from bert4kexue.models.generation import Generator
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training.plan import Plan
from bert4kexue.training.special import Special

LETTERS = [chr(0x4E00 + i) for i in range(50)]
VOCABULARY = {
    token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS])
}
SPECIAL = Special(2, 3, 4, len(VOCABULARY))
TOKENIZER = Tokenizer(VOCABULARY)
CONFIG = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_act": "gelu",
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}
pytestmark = pytest.mark.long


def sentences(texts):
    texts = list(dict.fromkeys(texts))
    return Sentences(texts, tokens_by_word(TOKENIZER, list, texts, 62))


def trained(rows, steps, start=None, rate=2e-3, seed=0, **options):
    """A model trained on the objectives in turn, and its checkpoint as arrays."""
    keras.utils.set_random_seed(seed)
    trainer, builder = build_similarity_trainer(CONFIG, checkpoint=start, **options)
    trainer.compile(keras.optimizers.Adam(rate), jit_compile=False)
    plans = [Plan(part, 2048, 64, [seed, i]) for i, part in enumerate(rows)]

    def batches():
        for number in itertools.count():
            rng = np.random.default_rng([seed, number])
            yield (plans[number % len(plans)].batch(number // len(plans), rng),)

    trainer.fit(batches(), steps_per_epoch=steps, verbose=0, shuffle=False)
    return trainer, builder


def saved(builder, folder):
    builder.save_weights_as_checkpoint(folder)
    return folder


def encoder_of(checkpoint):
    model = build_transformer_model(CONFIG, checkpoint, model="roformer", with_pool="linear")
    return SentenceEncoder(model, TOKENIZER)


def random_pairs(count=32):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(LETTERS, 7)) for _ in range(count)]
    return [(text, text[::-1]) for text in texts]


def test_thirty_two_pairs_are_found_and_written_exactly(tmp_path):
    pairs = random_pairs()
    rows = ParaphraseRows(pairs, sentences(x for p in pairs for x in p), SPECIAL, corrupted=0.0)
    _, builder = trained([rows], 500)
    checkpoint = saved(builder, tmp_path / "m")
    encoder = encoder_of(checkpoint)
    first, second = (encoder.encode([pair[k] for pair in pairs]) for k in (0, 1))
    assert (np.argmax(first @ second.T, axis=1) == np.arange(32)).all()
    model = build_transformer_model(CONFIG, checkpoint, model="roformer", application="unilm")
    sources = [TOKENIZER.encode(a)[0] for a, _ in pairs]
    outputs = Generator(model, end_token_id=3, jit_compile=False).generate(
        sources, max_new_tokens=10
    )
    expected = [[*TOKENIZER.encode(b)[0][1:-1], 3] for _, b in pairs]
    assert [found[0].ids.tolist() for found in outputs] == expected


def test_the_student_takes_over_a_random_teachers_cosines(tmp_path):
    pairs = random_pairs()
    texts = [x for pair in pairs for x in pair]
    vectors = np.random.default_rng(1).normal(size=(len(texts), 24))
    teacher = TeacherVectors(texts, vectors)
    rows = ParaphraseRows(pairs, sentences(texts), SPECIAL, teacher=teacher, corrupted=0.0)
    target = teacher.vectors @ teacher.vectors.T
    errors = []
    for steps in (1, 300):
        _, builder = trained([rows], steps)
        found = encoder_of(saved(builder, tmp_path / str(steps))).encode(texts)
        errors.append(np.sqrt(np.mean((found @ found.T - target) ** 2)))
    assert errors[1] < 0.35 * errors[0]


# A language of negation: who, what, to whom; each word has a synonym, and one letter denies all.
# Its paraphrases, like questions that were asked together, are of one topic and may contradict.
WHO, DOES, WHOM, NOT = LETTERS[:12], LETTERS[12:20], LETTERS[20:32], LETTERS[40]
BOTH = [*itertools.product((False, True), repeat=2)]


def said(words, denied, rng):
    """One of the ways to say it: each word or its synonym."""
    parts = [
        row[2 * i + int(rng.integers(2))] for row, i in zip((WHO, DOES, WHOM), words, strict=True)
    ]
    return parts[0] + (NOT if denied else "") + parts[1] + parts[2]


def language():
    """Paraphrases to train on, labelled pairs, held-out paraphrases and scored pairs."""
    rng = np.random.default_rng(2)
    meanings = [*itertools.product(range(6), range(4), range(6))]
    order = rng.permutation(len(meanings))
    train, held_out = ([meanings[i] for i in part] for part in (order[:110], order[110:]))

    def two(words, denied):
        first, second = "same", "same"
        while first == second:
            first, second = said(words, denied[0], rng), said(words, denied[1], rng)
        return first, second

    pairs = [two(words, d) for words in train for d in BOTH for _ in range(2)]
    labelled = []
    for words in train * 3:
        d = bool(rng.integers(2))
        labelled.append((*two(words, (d, d)), LABELS["similar"]))
        labelled.append((*two(words, (d, not d)), LABELS["different"]))
    kept = [two(words, d) for words in held_out for d in BOTH]
    scored = [ScoredPair(*two(w, (d, d)), 1.0) for w in held_out for d in (False, True)]
    scored += [ScoredPair(*two(w, (d, not d)), 0.0) for w in held_out for d in (False, True)]
    return pairs, labelled, kept, scored


def generation_loss(trainer, pairs):
    rows = ParaphraseRows(pairs, sentences(x for p in pairs for x in p), SPECIAL, corrupted=0.0)
    batch = rows.batch(np.arange(len(pairs)), (len(pairs), 2 * 16), np.random.default_rng(0))
    ids, segments = batch["token_ids"], batch["segment_ids"]
    hidden, _ = trainer.bodies["unilm"].predict_on_batch([ids, segments])
    logits = trainer.token_head.predict_on_batch(hidden).astype(np.float64)
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    picked = np.take_along_axis(logp[:, :-1], ids[:, 1:, None].astype(int), 2)[..., 0]
    return -(picked * segments[:, 1:]).sum() / segments[:, 1:].sum()


def test_fine_tuning_and_distilling_back_learns_negation_and_keeps_writing(tmp_path):
    pairs, labelled, held_out, scored = language()
    known = sentences(x for row in (*pairs, *labelled) for x in row[:2])
    rows = ParaphraseRows(pairs, known, SPECIAL, corrupted=0.0)
    one, builder = trained([rows], 400)
    stage1 = saved(builder, tmp_path / "stage1")
    before = evaluate_sts(encoder_of(stage1).encode, {"negation": scored}, resamples=50)["negation"]

    tuning = LabelledPairs([r[:2] for r in labelled], [r[2] for r in labelled], known, SPECIAL)
    _, builder = trained([tuning], 300, stage1, 1e-3)
    teacher = encoder_of(saved(builder, tmp_path / "ft"))
    texts = list(known.numbers)
    vectors = TeacherVectors(texts, teacher.encode(texts))
    both = ParaphraseRows(pairs, known, SPECIAL, teacher=vectors, corrupted=0.0)
    two, builder = trained([both], 400, stage1, 1e-3)
    student = encoder_of(saved(builder, tmp_path / "student"))
    after = evaluate_sts(student.encode, {"negation": scored}, resamples=50)["negation"]
    losses = generation_loss(one, held_out), generation_loss(two, held_out)
    assert after.spearman > before.spearman + 0.2, (before, after, losses)
    assert losses[1] < 1.05 * losses[0]
