"""What a model says of keys that are given: one forward over question and key, no search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bert4kexue.decoding import PrefixTree


class WrittenKeys:
    """The probabilities of keys after questions.

    Args:
        decoder: of `models.generation.Generator`.
    """

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self._whole: Any = None

    def log_probabilities(
        self, rows: list[list[int]], keys: list[list[int]]
    ) -> Iterator[np.ndarray]:
        """For each question and its key the logs of the key's places, (k, v) float64."""
        import keras

        if self._whole is None:
            self._whole = keras.Model(list(self.decoder.inputs.values()), self.decoder.output)
        width = max(len(row) + len(key) for row, key in zip(rows, keys, strict=True))
        ids, segments = np.zeros((2, len(rows), width), np.int32)
        for place, (row, key) in enumerate(zip(rows, keys, strict=True)):
            ids[place, : len(row) + len(key)] = [*row, *key]
            segments[place, len(row) : len(row) + len(key)] = 1
        outputs = np.asarray(self._whole.predict_on_batch([ids, segments]))
        for row, key, output in zip(rows, keys, outputs, strict=True):
            output = output[len(row) - 1 : len(row) - 1 + len(key)].astype(np.float64)
            if self.decoder.gives_logits:
                yield output - np.logaddexp.reduce(output, axis=1, keepdims=True)
            else:
                yield np.log(np.maximum(output, 1e-37))

    def scores_in_tree(
        self, tree: PrefixTree, row: list[int], keys: list[list[int]]
    ) -> list[float]:
        """log P(key | question) among all keys of a tree, of each key."""
        if not keys:
            return []
        scores = []
        for key, logs in zip(keys, self.log_probabilities([row] * len(keys), keys), strict=True):
            node, total = tree.root, 0.0
            for place, token in enumerate(key):
                allowed = logs[place, tree.allowed(node)]
                total += float(logs[place, token] - np.logaddexp.reduce(allowed))
                node = tree.step(node, token)
            scores.append(total)
        return scores


def token_scores(model: Any) -> Any:
    """The part of the model that ends in token scores, (b, n, v)."""
    import keras

    output = model.outputs[-1]
    if len(output.shape) != 3 or len(model.inputs) != 2:
        raise ValueError(
            f"a model from token and segment ids to token scores (b, n, v) is needed, got "
            f"{len(model.inputs)} inputs and a last output of shape {tuple(output.shape)}: build "
            "it with application='unilm'"
        )
    return keras.Model(model.inputs, output)
