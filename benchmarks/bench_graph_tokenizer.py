"""The tokenizer inside a SavedModel against the Rust `tokenizers.encode_batch_fast`, interleaved.

    python benchmarks/bench_graph_tokenizer.py [--rounds 8] [--json]

A SavedModel that holds the tokenizer and nothing else is written, loaded again and called with the
same lists of sentences as the Rust tokenizer, the two taking turns; no call sees a sentence that
the run has seen. Counted from Python strings to ids as an array (ours) or as encodings (theirs);
ratios are of medians over all calls. The ids are compared with `Tokenizer.encode_batch` when all is
timed: done between the calls, it takes a quarter to two fifths off the ratios, by the caches that
it empties. Sentences and vocabulary are those of bench_tokenizer.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_tokenizer import ROOT, made_sentences, made_vocabulary, real_sentences

SIZES = {32: "thirty_two", 256: "two_hundred_fifty_six", 1000: "thousand", 1: "one"}
CALLS = {1: 20, 32: 12, 256: 2, 1000: 1}  # of each size, in a round


def saved_model(vocabulary: Path, folder: Path) -> None:
    """Write the SavedModel: signature serving_default, texts (b,) to token ids and segment ids."""
    import tensorflow as tf

    from bert4kexue.serving.graph_tokenizer import GraphTokenizer
    from bert4kexue.tokenizers import Tokenizer

    module = tf.Module()
    module.tokenizer = GraphTokenizer(Tokenizer(vocabulary, do_lower_case=True))

    def serve(texts):
        return dict(zip(("token_ids", "segment_ids"), module.tokenizer(texts), strict=True))

    spec = tf.TensorSpec([None], tf.string, name="texts")
    module.serve = tf.function(serve, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def measure(vocabulary: Path, sentences: list[str], folder: Path, rounds: int) -> dict[str, float]:
    """Ratios of medians (ours over theirs, in sentences a second), sizes and seconds to load."""
    import tensorflow as tf
    from tokenizers import BertWordPieceTokenizer

    from bert4kexue.tokenizers import Tokenizer

    saved_model(vocabulary, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    start = time.perf_counter()
    loaded = tf.saved_model.load(str(folder))
    result = {
        "megabytes": sum(path.stat().st_size for path in files) / 1e6,
        "load_seconds": time.perf_counter() - start,
    }
    serve = loaded.signatures["serving_default"]

    def ours(texts):
        return serve(texts=tf.constant(texts))["token_ids"].numpy()

    theirs = BertWordPieceTokenizer(str(vocabulary), lowercase=True)._tokenizer.encode_batch_fast
    expected = Tokenizer(vocabulary, do_lower_case=True)
    for size in SIZES:  # the first call of a graph plans it
        ours(sentences[-size:])
        theirs(sentences[-size:])
    position = 0
    answers = []  # compared when all is timed
    seconds = {size: {"ours": [], "theirs": []} for size in SIZES}
    for turn in range(rounds):
        for size in SIZES:
            for call in range(CALLS[size]):
                chunk = sentences[position : position + size]
                position += size
                if len(chunk) < size:
                    raise SystemExit(f"{len(sentences)} sentences are too few: fewer --rounds")
                calls = [("ours", ours), ("theirs", theirs)]
                for key, run in calls if (turn + call) % 2 else reversed(calls):
                    start = time.perf_counter()
                    ids = run(chunk)
                    seconds[size][key].append(time.perf_counter() - start)
                    if key == "ours":
                        answers.append((chunk, ids))
    for chunk, ids in answers:
        if not np.array_equal(ids, expected.encode_batch(chunk).token_ids):
            raise SystemExit("the graph's ids are not the tokenizer's")
    for size, name in SIZES.items():
        middle = {key: statistics.median(values) for key, values in seconds[size].items()}
        result[f"ratio_{name}"] = middle["theirs"] / middle["ours"]
        for key, value in middle.items():
            result[f"{key}_{name}_sentences_per_second"] = size / value
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8, help="interleaved rounds (default 8)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    data = os.environ.get("BERT4KEXUE_DATA")
    with tempfile.TemporaryDirectory() as scratch:
        if data:
            sentences = real_sentences(Path(data))
            vocabulary = Path(data) / "vocab" / "google_chinese_21128.vocab.txt"
        else:
            sentences = made_sentences()
            vocabulary = made_vocabulary(Path(scratch) / "vocab.txt")
        result = measure(vocabulary, sentences, Path(scratch) / "model", arguments.rounds)
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in result.items()}))
        return
    print(f"{'real' if data else 'generated'} sentences")
    for size, name in sorted(SIZES.items()):
        ours, theirs = (result[f"{key}_{name}_sentences_per_second"] for key in ("ours", "theirs"))
        ratio = result[f"ratio_{name}"]
        print(f"{size} a call: {ours:,.0f} against {theirs:,.0f} sentences/s: {ratio:.2f} times")
    print(f"SavedModel: {result['megabytes']:.2f} MB, loaded in {result['load_seconds']:.2f} s")


if __name__ == "__main__":
    main()
