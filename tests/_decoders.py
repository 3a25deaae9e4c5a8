"""Toy subclasses as bert4keras's users write them, for its AutoRegressiveDecoder and for ours."""

from __future__ import annotations

import numpy as np

START, END, VOCAB = 0, 1, 6


def distribution(seed, prefix):
    """A fixed random distribution after each prefix, without zeros."""
    # The legacy generator: NumPy promises its numbers for ever.
    rng = np.random.RandomState([seed, *(int(token) + 1 for token in prefix)])
    probas = rng.dirichlet(np.full(VOCAB, 0.7)) + 1e-3
    return probas / probas.sum()


def decoder(base, kind, seed, **options):
    """A subclass of `base` of one of the kinds that scripts have."""

    class Probas(base):
        @base.wraps(default_rtype="probas")
        def predict(self, inputs, output_ids, states):
            assert all(len(item) == len(output_ids) for item in inputs)
            return np.stack([distribution(seed, row) for row in output_ids])

    class Logits(base):
        @base.wraps(default_rtype="logits")
        def predict(self, inputs, output_ids, states):
            return np.stack([np.log(distribution(seed, row)) + 3 for row in output_ids])

    class Counted(base):
        """States count the steps, as reading comprehension does."""

        @base.wraps(default_rtype="probas", use_states=True)
        def predict(self, inputs, output_ids, states):
            rows = [distribution(seed + states, row) for row in output_ids]
            return np.stack(rows), states + 1

    class Conditional(base):
        """Inputs are concatenated with what is written, as seq2seq scripts do."""

        @base.wraps()
        def predict(self, inputs, output_ids, states):
            (source,) = inputs
            whole = np.concatenate([source, output_ids], 1)
            return np.stack([distribution(seed, row) for row in whole])

    kinds = {"probas": Probas, "logits": Logits, "counted": Counted, "conditional": Conditional}
    return kinds[kind](**options)


def cases():
    """name -> one search: which subclass, how it is made, and how it is called."""
    found = {}
    for kind in ("probas", "logits", "counted", "conditional"):
        for seed in range(6):
            make = {"start_id": None if seed % 3 == 0 else START, "end_id": END, "maxlen": 3 + seed}
            make["minlen"] = 1 + seed % 4
            search = {"topk": 1 + seed % 5, "min_ends": 1 + seed % 2}
            found[f"{kind}-{seed}-beam"] = (kind, seed, make, "beam_search", search)
            warm = {**search, "temperature": 0.5 + seed / 4}
            found[f"{kind}-{seed}-warm"] = (kind, seed, make, "beam_search", warm)
            topp = [None, 0.8, 0.95][seed % 3]
            draw = {"n": 3, "topk": 3 if topp and seed % 2 else None, "topp": topp}
            found[f"{kind}-{seed}-sample"] = (kind, seed, make, "random_sample", draw)
    return found


def run(base, case):
    """The outputs of one case, a list of id arrays."""
    kind, seed, make, method, search = case
    made = decoder(base, kind, seed, **make)
    inputs = [] if kind == "logits" else [np.array([2, 3, 2])]
    if kind == "counted":
        search = {**search, "states": 0}
    np.random.seed(seed)
    result = getattr(made, method)(inputs, **search)
    return [result] if method == "beam_search" else result
