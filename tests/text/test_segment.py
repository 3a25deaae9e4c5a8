"""Word segmentation: jieba without HMM, rjieba the same."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from _sentences import every_sentence
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.tokenizers import Tokenizer, word_segmenter

SENTENCE = "广州市长隆欢乐世界今天天气不错"


@pytest.fixture(scope="module")
def jieba():
    module = pytest.importorskip("jieba")
    module.setLogLevel(logging.ERROR)
    return module


@pytest.fixture(scope="module")
def both(jieba):
    pytest.importorskip("rjieba")
    return word_segmenter(backend="jieba"), word_segmenter(backend="rjieba")


def test_words_are_jieba_s_without_hmm(jieba) -> None:
    text = "小明硕士毕业于中国科学院计算所，后在日本京都大学深造"
    assert word_segmenter(backend="jieba")(text) == jieba.lcut(text, HMM=False)


def test_added_words_are_found_and_stay_with_their_segmenter(jieba) -> None:
    plain = word_segmenter()
    assert "长隆欢乐世界" not in plain(SENTENCE)
    assert "长隆欢乐世界" in word_segmenter(["长隆欢乐世界", "##乐", "[SEP]"])(SENTENCE)
    assert "长隆欢乐世界" not in word_segmenter(backend="jieba")(SENTENCE)
    assert "长隆欢乐世界" not in jieba.lcut(SENTENCE, HMM=False)


TEXT = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(codec=None), max_size=20),
    st.text(st.sampled_from("中国大学生活动中心今天气不错ab1.+#&_%- \r\n，。\ud800"), max_size=30),
)


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_rjieba_gives_the_same_words(both, text: str) -> None:
    by_jieba, by_rjieba = both
    assert by_rjieba(text) == by_jieba(text)
    assert "".join(by_jieba(text)) == text


def test_rjieba_gives_the_same_words_on_real_sentences(both, data_dir: Path) -> None:
    by_jieba, by_rjieba = both
    sentences = list(every_sentence(data_dir, per_file=10))
    assert len(sentences) > 500
    assert [s for s in sentences if by_jieba(s) != by_rjieba(s)] == []


def test_a_word_based_tokenizer_keeps_words_of_its_vocabulary(jieba) -> None:
    tokens = ["[UNK]", "[CLS]", "[SEP]", "今天天气", "不", "错"]
    tokenizer = Tokenizer({t: i for i, t in enumerate(tokens)}, pre_tokenize=word_segmenter())
    assert tokenizer.tokenize("今天天气不错") == ["[CLS]", "今天天气", "不", "错", "[SEP]"]
    batch = tokenizer.encode_batch(["今天天气不错", "不"], return_offsets=True)
    assert batch.token_ids.tolist() == [[1, 3, 4, 5, 2], [1, 4, 2, 0, 0]]
    assert batch.offsets[0].tolist() == [[0, 0], [0, 4], [4, 5], [5, 6], [0, 0]]


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="backend must be"):
        word_segmenter(backend="hanlp")
    with pytest.raises(ValueError, match="backend='jieba'"):
        word_segmenter(["词语"], backend="rjieba")
