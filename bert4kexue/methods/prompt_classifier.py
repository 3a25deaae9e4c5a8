"""What classifiers by prompts share: labels, an ensemble of templates, priors, calibration, doubt.

A subclass says what its templates are and what a text scores with each label's prompt, in log-odds
or logarithms of probabilities; the rest is the same for the next-sentence head
(:mod:`bert4kexue.methods.zero_shot`) and for the masked words
(:mod:`bert4kexue.methods.mlm_prompt`). Contextual calibration (arXiv 2102.09690) takes away what a
prompt scores with texts that say nothing.

Axis letters: N texts, l labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Self, TypeVar

import numpy as np

from bert4kexue.methods.nsp_prompt import checked_texts

CONTENT_FREE = ("", "无", "。", "……")  # what calibration shows the prompts when no text is given

Template = TypeVar("Template")


class PromptClassifier(Generic[Template]):
    """Labels by prompts, in the manner of scikit-learn; subclasses score a text with a template.

    Args:
        labels: what `predict` gives back, two or more.
        templates: one or more, made by the subclass.
        priors: (l,) share of each label, summing to 1; None for equal ones.
        abstain_below: a text whose best probability is below it gets `None` from `predict`.

    Raises:
        ValueError: labels, templates or priors that do not fit.
    """

    def __init__(
        self,
        labels: Sequence[str],
        templates: Sequence[Template],
        priors: Sequence[float] | None = None,
        abstain_below: float = 0.0,
    ) -> None:
        self.labels = checked_labels(labels)
        self.templates = tuple(templates)
        if not self.templates:
            raise ValueError("a classifier needs at least one template, got none")
        if not 0 <= abstain_below <= 1:
            raise ValueError(f"abstain_below must lie between 0 and 1, got {abstain_below}")
        self.abstain_below = abstain_below
        self.log_priors = _log_priors(priors, len(self.labels))
        self.offsets = np.zeros((len(self.templates), len(self.labels)))

    def template_scores(self, texts: Sequence[str], template: Template) -> np.ndarray:
        """(N, l) what every text scores with every label's prompt, as logarithms."""
        raise NotImplementedError

    def decision_function(self, texts: Sequence[str]) -> np.ndarray:
        """(N, l) scores, averaged over the templates, calibrated, with the priors' logarithms."""
        total = np.zeros((len(texts), len(self.labels)))
        for template, offset in zip(self.templates, self.offsets, strict=True):
            total += self.template_scores(texts, template) - offset
        return total / len(self.templates) + self.log_priors

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """(N, l) probabilities of the labels, in their order; rows sum to 1."""
        return softmax(self.decision_function(texts))

    def predict(self, texts: Sequence[str]) -> list[str | None]:
        """The best label of each text; None where it is less probable than `abstain_below`."""
        return self.choose(self.predict_proba(texts))

    def choose(self, probabilities: np.ndarray) -> list[str | None]:
        """The labels of probabilities that `predict_proba` gave."""
        best = probabilities.argmax(1)
        sure = probabilities.max(1, initial=0) >= self.abstain_below
        return [self.labels[i] if ok else None for i, ok in zip(best, sure, strict=True)]

    def calibrate(self, texts: Sequence[str] = CONTENT_FREE) -> Self:
        """Take away each prompt's mean score over `texts`.

        Args:
            texts: that say nothing, or unlabelled texts of the domain; the latter assume that the
                labels are about equally frequent among them.

        Raises:
            ValueError: no texts.
        """
        if not len(texts):
            raise ValueError("calibration needs at least one text, got none")
        self.offsets = np.stack([self.template_scores(texts, t).mean(0) for t in self.templates])
        return self

    def label_numbers(self, labels: Sequence[str]) -> np.ndarray:
        """(N,) places of labels in `self.labels`.

        Raises:
            ValueError: one that the classifier does not know.
        """
        known = {label: i for i, label in enumerate(self.labels)}
        if unknown := [label for label in labels if label not in known]:
            raise ValueError(
                f"{unknown[0]!r} is no label of this classifier, whose labels are "
                f"{', '.join(self.labels[:20])}"
            )
        return np.array([known[label] for label in labels], np.int64)


def checked_labels(labels: Any) -> tuple[str, ...]:
    """Two labels or more, each once.

    Raises:
        ValueError: fewer, one twice, or something that is no string.
    """
    found = checked_texts(labels, "the labels")
    if len(found) < 2 or len(set(found)) < len(found):
        raise ValueError(f"labels must be two or more, each once, got {list(found)!r}")
    return found


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(scores / scores.sum(-1, keepdims=True))


def _log_priors(priors: Sequence[float] | None, count: int) -> np.ndarray:
    if priors is None:
        return np.zeros(count)
    shares = np.asarray(priors, np.float64)
    if shares.shape != (count,) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"priors must be {count} numbers above 0 that sum to 1, got {priors}")
    return np.log(shares)
