"""Laws of cached, compiled generation, over random weights, beside the whole model without a
cache."""

from __future__ import annotations

import numpy as np
import pytest
from _generation import END, STEPS, Case, same
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.models.generation import Generator

KINDS = [("bert", "unilm"), ("roformer", "unilm"), ("bert", "lm"), ("roformer", "lm")]
SEEDS = st.integers(0, 10**6)


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def case(request):
    return Case(*request.param)


@pytest.fixture(scope="module")
def unilm():
    return Case("roformer", "unilm")


def beams(case, sources, **options):
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": STEPS} | options
    return case.generator.generate(sources, **options)


@given(SEEDS)
@settings(max_examples=4, deadline=None)
def test_scores_with_the_cache_are_those_of_the_whole_model(case, seed):
    sources = case.randomize(seed).sources(seed)
    for source, found in zip(sources, beams(case, sources), strict=True):
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(case.score(source, hypothesis.ids), abs=2e-4)
            assert hypothesis.finished == (hypothesis.ids[-1] == END)
            assert END not in hypothesis.ids[:-1]


@given(SEEDS)
@settings(max_examples=4, deadline=None)
def test_outputs_are_sorted_and_distinct_and_a_row_alone_gives_the_same(case, seed):
    sources = case.randomize(seed).sources(seed)
    together = beams(case, sources)
    for found in together:
        scores = [hypothesis.score for hypothesis in found]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(hypothesis.ids) for hypothesis in found}) == len(found) == 3
    same(beams(case, sources[1:2])[0], together[1])


@given(SEEDS)
@settings(max_examples=4, deadline=None)
def test_padding_on_the_left_is_padding_on_the_right(case, seed):
    sources = case.randomize(seed).sources(seed)
    longest = max(map(len, sources))
    left = np.array([[0] * (longest - len(s)) + s for s in sources])
    for one, other in zip(beams(case, left), beams(case, sources), strict=True):
        same(one, other)


@given(SEEDS)
@settings(max_examples=4, deadline=None)
def test_a_beam_of_one_is_greedy(case, seed):
    sources = case.randomize(seed).sources(seed)
    greedy = case.generator.generate(sources, max_new_tokens=STEPS)
    one = beams(case, sources, num_beams=1, num_return_sequences=1)
    for a, b in zip(greedy, one, strict=True):
        same(a, b)


@pytest.mark.parametrize("penalty", [0.0, 1.0, -0.7])
@given(SEEDS)
@settings(max_examples=3, deadline=None)
def test_a_wide_beam_finds_what_trying_everything_finds(small, penalty, seed):
    (source,) = small.randomize(seed, 1.0).sources(seed, rows=1)
    every = small.all_outputs(source, 3)
    ranked = sorted(every, key=lambda ids: every[ids] / len(ids) ** penalty, reverse=True)
    (found,) = small.generator.generate(
        [source],
        num_beams=30,
        num_return_sequences=10,
        max_new_tokens=3,
        length_penalty=penalty,
    )
    scores = [every[ids] / len(ids) ** penalty for ids in ranked[:10]]
    np.testing.assert_allclose([h.score for h in found], scores, atol=2e-4, rtol=0)
    for hypothesis in found:
        ids = tuple(hypothesis.ids.tolist())
        assert every[ids] / len(ids) ** penalty == pytest.approx(hypothesis.score, abs=2e-4)


@pytest.fixture(scope="module")
def small():
    return Case("bert", "unilm", vocab_size=6)


@pytest.mark.parametrize("options", [{}, {"min_ends": 2}, {"minlen": 4}], ids=str)
@given(SEEDS)
@settings(max_examples=3, deadline=None)
def test_bert4keras_semantics_are_those_of_the_reference_loop(unilm, options, seed):
    sources = unilm.randomize(seed).sources(seed)
    reference = unilm.reference(STEPS, minlen=options.get("minlen", 1))
    min_ends = options.get("min_ends", 1)
    one = beams(unilm, sources, num_return_sequences=1, beam_mode="bert4keras", **options)
    several = beams(unilm, sources, beam_mode="shrink", **options)
    for source, best, found in zip(sources, one, several, strict=True):
        expected = reference.beam_search([source], 3, min_ends=min_ends)
        assert best[0].ids.tolist() == expected.tolist()
        same(found, reference.beam_search([source], 3, min_ends=min_ends, n_best=3))


@given(SEEDS)
@settings(max_examples=3, deadline=None)
def test_temperature_in_the_search_is_the_reference_loops(unilm, seed):
    sources = unilm.randomize(seed).sources(seed)
    found = beams(unilm, sources, beam_mode="shrink", temperature=1.7)
    reference = unilm.reference(STEPS)
    for source, outputs in zip(sources, found, strict=True):
        same(outputs, reference.beam_search([source], 3, temperature=1.7, n_best=3))


def test_a_start_token_is_the_beginning_of_the_target(unilm):
    sources = unilm.randomize(5).sources(5)
    generator = Generator(unilm.model, end_token_id=END, start_token_id=7, jit_compile=False)
    found = generator.generate(sources, num_beams=3, beam_mode="bert4keras", max_new_tokens=4)
    reference = unilm.reference(4, start_id=7)
    for source, outputs in zip(sources, found, strict=True):
        assert reference.beam_search([source], 3).tolist()[1:] == outputs[0].ids.tolist()


def test_no_end_token_fills_the_length_and_a_smallest_length_is_kept(unilm):
    sources = unilm.randomize(1).sources(1)
    endless = Generator(unilm.model, jit_compile=False)
    for found in endless.generate(sources, num_beams=2, max_new_tokens=5):
        assert len(found[0].ids) == 5
        assert not found[0].finished
    for found in beams(unilm, sources, min_new_tokens=5):
        assert all(len(hypothesis.ids) >= 5 for hypothesis in found)


def test_rules_on_repetition_hold(unilm):
    sources = unilm.randomize(2).sources(2)
    for found in beams(unilm, sources, no_repeat_ngram_size=2, min_new_tokens=STEPS):
        for hypothesis in found:
            pairs = list(zip(hypothesis.ids, hypothesis.ids[1:], strict=False))
            assert len(set(pairs)) == len(pairs)
    (penalized,) = unilm.generator.generate(
        sources[:1], repetition_penalty=1e9, min_new_tokens=STEPS, max_new_tokens=STEPS
    )
    assert len(set(penalized[0].ids[:-1])) >= STEPS - 2


def test_xla_and_the_graph_agree(unilm):
    sources = unilm.randomize(3).sources(3)
    fast = Generator(unilm.model, end_token_id=END, jit_compile=True)
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": STEPS}
    for one, other in zip(fast.generate(sources, **options), beams(unilm, sources), strict=True):
        same(one, other)
    assert len(fast._functions) == 1
    fast.generate([s[:1] for s in sources], **options, length_penalty=0.5)
    assert len(fast._functions) == 1  # the same bucket, and a number that compiles nothing


def test_step_by_step_is_the_whole_loop(unilm):
    sources = unilm.randomize(4).sources(4)
    for one, other in zip(beams(unilm, sources, stepwise=True), beams(unilm, sources), strict=True):
        same(one, other)


def test_outputs_follow_the_weights(unilm):
    sources = unilm.randomize(6).sources(6)
    before = beams(unilm, sources)
    after = beams(unilm.randomize(7), sources)
    assert [h.score for h in before[0]] != [h.score for h in after[0]]


@pytest.mark.parametrize("rows", [1, 3])
def test_packed_kernels_give_the_same_and_follow_the_weights_when_packed_again(unilm, rows):
    sources = unilm.randomize(8).sources(8)[:1] * rows
    packed = Generator(unilm.model, end_token_id=END, packed=True)
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": STEPS}
    before = beams(unilm, sources)
    for one, other in zip(packed.generate(sources, **options), before, strict=True):
        same(one, other)
    unilm.randomize(9)
    packed.pack()
    after = beams(unilm, sources)
    assert [h.score for h in before[0]] != [h.score for h in after[0]]
    for one, other in zip(packed.generate(sources, **options), after, strict=True):
        same(one, other)


def test_what_cannot_be_is_said_and_not_done(unilm):
    unilm.randomize(0)
    generate = unilm.generator.generate
    for options, message in (
        ({"token_ids": []}, "no rows"),
        ({"token_ids": [[0, 0]]}, "source 0 has no token"),
        ({"token_ids": [[4], [99]]}, r"source 1 holds the id 99.*12 tokens"),
        ({"token_ids": [[4]], "segment_ids": [[0, 1]]}, "one id for each"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"num_beams": 2, "do_sample": True}, "take one"),
        ({"topk": 3}, "do_sample=True"),
        ({"do_sample": True, "topk": 13}, r"topk=13 .* 12 tokens"),
        ({"do_sample": True, "topp": 0.0}, "topp=0.0"),
        ({"num_beams": 2, "num_return_sequences": 3}, "at most as many"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"beam_mode": "wide"}, "beam_mode='wide'"),
        ({"min_new_tokens": 99}, "min_new_tokens=99"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(**({"token_ids": [[4, 5]]} | options))
    with pytest.raises(ValueError, match="end_token_id"):
        Generator(unilm.model, end_token_id=12)


def test_a_prompt_longer_than_the_positions_is_refused(small):
    small.randomize(0)
    with pytest.raises(ValueError, match=r"17 positions, and the model has 16"):
        small.generator.generate([[4] * 14], max_new_tokens=4)
    (found,) = small.generator.generate([[4] * 14], max_new_tokens=3, min_new_tokens=3)
    assert len(found[0].ids) == 3


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}], ids=str)
def test_nan_is_an_error_and_no_hang(options):
    case = Case("roformer", "unilm").randomize(0)
    case.model.trainable_variables[0].assign(np.full((12, 8), np.nan, "float32"))
    with pytest.raises(ValueError, match="NaN for the next token of source 0"):
        case.generator.generate([[4, 5]], max_new_tokens=4, **options)


def test_models_that_cannot_generate_are_refused():
    with pytest.raises(ValueError, match="application='lm'"):
        Case("bert", "encoder", with_mlm=True)
    with pytest.raises(ValueError, match="residual_attention_scores"):
        Case("bert", "unilm", residual_attention_scores=True)
    two_heads = Case("bert", "unilm", with_pool=True).randomize(0)
    assert len(two_heads.generator.generate([[4]], max_new_tokens=3)[0]) == 1
