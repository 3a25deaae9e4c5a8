"""Versions for TF Serving: both forms of every task, what lies beside them, and bad input."""

from __future__ import annotations

import errno
import json

import keras
import numpy as np
import pytest
from _reference import random_checkpoint
from _spans import spans_by_hand
from _tiny import CONFIG

from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.models import build_transformer_model
from bert4kexue.serving import check_export, export_service, service
from bert4kexue.serving.signatures import (
    classification,
    cosine,
    filling,
    pointer,
    sentence_vectors,
    tagging,
)
from bert4kexue.text.wordpiece import Tokenizer

tf = pytest.importorskip("tensorflow")
func_graph = pytest.importorskip("tensorflow.python.framework.func_graph")
loader_impl = pytest.importorskip("tensorflow.python.saved_model.loader_impl")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports need TensorFlow"
)

TOKENS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "mask", "a", "##b", "b"),
    *"今天气很好不雨下，。",
]
TEXTS = ["今天天气很好。", "下雨", "", "ab 好，xyz"]
OTHERS = ["天气", "今天不下雨", "好", ""]


@pytest.fixture(scope="module")
def tokenizer():
    tokens = TOKENS + [f"[unused{i}]" for i in range(CONFIG["vocab_size"] - len(TOKENS))]
    return Tokenizer({token: i for i, token in enumerate(tokens)}, do_lower_case=True)


@pytest.fixture(scope="module")
def model():
    checkpoint = random_checkpoint(CONFIG, "roformer", seed=1)
    return build_transformer_model(
        CONFIG, checkpoint, "roformer", with_pool="linear", with_mlm=True
    )


@pytest.fixture(scope="module")
def tasks(model, tokenizer):
    keras.utils.set_random_seed(3)
    hidden = model.get_layer("Transformer-1-FeedForward-Norm").output
    special = (2, 3)
    tagger = keras.Model(model.inputs, keras.layers.Dense(3, activation="softmax")(hidden))
    kind = keras.Model(model.inputs, keras.layers.Dense(2)(model.outputs[0]))
    ends = keras.Model(model.inputs, keras.layers.Dense(2)(hidden))
    return {
        "vectors": sentence_vectors(model),
        "cosine": cosine(model),
        "fill": filling(model, tokenizer, top=3),
        "tags": tagging(tagger, ["O", "B-X", "I-X"], special_ids=special),
        "kind": classification(kind, ["好", "坏"], logits=True),
        "point": pointer(ends, special_ids=special),
    }


@pytest.fixture(scope="module")
def folder(tasks, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "all"
    return export_service(tasks, path, tokenizer=tokenizer, maxlen=20, sentences=[*TEXTS, "[MASK]"])


@pytest.fixture(scope="module")
def served(folder):
    loaded = tf.saved_model.load(str(folder))
    return loaded.signatures


def strings(texts):
    return tf.constant(texts, tf.string)


def test_both_forms_give_the_vectors_of_encode(served, model, tokenizer):
    encoder = SentenceEncoder(model, tokenizer)
    expected = encoder.encode(TEXTS)
    batch = tokenizer.encode_batch(TEXTS)
    ids = served["vectors"](
        token_ids=tf.constant(batch.token_ids), segment_ids=tf.constant(batch.segment_ids)
    )["vectors"]
    np.testing.assert_allclose(ids, expected, atol=1e-5)
    np.testing.assert_allclose(
        served["vectors_text"](text=strings(TEXTS))["vectors"], expected, atol=1e-5
    )
    both = served["cosine_text"](text=strings(TEXTS), second=strings(OTHERS))["cosine"]
    pairs = np.sum(expected * encoder.encode(OTHERS), axis=1)
    np.testing.assert_allclose(both, pairs, atol=1e-5)


def test_a_sentence_alone_equals_it_in_a_batch(served, tokenizer):
    one, two, pair = (
        tokenizer.encode_batch(first, second)
        for first, second in ((TEXTS, None), (OTHERS, None), (TEXTS, OTHERS))
    )
    for name, serve in served.items():
        specs = serve.structured_input_signature[1]
        own = pair if name.startswith("point") else one
        known = {"text": TEXTS, "second": OTHERS, "token_ids": own[0], "segment_ids": own[1]}
        known |= {"other_token_ids": two[0], "other_segment_ids": two[1]}
        given = {key: tf.constant(known[key]) for key in specs}
        together = {key: value.numpy() for key, value in serve(**given).items()}
        for row in range(len(TEXTS)):
            alone = serve(**{key: value[row : row + 1] for key, value in given.items()})
            for key, value in alone.items():
                width = tuple(slice(n) for n in value.shape[1:])
                both = value.numpy(), together[key][(slice(row, row + 1), *width)]
                if value.dtype.is_floating:
                    np.testing.assert_allclose(*both, atol=1e-5, err_msg=f"{name}.{key}")
                else:
                    np.testing.assert_array_equal(*both, err_msg=f"{name}.{key}")


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),
        (1, 512),
        (3, 17),
        (256, 1),
        (256, 33),
        pytest.param((256, 512), marks=pytest.mark.long),  # 3 GB
    ],
)
def test_any_batch_and_length_is_served_and_nothing_is_traced(served, model, shape, monkeypatch):
    ids = np.random.default_rng(shape[0]).integers(5, 30, shape).astype("int32")
    segments = np.zeros_like(ids)
    pooled = model.predict([ids, segments], batch_size=32, verbose=0)[0]

    def refuse(*_, **__):
        raise AssertionError("a signature traces its graph again")

    monkeypatch.setattr(func_graph, "func_graph_from_py_func", refuse)
    given = {"token_ids": tf.constant(ids), "segment_ids": tf.constant(segments)}
    got = served["vectors"](**given)["vectors"]
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    if shape != (256, 512):
        for name in ("fill", "tags", "kind", "point"):
            assert all(len(value) == shape[0] for value in served[name](**given).values())
    others = {f"other_{key}": value for key, value in given.items()}
    np.testing.assert_allclose(served["cosine"](**given, **others)["cosine"], 1, atol=1e-5)
    text = tf.constant(["今天" * (shape[1] // 2)] * shape[0])
    for name, serve in served.items():
        if name.endswith("_text"):
            second = {"second": text} if "second" in serve.structured_input_signature[1] else {}
            assert all(len(value) == shape[0] for value in serve(text=text, **second).values())


def test_masks_written_in_a_text_are_filled(served, model, tokenizer):
    found = served["fill_text"](text=strings(["今天[MASK]气[mask]好", "下雨"]))
    ids = tokenizer.encode("今天气好")[0]
    ids = [*ids[:3], 4, ids[3], 4, *ids[4:]]  # 今 天 [MASK] 气 [MASK] 好
    expected = model.predict([np.array([ids]), np.zeros((1, len(ids)))], verbose=0)[1][0]
    assert found["positions"].numpy().tolist() == [[3, 5], [-1, -1]]
    for k, place in enumerate([3, 5]):
        best = np.argsort(-expected[place])[:3]
        tokens = [token.decode() for token in found["tokens"].numpy()[0, k]]
        assert tokens == [tokenizer.id_to_token(int(i)) for i in best]
        np.testing.assert_allclose(
            found["probabilities"].numpy()[0, k], expected[place][best], atol=1e-5
        )
    assert set(found["tokens"].numpy()[1].ravel()) == {b""}


def test_spans_are_those_of_the_labels_read_one_by_one():
    labels = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    given = keras.Input((None,), dtype="float32")
    tagger = keras.Model(given, keras.ops.one_hot(keras.ops.cast(given - 1, "int32"), 5))
    task = tagging(tagger, labels)
    draws = np.random.default_rng(0).integers(1, 6, (50, 9)).astype("int32")
    spans, names, scores = task.answer(
        lambda ids, _: tagger(ids), tf.constant(draws), tf.zeros((50, 9), tf.int32)
    )
    for row, places, kinds in zip(draws, spans.numpy(), names.numpy(), strict=True):
        got = [
            (s, e, k.decode()) for (s, e), k in zip(places.tolist(), kinds, strict=True) if s >= 0
        ]
        assert got == spans_by_hand([labels[i - 1] for i in row])
    np.testing.assert_allclose(scores.numpy()[names.numpy() != b""], 1, atol=1e-6)


def test_spans_of_strings_are_characters(served, tokenizer):
    batch = tokenizer.encode_batch(TEXTS, return_offsets=True)
    ids = served["tags"](
        token_ids=tf.constant(batch.token_ids), segment_ids=tf.constant(batch.segment_ids)
    )
    text = served["tags_text"](text=strings(TEXTS))
    tokens, characters = ids["spans"].numpy(), text["spans"].numpy()
    assert tokens.shape == characters.shape
    assert (tokens[..., 0] >= 0).any()
    for row, k in zip(*np.nonzero(tokens[..., 0] >= 0), strict=True):
        first, last = tokens[row, k]
        start, end = batch.offsets[row, first, 0], batch.offsets[row, last - 1, 1]
        assert characters[row, k].tolist() == [start, end]


def test_a_pointer_finds_the_best_span_of_the_second_text(served, tasks, tokenizer):
    batch = tokenizer.encode_batch(TEXTS, OTHERS)
    ids = {"token_ids": batch.token_ids, "segment_ids": batch.segment_ids}
    found = served["point"](**{k: tf.constant(v) for k, v in ids.items()})["spans"].numpy()
    scores = tasks["point"].model.predict(list(ids.values()), verbose=0)
    for row in range(len(TEXTS)):
        real = (batch.segment_ids[row] == 1) & ~np.isin(batch.token_ids[row], [0, 2, 3])
        places = np.nonzero(real)[0]
        sums = {
            (s, e + 1): scores[row, s, 0] + scores[row, e, 1]
            for s in places
            for e in places[places >= s]
        }
        best = max(sums, key=sums.get) if sums else (-1, -1)
        assert tuple(found[row, 0]) == best


def test_labels_vocabulary_card_and_warm_up_lie_beside(folder, tokenizer):
    vocabulary = (folder / "assets" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert vocabulary[:-1] == list(tokenizer._token_dict)
    assert (folder / "assets" / "labels_kind.txt").read_text(encoding="utf-8") == "好\n坏\n"
    told = json.loads((folder / "assets.extra" / "export.json").read_text(encoding="utf-8"))
    assert told["change_from_float32"]["vectors.vectors"] <= 1e-5
    assert "`kind_text`" in (folder / "assets.extra" / "model_card.md").read_text(encoding="utf-8")


def test_a_fresh_process_gives_what_was_recorded_and_damage_is_named(folder):
    assert max(check_export(folder.parent).values()) <= 1e-5
    (folder / "assets" / "more.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match=r"assets/more\.txt was added"):
        check_export(folder)
    (folder / "assets" / "more.txt").unlink()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_other_weights_change_little_and_say_how_much(model, tokenizer, tmp_path, precision):
    tasks = {"vectors": sentence_vectors(model)}
    before = [weight.copy() for weight in model.get_weights()]
    path = export_service(tasks, tmp_path / "m", tokenizer=tokenizer, precision=precision)
    told = json.loads((path / "assets.extra" / "export.json").read_text(encoding="utf-8"))
    assert 0 < told["change_from_float32"]["vectors.vectors"] < 0.05
    for one, two in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_versions_count_up_and_one_that_exists_is_left_alone(model, tmp_path):
    tasks = {"vectors": sentence_vectors(model)}
    (tmp_path / "m" / "4").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_service(tasks, tmp_path / "m", version=4)
    path = export_service(tasks, tmp_path / "m", inputs="bert4keras")
    assert path.name == "5"
    (graph,) = loader_impl.parse_saved_model(str(path)).meta_graphs
    for name in ("vectors", "serving_default"):
        inputs = graph.signature_def[name].inputs
        assert {k: tf.as_dtype(v.dtype).name for k, v in inputs.items()} == {
            "Input-Token": "float32",
            "Input-Segment": "float32",
        }
    served = tf.saved_model.load(str(path)).signatures
    ids = np.array([[2, 12, 13, 3]])
    given = {"Input-Token": tf.constant(ids, tf.float32), "Input-Segment": tf.zeros(ids.shape)}
    pooled = model.predict([ids, np.zeros_like(ids)], verbose=0)[0]
    np.testing.assert_allclose(served["serving_default"](**given)["pooled"], pooled, atol=1e-5)
    assert check_export(path)


def test_no_space_left_leaves_nothing(model, tmp_path, monkeypatch):
    tasks = {"vectors": sentence_vectors(model)}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(service, "write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        export_service(tasks, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []

    def exhausted(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", exhausted)
    with pytest.raises(OSError, match=r"could not write.*No space left"):
        export_service(tasks, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_ids_outside_the_vocabulary_are_an_error_with_a_remedy(served):
    bad = tf.constant([[2, 30, 3]])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="0 to 29: is the tokenizer of another"
    ):
        served["vectors"](token_ids=bad, segment_ids=tf.zeros_like(bad))
    good = tf.constant([[2, 5, 3]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="segment_ids must be 0 to 1"):
        served["vectors"](token_ids=good, segment_ids=good)


def test_a_lone_pair_is_an_error(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one pair a row"):
        served["cosine_text"](text=strings(["好", "不"]), second=strings(["好"]))
    with pytest.raises(TypeError, match="second"):
        served["cosine_text"](text=strings(["好"]))


def test_bytes_that_are_not_utf8_are_dropped(served):
    bad = served["vectors_text"](text=strings([b"\xff\xe4\xbb\x8a\xff\xe5\xa4\xa9"]))["vectors"]
    good = served["vectors_text"](text=strings(["今天"]))["vectors"]
    np.testing.assert_array_equal(bad, good)


def test_a_megabyte_of_text_is_cut_to_maxlen(served, tokenizer):
    long = "今天下雨" * (2**20 // 12)
    got = served["vectors_text"](text=strings([long]))["vectors"]
    same = served["vectors_text"](text=strings([long[:40]]))["vectors"]
    np.testing.assert_allclose(got, same, atol=1e-6)


def test_an_empty_batch_gives_empty_answers(served):
    empty = tf.zeros((0,), tf.string)
    assert served["vectors_text"](text=empty)["vectors"].shape == (0, CONFIG["hidden_size"])
    assert served["tags_text"](text=empty)["spans"].shape[0] == 0
    assert served["kind_text"](text=empty)["label"].shape == (0,)


def larger_tokenizer():
    return Tokenizer({f"u{i}": i for i in range(CONFIG["vocab_size"] + 1)} | {"[UNK]": 0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m, t: classification(m, ["a"]), "16 scores and 1 labels"),
        (lambda m, t: classification(m, ["\ud800", *"abcdefghijklmno"]), "lone surrogates"),
        (lambda m, t: pointer(m), "start and end scores"),
        (lambda m, t: tagging(m, ["x"] * 30), "must be different"),
        (lambda m, t: filling(m, t, top=31), "top must be 1 to 30"),
        (lambda m, t: export(m, "a_text"), "cannot name a task"),
        (lambda m, t: export_service({}, "x"), "at least one task"),
        (lambda m, t: export(m, version=0), "1 or more"),
        (lambda m, t: export(m, tokenizer=larger_tokenizer()), r"ids to 30, and .* 0 to 29: give"),
        (lambda m, t: export(m, tokenizer=t, maxlen=0), "maxlen=0 is too small"),
        (lambda m, t: export(bert(), tokenizer=t, maxlen=33), "33 is too large.* 32 positions"),
        (lambda m, t: export(m, tokenizer=t, sentences=[]), "give at least one"),
        (lambda m, t: export(m, tokenizer=t, sentences="今天"), r"a list of strings.*\['今天'\]"),
        (lambda m, t: export(m, tokenizer=t, sentences=["好", "a\ud800"]), r"sentences\[1\] must"),
        (lambda m, t: export(m, tokenizer=t, sentences=[b"\xff"]), r"sentences\[0\] must"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    model, tokenizer, make, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        make(model, tokenizer)
    assert list(tmp_path.iterdir()) == []


def export(model, name="a", **options):
    return export_service({name: sentence_vectors(model)}, "x", **options)


def bert():
    return build_transformer_model(CONFIG, model="bert", with_pool="linear")


def test_a_file_in_the_way_stays(model, tmp_path):
    (tmp_path / "m").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match="is a file: choose another name"):
        export_service({"vectors": sentence_vectors(model)}, tmp_path / "m")
    assert (tmp_path / "m").read_text(encoding="utf-8") == "mine"


def test_an_export_tried_on_a_megabyte_is_cut_as_the_server_cuts(model, tokenizer, tmp_path):
    path = export_service(
        {"vectors": sentence_vectors(model)},
        tmp_path / "m",
        tokenizer=tokenizer,
        sentences=["今天下雨" * (2**20 // 12)],
    )
    with np.load(path / "assets.extra" / "recorded.npz") as recorded:
        assert recorded["vectors/in/token_ids"].shape == (1, 512)
        np.testing.assert_allclose(
            recorded["vectors_text/out/vectors"], recorded["vectors/out/vectors"], atol=1e-6
        )
