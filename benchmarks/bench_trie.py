"""The prefix tree at the size of KgCLUE's knowledge base, and beside its peers at a million keys.

    python benchmarks/bench_trie.py [--triples 20559652] [--keys FOLDER] [--json]

Keys are those of `synthetic_triples.py`, in random order. Each part runs in a process of its own,
so that its memory is its own: build (keys in memory as integers, to a file), open and use. Times
of use are medians over 2,000 calls, of 32 beams at random depths. Peers, at `--peer-triples` keys:
bert4keras's nested dictionaries, walked from the root at each step as there, and marisa-trie where
it is installed: a token is one character, and what may come next is read off the keys that begin
with a prefix, of 3 tokens or more, since at the root it would list the whole tree.

Megabytes are of the process, with Python, NumPy and the keys in it; in the build of sorted keys
also the sorting that made them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = 21_128
CALLS = 2_000
MB = 1e6


def resident() -> float:
    """Megabytes of this process in memory now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / MB


def peak() -> float:
    """The most megabytes this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The keys that `generate` left."""
    return np.load(folder / "tokens.npy"), np.load(folder / "starts.npy")


def generate(folder: Path, triples: int) -> dict:
    """Draw the keys."""
    import synthetic_triples

    begin = time.perf_counter()
    tokens, starts = synthetic_triples.keys(triples)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "starts.npy", starts)
    return {"generate_seconds": time.perf_counter() - begin}


def build(folder: Path, order: str) -> dict:
    """Build from integers in memory and write the file."""
    from bert4kexue.decoding import PrefixTree

    tokens, starts = load(folder)
    if order == "sorted":
        tokens, starts = in_order(tokens, starts)
    before = resident()
    begin = time.perf_counter()
    tree = PrefixTree.from_arrays(tokens, starts)
    built = time.perf_counter()
    tree.save(folder / "tree")
    saved = time.perf_counter()
    result = {
        "build_seconds": saved - begin,
        "of_it_write_seconds": saved - built,
        "keys_megabytes": before,
        "peak_gigabytes": peak() / 1e3,
        "keys": len(tree),
        "tokens_per_key": len(tokens) / (len(starts) - 1),
        "nodes_per_key": tree.node_count / len(tree),
        "file_megabytes": (folder / "tree").stat().st_size / MB,
    }
    return result


def in_order(tokens: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same keys sorted."""
    from bert4kexue.decoding.trie_rows import gather

    lengths = np.diff(starts)
    padded = np.zeros(len(tokens) + 64, ">u2")
    padded[: len(tokens)] = tokens
    order = np.arange(len(lengths))
    for column in range(int(lengths.max()) // 4 * 4, -1, -4):  # least significant part first
        code = np.zeros(len(order), np.uint64)
        for place in range(column, column + 4):
            inside = lengths[order] > place
            part = np.where(inside, padded[np.minimum(starts[order] + place, len(tokens))], 0)
            code = code << np.uint64(16) | part.astype(np.uint64)
        order = order[np.argsort(code, kind="stable")]
    result = np.zeros_like(starts)
    np.cumsum(lengths[order], out=result[1:])
    return gather(tokens, starts[order], lengths[order]), result


def micro(calls: list) -> float:
    """The median time of some functions, in microseconds."""
    seconds = []
    for call in calls:
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * 1e6


def use(folder: Path) -> dict:
    """Open the file and go about in it."""
    from bert4kexue.decoding import PrefixTree

    before = resident()
    begin = time.perf_counter()
    tree = PrefixTree.load(folder / "tree")
    opened = time.perf_counter() - begin
    result = {"open_seconds": opened, "open_megabytes": resident(), "process_megabytes": before}
    tokens = np.load(folder / "tokens.npy", mmap_mode="r")
    starts = np.load(folder / "starts.npy", mmap_mode="r")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(starts) - 1, 40 * CALLS)
    keys = [tokens[starts[row] : starts[row + 1]].tolist() for row in rows]
    assert all(map(tree.contains, keys))

    def walk(key: list[int]) -> None:
        node = tree.root
        for token in key:
            tree.allowed(node)
            node = tree.step(node, token)

    thirteen = [key for key in keys if len(key) == 13][:CALLS]
    cold = micro([lambda key=key: walk(key) for key in thirteen])
    result["walk_13_first_microseconds"] = cold
    result["walk_13_microseconds"] = micro([lambda key=key: walk(key) for key in thirteen])
    held = []
    for key in keys[:CALLS]:
        depth = int(rng.integers(1, len(key)))
        held.append((tree.find(key[:depth]), key[depth]))

    def once(node: int, token: int) -> None:
        tree.allowed(tree.step(node, token))

    for _ in range(2):
        pairs = [lambda pair=pair: once(*pair) for pair in held]
        result["step_allowed_microseconds"] = micro(pairs)
    mask = np.zeros((32, VOCABULARY), bool)

    def beam(rows: slice) -> None:
        nodes = tree.step_many(at[rows], chosen[rows])
        tree.allowed_mask(nodes, VOCABULARY, out=mask)

    at = np.array([node for node, _ in held])
    chosen = np.array([token for _, token in held])
    groups = [slice(first, first + 32) for first in range(0, CALLS - 32, 32)]
    for _ in range(4):
        result["beam_32_microseconds"] = micro([lambda rows=rows: beam(rows) for rows in groups])
    result["used_megabytes"] = resident()
    return result


def nested(folder: Path) -> dict:
    """bert4keras's way: a dictionary per node."""
    tokens, starts = load(folder)
    keys = [tokens[a:b].tolist() for a, b in pairwise(starts)]
    before, begin = resident(), time.perf_counter()
    root: dict = {}
    for key in keys:
        node = root
        for token in key:
            node = node.setdefault(token, {})
    result = {"build_seconds": time.perf_counter() - begin, "megabytes": resident() - before}

    def walk(key: list[int]) -> None:
        for depth in range(len(key)):  # from the root at each step, as there
            node = root
            for token in key[:depth]:
                node = node[token]
            list(node)

    thirteen = [key for key in keys if len(key) == 13][:CALLS]
    result["walk_13_microseconds"] = micro([lambda key=key: walk(key) for key in thirteen])
    return result


def marisa(folder: Path) -> dict:
    """marisa-trie, a token being one character."""
    try:
        import marisa_trie
    except ImportError:
        return {}
    tokens, starts = load(folder)
    text = "".join(map(chr, tokens.tolist()))
    keys = [text[a:b] for a, b in pairwise(starts.tolist())]
    before, begin = resident(), time.perf_counter()
    tree = marisa_trie.Trie(keys)
    result = {"build_seconds": time.perf_counter() - begin, "megabytes": resident() - before}
    tree.save(str(folder / "marisa"))
    result["file_megabytes"] = (folder / "marisa").stat().st_size / MB

    def walk(key: str) -> None:
        for depth in range(3, len(key)):
            {found[depth] for found in tree.keys(key[:depth]) if len(found) > depth}

    thirteen = [key for key in keys if len(key) == 13][:CALLS]
    result["walk_13_microseconds"] = micro([lambda key=key: walk(key) for key in thirteen])
    return result


def part(name: str, folder: Path, *arguments: object) -> dict:
    """One part in a process of its own."""
    command = [sys.executable, __file__, "--part", name, str(folder), *map(str, arguments)]
    paths = [str(ROOT), str(Path(__file__).parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    return json.loads(done.stdout)


def measure(triples: int, peer_triples: int, kept: Path | None) -> dict:
    """All parts."""
    with tempfile.TemporaryDirectory() as folder:
        large = kept or Path(folder)
        result: dict = {}
        if not (large / "starts.npy").exists():
            result |= part("generate", large, triples)
        result["in_order"] = part("build", large, "sorted")
        result |= part("build", large, "random")
        result |= part("use", large)
        small = Path(folder) / "peers"
        small.mkdir()
        part("generate", small, peer_triples)
        result["ours"] = part("build", small, "random") | part("use", small)
        result["dict"] = part("nested", small)
        result["marisa"] = part("marisa", small)
    result["dict_over_ours_build"] = (
        result["dict"]["build_seconds"] / result["ours"]["build_seconds"]
    )
    memory = result["dict"]["megabytes"] / result["ours"]["file_megabytes"]
    result["dict_over_ours_memory"] = memory
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--triples", type=int, default=20_559_652)
    parser.add_argument("--peer-triples", type=int, default=1_000_000)
    parser.add_argument("--keys", type=Path, help="folder that keeps the generated keys")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, folder, *rest = options.part
        parts = {"build": build, "use": use, "nested": nested, "marisa": marisa}
        if name == "generate":
            print(json.dumps(generate(Path(folder), int(rest[0]))))
        else:
            print(json.dumps(parts[name](Path(folder), *rest)))
        return
    result = measure(options.triples, options.peer_triples, options.keys)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        if isinstance(value, dict):
            print(name, {key: round(number, 3) for key, number in value.items()})
        else:
            print(f"{name:<28}{value:,.3f}")


if __name__ == "__main__":
    main()
