"""What bert4keras's own tokenizer makes of hostile texts: tests/golden/tokenizer_bert4keras.json.

Cased and uncased: tokens' ids, rematch (null where bert4keras raises), decoded text; pairs with
every way of truncation; word-keeping pre_tokenize; simplified vocabularies. With
`--sentences FOLDER` nothing is made or checked: bert4keras and this project encode every line of
every text file under the folder (the data folder), with every vocabulary in it, and must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import _bert4keras  # noqa: F401
import _golden
import _tokenizer_cases as cases
from bert4keras.tokenizers import Tokenizer, load_vocab

ENVIRONMENT = "bert4keras"
GOLDEN = _golden.GOLDEN / "tokenizer_bert4keras.json"


def split_in_twos(text: str) -> list[str]:
    """A stand-in for a word segmenter."""
    return [text[i : i + 2] for i in range(0, len(text), 2)]


def rematch(tokenizer: Tokenizer, text: str, tokens: list[str]) -> list[list[int]] | None:
    """Null where bert4keras cannot."""
    try:
        return tokenizer.rematch(text, tokens)
    except ValueError:
        return None


def decode(tokenizer: Tokenizer, ids: list[int]) -> str | None:
    """Null where bert4keras crashes."""
    try:
        return tokenizer.decode(ids)
    except IndexError:
        return None


def make() -> dict[str, Any]:
    """All golden answers."""
    tokens = cases.vocabulary()
    vocabulary = {token: i for i, token in enumerate(tokens)}
    golden: dict[str, Any] = {"vocabulary": tokens}
    for name, lower in (("cased", False), ("uncased", True)):
        tokenizer = Tokenizer(vocabulary, do_lower_case=lower)
        cut = Tokenizer(vocabulary, do_lower_case=lower, pre_tokenize=split_in_twos)
        rows = []
        for text in cases.texts():
            words = tokenizer.tokenize(text)
            ids = tokenizer.tokens_to_ids(words)
            places = rematch(tokenizer, text, words)
            rows.append([text, ids, places, decode(tokenizer, ids), cut.encode(text)[0]])
        golden[name] = rows
        golden[name + " pairs"] = [
            [
                [first, second, maxlen, pattern, side],
                list(tokenizer.encode(first, second, maxlen, pattern, side)),
            ]
            for first, second, maxlen, pattern, side in cases.pairs()
        ]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vocab.txt")
        lines = [*tokens, "\u2028", "the", "two words", "", "\u3000", "last"]
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(line + "\n" for line in lines)
        golden["file"] = lines
        golden["loaded"] = load_vocab(path)
        golden["simplified"] = list(
            load_vocab(path, simplified=True, startswith=cases.SPECIALS[:4])
        )
    return golden


def compare_sentences(folder: Path) -> int:
    """bert4keras against this project on every line of the data folder."""
    sys.path.insert(0, str(_golden.ROOT))
    from _sentences import every_sentence

    from bert4kexue.tokenizers import Tokenizer as Ours

    sentences = list(every_sentence(folder))
    wrong = 0
    for path in sorted((folder / "vocab").glob("*.txt")):
        for lower in (False, True):
            theirs = Tokenizer(load_vocab(str(path)), do_lower_case=lower)
            ours = Ours(path, do_lower_case=lower)
            differ = 0
            for start in range(0, len(sentences), 1000):
                chunk = sentences[start : start + 1000]
                ids = ours.encode_batch(chunk).token_ids
                for text, row in zip(chunk, ids.tolist(), strict=True):
                    expected = theirs.encode(text)[0]
                    if row[: len(expected)] != expected or any(row[len(expected) :]):
                        differ += 1
                        if differ < 4:
                            print(f"{path.name} lower={lower}: {text!r:.100}")
            print(f"{path.name} lower={lower}: {differ} of {len(sentences)} differ", flush=True)
            wrong += differ
    return 1 if wrong else 0


def main() -> int:
    """Check (the default), write, or compare on sentences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file (default)")
    parser.add_argument("--write", action="store_true", help="replace the file")
    parser.add_argument("--sentences", type=Path, metavar="FOLDER", help="the data folder")
    arguments = parser.parse_args()
    if arguments.sentences:
        return compare_sentences(arguments.sentences)
    fresh = json.loads(json.dumps(make()))
    if arguments.write:
        text = json.dumps(fresh, separators=(",", ":")).replace('],["', '],\n["') + "\n"
        _golden.replace(GOLDEN, text.encode())
        print(f"wrote {GOLDEN.name}: {len(text)} bytes")
        return 0
    kept = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = [key for key in sorted({*fresh, *kept}) if fresh.get(key) != kept.get(key)]
    for key in found:
        print(f"{GOLDEN.name}: {key!r} differs")
    if not found:
        print(f"{GOLDEN.name}: {len(fresh)} entries agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
