"""SentenceEncoder against one sentence at a time; files against memory; threads against none."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tiny_models import save_tiny_model, tiny_model, tiny_tokenizer

from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.methods.vector_files import encode_file

SENTENCES = ["今天", "", "天气很好天气", "好", "今天天气", "很好很好很好很好", "天"]


@pytest.fixture(scope="module")
def model():
    return tiny_model(application="unilm", with_pool="linear")


@pytest.fixture(scope="module")
def encoder(model):
    return SentenceEncoder(model, tiny_tokenizer(), maxlen=16)


def alone(model, ids):
    ids = np.array([ids])
    return np.asarray(model.predict_on_batch([ids, np.zeros_like(ids)])[0][0], np.float64)


def unit(x):
    return x / np.linalg.norm(x)


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_every_sentence_gets_the_vector_it_has_alone(model, encoder, batch_size, capsys):
    vectors = encoder.encode(SENTENCES, batch_size, show_progress=True)
    assert vectors.dtype == np.float32
    assert "encoded 7 of 7" in capsys.readouterr().err
    raw = encoder.encode(SENTENCES, normalize=False)
    for vector, plain, sentence in zip(vectors, raw, SENTENCES, strict=True):
        pooled = alone(model, tiny_tokenizer().encode(sentence)[0])
        np.testing.assert_allclose(plain, pooled, atol=1e-5)
        np.testing.assert_allclose(vector, unit(pooled), atol=1e-5)


def test_a_long_text_is_the_mean_of_its_pieces_by_tokens(model, encoder):
    text = "今天天气很好的是李白唐代诗人游戏角色作者国籍中谁写静夜"  # 27 tokens, 14 fit
    ids = tiny_tokenizer().encode(text)[0]
    inner = ids[1:-1]
    parts = [inner[:14], inner[14:]]
    vectors = [unit(alone(model, [ids[0], *part, ids[-1]])) for part in parts]
    expected = unit((14 * vectors[0] + 13 * vectors[1]) / 27)
    found = encoder.encode(["今天", text, "好"])
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    np.testing.assert_allclose(found[[0, 2]], encoder.encode(["今天", "好"]), atol=1e-5)
    cut = SentenceEncoder(model, tiny_tokenizer(), maxlen=16, long="cut")
    np.testing.assert_allclose(cut.encode([text])[0], vectors[0], atol=1e-5)
    strict = SentenceEncoder(model, tiny_tokenizer(), maxlen=16, long="refuse")
    with pytest.raises(ValueError, match="text 1 has 29 tokens and maxlen is 16"):
        strict.encode(["今天", text])


def test_similarity_of_strings_and_lists(encoder):
    vectors = encoder.encode(SENTENCES).astype(np.float64)
    cosines = vectors @ vectors.T
    assert encoder.similarity("今天", "好") == pytest.approx(cosines[0, 3], abs=1e-5)
    assert isinstance(encoder.similarity("今天", "好"), float)
    np.testing.assert_allclose(encoder.similarity("今天", SENTENCES), cosines[0], atol=1e-5)
    np.testing.assert_allclose(encoder.similarity(SENTENCES, "今天"), cosines[:, 0], atol=1e-5)
    np.testing.assert_allclose(encoder.similarity(SENTENCES, SENTENCES), cosines, atol=1e-5)


def test_codes_and_fewer_dimensions(encoder):
    whole = encoder.encode(SENTENCES, normalize=False)
    four = encoder.encode(SENTENCES, dimensions=4)
    np.testing.assert_allclose(four, [unit(v[:4]) for v in whole], atol=1e-5)
    assert encoder.encode(SENTENCES, precision="int8").dtype == np.int8
    binary = encoder.encode(SENTENCES, precision="binary")
    np.testing.assert_array_equal(np.unpackbits(binary, axis=1), whole > 0)
    assert encoder.encode([], precision="binary").shape == (0, 2)
    assert encoder.encode([], dimensions=4).shape == (0, 4)


def test_threads_get_what_one_gets(encoder):
    lists = [[c * (i % 5 + 1) for i in range(40)] for c in "今天气很好的"]
    expected = [encoder.encode(texts) for texts in lists]
    found: dict[int, list] = {i: [] for i in range(len(lists))}

    def work(i):
        for _ in range(4):
            found[i].append(encoder.encode(lists[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(lists))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, vectors in enumerate(expected):
        assert len(found[i]) == 4
        for one in found[i]:
            np.testing.assert_array_equal(one, vectors)


def test_a_folder_is_loaded_with_three_ways_of_pooling(tmp_path):
    saved = save_tiny_model(tmp_path / "m")
    pooler = SentenceEncoder.load(tmp_path / "m")
    ids, zeros = np.array([[2, 6, 7, 3]]), np.zeros((1, 4), int)
    text = tiny_tokenizer().decode([6, 7])
    raw = pooler.encode([text], normalize=False)[0]
    np.testing.assert_allclose(raw, saved.predict_on_batch([ids, zeros])[0][0], atol=1e-5)
    from bert4kexue.models import build_transformer_model

    body = build_transformer_model(tmp_path / "m", model="roformer")
    hidden = body.predict_on_batch([ids, zeros])[0]
    for pooling, expected in (("cls", hidden[0]), ("mean", hidden.mean(0))):
        found = SentenceEncoder.load(tmp_path / "m", pooling=pooling)
        texts = ["今天气很好", text]  # beside a longer one: padding must not count
        np.testing.assert_allclose(found.encode(texts, normalize=False)[1], expected, atol=1e-5)
    with pytest.raises(ValueError, match="pooling='max'"):
        SentenceEncoder.load(tmp_path / "m", pooling="max")


def test_mistakes_are_named(model, encoder):
    with pytest.raises(ValueError, match="takes a list of sentences"):
        encoder.encode("今天")
    with pytest.raises(ValueError, match=r"texts\[1\] is no string: None"):
        encoder.encode(["今天", None])
    with pytest.raises(ValueError, match="batch_size must be 1 or more"):
        encoder.encode(["今天"], batch_size=0)
    with pytest.raises(ValueError, match="with_pool='linear'"):
        SentenceEncoder(tiny_model(application="encoder"), tiny_tokenizer())
    with pytest.raises(ValueError, match="maxlen=2 leaves no room"):
        SentenceEncoder(model, tiny_tokenizer(), maxlen=2)
    with pytest.raises(ValueError, match="long='drop'"):
        SentenceEncoder(model, tiny_tokenizer(), long="drop")
    with pytest.raises(ValueError, match="precision='int4'"):
        encoder.encode(["今天"], precision="int4")


# --- files --------------------------------------------------------------------------------------


def write(path, texts):
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8", newline="\n")
    return path


def test_a_file_becomes_the_vectors_of_its_lines(encoder, tmp_path):
    source, told = write(tmp_path / "a.txt", SENTENCES), []
    for precision in ("float32", "int8"):
        target = tmp_path / f"{precision}.npy"
        assert encode_file(
            encoder, source, target, precision=precision, block=3, progress=told.append
        ) == len(SENTENCES)
        found = np.load(target, mmap_mode="r")
        np.testing.assert_allclose(
            found, encoder.encode(SENTENCES, precision=precision), atol=1e-5 + (precision == "int8")
        )
    assert told == [3, 6, 7] * 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "float32.npy", "int8.npy"]


def test_an_interrupted_file_goes_on_where_it_was(encoder, tmp_path, monkeypatch):
    source, target = write(tmp_path / "a.txt", SENTENCES), tmp_path / "a.npy"

    def stop(done):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_file(encoder, source, target, block=2, progress=stop)
    assert not target.exists()
    read = []
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda t, **o: read.extend(t) or encode(t, **o))
    with pytest.raises(ValueError, match="of another source or of other options"):
        encode_file(encoder, source, target, block=3)
    encode_file(encoder, source, target, block=2)
    assert read == SENTENCES[4:]
    np.testing.assert_allclose(np.load(target), encode(SENTENCES), atol=1e-5)


def test_a_file_without_lines_or_in_another_encoding_is_told(encoder, tmp_path):
    with pytest.raises(ValueError, match="holds no line"):
        encode_file(encoder, write(tmp_path / "a.txt", []), tmp_path / "a.npy")
    (tmp_path / "b.txt").write_bytes("今天\n".encode() + "天气".encode("gb18030"))
    with pytest.raises(ValueError, match="line 2 is not UTF-8"):
        encode_file(encoder, tmp_path / "b.txt", tmp_path / "b.npy")
    assert not (tmp_path / "b.npy").exists()
