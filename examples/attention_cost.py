"""What attention costs, by multiplications and by the clock (kexue.fm/archives/8610): the page.

    bert4kexue flops bench CONFIG --store layers.json
    python benchmarks/bench_linear_attention.py --store maps.json
    python benchmarks/bench_long_attention.py --store long.json
    python benchmarks/bench_linear_peers.py --peers OTHER/bin/python --store peers.json
    python examples/long_inputs.py --output trained.json
    python examples/attention_cost.py --layers layers.json --maps maps.json --long long.json \\
        --peers peers.json --trained trained.json

Writes attention_cost.md and its pictures to --output out of what these have measured; docs/results
has it. A part that is not given is left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pictures
from sentence_features import table_head, table_row

from bert4kexue.analysis.flops import Shape, core_share
from bert4kexue.cli.flops_bench import draw_shares, told
from bert4kexue.models.layer_times import LayerTimes, crossing

ROOT = Path(__file__).resolve().parent.parent


def layers_part(found: dict[str, Any]) -> list[str]:
    """Shares and crossovers of one layer."""
    shape, rows = Shape(**found["shape"]), [LayerTimes(**row) for row in found["rows"]]
    first, last = rows[0].length, rows[-1].length
    page = [
        "## Shares of a layer",
        "",
        f"One layer, hidden {shape.hidden}, {shape.heads} heads of {shape.d}, feed-forward "
        f"{shape.feed_forward:,}, batch {found['batch']}, float32, forward (`bert4kexue flops "
        "bench`). Milliseconds; percent of the attention core (both products and the softmax "
        "between them) in the layer's multiplications and in its time, and of its softmax alone.",
        "",
        *table_head(
            "tokens",
            *("projections", "core", "feed-forward", "layer", "layer, linear (elu1)"),
            *("% multiplied", "% time", "of it softmax"),
        ),
    ]
    for r in rows:
        times = (r.projections, r.core, r.feed_forward, r.layer, r.linear_layer)
        soft = max(0.0, r.core - r.products) / r.layer
        shares = (core_share(shape, r.length), r.share, soft)
        page.append(
            table_row(
                f"{r.length:,}",
                *(f"{1000 * x:,.2f}" for x in times),
                *(f"{100 * x:.1f}" for x in shares),
            )
        )
    page += ["", *table_head("crossover", "tokens by multiplications", "tokens by the clock")]
    for name, words in (
        ("attention_over_feed_forward", "attention outweighs the feed-forward"),
        ("quadratic_over_rest", "its core outweighs all the rest"),
        ("linear_cheaper", "a layer with linear attention is cheaper"),
    ):
        clock = told(found["measured"][name], first, last)
        page.append(table_row(words, f"{found['predicted'][name]:,}", clock))
    return [*page, "", "![shares](attention_cost.png)", ""]


def maps_part(found: dict[str, Any]) -> list[str]:
    """Crossovers by map."""
    heads = heads_of(found)
    page = [
        f"## Where linear attention pays, by map, {heads}",
        "",
        f"The attention core alone, one row, {heads} of 64, float32, all kinds in turn in one "
        "process (`benchmarks/bench_linear_attention.py`). Predicted: by multiplications. "
        "Measured: the first length from which on linear attention was the faster. Worst: its time "
        "over softmax's at the measured lengths from twice the prediction on.",
        "",
        *table_head("form", "map", "features", "predicted", "measured", "worst", "slope"),
    ]
    for form in ("whole", "causal"):
        for name, what in found[form].items():
            slope = f"{what['slope']:.2f}"
            if name == "softmax":
                page.append(table_row(form, name, *["-"] * 4, slope))
                continue
            worst, measured = what["worst_beyond_twice"], what["faster_from"]
            lengths = [int(n) for n in what["milliseconds"]]
            crossed = "not by " + f"{lengths[-1]:,}" if measured is None else f"{measured:,}"
            cells = (
                f"{what['features']:,}",
                f"{what['predicted']:,.0f}",
                f"{measured:,} or less" if measured == lengths[0] else crossed,
                "not reached" if worst is None else f"{worst:.2f}",
            )
            page.append(table_row(form, name, *cells, slope))
    lengths = ", ".join(f"{int(n):,}" for n in found["whole"]["softmax"]["milliseconds"])
    return [*page, "", f"Lengths: {lengths}.", ""]


def heads_of(found: dict[str, Any]) -> str:
    """How many, in words."""
    return "one head" if found["heads"] == 1 else f"{found['heads']} heads"


def long_part(found: dict[str, Any]) -> list[str]:
    """Time and memory of long inputs."""
    measured, slopes = found["measured"], found["slopes"]
    lengths = sorted({int(n) for kind in measured.values() for n in kind})
    page = [
        f"## Time and memory of long inputs, {heads_of(found)}",
        "",
        f"The core of {heads_of(found)} of 64, bidirectional, each number from a process of "
        "its own (`benchmarks/bench_long_attention.py`): milliseconds / megabytes beyond what the "
        "process held before. Chunked is exact softmax attention, 128 queries at a time. Slope: of "
        "log time over log length, the last three lengths.",
        "",
        *table_head("tokens", *measured),
    ]
    for n in lengths:
        cells = []
        for kind in measured.values():
            one = kind.get(str(n))
            cells.append(
                "-" if one is None else f"{1000 * one['seconds']:,.1f} / {one['megabytes']:,.0f}"
            )
        page.append(table_row(f"{n:,}", *cells))
    page.append(table_row("slope", *(f"{slopes[kind]:.2f}" for kind in measured)))
    exact = [kind for kind in ("softmax", "chunked") if kind in measured]
    page += [
        "",
        "From how many tokens on linear attention took less time, between the lengths:",
        "",
    ]
    page += table_head("map", *exact)
    for kind in measured:
        if kind not in ("softmax", "chunked", "fused"):
            page.append(table_row(kind, *(passed(measured[kind], measured[x]) for x in exact)))
    return [*page, ""]


def passed(linear: dict[str, Any], exact: dict[str, Any]) -> str:
    """The length from which on one kind is faster than another, in words."""
    both = sorted(int(n) for n in linear if n in exact)
    ratios = [exact[str(n)]["seconds"] / linear[str(n)]["seconds"] for n in both]
    return told(crossing(both, ratios), both[0], both[-1])


def peers_part(found: dict[str, Any]) -> list[str]:
    """Peers' times beside ours."""
    forms = {k: v for k, v in found.items() if isinstance(v, dict)}
    names = list(dict.fromkeys(name for f in forms.values() for n in f.values() for name in n))
    one = found.get("one_thread", False)
    of_one, option = (" of the processor, one thread each,", " --one-thread") if one else ("", "")
    page = [
        "## Beside other libraries" + (", one thread" if one else ""),
        "",
        f"Linear attention alone, milliseconds{of_one} and times ours, in turn "
        f"(`benchmarks/bench_linear_peers.py{option}`): 12 heads of 64, performer with 266 "
        "features on all sides, ours a graph on TensorFlow, theirs on torch with MKL told that the "
        "processor is Intel's.",
        "",
        *table_head("form", "tokens", *names),
    ]
    for form, by_length in forms.items():
        for n, ms in by_length.items():
            if len(ms) < 2:  # nobody to compare with
                continue
            cells = []
            for name in names:
                ratio = (
                    "" if name == "ours" or name not in ms else f" ({ms[name] / ms['ours']:.2f})"
                )
                cells.append(f"{ms[name]:,.1f}{ratio}" if name in ms else "-")
            page.append(table_row(form, f"{int(n):,}", *cells))
    return [*page, ""]


def trained_part(found: dict[str, Any]) -> list[str]:
    """The shipped model beyond its trained length."""
    page = [
        "## A RoFormer beyond its trained length",
        "",
        "pretrained/roformer_tiny_zh, trained on at most 64 tokens, whole words hidden, reads "
        f"held-out reviews in windows (`examples/long_inputs.py`): {found['reviews']} reviews of "
        f"248 tokens, the same {found['asked']:,} tokens masked in every window, each for itself. "
        "Found again, and the difference to windows of the trained length with its standard error, "
        "in points.",
        "",
        *table_head("window", "times the trained", "way", "found again", "difference"),
    ]
    for row in found["rows"]:
        differs = f"{100 * row['difference']:+.2f} ± {100 * row['error']:.2f}"
        first = row is found["rows"][0]
        page.append(
            table_row(
                row["window"] + 2,
                f"{(row['window'] + 2) / 64:.1f}",
                row["way"],
                f"{100 * row['accuracy']:.1f} %",
                "-" if first else differs,
            )
        )
    return [*page, ""]


def draw_long(found: dict[str, Any], file: Path) -> None:
    """Time and memory by length, all axes logarithmic."""
    plt = pictures.pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for kind, by_length in found["measured"].items():
        lengths = [int(n) for n in by_length]
        label = f"{kind}, slope {found['slopes'][kind]:.2f}"
        seconds = [1000 * one["seconds"] for one in by_length.values()]
        megabytes = [max(1.0, one["megabytes"]) for one in by_length.values()]
        panels[0].plot(lengths, seconds, "o-", label=label)
        panels[1].plot(lengths, megabytes, "o-", label=kind)
    for axes, what in zip(panels, ("milliseconds", "megabytes"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel=what)
        every = sorted({int(n) for kind in found["measured"].values() for n in kind})
        axes.set_xticks(every, [f"{n:,}" for n in every], rotation=45, fontsize=8)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    """Read, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {
        "layers": layers_part,
        "maps": maps_part,
        "long": long_part,
        "peers": peers_part,
        "trained": trained_part,
    }
    for name in parts:
        parser.add_argument(f"--{name}", type=Path, nargs="*", default=[], help="JSON files")
    parser.add_argument("--machine", help="a sentence about it")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results")
    args = parser.parse_args()
    pictures.pyplot()  # said now, not after the work, where it is missing
    page = ["# What attention costs", "", "Written by `examples/attention_cost.py`.", ""]
    page += [args.machine, ""] if args.machine else []
    args.output.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        for file in getattr(args, name):
            found = json.loads(file.read_text("utf-8"))
            page += part(found)
            if name == "layers":
                rows = [LayerTimes(**row) for row in found["rows"]]
                draw_shares(Shape(**found["shape"]), rows, args.output / "attention_cost.png")
            if name == "long":
                picture = f"attention_long_{found['heads']}.png"
                page += [f"![time and memory]({picture})", ""]
                draw_long(found, args.output / picture)
    text = "\n".join(page)
    print(text)
    (args.output / "attention_cost.md").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
