"""Prompts judged by the next-sentence head: NSP-BERT (kexue.fm/archives/8671, arXiv 2109.03564).

A checkpoint that kept its NSP head tells how well one piece of text goes on with another,

    s(A, B) = P(IsNext | [CLS] A [SEP] B [SEP]),   index 0 of the head's two probabilities,

and a label is a piece of text: "这次买的东西很好". Each candidate costs one row. :class:`NSPScorer`
gives s for pairs, and for every text with every prompt; :class:`bert4kexue.methods.zero_shot.
ZeroShotClassifier` makes labels of it, :mod:`bert4kexue.methods.samples_contrast` orders pairs.

Axis letters: N texts, l labels, n tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from bert4kexue.models.first_token import first_token_model
from bert4kexue.models.prediction import SortedPredictor

Place = Literal["prefix", "suffix"]

_ROWS_AT_ONCE = 16384  # rows of ids that are held in memory together


@dataclasses.dataclass(frozen=True)
class PromptTemplate:
    """A prompt for each label, and where it stands.

    Args:
        texts: one a label, in the order of the labels.
        place: 'prefix', the prompt is A and the text B; 'suffix', the other way round.

    Raises:
        ValueError: fewer than two prompts, an empty one, one twice, or another place.
    """

    texts: tuple[str, ...]
    place: Place = "prefix"

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", checked_texts(self.texts, "the prompts"))
        if self.place not in ("prefix", "suffix"):
            raise ValueError(f"place must be 'prefix' or 'suffix', got {self.place!r}")
        if len(self.texts) < 2 or not all(self.texts) or len(set(self.texts)) < len(self.texts):
            raise ValueError(
                "a template needs two prompts or more, different and not empty, got "
                f"{list(self.texts)!r}: one for each label"
            )

    @classmethod
    def of(cls, pattern: str, labels: Sequence[str], place: Place = "prefix") -> PromptTemplate:
        """The pattern with every label put in for its one `{}`: "这是一则{}新闻".

        Raises:
            ValueError: the pattern has not exactly one `{}`.
        """
        if pattern.count("{}") != 1:
            raise ValueError(f"a pattern holds {{}} once, where the label goes, got {pattern!r}")
        names = checked_texts(labels, "the labels")
        return cls(tuple(pattern.replace("{}", name) for name in names), place)


class Row(NamedTuple):
    """A pair as the model reads it, n ids each; no positions are 0, 1, 2, ..."""

    token_ids: list[int]
    segment_ids: list[int]
    position_ids: list[int] | None = None


class NSPScorer:
    """P(IsNext) of pairs of texts, rows of like length run together.

    Args:
        model: from ``build_transformer_model(folder, with_nsp=True)``, alone or with other heads.
        tokenizer: with the model's vocabulary.
        maxlen: the most tokens of a pair, [CLS] and both [SEP] included; None for 128, or the
            positions of a model that has fewer.
        tokens_per_batch: about so many tokens run together.

    Raises:
        ValueError: the model has no NSP head; or more tokens than the model has positions.

    Example::

        model = build_transformer_model("chinese_L-12_H-768_A-12", with_nsp=True)
        NSPScorer(model, tokenizer).score([("这次买的东西很好", "质量不错，值得购买")])  # (1,)
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, maxlen: int | None = None, tokens_per_batch: int = 4096
    ) -> None:
        self._frame = _special_ids(tokenizer)
        self.positions = len(model.inputs) == 3
        self.model = _nsp_alone(model)
        only_first = first_token_model(self.model)
        self._predictor = SortedPredictor(only_first, tokens_per_batch=tokens_per_batch)
        longest = position_count(model)
        self.tokenizer = tokenizer
        self.maxlen = maxlen = min(128, longest or 128) if maxlen is None else maxlen
        if maxlen < 5 or (longest is not None and maxlen > longest):
            raise ValueError(
                f"maxlen must be 5 or more and at most the model's {longest} positions, "
                f"got {maxlen}"
            )

    def score(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        cut: Literal["longer", "first", "second"] = "longer",
    ) -> np.ndarray:
        """(N,) float64 probabilities that the second text follows the first.

        Args:
            pairs: tuples of two strings. What looks like a special token in them is text.
            cut: which of the two is shortened, at its end, where a pair is too long.

        Raises:
            ValueError: something that is no pair, or a text that may not be cut and leaves no room.
        """
        if isinstance(pairs, str) or any(
            isinstance(pair, str) or len(pair) != 2 or not all(isinstance(x, str) for x in pair)
            for pair in pairs
        ):
            raise ValueError("score takes a list of (first, second) tuples of strings")
        encoded = self.encode([text for pair in pairs for text in pair])
        rows = [self.row(encoded[first], encoded[second], cut=cut) for first, second in pairs]
        return self.score_rows(rows)

    def score_prompts(
        self, texts: Sequence[str], template: PromptTemplate, *, log_odds: bool = False
    ) -> np.ndarray:
        """(N, l) float64 probabilities of every text with every prompt; only texts are cut.

        Args:
            texts: strings.
            template: a prompt for each label.
            log_odds: log(s / (1 - s)) in place of s, which keep their order where s rounds to 1.

        Raises:
            ValueError: texts that are no strings, or a prompt that leaves no room for a text.
        """
        texts = checked_texts(texts, "the texts")
        prompts = list(self.encode(template.texts).values())
        scores = np.zeros((len(texts), len(prompts)))
        step = max(1, _ROWS_AT_ONCE // len(prompts))
        for start in range(0, len(texts), step):
            some = texts[start : start + step]
            ids = self.encode(some)
            prefix = template.place == "prefix"
            rows = [
                self.row(prompt, ids[text], cut="second")
                if prefix
                else self.row(ids[text], prompt, cut="first")
                for text in some
                for prompt in prompts
            ]
            found = self._probabilities(rows)
            kept = _log_odds(found) if log_odds else found[:, 0]
            scores[start : start + step] = kept.reshape(len(some), -1)
        return scores

    def score_rows(self, rows: Sequence[Row]) -> np.ndarray:
        """(N,) probabilities of rows that are made already.

        Raises:
            ValueError: rows with positions for a model without; or the model gives no number.
        """
        return self._probabilities(rows)[:, 0]  # index 0 is IsNext

    def _probabilities(self, rows: Sequence[Row]) -> np.ndarray:
        if not rows:
            return np.zeros((0, 2))
        if any(row.position_ids is not None for row in rows) and not self.positions:
            raise ValueError(
                "soft positions need a model that takes them: build_transformer_model(..., "
                "with_nsp=True, custom_position_ids=True)"
            )
        tokens, segments, positions = zip(*rows, strict=True)
        filled = [range(len(t)) if p is None else p for t, p in zip(tokens, positions, strict=True)]
        found = self._predictor.predict(tokens, segments, position_ids=filled)
        scores = np.asarray(found, np.float64)
        if bad := int(np.sum(~np.isfinite(scores).all(1))):
            raise ValueError(
                f"{bad} of {len(scores)} scores are no numbers: the "
                "weights are damaged, or overflow in half precision; build the model in float32"
            )
        return scores

    def encode(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Each text's ids, without special tokens."""
        return {text: self.tokenizer.encode(text)[0][1:-1] for text in dict.fromkeys(texts)}

    def row(self, first: Sequence[int], second: Sequence[int], *, cut: str = "longer") -> Row:
        """`[CLS] first [SEP] second [SEP]` of at most `maxlen` ids."""
        keep = self.cut(len(first), len(second), cut)
        a, b = list(first[: keep[0]]), list(second[: keep[1]])
        start, end = self._frame
        return Row([start, *a, end, *b, end], [0] * (len(a) + 2) + [1] * (len(b) + 1))

    def cut(self, first: int, second: int, which: str) -> tuple[int, int]:
        """How many ids of the two stay."""
        room = self.maxlen - 3
        if which not in ("longer", "first", "second"):
            raise ValueError(f"cut must be 'longer', 'first' or 'second', got {which!r}")
        if first + second <= room:
            return first, second
        if which == "longer":
            half = room // 2
            a = min(first, max(room - half, room - second))
            return a, min(second, room - a)
        kept = second if which == "first" else first
        if kept >= room:
            raise ValueError(
                f"a prompt of {kept} tokens leaves no room for a text within maxlen={self.maxlen}: "
                "take a shorter prompt or a larger maxlen"
            )
        return (room - kept, kept) if which == "first" else (kept, room - kept)


def two_stage(text: str, mention: str, cue: str = "上文中{}是指") -> str:
    """The text and a cue that names what is asked about: the first stage of a two-stage prompt.

    Its other sentence is the candidate: for CLUEWSC the noun that the pronoun may stand for.

    Raises:
        ValueError: the cue has not exactly one `{}`, or the mention is empty.
    """
    if cue.count("{}") != 1 or not mention:
        raise ValueError(
            f"a cue holds {{}} once and a mention is not empty, got {cue!r} and {mention!r}"
        )
    return text + cue.replace("{}", mention)


def checked_texts(texts: Any, what: str) -> tuple[str, ...]:
    """The texts as a tuple.

    Raises:
        ValueError: one string instead of several, or something that is no string.
    """
    if isinstance(texts, str) or any(not isinstance(text, str) for text in texts):
        raise ValueError(f"{what} must be a list of strings, got {texts!r:.80}")
    return tuple(texts)


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    """(N,) from both of the head's numbers (N, 2): the smaller keeps its digits, 1 - s has none."""
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return np.asarray(logs[:, 0] - logs[:, 1])


def _special_ids(tokenizer: Any) -> tuple[int, int]:
    return tokenizer._token_start_id, tokenizer._token_end_id


def _nsp_alone(model: Any) -> Any:
    """A model of the same inputs with the NSP probabilities for its only output."""
    import keras

    for name, output in zip(model.output_names, model.outputs, strict=True):
        if name.endswith("NSP-Proba") and output.shape[-1] == 2:
            inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
            return keras.Model(inputs, output)
    raise ValueError(
        f"the model has no next-sentence head, its outputs are {list(model.output_names)}: build "
        "it with with_nsp=True from a checkpoint that has cls/seq_relationship; those of RoBERTa's "
        "kind were trained without one and cannot be used"
    )


def position_count(model: Any) -> int | None:
    """How many positions the model has vectors for; None for no limit."""
    for layer in model.layers:
        if (
            layer.name.endswith("Embedding-Position")
            and getattr(layer, "hierarchical", None) is None
        ):
            return getattr(layer, "input_dim", None)
    return None
