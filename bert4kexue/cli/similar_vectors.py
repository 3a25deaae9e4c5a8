"""``bert4kexue similar encode | index | search``: vectors of a file, and the nearest among them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bert4kexue.cli.models import add_model_options
from bert4kexue.text.lines import read_lines

_EPILOG = """\
examples:
  bert4kexue similar search --model pretrained/roformer_tiny_zh --corpus lines.txt 怎么开机
  cat questions.txt | bert4kexue similar search --model DIR --corpus lines.txt --topk 3 -
  bert4kexue similar index --model DIR --corpus lines.txt --output lines.index --kind hnsw
  bert4kexue similar search --model DIR --index lines.index 怎么开机

The output has one line a neighbour: query, rank, cosine, sentence, separated by tabs."""


def add(actions: Any) -> None:
    """Add the three commands."""
    parser = _command(
        actions,
        "encode",
        "the vectors of a file of sentences, as .npy",
        "Encodes a file of any size in bounded memory. Given again after an interruption the same "
        "command goes on.",
        encode,
    )
    parser.add_argument("--input", required=True, metavar="FILE", help="UTF-8, a sentence a line")
    parser.add_argument("--output", required=True, metavar="FILE", help="the .npy, a row a line")
    parser.add_argument(
        "--precision", choices=("float32", "float16", "int8", "binary"), default="float32"
    )
    parser.add_argument("--dimensions", type=int, help="keep the first so many")

    parser = _command(
        actions,
        "index",
        "an index of a file of sentences, for search",
        "Encodes a file and builds an index of it. Given again after an interruption of the "
        "encoding the same command goes on.",
        index,
    )
    parser.add_argument("--corpus", required=True, metavar="FILE", help="UTF-8, a sentence a line")
    parser.add_argument("--output", required=True, metavar="DIR", help="the index, with sentences")
    parser.add_argument(
        "--kind",
        choices=("exact", "flat", "ivf", "hnsw"),
        default="exact",
        help="exact needs NumPy alone, the others the faiss library (exact)",
    )
    parser.add_argument(
        "--reduce-to", type=int, metavar="N", help="dimensions of a random projection"
    )
    parser.add_argument(
        "--recall", type=int, default=0, metavar="Q", help="measure recall@10 on so many sentences"
    )

    parser = _command(
        actions,
        "search",
        "the sentences of a file or an index that are nearest to a query",
        "Encodes a file of sentences, or opens an index of one, and finds the nearest to each "
        "query by cosine.",
        search,
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--corpus", metavar="FILE", help="UTF-8, a sentence a line")
    where.add_argument("--index", metavar="DIR", help="what `similar index` made")
    parser.add_argument("--topk", type=int, default=5, help="neighbours of each query (5)")
    parser.add_argument("--batch-size", type=int, help="the most sentences run together")
    parser.add_argument(
        "query", nargs="+", help="a sentence; - reads sentences from standard input"
    )


def _command(actions: Any, name: str, what: str, why: str, run: Any) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=what,
        description=why,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    parser.add_argument(
        "--maxlen", type=int, default=128, help="tokens read at once; longer texts in pieces (128)"
    )
    parser.set_defaults(run=run)
    return parser


def _encoder(options: argparse.Namespace) -> Any:
    from bert4kexue.methods.sentence_encoder import SentenceEncoder

    return SentenceEncoder.load(options.model, family=options.family, maxlen=options.maxlen)


def encode(options: argparse.Namespace) -> int:
    """Write the vectors."""
    from bert4kexue.methods.vector_files import encode_file

    count = encode_file(
        _encoder(options),
        options.input,
        options.output,
        precision=options.precision,
        dimensions=options.dimensions,
        progress=_told(_lines(Path(options.input))),
    )
    print(f"{options.output}: {count} vectors")
    return 0


def index(options: argparse.Namespace) -> int:
    """Encode, build, save."""
    import numpy as np

    from bert4kexue._files import atomic_write
    from bert4kexue.methods.vector_files import encode_file
    from bert4kexue.methods.vector_index import VectorIndex, recall

    output = Path(options.output)
    sentences = _sentences(read_lines(options.corpus))
    if not sentences:
        raise ValueError(f"{options.corpus} holds no sentence: it needs one a line")
    output.mkdir(parents=True, exist_ok=True)
    lines, vectors = output / "sentences.txt", output / "vectors.npy"
    text = "".join(f"{sentence}\n" for sentence in sentences)
    # The journal of an interrupted encoding knows this very file.
    if not lines.exists() or lines.read_text(encoding="utf-8") != text:
        with atomic_write(lines, "w") as file:
            file.write(text)
    encode_file(_encoder(options), lines, vectors, progress=_told(len(sentences)))
    rows = np.load(vectors, mmap_mode="r")
    built = VectorIndex.build(rows, options.kind, reduce_to=options.reduce_to)
    built.save(output / "index")
    if options.recall:
        some = rows[np.linspace(0, len(rows) - 1, min(options.recall, len(rows))).astype(int)]
        print(f"recall@10 on {len(some)} of the sentences: {recall(built, rows, some):.4f}")
    del rows
    vectors.unlink()
    about = {"model": str(options.model), "maxlen": options.maxlen, "sentences": len(sentences)}
    with atomic_write(output / "corpus.json", "w") as file:
        json.dump(about, file, ensure_ascii=False, indent=1)
        file.write("\n")
    print(f"{output}: {len(built)} sentences, {options.kind}")
    return 0


def search(options: argparse.Namespace) -> int:
    """Print every query's neighbours."""
    if options.corpus:
        corpus = _sentences(read_lines(options.corpus))
        if not corpus:
            raise ValueError(f"{options.corpus} holds no sentence: it needs one a line")
    else:
        path = Path(options.index) / "sentences.txt"
        if not (Path(options.index) / "corpus.json").is_file():
            raise ValueError(f"{options.index} holds no finished index: make it by `similar index`")
        corpus = path.read_text(encoding="utf-8").split("\n")[:-1]
    queries = [
        sentence
        for query in options.query
        for sentence in (_sentences(sys.stdin) if query == "-" else [query])
    ]
    from bert4kexue.methods.vector_index import VectorIndex

    encoder = _encoder(options)
    if options.corpus:
        found = VectorIndex.build(encoder.encode(corpus, options.batch_size))
    else:
        found = VectorIndex.load(Path(options.index) / "index")
    rows, cosines = found.search(encoder.encode(queries, options.batch_size), options.topk)
    for query, near, scores in zip(queries, rows, cosines, strict=True):
        kept = [(row, score) for row, score in zip(near, scores, strict=True) if row >= 0]
        for rank, (row, score) in enumerate(kept, 1):
            print(f"{query}\t{rank}\t{score:.4f}\t{corpus[row]}")
    return 0


def _told(total: int) -> Any:
    """Says on standard error how many lines are done."""

    def told(done: int) -> None:
        print(f"\rencoded {done} of {total}", end="", file=sys.stderr, flush=True)
        if done >= total:
            print(file=sys.stderr)

    return told


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _sentences(lines: Iterable[str]) -> Sequence[str]:
    return [line.strip() for line in lines if line.strip()]
