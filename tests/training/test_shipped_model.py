"""The small RoFormer that the repository ships: it loads, it is small, it has learned."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bert4kexue.checkpoints import open_checkpoint
from bert4kexue.tokenizers import Tokenizer, load_vocab
from bert4kexue.training.vocabulary import make_vocabulary

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "pretrained" / "roformer_tiny_zh"


@pytest.fixture(scope="module")
def sets():
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        import ship_sets
    finally:
        sys.path.remove(str(ROOT / "examples"))

    class Modules:
        read = ship_sets

    return Modules


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(str(FOLDER / "vocab.txt"), do_lower_case=True)


@pytest.fixture(scope="module")
def model():
    from bert4kexue.models import build_transformer_model

    return build_transformer_model(
        FOLDER, model="roformer", application="unilm", with_pool="linear"
    )


def test_the_folder_is_small_and_stored_in_half_precision():
    assert sum(f.stat().st_size for f in FOLDER.iterdir()) <= 16 * 2**20
    with open_checkpoint(FOLDER / "bert_model.ckpt") as checkpoint:
        assert {str(checkpoint.dtype(name)) for name in checkpoint.names()} == {"float16"}
        checkpoint.verify()
        for name in checkpoint.names():
            assert np.isfinite(checkpoint.read(name).astype("float32")).all(), name


def test_vocabulary_and_config_agree():
    vocabulary = load_vocab(FOLDER / "vocab.txt")
    config = json.loads((FOLDER / "bert_config.json").read_text(encoding="utf-8"))
    assert len(vocabulary) == config["vocab_size"] <= 13_000
    assert list(vocabulary)[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.mark.parametrize("text", ["今天天气不错，我们去北京吧。", "李白的出生地是哪里？"])
def test_ids_come_back_as_the_text(tokenizer, text):
    ids, segments = tokenizer.encode(text)
    assert tokenizer._token_unk_id not in ids
    assert len(ids) == len(text) + 2
    assert not any(segments)
    # Decoding puts a space after punctuation in the middle, as bert4keras's does.
    assert tokenizer.decode(ids).replace(" ", "") == text


def test_the_script_still_makes_the_shipped_vocabulary(sets, data_dir):
    tokens = make_vocabulary(sets.read.training_text(data_dir))
    shipped = (FOLDER / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert tokens == shipped


def test_it_guesses_masked_words_better_than_the_commonest_token(sets, data_dir, tokenizer, model):
    held_out = sets.read.running_text(data_dir, "held_out")
    texts = [t for ts in held_out.values() for t in ts[:40]]
    rng = np.random.default_rng(0)
    counts, right, total = Counter(), 0, 0
    for text in texts:
        ids = np.array([tokenizer.encode(text)[0]])
        place = int(rng.integers(1, ids.shape[1] - 1))
        label = int(ids[0, place])
        ids[0, place] = tokenizer._token_mask_id
        _, probabilities = model.predict_on_batch([ids, np.zeros_like(ids)])
        right += int(probabilities[0, place].argmax()) == label
        counts[label] += 1
        total += 1
    # Even the label that is commonest among these very words is a weaker guess.
    assert right / total > 0.15
    assert right > 1.5 * counts.most_common(1)[0][1]


def test_a_question_it_never_saw_is_answered_with_a_copied_subject(tokenizer, model):
    """Greedy decoding of S [SEP] with no tree: the subject can only come from the question."""
    for question, subject in [
        ("请问张伟明的出生地是哪里？", "张伟明"),
        ("你知道绿岛公园的面积是多少吗？", "绿岛公园"),
    ]:
        prompt = tokenizer.encode(question)[0]
        written: list[int] = []
        while len(written) < 12 and tokenizer._token_end_id not in written:
            ids = np.array([prompt + written])
            segments = np.array([[0] * len(prompt) + [1] * len(written)])
            _, probabilities = model.predict_on_batch([ids, segments])
            written.append(int(probabilities[0, -1].argmax()))
        assert tokenizer.decode(written) == subject


def test_the_pooler_puts_a_paraphrase_nearer_than_another_topic(tokenizer, model):
    texts = ["一个男人在弹吉他。", "一名男子正在弹吉他。", "股市今天大幅下跌。"]
    vectors = []
    for text in texts:
        ids = np.array([tokenizer.encode(text)[0]])
        pooled, _ = model.predict_on_batch([ids, np.zeros_like(ids)])
        vectors.append(pooled[0] / np.linalg.norm(pooled[0]))
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
