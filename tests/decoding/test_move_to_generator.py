"""From AutoRegressiveDecoder to Generator: the line that its page gives finds the same outputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model

from bert4kexue.decoding import (
    AutoRegressiveDecoder,
    Intersection,
    LookAhead,
    PrefixChoice,
    PrefixTree,
    TreeConstraint,
)
from bert4kexue.models import generation
from bert4kexue.models.compilation import shapes_are_static
from bert4kexue.models.generation import Generator
from bert4kexue.models.host_rules import first_largest
from bert4kexue.ops.constraint_composition import GraphIntersection
from bert4kexue.ops.lookahead import GraphLookAhead
from bert4kexue.ops.token_constraints import GraphBannedWords
from bert4kexue.ops.tree_constraint import GraphTree

END, MAXLEN = 3, 6
SOURCE = [2, 6, 7, 8, 3]


class Seq2Seq(AutoRegressiveDecoder):
    """As bert4keras's scripts for unilm models write it."""

    model = None

    @AutoRegressiveDecoder.wraps(default_rtype="probas")
    def predict(self, inputs, output_ids, states):
        token_ids, segment_ids = inputs
        token_ids = np.concatenate([token_ids, output_ids], 1)
        segment_ids = np.concatenate([segment_ids, np.ones_like(output_ids)], 1)
        return np.asarray(self.model.predict_on_batch([token_ids, segment_ids]))[:, -1]


@pytest.fixture(scope="module")
def model():
    return tiny_model(application="unilm", seed=3)


@pytest.fixture(scope="module")
def tree():
    rng = np.random.default_rng(5)
    parts = [rng.integers(5, 12, size).tolist() for size in (1, 2, 1, 2)]
    return PrefixTree.from_keys([[*a, END, *b, END] for a in parts for b in parts])


def search(model, constraint, **options):
    decoder = Seq2Seq(None, END, MAXLEN, constraint=constraint)
    decoder.model = model
    source = np.array(SOURCE), np.zeros(len(SOURCE), int)
    return decoder.beam_search(source, **options)


@pytest.fixture(scope="module")
def generator(model):
    return Generator(model, end_token_id=END, jit_compile=False)


@pytest.mark.parametrize("topk", [1, 3])
def test_without_a_constraint(model, generator, topk):
    expected = search(model, None, topk=topk)
    (found,) = generator.generate(
        [SOURCE], num_beams=topk, max_new_tokens=MAXLEN, beam_mode="bert4keras"
    )
    assert found[0].ids.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["tree", "graph", "lookahead", "graph lookahead"])
def test_bound_to_a_tree(model, generator, tree, kind):
    v = model.output_shape[-1]
    host = LookAhead(tree, SOURCE, END, v) if "lookahead" in kind else TreeConstraint(tree, v)
    constraint = {
        "tree": tree,
        "graph": GraphTree(tree, v),
        "lookahead": host,
        "graph lookahead": GraphLookAhead(tree, [SOURCE], END, v),
    }[kind]
    expected = search(model, host, topk=4, min_ends=2, n_best=4)
    (found,) = generator.generate(
        [SOURCE],
        constraint=constraint,
        num_beams=4,
        num_return_sequences=4,
        min_ends=2,
        max_new_tokens=MAXLEN,
        beam_mode="shrink",
    )
    assert [each.ids.tolist() for each in found] == [each.ids.tolist() for each in expected]
    scores = [each.score for each in expected]
    assert [each.score for each in found] == pytest.approx(scores, abs=1e-4)


def test_a_wide_beam_is_exhaustive_and_a_distribution(generator, tree, model):
    for constraint in (tree, GraphTree(tree, model.output_shape[-1])):
        (found,) = generator.generate(
            [SOURCE],
            constraint=constraint,
            num_beams=20,
            num_return_sequences=20,
            min_ends=2,
            max_new_tokens=MAXLEN,
        )
        assert {tuple(each.ids.tolist()) for each in found} == set(tree)
        assert len(found) == len(tree), "more beams than keys give each key once"
        assert np.exp([each.score for each in found]).sum() == pytest.approx(1, abs=1e-4)


def test_samples_that_are_done_leave_the_batch_and_change_nothing(generator, model, monkeypatch):
    """Short keys beside long ones: each sample finds what it finds alone."""
    left, samples = [], generation._samples

    def watched(state, kept):
        left.append(len(kept))
        return samples(state, kept)

    monkeypatch.setattr(generation, "_samples", watched)
    short, long = ([5, END, n, END] for n in (5, 6, 7)), ([6, 7, END, n, n, END] for n in (5, 6, 7))
    tree, v = PrefixTree.from_keys([*short, *long]), model.output_shape[-1]
    firsts = np.array([[[5]], [[6]], [[5]], [[6]], [[6]], [[5]]])
    sources = [[2, *rest, 3] for rest in ([6], [7, 8], [9, 9, 9], [6, 7, 8, 9], [10], [11, 5])]
    options = {"num_beams": 3, "num_return_sequences": 2, "min_ends": 2, "max_new_tokens": MAXLEN}

    def found(rows):
        rule = Intersection(TreeConstraint(tree, v), PrefixChoice(firsts[rows], v))
        return generator.generate([sources[i] for i in rows], constraint=rule, **options)

    several = found(list(range(6)))
    assert left == ([] if shapes_are_static(jit_compile=False) else [3])
    for row, (mine, first) in enumerate(zip(several, firsts.ravel(), strict=True)):
        (alone,) = found([row])
        assert [each.ids.tolist() for each in mine] == [each.ids.tolist() for each in alone]
        expected = [each.score for each in alone]
        assert [each.score for each in mine] == pytest.approx(expected, abs=1e-4)
        assert len(mine[0].ids) == {5: 4, 6: 6}[first]


@pytest.mark.parametrize("width", [2, 20])
def test_nan_is_named_under_a_rule_outside(tree, width):
    model = tiny_model(application="unilm", seed=3)
    weights = model.get_weights()
    model.set_weights([np.full_like(w, np.nan) for w in weights])
    generator = Generator(model, end_token_id=END, jit_compile=False)
    with pytest.raises(ValueError, match="the model gave NaN"):
        generator.generate([SOURCE], constraint=tree, num_beams=width, max_new_tokens=MAXLEN)


@given(
    x=st.lists(st.lists(st.integers(-3, 3), min_size=7, max_size=7), min_size=1, max_size=4),
    count=st.integers(1, 9),
)
def test_of_equal_numbers_the_first_are_the_largest(x, count):
    x = np.where(np.array(x) == -3, -np.inf, np.array(x, float))
    expected = np.sort(np.argsort(-x, axis=1, kind="stable")[:, :count], axis=1)
    np.testing.assert_array_equal(first_largest(x, count), expected)


@settings(max_examples=3, deadline=None)
@given(words=st.lists(st.integers(5, 11).map(lambda token: [token]), max_size=2))
def test_composed_constraints_leave_the_keys_they_share(generator, tree, model, words):
    v = model.output_shape[-1]
    rule = GraphIntersection(GraphTree(tree, v), GraphBannedWords(words, v))
    banned = {token for (token,) in words}
    expected = {key for key in tree if not banned & set(key)}
    options = {"num_beams": 20, "num_return_sequences": 20, "min_ends": 2}
    if not expected:
        with pytest.raises(ValueError, match="nothing can be generated"):
            generator.generate([SOURCE], constraint=rule, max_new_tokens=MAXLEN, **options)
        return
    (found,) = generator.generate([SOURCE], constraint=rule, max_new_tokens=MAXLEN, **options)
    assert {tuple(each.ids.tolist()) for each in found} == expected
