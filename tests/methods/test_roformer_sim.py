"""The stages of RoFormer-Sim: what a batch holds, what its loss is, what the mask hides."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tiny_models import CONFIG, tiny_tokenizer, tiny_vocabulary

from bert4kexue.methods.roformer_sim import SimilarityTrainer, build_similarity_trainer
from bert4kexue.methods.similarity_labels import LABELS
from bert4kexue.methods.similarity_rows import (
    LabelledPairs,
    ParaphraseRows,
    Sentences,
    TeacherVectors,
    same_sentences,
)
from bert4kexue.methods.word_corruption import corrupt_words, tokens_by_word
from bert4kexue.training.plan import Plan
from bert4kexue.training.records import ID_MASK, WORD
from bert4kexue.training.special import Special

VOCABULARY = tiny_vocabulary()
SPECIAL = Special(2, 3, 4, len(VOCABULARY))
PAIRS = [("今天天气很好", "天气今天好"), ("李白是诗人", "诗人李白"), ("游戏角色", "角色是游戏中的")]
TEXTS = [x for pair in PAIRS for x in pair]


def sentences(texts=TEXTS):
    return Sentences(texts, tokens_by_word(tiny_tokenizer(), list, texts, 62))


def ids(text):
    return [VOCABULARY[c] for c in text]


@pytest.fixture(scope="module")
def trainer():
    keras.utils.set_random_seed(0)
    config = {**CONFIG, "vocab_size": len(VOCABULARY)}
    return build_similarity_trainer(config, dropout=0.0).trainer


# --- batches ------------------------------------------------------------------------------------


def test_a_pair_is_two_rows_each_the_others_target():
    rows = ParaphraseRows(PAIRS, sentences(), SPECIAL, corrupted=0.0)
    batch = rows.batch(np.array([1, 0]), (3, 2 * 16), np.random.default_rng(0))
    for line, (a, b) in enumerate([PAIRS[1], PAIRS[1][::-1], PAIRS[0], PAIRS[0][::-1]]):
        expected = [2, *ids(a), 3, *ids(b), 3]
        assert batch["token_ids"][line].tolist() == expected + [0] * (16 - len(expected))
        segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
        assert batch["segment_ids"][line, : len(segments)].tolist() == segments
        # What is asked: the ids shifted by one, where the shifted segment is 1; [SEP] too.
        at = batch["positions"][line][batch["weights"][line] > 0]
        assert at.tolist() == [i - 1 for i, s in enumerate(segments) if s]
        assert batch["labels"][line][batch["weights"][line] > 0].tolist() == [*ids(b), 3]
    assert batch["pair_weights"].tolist() == [1, 1, 1, 1, 0, 0]
    assert not batch["token_ids"][4:].any()
    assert len(set(batch["sentences"][:4].tolist())) == 4


def test_rows_of_one_sentence_carry_one_number():
    pairs = [PAIRS[0], (PAIRS[0][0], "天气"), PAIRS[1]]
    rows = ParaphraseRows(pairs, sentences([*TEXTS, "天气"]), SPECIAL)
    numbers = rows.batch(np.arange(3), (4, 2 * 16), np.random.default_rng(0))["sentences"]
    assert numbers[0] == numbers[2]
    assert len(set(numbers[:6].tolist())) == 5
    assert numbers[6:].tolist() == [-1, -1]


def test_what_does_not_fit_is_cut_from_the_longer_side():
    rows = ParaphraseRows(PAIRS, sentences(), SPECIAL, corrupted=0.0)
    batch = rows.batch(np.array([0, 1]), (2, 2 * 11), np.random.default_rng(0))
    a, b = PAIRS[0]  # 6 and 5 characters; 11 places less 3 leave 8
    assert batch["token_ids"][0].tolist() == [2, *ids(a)[:4], 3, *ids(b)[:4], 3]
    short = ParaphraseRows(PAIRS, sentences(), SPECIAL, corrupted=0.0, side=5)
    batch = short.batch(np.array([0, 1]), (2, 2 * 16), np.random.default_rng(0))
    assert batch["token_ids"][0, :9].tolist() == [2, *ids(a)[:3], 3, *ids(b)[:3], 3]
    assert short.lengths().tolist() == [2 * 9] * 3


def test_an_empty_sentence_is_its_frame():
    rows = ParaphraseRows([("", "今天"), PAIRS[0]], sentences(["", "今天", *TEXTS]), SPECIAL)
    batch = rows.batch(np.array([0, 1]), (2, 2 * 16), np.random.default_rng(0))
    assert batch["token_ids"][0, :5].tolist() == [2, 3, *ids("今天"), 3]
    assert batch["labels"][1][batch["weights"][1] > 0].tolist() == [3]


def test_only_the_source_is_corrupted():
    rows = ParaphraseRows(PAIRS, sentences(), SPECIAL, corrupted=1.0, rate=1.0)
    batch = rows.batch(np.arange(3), (3, 2 * 16), np.random.default_rng(0))
    assert (batch["token_ids"] == 4).any()
    assert not (batch["token_ids"] == 4)[batch["segment_ids"] == 1].any()
    clean = ParaphraseRows(PAIRS, sentences(), SPECIAL, corrupted=0.0)
    again = clean.batch(np.arange(3), (3, 2 * 16), np.random.default_rng(0))
    np.testing.assert_array_equal(batch["labels"], again["labels"])


def test_words_are_corrupted_whole_at_the_rates_of_the_post():
    rng = np.random.default_rng(0)
    marked = rng.integers(1000, 2000, 600_000).astype(np.uint32)
    marked[rng.random(len(marked)) < 0.5] |= WORD
    marked[0] |= WORD
    special = Special(2, 3, 4, 1_000_000)
    found = corrupt_words(marked, special, rng)
    clean = (marked & ID_MASK).astype(np.int64)
    starts = np.flatnonzero(marked & WORD)
    masked, changed = (np.minimum.reduceat(x, starts) for x in (found == 4, found != clean))
    assert (np.maximum.reduceat(found == 4, starts) == masked).all()
    words, once = len(starts), np.maximum.reduceat(found != clean, starts)
    assert (once == changed).all()  # a random id is the old one once in a million
    for share, rate in ((masked.mean(), 0.12), ((changed & ~masked).mean(), 0.015)):
        assert abs(share - rate) < 5 * np.sqrt(rate / words)
    # Of the kept .015 nothing is seen; what was drawn covers the vocabulary from 1 on.
    random = found[(found != clean) & (found != 4)]
    assert 1 <= random.min() < 1000
    assert 999_000 < random.max() < 1_000_000


def test_all_pieces_of_a_word_go_together():
    marked = np.array([10, 11, 12, 13], np.uint32)
    marked[[0, 2]] |= WORD
    for seed in range(30):
        found = corrupt_words(marked, Special(2, 3, 4, 50), np.random.default_rng(seed), 1.0)
        for a, b in (found[:2], found[2:]):
            assert (a == 4) == (b == 4)
    with pytest.raises(ValueError, match="probability, 0 to 1; got 1"):
        corrupt_words(marked, SPECIAL, np.random.default_rng(0), 1.5)


def test_the_teacher_is_asked_by_sentence_in_whatever_order_it_read():
    order = [3, 0, 5, 1, 4, 2]
    vectors = np.random.default_rng(0).normal(size=(6, 9))
    shuffled = TeacherVectors([TEXTS[i] for i in order], vectors[order])
    rows = ParaphraseRows(PAIRS, sentences(), SPECIAL, teacher=shuffled)
    batch = rows.batch(np.array([2, 0]), (3, 2 * 16), np.random.default_rng(0))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = unit[[4, 5, 0, 1]]
    np.testing.assert_allclose(batch["teacher_cosines"][:4, :4], asked @ asked.T, atol=1e-6)
    assert not batch["teacher_cosines"][4:].any()


def test_labelled_pairs_are_adjacent_with_one_label():
    labels = [LABELS["similar"], LABELS["neutral"], LABELS["different"]]
    rows = LabelledPairs(PAIRS, labels, sentences(), SPECIAL)
    batch = rows.batch(np.array([2, 1]), (3, 2 * 16), np.random.default_rng(0))
    assert batch["pair_labels"].tolist() == [0, 4, 0]
    for line, text in enumerate([*PAIRS[2], *PAIRS[1]]):
        assert batch["token_ids"][line, : len(text) + 2].tolist() == [2, *ids(text), 3]
    assert batch["pair_weights"].tolist() == [1, 1, 1, 1, 0, 0]


# --- losses -------------------------------------------------------------------------------------


def test_a_source_never_sees_its_target(trainer):
    token_ids = np.array([[2, 6, 7, 8, 3, 9, 10, 3, 0], [2, 6, 7, 8, 3, 21, 22, 23, 3]])
    segment_ids = np.array([[0] * 5 + [1] * 4] * 2)
    hidden, pooled = trainer.bodies["unilm"].predict_on_batch([token_ids, segment_ids])
    np.testing.assert_array_equal(hidden[0, :5], hidden[1, :5])
    np.testing.assert_array_equal(pooled[0], pooled[1])
    assert np.abs(hidden[0, 5:8] - hidden[1, 5:8]).max() > 1e-3


def outputs(trainer, batch):
    """Logits (b, n, v) and pooled vectors (b, H) in float64."""
    hidden, pooled = trainer.bodies["unilm"].predict_on_batch(
        [batch["token_ids"], batch["segment_ids"]]
    )
    logits = trainer.token_head.predict_on_batch(hidden)
    return logits.astype(np.float64), pooled.astype(np.float64)


def generation_loss(logits, token_ids, segment_ids):
    """The formula: labels are ids shifted by one, the mask is the segment shifted by one."""
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    mask = segment_ids[:, 1:]
    picked = np.take_along_axis(logp[:, :-1], token_ids[:, 1:, None].astype(int), 2)[..., 0]
    return -(picked * mask).sum() / mask.sum()


def test_stage_1_is_generation_and_contrast(trainer):
    rows = ParaphraseRows(PAIRS, sentences(), SPECIAL)
    batch = rows.batch(np.arange(3), (3, 2 * 16), np.random.default_rng(1))
    logits, pooled = outputs(trainer, batch)
    v = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    s = 20 * v @ v.T
    np.fill_diagonal(s, -np.inf)
    contrast = np.mean([np.log(np.exp(s[i]).sum()) - s[i, i ^ 1] for i in range(6)])
    expected = generation_loss(logits, batch["token_ids"], batch["segment_ids"]) + contrast
    found = keras.ops.convert_to_numpy(trainer(batch))
    assert float(found) == pytest.approx(expected, abs=1e-4)


def test_stage_2_has_the_teachers_cosines_instead(trainer):
    teacher = TeacherVectors(TEXTS, np.random.default_rng(2).normal(size=(6, 3)))
    rows = ParaphraseRows(PAIRS, sentences(), SPECIAL, teacher=teacher)
    batch = rows.batch(np.arange(2), (3, 2 * 16), np.random.default_rng(1))
    logits, pooled = outputs(trainer, batch)
    v = (pooled / np.linalg.norm(pooled, axis=1, keepdims=True))[:4]
    t = batch["teacher_cosines"][:4, :4]
    expected = 100 * np.mean((v @ v.T - t) ** 2)
    expected += generation_loss(logits, batch["token_ids"], batch["segment_ids"])
    found = keras.ops.convert_to_numpy(trainer(batch))
    assert float(found) == pytest.approx(expected, abs=1e-3)


def test_the_head_of_labelled_pairs_is_two_heads_in_one(trainer):
    rows = LabelledPairs(PAIRS, [1, 4, 2], sentences(), SPECIAL)
    batch = rows.batch(np.arange(3), (4, 2 * 16), np.random.default_rng(1))
    _, pooled = outputs(trainer, batch)
    u, v = pooled[0:6:2], pooled[1:6:2]
    kernel = keras.ops.convert_to_numpy(trainer.pair_head.kernel).astype(np.float64)
    assert not trainer.pair_head.use_bias
    logits = np.hstack([u, v, np.abs(u - v)]) @ kernel
    heads = [logits[0, :2], logits[1, 2:], logits[2, 2:]]
    picked = [heads[0][1], heads[1][2], heads[2][0]]
    expected = np.mean([np.log(np.exp(h).sum()) - x for h, x in zip(heads, picked, strict=True)])
    found = keras.ops.convert_to_numpy(trainer(batch))
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_losses_of_the_cosine_leave_neutral_pairs_out(trainer):
    rows = LabelledPairs(PAIRS, [3, 4, 2], sentences(), SPECIAL)
    batch = rows.batch(np.arange(3), (3, 2 * 16), np.random.default_rng(1))
    _, pooled = outputs(trainer, batch)
    v = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    entailed, contradicted = v[0] @ v[1], v[4] @ v[5]
    other = SimilarityTrainer(
        trainer.bodies, trainer.token_head, trainer.output_roles, pair_loss="cosine"
    )
    found = keras.ops.convert_to_numpy(other(batch))
    expected = ((entailed - 1) ** 2 + contradicted**2) / 2
    assert float(found) == pytest.approx(expected, abs=1e-5)


# --- bad input ----------------------------------------------------------------------------------


def test_a_batch_of_one_pair_cannot_be_contrasted():
    rows = ParaphraseRows(PAIRS, sentences(), SPECIAL)
    with pytest.raises(ValueError, match="2 rows holds one pair"):
        rows.batch(np.array([0]), (1, 2 * 16), np.random.default_rng(0))
    with pytest.raises(ValueError, match="let a batch take more tokens"):
        Plan(rows, 32, 64, [0]).batch(0, np.random.default_rng(0))


def test_pairs_of_one_sentence_are_left_out_and_said():
    with pytest.warns(UserWarning, match="1 of 4 pairs are of a sentence with itself"):
        rows = ParaphraseRows([*PAIRS, ("李白", "李白")], sentences([*TEXTS, "李白"]), SPECIAL)
    assert len(rows.lengths()) == 3
    with (
        pytest.warns(UserWarning, match="1 of 1"),
        pytest.raises(ValueError, match="nothing to train on"),
    ):
        ParaphraseRows([("李白", "李白")], sentences(["李白"]), SPECIAL)


def test_a_teacher_that_did_not_read_a_sentence_is_told():
    half = TeacherVectors(TEXTS[:3], np.ones((3, 2)))
    with pytest.raises(ValueError, match="has not read '诗人李白'"):
        ParaphraseRows(PAIRS, sentences(), SPECIAL, teacher=half)
    with pytest.raises(ValueError, match=r"got \(2, 2\) for 3 sentences"):
        TeacherVectors(TEXTS[:3], np.ones((2, 2)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        TeacherVectors(TEXTS[:1], np.array([[np.nan, 1]]))


def test_a_label_that_is_none_is_told():
    with pytest.raises(ValueError, match="label 5 is none of"):
        LabelledPairs(PAIRS, [0, 1, 5], sentences(), SPECIAL)
    with pytest.raises(ValueError, match="one label a pair"):
        LabelledPairs(PAIRS, [0, 1], sentences(), SPECIAL)


def test_an_odd_number_of_rows_is_told(trainer):
    batch = ParaphraseRows(PAIRS, sentences(), SPECIAL).batch(
        np.arange(2), (2, 2 * 16), np.random.default_rng(0)
    )
    with pytest.raises(ValueError, match="even number of rows; got 3"):
        trainer({key: value[:3] for key, value in batch.items()})


def test_simcse_without_dropout_is_refused():
    with pytest.raises(ValueError, match="SimCSE needs dropout"):
        same_sentences(sentences(), SPECIAL, dropout=0.0)
    rows = same_sentences(sentences(), SPECIAL, dropout=0.1)
    batch = rows.batch(np.array([0]), (1, 2 * 16), np.random.default_rng(0))
    np.testing.assert_array_equal(batch["token_ids"][0], batch["token_ids"][1])


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match="dropout must be at least 0"):
        build_similarity_trainer(CONFIG, dropout=1.0)
    with pytest.raises(ValueError, match="pair_loss='cos'"):
        SimilarityTrainer({}, None, pair_loss="cos")
    with pytest.raises(ValueError, match="side=2 leaves no room"):
        ParaphraseRows(PAIRS, sentences(), SPECIAL, side=2)
    with pytest.raises(ValueError, match="probability, 0 to 1; got 2"):
        ParaphraseRows(PAIRS, sentences(), SPECIAL, corrupted=2)
    with pytest.raises(ValueError, match="2 texts and 1 rows of tokens"):
        Sentences(["a", "b"], [np.zeros(1)])
