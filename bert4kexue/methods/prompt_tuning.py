"""Few-shot: both kinds of prompts trained on a few labelled texts, by `model.fit`.

A text stands with several prompts, of which one is right; what the model says of each becomes a
score (b, c), and a loss over the c scores is learned from:

* next-sentence prompts (NSP-tuning, the successor of arXiv 2109.03564): the score is the head's
  log-odds of IsNext, and the loss 'bce' (each pair by itself), 'softmax' (the right prompt against
  the others) or 'contrastive' (the same over P(IsNext) / temperature, which no longer pulls once
  the right prompt is ahead);
* masked words (PET, arXiv 2001.07676): the score is the mean log-probability of a label's word, and
  the loss 'softmax'.

Weights are those of the classifier's own model, which has learned when `tune` returns.

Axis letters: b texts, c prompts of a text, n tokens, k tokens of a word, g widths of words,
u different tokens of words, H hidden, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import keras
import numpy as np
from keras import ops

from bert4kexue.methods.mlm_prompt import MaskedPromptClassifier, MaskedTemplate
from bert4kexue.methods.nsp_prompt import PromptTemplate
from bert4kexue.methods.zero_shot import ZeroShotClassifier
from bert4kexue.training.data import sequence_padding

Loss = Literal["bce", "softmax", "contrastive"]

_MULTIPLE = 8  # lengths are rounded up to it: few shapes


def tune(
    classifier: ZeroShotClassifier | MaskedPromptClassifier,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    loss: Loss | None = None,
    epochs: int = 10,
    batch: int = 8,
    rate: float = 1e-5,
    negatives: int | None = None,
    temperature: float = 0.1,
    seed: int = 0,
    verbose: int = 0,
) -> keras.callbacks.History:
    """Train a classifier's model on labelled texts, with all of its templates in turn.

    Args:
        classifier: whose model learns, in place; what `calibrate` took away is taken away no more.
        texts: a few.
        labels: theirs, of the classifier's labels.
        loss: 'bce' when None for next-sentence prompts; masked words know 'softmax' only.
        epochs: rounds through the texts.
        batch: texts of a step.
        rate: of Adam; 1e-5 suits BERT of base size.
        negatives: wrong prompts that a text stands with, drawn anew each time; all when None.
        temperature: of 'contrastive'.
        seed: of order and negatives.
        verbose: as `fit` takes it.

    Returns:
        Keras's history; `history["loss"]` has a number for each epoch.

    Raises:
        ValueError: no texts, another number of labels, an unknown label or loss, or numbers below
            those that can be.
    """
    if not len(texts) or len(texts) != len(labels):
        raise ValueError(
            f"a classifier is tuned on texts with a label each, got {len(texts)} texts and "
            f"{len(labels)} labels"
        )
    if min(epochs, batch) < 1 or (negatives is not None and negatives < 1) or temperature <= 0:
        raise ValueError(
            "epochs, batch and negatives must be 1 or more and the temperature above 0, got "
            f"{epochs}, {batch}, {negatives} and {temperature}"
        )
    numbers = classifier.label_numbers(labels)
    if isinstance(classifier, ZeroShotClassifier):
        chosen: Loss = loss or "bce"
        model: keras.Model = SentencePrompts(classifier.scorer.model)
        rows: Any = _SentenceRows(classifier, texts)
    else:
        chosen = loss or "softmax"
        if chosen != "softmax":
            raise ValueError(f"masked words are tuned with the loss 'softmax', got {loss!r}")
        if negatives is not None:
            raise ValueError("one row holds all words, so masked words need no negatives=")
        model = MaskedPrompts(classifier)
        rows = _MaskedRows(classifier, texts)
    data = PromptBatches(rows, numbers, batch, negatives, seed)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=prompt_loss(chosen, temperature),
        jit_compile=keras.backend.backend() == "jax",
    )
    history = model.fit(data, epochs=epochs, shuffle=False, verbose=verbose)
    classifier.offsets = np.zeros_like(classifier.offsets)
    return history


def prompt_loss(kind: Loss, temperature: float = 0.1) -> Callable[[Any, Any], Any]:
    """(b,) losses from the places of the right prompts (b,) and scores (b, c).

    Raises:
        ValueError: another kind.
    """

    def bce(y: Any, scores: Any) -> Any:
        right = ops.one_hot(ops.reshape(ops.cast(y, "int32"), (-1,)), scores.shape[-1])
        # log(1 + e^x) - x y, each pair by itself, without overflow
        each = ops.softplus(scores) - scores * ops.cast(right, scores.dtype)
        return ops.mean(each, axis=-1)

    def softmax(y: Any, scores: Any) -> Any:
        right = ops.one_hot(ops.reshape(ops.cast(y, "int32"), (-1,)), scores.shape[-1])
        return -ops.sum(ops.log_softmax(scores) * ops.cast(right, scores.dtype), axis=-1)

    def contrastive(y: Any, scores: Any) -> Any:
        return softmax(y, ops.sigmoid(scores) / temperature)

    known = {"bce": bce, "softmax": softmax, "contrastive": contrastive}
    if kind not in known:
        raise ValueError(f"the loss must be one of {', '.join(known)}, got {kind!r}")
    return known[kind]


class SentencePrompts(keras.Model):
    """From ids and segments (b, c, n) of pairs to the log-odds of IsNext (b, c).

    Args:
        model: whose one output are the next-sentence probabilities (b, 2).
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.last = model.outputs[0]._keras_history.operation
        inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
        self.body = keras.Model(inputs, self.last.input)
        self.given = len(model.inputs)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The differences of the head's two logits, from its weights: no probability is lost."""
        tokens, segments = inputs["token_ids"], inputs["segment_ids"]
        _, c, n = ops.shape(tokens)
        flat = [ops.reshape(x, (-1, n)) for x in (tokens, segments)]
        if self.given == 3:
            flat.append(ops.broadcast_to(ops.arange(n, dtype="int32"), ops.shape(flat[0])))
        given = flat[: self.given] if self.given > 1 else flat[0]
        pooled = ops.cast(self.body(given, training=training), "float32")
        logits = ops.matmul(pooled, ops.cast(self.last.kernel, "float32")) + self.last.bias
        return ops.reshape(logits[:, 0] - logits[:, 1], (-1, c))


class MaskedPrompts(keras.Model):
    """From ids (b, g, n) and the holes' places (b, g, k) to mean log-probabilities of words (b, l).

    Args:
        classifier: of masked words; a row for each width of its words.
    """

    def __init__(self, classifier: MaskedPromptClassifier) -> None:
        super().__init__()
        scorer = classifier.scorer
        self.body, self.head = scorer.body, scorer.head
        self.given = len(self.body.inputs)
        words = [scorer.word_ids(template) for template in classifier.templates]
        self.tokens = np.unique([i for several in words for word in several for i in word])
        widths = hole_widths(words)
        shape = (len(words), len(words[0]), len(widths), max(widths), len(self.tokens))
        reads = np.zeros(shape, np.float32)  # which token of which row makes a word's score
        for t, several in enumerate(words):
            for label, word in enumerate(several):
                for place, token in enumerate(word):
                    u = np.searchsorted(self.tokens, token)
                    reads[t, label, widths.index(len(word)), place, u] = 1 / len(word)
        self.reads = reads

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Only the holes go through the head."""
        tokens, template = inputs["token_ids"], inputs["template"]
        _, g, n = ops.shape(tokens)
        k = ops.shape(inputs["holes"])[2]
        flat = ops.reshape(tokens, (-1, n))
        places = ops.broadcast_to(ops.arange(n, dtype="int32"), ops.shape(flat))
        more = [ops.zeros_like(flat), places]
        given = [flat, *more][: self.given] if self.given > 1 else flat
        hidden = self.body(given, training=training)
        holes = ops.take_along_axis(
            hidden, ops.reshape(inputs["holes"], (-1, k))[:, :, None], axis=1
        )
        p = ops.cast(self.head(holes, training=training), "float32")
        logs = ops.log(ops.maximum(ops.take(p, self.tokens, axis=-1), 1e-30))
        logs = ops.reshape(logs, (-1, g, k, len(self.tokens)))
        reads = ops.take(ops.convert_to_tensor(self.reads), template[:, 0], axis=0)
        return ops.einsum("bgku,blgku->bl", logs, reads)


class PromptBatches(keras.utils.PyDataset):
    """Batches of texts with their prompts: each epoch in another order, templates in turn.

    Args:
        rows: gives ``inputs(numbers of texts, template, prompts (b, c))``.
        labels: (N,) numbers of the right ones.
        batch: texts of a step.
        negatives: wrong prompts of a text; all when None.
        seed: of order and negatives.
    """

    def __init__(
        self, rows: Any, labels: np.ndarray, batch: int, negatives: int | None, seed: int
    ) -> None:
        super().__init__()
        self.rows, self.labels, self.batch = rows, labels, batch
        self.negatives, self.seed, self.epoch = negatives, seed, 0
        self.order = np.random.default_rng([seed, 0]).permutation(len(labels))

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.labels) // self.batch)

    def __getitem__(self, step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Inputs, and where among a text's prompts the right one stands."""
        texts = self.order[step * self.batch : (step + 1) * self.batch]
        rng = np.random.default_rng([self.seed, self.epoch, step])
        right, count = self.labels[texts], self.rows.labels
        if self.negatives is None or self.negatives >= count - 1:
            prompts, places = np.tile(np.arange(count), (len(texts), 1)), right
        else:
            wrong = rng.permuted(np.tile(np.arange(count - 1), (len(texts), 1)), axis=1)
            wrong = wrong[:, : self.negatives]
            prompts = np.concatenate([right[:, None], wrong + (wrong >= right[:, None])], 1)
            places = np.zeros(len(texts), np.int64)
        template = (self.epoch + step) % self.rows.templates
        return self.rows.inputs(texts, template, prompts), places.astype(np.int32)

    def on_epoch_end(self) -> None:
        """Another order."""
        self.epoch += 1
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.labels))


class _SentenceRows:
    def __init__(self, classifier: ZeroShotClassifier, texts: Sequence[str]) -> None:
        self.scorer = scorer = classifier.scorer
        self.labels, self.templates = len(classifier.labels), len(classifier.templates)
        self.texts = [scorer.encode([text])[text] for text in texts]
        self.prompts = [list(scorer.encode(t.texts).values()) for t in classifier.templates]
        self.places = [cast(PromptTemplate, t).place for t in classifier.templates]
        text = max(self.texts, key=len)
        longest = [self._row(t, max(p, key=len), text) for t, p in enumerate(self.prompts)]
        self.width = _width(longest, scorer.maxlen)

    def _row(self, template: int, prompt: Any, text: Any) -> Any:
        if self.places[template] == "prefix":
            return self.scorer.row(prompt, text, cut="second")
        return self.scorer.row(text, prompt, cut="first")

    def inputs(self, texts: np.ndarray, template: int, prompts: np.ndarray) -> Any:
        rows = [
            self._row(template, self.prompts[template][prompt], self.texts[number])
            for number, several in zip(texts, prompts, strict=True)
            for prompt in several
        ]
        shape = (*prompts.shape, self.width)
        return {
            "token_ids": _padded([r.token_ids for r in rows], self.width).reshape(shape),
            "segment_ids": _padded([r.segment_ids for r in rows], self.width).reshape(shape),
        }


class _MaskedRows:
    def __init__(self, classifier: MaskedPromptClassifier, texts: Sequence[str]) -> None:
        self.scorer = scorer = classifier.scorer
        self.labels, self.kinds = len(classifier.labels), classifier.templates
        self.templates = len(self.kinds)
        self.texts = [scorer.encode_texts([text])[text] for text in texts]
        self.widths = hole_widths([scorer.word_ids(t) for t in self.kinds])
        text = max(self.texts, key=len)
        longest = [scorer.row(kind, text, max(self.widths)) for kind in self.kinds]
        self.width = _width(longest, scorer.maxlen)

    def inputs(self, texts: np.ndarray, template: int, prompts: np.ndarray) -> Any:
        kind: MaskedTemplate = self.kinds[template]
        rows = [self.scorer.row(kind, self.texts[i], w) for i in texts for w in self.widths]
        n = self.width
        most, b, g = max(self.widths), len(texts), len(self.widths)
        holes = np.array([row.hole for row in rows])[:, None]
        wide = np.tile(self.widths, b)[:, None]
        places = holes + np.minimum(np.arange(most), wide - 1)
        return {
            "token_ids": _padded([r.token_ids for r in rows], n).reshape(b, g, n),
            "holes": places.reshape(b, g, most).astype(np.int32),
            "template": np.full((b, 1), template, np.int32),
        }


def hole_widths(words: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """The different numbers of tokens that words have, in order."""
    return sorted({len(word) for several in words for word in several})


def _padded(rows: list[list[int]], n: int) -> np.ndarray:
    return sequence_padding(rows, n).astype(np.int32)


def _width(longest: list[Any], maxlen: int) -> int:
    """One for all batches: `fit` learns from the first two which axes differ, and JAX compiles."""
    n = max(len(row.token_ids) for row in longest)
    return min(-(-n // _MULTIPLE) * _MULTIPLE, max(n, maxlen))
