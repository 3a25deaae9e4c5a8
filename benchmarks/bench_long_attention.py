"""Time and memory of attention over long inputs, kind by kind, in one run.

The attention core alone, without projections: one row, 12 heads of 64 (BERT-base, `--heads`),
float32, no gradients, compiled as the backend compiles (`KERAS_BACKEND` chooses it). Every pair of
kind and length is a process of its own, so that its peak memory is its own; lengths grow and at
each length all kinds take their turn, so that a disturbance of the machine meets all of them.

Kinds (`--kinds`) are entries of KINDS, one function each:

* `softmax`: all weights at once;
* `chunked`: the same numbers, `query_chunk` queries at a time;
* `fused`: Keras's own operation;
* `elu1`, `performer`, `taylor`: linear attention by these maps, of 64, 266 and 2,145 features.

Printed are median milliseconds (of one call, the first, where it takes more than 10 s: tracing is
then nothing beside it), the peak of memory beyond what the process held before its first call, and
the slope of log time against log length over each kind's last three lengths. `--store` keeps the
numbers as JSON, after each length; `--json` prints them last.
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

SIZE = 64
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


def linear(spec: Any) -> Attend:
    """Linear attention by a feature map."""
    from bert4kexue.ops.feature_maps import feature_map
    from bert4kexue.ops.linear_attention import linear_attention

    chosen, scale = feature_map(spec), SIZE**0.25
    drawn = chosen.draw(SIZE) if chosen.random else None
    return lambda q, k, v: linear_attention(q / scale, k / scale, v, chosen, drawn)[0]


KINDS: dict[str, Callable[[], Attend]] = {
    "softmax": softmax,
    "chunked": chunked,
    "fused": fused,
    "elu1": lambda: linear("elu1"),
    "performer": lambda: linear({"kind": "performer", "features": 266, "seed": 0}),
    "taylor": lambda: linear("taylor"),
}
DEFAULT = ["softmax", "chunked", "elu1", "performer", "taylor"]


def measure(kind: str, length: int, heads: int) -> dict[str, float]:
    """Median seconds, and the peak in MB beyond what was held before the first call."""
    import resource

    import keras
    import numpy as np

    from bert4kexue.models.compilation import compiled

    random = np.random.RandomState(0)
    shape = (1, length, heads, SIZE)
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
    begun = time.perf_counter()
    keras.ops.convert_to_numpy(run(*inputs)[0, 0])  # compiled
    first = time.perf_counter() - begun
    seconds = [first] if first > 10 else []
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


def slopes_of(found: dict[str, dict[int, dict[str, float]]]) -> dict[str, float]:
    """Each kind's, over its last three lengths."""
    slopes = {}
    for kind, by_length in found.items():
        last = sorted(by_length)[-3:]
        if len(last) > 1:
            slopes[kind] = slope(last, [by_length[n]["seconds"] for n in last])
    return slopes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=DEFAULT)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--store", type=Path, help="a JSON file for the numbers")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON, last")
    parser.add_argument(
        "--one", nargs=3, metavar=("KIND", "LENGTH", "HEADS"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], *map(int, options.one[1:]))))
        return
    found: dict[str, dict[int, dict[str, float]]] = {kind: {} for kind in options.kinds}
    print(f"{'length':>8}" + "".join(f"{kind:>16} ms {'MB':>7}" for kind in options.kinds))
    for length in sorted(options.lengths):
        row = f"{length:>8}"
        for kind in options.kinds:
            if length > LONGEST.get(kind, length):
                row += f"{'-':>19} {'-':>7}"
                continue
            command = [sys.executable, __file__, "--one", kind, *map(str, (length, options.heads))]
            done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
            if done.returncode:  # the machine has not the memory: the others go on
                row += f"{'failed':>19} {'-':>7}"
                continue
            one = found[kind][length] = json.loads(done.stdout.splitlines()[-1])
            row += f"{1000 * one['seconds']:>19,.2f} {one['megabytes']:>7,.0f}"
        print(row, flush=True)
        result = {"heads": options.heads, "measured": found, "slopes": slopes_of(found)}
        if options.store:
            text = json.dumps(result, indent=1) + "\n"
            options.store.write_text(text, encoding="utf-8", newline="\n")
    for kind, value in result["slopes"].items():
        print(f"slope of {kind} over {sorted(found[kind])[-3:]}: {value:.2f}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
