"""Samples: their distribution against NumPy's, their seeds, their stream."""

from __future__ import annotations

import numpy as np
import pytest
from _generation import END, STEPS, Case, chi_square_limit, to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from bert4kexue.ops.beam_search import largest
from bert4kexue.ops.sampling import ban_repeated_ngrams, draw, penalize_repetition, renormalize

DRAWS = 4096


@pytest.fixture(scope="module")
def case():
    return Case("roformer", "unilm").randomize(11, 0.4)


def filtered(probas, topk=None, topp=None, min_p=None):
    """The distribution that is drawn from, one entry at a time."""
    kept = sorted(range(len(probas)), key=lambda i: -probas[i])[:topk]
    total = sum(probas[i] for i in kept)
    if topp is not None:
        chosen, reached = [], 0.0
        for i in kept:
            if reached >= topp:
                break
            chosen.append(i)
            reached += probas[i] / total
        kept = chosen
    if min_p is not None:
        kept = [i for i in kept if probas[i] >= min_p * max(probas)]
    result = np.zeros(len(probas))
    result[kept] = np.asarray(probas)[kept]
    return result / result.sum()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"topk": 4},
        {"topp": 0.7},
        {"topk": 6, "topp": 0.8},
        {"min_p": 0.3},
        {"temperature": 2.0},
    ],
    ids=str,
)
def test_first_tokens_are_distributed_as_numpy_says(case, options):
    """False alarm: one in a million for each case (the seed is fixed: it passes or it does not)."""
    source = [5, 9, 4]
    log_probs = case.log_probs(source, [[]])[0] / options.get("temperature", 1.0)
    probas = np.exp(log_probs) / np.exp(log_probs).sum()
    filters = {name: value for name, value in options.items() if name != "temperature"}
    expected = filtered(probas, **filters) * DRAWS
    (found,) = case.generator.generate(
        [source],
        do_sample=True,
        num_return_sequences=DRAWS,
        max_new_tokens=1,
        seed=20240229,
        **options,
    )
    counts = np.bincount([h.ids[0] for h in found], minlength=len(probas))
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert statistic < chi_square_limit(possible.sum() - 1)


def test_later_tokens_follow_the_tokens_before_them(case):
    """As above, for the second token after the most frequent first one."""
    source = [7, 6]
    (found,) = case.generator.generate(
        [source], do_sample=True, num_return_sequences=DRAWS, max_new_tokens=2, seed=7
    )
    firsts = np.bincount([h.ids[0] for h in found], minlength=case.vocab_size)
    firsts[END] = 0  # nothing follows
    first = int(firsts.argmax())
    seconds = [h.ids[1] for h in found if h.ids[0] == first]
    probas = np.exp(case.log_probs(source, [[first]])[0])
    expected = probas / probas.sum() * len(seconds)
    counts = np.bincount(seconds, minlength=case.vocab_size)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < chi_square_limit(case.vocab_size - 1)


def test_scores_of_samples_are_the_models(case):
    sources = case.sources(3)
    outputs = case.generator.generate(
        sources, do_sample=True, num_return_sequences=2, max_new_tokens=STEPS, topk=5, seed=1
    )
    for source, found in zip(sources, outputs, strict=True):
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(case.score(source, hypothesis.ids), abs=2e-4)


def test_seeds_reproduce_and_differ_and_belong_to_a_source(case):
    sources = case.sources(4)
    options = {"do_sample": True, "num_return_sequences": 2, "max_new_tokens": STEPS}

    def ids(sources, seed):
        found = case.generator.generate(sources, seed=seed, **options)
        return [[h.ids.tolist() for h in outputs] for outputs in found]

    assert ids(sources, 1) == ids(sources, 1)
    assert ids(sources, 1) != ids(sources, 2)
    assert ids(sources[2:3], [30]) == ids(sources, [10, 20, 30, 40])[2:3]
    with pytest.raises(ValueError, match="2 seeds for 4 sources"):
        ids(sources, [1, 2])


@pytest.mark.parametrize(
    "options", [{}, {"do_sample": True, "num_return_sequences": 2, "seed": 5, "topp": 0.9}], ids=str
)
def test_the_stream_is_the_whole_output(case, options):
    sources = case.sources(5)
    whole = case.generator.generate(sources, max_new_tokens=STEPS, **options)
    steps = list(case.generator.stream(sources, max_new_tokens=STEPS, **options))
    streamed = np.stack(steps, axis=-1)  # (b, samples, steps)
    for rows, found in zip(streamed, whole, strict=True):
        for row, hypothesis in zip(rows, found, strict=True):
            n = len(hypothesis.ids)
            assert row[:n].tolist() == hypothesis.ids.tolist()
            assert not row[n:].any()
    with pytest.raises(ValueError, match="num_beams=1 can be streamed"):
        case.generator.stream(sources, num_beams=2)


@given(st.integers(0, 10**6), st.integers(1, 9), st.booleans())
@settings(max_examples=30, deadline=None)
def test_no_impossible_entry_is_ever_drawn(seed, c, filters):
    random = np.random.RandomState(seed)
    log_probs = np.log(random.dirichlet(np.ones(c), size=5)).astype("float32")
    impossible = random.rand(5, c) < 0.5
    impossible[:, random.randint(c)] = False
    log_probs[impossible] = -np.inf
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    ends = np.array([0.0, np.nextafter(np.float32(1), np.float32(0)), *random.rand(3)], "float32")
    options = {"topk": min(3, c), "topp": 0.5, "min_p": 0.1} if filters else {}
    places = to_numpy(
        draw(ops.convert_to_tensor(log_probs), ops.convert_to_tensor(ends), **options)
    )
    assert (log_probs[np.arange(5), places] > -np.inf).all()


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_repeated_ngrams_and_tokens_are_those_of_a_plain_loop(seed, t, n):
    random = np.random.RandomState(seed)
    logits = random.normal(size=(3, 4)).astype("float32")
    sequences = random.randint(0, 4, size=(3, 6)).astype("int32")
    banned, penalized = logits.copy(), logits.copy()
    for row, sequence in enumerate(sequences):
        seen = sequence[:t].tolist()
        grams = {tuple(seen[i : i + n]) for i in range(len(seen) - n + 1)}
        for token in range(4):
            if t >= n - 1 and (*seen[len(seen) - n + 1 :], token) in grams:
                banned[row, token] = -np.inf
            if token in seen:
                penalized[row, token] *= 0.5 if logits[row, token] > 0 else 2.0
    tensors = ops.convert_to_tensor(logits), ops.convert_to_tensor(sequences)
    np.testing.assert_array_equal(to_numpy(ban_repeated_ngrams(*tensors, t, n)), banned)
    valid = ops.convert_to_tensor(np.tile(np.arange(6) < t, (3, 1)))
    np.testing.assert_allclose(to_numpy(penalize_repetition(*tensors, valid, 2.0)), penalized)


def test_renormalizing_over_nothing_is_nothing_and_over_the_impossible_is_even():
    log_probs = ops.convert_to_tensor(np.array([[-1.0, -2.0], [-np.inf, -np.inf]] * 2, "float32"))
    valid = ops.convert_to_tensor(np.array([[True, False], [True, True], [False] * 2, [False] * 2]))
    found = np.exp(to_numpy(renormalize(log_probs, valid)))
    np.testing.assert_allclose(found, [[1, 0], [0.5, 0.5], [0, 0], [0, 0]], atol=1e-6)


@given(st.integers(0, 10**6), st.sampled_from([7, 1024, 1290, 4 * 2641, 21128]), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_the_largest_of_many_are_those_of_a_sort(seed, n, k):
    x = np.random.RandomState(seed).permutation(2 * n).reshape(2, n).astype("float32")
    x[0, : n - k] = -np.inf
    values, places = (to_numpy(y) for y in largest(ops.convert_to_tensor(x), k))
    np.testing.assert_array_equal(values, -np.sort(-x, axis=1)[:, :k])
    np.testing.assert_array_equal(np.take_along_axis(x, places, axis=1), values)
