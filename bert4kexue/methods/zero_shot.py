"""Classification without one labelled text: candidates-contrast over the NSP head's scores.

The head's odds s / (1 - s) say how much likelier a text is after this prompt than anywhere, so the
labels' probabilities are

    p(label | text)  ~  prior(label) * s / (1 - s),

the product over labels normalized; with equal priors the best label is the one with the highest s,
the paper's candidates-contrast. Several templates are averaged in log-odds; calibration and doubt
are those of every classifier by prompts.

Axis letters: N texts, l labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bert4kexue.methods.nsp_prompt import NSPScorer, PromptTemplate
from bert4kexue.methods.prompt_classifier import PromptClassifier, checked_labels


class ZeroShotClassifier(PromptClassifier[PromptTemplate]):
    """Labels by prompts that the next-sentence head judges, in the manner of scikit-learn.

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

        model = build_transformer_model("pretrained/bert_tiny_nsp_zh", with_nsp=True)
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
        labels = checked_labels(labels)
        several = [template] if isinstance(template, str | PromptTemplate) else list(template)
        made = [_template(one, labels) for one in several]
        super().__init__(labels, made, priors, abstain_below)
        self.scorer = NSPScorer(model, tokenizer, maxlen=maxlen, tokens_per_batch=tokens_per_batch)

    def template_scores(self, texts: Sequence[str], template: PromptTemplate) -> np.ndarray:
        """(N, l) log-odds of every text with every prompt."""
        return self.scorer.score_prompts(texts, template, log_odds=True)


def _template(one: str | PromptTemplate, labels: Sequence[str]) -> PromptTemplate:
    made = PromptTemplate.of(one, labels) if isinstance(one, str) else one
    if len(made.texts) != len(labels):
        raise ValueError(
            f"a template has {len(made.texts)} prompts and there are {len(labels)} "
            "labels: give one for each, in their order"
        )
    return made
