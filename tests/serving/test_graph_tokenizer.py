"""The tokenizer inside the graph gives the ids of the tokenizer outside, for every string."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from pathlib import Path

import _tokenizer_cases as cases
import numpy as np
import pytest
from _graph_fuzz import KNOTS, fuzzed
from _sentences import every_sentence
from _sources import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.serving.graph_tokenizer import GraphTokenizer
from bert4kexue.serving.tokenizer_tables import build_tables
from bert4kexue.tokenizers import Tokenizer

tf = pytest.importorskip("tensorflow")

VOCABULARY = {token: i for i, token in enumerate(cases.vocabulary())}
OPTIONS = {
    "cased": {},
    "uncased": {"do_lower_case": True},
    "short words": {"do_lower_case": True, "word_maxlen": 3},
    "long words": {"word_maxlen": 1000},
    "no frame": {"token_start": None, "token_end": None},
    "start only": {"token_end": None},
    "end only": {"do_lower_case": True, "token_start": None},
    "empty start": {"token_start": ""},
    "strange frame": {"token_start": "the", "token_end": "absent"},
    "translated": {"token_translate": {"中": "[MASK]", "the": "国", "##ing": "absent"}},
}
SHIPPED = ROOT / "pretrained" / "roformer_tiny_zh" / "vocab.txt"
# Serves what is in the folder to files, in a process that knows TensorFlow and nothing of ours.
SERVE = """
    import pickle, sys
    import numpy as np
    import tensorflow as tf

    with open(sys.argv[2], "rb") as file:
        texts, seconds = pickle.load(file)
    serve = tf.saved_model.load(sys.argv[1]).signatures
    rows = []
    for i in range(0, len(texts), 512):
        first, second = tf.constant(texts[i : i + 512]), tf.constant(seconds[i : i + 512])
        single, pair = serve["texts"](texts=first), serve["pairs"](texts=first, second=second)
        for result in (single, pair):
            rows.append([result["token_ids"].numpy(), result["segment_ids"].numpy()])
    assert not any(module.startswith("bert4kexue") for module in sys.modules)
    with open(sys.argv[3], "wb") as file:
        pickle.dump(rows, file)
"""
MAXLEN = 24

HOSTILE = st.sampled_from(
    sorted({*"".join(cases.HOSTILE.values()), *cases.CHINESE, "\x01", "\x02"})
)
WORD = st.sampled_from([*cases.WORDS, *KNOTS, "unplaying", "2019201", "[MASK]", "playinging"])
TEXT = st.one_of(
    st.text(max_size=20),
    st.lists(HOSTILE, max_size=20).map("".join),
    st.lists(st.one_of(HOSTILE, WORD), max_size=12).map("".join),
    st.lists(WORD, max_size=6).map(" ".join),
    st.builds(lambda c, k: c * k, HOSTILE, st.integers(190, 210)),
).map(lambda text: text.encode("utf-8", "replace").decode("utf-8"))
ROWS = st.lists(st.tuples(TEXT, TEXT), max_size=5)


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Tokenizer, GraphTokenizer]]:
    tokenizers = {name: Tokenizer(VOCABULARY, **options) for name, options in OPTIONS.items()}
    return {name: (tokenizer, GraphTokenizer(tokenizer)) for name, tokenizer in tokenizers.items()}


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(OPTIONS)), rows=ROWS, data=st.data())
def test_a_row_is_what_encode_gives(made, name, rows, data) -> None:
    tokenizer, graph = made[name]
    paired = data.draw(st.booleans())
    maxlen = data.draw(st.one_of(st.just(10_000), st.integers(4, 24)))
    texts, seconds = [first for first, _ in rows], [second for _, second in rows]
    alone = [
        tokenizer.encode(first, second if paired else None, maxlen=maxlen) for first, second in rows
    ]
    first, second = (tf.constant(column, tf.string) for column in (texts, seconds))
    maxlen = data.draw(st.sampled_from([maxlen, tf.constant(maxlen)]))
    token_ids, segment_ids = graph(first, second if paired else None, maxlen)
    assert token_ids.dtype == segment_ids.dtype == tf.int32
    width = max((len(ids) for ids, _ in alone), default=0)
    assert token_ids.shape == segment_ids.shape == (len(rows), width)
    for (ids, segments), row, segment_row in zip(
        alone, token_ids.numpy().tolist(), segment_ids.numpy().tolist(), strict=True
    ):
        assert row == ids + [0] * (width - len(ids))
        assert segment_row == segments + [0] * (width - len(ids))


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(sorted({*OPTIONS} - {"translated", "strange frame", "empty start"})),
    rows=ROWS,
    paired=st.booleans(),
    maxlen=st.one_of(st.just(10_000), st.integers(4, 24)),
)
def test_offsets_are_those_of_encode_batch(made, name, rows, paired, maxlen) -> None:
    tokenizer, graph = made[name]
    texts, seconds = [first for first, _ in rows], [second for _, second in rows]
    expected = tokenizer.encode_batch(
        texts, seconds if paired else None, maxlen=maxlen, return_offsets=True
    )
    first, second = (tf.constant(column, tf.string) for column in (texts, seconds))
    got = graph(first, second if paired else None, maxlen, return_offsets=True)
    for ours, theirs in zip(got, expected, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("pattern", ["S*E*E", "S*ES*E"])
@pytest.mark.parametrize("truncate_from", ["right", "left", 2, -3])
@pytest.mark.parametrize("name", ["cased", "no frame", "start only"])
def test_pattern_and_place_of_truncation(name, pattern, truncate_from) -> None:
    tokenizer = Tokenizer(VOCABULARY, **OPTIONS[name])
    graph = GraphTokenizer(tokenizer)
    rows = [(a, b) for a, b, *_ in cases.pairs() if b is not None and "\ud800" not in a + b][:40]
    rows = [tuple(t.encode("utf-8", "replace").decode("utf-8") for t in row) for row in rows]
    texts, seconds = zip(*rows, strict=True)
    for maxlen in (6, 9, 14):
        arguments = {"maxlen": maxlen, "pattern": pattern, "truncate_from": truncate_from}
        token_ids, segment_ids = graph(texts, seconds, **arguments)
        for i, row in enumerate(rows):
            ids, segments = tokenizer.encode(*row, **arguments)
            assert token_ids[i].numpy().tolist()[: len(ids)] == ids
            assert segment_ids[i].numpy().tolist()[: len(ids)] == segments
            assert not np.any(token_ids[i][len(ids) :])


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """A SavedModel of a tokenizer alone."""
    module = tf.Module()
    module.graph = GraphTokenizer(tokenizer)
    names = ("token_ids", "segment_ids")

    def texts(texts):
        return dict(zip(names, module.graph(texts), strict=True))

    def pairs(texts, second):
        return dict(zip(names, module.graph(texts, second, maxlen=MAXLEN), strict=True))

    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ("texts", "second")]
    module.texts = tf.function(texts, input_signature=specs[:1], autograph=False)
    module.pairs = tf.function(pairs, input_signature=specs, autograph=False)
    signatures = {"texts": module.texts, "pairs": module.pairs}
    tf.saved_model.save(module, str(folder), signatures=signatures)


def differences(tokenizer: Tokenizer, texts: list[bytes], folder: Path) -> list[bytes]:
    """Texts whose ids differ between the tokenizer and its SavedModel in a fresh process."""
    import pickle

    write(tokenizer, folder / "model")
    seconds = [*texts[1:], b"the end"]
    with open(folder / "texts", "wb") as file:
        pickle.dump((texts, seconds), file)
    paths = [str(folder / name) for name in ("model", "texts", "ids")]
    script = [sys.executable, "-c", textwrap.dedent(SERVE), *paths]
    done = subprocess.run(script, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    with open(folder / "ids", "rb") as file:
        rows = pickle.load(file)
    bad = []
    for i in range(0, len(texts), 512):
        first, second = (
            [t.decode("utf-8", "replace") for t in c[i : i + 512]] for c in (texts, seconds)
        )
        for expected, got in (
            (tokenizer.encode_batch(first), rows.pop(0)),
            (tokenizer.encode_batch(first, second, maxlen=MAXLEN), rows.pop(0)),
        ):
            assert got[0].shape == expected.token_ids.shape
            same = np.all((got[0] == expected.token_ids) & (got[1] == expected.segment_ids), axis=1)
            bad += [texts[i + k] for k in np.flatnonzero(~same)]
    assert not rows
    return bad


def test_a_process_that_knows_only_tensorflow_gives_the_ids_of_fuzzed_strings(tmp_path) -> None:
    vocabulary = Tokenizer(SHIPPED, do_lower_case=True)
    assert not differences(vocabulary, fuzzed(2000, 1, list(vocabulary._token_dict)), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("vocabulary", ["cases", "shipped", "chinese", "english"])
def test_ids_of_a_hundred_thousand_fuzzed_strings(vocabulary, lower, tmp_path, request) -> None:
    if vocabulary in ("cases", "shipped"):
        token_dict = {"cases": VOCABULARY, "shipped": SHIPPED}[vocabulary]
    else:
        name = {"chinese": "google_chinese_21128", "english": "bert_uncased_30522"}[vocabulary]
        token_dict = request.getfixturevalue("data_dir") / "vocab" / f"{name}.vocab.txt"
    tokenizer = Tokenizer(token_dict, do_lower_case=lower)
    assert not differences(tokenizer, fuzzed(100_000, 7, list(tokenizer._token_dict)), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "google_chinese_21128",
        "google_chinese_BBKBQA_variant",
        "roformer_char",
        "simbert_distill_pruned",
        "wonezha",
        "bert_uncased_30522",
        "bert_cased_28996",
        "shipped",
    ],
)
def test_ids_of_ten_thousand_real_sentences(name, data_dir, tmp_path) -> None:
    path = SHIPPED if name == "shipped" else data_dir / "vocab" / f"{name}.vocab.txt"
    sentences = [s.encode() for s in every_sentence(data_dir, per_file=150)]
    sentences = sentences[:: max(1, len(sentences) // 10_000)]
    assert len(sentences) >= 10_000
    assert not differences(
        Tokenizer(path, do_lower_case="cased" not in name or "un" in name), sentences, tmp_path
    )
    files = [file for file in (tmp_path / "model").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 6_000_000


@pytest.mark.parametrize("lower", [False, True])
def test_every_code_point_between_letters(lower) -> None:
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=lower)
    graph = tf.function(GraphTokenizer(tokenizer).__call__, autograph=False)
    points = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    # Far out there is one of each kind in a hundred; nearer, every one is asked.
    points = points[:0x20000] + points[0x20000::97] + points[0xE0000 - 0x800 : 0xE0200 - 0x800]
    texts = [f"a{chr(p)}b{chr(p)}" for p in points]
    assert np.array_equal(graph(tf.constant(texts))[0], tokenizer.encode_batch(texts).token_ids)


def test_marks_that_change_places_and_final_sigmas_show_in_the_ids() -> None:
    marks = ["\u302e", "\U0001d165", "\U0001d16e", "\U0001d157", "\u1b44", "\U00016ff0"]
    letters = [*marks, *"aασς中각ᄀ"]
    tokens = ["[UNK]", "[CLS]", "[SEP]", *letters, *("##" + c for c in letters)]
    tokenizer = Tokenizer({t: i for i, t in enumerate(tokens)}, do_lower_case=True)
    draw = random.Random(3)
    near = [*letters, *"ΑΣΣΣ' .\x01\x00\u0301\u0323\u00ad\u0cc0\u0c48", "\U0001d15e", "\U0001d160"]
    texts = ["".join(draw.choices(near, k=draw.randint(1, 8))) for _ in range(3000)]
    expected = tokenizer.encode_batch(texts, return_offsets=True)
    got = GraphTokenizer(tokenizer)(texts, return_offsets=True)
    for ours, theirs in zip(got, expected, strict=True):
        assert np.array_equal(ours, theirs)
    ends, begins = tokenizer.token_to_id("##ς"), tokenizer.token_to_id("##σ")
    assert np.any(expected.token_ids == ends)
    assert np.any(expected.token_ids == begins)
    given = [tokenizer.encode(text)[0] for text in ("a\U0001d16d\u302e", "a\u302e\U0001d165")]
    assert tokenizer.token_to_id("##\U0001d165") == given[1][2]  # the lower class goes first


def test_an_empty_batch_and_empty_strings() -> None:
    graph = GraphTokenizer(Tokenizer(VOCABULARY))
    for arguments in ([[]], [[], []], [[], [], 8]):
        assert [tensor.shape for tensor in graph(*arguments)] == [(0, 0), (0, 0)]
    assert graph(["", " "])[0].numpy().tolist() == [[2, 3], [2, 3]]
    assert graph([""], [""])[1].numpy().tolist() == [[0, 0, 1]]


def test_bytes_that_are_not_utf8_are_read_as_the_replacement_character() -> None:
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True)
    texts = [
        b"a\xffb",
        b"\xe4\xb8",
        b"\xed\xa0\x80the",
        b"\xc0\x80",
        b"the\x00m",
        b"\xf5" * 9,
        b"\xe4a",
    ]
    expected = tokenizer.encode_batch([t.decode("utf-8", "replace") for t in texts])
    assert np.array_equal(GraphTokenizer(tokenizer)(texts)[0], expected.token_ids)


@pytest.mark.parametrize("unit", ["the modeling 中国。", "x", "각"])
def test_a_megabyte_of_text(unit) -> None:
    _check_long_text(unit * (1_000_000 // len(unit.encode())))


@pytest.mark.parametrize("unit", ["é", "Σ", "\u302e\U0001d165"])
def test_long_runs_of_what_depends_on_its_neighbours(unit) -> None:
    _check_long_text(unit * 10_000)


def _check_long_text(text: str) -> None:
    tokenizer = Tokenizer(VOCABULARY, do_lower_case=True)
    graph = GraphTokenizer(tokenizer)
    assert np.array_equal(graph([text, "the"])[0], tokenizer.encode_batch([text, "the"]).token_ids)
    assert graph([text], maxlen=512)[0].shape[1] == len(tokenizer.encode(text, maxlen=512)[0])


def test_a_text_alone_is_as_in_a_batch() -> None:
    graph = tf.function(GraphTokenizer(Tokenizer(VOCABULARY, do_lower_case=True)), autograph=False)
    texts = [text.encode("utf-8", "replace") for text in cases.texts()]
    together = graph(tf.constant(texts))[0].numpy()
    for text, row in list(zip(texts, together, strict=True))[::9]:
        alone = graph(tf.constant([text]))[0].numpy()[0]
        assert np.array_equal(row[: len(alone)], alone)
        assert not row[len(alone) :].any()


def test_the_vocabulary_may_be_of_any_depth() -> None:
    vocabulary = {
        "[UNK]": 0,
        "[CLS]": 1,
        "[SEP]": 2,
        "a": 3,
        "##a": 4,
        "a" * 300: 5,
        "##" + "a" * 9: 6,
    }
    tokenizer = Tokenizer(vocabulary)
    texts = ["a" * n for n in (*range(1, 40), *range(190, 202), 299, 300, 301)]
    assert np.array_equal(GraphTokenizer(tokenizer)(texts)[0], tokenizer.encode_batch(texts)[0])


def test_a_vocabulary_of_characters_alone_and_one_of_nothing() -> None:
    for vocabulary in ({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "中": 3}, {"[UNK]": 7}):
        tokenizer = Tokenizer(vocabulary, do_lower_case=True)
        texts = ["中", "中a国 b", ""]
        assert np.array_equal(GraphTokenizer(tokenizer)(texts)[0], tokenizer.encode_batch(texts)[0])


def test_too_small_a_maxlen_is_refused() -> None:
    graph = GraphTokenizer(Tokenizer(VOCABULARY))
    with pytest.raises(ValueError, match=r"maxlen=0 is too small.*larger"):
        graph(["the"], maxlen=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too small"):
        graph(["the"], maxlen=tf.constant(0))
    assert graph(["the"], maxlen=1)[0].numpy().tolist() == [[3]]


def test_a_vocabulary_without_unknown_token_says_so() -> None:
    graph = GraphTokenizer(Tokenizer({"[CLS]": 0, "[SEP]": 1, "a": 2}))
    assert graph(["a"])[0].numpy().tolist() == [[0, 2, 1]]
    for text in ("b", "中"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"no \[UNK\]"):
            graph([text])


class _Letters(Tokenizer):
    def _tokenize(self, text, pre_tokenize=True):
        return list(text)


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (Tokenizer(VOCABULARY, pre_tokenize=str.split), "Python function .*jieba.*send token_ids"),
        (_Letters(VOCABULARY), "_Letters has its own _tokenize"),
        (Tokenizer(VOCABULARY, token_translate={"zzz": "国"}), r"\['zzz'\]"),
    ],
)
def test_what_a_graph_cannot_do_is_refused_with_the_reason(tokenizer, words) -> None:
    with pytest.raises(ValueError, match=words):
        GraphTokenizer(tokenizer)


def test_it_is_a_module_that_tracks_what_it_needs() -> None:
    graph = GraphTokenizer(Tokenizer(VOCABULARY))
    assert isinstance(graph, tf.Module)
    assert isinstance(graph, GraphTokenizer)


def test_the_tables_of_the_shipped_vocabulary_are_small() -> None:
    for lower in (False, True):
        assert build_tables(Tokenizer(SHIPPED, do_lower_case=lower)).nbytes < 2_500_000
