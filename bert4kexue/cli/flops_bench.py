"""``bert4kexue flops bench``: the shares and crossovers of the formulas against a clock."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert4kexue.analysis import flops

LENGTHS = (128, 256, 512, 1024, 1536, 2048, 4096)
_PARTS = ("projections", "products", "core", "feed_forward", "layer", "linear_core", "linear_layer")
_CROSSOVERS = {
    "attention_over_feed_forward": "attention outweighs the feed-forward",
    "quadratic_over_rest": "its core outweighs all the rest",
    "linear_cheaper": "linear attention is cheaper",
}


def run_bench(options: argparse.Namespace, config: dict[str, Any]) -> int:
    """Measure one layer of the config, print the table, write what is asked for."""
    for name, value in (("--decode", options.decode), ("--backward", options.backward)):
        if value:
            raise ValueError(f"flops bench times forward passes of a layer: leave {name} out")
    if options.causal:
        raise ValueError("flops bench times attention over all pairs: leave --causal out")
    shape = flops.from_config(config, features=options.features)
    # What would stop the end is told before the minutes of measuring.
    for path in (options.store, options.picture):
        if path is not None and not path.resolve().parent.is_dir():
            raise ValueError(f"{path}: its folder does not exist: make it first")
    if options.picture:
        _figure()
    from bert4kexue.models.layer_times import LayerTimes, measure_layers, measured_crossovers

    feature_map: Any = "elu1"
    if options.attention == "performer":
        feature_map = {"kind": "performer", "features": options.features, "seed": 0}
    elif options.features not in (None, shape.d):
        raise ValueError(
            f"--features {options.features}: the map that is timed, elu1, has as many as a head "
            f"has channels, {shape.d}; leave it out, or take --attention performer"
        )
    print(f"milliseconds of one layer, batch {options.batch}; shares of the core in percent: of")
    print("multiplications, of the layer's time, and how much of the latter is softmax")
    print(f"{'length':>8}" + "".join(f"{name.replace('_', '-'):>14}" for name in _PARTS), end="")
    print(f"{'multiplied':>12}{'time':>7}{'softmax':>9}", flush=True)

    def said(row: LayerTimes) -> None:
        times = "".join(f"{1000 * getattr(row, name):>14,.2f}" for name in _PARTS)
        soft = max(0.0, row.core - row.products) / row.layer
        share = flops.core_share(shape, row.length)
        print(f"{row.length:>8,}{times}", end="")
        print(f"{100 * share:>12.1f}{100 * row.share:>7.1f}{100 * soft:>9.1f}", flush=True)

    rows = measure_layers(
        shape,
        options.length or LENGTHS,
        batch=options.batch,
        feature_map=feature_map,
        activation=config.get("hidden_act", "gelu"),
        least_seconds=options.least_seconds,
        said=said,
    )
    if options.attention == "performer":
        shape = dataclasses.replace(
            shape, attention="performer", features=_features(feature_map, shape.d)
        )
    predicted = flops.crossover_lengths(shape)
    measured = measured_crossovers(rows)
    spans = {row.length for row in rows}
    for name, words in _CROSSOVERS.items():
        found = told(measured[name], min(spans), max(spans))
        print(f"{words} from {predicted[name]:,} tokens by multiplications, {found} by the clock")
    if options.store:
        stored = {
            "shape": dataclasses.asdict(shape),
            "batch": options.batch,
            "rows": [dataclasses.asdict(row) for row in rows],
            "predicted": predicted,
            "measured": measured,
        }
        _write(options.store, json.dumps(stored, indent=1) + "\n")
    if options.picture:
        draw_shares(shape, rows, options.picture)
    return 0


def told(length: float, first: int, last: int) -> str:
    """A measured crossover in words."""
    if length == 0:
        return f"below {first:,}"
    return f"above {last:,}" if math.isinf(length) else f"{length:,.0f}"


def draw_shares(shape: flops.Shape, rows: Sequence[Any], path: str | os.PathLike[str]) -> None:
    """Draw the core's share of multiplications and of time, and what linear attention gains.

    Args:
        shape: of the layer.
        rows: :class:`bert4kexue.models.layer_times.LayerTimes` of several lengths.
        path: of the PNG.

    Raises:
        RuntimeError: matplotlib is not installed.
    """
    figure = _figure()
    left, right = figure.subplots(1, 2)
    lengths = [row.length for row in rows]
    left.plot(
        lengths,
        [100 * flops.core_share(shape_of_softmax(shape), n) for n in lengths],
        "--",
        color="black",
        label="multiplications (formula)",
    )
    left.plot(lengths, [100 * r.share for r in rows], "o-", label="time, softmax included")
    left.plot(
        lengths, [100 * r.products / r.layer for r in rows], "s-", label="time of the two products"
    )
    left.set(xscale="log", xlabel="tokens", ylabel="percent of the layer", ylim=(0, None))
    left.set_title("Share of the attention core")
    crossings = flops.crossover_lengths(shape)
    for name, label in (
        ("projections", "projections"),
        ("core", "core, softmax"),
        ("linear_core", "core, linear"),
        ("feed_forward", "feed-forward"),
    ):
        times = [1000 * getattr(row, name) for row in rows]
        right.plot(lengths, times, "o-", label=label)
    right.set(xscale="log", yscale="log", xlabel="tokens", ylabel="milliseconds")
    right.set_title("One layer; vertical: crossovers by multiplications")
    for (name, words), style in zip(_CROSSOVERS.items(), (":", "--", "-."), strict=True):
        length = crossings[name]
        if lengths[0] <= length <= 2 * lengths[-1]:
            right.axvline(length, linestyle=style, color="gray", label=f"{words}, {length:,}")
    for axes in (left, right):
        axes.set_xticks(lengths, [f"{n:,}" for n in lengths], rotation=45, fontsize=8)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    # Below and not among the lines, which go from corner to corner.
    right.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    figure.savefig(path, dpi=110)


def shape_of_softmax(shape: flops.Shape) -> flops.Shape:
    """The same sizes with softmax attention."""
    return dataclasses.replace(shape, attention="softmax")


def _figure() -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise RuntimeError(
            "the picture needs matplotlib: pip install 'bert4kexue[plots]', or leave --picture out"
        ) from None
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _features(feature_map: Any, d: int) -> int:
    from bert4kexue.ops.feature_maps import feature_map as made

    return made(feature_map).size(d)


def _write(path: Path, text: str) -> None:
    from bert4kexue._files import atomic_write

    with atomic_write(path, "w") as file:
        file.write(text)
