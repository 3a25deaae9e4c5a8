"""Prompts filled in by the masked-word head: PET's patterns and verbalizers, without training.

A pattern puts the text beside a sentence with a hole, "这是一则[MASK]新闻。{}", and the label whose
word (its verbalizer) the head finds likeliest in the hole wins (arXiv 2001.07676). A verbalizer
may have several tokens; the hole then is as wide as the word, and the word's score is the mean over
its tokens of log p(token), so that words of different widths can be compared. The tokens are read

* 'together', all holes open, one row for all words of one width;
* 'surest', one after the other, the surest first and filled in before the next is read
  (arXiv 2009.07118): one row for each word and step.

Only holes go through the head, whose output is as wide as the vocabulary.
:mod:`bert4kexue.methods.prompt_tuning` trains on a few labelled texts,
:mod:`bert4kexue.methods.pet` learns from unlabelled ones.

Axis letters: N texts, l labels, k tokens of a word, n tokens of a row, H hidden, v vocabulary.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bert4kexue.methods.nsp_prompt import checked_texts, position_count
from bert4kexue.methods.prompt_classifier import PromptClassifier, checked_labels
from bert4kexue.models.prediction import SortedPredictor

Reading = Literal["together", "surest"]

HOLE = "[MASK]"
_HOLES_AT_ONCE = 256  # through the head together, (256, v)
_ROWS_AT_ONCE = 4096  # rows of hidden states that are held in memory together


@dataclasses.dataclass(frozen=True)
class MaskedTemplate:
    """A sentence with a hole and a place for the text, and each label's word.

    Args:
        pattern: with one `{}`, where the text goes, and one `[MASK]`, where the word goes.
        words: the verbalizers, one a label, in the order of the labels.

    Raises:
        ValueError: not one of each in the pattern; fewer than two words, an empty one, one twice.
    """

    pattern: str
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", checked_texts(self.words, "the words"))
        if self.pattern.count("{}") != 1 or self.pattern.count(HOLE) != 1:
            raise ValueError(
                f"a pattern holds {{}} once, where the text goes, and {HOLE} once, where the word "
                f"goes, got {self.pattern!r}"
            )
        if len(self.words) < 2 or not all(self.words) or len(set(self.words)) < len(self.words):
            raise ValueError(
                "a template needs two words or more, different and not empty, got "
                f"{list(self.words)!r}: one for each label"
            )


class HoleRow(NamedTuple):
    """Ids of a row, and where its hole begins."""

    token_ids: list[int]
    hole: int


class MaskedScorer:
    """How likely words are in a pattern's hole, rows of like length run together.

    Args:
        model: from ``build_transformer_model(folder, with_mlm=True)``, alone or with other heads.
        tokenizer: with the model's vocabulary.
        maxlen: the most tokens of a row; None for 128, or the positions of a model with fewer.
        tokens_per_batch: about so many tokens run together.
        reading: 'together' or 'surest', of words of several tokens.

    Raises:
        ValueError: the model has no masked-word head, the vocabulary no [MASK]; more tokens than
            the model has positions; or another reading.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        maxlen: int | None = None,
        tokens_per_batch: int = 4096,
        reading: Reading = "together",
    ) -> None:
        if reading not in ("together", "surest"):
            raise ValueError(f"reading must be 'together' or 'surest', got {reading!r}")
        self.mask = getattr(tokenizer, "_token_mask_id", None)
        if self.mask is None:
            raise ValueError(
                "the vocabulary has no [MASK]: take the one the model was trained with"
            )
        self.body, self.head = split_at_head(model)
        longest = position_count(model)
        self.tokenizer, self.reading = tokenizer, reading
        self.maxlen = maxlen = min(128, longest or 128) if maxlen is None else maxlen
        if maxlen < 5 or (longest is not None and maxlen > longest):
            raise ValueError(
                f"maxlen must be 5 or more and at most the model's {longest} positions, "
                f"got {maxlen}"
            )
        self._predictor = SortedPredictor(self.body, tokens_per_batch=tokens_per_batch)
        self.head.compile(jit_compile=self._predictor.static)

    def score(self, texts: Sequence[str], template: MaskedTemplate) -> np.ndarray:
        """(N, l) float64 mean log-probabilities of the words' tokens; only texts are cut.

        Raises:
            ValueError: texts that are no strings, a word that the vocabulary does not know, a
                pattern that leaves no room; or the model gives no number.
        """
        texts = checked_texts(texts, "the texts")
        words = self.word_ids(template)
        found = np.zeros((len(texts), len(words)))
        for start in range(0, len(texts), _ROWS_AT_ONCE):
            some = texts[start : start + _ROWS_AT_ONCE]
            ids = self.encode_texts(some)
            for width in sorted({len(word) for word in words}):
                rows = [self.row(template, ids[text], width) for text in some]
                of_width = [i for i, word in enumerate(words) if len(word) == width]
                several = np.array([words[i] for i in of_width])
                if width == 1 or self.reading == "together":
                    scores = self._tokens(rows, several).mean(-1)
                else:
                    scores = self._surest(rows, several)
                found[start : start + len(some), of_width] = scores
        if not np.isfinite(found).all():
            raise ValueError(
                f"{np.sum(~np.isfinite(found))} of {found.size} scores are no numbers: the "
                "weights are damaged, or overflow in half precision; build the model in float32"
            )
        return found

    def encode_texts(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Each text's ids, without special tokens."""
        return {text: self.tokenizer.encode(text)[0][1:-1] for text in dict.fromkeys(texts)}

    def word_ids(self, template: MaskedTemplate) -> list[list[int]]:
        """Each word's tokens.

        Raises:
            ValueError: one has none, or one that the vocabulary does not know.
        """
        found = list(self.encode_texts(template.words).values())
        unknown = getattr(self.tokenizer, "_token_unk_id", None)
        for word, ids in zip(template.words, found, strict=True):
            if not ids or unknown in ids:
                raise ValueError(
                    f"the word {word!r} has a character that the vocabulary does not know, so its "
                    "probability says nothing: take another word for this label"
                )
        return found

    def row(self, template: MaskedTemplate, text: Sequence[int], width: int) -> HoleRow:
        """`[CLS]` the pattern, its text cut at the end so that `maxlen` suffices, `[SEP]`."""
        parts = re.split(r"(\{\}|\[MASK\])", template.pattern)
        ids = self.encode_texts([part for part in parts if part not in ("{}", HOLE)])
        room = self.maxlen - 2 - width - sum(len(ids.get(part, ())) for part in parts)
        if room < 1 and len(text) > room:
            raise ValueError(
                f"the pattern {template.pattern!r} leaves no room for a text within "
                f"maxlen={self.maxlen}: take a shorter pattern or a larger maxlen"
            )
        row, hole = [self.tokenizer._token_start_id], 0
        for part in parts:
            if part == HOLE:
                hole = len(row)
                row += [self.mask] * width
            else:
                row += list(text[:room]) if part == "{}" else ids[part]
        return HoleRow([*row, self.tokenizer._token_end_id], hole)

    def _tokens(self, rows: Sequence[HoleRow], words: np.ndarray) -> np.ndarray:
        """(N, l, k) log p of each word's (l, k) tokens at the hole's places."""
        width = words.shape[1]
        hidden = self._predictor.predict([row.token_ids for row in rows])
        holes = np.concatenate([x[row.hole : row.hole + width] for x, row in zip(hidden, rows)])  # noqa: B905
        unique, places = np.unique(words, return_inverse=True)
        logs = self._head_logs(holes, unique).reshape(len(rows), width, -1)
        places = places.reshape(words.shape)
        return np.stack([logs[:, j, places[:, j]] for j in range(width)], -1)

    def _head_logs(self, holes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """(M, u) log p of u tokens at M holes (M, H)."""
        kept = []
        for start in range(0, len(holes), _HOLES_AT_ONCE):
            some = holes[start : start + _HOLES_AT_ONCE]
            full = np.zeros(
                (1, _HOLES_AT_ONCE, holes.shape[1]), holes.dtype
            )  # one shape: one trace
            full[0, : len(some)] = some
            p = np.asarray(self.head.predict_on_batch(full), np.float64)[0, : len(some)]
            kept.append(np.log(np.maximum(p[:, tokens], np.finfo(np.float32).tiny)))
        return np.concatenate(kept)

    def _surest(self, rows: Sequence[HoleRow], words: np.ndarray) -> np.ndarray:
        """(N, l) mean log p, each token read with the surer ones filled in."""
        count, (labels, width) = len(rows), words.shape
        shape = (count, labels, width)
        logs = self._tokens(rows, words).reshape(-1, width)
        open_, total = np.ones((count * labels, width), bool), np.zeros(count * labels)
        filled = [list(row.token_ids) for row in rows for _ in range(labels)]
        holes = np.repeat([row.hole for row in rows], labels)
        wanted = np.broadcast_to(words, shape).reshape(-1, width)
        everyone = np.arange(len(filled))
        for step in range(width):
            best = np.where(open_, logs, -np.inf).argmax(1)
            total += logs[everyone, best]
            open_[everyone, best] = False
            for row, hole, place, word in zip(filled, holes, best, wanted, strict=True):
                row[hole + place] = int(word[place])
            if step < width - 1:
                now = [HoleRow(row, hole) for row, hole in zip(filled, holes, strict=True)]
                logs = self._own_tokens(now, wanted)
        return (total / width).reshape(count, labels)

    def _own_tokens(self, rows: Sequence[HoleRow], wanted: np.ndarray) -> np.ndarray:
        """(M, k) log p of row i's own tokens wanted[i]."""
        kept = []
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some, own = rows[start : start + _ROWS_AT_ONCE], wanted[start : start + _ROWS_AT_ONCE]
            width = own.shape[1]
            hidden = self._predictor.predict([row.token_ids for row in some])
            holes = np.concatenate([x[r.hole : r.hole + width] for x, r in zip(hidden, some)])  # noqa: B905
            unique, places = np.unique(own, return_inverse=True)
            logs = self._head_logs(holes, unique)
            kept.append(logs[np.arange(len(logs)), places.ravel()].reshape(own.shape))
        return np.concatenate(kept)


class MaskedPromptClassifier(PromptClassifier[MaskedTemplate]):
    """Labels by words in a hole, in the manner of scikit-learn: PET before any training.

    Args:
        model: with a masked-word head, ``build_transformer_model(folder, with_mlm=True)``.
        tokenizer: with the model's vocabulary.
        labels: what `predict` gives back, two or more.
        template: a :class:`MaskedTemplate`, a pattern for which the labels are the words
            ("这是一则[MASK]新闻。{}"), or a list of these: an ensemble.
        priors: (l,) share of each label, summing to 1; None for equal ones.
        abstain_below: a text whose best probability is below it gets `None` from `predict`.
        maxlen: the most tokens of a row; only the text is cut.
        tokens_per_batch: about so many tokens run together.
        reading: of words of several tokens: 'together', or 'surest' first.

    Raises:
        ValueError: a model without the head, labels, templates, words or priors that do not fit.

    Example::

        model = build_transformer_model("pretrained/bert_tiny_nsp_zh", with_mlm=True)
        template = MaskedTemplate("这次买的东西很[MASK]。{}", ("好", "差"))
        classifier = MaskedPromptClassifier(model, tokenizer, ["好评", "差评"], template)
        classifier.calibrate().predict(["物流很快，包装也很好"])
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        labels: Sequence[str],
        template: str | MaskedTemplate | Sequence[str | MaskedTemplate],
        *,
        priors: Sequence[float] | None = None,
        abstain_below: float = 0.0,
        maxlen: int | None = None,
        tokens_per_batch: int = 4096,
        reading: Reading = "together",
    ) -> None:
        labels = checked_labels(labels)
        several = [template] if isinstance(template, str | MaskedTemplate) else list(template)
        made = [_template(one, labels) for one in several]
        super().__init__(labels, made, priors, abstain_below)
        self.scorer = MaskedScorer(
            model, tokenizer, maxlen=maxlen, tokens_per_batch=tokens_per_batch, reading=reading
        )
        for one in made:
            self.scorer.word_ids(one)

    def template_scores(self, texts: Sequence[str], template: MaskedTemplate) -> np.ndarray:
        """(N, l) mean log-probabilities of every label's word."""
        return self.scorer.score(texts, template)


def split_at_head(model: Any) -> tuple[Any, Any]:
    """The model up to the hidden states (b, n, H), and its head (b, n, H) -> (b, n, v).

    Raises:
        ValueError: it has no masked-word head.
    """
    import keras

    for name, output in zip(model.output_names, model.outputs, strict=True):
        if name.endswith("MLM-Activation"):
            prefix = name.removesuffix("MLM-Activation")
            hidden = model.get_layer(f"{prefix}MLM-Dense").input
            inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
            return keras.Model(inputs, hidden), keras.Model(hidden, output)
    raise ValueError(
        f"the model has no masked-word head, its outputs are {list(model.output_names)}: build it "
        "with with_mlm=True from a checkpoint that has cls/predictions"
    )


def _template(one: str | MaskedTemplate, labels: Sequence[str]) -> MaskedTemplate:
    made = MaskedTemplate(one, tuple(labels)) if isinstance(one, str) else one
    if len(made.words) != len(labels):
        raise ValueError(
            f"a template has {len(made.words)} words and there are {len(labels)} labels: give one "
            "for each, in their order"
        )
    return made
