"""Answers found in passages: written token by token, or all at once (kexue.fm/archives/7115, 7148).

Both readers give spans of the passages and nothing else, read long passages in windows, and let the
windows of all passages of a question vote:

* `Seq2SeqReader` writes `[CLS] window [SEP] question [SEP] answer [SEP]` from left to right with a
  unilm model, under the passages' implicit suffix tree, each token voted on by all windows
  (`models.voting`); a window that would end the answer at once is not heard;
* `MaskedReader` fills the [MASK]s of `[CLS] [MASK] ... [SEP] question [SEP] window [SEP]` in one
  forward: the span whose tokens, and the [SEP] after them, are the likeliest together.
  Windows vote for texts: sum(s²) / (sum(s) + 1) over the mean probabilities s.

`methods.reading_rows` makes the rows that they are trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert4kexue.decoding.substring import OUTSIDE
from bert4kexue.methods.reading_rows import Layout, Text, cut, encode_texts, masked_row
from bert4kexue.training.special import Special

Asked = tuple[str, str | Sequence[str]]
"""A question, and its passage or passages."""

Watch = Callable[[Iterable[Any], int], Iterable[Any]]

_WINDOWS_AT_ONCE = 64


class ReadingAnswer(NamedTuple):
    """A span of a passage."""

    text: str
    score: float
    """Higher is surer, among answers of one reader: the log-probability of the voted tokens for
    `Seq2SeqReader`, the vote for `MaskedReader`."""
    passage: int
    """Which of the passages, from 0."""
    start: int
    stop: int
    """Its characters, `passage[start:stop]`."""


class _Window(NamedTuple):
    passage: int
    start: int
    ids: np.ndarray


class _Question(NamedTuple):
    passages: tuple[str, ...]
    texts: tuple[Text, ...]
    ids: np.ndarray
    windows: tuple[_Window, ...]

    def answer(self, passage: int, first: int, last: int, score: float) -> ReadingAnswer:
        """The answer of these tokens of a passage."""
        offsets = self.texts[passage].offsets[first:last]
        start, stop = int(offsets[:, 0].min()), int(offsets[:, 1].max())
        return ReadingAnswer(self.passages[passage][start:stop], score, passage, start, stop)


class _Reader:
    """What both readers share: questions to windows."""

    def __init__(self, tokenizer: Any, layout: Layout, rows_at_once: int) -> None:
        layout.room(layout.question)
        if rows_at_once < 1:
            raise ValueError(f"rows_at_once must be 1 or more, got {rows_at_once}")
        self.tokenizer, self.layout, self.rows_at_once = tokenizer, layout, rows_at_once
        self.special = special_ids(tokenizer)

    def answer(self, question: str, passages: str | Sequence[str]) -> ReadingAnswer:
        """The answer to one question from its passage or passages."""
        return self.answer_batch([(question, passages)])[0]

    def answer_batch(
        self, asked: Sequence[Asked], watch: Watch = lambda batches, count: batches
    ) -> list[ReadingAnswer]:
        """The answers to many questions, in their order.

        Args:
            asked: questions with their passages.
            watch: wraps the batches as they come, given the number of questions; for a progress
                bar.

        Raises:
            ValueError: a question without passages or whose passages hold no token; NaN from the
                model.
        """
        questions = self._questions(asked)
        answers: list[ReadingAnswer | None] = [None] * len(questions)
        for batch in watch(self._batches(questions), len(questions)):
            found = self._read([questions[i] for i in batch])
            for i, answer in zip(batch, found, strict=True):
                answers[i] = answer
        return answers  # type: ignore[return-value]

    def _questions(self, asked: Sequence[Asked]) -> list[_Question]:
        given = [(passages,) if isinstance(passages, str) else passages for _, passages in asked]
        every = list(dict.fromkeys(passage for passages in given for passage in passages))
        texts = dict(zip(every, encode_texts(self.tokenizer, every), strict=True))
        asked_texts = encode_texts(self.tokenizer, [question for question, _ in asked])
        ids = [text.ids[: self.layout.question] for text in asked_texts]
        made = []
        for (question, _), own, passages in zip(asked, ids, given, strict=True):
            windows = tuple(
                _Window(number, start, texts[passage].ids[start:stop])
                for number, passage in enumerate(passages)
                for start, stop in self._cuts(len(texts[passage].ids), len(own))
            )
            if not windows:
                raise ValueError(
                    f"the question {question[:40]!r} has no passage with a character in it: give "
                    "one that an answer can be found in"
                )
            made.append(_Question(tuple(passages), tuple(texts[p] for p in passages), own, windows))
        return made

    def _cuts(self, length: int, question: int) -> list[tuple[int, int]]:
        return cut(length, self.layout.room(question), self.layout.overlap) if length else []

    def _batches(self, questions: Sequence[_Question]) -> list[list[int]]:
        """Numbers of questions whose windows are read together, those of like many side by side."""
        counts = [_few(len(question.windows)) for question in questions]
        batches: list[list[int]] = []
        for i in sorted(range(len(questions)), key=lambda i: counts[i]):
            last = batches[-1] if batches else []
            full = (len(last) + 1) * counts[i] > self.rows_at_once
            if last and counts[last[0]] == counts[i] and not full:
                last.append(i)
            else:
                batches.append([i])
        return batches

    def _read(self, questions: Sequence[_Question]) -> list[ReadingAnswer]:
        raise NotImplementedError


class Seq2SeqReader(_Reader):
    """Answers written by a unilm model, token by token, each token a vote of all windows.

    Args:
        model: from `build_transformer_model(..., application='unilm', with_mlm=True)`.
        tokenizer: with the model's vocabulary.
        layout: of the rows, as the model was trained.
        num_beams: width of the search.
        rows_at_once: windows that run together.
        jit_compile: XLA on TensorFlow, which compiles for each number of windows.

    Raises:
        ValueError: the model cannot generate, or has fewer positions than `layout.maxlen`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        layout: Layout = Layout(),  # noqa: B008 - a tuple, which nothing can change
        *,
        num_beams: int = 1,
        rows_at_once: int = 16,
        jit_compile: bool = False,
    ) -> None:
        from bert4kexue.models.decoder import PrefixDecoder
        from bert4kexue.models.generation import Generator
        from bert4kexue.models.voting import VotingDecoder

        super().__init__(tokenizer, layout, rows_at_once)
        decoder = PrefixDecoder(model)
        if decoder.causal:
            raise ValueError("the passage has to be read from both sides: application='unilm'")
        if decoder.limit is not None and layout.maxlen > decoder.limit:
            raise ValueError(
                f"maxlen={layout.maxlen} is more than the model's {decoder.limit} positions"
            )
        self._width = layout.maxlen - layout.answer - 1
        self._generator = Generator(
            VotingDecoder(decoder, self._width, self.special.end),
            end_token_id=self.special.end,
            jit_compile=jit_compile,
        )
        self._options: dict[str, Any] = {
            "num_beams": num_beams,
            "max_new_tokens": layout.answer + 1,
        }
        self._function: Any = None

    def _read(self, questions: Sequence[_Question]) -> list[ReadingAnswer]:
        shape = (len(questions), _few(max(len(q.windows) for q in questions)), self._width)
        token_ids = np.zeros(shape, np.int32)
        passages = np.full(shape, OUTSIDE, np.int32)
        for line, question in enumerate(questions):
            for k, window in enumerate(question.windows):
                n, m = len(window.ids), len(question.ids)
                token_ids[line, k, 0] = self.special.start
                token_ids[line, k, 1 : n + 1] = passages[line, k, 1 : n + 1] = window.ids
                token_ids[line, k, n + 1] = token_ids[line, k, n + 2 + m] = self.special.end
                token_ids[line, k, n + 2 : n + 2 + m] = question.ids
        found = self._search(token_ids, passages)
        if found["invalid"].any():
            raise ValueError(
                "the model gave NaN for the next token: no answer can be chosen by it. Check its "
                "weights"
            )
        answers = []
        for question, ids, length, score in zip(
            questions, found["token_ids"], found["lengths"], found["scores"], strict=True
        ):
            span = ids[0][: length[0] - 1]
            passage, first = _find(question.texts, span)
            answers.append(question.answer(passage, first, first + len(span), float(score[0])))
        return answers

    def _search(self, token_ids: np.ndarray, passages: np.ndarray) -> dict[str, np.ndarray]:
        from keras import ops

        if self._function is None:
            from bert4kexue.models.compilation import compiled
            from bert4kexue.ops.substring_constraint import GraphSubstring

            generator, layout = self._generator, self.layout

            def search(token_ids: Any, passages: Any) -> Any:
                rule = GraphSubstring(
                    passages,
                    generator.decoder.vocab_size,
                    self.special.end,
                    max_length=layout.answer,
                )
                return generator.generate_function(constraint=rule, **self._options)(token_ids)

            self._function = compiled(
                search, generator.decoder.variables, jit_compile=generator.jit_compile
            )
        flat = [x.reshape(len(x), -1) for x in (token_ids, passages)]
        found = self._function(*map(ops.convert_to_tensor, flat))
        return {name: ops.convert_to_numpy(value) for name, value in found.items()}


class MaskedReader(_Reader):
    """Answers of a masked language model, all tokens in one forward.

    Args:
        model: from `build_transformer_model(..., with_mlm=True)` or `'linear'`.
        tokenizer: with the model's vocabulary.
        layout: of the rows, as the model was trained.
        rows_at_once: windows that run together.

    Raises:
        ValueError: the model has no masked-word head, or fewer positions than `layout.maxlen`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        layout: Layout = Layout(),  # noqa: B008 - a tuple, which nothing can change
        *,
        rows_at_once: int = 16,
    ) -> None:
        import keras

        from bert4kexue.methods.mlm_prompt import split_at_head
        from bert4kexue.methods.nsp_prompt import position_count
        from bert4kexue.models.prediction import SortedPredictor

        super().__init__(tokenizer, layout, rows_at_once)
        longest = position_count(model)
        if longest is not None and layout.maxlen > longest:
            raise ValueError(f"maxlen={layout.maxlen} is more than the model's {longest} positions")
        body, head = split_at_head(model)
        self._logits = head.layers[-1].activation is not keras.activations.softmax
        asked = head(body.outputs[0][:, 1 : layout.answer + 2])
        self._predictor = SortedPredictor(
            keras.Model(body.inputs, asked), tokens_per_batch=rows_at_once * layout.maxlen
        )

    def _batches(self, questions: Sequence[_Question]) -> list[list[int]]:
        batches: list[list[int]] = [[]]
        rows = 0
        for i, question in enumerate(questions):
            if batches[-1] and rows + len(question.windows) > _WINDOWS_AT_ONCE:
                batches.append([])
                rows = 0
            batches[-1].append(i)
            rows += len(question.windows)
        return batches if batches[0] else []

    def _read(self, questions: Sequence[_Question]) -> list[ReadingAnswer]:
        masks, special = self.layout.answer + 1, self.special
        rows = [masked_row(w.ids, q.ids, masks, special) for q in questions for w in q.windows]
        scores = np.asarray(self._predictor.predict(rows), np.float64)
        if np.isnan(scores).any():
            raise ValueError("the model gave NaN for a token: check its weights")
        logs = _log_softmax(scores) if self._logits else np.log(np.maximum(scores, 1e-37))
        outputs = iter(logs)
        return [self._vote(q, [next(outputs) for _ in q.windows]) for q in questions]

    def _vote(self, question: _Question, outputs: Sequence[np.ndarray]) -> ReadingAnswer:
        end = self.special.end
        heard = [i for i, logs in enumerate(outputs) if logs[0].argmax() != end]
        votes: dict[str, list[ReadingAnswer]] = {}
        for i in heard or range(len(outputs)):
            window, logs = question.windows[i], outputs[i]
            first, last, score = best_span(logs, window.ids, end)
            first, last = window.start + first, window.start + last
            answer = question.answer(window.passage, first, last, score)
            votes.setdefault(answer.text, []).append(answer)
        best: tuple[float, ReadingAnswer] | None = None
        for answers in votes.values():
            found = np.array([answer.score for answer in answers])
            vote = float((found**2).sum() / (found.sum() + 1))
            if best is None or vote > best[0]:
                best = (vote, answers[int(found.argmax())])
        assert best is not None
        return best[1]._replace(score=best[0])


def best_span(logs: np.ndarray, ids: np.ndarray, end_id: int) -> tuple[int, int, float]:
    """The likeliest span of a window when every token is drawn by itself.

    Args:
        logs: (m, v) log-probabilities of the tokens at the m places; spans have up to m - 1.
        ids: (n,) of the window.
        end_id: what follows the span.

    Returns:
        First token, one past the last, and the mean probability of the tokens and the end.
    """
    n, longest = len(ids), min(len(logs) - 1, len(ids))
    steps = np.arange(longest)
    places = np.arange(n)[:, None] + steps
    tokens = np.where(places < n, logs[steps, ids[np.minimum(places, n - 1)]], -np.inf)
    totals = np.cumsum(tokens, axis=1) + logs[1 : longest + 1, end_id]
    first, length = divmod(int(totals.argmax()), longest)
    chosen = [*tokens[first, : length + 1], logs[length + 1, end_id]]
    return first, first + length + 1, float(np.exp(chosen).mean())


def special_ids(tokenizer: Any) -> Special:
    """The ids that rows are framed with.

    Raises:
        ValueError: the vocabulary has no [MASK].
    """
    if getattr(tokenizer, "_token_mask_id", None) is None:
        raise ValueError("the vocabulary has no [MASK]: take the one the model was trained with")
    return Special.of(tokenizer)


def _few(count: int) -> int:
    """`count` rounded up so that the shapes are few: 1, 2, 3, 4, 6, 8, 12, 16, 24 ..."""
    size = 2 ** max(0, count - 1).bit_length()
    return size * 3 // 4 if size > 3 and count <= size * 3 // 4 else size


def _find(texts: Sequence[Text], span: np.ndarray) -> tuple[int, int]:
    """The first passage that holds the tokens in a row, and where."""
    for number, text in enumerate(texts):
        places = len(text.ids) - len(span) + 1
        if places > 0:
            rows = np.lib.stride_tricks.sliding_window_view(text.ids, len(span))
            found = np.flatnonzero((rows == span).all(1))
            if len(found):
                return number, int(found[0])
    raise AssertionError("a span under the suffix tree stands in one of the passages")


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
