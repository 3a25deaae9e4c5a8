"""Time and memory of attention over long inputs, kind by kind, in one run.

The attention core alone, without projections: one row, 12 heads of 64 (BERT-base), float32, no
gradients, compiled as the backend compiles (`KERAS_BACKEND` chooses it). Every pair of kind and
length is a process of its own, so that its peak memory is its own; lengths grow and at each length
all kinds take their turn, so that a disturbance of the machine meets all of them.

Kinds (`--kinds`) are entries of KINDS, one function each:

* `softmax`: all weights at once;
* `chunked`: the same numbers, `query_chunk` queries at a time;
* `fused`: Keras's own operation.

Printed are median milliseconds, the peak of memory beyond what the process held before its first
call, and the slope of log time against log length over each kind's last three lengths. `--store`
keeps the numbers as JSON; `--json` prints them last.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEADS, SIZE = 12, 64
LONGEST = {"softmax": 16384, "fused": 16384}  # beyond it the weights alone take 12 GB and more
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
CHUNK = 128

Attend = Callable[[Any, Any, Any], Any]


def softmax() -> Attend:
    """Softmax attention as it is defined."""
    from bert4kexue.ops.attention import attention_normalize, attention_scores, weighted_values

    return lambda q, k, v: weighted_values(attention_normalize(attention_scores(q, k)), v)


def chunked() -> Attend:
    """The same, CHUNK queries at a time."""
    from bert4kexue.ops.chunked_attention import by_query_chunks

    whole = softmax()
    return lambda q, k, v: by_query_chunks(
        lambda q, k, v, visible, bias: whole(q, k, v), q, k, v, chunk=CHUNK
    )


def fused() -> Attend:
    """The backend's own operation."""
    from bert4kexue.ops.attention import fused_attention

    return fused_attention


KINDS: dict[str, Callable[[], Attend]] = {"softmax": softmax, "chunked": chunked, "fused": fused}


def measure(kind: str, length: int) -> dict[str, float]:
    """Median seconds, and the peak in MB beyond what was held before the first call."""
    import resource

    import keras
    import numpy as np

    from bert4kexue.models.compilation import compiled

    random = np.random.RandomState(0)
    shape = (1, length, HEADS, SIZE)
    # Converted before the peak is read: the inputs are nobody's cost.
    inputs = [
        keras.ops.convert_to_tensor(random.standard_normal(shape).astype("float32"))
        for _ in range(3)
    ]
    run = compiled(KINDS[kind](), [], jit_compile=False)
    small = [x[:, :64] for x in inputs]
    keras.ops.convert_to_numpy(run(*small))  # libraries are loaded and threads started

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = peak()
    seconds: list[float] = []
    keras.ops.convert_to_numpy(run(*inputs)[0, 0])  # compiled
    while not seconds or (sum(seconds) < 1.0 and len(seconds) < 21):
        begun = time.perf_counter()
        keras.ops.convert_to_numpy(run(*inputs)[0, 0])
        seconds.append(time.perf_counter() - begun)
    return {"seconds": statistics.median(seconds), "megabytes": peak() - before}


def slope(lengths: list[int], seconds: list[float]) -> float:
    """Of the least-squares line through log seconds against log length."""
    x, y = [math.log(n) for n in lengths], [math.log(s) for s in seconds]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=["softmax", "chunked"])
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--store", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON, last")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "LENGTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    found: dict[str, dict[int, dict[str, float]]] = {kind: {} for kind in options.kinds}
    print(f"{'length':>8}" + "".join(f"{kind:>16} ms {'MB':>7}" for kind in options.kinds))
    for length in sorted(options.lengths):
        row = f"{length:>8}"
        for kind in options.kinds:
            if length > LONGEST.get(kind, length):
                row += f"{'-':>19} {'-':>7}"
                continue
            command = [sys.executable, __file__, "--one", kind, str(length)]
            done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
            one = found[kind][length] = json.loads(done.stdout.splitlines()[-1])
            row += f"{1000 * one['seconds']:>19,.2f} {one['megabytes']:>7,.0f}"
        print(row, flush=True)
    slopes = {}
    for kind, by_length in found.items():
        last = sorted(by_length)[-3:]
        if len(last) > 1:
            slopes[kind] = slope(last, [by_length[n]["seconds"] for n in last])
            print(f"slope of {kind} over {last}: {slopes[kind]:.2f}")
    result = {"measured": found, "slopes": slopes}
    if options.store:
        options.store.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
