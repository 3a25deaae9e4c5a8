"""Constrained generation in a fresh process with TensorFlow alone, against Python; bad input."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tiny_models import tiny_model, tiny_tokenizer

from bert4kexue.decoding import LookAhead, PrefixTree, TreeConstraint, vocabulary_hash
from bert4kexue.models.generation import Generator
from bert4kexue.serving import export_saved_model
from bert4kexue.serving.signatures.generation import constrained_generation

pytest.importorskip("tensorflow")

SEP, TOP = 3, 4
SERVE = """
    import sys
    import numpy as np
    import tensorflow as tf

    serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
    with np.load(sys.argv[2]) as file:
        found = serve(**{name: tf.constant(file[name]) for name in file.files})
    assert "bert4kexue" not in sys.modules
    arrays = {name: value.numpy() for name, value in found.items()}
    arrays["values"] = np.char.decode(arrays["values"].astype("S"), "utf-8")
    np.savez(sys.argv[3], **arrays)
"""


@pytest.fixture(scope="module")
def model():
    return tiny_model(application="unilm")


@pytest.fixture(scope="module")
def tree():
    rng = np.random.default_rng(0)
    parts = [rng.integers(5, 12, size).tolist() for size in (1, 2, 2, 3)]
    keys = [[*a, SEP, *b, SEP] for a in parts for b in parts] + [[9, SEP, SEP]]
    keys = [*keys, keys[0], keys[5]]
    return PrefixTree.from_keys(keys, [f"值{i}" for i in range(len(keys))])


@pytest.mark.parametrize("lookahead", [False, True])
def test_a_process_with_tensorflow_alone_answers_as_python(model, tree, tmp_path, lookahead):
    endpoint = constrained_generation(
        model, tree, end_token_id=SEP, top=TOP, num_beams=6, min_ends=2, lookahead=lookahead
    )
    export_saved_model(model, tmp_path / "m", {"generate": endpoint})
    token_ids = np.array([[2, 6, 7, 3, 0, 0], [2, 9, 10, 11, 8, 3]], "int32")
    np.savez(tmp_path / "in.npz", token_ids=token_ids, segment_ids=np.zeros_like(token_ids))
    paths = [str(tmp_path / name) for name in ("m", "in.npz", "out.npz")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVE), *paths],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    questions = np.where(token_ids == 0, -1, token_ids)
    v = model.output_shape[-1]
    rule = LookAhead(tree, questions, SEP, v) if lookahead else TreeConstraint(tree, v)
    options = {"num_beams": 6, "num_return_sequences": TOP, "min_ends": 2}
    expected = Generator(model, end_token_id=SEP, jit_compile=False).generate(
        token_ids, constraint=rule, max_new_tokens=tree.depth, **options
    )
    with np.load(tmp_path / "out.npz") as out:
        found = dict(out)
    for row, best in enumerate(expected):
        assert len(best) == TOP
        for place, each in enumerate(best):
            ids = found["keys"][row, place, : found["lengths"][row, place]].tolist()
            assert ids == each.ids.tolist()
            assert ids in tree
            assert found["scores"][row, place] == pytest.approx(each.score, abs=1e-5)
            texts = [text for text in found["values"][row, place] if text]
            assert texts == tree.values(tree.find(ids))


def test_fewer_keys_than_asked_for_are_padded(model):
    tree = PrefixTree.from_keys([[5, SEP], [6, 7, 8, SEP]], ["a", "b"])
    ids = np.array([[2, 6, 3]], "int32")
    endpoint = constrained_generation(model, tree, end_token_id=SEP, top=2, max_new_tokens=2)
    found = {k: v.numpy() for k, v in endpoint.function(ids, np.zeros_like(ids)).items()}
    assert found["keys"][0].tolist() == [[5, SEP], [0, 0]]
    assert found["lengths"][0].tolist() == [2, 0]
    assert found["scores"][0, 1] == -np.inf
    assert found["values"][0].tolist() == [[b"a"], [b""]]


def test_mistakes_are_named(model):
    tree = PrefixTree.from_keys([[5, SEP]], vocabulary=vocabulary_hash({"a": 0}))
    mine = vocabulary_hash(tiny_tokenizer()._token_dict)
    with pytest.raises(ValueError, match="another vocabulary"):
        constrained_generation(model, tree, end_token_id=SEP, top=1, vocabulary=mine)
    with pytest.raises(ValueError, match="top must be 1 to 1, the number of keys, got 5"):
        constrained_generation(model, tree, end_token_id=SEP)
    with pytest.raises(ValueError, match="holds no key"):
        constrained_generation(model, PrefixTree.from_keys([]), end_token_id=SEP)
    with pytest.raises(ValueError, match="allows token 999"):
        constrained_generation(model, PrefixTree.from_keys([[999, SEP]]), end_token_id=SEP, top=1)
