"""log p(x) by importance sampling: ours against pythae's `get_nll`, one interleaved run on torch.

    KERAS_BACKEND=torch python benchmarks/bench_density.py [--rounds 3] [--json]

Perceptrons 784-256-256-16 and back with the same random weights on both sides, binary data, 1,000
draws a point. Both run on torch, each with its defaults (pythae decodes 100 draws at a time, ours
4,096 pairs of a point and a draw); the points take turns, and the ratio is of the medians per
point. Needs the packages of oracles/requirements-pythae*.txt, and this library.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")
ROOT = Path(__file__).resolve().parent.parent
POINTS, DRAWS = 16, 1000


def make_weights() -> list[np.ndarray]:
    """Kernels and biases in Keras's order."""
    random = np.random.RandomState(0)
    sizes = [(784, 256), (256, 256), (256, 16), (256, 16), (16, 256), (256, 256), (256, 784)]
    weights = []
    for inputs, outputs in sizes:
        weights.append((random.normal(size=(inputs, outputs)) / inputs**0.5).astype(np.float32))
        weights.append(np.zeros(outputs, np.float32))
    weights[7] -= 3.0  # of the log variance: a narrow proposal, as a trained encoder gives
    return weights


def measure(rounds: int) -> dict[str, float]:
    """Seconds a point of both, their ratio, and how far the estimates are apart."""
    sys.path[:0] = [str(ROOT), str(ROOT / "oracles")]
    import _pythae
    import torch

    from bert4kexue.methods.density_likelihoods import BernoulliLikelihood
    from bert4kexue.methods.density_models import mlp_vae

    weights = make_weights()
    theirs = _pythae.model(weights, 2, "bce")
    ours = mlp_vae((784,), 16, BernoulliLikelihood(), activation="tanh")
    ours.encoder.set_weights(weights[:8])
    ours.decoder.set_weights(weights[8:])
    random = np.random.RandomState(1)
    seconds: dict[str, list[float]] = {"ours": [], "pythae": []}
    values: dict[str, list[float]] = {"ours": [], "pythae": []}
    errors = []
    for turn in range(rounds + 1):  # the first warms up
        x = (random.random_sample((POINTS, 784)) < 0.2).astype(np.float32)

        def call_ours(x=x, turn=turn):
            found = ours.log_prob(x, DRAWS, seed=turn)
            errors.append(found.mean_error)
            return found.mean

        def call_theirs(x=x):
            with torch.no_grad():
                return theirs.get_nll(torch.tensor(x), DRAWS)

        calls = [("ours", call_ours), ("pythae", call_theirs)]
        for name, call in calls if turn % 2 else reversed(calls):
            start = time.perf_counter()
            value = call()
            if turn:
                seconds[name].append((time.perf_counter() - start) / POINTS)
                values[name].append(float(value))
    middle = {name: statistics.median(taken) for name, taken in seconds.items()}
    apart = np.array(values["ours"]) - np.array(values["pythae"])
    return {
        "ratio": middle["pythae"] / middle["ours"],
        "ours_milliseconds_a_point": 1000 * middle["ours"],
        "pythae_milliseconds_a_point": 1000 * middle["pythae"],
        "ours_mean_log_prob": float(np.mean(values["ours"])),
        "pythae_mean_get_nll": float(np.mean(values["pythae"])),
        "largest_difference": float(np.abs(apart).max()),
        "standard_error_of_ours": float(np.mean(errors)),
        "threads": float(torch.get_num_threads()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--page", type=Path, help="also write the figures to this Markdown file")
    arguments = parser.parse_args()
    result = measure(arguments.rounds)
    if arguments.page:
        lines = [
            "# log p(x): against pythae's `get_nll`",
            "",
            "Written by `benchmarks/bench_density.py --page`: the same weights and points, both on",
            f"torch, {POINTS} points a call, {DRAWS} draws a point, interleaved, medians of "
            f"{arguments.rounds} rounds.",
            "",
            "| figure | value |",
            "|---|---|",
            *(f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in result.items()),
            "",
            "`get_nll` returns + log p(x), one mean for all points and no error.",
        ]
        text = "\n".join(lines) + "\n"
        arguments.page.write_text(text, encoding="utf-8", newline="\n")
    if arguments.json:
        print(json.dumps({name: round(value, 4) for name, value in result.items()}))
        return
    for name, value in result.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
