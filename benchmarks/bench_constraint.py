"""What a prefix tree of a million keys costs a step of beam search.

BERT-base's shape with random weights (`benchmarks/bench_decode.py`), UniLM, XLA on TensorFlow, beam
4, sources of 64 tokens. Keys are synthetic triples of KgCLUE's shape (`synthetic_triples.py`), the
tree is inside the graph. Generation of the same number of new tokens with and without the tree,
interleaved; no token is the end, so both make as many steps. A step is the difference between
generating 16 tokens and generating one, over 15, so that encoding the source is not in it. Prints
the medians and the share that the constraint adds.

    python benchmarks/bench_constraint.py --keys 1000000 --rounds 7
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

STEPS = 16
"""Steps of a run: all keys are cut or filled to so many tokens, so that none ends early."""


def fixed_keys(count: int) -> list[np.ndarray]:
    """Synthetic keys as (tokens, starts), each of STEPS tokens: the first ones, or repeated."""
    from synthetic_triples import keys

    tokens, starts = keys(count)
    lengths = np.diff(starts)
    place = np.arange(STEPS) % lengths[:, None]
    return [tokens[starts[:-1, None] + place].astype(np.int64).reshape(-1)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", default="base", choices=("base", "small"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    from bench_decode import BEAMS, VOCABULARY, model_of, sources

    from bert4kexue.decoding import PrefixTree
    from bert4kexue.models.generation import Generator
    from bert4kexue.ops.tree_constraint import GraphTree

    (tokens,) = fixed_keys(arguments.keys)
    tree = PrefixTree.from_arrays(tokens, np.arange(arguments.keys + 1) * STEPS)
    rule = GraphTree(tree, VOCABULARY)
    generator = Generator(model_of(arguments.size), end_token_id=None)
    options = {"num_beams": BEAMS, "return_unfinished": True}
    result: dict[str, float] = {"keys": len(tree), "widest": rule.widest}
    for batch in arguments.batch:
        ids = sources(batch)
        runs = {"free": None, "constrained": rule}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(arguments.rounds + 1):
            for name, constraint in runs.items():
                took = []
                for count in (STEPS, 1):
                    begin = time.perf_counter()
                    generator.generate(ids, constraint=constraint, max_new_tokens=count, **options)
                    took.append(time.perf_counter() - begin)
                if turn:  # the first compiles
                    times[name].append((took[0] - took[1]) / (STEPS - 1))
        ratios = [b / a for a, b in zip(times["free"], times["constrained"], strict=True)]
        result[f"step_ms_{batch}"] = 1e3 * statistics.median(times["free"])
        result[f"share_{batch}"] = statistics.median(ratios) - 1
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['keys']:,.0f} keys, the widest node has {result['widest']:,.0f} children")
    for batch in arguments.batch:
        step, share = result[f"step_ms_{batch}"], result[f"share_{batch}"]
        print(f"batch {batch}, beam {BEAMS}: {step:.1f} ms a step, the constraint adds {share:.1%}")


if __name__ == "__main__":
    main()
