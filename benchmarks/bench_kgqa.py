"""Question answering over a knowledge base of KgCLUE's size: its build from text, questions/s.

    python benchmarks/bench_kgqa.py [FOLDER] [--triples 20559652] [--part text|build|answer|all]

Facts are those of `synthetic_triples.py` as text, `S（M）`, P, O with tabs between them, written in
the characters of the shipped RoFormer's vocabulary (the rarest drawn ones as two characters, since
it has fewer). `build` is `bert4kexue kgqa build` with two workers, tokenization included, in a
process of its own; memory is the sum over it and its workers. `answer` answers questions that name
a subject and a predicate of the base by `KnowledgeQA` with the look-ahead, the best key of a beam
of 3, the tree mapped from its file; as many other questions come before and compile. The first of
the questions are then answered in bert4keras's way on the same model: nested dictionaries of a part
of the facts (all of them take some 30 GB), one question at a time, the whole row through the model
for every token, the look-ahead by listing the keys below each prefix and common subsequences in
Python. There the model runs by `Model.predict`, as in bert4keras's scripts, and once more by
`predict_on_batch`, which costs less for so small a batch. FOLDER keeps text and base, 3 GB;
without one they are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "pretrained" / "roformer_tiny_zh"
BLOCK = 1 << 18
MB = 1e6


def write_text(path: Path, triples: int) -> dict:
    """The facts as lines."""
    import synthetic_triples

    vocabulary = (MODEL / "vocab.txt").read_text(encoding="utf-8").splitlines()
    known = [t for t in vocabulary if len(t) == 1 and "\u4e00" <= t <= "\u9fff"]
    more = 6_000 - len(known)
    spelled = np.array(known + [known[i] + known[i + more] for i in range(more)], object)
    tokens, starts = synthetic_triples.keys(triples)
    begun = time.perf_counter()
    with open(path.with_suffix(".partial"), "w", encoding="utf-8", newline="\n") as file:
        for first in range(0, triples, BLOCK):
            last = min(first + BLOCK, triples)
            ids = tokens[starts[first] : starts[last]].astype(np.int64)
            ends = ids == synthetic_triples.SEPARATOR
            rank = np.where(ends, 0, ids - synthetic_triples.FIRST_CHARACTER)
            parts = "".join(np.where(ends, "\n", spelled[rank])).split("\n")
            names, predicates, meanings = parts[0:-1:3], parts[1::3], parts[2::3]
            objects = [*names[1:], names[0]]
            file.writelines(
                f"{name}（{meaning}）\t{predicate}\t{value}\n"
                if meaning
                else f"{name}\t{predicate}\t{value}\n"
                for name, predicate, meaning, value in zip(
                    names, predicates, meanings, objects, strict=True
                )
            )
    os.replace(path.with_suffix(".partial"), path)
    return {"text_MB": path.stat().st_size / MB, "text_s": time.perf_counter() - begun}


def build(source: Path, target: Path) -> dict:
    """The base out of the text: seconds, and the most memory of all its processes together."""
    words = ["kgqa", "build", source, "--model", MODEL, "--output", target, "--workers", 2]
    command = [sys.executable, "-m", "bert4kexue", *map(str, words), "--overwrite"]
    begun, most = time.perf_counter(), 0.0
    process = subprocess.Popen(command, cwd=ROOT)
    while process.poll() is None:
        most = max(most, _memory(process.pid))
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    size = sum(path.stat().st_size for path in target.iterdir())
    seconds = time.perf_counter() - begun
    return {"build_s": seconds, "build_MB": most, "folder_MB": size / MB}


def _memory(pid: int) -> float:
    """Megabytes of a process and its children; of shared pages each has its share."""
    total = 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss_Anon"):
                total += int(line.split()[1]) * 1024 / MB
        total += sum(_memory(int(child)) for child in children.read_text("utf-8").split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


# --- questions ----------------------------------------------------------------------------------


def sample(source: Path, count: int, lines: int) -> list[str]:
    """Questions from the first lines of the text."""
    with open(source, encoding="utf-8") as file:
        rows = [next(file).rstrip("\n").split("\t") for _ in range(lines)]
    chosen = np.random.default_rng(1).choice(len(rows), count, replace=False)
    return [f"{rows[i][0].split('（')[0]}的{rows[i][1]}是什么？" for i in chosen]


def ask(folder: Path, asked: list[str], before: list[str]) -> dict:
    """Questions a second, one at a time and 32 together."""
    from bert4kexue.cli.models import load_tokenizer
    from bert4kexue.methods.knowledge_base import KnowledgeBase
    from bert4kexue.methods.knowledge_qa import KnowledgeQA
    from bert4kexue.models import build_transformer_model

    tokenizer = load_tokenizer(str(MODEL))
    knowledge = KnowledgeBase.load(folder, tokenizer)
    model = build_transformer_model(MODEL, model="roformer", application="unilm", with_mlm="linear")
    result: dict = {"keys": len(knowledge), "nodes": knowledge.tree.node_count}
    for batch in (1, 32):
        qa = KnowledgeQA(model, tokenizer, knowledge, lookahead=True, batch_size=batch, maxlen=64)
        count = len(asked) if batch > 1 else max(1, len(asked) // 8)
        qa.answer_batch(before[:count], 1, 3)  # compiles
        begun = time.perf_counter()
        qa.answer_batch(asked[:count], 1, 3)
        result[f"questions_per_s_{batch}"] = count / (time.perf_counter() - begun)
    return result


def peer(source: Path, lines: int, asked: list[str]) -> dict:
    """The same in bert4keras's way."""
    from bert4kexue.cli.models import load_tokenizer
    from bert4kexue.decoding import AutoRegressiveDecoder
    from bert4kexue.methods.knowledge_base import fact_key, split_meaning
    from bert4kexue.models import build_transformer_model

    tokenizer = load_tokenizer(str(MODEL))
    end = tokenizer._token_end_id
    tree: dict = {}
    with open(source, encoding="utf-8") as file:
        for _ in range(lines):
            name, predicate, _ = next(file).rstrip("\n").split("\t")
            subject, meaning = split_meaning(name)
            node = tree
            for token in fact_key(tokenizer, (subject, predicate, meaning)):
                node = node.setdefault(token, {})

    def keys_below(node: dict, prefix: list[int]) -> list[list[int]]:
        if not node:
            return [prefix]
        return [k for token, below in node.items() for k in keys_below(below, [*prefix, token])]

    def common(a: list[int], b: list[int]) -> int:
        before = [0] * (len(b) + 1)
        for x in a:
            now = [0]
            for j, y in enumerate(b):
                now.append(before[j] + 1 if x == y else max(now[j], before[j + 1]))
            before = now
        return before[-1]

    class Answerer(AutoRegressiveDecoder):
        run: Any = None

        @AutoRegressiveDecoder.wraps("probas")
        def predict(self, inputs, output_ids, states):
            token_ids, segment_ids = inputs
            rows = np.concatenate([token_ids, output_ids], 1)
            segments = np.concatenate([segment_ids, np.ones_like(output_ids)], 1)
            logits = np.asarray(self.run([rows, segments]))[:, -1]
            probas = np.exp(logits - logits.max(1, keepdims=True))
            probas /= probas.sum(1, keepdims=True)
            found = np.zeros_like(probas)
            for i, written in enumerate(output_ids.tolist()):
                node = tree
                for token in written:
                    node = node.get(token, {})
                allowed = list(node)
                if len(allowed) > 1 and end in written:
                    question = token_ids[i].tolist()
                    base = common(written, question)
                    best: dict = {}
                    for key in keys_below(node, written):
                        token = key[len(written)]
                        gain = common(key, question) - base
                        best[token] = max(best.get(token, 0), gain)
                    for token, gain in best.items():
                        found[i, token] = probas[i, token] ** (1 / (gain + 1))
                else:
                    found[i, allowed] = probas[i, allowed]
            return found / np.maximum(found.sum(1, keepdims=True), 1e-30)

    model = build_transformer_model(MODEL, model="roformer", application="unilm", with_mlm="linear")
    answerer = Answerer(start_id=None, end_id=end, maxlen=64)
    rows = [tokenizer.encode(question, maxlen=64) for question in asked]
    ways = {
        "peer": lambda inputs: model.predict(inputs, verbose=0),
        "peer_on_batch": model.predict_on_batch,
    }
    result: dict = {"peer_keys": lines}
    for name, run in ways.items():
        answerer.run = run
        answerer.beam_search([*rows[0]], topk=3, min_ends=3)
        begun = time.perf_counter()
        for token_ids, segment_ids in rows:
            answerer.beam_search([token_ids, segment_ids], topk=3, min_ends=3)
        result[f"{name}_questions_per_s"] = len(rows) / (time.perf_counter() - begun)
    return result


def measured(folder: Path, options: argparse.Namespace) -> dict:
    """The parts that are asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    source, base = folder / "facts.tsv", folder / "facts"
    result: dict = {}
    if not source.is_file():
        result |= write_text(source, options.triples)
    if options.part in ("build", "all") or (options.part == "answer" and not base.is_dir()):
        result |= build(source, base)
    if options.part in ("answer", "all"):
        lines = min(options.peer_triples, options.triples)
        questions = sample(source, 2 * options.questions, lines)
        asked, before = questions[: options.questions], questions[options.questions :]
        result |= ask(base, asked, before)
        result |= peer(source, lines, asked[: options.peer_questions])
        for name in ("peer", "peer_on_batch"):
            its = result[f"{name}_questions_per_s"]
            result[f"times_{name}"] = result["questions_per_s_32"] / its
    return result


def main() -> None:
    """Measure the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--triples", type=int, default=20_559_652)
    parser.add_argument("--part", choices=("text", "build", "answer", "all"), default="all")
    parser.add_argument("--questions", type=int, default=512)
    parser.add_argument("--peer-triples", type=int, default=1_000_000)
    parser.add_argument("--peer-questions", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    with tempfile.TemporaryDirectory() as scratch:
        result = measured(options.folder or Path(scratch), options)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:24s} {value:,.2f}")


if __name__ == "__main__":
    main()
