"""Answers of bert4keras's own tokenizer (oracles/tokenizer_bert4keras.py) on hostile texts."""

from __future__ import annotations

import json
from pathlib import Path

import _tokenizer_cases as cases
import pytest

from bert4kexue.tokenizers import Tokenizer, load_vocab

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizer_bert4keras.json"
NAMES = pytest.mark.parametrize("name", ["cased", "uncased"])


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def make(golden: dict, name: str, **options: object) -> Tokenizer:
    vocabulary = {token: i for i, token in enumerate(golden["vocabulary"])}
    return Tokenizer(vocabulary, do_lower_case=name == "uncased", **options)


def test_the_golden_texts_are_those_of_the_cases(golden: dict) -> None:
    assert [row[0] for row in golden["cased"]] == cases.texts()
    assert golden["vocabulary"] == cases.vocabulary()


@NAMES
def test_ids_equal_bert4keras_one_by_one_and_in_batch(golden: dict, name: str) -> None:
    tokenizer = make(golden, name)
    texts = [row[0] for row in golden[name]]
    batch = tokenizer.encode_batch(texts)
    for text, row, (_, ids, *_) in zip(texts, batch.token_ids.tolist(), golden[name], strict=True):
        assert tokenizer.encode(text)[0] == ids, text
        assert row[: len(ids)] == ids, text
        assert not any(row[len(ids) :]), text


@NAMES
def test_rematch_equals_bert4keras_where_that_answers(golden: dict, name: str) -> None:
    tokenizer = make(golden, name)
    for text, _, places, *_ in golden[name]:
        # bert4keras counts in the lower-cased text, in which U+0130 is two characters.
        if places is not None and not (name == "uncased" and "\u0130" in text):
            assert tokenizer.rematch(text, tokenizer.tokenize(text)) == places, text


@NAMES
def test_decode_equals_bert4keras_where_that_answers(golden: dict, name: str) -> None:
    tokenizer = make(golden, name)
    for text, ids, _, decoded, _ in golden[name]:
        if decoded is not None:
            assert tokenizer.decode(ids) == decoded, text


@NAMES
def test_pre_tokenize_keeps_pieces_of_the_vocabulary_as_bert4keras_does(
    golden: dict, name: str
) -> None:
    tokenizer = make(
        golden, name, pre_tokenize=lambda t: [t[i : i + 2] for i in range(0, len(t), 2)]
    )
    for text, *_, ids in golden[name]:
        assert tokenizer.encode(text)[0] == ids, text


@NAMES
def test_pairs_are_truncated_as_bert4keras_does(golden: dict, name: str) -> None:
    tokenizer = make(golden, name)
    for arguments, (ids, segments) in golden[name + " pairs"]:
        assert tokenizer.encode(*arguments) == (ids, segments), arguments


def test_vocabulary_files_are_numbered_and_simplified_as_bert4keras_does(
    golden: dict, tmp_path: Path
) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(golden["file"]) + "\n", encoding="utf-8", newline="\n")
    assert load_vocab(path) == golden["loaded"]
    new, keep = load_vocab(path, simplified=True, startswith=cases.SPECIALS[:4])
    assert [new, keep] == golden["simplified"]
