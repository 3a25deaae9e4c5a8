"""Linear attention against softmax: errors by map, order and norm (kexue.fm/archives/8601).

    python examples/linear_attention.py
    python examples/linear_attention.py --smoke

Prints and draws the relative error of one head's output for random queries and keys of several
norms, the bound on a row's weights where there is one, and the rank of the matrix of weights. With
--fine-tune RESULTS.json, of linear_fine_tune.py, also what a checkpoint loses and regains. Writes
linear_attention.md and .png to --output; docs/results has what it measured.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pictures
from sentence_features import table_head, table_row

from bert4kexue.ops.feature_maps import feature_map
from bert4kexue.ops.kernel_error import KernelError, kernel_error

ROOT = Path(__file__).resolve().parent.parent
STDS = (0.125, 0.25, 0.5, 1.0, 2.0)
DRAWS = 5
MAPS: dict[str, tuple[int, Any]] = {
    "elu1": (64, "elu1"),
    "exp": (64, "exp"),
    "dsoftmax": (64, "dsoftmax"),
    "cos1": (64, "cos1"),
    "performer, 266": (64, {"kind": "performer", "features": 266}),
    "performer, 1024": (64, {"kind": "performer", "features": 1024}),
    "taylor 2": (64, {"kind": "taylor", "order": 2}),
    "limit 2": (64, {"kind": "limit", "order": 2}),
    "taylor 2, d = 16": (16, {"kind": "taylor", "order": 2}),
    "taylor 4, d = 16": (16, {"kind": "taylor", "order": 4}),
    "limit 2, d = 16": (16, {"kind": "limit", "order": 2}),
    "limit 4, d = 16": (16, {"kind": "limit", "order": 4}),
}


def errors(n: int) -> dict[str, list[list[KernelError]]]:
    """For each map and standard deviation, every draw of a random map, or the one of another."""
    found: dict[str, list[list[KernelError]]] = {}
    for name, (d, spec) in MAPS.items():
        found[name] = []
        for std in STDS:
            random = np.random.RandomState(0)
            query, key = random.normal(size=(2, n, d)) * std
            value = random.normal(size=(n, d))
            draws = DRAWS if feature_map(spec).random else 1
            found[name].append(
                [kernel_error(query, key, value, spec, seed=s) for s in range(draws)]
            )
    return found


def error_page(found: dict[str, list[list[KernelError]]], n: int) -> list[str]:
    """The tables."""
    page = [
        "# Linear attention",
        "",
        "Written by `examples/linear_attention.py`.",
        "",
        "## Error of the output against softmax attention",
        "",
        f"One head, n = {n}; queries, keys of normal numbers with the standard deviation in the "
        "head of the column, values with 1; |linear - softmax| / |softmax| of the outputs. Scores "
        "are q . k / sqrt(d), so their deviation is the square of the column's number whatever d "
        f"is. Performer: median of {DRAWS} draws of its frequencies, lowest and highest behind it.",
        "",
        *table_head("map", "features", *STDS),
    ]
    for name, rows in found.items():
        d, spec = MAPS[name]
        cells = []
        for draws in rows:
            values = sorted(draw.output for draw in draws)
            middle = f"{float(np.median(values)):.2g}"
            spread = f" ({values[0]:.2g} - {values[-1]:.2g})" if len(values) > 1 else ""
            cells.append(middle + spread)
        page.append(table_row(name, f"{feature_map(spec).size(d):,}", *cells))
    page += [
        "",
        "A row of weights sums to 1, so two differ by 2 at most, summed over the keys. The largest "
        "difference of a row, and the bound that follows from the remainder of the series:",
        "",
        *table_head("map", *STDS),
    ]
    for name, rows in found.items():
        if rows[0][0].bound is not None:
            page.append(
                table_row(name, *(f"{r[0].rows:.2g} (bound {r[0].bound:.2g})" for r in rows))
            )
    page += [
        "",
        f"Rank of the {n} x {n} matrix of weights at deviation 1 (softmax: "
        f"{found['elu1'][3][0].softmax_rank}): "
        + ", ".join(f"{name} {rows[3][0].rank}" for name, rows in found.items())
        + ".",
        "",
        "![errors](linear_attention.png)",
    ]
    return page


def fine_tune_page(results: dict[str, Any]) -> list[str]:
    """What the shipped checkpoint loses and regains."""
    s = results["setting"]
    page = [
        "",
        "## The shipped checkpoint, converted",
        "",
        "Written by `examples/linear_fine_tune.py`: pretrained/roformer_tiny_zh with its softmax "
        f"attention replaced; {s['held_out']} held-out titles. Masked tokens: share found again. "
        f"Topics: closed-form head on frozen [CLS] states of {s['rows']} titles. Fine-tune: "
        f"{s['steps']} steps of {s['batch']} titles on masked words, the same rows for all.",
        "",
        *table_head("map", "masked: before", "after", "topics: before", "after"),
    ]
    for name, found in results["maps"].items():
        stages = (found["before"], found["after"])
        cells = [f"{x[key]:.3f}" for key in ("masked", "topics") for x in stages]
        page.append(table_row(name, *cells))
    after = {name: found["after"] for name, found in results["maps"].items()}
    softmax = after.pop("softmax", None)
    if softmax and after:
        shares = {name: x["masked"] / softmax["masked"] for name, x in after.items()}
        least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
        topics = sorted(x["topics"] for x in after.values())
        page += [
            "",
            f"After the fine-tune a linear map finds {shares[least]:.0%} ({least}) to "
            f"{shares[most]:.0%} ({most}) of the masked tokens that softmax finds after the same: "
            + ("none recovers it." if shares[most] < 0.95 else "the best ones recover it.")
            + f" Topics range from {topics[0]:.3f} to {topics[-1]:.3f}, with softmax "
            f"{softmax['topics']:.3f}.",
        ]
    return page


def draw(found: dict[str, list[list[KernelError]]], file: Path) -> None:
    """Error by standard deviation, both axes logarithmic."""
    plt = pictures.pyplot()
    figure, axes = plt.subplots(figsize=(8, 5))
    styles = {16: "--", 64: "-"}
    colors = plt.get_cmap("tab20").colors
    for color, (name, rows) in zip(colors[: len(found)], found.items(), strict=True):
        middle = [float(np.median([draw.output for draw in draws])) for draws in rows]
        axes.plot(STDS, middle, styles[MAPS[name][0]], marker="o", label=name, color=color)
    axes.set(xscale="log", yscale="log", xlabel="standard deviation of q and k")
    axes.set(ylabel="relative error of the output", title="Linear against softmax attention")
    axes.set_xticks(STDS, [str(s) for s in STDS])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(file, dpi=110, bbox_inches="tight")


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--fine-tune", type=Path, help="what linear_fine_tune.py saved")
    parser.add_argument("--smoke", action="store_true", help="48 tokens, nothing written")
    args = parser.parse_args()
    if not args.smoke:
        pictures.pyplot()  # said now, not after the work, where it is missing
    n = 48 if args.smoke else 512
    found = errors(n)
    page = error_page(found, n)
    if args.fine_tune is not None:
        page += fine_tune_page(json.loads(args.fine_tune.read_text("utf-8")))
    print("\n".join(page))
    if not args.smoke:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "linear_attention.md").write_text(
            "\n".join(page) + "\n", encoding="utf-8", newline="\n"
        )
        draw(found, args.output / "linear_attention.png")


if __name__ == "__main__":
    main()
