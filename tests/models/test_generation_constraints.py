"""Constraints in both loops: no illegal token, and the probabilities of all keys sum to one."""

from __future__ import annotations

import numpy as np
import pytest
from _generation import END, STEPS, Case, same
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.decoding.trie import PrefixTree
from bert4kexue.ops.tree_constraint import GraphTree

VOCABULARY = 12
KEYS = [(4, 5), (4,), (4, 5, 6), (7, 8), (9,), (9, 10, 11, 4), (7, 8, 8)]


@pytest.fixture(scope="module")
def case():
    return Case("bert", "unilm", vocab_size=VOCABULARY)


@pytest.fixture(scope="module")
def tree():
    return PrefixTree.from_keys([(*key, END) for key in KEYS])


@pytest.fixture(scope="module")
def trees(tree):
    return {
        "lists": GraphTree(tree, VOCABULARY),
        "masks": GraphTree(tree, VOCABULARY, cap=1),
        "outside": tree,
    }


@pytest.mark.parametrize("kind", ["lists", "masks", "outside"])
@given(st.integers(0, 10**6))
@settings(max_examples=3, deadline=None)
def test_a_wide_beam_finds_every_key_and_their_probabilities_sum_to_one(case, trees, kind, seed):
    sources = case.randomize(seed).sources(seed)
    outputs = case.generator.generate(
        sources,
        constraint=trees[kind],
        num_beams=len(KEYS),
        num_return_sequences=len(KEYS),
        max_new_tokens=STEPS,
    )
    for found in outputs:
        assert sorted(tuple(h.ids.tolist()) for h in found) == sorted((*k, END) for k in KEYS)
        assert sum(np.exp(h.score) for h in found) == pytest.approx(1.0, abs=1e-4)
        assert all(h.finished for h in found)


@pytest.mark.parametrize("kind", ["lists", "outside"])
def test_the_models_own_probabilities_are_kept_where_asked_for(case, trees, kind):
    sources = case.randomize(1).sources(1)
    outputs = case.generator.generate(
        sources,
        constraint=trees[kind],
        renormalize=False,
        num_beams=7,
        num_return_sequences=7,
        max_new_tokens=STEPS,
    )
    for source, found in zip(sources, outputs, strict=True):
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(case.score(source, hypothesis.ids), abs=2e-4)


def test_a_narrow_beam_is_the_reference_loops(case, tree, trees):
    sources = case.randomize(2).sources(2)
    reference = case.reference(STEPS, constraint=tree)
    options = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": STEPS}
    for constraint in trees.values():
        outputs = case.generator.generate(
            sources, constraint=constraint, beam_mode="shrink", **options
        )
        for source, found in zip(sources, outputs, strict=True):
            same(found, reference.beam_search([source], 3, n_best=3))


def test_samples_and_streams_stay_inside(case, trees):
    sources = case.randomize(3).sources(3)
    options = {"do_sample": True, "num_return_sequences": 5, "seed": 1, "max_new_tokens": STEPS}
    inside = case.generator.generate(sources, constraint=trees["lists"], **options)
    keys = {(*key, END) for key in KEYS}
    assert {tuple(h.ids.tolist()) for found in inside for h in found} <= keys
    outside = case.generator.generate(sources, constraint=trees["outside"], **options)
    assert {tuple(h.ids.tolist()) for found in outside for h in found} <= keys
    steps = list(case.generator.stream(sources, constraint=trees["outside"], max_new_tokens=STEPS))
    for row in np.stack(steps, axis=-1)[:, 0]:
        assert tuple(row[: row.tolist().index(END) + 1].tolist()) in keys


def test_fewer_keys_than_beams_give_fewer_outputs(case):
    case.randomize(4)
    for constraint in (
        PrefixTree.from_keys([(5, END)]),
        GraphTree(PrefixTree.from_keys([(5, END)]), VOCABULARY),
    ):
        (found,) = case.generator.generate(
            [[4]], constraint=constraint, num_beams=4, num_return_sequences=4, max_new_tokens=4
        )
        assert [h.ids.tolist() for h in found] == [[5, END]]
        assert found[0].score == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True}], ids=str)
def test_keys_without_an_end_are_an_error(case, options):
    case.randomize(5)
    with pytest.raises(ValueError, match="end with end_token_id"):
        case.generator.generate(
            [[4]], constraint=PrefixTree.from_keys([(5, 6)]), max_new_tokens=4, **options
        )


def test_a_tree_of_another_vocabulary_is_refused(case):
    case.randomize(6)
    with pytest.raises(ValueError, match="vocabulary"):
        case.generator.generate(
            [[4]], constraint=PrefixTree.from_keys([(50, END)]), num_beams=2, max_new_tokens=4
        )


def test_an_empty_tree_is_refused(case):
    empty = PrefixTree.from_keys([])
    with pytest.raises(ValueError, match="no key"):
        case.generator.generate([[4]], constraint=empty, num_beams=2, max_new_tokens=4)
    with pytest.raises(ValueError, match="no key"):
        GraphTree(empty, VOCABULARY)


@pytest.mark.parametrize("kind", ["lists", "outside"])
def test_a_topk_larger_than_what_the_tree_allows_draws_from_all_of_it(case, trees, kind):
    (found,) = case.randomize(7, 0.1).generator.generate(
        [[4]],
        constraint=trees[kind],
        do_sample=True,
        topk=VOCABULARY,
        num_return_sequences=200,
        seed=1,
        max_new_tokens=STEPS,
    )
    assert {tuple(h.ids.tolist()) for h in found} == {(*key, END) for key in KEYS}


@pytest.mark.parametrize("kind", ["lists", "masks", "outside"])
def test_nan_is_an_error_under_a_constraint_too(trees, kind):
    broken = Case("bert", "unilm", vocab_size=VOCABULARY).randomize(0)
    broken.model.trainable_variables[0].assign(np.full((VOCABULARY, 8), np.nan, "float32"))
    with pytest.raises(ValueError, match="NaN for the next token of source 0"):
        broken.generator.generate([[4]], constraint=trees[kind], num_beams=3, max_new_tokens=4)
