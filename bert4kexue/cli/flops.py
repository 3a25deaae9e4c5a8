"""``bert4kexue flops``: what a Transformer costs, and when linear attention pays (post 8610)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_EPILOG = """\
examples:
  bert4kexue flops pretrained/roformer_tiny_zh
  bert4kexue flops bert_config.json --length 128 512 4096 --attention linear --features 64
  bert4kexue flops bert_config.json --length 512 --decode
  bert4kexue flops bench bert_config.json --store layers.json --picture layers.png

Counted are multiplications of matrix products; softmax, normalization and activations stand apart.
A length is dearer or cheaper strictly: at the tie itself neither is. `flops bench` times one real
layer of the config's sizes, with softmax and with linear attention, and sets both beside."""


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "flops",
        help="what a Transformer costs, part by part, and when linear attention pays",
        usage="bert4kexue flops [bench] CONFIG [options]",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        nargs="+",
        metavar="CONFIG",
        help="bert_config.json, its folder, or a name in pretrained/; bench before it measures",
    )
    parser.add_argument("--length", type=int, nargs="+", help="in tokens (128 to 4096)")
    parser.add_argument("--batch", type=int, default=1, help="rows (1)")
    parser.add_argument(
        "--attention", choices=("softmax", "linear", "performer"), default="softmax"
    )
    parser.add_argument("--features", type=int, help="of a head of linear attention (its size)")
    parser.add_argument("--causal", action="store_true", help="half of the pairs")
    parser.add_argument("--decode", action="store_true", help="one step after so many tokens")
    parser.add_argument("--backward", action="store_true", help="add the backward pass")
    bench = parser.add_argument_group("bench")
    bench.add_argument("--store", type=Path, help="a JSON file for what is measured")
    bench.add_argument("--picture", type=Path, help="a PNG of shares and crossovers (matplotlib)")
    bench.add_argument(
        "--least-seconds", type=float, default=1.0, help="of the layer at each length (1)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table, or measure."""
    from bert4kexue.analysis import flops
    from bert4kexue.cli.flops_bench import run_bench

    *words, name = options.config
    if words not in ([], ["bench"]):
        raise ValueError(f"one config, after `bench` or alone, not {' '.join(options.config)!r}")
    config = _config(name)
    if words:
        return run_bench(options, config)
    if options.store or options.picture:
        raise ValueError("--store and --picture keep what `flops bench` measures: say bench first")
    shape = flops.from_config(config, attention=options.attention, features=options.features)
    lengths = options.length or [128, 512, 1024, 4096]
    columns = []
    for length in lengths:
        if options.decode:
            parts = flops.decoding_step(shape, length, batch=options.batch)
        else:
            parts = flops.transformer_cost(
                shape, length, batch=options.batch, causal=options.causal
            )
        if options.backward:
            more = flops.backward(parts)
            parts = {name: cost + more[name] for name, cost in parts.items()}
        columns.append(parts)
    what = "one step more after so many tokens" if options.decode else "a forward pass"
    what += " and its backward pass" if options.backward else ""
    print(f"millions of multiplications, {what}")
    print(f"{options.attention} attention, batch {options.batch}")
    print(f"{'length':<22}" + "".join(f"{length:>16,}" for length in lengths))
    for name in columns[0]:
        if name != "element_wise" and any(parts[name].multiplications for parts in columns):
            values = [parts[name].multiplications / 1e6 for parts in columns]
            _row(name.replace("_", "-"), values)
    totals = [flops.total(parts) for parts in columns]
    _row("all", [cost.multiplications / 1e6 for cost in totals])
    cores = [parts["core"].multiplications for parts in columns]
    shares = [core / cost.multiplications for core, cost in zip(cores, totals, strict=True)]
    print(f"{'share of the core':<22}" + "".join(f"{share:>16.1%}" for share in shares))
    _row("GFLOP, all operations", [cost.operations / 1e9 for cost in totals])
    _row(
        "activations, M",
        [flops.activation_numbers(shape, n, batch=options.batch) / 1e6 for n in lengths],
    )
    _row(
        "cache, M",
        [flops.cache_numbers(shape, n, batch=options.batch) / 1e6 for n in lengths],
    )
    print(f"weights without heads: {flops.parameters(shape) / 1e6:,.1f} M numbers")
    found = flops.crossover_lengths(shape)
    wide, heads = (flops.crossover_lengths(shape, widen=w) for w in ("projections", "heads"))
    first = found["attention_over_feed_forward"]
    print(f"attention outweighs the feed-forward from {first:,} tokens")
    print(f"its core outweighs all the rest from {found['quadratic_over_rest']:,}")
    print(
        f"linear attention with {shape.m} features a head is cheaper from "
        f"{found['linear_cheaper']:,}; with values as wide, from {heads['linear_cheaper']:,}; with "
        f"query and key projections as wide, from {wide['linear_cheaper']:,}"
    )
    return 0


def _row(name: str, values: list[float]) -> None:
    print(f"{name:<22}" + "".join(f"{value:>16,.2f}" for value in values))


def _config(name: str) -> dict[str, Any]:
    from bert4kexue.checkpoints.places import checkpoint_folder

    path = Path(name)
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    with checkpoint_folder(name) as folder:
        found = sorted(folder.glob("*config*.json"))
        if len(found) != 1:
            raise ValueError(f"{folder} holds {len(found)} config files: give the path of one")
        return json.loads(found[0].read_text(encoding="utf-8"))
