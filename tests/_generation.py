"""Tiny models with weights made anew, and the uncached model as an independent reference."""

from __future__ import annotations

import numpy as np
from _harness import to_numpy

from bert4kexue.decoding import AutoRegressiveDecoder
from bert4kexue.models import build_transformer_model
from bert4kexue.models.generation import Generator

END = 3
STEPS = 8
WIDTH = 16
CONFIG = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_act": "gelu",
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}


class Case:
    """A model, its generator, and what the whole model says of each next token."""

    def __init__(self, family, application, vocab_size=12, **options):
        self.application, self.vocab_size = application, vocab_size
        config = CONFIG | {"vocab_size": vocab_size}
        self.model = build_transformer_model(
            config, model=family, application=application, **options
        )
        # Graphs compile faster than XLA does; one test compares the two.
        self.generator = Generator(self.model, end_token_id=END, jit_compile=False)

    def randomize(self, seed, scale=0.6):
        random = np.random.RandomState(seed)
        for variable in self.model.trainable_variables:
            variable.assign(random.normal(size=variable.shape).astype("float32") * scale)
        return self

    def sources(self, seed, rows=4):
        random = np.random.RandomState(seed)
        lengths = random.randint(1, 8, size=rows)
        return [random.randint(4, self.vocab_size, size=n).tolist() for n in lengths]

    def log_probs(self, source, outputs):
        """log p of the next token after each of the outputs (k, t), without a cache: (k, v)."""
        k, t, n = len(outputs), len(outputs[0]), len(source)
        rows = -(-k // 32) * 32  # few shapes: a compiler has less to do
        ids = np.zeros((rows, WIDTH), "int32")
        ids[:k, :n], ids[:k, n : n + t] = source, outputs
        ids[k:, 0] = 4
        segments = np.zeros_like(ids)
        if self.application == "unilm":
            segments[:k, n : n + t] = 1
        probas = self.model.predict_on_batch([ids, segments])[:k, n + t - 1]
        return np.log(np.asarray(probas, "float64"))

    def score(self, source, output):
        """The sum of the log-probabilities of an output's tokens."""
        ids = list(output)
        return sum(self.log_probs(source, [ids[:t]])[0, token] for t, token in enumerate(ids))

    def all_outputs(self, source, steps):
        """Every output of at most `steps` tokens with its score: they end, or are cut."""
        found, prefixes = {}, {(): 0.0}
        for t in range(steps):
            outputs = [list(p) for p in prefixes]
            table = self.log_probs(source, outputs)
            following = {}
            for (prefix, score), row in zip(prefixes.items(), table, strict=True):
                for token in range(self.vocab_size):
                    target = found if token == END or t + 1 == steps else following
                    target[(*prefix, token)] = score + row[token]
            prefixes = following
        return found

    def reference(self, maxlen, minlen=1, start_id=None, constraint=None):
        """The NumPy loop around the whole model."""
        case = self

        class Uncached(AutoRegressiveDecoder):
            @AutoRegressiveDecoder.wraps("logits")
            def predict(self, inputs, output_ids, states):
                return case.log_probs(inputs[0][0], output_ids)

        return Uncached(start_id, END, maxlen, minlen, constraint=constraint)


def same(found, expected, tolerance=2e-4, tie=1e-5):
    """Whether two lists of hypotheses agree in ids, scores and ends.

    Of two hypotheses whose scores are equal in float32 either may come first, or in at the end.
    """
    assert len(found) == len(expected)
    np.testing.assert_allclose(
        [h.score for h in found], [h.score for h in expected], atol=tolerance, rtol=0
    )
    for one, other in zip(found, expected, strict=True):
        if one.ids.tolist() == other.ids.tolist():
            assert one.finished == other.finished
        else:
            assert abs(one.score - other.score) < tie, (one, other)


def chi_square_limit(degrees, z=4.7534):
    """A statistic beyond this has a probability of 1e-6 (Wilson and Hilferty, 1931)."""
    return degrees * (1 - 2 / (9 * degrees) + z * np.sqrt(2 / (9 * degrees))) ** 3


__all__ = ["END", "STEPS", "Case", "chi_square_limit", "same", "to_numpy"]
