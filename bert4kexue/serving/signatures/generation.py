"""Constrained generation: the keys of a prefix tree that a model finds most likely.

The whole beam search is one graph with the tree inside: token ids go in, and the n best keys, their
scores and the strings that stand at them come out, without Python.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np

from bert4kexue.decoding.trie import PrefixTree
from bert4kexue.models.generation import Generator
from bert4kexue.ops.lookahead import LONGEST, GraphLookAhead
from bert4kexue.ops.tree_constraint import GraphTree
from bert4kexue.serving.export import Endpoint

OUTPUTS = ("keys", "lengths", "scores", "values")


def constrained_generation(
    model: keras.Model,
    tree: PrefixTree,
    *,
    end_token_id: int,
    top: int = 5,
    num_beams: int | None = None,
    lookahead: bool = False,
    vocabulary: str | None = None,
    **options: Any,
) -> Endpoint:
    """From ``token_ids`` and ``segment_ids`` (b, n) int32 to the best ``top`` keys of each row.

    Answers: ``keys`` (b, top, T) int32 with the end token, padded with 0; ``lengths`` (b, top);
    ``scores`` (b, top), the best first; ``values`` (b, top, m), the strings of each key, padded
    with ''. Where fewer keys are found, the rest has length 0, score -inf and no values. A row for
    which the model gives NaN has the score NaN and no key.

    Args:
        model: a functional lm or unilm model; the source is its segment 0.
        tree: keys end with ``end_token_id``.
        end_token_id: ends an output.
        top: how many keys; no more than the tree has.
        num_beams: the width of the search; ``top`` when None.
        lookahead: weigh the next tokens by what the keys that go on with them repeat of the source,
            of which the first 512 tokens count (kexue.fm/archives/8802).
        vocabulary: the `vocabulary_hash` of the model's tokenizer; a tree of another is refused.
        **options: of `bert4kexue.models.options.GenerationOptions`: ``min_ends``,
            ``max_new_tokens`` (by default the length of the longest key), ...

    Raises:
        ValueError: an empty tree, one of another vocabulary, ``top`` larger than the tree, or an
            option that cannot be.
    """
    chosen = {"num_beams": num_beams, "lookahead": lookahead, "vocabulary": vocabulary, **options}
    search = TreeSearch(model, tree, end_token_id=end_token_id, top=top, **chosen)
    variables = value_variables(tree)

    def answer(token_ids: Any, segment_ids: Any) -> dict[str, Any]:
        import tensorflow as tf

        found = search(token_ids, segment_ids)
        b = tf.shape(token_ids)[0]
        values = _strings(variables, tf.reshape(found.ranks, (-1,)))
        return {
            "keys": found.keys,
            "lengths": found.lengths,
            "scores": found.scores,
            "values": tf.reshape(values, (b, top, -1)),
        }

    inputs = tuple(
        keras.InputSpec(shape=(None, None), dtype="int32", name=name)
        for name in ("token_ids", "segment_ids")
    )
    return Endpoint(answer, inputs, OUTPUTS)


class Keys(NamedTuple):
    """What a search of a tree found."""

    keys: Any
    """(b, top, T) int32 with the end token, padded with 0."""
    lengths: Any
    """(b, top) int32."""
    scores: Any
    """(b, top), the best first; -inf where there is no key, NaN where the model gave it."""
    ranks: Any
    """(b, top) int32, which key of `PrefixTree.as_arrays().keys`; -1 for none."""


class TreeSearch:
    """The beam search of a tree's keys as a graph: see `constrained_generation`.

    With look-ahead the first ``maxlen`` tokens of a question count.
    """

    def __init__(
        self,
        model: keras.Model,
        tree: PrefixTree,
        *,
        end_token_id: int,
        top: int,
        num_beams: int | None = None,
        lookahead: bool = False,
        vocabulary: str | None = None,
        maxlen: int = LONGEST,
        **options: Any,
    ) -> None:
        self.generator = Generator(model, end_token_id=end_token_id)
        v = self.generator.decoder.vocab_size
        self._maxlen = maxlen
        self._rule: GraphTree
        if lookahead:  # the questions are set when they come
            self._rule = GraphLookAhead(tree, [[0]], end_token_id, v, vocabulary=vocabulary)
        else:
            self._rule = GraphTree(tree, v, vocabulary=vocabulary)
        if not 1 <= top <= len(tree):
            raise ValueError(f"top must be 1 to {len(tree)}, the number of keys, got {top}")
        options = {"max_new_tokens": tree.depth, **options}
        self._options = {"num_beams": num_beams or top, "num_return_sequences": top, **options}

    def __call__(self, token_ids: Any, segment_ids: Any) -> Keys:
        """The best keys of each row."""
        import tensorflow as tf

        b = tf.shape(token_ids)[0]
        # Beams are counted by the batch, so an empty one is searched with a row of padding.
        token_ids, segment_ids = (
            tf.pad(x, [[0, tf.maximum(1 - b, 0)], [0, 0]]) for x in (token_ids, segment_ids)
        )
        constraint = self._rule
        if isinstance(constraint, GraphLookAhead):
            questions = tf.where(token_ids == 0, -1, token_ids)
            constraint = constraint.with_questions(questions, self._maxlen)
        function = self.generator.generate_function(constraint=constraint, **self._options)
        found = function(token_ids, segment_ids)
        n = tf.shape(found["token_ids"])[2]
        scores, lengths = found["scores"], found["lengths"]
        good = tf.logical_and(scores > -np.inf, tf.logical_not(found["invalid"])[:, None])
        lengths = tf.where(good, lengths, 0)
        keys = tf.where(tf.range(n) < lengths[:, :, None], found["token_ids"], 0)
        ranks = self._rule.find(tf.reshape(keys, (-1, n)), tf.reshape(lengths, (-1,)))
        ranks = tf.where(good, tf.reshape(ranks, tf.shape(good)), -1)
        scores = tf.where(found["invalid"][:, None], tf.cast(np.nan, scores.dtype), scores)
        return Keys(*(x[:b] for x in (keys, lengths, scores, ranks)))


def value_variables(tree: PrefixTree) -> tuple[Any, Any]:
    """Where the values of each key begin, (keys + 1,), and the values, in the order of the ends."""
    import tensorflow as tf

    texts = [tree.values_of(number) for number in tree.as_arrays().keys.tolist()]
    begins = np.concatenate([[0], np.cumsum([len(several) for several in texts])])
    flat = [text for several in texts for text in several]
    return (
        tf.Variable(begins.astype(np.int32), trainable=False, name="value_offsets"),
        tf.Variable(tf.constant([*flat, ""], tf.string), trainable=False, name="values"),
    )


def _strings(variables: tuple[Any, Any], ranks: Any) -> Any:
    """The strings of keys (r,), (r, most strings of one), '' where there are no more or no key."""
    import tensorflow as tf

    offsets, texts = variables
    known = tf.maximum(ranks, 0)
    first, last = tf.gather(offsets, known), tf.gather(offsets, known + 1)
    last = tf.where(ranks >= 0, last, first)
    width = tf.maximum(tf.reduce_max(last - first), 1)
    places = first[:, None] + tf.range(width)
    missing = tf.shape(texts)[0] - 1
    return tf.gather(texts, tf.where(places < last[:, None], places, missing))
