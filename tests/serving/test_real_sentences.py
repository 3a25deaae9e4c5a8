"""Every signature, both forms, on real sentences, served by a process that imports only TensorFlow.

What it must answer is computed without the signatures: vectors by `SentenceEncoder`, the rest from
the Keras model's outputs in NumPy, one row after the other. Where two candidates are closer than
1e-5 in the Keras model, either may be served, and its score is compared all the same.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from _graph_fuzz import fuzzed
from _spans import spans_by_hand

from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.models import build_transformer_model
from bert4kexue.models.prediction import SortedPredictor
from bert4kexue.serving import export_service, signatures
from bert4kexue.text.wordpiece import Tokenizer

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "pretrained" / "roformer_tiny_zh"
MAXLEN, BATCH, TOP = 128, 100, 3
LABELS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
KINDS = ["甲", "乙", "丙"]
CLOSE = 1e-5
IDS = ("token_ids", "segment_ids")
SERVE = """
import sys
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures
given = np.load(sys.argv[2])
found = {}
for key in given.files:
    signature, _, name = key.partition("/")
    found.setdefault(signature, {})[name] = given[key]
answers = {}
batch = int(sys.argv[4])
for signature, columns in found.items():
    for start in range(0, len(next(iter(columns.values()))), batch):
        rows = {name: column[start : start + batch] for name, column in columns.items()}
        for name in [name for name in rows if name.endswith("token_ids")]:
            width = int((rows[name] != 0).sum(1).max())
            for part in (name, name.replace("token_ids", "segment_ids")):
                rows[part] = rows[part][:, :width]
        rows = {name: tf.constant(part) for name, part in rows.items()}
        for name, value in served[signature](**rows).items():
            value = value.numpy()
            if value.dtype == object:
                value = np.char.decode(value.astype(bytes), "utf-8")
            answers[f"{signature}/{name}/{start // batch}"] = value
assert not any(name.split(".")[0] in ("bert4kexue", "jieba") for name in sys.modules)
np.savez(sys.argv[3], **answers)
"""

SERVE_BYTES = """
import pickle, sys
import numpy as np
import tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["vectors_text"]
with open(sys.argv[2], "rb") as file:
    contents = pickle.load(file)
step = int(sys.argv[4])
parts = (tf.constant(contents[i : i + step]) for i in range(0, len(contents), step))
found = [served(text=part)["vectors"].numpy() for part in parts]
assert not any(name.split(".")[0] in ("bert4kexue", "jieba") for name in sys.modules)
np.save(sys.argv[3], np.concatenate(found))
"""


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(SHIPPED / "vocab.txt", do_lower_case=True)


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(7)
    pooled = build_transformer_model(SHIPPED, model="roformer", with_pool="linear")
    hidden = build_transformer_model(SHIPPED, model="roformer")

    def head(model, units, activation=None):
        layer = keras.layers.Dense(units, activation)
        return keras.Model(model.inputs, layer(model.outputs[0]))

    return {
        "pooled": pooled,
        "words": build_transformer_model(SHIPPED, model="roformer", with_mlm=True),
        "kind": head(pooled, len(KINDS), "softmax"),
        "tags": head(hidden, len(LABELS), "softmax"),
        "ends": head(hidden, 2),
        "hidden": hidden,
    }


@pytest.fixture(scope="module")
def folder(models, tokenizer, tmp_path_factory):
    special = tuple(tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    tasks = {
        "vectors": signatures.sentence_vectors(models["pooled"]),
        "cosine": signatures.cosine(models["pooled"]),
        "kind": signatures.classification(models["kind"], KINDS),
        "tags": signatures.tagging(models["tags"], LABELS, special_ids=special),
        "fill": signatures.filling(models["words"], tokenizer, top=TOP),
        "point": signatures.pointer(models["ends"], special_ids=special),
        "tokens": signatures.token_vectors(models["hidden"]),
    }
    path = tmp_path_factory.mktemp("real") / "m"
    return export_service(tasks, path, tokenizer=tokenizer, maxlen=MAXLEN)


def test_a_hundred_sentences(models, tokenizer, folder, tmp_path):
    path = ROOT / "examples" / "data" / "demo_corpus.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if line.strip()]
    facts = (ROOT / "examples" / "data" / "demo_questions.tsv").read_text(encoding="utf-8")
    texts += [line.split("\t")[0] for line in facts.splitlines()]
    check_all(models, tokenizer, folder, tmp_path, texts[:100])


@pytest.mark.long
def test_ten_thousand_sentences(models, tokenizer, folder, tmp_path):
    root = os.environ.get("BERT4KEXUE_DATA")
    if not root:
        pytest.skip("BERT4KEXUE_DATA is not set: this test reads the data folder")
    path = Path(root, "cnsd_sts_b", "cnsd-sts-train.txt")
    lines = [line.split("||") for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [text for parts in lines if len(parts) == 4 for text in parts[1:3]][:10000]
    assert len(texts) == 10000
    check_all(models, tokenizer, folder, tmp_path, texts)


@pytest.mark.long
def test_vectors_of_a_hundred_thousand_fuzzed_strings(models, tokenizer, folder, tmp_path):
    """Bytes of every kind, a tenth of them no UTF-8, through the string form."""
    contents = sorted(fuzzed(100_000, 11, list(tokenizer._token_dict)), key=len)
    with open(tmp_path / "given", "wb") as file:
        pickle.dump(contents, file)
    paths = [str(path) for path in (folder, tmp_path / "given", tmp_path / "found.npy")]
    subprocess.run([sys.executable, "-c", SERVE_BYTES, *paths, "256"], check=True)
    found = np.load(tmp_path / "found.npy")
    texts = [content.decode("utf-8", "replace") for content in contents]
    rows = []
    for start in range(0, len(texts), 512):
        ids = tokenizer.encode_batch(texts[start : start + 512], maxlen=MAXLEN).token_ids
        rows += [row[: np.flatnonzero(row)[-1] + 1] for row in ids]
    vectors = SortedPredictor(models["pooled"]).predict(rows)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert found.shape == vectors.shape == (100_000, 256)
    assert np.abs(found - vectors).max() <= CLOSE


def check_all(models, tokenizer, folder, tmp_path, texts):
    texts = sorted(texts, key=len)
    others = [*texts[1:], texts[0]]
    middles = [len(text) // 2 for text in texts]
    halves = [(text[:at], text[at + 1 :]) for text, at in zip(texts, middles, strict=True)]
    one, two, pair = (
        tokenizer.encode_batch(first, second, maxlen=MAXLEN, return_offsets=True)
        for first, second in ((texts, None), (others, None), (texts, others))
    )
    masked = masked_ids(tokenizer, halves)
    given = {f"fill/{name}": part for name, part in zip(IDS, masked, strict=True)}
    given["fill_text/text"] = np.array(["[MASK]".join(half) for half in halves])
    for name in ("vectors", "kind", "tags", "tokens", "cosine", "point"):
        batch = pair if name == "point" else one
        given |= {f"{name}/{ids}": part for ids, part in zip(IDS, batch, strict=False)}
        given[f"{name}_text/text"] = np.array(texts)
    given |= {f"cosine/other_{ids}": part for ids, part in zip(IDS, two, strict=False)}
    given |= {f"{name}_text/second": np.array(others) for name in ("cosine", "point")}
    np.savez(tmp_path / "given.npz", **given)
    paths = [str(path) for path in (folder, tmp_path / "given.npz", tmp_path / "found.npz")]
    subprocess.run([sys.executable, "-c", SERVE, *paths, str(BATCH)], check=True)
    encoder = SentenceEncoder(models["pooled"], tokenizer, maxlen=MAXLEN, long="cut")
    vectors, other_vectors = encoder.encode(texts), encoder.encode(others)
    cosines = np.sum(vectors * other_vectors, axis=1)
    worst = {key.partition("/")[0]: 0.0 for key in given}
    with np.load(tmp_path / "found.npz") as found:
        for k, start in enumerate(range(0, len(texts), BATCH)):
            rows = slice(start, start + BATCH)
            singles, pairs, holes = (cut(batch, rows) for batch in (one, pair, (*masked, None)))
            outputs = {
                name: models[name].predict_on_batch(list(batch[:2]))
                for name, batch in (
                    *((name, singles) for name in ("kind", "tags", "hidden")),
                    ("ends", pairs),
                    ("words", holes),
                )
            }
            for form in ("", "_text"):

                def served(name, *parts, form=form, k=k):
                    return [found[f"{name}{form}/{part}/{k}"] for part in parts]

                ids, hidden = served("tokens", "ids", "token_vectors")
                assert np.array_equal(ids, singles[0])
                differences = {
                    "tokens": np.abs(hidden - outputs["hidden"]),
                    "vectors": np.abs(served("vectors", "vectors")[0] - vectors[rows]),
                    "cosine": np.abs(served("cosine", "cosine")[0] - cosines[rows]),
                    "kind": kinds_differ(
                        outputs["kind"], *served("kind", "label", "probabilities")
                    ),
                    "tags": tags_differ(
                        outputs["tags"],
                        singles,
                        form,
                        tokenizer,
                        *served("tags", "spans", "labels", "scores"),
                    ),
                    "fill": fills_differ(
                        outputs["words"],
                        holes[0],
                        tokenizer,
                        *served("fill", "tokens", "probabilities", "positions"),
                    ),
                    "point": points_differ(
                        outputs["ends"], pairs, form, tokenizer, *served("point", "spans", "scores")
                    ),
                }
                for name, difference in differences.items():
                    worst[name + form] = max(worst[name + form], float(np.max(difference)))
    print(f"{len(texts)} sentences:", {name: f"{value:.1e}" for name, value in worst.items()})
    assert len(worst) == 14
    assert max(worst.values()) <= CLOSE, worst


def masked_ids(tokenizer, halves):
    """Token and segment ids of the texts with a mask between their halves."""
    mask, end = (tokenizer.token_to_id(token) for token in ("[MASK]", "[SEP]"))
    rows = []
    for left, right in halves:
        left, right = tokenizer.encode(left)[0], tokenizer.encode(right)[0]
        rows.append([*left[:-1], mask, *right[1:-1], end])
    ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return ids, np.zeros_like(ids)


def cut(batch, rows):
    """Some rows, as narrow as they can be."""
    width = int((batch[0][rows] != 0).sum(1).max())
    return tuple(None if part is None else part[rows, :width] for part in batch)


def is_text(token_ids, tokenizer):
    special = [0, *(tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))]
    return ~np.isin(token_ids, special)


def kinds_differ(expected, labels, probabilities):
    chosen = expected[np.arange(len(labels)), [KINDS.index(label) for label in labels]]
    assert np.all(chosen >= expected.max(1) - CLOSE)
    return np.abs(probabilities - expected)


def tags_differ(expected, batch, form, tokenizer, spans, labels, scores):
    """The largest difference of a score; spans and their labels must be the same."""
    token_ids, _, offsets = batch
    text = is_text(token_ids, tokenizer)
    worst, unclear = 0.0, 0
    for i, probabilities in enumerate(expected):
        second, best = np.sort(probabilities[text[i]], axis=-1)[:, -2:].T
        if np.any(best - second < CLOSE):
            unclear += 1
            continue
        names = [LABELS[k] for k in probabilities.argmax(-1)]
        names = [name if real else "O" for name, real in zip(names, text[i], strict=True)]
        wanted = spans_by_hand(names)
        places = [
            (offsets[i, first, 0], offsets[i, stop - 1, 1]) if form else (first, stop)
            for first, stop, _ in wanted
        ]
        count = len(wanted)
        assert [tuple(span) for span in spans[i, :count].tolist()] == places
        assert labels[i, :count].tolist() == [kind for _, _, kind in wanted]
        assert np.all(spans[i, count:] == -1)
        means = [probabilities[first:stop].max(-1).mean() for first, stop, _ in wanted]
        worst = max(worst, np.abs(scores[i, :count] - means).max(initial=0.0))
    assert unclear <= 1 + len(expected) // 50
    return worst


def fills_differ(expected, token_ids, tokenizer, tokens, probabilities, positions):
    rows, places = np.nonzero(token_ids == tokenizer.token_to_id("[MASK]"))
    assert np.array_equal(rows, np.arange(len(token_ids)))
    assert np.array_equal(positions, places[:, None])
    at_mask = expected[rows, places]
    best = -np.sort(-at_mask, axis=1)[:, :TOP]
    own = [
        [at_mask[i, tokenizer.token_to_id(token)] for token in row]
        for i, row in enumerate(tokens[:, 0].tolist())
    ]
    return max(np.abs(probabilities[:, 0] - best).max(), np.abs(probabilities[:, 0] - own).max())


def points_differ(expected, batch, form, tokenizer, spans, scores):
    """Differences of the served score and of the served span's own from the best of all spans."""
    token_ids, segment_ids, offsets = batch
    real = is_text(token_ids, tokenizer) & (segment_ids == 1)
    worst = 0.0
    for i, (start, end) in enumerate(np.moveaxis(expected, -1, 1)):
        places = np.nonzero(real[i])[0]
        sums = {
            (s, e + 1): start[s] + end[e] for s in places for e in places[places >= s] if e - s < 64
        }
        if form:
            sums = {
                (offsets[i, s, 0], offsets[i, e - 1, 1]): total for (s, e), total in sums.items()
            }
        best = max(sums.values(), default=0.0)
        own = sums[tuple(spans[i, 0].tolist())] if sums else 0.0
        worst = max(worst, abs(scores[i, 0] - best), abs(own - best))
    return worst
