"""Ids of Hugging Face's Rust tokenizer, outside the stated list of code points."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from _sentences import every_sentence

from bert4kexue.tokenizers import Tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizer_huggingface.json"
VOCABULARIES = (
    "google_chinese_21128",
    "roformer_char",
    "bert_uncased_30522",
    "bert_cased_28996",
)
CASES = [(name, lower) for name in VOCABULARIES for lower in (False, True)]
EACH = pytest.mark.parametrize(("name", "lower"), CASES)
SPECIALS = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"


def listed(lower: bool) -> re.Pattern[str]:
    """Matches a text that holds something of docs/tokenizer_differences.md."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    spans = golden["rust"]["uncased" if lower else "cased"].values()
    classes = "".join(f"\\U{a:08x}-\\U{b:08x}" for group in spans for a, b in group)
    specials = "|".join(map(re.escape, SPECIALS))
    sigma = "|\u03a3" if lower else ""
    # Words that Hugging Face gives up at 100 characters and bert4keras at 200.
    return re.compile(f"[{classes}]|{specials}{sigma}|[^\\s\u3400-\u9fff]{{101}}")


def disagreements(data_dir: Path, name: str, lower: bool, per_file: int | None) -> tuple[int, list]:
    """How many sentences were compared, and those that differ."""
    tokenizers = pytest.importorskip("tokenizers")
    path = data_dir / "vocab" / f"{name}.vocab.txt"
    theirs = tokenizers.BertWordPieceTokenizer(str(path), lowercase=lower)
    mine = Tokenizer(path, do_lower_case=lower)
    apart = listed(lower)
    sentences = [s for s in every_sentence(data_dir, per_file) if not apart.search(s)]
    wrong = []
    for start in range(0, len(sentences), 1000):
        chunk = sentences[start : start + 1000]
        batch = mine.encode_batch(chunk)
        encodings = theirs._tokenizer.encode_batch_fast(chunk)
        for text, row, encoding in zip(chunk, batch.token_ids.tolist(), encodings, strict=True):
            expected = encoding.ids
            if row[: len(expected)] != expected or any(row[len(expected) :]):
                wrong.append(text)
    return len(sentences), wrong


@EACH
def test_sentences_of_every_data_file(data_dir: Path, name: str, lower: bool) -> None:
    count, wrong = disagreements(data_dir, name, lower, per_file=30)
    assert count > 1500
    assert wrong == []


@pytest.mark.long
@EACH
def test_every_sentence_of_the_data_folder(data_dir: Path, name: str, lower: bool) -> None:
    count, wrong = disagreements(data_dir, name, lower, per_file=None)
    assert count > 250_000
    assert wrong == []


@pytest.mark.parametrize("lower", [False, True])
def test_every_code_point_outside_the_list(lower: bool) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    if tokenizers.__version__ != golden["made_with"]["tokenizers"]:
        pytest.skip("the list is of another version of tokenizers")
    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower)
    splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
    mine = Tokenizer({"[UNK]": 0}, lower, token_start=None, token_end=None)
    groups = golden["rust"]["uncased" if lower else "cased"].values()
    differ = {p for group in groups for a, b in group for p in range(a, b + 1)}
    # Every assigned plane's start in full, and every seventh of the rest.
    for point in [*range(0x3400), *range(0xA000, 0xAC00), *range(0xD7A4, 0x110000, 7)]:
        if 0xD800 <= point < 0xE000:
            continue
        text = f"x{chr(point)}y"
        words = splitter.pre_tokenize_str(normalizer.normalize_str(text))
        assert ([w for w, _ in words] != mine.tokenize(text)) == (point in differ), hex(point)
