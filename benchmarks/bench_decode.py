"""Beam search with a cache in one compiled loop, beside what people use.

Random weights of BERT-base's shape (`base`: 12 layers of 768) and of a small model (`small`: 4
layers of 312), UniLM, beam 4, sources of 64 tokens and exactly 32 new ones, float32.
Interleaved in one run:

* ours: `Generator(model, packed=True).generate`, XLA on TensorFlow, one sample and a batch of 16;
  and plain, without ``packed``;
* the bert4keras way: `AutoRegressiveDecoder.beam_search` around `model.predict`, the whole sequence
  at each step, one sample; bert4keras itself where `--bert4keras` names a Python that has it;
* Hugging Face: `generate` with its cache on a GPT-2 of the same size, one sample and 16, where
  `--huggingface` names a Python with torch and transformers. torch's MKL takes a slow path on AMD's
  processors; a preloaded library that says otherwise is compiled first (gcc), as its users do.

Tokens/s are those of the best hypotheses; compiling is done before. Medians and their ratios. With
`--table` tokens/s against batch, beam and length instead, and the cache's memory. `--store` keeps
the numbers of several runs in one file, `--write` makes the page out of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE, TARGET, BEAMS, VOCABULARY = 64, 32, 4, 21128
SIZES = {
    "base": {"layers": 12, "hidden": 768, "heads": 12, "inner": 3072},
    "small": {"layers": 4, "hidden": 312, "heads": 12, "inner": 1248},
}


def config(size: str) -> dict[str, Any]:
    """A bert_config of the size."""
    s = SIZES[size]
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": s["hidden"],
        "num_hidden_layers": s["layers"],
        "num_attention_heads": s["heads"],
        "intermediate_size": s["inner"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }


def sources(batch: int, length: int = SOURCE) -> Any:
    """Random ids (batch, length)."""
    import numpy as np

    return np.random.RandomState(batch).randint(1000, VOCABULARY, size=(batch, length))


def serve(kind: str, size: str) -> None:
    """A peer in a process of its own: reads a batch size a line, writes the seconds it took."""
    answer = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    run = {"huggingface": _huggingface, "bert4keras": _bert4keras}[kind](size)
    for line in sys.stdin:
        begun = time.perf_counter()
        run(int(line))
        answer.write(f"{time.perf_counter() - begun}\n")


def _huggingface(size: str) -> Callable[[int], None]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(os.cpu_count() or 1)
    s = SIZES[size]
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=512,
            n_embd=s["hidden"],
            n_layer=s["layers"],
            n_head=s["heads"],
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()

    def run(batch: int) -> None:
        ids = torch.tensor(sources(batch))
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                num_beams=BEAMS,
                do_sample=False,
                min_new_tokens=TARGET,
                max_new_tokens=TARGET,
                use_cache=True,
                eos_token_id=None,
                pad_token_id=0,
            )
        assert out.shape == (batch, SOURCE + TARGET)

    return run


def _bert4keras(size: str) -> Callable[[int], None]:
    os.environ["TF_KERAS"] = "1"
    import tensorflow as tf

    _ = tf.keras.layers.Layer  # TensorFlow 2.15 loads it lazily, and bert4keras wants it there
    from bert4keras.models import build_transformer_model
    from bert4keras.snippets import AutoRegressiveDecoder

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bert_config.json")
        path.write_text(json.dumps(config(size)), encoding="utf-8", newline="\n")
        model = build_transformer_model(str(path), application="unilm")
    decoder = _uncached(
        AutoRegressiveDecoder, lambda d, x: d.last_token(model).predict(x, verbose=0)
    )

    def run(batch: int) -> None:
        for ids in sources(batch):
            decoder.beam_search([ids], BEAMS)

    return run


def _uncached(base: Any, predict: Callable[[Any, Any], Any]) -> Any:
    """The subclass that every bert4keras script writes; no token ends an output."""
    import numpy as np

    class Uncached(base):
        @base.wraps(default_rtype="probas")
        def predict(self, inputs: Any, output_ids: Any, states: Any) -> Any:
            (source,) = inputs
            ids = np.concatenate([source, output_ids], axis=1)
            segments = np.concatenate([np.zeros_like(source), np.ones_like(output_ids)], axis=1)
            return predict(self, [ids, segments])

    return Uncached(start_id=None, end_id=-1, maxlen=TARGET)


class Peer:
    """A server of this script in another Python."""

    def __init__(self, python: str, kind: str, size: str, preload: str | None = None) -> None:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if preload:
            environment["LD_PRELOAD"] = preload
        self.process = subprocess.Popen(
            [python, __file__, "--serve", kind, "--size", size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=environment,
        )

    def __call__(self, batch: int) -> float:
        """Seconds that one call took, as the peer's own clock has it."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{batch}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer {self.process.args} ended: run it by hand to see why")
        return float(line)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def preloaded(folder: str) -> str:
    """A library that tells MKL it runs on Intel's processors."""
    source, library = Path(folder, "mkl.c"), Path(folder, "mkl.so")
    source.write_text(
        "int mkl_serv_intel_cpu_true(void) { return 1; }\n", encoding="utf-8", newline="\n"
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)


def model_of(size: str) -> Any:
    """A UniLM with random weights."""
    import keras

    from bert4kexue.models import build_transformer_model

    keras.utils.set_random_seed(0)
    return build_transformer_model(config(size), application="unilm")


def compare(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Ours and the peers in turn; tokens/s and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        peers: dict[str, Peer] = {}
        if arguments.huggingface:
            library = preloaded(folder)
            peers["huggingface"] = Peer(arguments.huggingface, "huggingface", size, library)
        if arguments.bert4keras:
            peers["bert4keras"] = Peer(arguments.bert4keras, "bert4keras", size)
        try:
            return _compare(size, arguments.rounds, peers)
        finally:
            for peer in peers.values():
                peer.close()


def _compare(size: str, rounds: int, peers: dict[str, Peer]) -> dict[str, Any]:
    from bert4kexue.decoding import AutoRegressiveDecoder
    from bert4kexue.models.generation import Generator

    model = model_of(size)

    def ours(packed: bool) -> Callable[[int], float]:
        generator = Generator(model, packed=packed)

        def run(batch: int) -> float:
            ids = sources(batch)
            begun = time.perf_counter()
            outputs = generator.generate(ids, num_beams=BEAMS, max_new_tokens=TARGET)
            seconds = time.perf_counter() - begun
            assert all(len(found[0].ids) == TARGET for found in outputs)
            return seconds

        return run

    plain, packed = ours(False), ours(True)
    runs: dict[str, tuple[int, Callable[[int], float]]] = {
        "ours_1": (1, packed),
        "ours_16": (16, packed),
        "plain_1": (1, plain),
        "plain_16": (16, plain),
    }
    if "bert4keras" in peers:
        runs["bert4keras_1"] = (1, peers["bert4keras"])
    else:
        decoder = _uncached(
            AutoRegressiveDecoder, lambda d, x: d.last_token(model).predict(x, verbose=0)
        )

        def uncached(batch: int) -> float:
            begun = time.perf_counter()
            decoder.beam_search([sources(1)[0]], BEAMS)
            return time.perf_counter() - begun

        runs["bert4keras_1"] = (1, uncached)
    if "huggingface" in peers:
        runs["huggingface_1"] = (1, peers["huggingface"])
        runs["huggingface_16"] = (16, peers["huggingface"])
    compiling = {}
    for name, (batch, run) in runs.items():
        compiling[name] = run(batch)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (batch, run) in runs.items():
            time.sleep(0.2)  # threads of the one before fall asleep
            seconds[name].append(run(batch))
    speed = {
        name: runs[name][0] * TARGET / statistics.median(values) for name, values in seconds.items()
    }
    result = {
        "tokens_per_second": {name: round(value, 2) for name, value in speed.items()},
        "first_call_seconds": {n: round(compiling[n], 2) for n in ("ours_1", "ours_16")},
        "rounds": rounds,
        "bert4keras_itself": "bert4keras" in peers,
        "to_bert4keras_1": round(speed["ours_1"] / speed["bert4keras_1"], 2),
        "to_bert4keras_16": round(speed["ours_16"] / speed["bert4keras_1"], 2),
    }
    if "huggingface" in peers:
        result["to_huggingface_1"] = round(speed["ours_1"] / speed["huggingface_1"], 2)
        result["to_huggingface_16"] = round(speed["ours_16"] / speed["huggingface_16"], 2)
    return result


def table(size: str, rounds: int) -> dict[str, Any]:
    """Tokens/s against batch, beam and length; the cache's bytes as computed and as measured."""
    from bert4kexue.models.generation import Generator

    generator = Generator(model_of(size), packed=True)
    rows = []
    for batch, beams, length in (
        *((b, w, TARGET) for b in (1, 4, 16) for w in (1, 4, 8)),
        *((1, 4, n) for n in (16, 64, 128)),
        (16, 4, 128),
    ):
        options = {"num_beams": beams, "max_new_tokens": length}
        ids = sources(batch)
        generator.generate(ids, **options)
        values = []
        for _ in range(rounds):
            begun = time.perf_counter()
            generator.generate(ids, **options)
            values.append(time.perf_counter() - begun)
        rows.append([batch, beams, length, round(batch * length / statistics.median(values), 1)])
        print(*rows[-1], file=sys.stderr)
    return {
        "rounds": rounds,
        "rows": rows,
        "memory": [memory(size, b, w, n) for b, w, n in ((1, 4, 32), (16, 4, 32), (16, 4, 128))],
    }


def memory(size: str, batch: int, beams: int, length: int) -> dict[str, Any]:
    """Bytes of keys and values: the formula, the arrays, and with the source held once per beam."""
    import keras

    from bert4kexue.models.decoder import PrefixDecoder

    s = SIZES[size]
    a_place = s["layers"] * 2 * s["hidden"] * 4 * batch
    convert = keras.ops.convert_to_tensor
    ids = convert(sources(batch).astype("int32"))
    inputs = {"token_ids": ids, "segment_ids": keras.ops.zeros_like(ids)}
    _, state = PrefixDecoder(model_of(size)).start(inputs, beams, length)
    arrays = keras.tree.flatten(state["caches"])
    held = sum(keras.ops.convert_to_numpy(x).nbytes for x in arrays)
    return {
        "batch": batch,
        "beams": beams,
        "length": length,
        "computed": a_place * (SOURCE + beams * (length - 1)),
        "measured": held,
        "source_per_beam": a_place * beams * (SOURCE + length - 1),
    }


def page(stored: dict[str, Any], note: str = "") -> str:
    """docs/results/decoding.md."""
    lines = [
        "# Decoding speed",
        "",
        "Written by `benchmarks/bench_decode.py`. Random weights, UniLM, float32, beam 4, source "
        f"of {SOURCE} tokens, {TARGET} new tokens (none ends before), {os.cpu_count()} cores. "
        "Tokens/s of the best hypotheses, medians of one interleaved run, compiling apart.",
        "",
        "The bert4keras way is `AutoRegressiveDecoder.beam_search` around `model.predict`, one "
        "sample at a time. Hugging Face is `generate` with its cache on a GPT-2 of the same size, "
        "with the preloaded library that gives MKL its fast path on AMD's processors. Ratios are "
        "those of `Generator(model, packed=True)`; plain is without.",
        "",
        "| model | samples | packed | plain | bert4keras way, 1 sample | Hugging Face "
        "| ratio to bert4keras | ratio to Hugging Face | first call, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for size in SIZES:
        if size not in stored:
            continue
        r = stored[size]
        speed = r["tokens_per_second"]
        for batch in (1, 16):
            theirs = speed.get(f"huggingface_{batch}", "")
            lines.append(
                f"| {size} | {batch} | {speed[f'ours_{batch}']} "
                f"| {speed[f'plain_{batch}']} | {speed['bert4keras_1']} "
                f"| {theirs} | {r[f'to_bert4keras_{batch}']} "
                f"| {r.get(f'to_huggingface_{batch}', '')} "
                f"| {r['first_call_seconds'][f'ours_{batch}']} |"
            )
    if note:
        lines += ["", note]
    itself = [size for size in SIZES if stored.get(size, {}).get("bert4keras_itself")]
    if itself:
        lines += ["", f"bert4keras is bert4keras 0.11.5 itself for: {', '.join(itself)}."]
    for size in SIZES:
        if f"table_{size}" not in stored:
            continue
        t = stored[f"table_{size}"]
        lines += ["", f"## Batch, beam and length ({size})", ""]
        lines += [f"Packed; medians of {t['rounds']} runs." if t["rounds"] > 1 else "Packed.", ""]
        lines += ["| samples | beams | new tokens | tokens/s |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(map(str, row))} |" for row in t["rows"]]
        lines += [
            "",
            "## Memory of keys and values",
            "",
            "Computed: layers x 2 x hidden x 4 bytes x samples x (source + beams x (new tokens - "
            "1)). Measured: the arrays. The last column is what a source copied for every beam "
            "would take.",
            "",
            "| samples | beams | new tokens | computed, MB | measured, MB | source per beam, MB |",
            "|---|---|---|---|---|---|",
        ]
        for m in t["memory"]:
            sizes = (m["computed"], m["measured"], m["source_per_beam"])
            lines.append(
                f"| {m['batch']} | {m['beams']} | {m['length']} | "
                + " | ".join(f"{value / 1e6:.1f}" for value in sizes)
                + " |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--huggingface", help="a Python with torch and transformers")
    parser.add_argument("--bert4keras", help="a Python with bert4keras and TensorFlow 2.15")
    parser.add_argument("--table", action="store_true", help="batch, beam and length instead")
    parser.add_argument("--store", type=Path, help="JSON file that numbers are added to")
    parser.add_argument("--write", type=Path, help="write the page from --store; runs nothing")
    parser.add_argument("--note", default="", help="what the page adds about this run")
    parser.add_argument("--serve", choices=("huggingface", "bert4keras"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, arguments.size)
    stored = {}
    if arguments.store and arguments.store.exists():
        stored = json.loads(arguments.store.read_text(encoding="utf-8"))
    if arguments.write:
        arguments.write.write_text(page(stored, arguments.note), encoding="utf-8", newline="\n")
        return None
    if arguments.table:
        result = table(arguments.size, arguments.rounds)
        stored[f"table_{arguments.size}"] = result
    else:
        result = compare(arguments.size, arguments)
        stored[arguments.size] = result
    if arguments.store:
        text = json.dumps(stored, indent=1) + "\n"
        arguments.store.write_text(text, encoding="utf-8", newline="\n")
    print(json.dumps(result) if arguments.json else json.dumps(result, indent=1))
    return None


if __name__ == "__main__":
    main()
