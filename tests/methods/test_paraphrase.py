"""What a generator writes is kept once, without the sentence itself, nearest first."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tiny_models import tiny_model, tiny_tokenizer

from bert4kexue.decoding.autoregressive import Hypothesis
from bert4kexue.methods.paraphrase import ParaphraseGenerator

TEXT = "今天天气很好"


@pytest.fixture(scope="module")
def generator():
    model = tiny_model(application="unilm", with_pool="linear")
    return ParaphraseGenerator(model, tiny_tokenizer(), maxlen=12, jit_compile=False)


def test_sentences_are_different_and_ranked_by_the_encoder(generator):
    found = generator.generate(TEXT, n=30, k=8, seed=3)
    assert len(found) == 8
    assert len({p.text for p in found} | {TEXT, ""}) == 10
    cosines = [p.cosine for p in found]
    assert cosines == sorted(cosines, reverse=True)
    expected = generator.encoder.similarity(TEXT, [p.text for p in found])
    np.testing.assert_allclose(cosines, expected, atol=1e-5)
    assert generator.generate(TEXT, n=30, k=8, seed=3) == found
    everything = generator.generate(TEXT, n=30, k=None, seed=3)
    assert everything[:8] == found


def test_the_sentence_itself_and_repetitions_are_dropped(generator, monkeypatch):
    def ids(text):
        return np.array(tiny_tokenizer().encode(text)[0][1:])

    written = [ids(TEXT), ids("今天很好"), ids("今天很好")[:-1], ids(""), ids("天气好")[:-1]]
    ended = [True, True, False, True, False]
    outputs = [Hypothesis(row, 0.0, end) for row, end in zip(written, ended, strict=True)]
    monkeypatch.setattr(generator._generator, "generate", lambda *_, **__: [outputs])
    found = {p.text: p.finished for p in generator.generate(TEXT)}
    assert found == {"今天很好": True, "天气好": False}
    monkeypatch.setattr(generator._generator, "generate", lambda *_, **__: [outputs[:1]])
    assert generator.generate(TEXT) == []


def test_what_never_ends_is_cut_and_said(generator, monkeypatch):
    model = tiny_model(application="unilm", with_pool="linear")
    bias = next(v for v in model.weights if v.shape == (len(tiny_tokenizer()._token_dict),))
    values = np.zeros(bias.shape)
    values[3] = -1e4  # [SEP]
    bias.assign(values)
    endless = ParaphraseGenerator(model, tiny_tokenizer(), maxlen=8, jit_compile=False)
    found = endless.generate("今天", n=5, seed=0)
    assert found
    assert not any(p.finished for p in found)
    assert max(len(tiny_tokenizer().encode(p.text)[0]) for p in found) <= 8 + 2


def test_masked_places_are_what_the_model_sees(generator, monkeypatch):
    seen = []

    def generate(rows, **options):
        seen.append(rows[0])
        return [[Hypothesis(np.array([6, 3]), 0.0, True)]]

    monkeypatch.setattr(generator._generator, "generate", generate)
    generator.generate(TEXT, mask_positions=[1, 6])
    ids = tiny_tokenizer().encode(TEXT)[0]
    assert seen[0] == [ids[0], 4, *ids[2:6], 4, ids[7]]


@pytest.mark.parametrize("position", [0, 7, 8, -1])
def test_a_masked_place_that_is_no_token_is_told(generator, position):
    with pytest.raises(ValueError, match=rf"holds {position}; the sentence's tokens are 1 to 6"):
        generator.generate(TEXT, mask_positions=[position])


def test_mistakes_are_named(generator):
    with pytest.raises(ValueError, match="'' has no token"):
        generator.generate("")
    with pytest.raises(ValueError, match="has 14 tokens and maxlen is 12"):
        generator.generate("今" * 12)
    with pytest.raises(ValueError, match="1 or more, got 0"):
        generator.generate(TEXT, n=0)
    with pytest.raises(ValueError, match="takes one sentence, got list"):
        generator.generate([TEXT])


def test_threads_write_what_one_writes(generator):
    texts = [TEXT, "李白是诗人", "游戏角色"]
    expected = {text: generator.generate(text, n=10, seed=1) for text in texts}
    found: dict[str, list] = {text: [] for text in texts}

    def work(text):
        for _ in range(2):
            found[text].append(generator.generate(text, n=10, seed=1))

    threads = [threading.Thread(target=work, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {text: [expected[text]] * 2 for text in texts}
