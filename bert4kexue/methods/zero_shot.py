"""Classification without one labelled text: candidates-contrast over the NSP head's scores.

The head's odds s / (1 - s) say how much likelier a text is after this prompt than anywhere, so the
labels' probabilities are

    p(label | text)  ~  prior(label) * s / (1 - s),

the product over labels normalized; with equal priors the best label is the one with the highest s,
the paper's candidates-contrast. Several templates are averaged in log-odds. Contextual calibration
(arXiv 2102.09690) takes away what a prompt scores with texts that say nothing.

Axis letters: N texts, l labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bert4kexue.methods.nsp_prompt import NSPScorer, PromptTemplate, checked_texts

CONTENT_FREE = ("", "无", "。", "……")  # what calibration shows the prompts when no text is given


class ZeroShotClassifier:
    """Labels by prompts, in the manner of scikit-learn.

    Args:
        model: with an NSP head, ``build_transformer_model(folder, with_nsp=True)``.
        tokenizer: with the model's vocabulary.
        labels: what `predict` gives back, two or more.
        template: a pattern with one `{}` for the label ("这是一则{}新闻"), a
            :class:`PromptTemplate` with a prompt for each label, or a list of these: an ensemble.
        priors: (l,) share of each label, summing to 1; None for equal ones.
        abstain_below: a text whose best probability is below it gets `None` from `predict`.
        maxlen: the most tokens of prompt and text, as of `NSPScorer`; only the text is cut.
        tokens_per_batch: about so many tokens run together.

    Raises:
        ValueError: a model without an NSP head, labels, templates or priors that do not fit.

    Example::

        model = build_transformer_model("chinese_L-12_H-768_A-12", with_nsp=True)
        template = PromptTemplate(("这次买的东西很好", "这次买的东西很差"))
        classifier = ZeroShotClassifier(model, tokenizer, ["好评", "差评"], template)
        classifier.predict(["物流很快，包装也很好"])      # ["好评"]
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        labels: Sequence[str],
        template: str | PromptTemplate | Sequence[str | PromptTemplate] = "{}",
        *,
        priors: Sequence[float] | None = None,
        abstain_below: float = 0.0,
        maxlen: int | None = None,
        tokens_per_batch: int = 4096,
    ) -> None:
        self.labels = checked_texts(labels, "the labels")
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must be two or more, each once, got {list(self.labels)!r}")
        several = [template] if isinstance(template, str | PromptTemplate) else list(template)
        self.templates = tuple(self._template(one) for one in several)
        if not self.templates:
            raise ValueError("a classifier needs at least one template, got none")
        if not 0 <= abstain_below <= 1:
            raise ValueError(f"abstain_below must lie between 0 and 1, got {abstain_below}")
        self.abstain_below = abstain_below
        self.log_priors = _log_priors(priors, len(self.labels))
        self.scorer = NSPScorer(model, tokenizer, maxlen=maxlen, tokens_per_batch=tokens_per_batch)
        self.offsets = np.zeros((len(self.templates), len(self.labels)))

    def decision_function(self, texts: Sequence[str]) -> np.ndarray:
        """(N, l) log-odds, averaged over the templates, calibrated, with the priors' logarithms."""
        total = np.zeros((len(texts), len(self.labels)))
        for template, offset in zip(self.templates, self.offsets, strict=True):
            total += log_odds(self.scorer.score_prompts(texts, template)) - offset
        return total / len(self.templates) + self.log_priors

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """(N, l) probabilities of the labels, in their order; rows sum to 1."""
        return _softmax(self.decision_function(texts))

    def predict(self, texts: Sequence[str]) -> list[str | None]:
        """The best label of each text; None where it is less probable than `abstain_below`."""
        return self.choose(self.predict_proba(texts))

    def choose(self, probabilities: np.ndarray) -> list[str | None]:
        """The labels of probabilities that `predict_proba` gave."""
        best = probabilities.argmax(1)
        sure = probabilities.max(1, initial=0) >= self.abstain_below
        return [self.labels[i] if ok else None for i, ok in zip(best, sure, strict=True)]

    def calibrate(self, texts: Sequence[str] = CONTENT_FREE) -> ZeroShotClassifier:
        """Take away each prompt's mean log-odds over `texts`.

        Args:
            texts: that say nothing, or unlabelled texts of the domain; the latter assume that the
                labels are about equally frequent among them.

        Raises:
            ValueError: no texts.
        """
        if not len(texts):
            raise ValueError("calibration needs at least one text, got none")
        self.offsets = np.stack(
            [log_odds(self.scorer.score_prompts(texts, one)).mean(0) for one in self.templates]
        )
        return self

    def _template(self, one: str | PromptTemplate) -> PromptTemplate:
        made = PromptTemplate.of(one, self.labels) if isinstance(one, str) else one
        if len(made.texts) != len(self.labels):
            raise ValueError(
                f"a template has {len(made.texts)} prompts and there are {len(self.labels)} "
                "labels: give one for each, in their order"
            )
        return made


def log_odds(scores: np.ndarray) -> np.ndarray:
    """log(s / (1 - s)), finite also where s is 0 or 1 to float32's precision."""
    small = np.finfo(np.float32).tiny
    return np.log(np.maximum(scores, small)) - np.log(np.maximum(1 - scores, small))


def _log_priors(priors: Sequence[float] | None, count: int) -> np.ndarray:
    if priors is None:
        return np.zeros(count)
    shares = np.asarray(priors, np.float64)
    if shares.shape != (count,) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"priors must be {count} numbers above 0 that sum to 1, got {priors}")
    return np.log(shares)


def _softmax(scores: np.ndarray) -> np.ndarray:
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)
