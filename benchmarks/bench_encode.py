"""`SentenceEncoder` against sentence-transformers: same weights, sentences and machine, in turn.

    BERT4KEXUE_DATA=... python benchmarks/bench_encode.py --peer VENV/bin/python [--json]

The peer's Python has torch and sentence-transformers; it runs under a preload that lets MKL use its
fast paths on AMD. It makes a BERT with random weights (4 layers, 256 wide, or BERT-base with
`--shape base`) over the Chinese vocabulary and saves it; both encode it with [CLS] pooling, vectors
of length one, and the vectors must agree. Sentences are 20,000 of LCQMC, BQ and ATEC, drawn by a
seed. Without `--peer`: the padding, the search of a million vectors, and the memory of encoding a
file, whose peak may not grow with its length.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from peers import Peer, mkl_preload, serve

SHAPES = {"small": (4, 256, 4), "base": (12, 768, 12)}
MAXLEN, BATCH = 64, 32


def peer() -> Any:
    """Inside of the peer's Python: answers with seconds, vectors and padding."""
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.set_num_threads(os.cpu_count() or 1)
    kept: dict[str, Any] = {}

    def answer(task: str, **given: Any) -> Any:
        if task == "make":
            layers, width, heads = given["shape"]
            torch.manual_seed(0)
            Path(given["folder"]).mkdir()
            shutil.copyfile(given["vocabulary"], Path(given["folder"]) / "vocab.txt")
            tokenizer = BertTokenizerFast.from_pretrained(given["folder"], do_lower_case=True)
            config = BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=4 * width,
            )
            BertModel(config).eval().save_pretrained(given["folder"])
            tokenizer.save_pretrained(given["folder"])
            body = models.Transformer(given["folder"], max_seq_length=MAXLEN)
            pool = models.Pooling(width, pooling_mode="cls")
            kept["model"] = SentenceTransformer(modules=[body, pool], device="cpu")
            kept["texts"] = json.loads(Path(given["texts"]).read_text(encoding="utf-8"))
            return True
        begun = time.perf_counter()
        vectors = kept["model"].encode(
            kept["texts"], batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        seconds = time.perf_counter() - begun
        np.save(given["vectors"], vectors)
        return seconds

    return answer


def sentences(folder: Path, count: int) -> list[str]:
    """Both sides of the pairs of three sets, drawn by a seed."""
    found: list[str] = []
    for name in ("LCQMC", "BQ", "ATEC"):
        path = folder / "sts_zh_cosent" / name / f"{name}.valid.data"
        for line in path.read_text(encoding="utf-8").split("\n"):
            found += line.split("\t")[:2] if line.count("\t") == 2 else []
    random.Random(0).shuffle(found)
    return found[:count]


def padding(encoder: Any, texts: list[str]) -> dict[str, float]:
    """Share of computed tokens that are real: sorted batches, and batches of 32 as they come."""
    lengths = np.array([len(row) for row in encoder._pieces(texts)[0]])
    computed = sum(h * w for _, (h, w) in encoder._predictor.plan(lengths))
    arrival = sum(
        len(part) * part.max() for part in np.split(lengths, range(BATCH, len(lengths), BATCH))
    )
    return {
        "real_share": float(lengths.sum() / computed),
        "real_share_by_arrival": float(lengths.sum() / arrival),
    }


def against(options: argparse.Namespace, folder: Path, texts: list[str]) -> dict[str, float]:
    """Both in turn."""
    from bert4kexue.methods.sentence_encoder import SentenceEncoder

    with tempfile.TemporaryDirectory() as place:
        model, listed, theirs = (Path(place) / name for name in ("model", "texts.json", "v.npy"))
        listed.write_text(json.dumps(texts), encoding="utf-8")
        command = [options.peer, str(Path(__file__).resolve()), "--serve"]
        other = Peer(command, mkl_preload(place))
        vocabulary = str(folder / "vocab" / "google_chinese_21128.vocab.txt")
        other.ask(
            task="make",
            folder=str(model),
            shape=SHAPES[options.shape],
            vocabulary=vocabulary,
            texts=str(listed),
        )
        keys = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (model / "bert_config.json").write_text(json.dumps(keys), encoding="utf-8")
        encoder = _encoder(SentenceEncoder, model, vocabulary)
        ours = encoder.encode(texts)
        other.ask(task="encode", vectors=str(theirs))
        difference = float(np.abs(ours - np.load(theirs)).max())
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for turn in range(options.rounds):
            for who in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                if who == "theirs":
                    seconds[who].append(other.ask(task="encode", vectors=str(theirs)))
                else:
                    begun = time.perf_counter()
                    encoder.encode(texts)
                    seconds[who].append(time.perf_counter() - begun)
        other.close()
    ours_s, theirs_s = (statistics.median(seconds[who]) for who in ("ours", "theirs"))
    return {
        "ratio": theirs_s / ours_s,
        "sentences_per_second": len(texts) / ours_s,
        "peer_sentences_per_second": len(texts) / theirs_s,
        "difference": difference,
        **padding(encoder, texts),
    }


def _encoder(kind: Any, model: Path, vocabulary: str) -> Any:
    import keras

    from bert4kexue.layers import FirstToken
    from bert4kexue.models import build_transformer_model
    from bert4kexue.tokenizers import Tokenizer

    body = build_transformer_model(
        model / "bert_config.json", model / "model.safetensors", model="bert"
    )
    pooled = keras.Model(body.inputs, FirstToken()(body.outputs[0]))
    return kind(pooled, Tokenizer(vocabulary, do_lower_case=True), maxlen=MAXLEN, long="cut")


def search(count: int, dimensions: int = 256, queries: int = 64) -> dict[str, float]:
    """Seconds of an exact search among so many vectors, and of faiss's where it is installed."""
    from bert4kexue.methods.vector_index import VectorIndex

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, dimensions)).astype(np.float32)
    vectors = centres[rng.integers(0, 1000, count)]
    vectors += 0.5 * rng.standard_normal((count, dimensions), np.float32)
    asked = vectors[:queries] + 0.1 * rng.standard_normal((queries, dimensions), np.float32)
    index = VectorIndex.build(vectors)
    found = {}
    for size in (1, queries):
        index.search(asked[:size], 10)
        begun = time.perf_counter()
        true, _ = index.search(asked[:size], 10)
        found[f"exact_{size}_seconds"] = time.perf_counter() - begun
    try:
        import faiss  # noqa: F401
    except ImportError:
        return found
    begun = time.perf_counter()
    ivf = VectorIndex.build(vectors, "ivf", cells=1024, probes=16)
    found["ivf_build_seconds"] = time.perf_counter() - begun
    begun = time.perf_counter()
    rows, _ = ivf.search(asked, 10)
    found["ivf_seconds"] = time.perf_counter() - begun
    shared = [len(np.intersect1d(a, b)) for a, b in zip(true, rows, strict=True)]
    found["ivf_recall"] = float(np.mean(shared) / 10)
    return found


def memory(encoder: Any, texts: list[str], lines: int) -> dict[str, float]:
    """Megabytes in use after a quarter of a file's lines and after all of them."""
    from bert4kexue.methods.vector_files import encode_file

    used: list[tuple[int, float]] = []
    page = os.sysconf("SC_PAGE_SIZE")

    def told(done: int) -> None:
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        used.append((done, resident * page / 2**20))

    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "lines.txt"
        with source.open("w", encoding="utf-8", newline="\n") as file:
            for i in range(lines):
                file.write(texts[i % len(texts)] + "\n")
        begun = time.perf_counter()
        encode_file(encoder, source, Path(place) / "v.npy", precision="int8", progress=told)
        seconds = time.perf_counter() - begun
    first = max(megabytes for done, megabytes in used if done <= lines / 4 + 8192)
    return {
        "lines": lines,
        "megabytes_after_a_quarter": first,
        "megabytes_growth": max(megabytes for _, megabytes in used) - first,
        "lines_per_second": lines / seconds,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="a Python with torch and sentence-transformers")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=SHAPES, default="small", help="of the model (small)")
    parser.add_argument("--sentences", type=int, default=20000, help="encoded (20,000)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--vectors", type=int, default=1_000_000, help="searched (1,000,000)")
    parser.add_argument("--lines", type=int, default=100_000, help="of the file (100,000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.serve:
        serve(peer)
        return
    if not os.environ.get("BERT4KEXUE_DATA"):
        raise SystemExit("set BERT4KEXUE_DATA to the data folder: the lengths must be real")
    folder = Path(os.environ["BERT4KEXUE_DATA"])
    texts = sentences(folder, options.sentences)
    if options.peer:
        result = against(options, folder, texts)
    else:
        from bert4kexue.methods.sentence_encoder import SentenceEncoder

        shipped = Path(__file__).resolve().parents[1] / "pretrained" / "roformer_tiny_zh"
        encoder = SentenceEncoder.load(shipped, maxlen=MAXLEN)
        result = padding(encoder, texts)
        if options.vectors:
            result |= search(options.vectors)
        if options.lines:
            result |= memory(encoder, texts, options.lines)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value:,.4g}", file=sys.stdout)


if __name__ == "__main__":
    main()
