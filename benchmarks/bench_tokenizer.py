"""Batch tokenization: ours against the Rust `tokenizers.encode_batch_fast`, one interleaved run.

    python benchmarks/bench_tokenizer.py [--rounds 9] [--json]

Calls of 1,000 and of 32 Chinese sentences, each call with sentences that neither has seen in the
run (cold caches), the two taking turns; the ratio is of the medians over all calls. Also the time
until `Tokenizer(vocab)` is ready. Sentences are question pairs and titles of the data folder named
by BERT4KEXUE_DATA, of 22 to 60 characters, with its vocabulary of 21,128 tokens; without the folder
they are generated, 34 characters on average, a third of them with Latin words or digits.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = {1000: "thousand", 32: "thirty_two"}
COUNT = 40_000


def real_sentences(folder: Path) -> list[str]:
    """Sentences of 22 to 60 characters from the text-pair and title files, shuffled by a seed."""
    found = set()
    paths = [*folder.rglob("sts_zh_cosent/**/*"), *folder.rglob("thucnews_title/*")]
    for path in sorted(paths):
        if not path.is_file() or path.suffix == ".zip":
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            found.update(part for part in line.split("\t") if 22 <= len(part) <= 60)
    sentences = sorted(found)
    random.Random(0).shuffle(sentences)
    return sentences[:COUNT]


def made_sentences() -> list[str]:
    """Random characters, 33 to a sentence on average; every third has a word or a number."""
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    sentences = []
    for i in range(COUNT):
        text = [chr(draw.randrange(0x4E00, 0x7000)) for _ in range(draw.randint(20, 46))]
        text[draw.randrange(len(text))] = "，"
        if i % 3 == 0:
            word = "".join(draw.choices(letters, k=draw.randint(2, 8)))
            text.insert(draw.randrange(len(text)), draw.choice((word, str(draw.randrange(3000)))))
        sentences.append("".join(text))
    return sentences


def made_vocabulary(path: Path) -> Path:
    """A vocabulary file of the usual kind: specials, CJK, letters, digits, some words."""
    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"，。！？", *letters]
    tokens += [chr(point) for point in range(0x4E00, 0x6E00)]
    tokens += ["##" + c for c in letters]
    tokens += ["".join(draw.choices(letters, k=draw.randint(2, 5))) for _ in range(4000)]
    tokens += ["##" + "".join(draw.choices(letters, k=2)) for _ in range(1000)]
    path.write_text("\n".join(dict.fromkeys(tokens)) + "\n", encoding="utf-8", newline="\n")
    return path


def measure(vocabulary: Path, sentences: list[str], rounds: int) -> dict[str, float]:
    """Ratios of medians (ours over theirs, in sentences a second) and our seconds to get ready."""
    from tokenizers import BertWordPieceTokenizer

    from bert4kexue.tokenizers import Tokenizer

    ready = []
    for _ in range(5):
        start = time.perf_counter()
        ours = Tokenizer(vocabulary, do_lower_case=True)
        ready.append(time.perf_counter() - start)
    theirs = BertWordPieceTokenizer(str(vocabulary), lowercase=True)._tokenizer
    result = {"ready_seconds": max(ready)}
    position = 0
    for size, name in SIZES.items():
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for turn in range(rounds if size == 1000 else 20 * rounds):
            chunk = sentences[position : position + size]
            position += size
            if len(chunk) < size:
                raise SystemExit(f"{len(sentences)} sentences are too few for --rounds {rounds}")
            calls = [("ours", ours.encode_batch), ("theirs", theirs.encode_batch_fast)]
            for key, call in calls if turn % 2 else reversed(calls):
                start = time.perf_counter()
                call(chunk)
                seconds[key].append(time.perf_counter() - start)
        middle = {key: statistics.median(values) for key, values in seconds.items()}
        result[f"ratio_{name}"] = middle["theirs"] / middle["ours"]
        for key, value in middle.items():
            result[f"{key}_{name}_sentences_per_second"] = size / value
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="interleaved rounds (default 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    data = os.environ.get("BERT4KEXUE_DATA")
    with tempfile.TemporaryDirectory() as folder:
        if data:
            sentences = real_sentences(Path(data))
            vocabulary = Path(data) / "vocab" / "google_chinese_21128.vocab.txt"
        else:
            sentences = made_sentences()
            vocabulary = made_vocabulary(Path(folder) / "vocab.txt")
        result = measure(vocabulary, sentences, arguments.rounds)
    result["characters"] = statistics.fmean(map(len, sentences))
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in result.items()}))
        return
    print(f"{'real' if data else 'generated'} sentences, {result['characters']:.1f} characters")
    for size, name in SIZES.items():
        ours, theirs = (result[f"{key}_{name}_sentences_per_second"] for key in ("ours", "theirs"))
        ratio = result[f"ratio_{name}"]
        print(f"{size} a call: {ours:,.0f} against {theirs:,.0f} sentences/s: {ratio:.1f} times")
    print(f"Tokenizer(vocab) ready in {result['ready_seconds']:.3f} s at worst")


if __name__ == "__main__":
    main()
