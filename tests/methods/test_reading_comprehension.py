"""Readers against every span of the passages, scored one by one with whole rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from tiny_models import scattered_model, tiny_tokenizer

from bert4kexue.methods.reading_comprehension import (
    MaskedReader,
    Seq2SeqReader,
    best_span,
    special_ids,
)
from bert4kexue.methods.reading_rows import Layout, cut, masked_row

LAYOUT = Layout(maxlen=24, question=4, answer=3, overlap=4)
PASSAGES = ("李白写静夜思职业是诗人国籍中", "今天气很好的是李白唐代诗人游戏角色作者", "法师 X")
QUESTIONS = ["谁写静夜思诗", "职业"]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def writer():
    return scattered_model(application="unilm", with_mlm="linear", seed=3)


@pytest.fixture(scope="module")
def filler():
    return scattered_model(with_mlm="linear", seed=4)


@pytest.fixture(scope="module")
def wide(writer, tokenizer):
    """A reader whose beam holds every span."""
    return Seq2SeqReader(writer, tokenizer, LAYOUT, num_beams=64)


@pytest.fixture(scope="module")
def readers(writer, filler, tokenizer):
    return {
        "written": Seq2SeqReader(writer, tokenizer, LAYOUT),
        "masked": MaskedReader(filler, tokenizer, LAYOUT),
    }


def _ids(tokenizer, text):
    return tokenizer.encode(text)[0][1:-1]


def _windows(tokenizer, question, passages):
    asked = _ids(tokenizer, question)[: LAYOUT.question]
    room = LAYOUT.room(len(asked))
    windows = []
    for passage in passages:
        ids = _ids(tokenizer, passage)
        windows += [ids[a:b] for a, b in cut(len(ids), room, LAYOUT.overlap)]
    return asked, windows


def _spans(windows):
    """Every span of up to three tokens, the [SEP] that ends it not included."""
    return {
        tuple(window[start : start + n])
        for window in windows
        for n in range(1, LAYOUT.answer + 1)
        for start in range(len(window) - n + 1)
    }


def _softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def _next(model, asked, windows, special, prefix=()):
    """Each window's probabilities of the token after the prefix, out of whole rows."""
    rows = [[special.start, *w, special.end, *asked, special.end, *prefix] for w in windows]
    ids, segments = np.zeros((2, len(rows), LAYOUT.maxlen), np.int32)
    for line, row in enumerate(rows):
        ids[line, : len(row)] = row
        segments[line, len(row) - len(prefix) : len(row)] = 1
    output = np.asarray(model.predict_on_batch([ids, segments]), np.float64)
    return _softmax(np.array([output[i, len(row) - 1] for i, row in enumerate(rows)]))


def _heard(model, asked, windows, special):
    first = _next(model, asked, windows, special).argmax(-1)
    return np.flatnonzero(first != special.end)


def _written_scores(model, asked, windows, special):
    """{span: log-probability} by the rule of post 7115, each prefix a whole row of each window."""
    spans = _spans(windows)
    heard = _heard(model, asked, windows, special)
    heard = heard if len(heard) else np.arange(len(windows))
    chosen, scores = {}, {}
    for prefix in {span[:n] for span in spans for n in range(len(span) + 1)}:
        p = _next(model, asked, windows, special, prefix)[heard]
        vote = (p**2).sum(0) / (p.sum(0) + 1)
        n = len(prefix)
        allowed = {span[n] for span in spans if span[:n] == prefix and len(span) > n}
        if prefix:
            allowed.add(special.end)
        total = vote[sorted(allowed)].sum()
        chosen[prefix] = {token: np.log(vote[token] / total) for token in allowed}
    for span in spans:
        scores[span] = sum(chosen[span[:n]][token] for n, token in enumerate((*span, special.end)))
    return scores


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_wide_beam_finds_the_best_of_all_spans(question, tokenizer, writer, wide):
    special = special_ids(tokenizer)
    asked, windows = _windows(tokenizer, question, PASSAGES)
    scores = _written_scores(writer, asked, windows, special)
    assert sum(np.exp(list(scores.values()))) == pytest.approx(1)  # the spans share all of it
    best = max(scores, key=scores.get)
    answer = wide.answer(question, PASSAGES)
    assert tuple(_ids(tokenizer, answer.text)) == best
    assert answer.score == pytest.approx(scores[best], abs=1e-4)
    assert PASSAGES[answer.passage][answer.start : answer.stop] == answer.text


def test_a_window_with_nothing_to_say_is_not_heard(tokenizer, writer, wide):
    """The bias of [SEP] is raised until some windows would end their answer at once."""
    special = special_ids(tokenizer)
    asked, windows = _windows(tokenizer, QUESTIONS[0], PASSAGES)
    bias = next(w for w in writer.weights if "MLM-Bias" in w.path)
    kept = bias.numpy()
    try:
        for raised in np.arange(0, 12, 0.5):
            bias.assign(kept + raised * np.eye(len(kept))[special.end])
            heard = _heard(writer, asked, windows, special)
            if 0 < len(heard) < len(windows):
                break
        assert 0 < len(heard) < len(windows)
        scores = _written_scores(writer, asked, windows, special)
        answer = wide.answer(QUESTIONS[0], PASSAGES)
    finally:
        bias.assign(kept)
    assert tuple(_ids(tokenizer, answer.text)) == max(scores, key=scores.get)


@pytest.mark.parametrize("kind", ["written", "masked"])
def test_what_stands_beside_a_question_changes_nothing(kind, readers):
    reader = readers[kind]
    asked = [(q, p) for q in QUESTIONS for p in (*PASSAGES, PASSAGES)]
    together = reader.answer_batch(asked)
    for one, pair in zip(together, asked, strict=True):
        alone = reader.answer(*pair)
        assert alone[0] == one[0]
        assert alone[2:] == one[2:]
        assert alone.score == pytest.approx(one.score, abs=1e-4)
        passages = (pair[1],) if isinstance(pair[1], str) else pair[1]
        assert passages[one.passage][one.start : one.stop] == one.text != ""


def test_an_answer_is_the_passage_s_own_text_even_where_the_vocabulary_lacks_it(readers):
    answer = readers["written"].answer("谁", "ＸＹＺ龘龘")
    assert answer.text
    assert answer.text in "ＸＹＺ龘龘"


def test_the_best_span_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for n, m, _ in itertools.product((1, 2, 7), (2, 3, 5), range(20)):
        logs = np.log(_softmax(3 * rng.normal(size=(m, 6))))
        ids = rng.integers(0, 5, n)
        first, last, mean = best_span(logs, ids, 5)
        totals = {
            (a, a + k): sum(logs[i, ids[a + i]] for i in range(k)) + logs[k, 5]
            for k in range(1, m)
            for a in range(n - k + 1)
        }
        best = max(totals.values())
        assert totals[first, last] == pytest.approx(best)
        chosen = [*(logs[i, t] for i, t in enumerate(ids[first:last])), logs[last - first, 5]]
        assert mean == pytest.approx(np.mean(np.exp(chosen)))


def test_windows_vote_for_texts(tokenizer, filler, readers):
    special = special_ids(tokenizer)
    asked, windows = _windows(tokenizer, QUESTIONS[0], PASSAGES)
    votes, silent = {}, {}
    for window in windows:
        row = masked_row(np.array(window), np.array(asked), LAYOUT.answer + 1, special)
        ids = np.array([row], np.int32)
        output = np.asarray(filler.predict_on_batch([ids, 0 * ids]), np.float64)
        logs = np.log(_softmax(output[0, 1 : LAYOUT.answer + 2]))
        first, last, mean = best_span(logs, np.array(window), special.end)
        kept = silent if logs[0].argmax() == special.end else votes
        kept.setdefault(tuple(window[first:last]), []).append(mean)
    votes = votes or silent
    votes = {k: sum(s**2 for s in v) / (sum(v) + 1) for k, v in votes.items()}
    answer = readers["masked"].answer(QUESTIONS[0], PASSAGES)
    assert tuple(_ids(tokenizer, answer.text)) == max(votes, key=votes.get)
    assert answer.score == pytest.approx(max(votes.values()), abs=1e-5)


def test_bad_input_is_an_error(tokenizer, filler, readers):
    reader = readers["written"]
    for passages in ("", [], "  ", ["", " "]):
        with pytest.raises(ValueError, match="no passage with a character"):
            reader.answer("谁", passages)
    with pytest.raises(ValueError, match="rows_at_once"):
        MaskedReader(filler, tokenizer, LAYOUT, rows_at_once=0)
    with pytest.raises(ValueError, match="no masked-word head"):
        MaskedReader(scattered_model(), tokenizer, LAYOUT)
    with pytest.raises(ValueError, match="both sides"):
        Seq2SeqReader(scattered_model(application="lm", with_mlm="linear"), tokenizer, LAYOUT)
    with pytest.raises(ValueError, match="64 positions"):
        Seq2SeqReader(
            scattered_model(family="bert", application="unilm", with_mlm="linear"), tokenizer
        )
    assert reader.answer_batch([]) == []
