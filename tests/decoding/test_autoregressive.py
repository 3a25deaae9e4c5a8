"""The decoder against plain-Python searches and sums over all outputs, on random tiny models."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert4kexue.decoding import AutoRegressiveDecoder, PrefixTree, TreeConstraint

START, END, VOCAB = 0, 1, 5


def next_probas(seed, prefix, zeros=False, vocab=VOCAB):
    """A fixed random distribution for each prefix."""
    rng = np.random.default_rng([seed, *(int(token) + 1 for token in prefix)])
    probas = rng.dirichlet(np.full(vocab, 0.6))
    if zeros:
        probas = np.where(rng.random(vocab) < 0.4, 0, probas)
        probas[rng.integers(vocab)] += 0.1
    return probas / probas.sum()


class Random(AutoRegressiveDecoder):
    """Scores from `next_probas`; remembers the batch sizes that it was asked for."""

    def __init__(self, seed, zeros=False, **options):
        super().__init__(**{"start_id": START, "end_id": END, "maxlen": 5} | options)
        self.seed, self.zeros, self.calls = seed, zeros, []

    @AutoRegressiveDecoder.wraps(default_rtype="probas")
    def predict(self, inputs, output_ids, states):
        self.calls.append((len(output_ids), [item.shape for item in inputs]))
        return np.stack([next_probas(self.seed, row, self.zeros) for row in output_ids])


def contract_beam_search(seed, topk, maxlen, minlen, min_ends, zeros):
    """bert4keras's search in words of the contract, on Python lists: result and beam sizes."""
    beam, sizes = [((START,), 0.0)], []
    for _ in range(maxlen):
        sizes.append(len(beam))
        grown = [
            ((*ids, token), score + math.log(p))
            for ids, score in beam
            for token, p in enumerate(next_probas(seed, ids, zeros))
            if p > 0
        ]
        beam = sorted(grown, key=lambda item: -item[1])[:topk]
        if len(beam[0][0]) < minlen:
            continue
        over = [ids[-1] == END and ids.count(END) >= min_ends for ids, _ in beam]
        if over[0]:
            break
        beam = [item for item, done in zip(beam, over, strict=True) if not done]
        topk -= sum(over)
    return beam[0][0], sizes


@given(
    seed=st.integers(0, 10**6),
    topk=st.integers(1, 9),
    maxlen=st.integers(1, 6),
    minlen=st.integers(0, 6),
    min_ends=st.integers(1, 2),
    zeros=st.booleans(),
)
def test_beam_search_is_the_contracts(seed, topk, maxlen, minlen, min_ends, zeros):
    decoder = Random(seed, zeros, maxlen=maxlen, minlen=minlen)
    ids, sizes = contract_beam_search(seed, topk, maxlen, minlen, min_ends, zeros)
    assert tuple(decoder.beam_search([], topk, min_ends=min_ends)) == ids
    assert [size for size, _ in decoder.calls] == sizes


@given(seed=st.integers(0, 10**6), maxlen=st.integers(1, 8))
def test_beam_one_is_greedy(seed, maxlen):
    ids = [START]
    while len(ids) <= maxlen and (ids[-1] != END):
        ids.append(int(np.argmax(next_probas(seed, ids))))
    assert Random(seed, maxlen=maxlen).beam_search([], 1).tolist() == ids
    ((found, score, finished),) = Random(seed, maxlen=maxlen).beam_search([], 1, n_best=1)
    assert found.tolist() == ids
    steps = [next_probas(seed, ids[:n])[ids[n]] for n in range(1, len(ids))]
    assert score == pytest.approx(np.log(steps).sum())
    assert finished == (ids[-1] == END)


def test_ended_row_that_is_not_the_best_is_dropped_for_good():
    """Ending at once has .4; the other beam leads to .3 at most, and is what the search returns."""

    class Trap(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps()
        def predict(self, inputs, output_ids, states):
            after = {0: [0, 0.4, 0.6], 2: [0, 0.5, 0.5]}
            return np.array([after[int(row[-1])] for row in output_ids])

    decoder = Trap(START, END, maxlen=2)
    assert decoder.beam_search([], 2).tolist() == [0, 2, 1]
    best = decoder.beam_search([], 2, n_best=2)
    assert [each.ids.tolist() for each in best] == [[0, 1], [0, 2, 1]]
    assert np.exp([each.score for each in best]) == pytest.approx([0.4, 0.3])


@given(seed=st.integers(0, 10**6), n=st.integers(1, 12))
def test_n_best_of_a_wide_beam_are_the_best_of_all_outputs(seed, n):
    maxlen = 3
    outputs = {}
    for length in range(1, maxlen + 1):
        for tail in itertools.product(range(VOCAB), repeat=length):
            if END in tail[:-1] or (tail[-1] != END and length < maxlen):
                continue
            ids = (START, *tail)
            outputs[ids] = math.prod(next_probas(seed, ids[:k])[ids[k]] for k in range(1, len(ids)))
    best = Random(seed, maxlen=maxlen).beam_search([], 1000, n_best=n)
    expected = sorted(outputs.values(), reverse=True)[:n]
    assert np.exp([each.score for each in best]) == pytest.approx(expected)
    for each in best:
        assert math.exp(each.score) == pytest.approx(outputs[tuple(each.ids)])
        assert each.finished == (each.ids[-1] == END)


ends_with_terminator = st.lists(
    st.lists(st.integers(2, VOCAB - 1), max_size=3).map(lambda key: (*key, END)),
    min_size=1,
    max_size=12,
    unique=True,
)


def key_probability(seed, key, keys, zeros=False):
    """The product over the key of p renormalised over the tokens that keep some key reachable."""
    total = 1.0
    for place, token in enumerate(key):
        prefix = key[:place]
        allowed = sorted({k[place] for k in keys if k[:place] == prefix and len(k) > place})
        probas = next_probas(seed, (START, *prefix), zeros)[allowed]
        mass = probas.sum()
        total *= probas[allowed.index(token)] / mass if mass > 0 else 1 / len(allowed)
    return total


@given(seed=st.integers(0, 10**6), keys=ends_with_terminator, zeros=st.booleans())
def test_wide_constrained_beam_is_exhaustive_search(seed, keys, zeros):
    rule = TreeConstraint(PrefixTree.from_keys(keys))
    found = Random(seed, zeros, constraint=rule).beam_search([], 50, n_best=50)
    truth = {key: key_probability(seed, key, keys, zeros) for key in keys}
    possible = {key: p for key, p in truth.items() if p > 0}
    assert sum(truth.values()) == pytest.approx(1)
    assert {tuple(each.ids[1:].tolist()) for each in found} == set(possible)
    assert len(found) == len(possible), "n-best outputs are different"
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True)
    assert sum(np.exp(scores)) == pytest.approx(1)
    for each in found:
        assert math.exp(each.score) == pytest.approx(truth[tuple(each.ids[1:].tolist())])
    best = Random(seed, zeros, constraint=rule).beam_search([], 50)
    assert truth[tuple(best[1:].tolist())] == pytest.approx(max(truth.values()))


@given(seed=st.integers(0, 10**6), keys=ends_with_terminator, topk=st.integers(1, 4))
def test_every_constrained_output_is_a_key(seed, keys, topk):
    decoder = Random(seed, True, constraint=TreeConstraint(PrefixTree.from_keys(keys)))
    assert tuple(decoder.beam_search([], topk)[1:].tolist()) in keys
    best = decoder.beam_search([], topk, n_best=topk)
    assert 1 <= len(best) <= topk
    assert all(tuple(each.ids[1:].tolist()) in keys for each in best)
    for sample in decoder.random_sample([], 3, rng=np.random.default_rng(seed)):
        assert tuple(sample[1:].tolist()) in keys


@given(keys=ends_with_terminator)
def test_impossible_keys_are_equally_likely(keys):
    """A model that gives every allowed token zero cannot lead out of the tree."""

    class Elsewhere(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps()
        def predict(self, inputs, output_ids, states):
            return np.eye(VOCAB)[np.full(len(output_ids), START)]

    decoder = Elsewhere(None, END, 5, constraint=TreeConstraint(PrefixTree.from_keys(keys)))
    found = decoder.beam_search([], 50, n_best=50)
    assert {tuple(each.ids.tolist()) for each in found} == set(keys)


def test_key_that_begins_another_is_reachable():
    """Keys hold their terminator: (S, P, '') is found although (S, P, 'x') exists."""
    keys = [(4, END, 3, END, END), (4, END, 3, END, 2, END)]
    decoder = Random(0, constraint=TreeConstraint(PrefixTree.from_keys(keys)), maxlen=9)
    found = decoder.beam_search([], 2, min_ends=3, n_best=2)
    assert {tuple(each.ids[1:].tolist()) for each in found} == set(keys)


def test_keys_longer_than_maxlen_are_not_returned():
    rule = TreeConstraint(PrefixTree.from_keys([(2, END), (2, 3, 4, 2, END)]))
    decoder = Random(3, constraint=rule, maxlen=3)
    assert [each.ids.tolist() for each in decoder.beam_search([], 4, n_best=4)] == [[START, 2, END]]
    rule = TreeConstraint(PrefixTree.from_keys([(2, 3, 4, 2, END)]))
    decoder = Random(3, constraint=rule, maxlen=3)
    assert decoder.beam_search([], 4, n_best=4) == []
    assert decoder.beam_search([], 4).tolist() == [START, 2, 3, 4]


def test_keys_without_terminator_are_an_error():
    decoder = Random(0, constraint=TreeConstraint(PrefixTree.from_keys([(2, 3)])))
    with pytest.raises(ValueError, match="must end with end_id"):
        decoder.beam_search([], 2)
    with pytest.raises(ValueError, match="must end with end_id"):
        decoder.random_sample([], 2)


def test_tree_of_another_vocabulary_is_an_error():
    decoder = Random(0, constraint=TreeConstraint(PrefixTree.from_keys([(VOCAB + 2, END)])))
    with pytest.raises(ValueError, match="allows token 7, the model scores 5"):
        decoder.beam_search([], 2)


def test_empty_output_begins_with_no_column():
    decoder = Random(1, start_id=None)
    assert decoder.first_output_ids.shape == (1, 0)
    assert np.issubdtype(decoder.first_output_ids.dtype, np.integer)
    assert decoder.beam_search([], 1)[0] == np.argmax(next_probas(1, []))


def test_inputs_are_single_samples_repeated_after_the_first_step():
    decoder = Random(2, start_id=None, maxlen=2, minlen=9)
    decoder.beam_search([[3, 4, 5], np.zeros((2, 2))], 3)
    assert decoder.calls == [(1, [(1, 3), (1, 2, 2)]), (3, [(3, 3), (3, 2, 2)])]


def test_input_written_in_place_is_still_written_at_the_next_step():
    class Marking(AutoRegressiveDecoder):
        seen = ()

        @AutoRegressiveDecoder.wraps()
        def predict(self, inputs, output_ids, states):
            self.seen += (inputs[0].tolist(),)
            inputs[0][:, 0] = -1
            return np.full((len(output_ids), 4), 0.25)

    decoder = Marking(None, 3, maxlen=2, minlen=9)
    decoder.beam_search([[7, 8]], 2)
    assert decoder.seen == ([[7, 8]], [[-1, 8], [-1, 8]])


@given(seed=st.integers(0, 10**6), topk=st.integers(1, 6), sample=st.booleans())
def test_states_follow_their_hypotheses(seed, topk, sample):
    """A state that records each row's own tokens equals the row, whatever beams survive."""

    class Recording(Random):
        checks = 0

        @AutoRegressiveDecoder.wraps(use_states=True)
        def predict(self, inputs, output_ids, states):
            count, (history,) = states["step"], states["cache"]
            assert history.tolist() == output_ids[:, :-1].tolist()
            self.checks += 1
            history = np.concatenate([history, output_ids[:, -1:]], axis=1)
            probas = np.stack([next_probas(seed, row) for row in output_ids])
            return probas, {"step": count + 1, "cache": (history,)}

    decoder = Recording(seed, maxlen=6)
    states = {"step": 0, "cache": (np.zeros((1, 0), int),)}
    if sample:
        decoder.random_sample([], topk, states=states, rng=np.random.default_rng(seed))
    else:
        decoder.beam_search([], topk, states=states, min_ends=2, n_best=topk)
    assert decoder.checks > 0


def test_states_are_lost_after_the_first_step_when_not_used():
    class Plain(AutoRegressiveDecoder):
        seen = ()

        @AutoRegressiveDecoder.wraps()
        def predict(self, inputs, output_ids, states):
            self.seen += (states,)
            return np.full((len(output_ids), 4), 0.25)

    decoder = Plain(None, 3, maxlen=3, minlen=9)
    decoder.beam_search([], 1, states="first")
    assert decoder.seen == ("first", None, None)


@pytest.mark.parametrize("temperature", [0.5, 1, 3])
@pytest.mark.parametrize("given_as", ["probas", "logits"])
def test_wraps_gives_both_kinds_of_scores_at_a_temperature(temperature, given_as):
    logits = np.array([[1.0, -2.0, 0.5], [300.0, 0.0, -900.0]])
    tilted = np.exp(logits / temperature - (logits / temperature).max(1, keepdims=True))
    expected = tilted / tilted.sum(1, keepdims=True)
    plain = np.exp(logits - logits.max(1, keepdims=True))

    class Fixed(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps(default_rtype=given_as, use_states=True)
        def predict(self, inputs, output_ids, states):
            scores = logits if given_as == "logits" else plain / plain.sum(1, keepdims=True)
            return scores, states + 1

    decoder = Fixed(None, 2, 3)
    ids = np.zeros((2, 0), int)
    probas, states = decoder.predict([], ids, 4, temperature, "probas")
    assert states == 5
    np.testing.assert_allclose(probas, expected, atol=1e-12)
    logs, _ = decoder.predict([], ids, 4, temperature=temperature, rtype="logits")
    np.testing.assert_allclose(np.exp(logs), expected, atol=1e-12)
    default, _ = decoder.predict([], ids, 4)
    normal = plain / plain.sum(1, keepdims=True)
    if given_as == "probas":
        np.testing.assert_allclose(default, normal, atol=1e-12)
    else:
        np.testing.assert_allclose(np.exp(default), normal, atol=1e-12)


def test_impossible_tokens_never_enter_a_beam():
    class Certain(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps()
        def predict(self, inputs, output_ids, states):
            assert set(output_ids.ravel().tolist()) <= {2, 3}
            after = np.array([0, 0, 0, 1.0]) if output_ids.shape[1] else np.array([0, 0, 1.0, 0])
            return np.tile(after, (len(output_ids), 1))

    decoder = Certain(None, 3, maxlen=4)
    assert decoder.beam_search([], 4).tolist() == [2, 3]
    assert [each.ids.tolist() for each in decoder.beam_search([], 4, n_best=4)] == [[2, 3]]


def drawn(probas, n=4000, **options):
    class Fixed(AutoRegressiveDecoder):
        @AutoRegressiveDecoder.wraps()
        def predict(self, inputs, output_ids, states):
            return np.tile(np.array(probas), (len(output_ids), 1))

    options = {"rng": np.random.default_rng(5)} | options
    samples = Fixed(None, len(probas), maxlen=1).random_sample([], n, **options)
    return np.bincount([int(sample[0]) for sample in samples], minlength=len(probas)) / n


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"topk": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"topk": 99}, [0.1, 0.4, 0.2, 0.3]),
        ({"topp": 0.41}, [0, 4 / 7, 0, 3 / 7]),
        ({"topp": 1e-9}, [0, 1, 0, 0]),
        ({"topp": 5}, [0.1, 0.4, 0.2, 0.3]),
        ({"topk": 3, "topp": 0.5}, [0, 4 / 7, 0, 3 / 7]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
    ],
)
def test_sampling_draws_the_filtered_distribution(options, expected):
    counted = drawn([0.1, 0.4, 0.2, 0.3], **options)
    assert (counted[np.array(expected) == 0] == 0).all()
    np.testing.assert_allclose(counted, expected, atol=0.04)  # 5 standard errors at n = 4000


def test_topp_is_reached_by_an_equal_sum():
    assert drawn([0.125, 0.5, 0.125, 0.25], 200, topp=0.5).tolist() == [0, 1, 0, 0]
    assert drawn([0.125, 0.5, 0.125, 0.25], 200, topp=0.75)[[0, 2]].tolist() == [0, 0]


def test_topk_and_topp_are_the_third_and_fourth_arguments():
    decoder = Random(0, maxlen=2)
    greedy = [START, *decoder.beam_search([], 1)[1:]]
    assert all(ids.tolist() == greedy[: len(ids)] for ids in decoder.random_sample([], 5, 1, 5))


def test_samples_are_given_in_the_order_in_which_they_ended():
    samples = Random(4, maxlen=4).random_sample([], 60, rng=np.random.default_rng(0))
    assert len(samples) == 60
    ended = [ids[-1] == END for ids in samples]
    assert ended == sorted(ended, reverse=True)
    lengths = [len(ids) for ids, end in zip(samples, ended, strict=True) if end]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 1
    assert all(len(ids) == 5 for ids, end in zip(samples, ended, strict=True) if not end)


@given(seed=st.integers(0, 1000), minlen=st.integers(0, 6), min_ends=st.integers(1, 2))
def test_samples_end_by_the_rule(seed, minlen, min_ends):
    decoder = Random(seed, minlen=minlen, maxlen=6)
    rng = np.random.default_rng(seed)
    for ids in decoder.random_sample([], 4, rng=rng, min_ends=min_ends):
        ids = tuple(ids.tolist())
        over = [
            len(ids[:n]) >= minlen and ids[n - 1] == END and ids[:n].count(END) >= min_ends
            for n in range(1, len(ids) + 1)
        ]
        assert not any(over[:-1])
        assert over[-1] or len(ids) == 7


def test_sampling_without_rng_obeys_the_global_seed():
    results = []
    for _ in range(2):
        np.random.seed(11)
        results.append([ids.tolist() for ids in Random(9).random_sample([], 6)])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Random(0).beam_search([], 0), "topk must be 1 or more, got 0"),
        (lambda: Random(0).beam_search([], 1, n_best=0), "n_best must be 1 or more"),
        (lambda: Random(0).random_sample([], 0), "n must be 1 or more, got 0"),
        (lambda: Random(0, maxlen=0), "maxlen must be 1 or more, got 0"),
        (lambda: Random(0).beam_search([], 1, temperature=0), "temperature must be above 0"),
        (lambda: AutoRegressiveDecoder.wraps("scores"), "rtype must be 'probas' or 'logits'"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_last_token_gives_the_last_position_of_every_output(capfd):
    import keras

    ids = keras.Input((None,))
    hidden = keras.layers.Embedding(11, 3)(ids)
    model = keras.Model(ids, [hidden, keras.layers.Dense(4)(hidden)])
    decoder = AutoRegressiveDecoder(None, 1, 3)
    last = decoder.last_token(model)
    assert decoder.last_token(model) is last
    x = np.array([[1, 2, 3], [4, 5, 6]])
    whole = model.predict(x, verbose=0)
    for options in ({}, {"batch_size": 1}):
        for part, full in zip(last.predict(x, **options), whole, strict=True):
            np.testing.assert_allclose(part, full[:, -1], rtol=1e-6)
    single = decoder.last_token(keras.Model(ids, hidden)).predict(x)
    np.testing.assert_allclose(single, whole[0][:, -1], rtol=1e-6)
    out, err = capfd.readouterr()
    assert "step" not in out + err
