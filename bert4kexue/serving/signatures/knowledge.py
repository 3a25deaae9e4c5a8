"""Questions over a knowledge base: what `KnowledgeQA` answers, strings in, facts out.

Tokenization, the search inside of the tree of all keys with its look-ahead, and the look-up of the
facts are one graph (kexue.fm/archives/8802).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from bert4kexue.decoding import vocabulary_hash
from bert4kexue.methods.knowledge_base import PARTS, KnowledgeBase
from bert4kexue.serving.forms import checked_ids
from bert4kexue.serving.signatures.generation import TreeSearch
from bert4kexue.serving.task import Forward, Task

MOST_NODES = 4_000_000
"""Nodes of the largest tree that is written into a graph, 12 bytes each."""

OUTPUTS = ("subject", "predicate", "meaning", "objects", "scores")


def knowledge_answers(
    model: keras.Model,
    tokenizer: Any,
    knowledge: KnowledgeBase,
    *,
    top: int = 5,
    num_beams: int | None = None,
    lookahead: bool = True,
    maxlen: int = 128,
) -> Task:
    """The facts that answer a question, the best first, as `KnowledgeQA.answer_batch` has them.

    Answers: ``subject``, ``predicate``, ``meaning`` (b, m) strings, ``objects`` (b, m, k) strings
    and ``scores`` (b, m), log-probabilities of the facts' keys; m is ``top``, or more where facts
    share a key, or fewer where several keys, with other names of its subject, lead to one fact.
    What a question has less of is '' with the score -inf; where the model gives NaN, there is no
    fact and the scores are NaN.

    Args:
        model: unilm, with token scores, alone or beside a pooled output.
        tokenizer: of the model's vocabulary; the knowledge base was built with it.
        knowledge: the facts.
        top: how many keys.
        num_beams: the width of the search; ``top`` when None.
        lookahead: weigh the next tokens by what the keys that go on with them repeat of the
            question.
        maxlen: the most tokens of a question: what `export_service` is to be called with.

    Raises:
        ValueError: a model that cannot write, an empty knowledge base, one of another vocabulary or
            with more nodes than `MOST_NODES`, ``top`` beyond its keys, or a ``maxlen`` that leaves
            a model with learned positions no room for the longest key.
    """
    tree = knowledge.tree
    if tree.node_count > MOST_NODES:
        raise ValueError(
            f"the knowledge base's tree has {tree.node_count:,} nodes, and a graph takes up to "
            f"{MOST_NODES:,}: serve it from Python, where KnowledgeQA (`bert4kexue kgqa predict`) "
            "leaves it in its file's memory map and compiles the step alone"
        )
    search = TreeSearch(
        model,
        tree,
        end_token_id=tokenizer._token_end_id,
        top=top,
        num_beams=num_beams,
        lookahead=lookahead,
        vocabulary=vocabulary_hash(tokenizer._token_dict),
        maxlen=maxlen,
        min_ends=PARTS,
    )
    decoder = search.generator.decoder
    if decoder.causal:
        raise ValueError("the question has to be read from both sides: application='unilm'")
    if decoder.limit is not None and maxlen + tree.depth - 1 > decoder.limit:
        raise ValueError(
            f"questions of {maxlen} tokens and keys of {tree.depth} need "
            f"{maxlen + tree.depth - 1} positions, and the model has {decoder.limit}: lower maxlen"
        )
    facts = FactTable(knowledge)

    def search_and_look_up(token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        ids = checked_ids(model, token_ids, segment_ids, written=tree.depth - 1)
        found = search(*ids)
        return facts.look_up(found.ranks, found.scores)

    import tensorflow as tf

    spec = tf.TensorSpec((None, None), tf.int32)
    # Both forms call it, so its graph is stored once.
    once = tf.function(search_and_look_up, input_signature=[spec, spec], autograph=False)

    def answer(forward: Forward, token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        del forward  # the search runs the model token by token
        found: tuple[Any, ...] = once(token_ids, segment_ids)
        return found

    return Task(model, OUTPUTS, answer, generates=True)


class FactTable:
    """The facts of every key as variables of a graph, each text stored once."""

    def __init__(self, knowledge: KnowledgeBase) -> None:
        texts: dict[str, int] = {"": 0}
        fact_offsets, parts, object_offsets, objects = [0], [], [0], []
        numbers: dict[tuple[str, str, str], int] = {}
        same = []
        for number in knowledge.tree.as_arrays().keys.tolist():
            for fact, values in knowledge.facts_of(number).items():
                same.append(numbers.setdefault(fact, len(numbers)))
                parts.append([texts.setdefault(text, len(texts)) for text in fact])
                objects += [texts.setdefault(text, len(texts)) for text in values]
                object_offsets.append(len(objects))
            fact_offsets.append(len(parts))
        self._fact_offsets = _ints(fact_offsets, "fact_offsets")
        self._parts = _ints(parts, "fact_parts")
        self._object_offsets = _ints(object_offsets, "object_offsets")
        self._objects = _ints([*objects, 0], "objects")
        self._same = _ints(same, "same_fact") if len(numbers) < len(same) else None
        import tensorflow as tf

        self._texts = tf.Variable(tf.constant(list(texts)), trainable=False, name="fact_texts")

    def look_up(self, ranks: Any, scores: Any) -> tuple[Any, ...]:
        """The facts of keys (b, top), -1 for none, in their order and each once, with the scores of
        their keys."""
        import tensorflow as tf

        known = tf.maximum(ranks, 0)
        first = tf.gather(self._fact_offsets, known)
        last = tf.where(ranks >= 0, tf.gather(self._fact_offsets, known + 1), first)
        width = tf.maximum(tf.reduce_max(last - first), 1)
        facts = first[..., None] + tf.range(width)  # (b, top, width)
        facts = tf.where(facts < last[..., None], facts, -1)
        several = tf.broadcast_to(scores[..., None], tf.shape(facts))
        b = tf.shape(ranks)[0]
        facts, several = (tf.reshape(x, (b, -1)) for x in (facts, several))
        facts = self._once(facts)
        # Facts of a key stand together; what there is none of goes to the end.
        missing = facts < 0
        several = tf.where(
            missing & ~tf.math.is_nan(several), tf.cast(-np.inf, tf.float32), several
        )
        order = tf.argsort(tf.cast(missing, tf.int32), axis=1, stable=True)
        most = tf.reduce_max(tf.reduce_sum(tf.cast(~missing, tf.int32), axis=1))
        order = order[:, : tf.maximum(most, 1)]
        facts, several = (tf.gather(x, order, batch_dims=1) for x in (facts, several))
        rows = tf.gather(self._parts, tf.maximum(facts, 0))
        rows = tf.where((facts >= 0)[..., None], rows, 0)
        subject, predicate, meaning = tf.unstack(tf.gather(self._texts, rows), 3, axis=-1)
        return subject, predicate, meaning, self._of(facts), several

    def _once(self, facts: Any) -> Any:
        """Facts (b, m) with -1 where one has stood before, under another of its keys."""
        if self._same is None:
            return facts
        import tensorflow as tf

        same = tf.where(facts >= 0, tf.gather(self._same, tf.maximum(facts, 0)), -1)
        equal = tf.cast(same[:, :, None] == same[:, None, :], tf.int32)
        earlier = tf.linalg.band_part(equal, -1, 0) - tf.linalg.band_part(equal, 0, 0)
        return tf.where(tf.reduce_any(earlier > 0, axis=2), -1, facts)

    def _of(self, facts: Any) -> Any:
        """The objects of facts (b, m), (b, m, most of one), '' where there are no more."""
        import tensorflow as tf

        known = tf.maximum(facts, 0)
        first = tf.gather(self._object_offsets, known)
        last = tf.where(facts >= 0, tf.gather(self._object_offsets, known + 1), first)
        width = tf.maximum(tf.reduce_max(last - first), 1)
        places = first[..., None] + tf.range(width)
        beyond = tf.shape(self._objects)[0] - 1  # where '' stands
        places = tf.where(places < last[..., None], places, beyond)
        return tf.gather(self._texts, tf.gather(self._objects, places))


def _ints(values: Any, name: str) -> Any:
    import tensorflow as tf

    return tf.Variable(np.asarray(values, np.int32), trainable=False, name=name)
