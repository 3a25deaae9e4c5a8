"""Linear attention alone beside performer-pytorch and fast-transformers, on CPUs, in turn.

    python benchmarks/bench_linear_peers.py --peers OTHER/bin/python [--lengths 512 1024] [--json]

OTHER is a Python with torch and performer-pytorch or pytorch-fast-transformers; what is missing is
left out, and said. One row, 12 heads of 64, float32, no gradients. Ours is a graph on TensorFlow;
theirs is their layer of the same map, with MKL told that the processor is Intel's (else it takes a
slow path on AMD's). Everyone has a process of its own and the processes take turns, round by round.
Printed are medians in milliseconds, and theirs over ours. Performer has 266 features on both sides;
elu + 1 is fast-transformers' map.

`--one-thread` gives each one thread and counts its processor's time instead of the clock's: what
else runs on the machine hardly changes that.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from peers import Peer, mkl_preload, serve, timed

HEADS, SIZE, FEATURES = 12, 64, 266
FORMS = {
    "performer": ("performer", False),
    "performer, causal": ("performer", True),
    "elu1": ("elu1", False),
    "elu1, causal": ("elu1", True),
}
Run = Callable[[], Any]


def inputs(n: int) -> list[np.ndarray]:
    """Queries, keys, values (n, h, d)."""
    return list(np.random.RandomState(0).normal(size=(3, n, HEADS, SIZE)).astype("float32"))


def ours(form: str, n: int) -> Run:
    """A compiled call."""
    from bench_linear_attention import linear
    from keras import ops

    from bert4kexue.models.compilation import compiled

    kind, causal = FORMS[form]
    spec = {"kind": kind, "features": FEATURES, "seed": 0} if kind == "performer" else kind
    run = compiled(linear(spec, SIZE, causal), [], jit_compile=False)
    q, k, v = (ops.convert_to_tensor(x[None]) for x in inputs(n))
    return lambda: np.asarray(run(q, k, v))


def performer_pytorch(form: str, n: int) -> Run | None:
    """Their FastAttention over (b, h, n, d)."""
    import torch
    from performer_pytorch import FastAttention

    kind, causal = FORMS[form]
    if kind != "performer":
        return None
    layer = FastAttention(SIZE, nb_features=FEATURES, causal=causal).eval()
    tensors = [torch.from_numpy(x).permute(1, 0, 2)[None].contiguous() for x in inputs(n)]
    return _without_gradients(lambda: layer(*tensors))


def fast_transformers(form: str, n: int) -> Run | None:
    """Their layers over (b, n, h, d)."""
    from fast_transformers.attention import CausalLinearAttention, LinearAttention
    from fast_transformers.feature_maps import Favor
    from fast_transformers.masking import FullMask, LengthMask, TriangularCausalMask

    kind, causal = FORMS[form]
    options: dict[str, Any] = {"query_dimensions": SIZE}
    if kind == "performer":
        # Their dimensions are those of the output.
        options["feature_map"] = Favor.factory(n_dims=FEATURES, orthogonal=True)
    layer = (CausalLinearAttention if causal else LinearAttention)(**options).eval()
    import torch

    tensors = [torch.from_numpy(x)[None] for x in inputs(n)]
    mask = TriangularCausalMask(n) if causal else FullMask(n, n)
    lengths = LengthMask(torch.full((1,), n, dtype=torch.int64))
    return _without_gradients(lambda: layer(*tensors, mask, lengths, lengths))


def _without_gradients(call: Run) -> Run:
    import torch

    def run() -> Any:
        with torch.no_grad():
            return call().numpy()

    return run


RUNNERS: dict[str, tuple[Callable[[str, int], Run | None], str]] = {
    "ours": (ours, "tensorflow"),
    "performer-pytorch": (performer_pytorch, "performer_pytorch"),
    "fast-transformers": (fast_transformers, "fast_transformers"),
}


def answers(name: str) -> Callable[..., Any]:
    """What a process answers: seconds of a form at a length, None where it has none."""
    made: dict[tuple[str, int], Run | None] = {}

    def answer(form: str, n: int, times: int, one_thread: bool = False) -> list[float] | None:
        if (form, n) not in made:
            made.clear()
            made[form, n] = RUNNERS[name][0](form, n)
        run = made[form, n]
        clock = time.process_time if one_thread else time.perf_counter
        return None if run is None else timed(run, times, clock)

    return answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=sys.executable, help="the Python that has the peers")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--one-thread", action="store_true", help="processor's time, not clock's")
    parser.add_argument("--store", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON, last")
    parser.add_argument("--serve", choices=RUNNERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        if importlib.util.find_spec(RUNNERS[options.serve][1]) is None:
            print(json.dumps("missing"), flush=True)
            return
        serve(lambda: answers(options.serve))
        return
    result: dict[str, Any] = {form: {} for form in options.forms}
    if options.one_thread:  # of the children, which inherit it
        os.environ |= {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        preload = mkl_preload(folder)
        peers = {}
        for name in RUNNERS:
            python = sys.executable if name == "ours" else options.peers
            peer = Peer([python, __file__, "--serve", name], None if name == "ours" else preload)
            if peer.ask(form="elu1", n=16, times=1) == "missing":
                print(f"{name} is not installed in {python}: left out", flush=True)
                continue
            peers[name] = peer
        for form in options.forms:
            for n in options.lengths:
                seconds: dict[str, list[float]] = {name: [] for name in peers}
                for _ in range(options.rounds):
                    for name, peer in peers.items():
                        found = peer.ask(form=form, n=n, times=3, one_thread=options.one_thread)
                        seconds[name] += found or []
                medians = {k: 1000 * statistics.median(v) for k, v in seconds.items() if v}
                result[form][n] = medians
                print(f"{form}, {n}: {told(medians)}", flush=True)
        for peer in peers.values():
            peer.close()
    theirs = [
        times / medians["ours"]
        for by_length in result.values()
        for medians in by_length.values()
        for name, times in medians.items()
        if name != "ours"
    ]
    result["least_ratio"] = min(theirs, default=None)
    result["one_thread"] = options.one_thread
    if options.store:
        options.store.write_text(json.dumps(result, indent=1) + "\n", "utf-8", newline="\n")
    if options.json:
        print(json.dumps(result))


def told(medians: dict[str, float]) -> str:
    """Milliseconds, and the ratio to ours behind those of peers."""
    cells = []
    for name, ms in medians.items():
        ratio = "" if name == "ours" else f" ({ms / medians['ours']:.2f} times ours)"
        cells.append(f"{name} {ms:.2f} ms{ratio}")
    return ", ".join(cells)


if __name__ == "__main__":
    main()
