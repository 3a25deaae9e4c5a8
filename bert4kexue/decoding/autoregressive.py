"""Autoregressive decoding around any `predict`: beam search and sampling, with or without a rule.

This is the reference loop in NumPy: one question at a time, the whole output recomputed at every
step. It keeps bert4keras's interface; where it decides otherwise, it says so:

* A token of probability zero has log-probability -inf and never enters a beam. (bert4keras takes
  log(p + 1e-12); with fewer possible tokens than beams an impossible one then gets in.) A beam
  shrinks to what is possible.
* Inputs and states follow their hypotheses: after each step their rows are re-indexed by the
  surviving beams, so states may hold per-hypothesis caches.
* Sampling gives bert4keras's own ids under `np.random.seed`, except with `topk` alone: there
  bert4keras draws in the order of `np.argpartition`, which differs between processors.

The same search with a cache, in batches and compiled, is `bert4kexue.models.generation.Generator`.
For a subclass whose `predict` is the last token of an lm or unilm model the move is one line:

    ids = decoder.beam_search([token_ids, segment_ids], topk=4, min_ends=3)
    ids = Generator(model, end_token_id=end_id).generate(
        [token_ids], constraint=tree, num_beams=4, min_ends=3, max_new_tokens=maxlen,
        beam_mode="shrink",
    )[0][0].ids

`constraint` takes the same objects (they drive the compiled step from outside), or those of
`bert4kexue.ops`, inside the compiled loop; without one `beam_mode="bert4keras"` finds bert4keras's
output. The start id, if any, is `start_token_id`, and does not come back in the ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps as keep_name
from typing import Any, Literal, NamedTuple

import numpy as np

from bert4kexue.decoding.constraints import Constraint, as_constraint, check_width, take
from bert4kexue.decoding.trie import PrefixTree


class Hypothesis(NamedTuple):
    """One output of `beam_search(..., n_best=n)`."""

    ids: np.ndarray
    """(length,) with the start id, where there is one, and the end id."""
    score: float
    """The sum of the log-probabilities of its tokens."""
    finished: bool
    """Whether it ended by itself; False where `maxlen` cut it."""


class AutoRegressiveDecoder:
    """Subclass, write `predict`, and call `beam_search` or `random_sample`.

    Args:
        start_id: the token every output begins with, or None to begin with nothing.
        end_id: the token that ends an output.
        maxlen: the largest number of generated tokens (the start id not counted).
        minlen: the smallest length of an output at which it may end (the start id counted).
        constraint: a rule (see `decoding.constraints`) over the generated tokens, or a prefix
            tree. Probabilities are renormalised over what it allows, so they are those of a
            distribution over the outputs that the rule permits.

    Example:
        >>> class Counter(AutoRegressiveDecoder):
        ...     @AutoRegressiveDecoder.wraps(default_rtype="probas")
        ...     def predict(self, inputs, output_ids, states):
        ...         return np.eye(5)[np.minimum(output_ids[:, -1] + 1, 4)]
        >>> Counter(start_id=0, end_id=4, maxlen=9).beam_search([], topk=2)
        array([0, 1, 2, 3, 4])
    """

    def __init__(
        self,
        start_id: int | None,
        end_id: int,
        maxlen: int,
        minlen: int = 1,
        constraint: Constraint | PrefixTree | None = None,
    ) -> None:
        if maxlen < 1:
            raise ValueError(f"maxlen must be 1 or more, got {maxlen}")
        self.start_id = start_id
        self.end_id = end_id
        self.maxlen = maxlen
        self.minlen = minlen
        self.constraint = as_constraint(constraint)
        self.models: dict[int, tuple[Any, Any]] = {}
        first = [] if start_id is None else [start_id]
        self.first_output_ids = np.array([first], dtype=int)  # (1, 0 or 1)

    @staticmethod
    def wraps(
        default_rtype: Literal["probas", "logits"] = "probas", use_states: bool = False
    ) -> Callable[[Callable], Callable]:
        """Complete a `predict(self, inputs, output_ids, states)` for the searches.

        The result takes `(inputs, output_ids, states, temperature=1, rtype=default_rtype)` and
        returns `(scores, states)`: probabilities for rtype 'probas', their logarithms for 'logits'.

        Args:
            default_rtype: what `predict` returns for the next token, (b, v): 'probas' that sum
                to one, or 'logits'.
            use_states: whether `predict` returns `(scores, states)` instead of the scores only;
                without it the states become None after the first step.
        """
        _check_rtype(default_rtype)

        def decorate(predict: Callable) -> Callable:
            @keep_name(predict)
            def prediction(
                self: AutoRegressiveDecoder,
                inputs: list[np.ndarray],
                output_ids: np.ndarray,
                states: Any,
                temperature: float = 1,
                rtype: Literal["probas", "logits"] = default_rtype,
            ) -> tuple[np.ndarray, Any]:
                _check_rtype(rtype)
                if not temperature > 0:
                    raise ValueError(f"temperature must be above 0, got {temperature}")
                result = predict(self, inputs, output_ids, states)
                scores, states = result if use_states else (result, None)
                scores = np.asarray(scores)
                if default_rtype == "logits":
                    scores = _log_softmax(scores / temperature)
                    return (np.exp(scores) if rtype == "probas" else scores), states
                if temperature != 1:
                    scores = scores ** (1.0 / temperature)
                    scores = scores / scores.sum(axis=-1, keepdims=True)
                return (scores if rtype == "probas" else _log(scores)), states

            return prediction

        return decorate

    def predict(
        self,
        inputs: list[np.ndarray],
        output_ids: np.ndarray,
        states: Any,
        temperature: float = 1,
        rtype: Literal["probas", "logits"] = "probas",
    ) -> tuple[np.ndarray, Any]:
        """The next token's scores: to be written by the subclass, under `wraps`.

        Args:
            inputs: the inputs of the search, each (b, ...).
            output_ids: what has been generated, (b, length).
            states: whatever the last call returned, at first what the search was given.
        """
        raise NotImplementedError("write predict(self, inputs, output_ids, states) in the subclass")

    def last_token(self, model: Any) -> Any:
        """The model cut down to the last position, `output[:, -1]` of each output; made once.

        Its `predict` prints nothing, and runs one batch directly.
        """
        if id(model) not in self.models:
            # The original is kept beside it, so that its id is not given to another model.
            self.models[id(model)] = (model, _last_token_model(model))
        return self.models[id(model)][1]

    def beam_search(
        self,
        inputs: Sequence[Any],
        topk: int,
        states: Any = None,
        temperature: float = 1,
        min_ends: int = 1,
        n_best: int | None = None,
    ) -> np.ndarray | list[Hypothesis]:
        """The most probable output that a beam of `topk` hypotheses finds.

        The score of an output is the sum of its log-probabilities, without length normalisation.
        A hypothesis ends with `end_id`, once it holds `min_ends` of them and is `minlen` long.

        Without a constraint and without `n_best` this is bert4keras's search: it returns when the
        best hypothesis ends; one that ends while another is better is dropped for good, and the
        beam shrinks. With either, ended hypotheses are kept and compared with those that go on
        (the beam still shrinks by them), so that a wide beam finds the true maximum.

        Args:
            inputs: single samples, one per model input; each gets a batch axis.
            topk: the number of hypotheses; 1 is greedy.
            states: the first value of `predict`'s states. Arrays in it (also inside lists, tuples
                and dicts) whose first axis counts the hypotheses follow them.
            temperature: divides the logits.
            min_ends: how many end ids complete an output.
            n_best: how many outputs to return, with their scores; `topk` at most are found.

        Returns:
            The ids, (length,), start and end id included. With `n_best` a list of `Hypothesis`,
            the best first, all different; under a constraint only outputs that ended by themselves.

        Raises:
            ValueError: nothing can be generated: every continuation has probability zero, or the
                constraint allows none before an end.
        """
        if topk < 1:
            raise ValueError(f"topk must be 1 or more, got {topk}")
        if n_best is not None and n_best < 1:
            raise ValueError(f"n_best must be 1 or more, or None for one array, got {n_best}")
        keep_ended = n_best is not None or self.constraint is not None
        wanted = n_best or 1
        inputs = [np.array([item]) for item in inputs]
        output_ids, scores = self.first_output_ids, np.zeros(1)
        rules = self._start_rules()
        ended: list[Hypothesis] = []
        for _ in range(self.maxlen):
            log_probas, states = self.predict(inputs, output_ids, states, temperature, "logits")
            rows, tokens, totals = self._candidates(log_probas, scores, rules)
            best = _largest(totals, topk)
            rows, tokens, scores = rows[best], tokens[best], totals[best]
            if not len(rows):
                break
            width = len(output_ids)
            _follow(inputs, rows, width)
            states = _take(states, rows, width)
            output_ids = np.concatenate([output_ids[rows], tokens[:, None]], axis=1)
            rules = self._advance_rules(rules, rows, tokens)
            ends = self._ends(output_ids, min_ends)
            if not keep_ended and ends[0]:
                return output_ids[0]
            if not ends.any():
                continue
            if keep_ended:
                pairs = zip(output_ids[ends], scores[ends].tolist(), strict=True)
                ended += [Hypothesis(ids, score, True) for ids, score in pairs]
                ended.sort(key=lambda hypothesis: -hypothesis.score)
            live = np.flatnonzero(~ends)
            topk -= int(ends.sum())
            width = len(output_ids)
            output_ids, scores = output_ids[live], scores[live]
            _follow(inputs, live, width)
            states = _take(states, live, width)
            rules = self._advance_rules(rules, live, None)
            # Scores only fall, so what goes on cannot overtake the outputs that are better now.
            if not len(live) or (len(ended) >= wanted and ended[wanted - 1].score >= scores[0]):
                break
        else:
            cut = [
                Hypothesis(*pair, False) for pair in zip(output_ids, scores.tolist(), strict=True)
            ]
            if not keep_ended or (n_best is None and not ended):
                return cut[0].ids
            if self.constraint is None:
                ended = sorted(ended + cut, key=lambda hypothesis: -hypothesis.score)
        if n_best is not None:
            return ended[:n_best]
        if not ended:
            raise ValueError(
                "nothing can be generated: every continuation has probability zero or is not "
                "allowed. Keys of a prefix tree must end with end_id and hold min_ends of them"
            )
        return ended[0].ids

    def random_sample(
        self,
        inputs: Sequence[Any],
        n: int,
        topk: int | None = None,
        topp: float | None = None,
        states: Any = None,
        temperature: float = 1,
        min_ends: int = 1,
        rng: np.random.Generator | np.random.RandomState | None = None,
    ) -> list[np.ndarray]:
        """Draw `n` outputs token by token; ends as `beam_search` says.

        Args:
            inputs: single samples, one per model input; each gets a batch axis.
            n: the number of outputs.
            topk: keep the `topk` most probable tokens at each step.
            topp: of these (renormalised) keep the smallest set, most probable first, whose
                probabilities reach `topp`; at least one.
            states: as in `beam_search`.
            temperature: divides the logits.
            min_ends: how many end ids complete an output.
            rng: where randomness comes from; NumPy's global generator if None.

        Returns:
            The outputs in the order in which they ended, then those that `maxlen` cut.
        """
        if n < 1:
            raise ValueError(f"n must be 1 or more, got {n}")
        choice = np.random.choice if rng is None else rng.choice
        inputs = [np.array([item]) for item in inputs]
        output_ids, rules = self.first_output_ids, self._start_rules()
        results: list[np.ndarray] = []
        for step in range(self.maxlen):
            probas, states = self.predict(inputs, output_ids, states, temperature, "probas")
            probas = self._distribution(probas, rules)
            if step == 0:
                rows = np.zeros(n, int)
                probas, output_ids = probas[rows], output_ids[rows]
                rules = self._advance_rules(rules, rows, None)
                _follow(inputs, rows, 1)
                states = _take(states, rows, 1)
            tokens = np.array([_draw(row, topk, topp, choice) for row in probas])
            output_ids = np.concatenate([output_ids, tokens[:, None]], axis=1)
            rules = self._advance_rules(rules, np.arange(len(tokens)), tokens)
            ends = self._ends(output_ids, min_ends)
            results += list(output_ids[ends])
            live, width = np.flatnonzero(~ends), len(output_ids)
            output_ids = output_ids[live]
            if not len(live):
                break
            if ends.any():
                _follow(inputs, live, width)
                states = _take(states, live, width)
                rules = self._advance_rules(rules, live, None)
        return results + list(output_ids)

    def _ends(self, output_ids: np.ndarray, min_ends: int) -> np.ndarray:
        """Which rows are complete, (b,)."""
        if output_ids.shape[1] < self.minlen:
            return np.zeros(len(output_ids), bool)
        is_end = output_ids == self.end_id
        return is_end[:, -1] & (is_end.sum(axis=1) >= min_ends)

    def _start_rules(self) -> Any:
        return None if self.constraint is None else self.constraint.initial_state(1)

    def _advance_rules(self, rules: Any, rows: np.ndarray, tokens: np.ndarray | None) -> Any:
        """The constraint's states of these rows, one token further where tokens are given."""
        if self.constraint is None:
            return None
        rules = take(rules, rows)
        return rules if tokens is None else self.constraint.advance(rules, tokens)

    def _candidates(
        self, log_probas: np.ndarray, scores: np.ndarray, rules: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row, token and total score of every possible continuation."""
        log_probas = _without_nan(log_probas)
        if self.constraint is not None:
            log_probas = self._permitted(log_probas, rules)
        totals = (scores[:, None] + log_probas).reshape(-1)
        possible = np.flatnonzero(totals > -np.inf)
        return *np.divmod(possible, log_probas.shape[1]), totals[possible]

    def _permitted(self, log_probas: np.ndarray, rules: Any) -> np.ndarray:
        """Log-probabilities renormalised over what each row's rule allows, (b, v)."""
        assert self.constraint is not None  # there is a rule
        if (rescore := getattr(self.constraint, "rescore", None)) is not None:
            log_probas = rescore(rules, log_probas)
        mask, vocab_size = self.constraint.allowed(rules), log_probas.shape[1]
        if mask.shape[1] > vocab_size:
            check_width(int(np.flatnonzero(mask.any(axis=0)).max(initial=-1)), vocab_size)
        permitted = np.full(log_probas.shape, -np.inf)
        for target, row, allowed in zip(permitted, log_probas, mask, strict=True):
            tokens = np.flatnonzero(allowed[:vocab_size])
            target[tokens] = _renormalised(row[tokens])
        return permitted

    def _distribution(self, probas: np.ndarray, rules: Any) -> np.ndarray:
        """Probabilities to draw from, (b, v): they sum to one over what is allowed."""
        probas = _without_nan(np.asarray(probas, np.float64))
        if self.constraint is not None:
            probas = np.exp(self._permitted(_log(probas), rules))
            if not probas.any(axis=1).all():
                raise ValueError(
                    "the constraint allows no token before the output's end. Keys of a prefix "
                    "tree must end with end_id and hold min_ends of them"
                )
        return probas / probas.sum(axis=1, keepdims=True)


def _last_token_model(model: Any) -> Any:
    import keras

    class LastToken(keras.Model):
        def predict(self, x: Any, *args: Any, **options: Any) -> Any:
            if not args and not options:
                # A generation step is one small batch: `predict` would build a data pipeline.
                return self.predict_on_batch(x)
            options.setdefault("verbose", 0)
            return super().predict(x, *args, **options)

    outputs = [output[:, -1] for output in model.outputs]
    # One tensor is given as itself: a list of one would be another structure to Keras.
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return LastToken(inputs, outputs[0] if len(outputs) == 1 else outputs)


def _check_rtype(rtype: str) -> None:
    if rtype not in ("probas", "logits"):
        raise ValueError(f"rtype must be 'probas' or 'logits', got {rtype!r}")


def _without_nan(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores)
    if np.isnan(scores).any():
        raise ValueError(
            "predict gave NaN for the next token: no output can be chosen by it. Check the weights "
            "and, in half precision, the range of the logits"
        )
    return scores


def _log(probas: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(probas)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _renormalised(log_probas: np.ndarray) -> np.ndarray:
    """Log-probabilities over the allowed tokens alone; all of them impossible means all equal."""
    if not len(log_probas):
        return log_probas
    log_probas = np.asarray(log_probas, np.float64)
    if log_probas.max() == -np.inf:
        return np.full(len(log_probas), -np.log(len(log_probas)))
    return _log_softmax(log_probas)


def _largest(totals: np.ndarray, k: int) -> np.ndarray:
    """The places of the `k` largest, best first; equal ones in their order."""
    if k < len(totals):
        places = np.sort(np.argpartition(-totals, k - 1)[:k])
    else:
        places = np.arange(len(totals))
    return places[np.argsort(-totals[places], kind="stable")]


def _draw(probas: np.ndarray, topk: int | None, topp: float | None, choice: Callable) -> int:
    """One token of a distribution (v,), filtered by topk and then topp."""
    if topk is None and topp is None:
        return int(choice(len(probas), p=probas / probas.sum()))  # as bert4keras under a seed
    tokens = _largest(probas, len(probas) if topk is None else topk)
    kept = probas[tokens] / probas[tokens].sum()
    if topp is not None:
        # The token that crosses the threshold is kept: one more than those that stay below it.
        count = 1 + int((np.cumsum(kept)[:-1] < topp).sum())
        tokens, kept = tokens[:count], kept[:count] / kept[:count].sum()
    return int(tokens[choice(len(tokens), p=kept)])


def _follow(inputs: list[np.ndarray], rows: np.ndarray, width: int) -> None:
    """Re-index the inputs in place, so that what `predict` wrote into the list is kept."""
    inputs[:] = [_take(item, rows, width) for item in inputs]


def _take(states: Any, rows: np.ndarray, width: int) -> Any:
    """States with every array of `width` rows re-indexed; anything else as it is."""
    if isinstance(states, dict):
        return {key: _take(value, rows, width) for key, value in states.items()}
    if isinstance(states, tuple) and hasattr(states, "_fields"):
        return type(states)(*(_take(value, rows, width) for value in states))
    if isinstance(states, list | tuple):
        return type(states)(_take(value, rows, width) for value in states)
    shape: tuple[int, ...] = getattr(states, "shape", ())
    if len(shape) and shape[0] == width:
        return np.asarray(states)[rows]
    return states
