"""Labels by next-sentence prompts: a `ZeroShotClassifier` inside the graph.

A question is one text, ``[CLS] text [SEP]`` in the form of ids. The graph puts it together with the
prompt of every label, cutting the text and never a prompt, as `NSPScorer` does, and runs the pairs
of some texts at a time, so that many labels need no more memory than few.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bert4kexue.methods.nsp_prompt import PromptTemplate
from bert4kexue.methods.zero_shot import ZeroShotClassifier
from bert4kexue.serving.task import Forward, Task, checked_labels

_TINY = 1.1754943508222875e-38  # of float32


def zero_shot(classifier: ZeroShotClassifier, *, rows_at_once: int = 256) -> Task:
    """``label`` (b,) strings and ``probabilities`` (b, labels), in the order of ``labels.txt``.

    What the classifier's `predict` and `predict_proba` give: its templates, priors, calibration
    and `maxlen`; the label is '' where it abstains.

    Args:
        classifier: as it is now; what it learns later is not in the export.
        rows_at_once: about so many pairs run together.

    Raises:
        ValueError: a model that takes position ids, or no row at once.
    """
    scorer = classifier.scorer
    if rows_at_once < 1:
        raise ValueError(f"rows_at_once must be 1 or more, got {rows_at_once}")
    if scorer.positions:
        raise ValueError(
            "the graph numbers positions itself: build the model without custom_position_ids=True"
        )
    labels = checked_labels(classifier.labels, len(classifier.labels), what="the classifier")
    shift = classifier.log_priors - classifier.offsets.mean(0)
    pairs = [_Pairs(scorer, template) for template in classifier.templates]
    step = max(1, rows_at_once // len(labels))

    def scores(forward: Forward, text: Any, length: Any) -> Any:
        import tensorflow as tf

        total = tf.zeros((tf.shape(text)[0], len(labels)))
        for one in pairs:
            both = tf.cast(forward(*one.rows(text, length)), tf.float32)
            logs = tf.math.log(tf.maximum(both, _TINY))  # of both: 1 - s would lose its digits
            total += tf.reshape(logs[:, 0] - logs[:, 1], (-1, len(labels)))
        return total / len(pairs) + tf.constant(shift, tf.float32)

    def answer(forward: Forward, token_ids: Any, segment_ids: Any) -> tuple[Any, ...]:
        import tensorflow as tf

        del segment_ids
        length = tf.reduce_sum(tf.cast(token_ids != 0, tf.int32), 1) - 2  # [CLS] and [SEP]
        b = tf.shape(token_ids)[0]
        steps = -(-b // step)

        def turn(number: Any, found: Any) -> tuple[Any, Any]:
            some = slice(number * step, (number + 1) * step)
            return number + 1, found.write(number, scores(forward, token_ids[some], length[some]))

        empty = tf.TensorArray(
            tf.float32, steps, infer_shape=False, element_shape=(None, len(labels))
        )
        _, found = tf.while_loop(
            lambda number, _: number < steps, turn, (tf.constant(0), empty), parallel_iterations=1
        )
        probabilities = tf.nn.softmax(
            tf.cond(steps > 0, found.concat, lambda: tf.zeros((0, len(labels))))
        )
        probabilities = tf.ensure_shape(probabilities, (None, len(labels)))
        names = tf.gather(tf.constant(labels), tf.argmax(probabilities, axis=-1))
        sure = tf.reduce_max(probabilities, axis=-1) >= classifier.abstain_below
        return tf.where(sure, names, ""), probabilities

    return Task(scorer.model, ("label", "probabilities"), answer, labels=labels)


class _Pairs:
    """A template's prompts as constants, put together with texts inside the graph."""

    def __init__(self, scorer: Any, template: PromptTemplate) -> None:
        prompts = list(scorer.encode(template.texts).values())
        self.lengths = np.array([len(prompt) for prompt in prompts], np.int32)
        self.prompts = np.zeros((len(prompts), self.lengths.max()), np.int32)
        for line, prompt in zip(self.prompts, prompts, strict=True):
            line[: len(prompt)] = prompt
        self.prefix = template.place == "prefix"
        self.room = np.array(  # for a text beside each prompt; raises where there is none
            [scorer.cut(scorer.maxlen, n, "first")[0] for n in self.lengths], np.int32
        )
        self.start, self.end = scorer.row([], []).token_ids[:2]

    def rows(self, text: Any, length: Any) -> tuple[Any, Any]:
        """Ids and segments (b * l, n) of texts (b, m) with `length` (b,) tokens of their own."""
        import tensorflow as tf

        b, m, labels = tf.shape(text)[0], tf.shape(text)[1], len(self.lengths)
        kept = tf.minimum(length[:, None], self.room)  # (b, l)
        prompt = tf.broadcast_to(tf.constant(self.lengths), (b, labels))
        one, two = (prompt, kept) if self.prefix else (kept, prompt)
        n = tf.reduce_max(one + two) + 3
        # The vocabulary of a row: what it is made of stands side by side and is gathered by place.
        parts = [
            tf.fill((b, labels, 1), self.start),
            tf.fill((b, labels, 1), self.end),
            tf.fill((b, labels, 1), 0),
            tf.broadcast_to(tf.constant(self.prompts), (b, labels, self.prompts.shape[1])),
            tf.broadcast_to(text[:, None], (b, labels, m)),
        ]
        source = tf.concat(parts, 2)
        begin_prompt, begin_text = 3, 3 + self.prompts.shape[1] + 1  # the text begins with [CLS]
        first, second = (begin_prompt, begin_text) if self.prefix else (begin_text, begin_prompt)
        place = tf.range(n)[None, None]
        one, two = one[..., None], two[..., None]
        index = tf.where(place <= one, first + place - 1, second + place - one - 2)
        index = tf.where(place == 0, 0, index)
        index = tf.where((place == one + 1) | (place == one + two + 2), 1, index)
        index = tf.where(place > one + two + 2, 2, index)
        ids = tf.gather(source, index, batch_dims=2)
        inside = (place >= one + 2) & (place <= one + two + 2)
        return tf.reshape(ids, (-1, n)), tf.reshape(tf.cast(inside, tf.int32), (-1, n))
