"""Batches of pretraining hold what they say, and can be made again from their number."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.text.wordpiece import Tokenizer
from bert4kexue.training.hidden_words import hide_words
from bert4kexue.training.objectives import (
    AlikePairs,
    Continuations,
    MaskedWords,
    SamePieces,
    SentencePairs,
    Windows,
    corrupted,
)
from bert4kexue.training.plan import Plan
from bert4kexue.training.records import SENTENCE, WORD
from bert4kexue.training.special import Special

SPECIAL = Special(start=2, end=3, mask=4, vocabulary=1000)


def made_records(seed=0, count=30, longest=60):
    """Documents of ids with words of 1 to 3 tokens and sentences of about 8."""
    rng = np.random.default_rng(seed)
    documents = []
    for _ in range(count):
        n = int(rng.integers(5, longest))
        ids = rng.integers(5, 1000, n).astype(np.uint32)
        ids |= np.where(rng.random(n) < 0.6, WORD, np.uint32(0))
        ids |= np.where(rng.random(n) < 0.12, SENTENCE, np.uint32(0))
        ids[0] |= WORD | SENTENCE
        documents.append(ids)
    return documents


@given(st.integers(0, 10**6), st.integers(1, 40))
@settings(deadline=None)
def test_windows_hold_every_token_once_and_end_with_sentences_where_they_can(seed, size):
    documents = made_records(seed, 5)
    windows = Windows(documents, size, shortest=1)
    for number, document in enumerate(documents):
        parts = [(s, e) for d, s, e in windows.pieces if d == number]
        assert [s for s, _ in parts] == [0, *(e for _, e in parts[:-1])]
        assert parts[-1][1] == len(document)
        marks = document & SENTENCE != 0
        for start, stop in parts[:-1]:
            assert stop - start <= size
            if marks[start + 1 : start + size + 1].any() and start + size < len(document):
                assert marks[stop]


@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.15, 0.3]))
@settings(deadline=None)
def test_words_are_hidden_whole(seed, rate):
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(5, 1000, (4, 30)).astype(np.int32)
    token_ids[:, 0], token_ids[:, -3], token_ids[:, -2:] = 2, 3, 0
    words = rng.random((4, 30)) < 0.6
    words[:, 1] = True
    asked = hide_words(token_ids, words, SPECIAL, rng, rate)
    ordinary = token_ids >= 5
    number = np.cumsum((words | ~ordinary).ravel()).reshape(4, 30)
    for line in range(4):
        real = asked["weights"][line] > 0
        places = asked["positions"][line][real]
        assert len(set(places)) == len(places) >= 1
        assert ordinary[line, places].all()
        np.testing.assert_array_equal(asked["labels"][line][real], token_ids[line, places])
        hidden = np.zeros(30, bool)
        hidden[places] = True
        # The limit may cut a word that stands alone; otherwise words are hidden whole.
        sizes = {w: (number[line] == w).sum() for w in set(number[line, places])}
        if len(sizes) > 1:
            assert all(hidden[number[line] == w].all() for w in sizes)
        untouched = ~hidden
        np.testing.assert_array_equal(
            asked["token_ids"][line][untouched], token_ids[line][untouched]
        )


def test_the_stated_shares_are_masked():
    rng = np.random.default_rng(0)
    token_ids = rng.integers(5, 1000, (3000, 40)).astype(np.int32)
    asked = hide_words(token_ids, np.ones((3000, 40), bool), SPECIAL, rng, 0.15)
    real = asked["weights"] > 0
    lines = np.nonzero(real)[0]
    seen = asked["token_ids"][lines, asked["positions"][real]]
    assert real.sum() / token_ids.size == pytest.approx(0.15, abs=0.002)
    assert (seen == 4).mean() == pytest.approx(0.8, abs=0.01)
    assert (seen == asked["labels"][real]).mean() == pytest.approx(0.1, abs=0.01)


def google_vocabulary():
    """Laid out as Google's Chinese one: [CLS] is 101, and 99 tokens stand for nothing."""
    unused = [f"[unused{i}]" for i in range(1, 100)]
    first = ["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return {token: i for i, token in enumerate([*first, *map(chr, range(0x4E00, 0x4E40))])}


def test_special_tokens_of_googles_vocabularies_are_neither_asked_for_nor_drawn():
    vocabulary = google_vocabulary()
    special = Special.of(Tokenizer(vocabulary))
    assert (special.start, special.end, special.mask) == (101, 102, 103)
    rng = np.random.default_rng(0)
    documents = [rng.integers(104, 168, 12).astype(np.uint32) | WORD for _ in range(500)]
    documents[0][:3] = 100 | WORD  # unknown words
    plan = Plan(MaskedWords(Windows(documents, 12), special), 2048, 16, [0])
    drawn = []
    for number in range(plan.steps_per_epoch):
        batch = plan.batch(number, rng)
        real = batch["weights"] > 0
        assert batch["labels"][real].min() >= 104
        seen = batch["token_ids"][np.nonzero(real)[0], batch["positions"][real]]
        drawn += seen[(seen != batch["labels"][real]) & (seen != special.mask)].tolist()
    assert len(drawn) > 50
    assert min(drawn) >= 104


def test_five_special_tokens_at_the_beginning_leave_the_draws_as_they_were():
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>", "好"]
    special = Special.of(Tokenizer({token: i for i, token in enumerate(tokens)}))
    np.testing.assert_array_equal(np.flatnonzero(special.ordinary()), [5, 6])


def test_packed_rows_hold_every_piece_with_its_own_document():
    documents = made_records(1, 40, 25)
    objective = MaskedWords(Windows(documents, 30), SPECIAL, packed=True)
    plan = Plan(objective, tokens=128, longest=64, seed=[0])
    seen = 0
    for number in range(plan.steps_per_epoch):
        batch = plan.batch(number, np.random.default_rng(number))
        assert batch["token_ids"].shape == (2, 64)
        for line in range(2):
            ids, docs = batch["token_ids"][line], batch["document_ids"][line]
            assert ((ids > 0) == (docs > 0)).all()
            for document in set(docs) - {0}:
                part = ids[docs == document]
                assert part[0] == 2
                assert part[-1] == 3
                seen += 1
    assert seen == len(objective.windows)
    real = sum((plan.batch(i, np.random.default_rng(0))["token_ids"] > 0).sum() for i in range(2))
    assert real / (2 * 128) > 0.8


@pytest.mark.parametrize("wrong", ["random", "swapped"])
def test_sentence_pairs_are_neighbours_or_not(wrong):
    documents = [np.asarray(d) for d in made_records(2, 12)]
    windows = Windows(documents, 30)
    objective = SentencePairs(windows, SPECIAL, wrong, rate=0.01)
    rows = np.arange(len(objective.lengths()))
    width = int(objective.lengths().max())
    batch = objective.batch(rows, (len(rows), width), np.random.default_rng(0))
    ids = batch["token_ids"].copy()
    lines = np.nonzero(batch["weights"])[0]
    ids[lines, batch["positions"][batch["weights"] > 0]] = batch["labels"][batch["weights"] > 0]
    plain = [(d & np.uint32(SENTENCE - 1)).tolist() for d in documents]
    for line in rows:
        row, segments = ids[line], batch["segment_ids"][line]
        second = row[segments == 1][:-1].tolist()
        first = row[(segments == 0) & (row > 0)][1:-1].tolist()
        joined = [first + second, second + first]
        follows = [any(_contains(d, j) for d in plain) for j in joined]
        assert follows[0] == (batch["is_next"][line] == 0)
        if wrong == "swapped":
            assert follows[1] == (batch["is_next"][line] == 1)
    assert 0.25 < batch["is_next"].mean() < 0.75


def _contains(document, part):
    n = len(part)
    return any(document[i : i + n] == part for i in range(len(document) - n + 1))


def test_a_target_is_asked_token_by_token():
    rows = [([10, 11], [20, 3, 21, 3]), ([12], [22, 3])]
    batch = Continuations(rows, SPECIAL).batch(np.array([0, 1]), (3, 10), np.random.default_rng(0))
    np.testing.assert_array_equal(batch["token_ids"][0], [2, 10, 11, 3, 20, 3, 21, 3, 0, 0])
    np.testing.assert_array_equal(batch["segment_ids"][0], [0, 0, 0, 0, 1, 1, 1, 1, 0, 0])
    for line, (_, target) in enumerate(rows):
        real = batch["weights"][line] > 0
        places = batch["positions"][line][real]
        np.testing.assert_array_equal(batch["token_ids"][line][places + 1], target)
        np.testing.assert_array_equal(batch["labels"][line][real], target)
    assert not batch["weights"][2].any()


def test_pairs_stand_side_by_side():
    objective = AlikePairs([([7], [8, 9]), ([10], [11])], SPECIAL, scores=[3.0, 1.0])
    batch = objective.batch(np.array([1, 0]), (3, 8), np.random.default_rng(0))
    np.testing.assert_array_equal(
        batch["token_ids"][:4], [[2, 10, 3, 0], [2, 11, 3, 0], [2, 7, 3, 0], [2, 8, 9, 3]]
    )
    np.testing.assert_array_equal(batch["pair_weights"], [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(batch["scores"], [1, 3, -1])


def test_only_a_sentence_beside_itself_is_corrupted():
    rows = [(list(range(5, 25)), list(range(5, 25))), ([30, 31, 32], [33, 34])]
    task = AlikePairs(rows, SPECIAL, corrupt=0.5)
    ids = task.batch(np.array([0, 1]), (2, 64), np.random.default_rng(0))["token_ids"]
    kept = [row[row > 4].tolist() for row in ids]
    assert kept[0] == rows[0][0]
    assert 0 < len(kept[1]) < 20
    assert set(kept[1]) < set(kept[0])
    assert kept[2:] == [[30, 31, 32], [33, 34]]


def test_pieces_beside_their_copies_are_read_from_the_records_batch_by_batch():
    windows = Windows(made_records(5), 20)
    task, read = SamePieces(windows, SPECIAL, 0.15), []
    kept = [(windows[i] & np.uint32(SENTENCE - 1)).tolist() for i in range(len(windows))]
    held = AlikePairs([(ids, ids) for ids in kept], SPECIAL, corrupt=0.15)
    np.testing.assert_array_equal(task.lengths(), held.lengths())

    class Watched(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    windows.records = Watched(windows.records)
    plan = Plan(task, 200, 48, [5])
    assert not read
    rows, shape = plan._batches(0)[0]
    batches = [t.batch(rows, shape, np.random.default_rng(1)) for t in (task, held)]
    assert len(read) == len(rows)
    for key, value in batches[1].items():
        np.testing.assert_array_equal(batches[0][key], value, err_msg=key)


@settings(deadline=None)
@given(st.lists(st.integers(5, 99), min_size=1, max_size=20), st.integers(0, 50))
def test_corruption_invents_no_token_and_leaves_one(ids, seed):
    kept = corrupted(ids, np.random.default_rng(seed), 0.15)
    assert kept
    assert not Counter(kept) - Counter(ids)


def test_a_plan_is_the_same_whatever_was_asked_before():
    objective = MaskedWords(Windows(made_records(3), 20), SPECIAL)
    plans = [Plan(objective, 200, 24, [5]) for _ in range(2)]
    steps = plans[0].steps_per_epoch
    wanted = [0, 2 * steps + 1, steps - 1, 3]
    for number in wanted:
        plans[0].batch(number, np.random.default_rng(1))
    for number in reversed(wanted):
        first, second = (p.batch(number, np.random.default_rng([9, number])) for p in plans)
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])


def test_an_epoch_holds_every_row_once():
    objective = MaskedWords(Windows(made_records(4), 20), SPECIAL)
    plan = Plan(objective, 100, 24, [0])
    for epoch in (0, 1):
        rows = np.concatenate([rows for rows, _ in plan._batches(epoch)])
        assert sorted(rows) == list(range(len(objective.windows)))


@pytest.mark.parametrize("wrong", ["tokens", "longest", "multiple"])
@pytest.mark.parametrize("packed", [False, True])
def test_numbers_that_make_no_batch_are_told(wrong, packed):
    objective = MaskedWords(Windows(made_records(6), 20), SPECIAL, packed=packed)
    numbers = {"tokens": 100, "longest": 24, "multiple": 16} | {wrong: 0}
    with pytest.raises(ValueError, match=rf"{wrong}=0\b.* must be 1 or more"):
        Plan(objective, seed=[0], **numbers)


def test_too_little_text_is_told():
    with pytest.raises(ValueError, match="size=3 tokens never have the shortest=4"):
        Windows(made_records(6), 3)
    with pytest.raises(ValueError, match="no document of the records has 4 tokens"):
        Windows([np.array([7, 8], np.uint32)], 10)
    windows = Windows([np.arange(5, 12, dtype=np.uint32)], 10)
    with pytest.raises(ValueError, match="no piece has two sentences"):
        SentencePairs(windows, SPECIAL)
    with pytest.raises(ValueError, match="wrong must be"):
        SentencePairs(windows, SPECIAL, wrong="other")
