"""A FewCLUE task answered by NSP prompts: labels, accuracy, and what it is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bert4kexue.methods.fewclue import FewClueTask, Sample
from bert4kexue.methods.intervals import wilson
from bert4kexue.methods.mlm_prompt import MaskedPromptClassifier
from bert4kexue.methods.nsp_prompt import NSPScorer, Place
from bert4kexue.methods.prompt_classifier import PromptClassifier
from bert4kexue.methods.samples_contrast import SamplesContrast
from bert4kexue.methods.soft_positions import score_cloze
from bert4kexue.methods.zero_shot import ZeroShotClassifier

Prompts = Literal["nsp", "masked"]


class Accuracy(NamedTuple):
    """A share of right answers with its 95 % interval (Wilson)."""

    value: float
    low: float
    high: float
    rows: int


def accuracy(predicted: Sequence[int] | np.ndarray, labels: Sequence[int]) -> Accuracy:
    """How many are right.

    Raises:
        ValueError: no labels, a label that is missing (-1), or another number of them.
    """
    found, wanted = np.asarray(predicted), np.asarray(labels)
    if found.shape != wanted.shape or not len(wanted) or (wanted < 0).any():
        raise ValueError(
            f"accuracy compares as many predictions as known labels, got {found.shape} and "
            f"{wanted.shape} with {np.sum(wanted < 0)} unknown: use a file that has labels"
        )
    share = float((found == wanted).mean())
    return Accuracy(share, *wilson(share, len(wanted)), len(wanted))


def answer(
    task: FewClueTask,
    samples: Sequence[Sample],
    model: Any,
    tokenizer: Any,
    *,
    template: int = -1,
    place: Place | None = None,
    maxlen: int | None = None,
    calibrate: bool = False,
    priors: Sequence[float] | None = None,
    prompts: Prompts = "nsp",
) -> np.ndarray:
    """(N,) numbers of labels, without any label having been seen.

    Args:
        task: of :data:`bert4kexue.methods.fewclue.TASKS`.
        samples: that `task.read` gave; pairs are contrasted among themselves.
        model: with an NSP head; for 'cloze' built with ``custom_position_ids=True``.
        tokenizer: with the model's vocabulary.
        template: number of the prompt of a 'classify' task.
        place: of the prompt, the task's own when None.
        maxlen: the most tokens of a row, as of `NSPScorer`.
        calibrate: take away what the prompts of a 'classify' task score with empty texts.
        priors: share of each label; equal ones when None.
        prompts: 'nsp', or 'masked' for words in a hole, of a 'classify' task and a model with a
            masked-word head.

    Raises:
        ValueError: a model, template or task that does not fit.
    """
    if prompts not in ("nsp", "masked") or (prompts == "masked" and task.kind != "classify"):
        raise ValueError(
            f"prompts must be 'nsp', or 'masked' for a task of labels, got {prompts!r} for "
            f"{task.name}"
        )
    if task.kind == "classify":
        options: Any = {"maxlen": maxlen, "priors": priors}
        classifier: PromptClassifier[Any]
        if prompts == "nsp":
            chosen = task.template(template, place)
            classifier = ZeroShotClassifier(model, tokenizer, task.labels, chosen, **options)
        else:
            masked = task.masked(template)
            classifier = MaskedPromptClassifier(model, tokenizer, task.labels, masked, **options)
        if calibrate:
            classifier.calibrate()
        return classifier.decision_function([s.text for s in samples]).argmax(1)
    scorer = NSPScorer(model, tokenizer, maxlen=maxlen)
    if task.kind == "cloze":
        texts, candidates = [s.text for s in samples], [s.candidates for s in samples]
        found = score_cloze(scorer, texts, candidates, place or task.place)
        return np.array([scores.argmax() for scores in found])
    pairs = [task.pair(sample, place) for sample in samples]
    # Of a pronoun's noun and of keywords the text is what can be cut.
    cut = "longer"
    if task.name in ("cluewsc", "csl"):
        cut = "first" if (place or task.place) == "suffix" else "second"
    return SamplesContrast(len(task.labels), priors).predict(scorer.score(pairs, cut=cut))  # type: ignore[arg-type]


def majority(samples: Sequence[Sample]) -> Accuracy:
    """Always the commonest label of these samples: what has to be beaten."""
    labels = [sample.label for sample in samples]
    commonest = Counter(labels).most_common(1)[0][0]
    return accuracy([commonest] * len(labels), labels)


def nearest_name(texts: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """(N,) number of the name nearest to each text by TF-IDF of characters and pairs of them.

    The baseline that knows label names and no language: weights from the texts themselves, cosine,
    the first name where all are equally far. Needs scikit-learn.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 2)).fit([*texts, *names])
    similar = vectorizer.transform(texts) @ vectorizer.transform(names).T
    return np.asarray(similar.todense()).argmax(1)
