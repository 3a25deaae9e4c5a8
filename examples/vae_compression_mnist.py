"""Handwritten digits packed without loss into the bits of their density (kexue.fm/archives/8791).

    python examples/vae_density_mnist.py RUN              # train first
    python examples/vae_compression_mnist.py RUN          # pack, unpack, write docs/results
    python examples/vae_compression_mnist.py RUN --smoke  # few images, writes into RUN only

Every image that `vae_density_mnist.py` keeps for its report, by each of its models that RUN holds:
bits per pixel as log p(x) estimates them, and as bits-back coding reaches them with 1, 8 and 64
particles. Each file is unpacked again and compared.
"""

from __future__ import annotations

import argparse
import lzma
import os
import time
from pathlib import Path

import numpy as np
import pictures
import vae_density_mnist

SMALL = {"elbo", "iwae"}  # black and white


def main() -> None:
    """Pack with every model there is, write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the trained models")
    parser.add_argument("--samples", type=int, default=1000, help="draws for log p(x) (1000)")
    parser.add_argument("--smoke", action="store_true", help="few images")
    options = parser.parse_args()
    names = [name for name in vae_density_mnist.NAMES if (options.run / f"{name}.keras").exists()]
    if not names:
        parser.error(f"{options.run} holds no model: run vae_density_mnist.py {options.run} first")
    pictures.pyplot()  # said now, not after the work, where it is missing
    folder = Path(os.environ["BERT4KEXUE_DATA"]) / "mnist"
    _, test, _ = vae_density_mnist.split(vae_density_mnist.read_images(folder))
    if options.smoke:
        test, options.samples = test[:40], 20
    black = (test >= 128).astype(np.uint8)
    rows = []
    for name in names:
        rows += pack(name, black if name in SMALL else test, options)
    results = options.run if options.smoke else vae_density_mnist.ROOT / "docs" / "results"
    page = "\n".join([*page_head(len(test), options.samples), *map(line, rows)]) + "\n"
    (results / "density_compression.md").write_text(page, encoding="utf-8", newline="\n")
    draw(rows, results / "density_compression.png")
    print(page)


def pack(name: str, x: np.ndarray, options: argparse.Namespace) -> list[dict]:
    """One row for each number of particles."""
    import keras

    from bert4kexue.methods.compression import BitsBackCoder
    from bert4kexue.methods.density_estimates import bits_per_dimension

    model = keras.saving.load_model(options.run / f"{name}.keras")
    found = model.log_prob(x, options.samples, seed=1)
    estimate = float(bits_per_dimension(found.mean, x.shape[1]))
    bound = float(bits_per_dimension(found.curve[0].mean(), x.shape[1]))
    raw = np.packbits(x).tobytes() if name in SMALL else x.tobytes()
    other = 8 * len(lzma.compress(raw, preset=9)) / x.size
    rows = []
    for particles in (1, 8, 64) if name in SMALL else (1,):
        coder = BitsBackCoder(model, particles=particles)
        start = time.perf_counter()
        packed = coder.compress(x)
        middle = time.perf_counter()
        back = coder.decompress(packed)
        end = time.perf_counter()
        if not np.array_equal(back, x):
            raise SystemExit(f"{name}: the unpacked images are not the packed ones")
        bits = 8 * len(packed) / x.size
        print(f"{name}, {particles}: {bits:.4f} of {estimate:.4f} bits a pixel", flush=True)
        rows.append(
            {
                "model": vae_density_mnist.NAMES[name],
                "particles": particles,
                "bits": bits,
                "bound": bound,
                "estimate": estimate,
                "lzma": other,
                "seconds": (middle - start, end - middle),
            }
        )
    return rows


def page_head(images: int, samples: int) -> list[str]:
    """What was packed."""
    return [
        "# Handwritten digits, packed into the bits of their density",
        "",
        "Written by `examples/vae_compression_mnist.py` (kexue.fm/archives/8791), with models of",
        f"`examples/vae_density_mnist.py`: the {images:,} images that it keeps for its report, in",
        "one file by bits-back coding, header and starting bits included. Each file was unpacked",
        f"and was the same. log p(x) is estimated from {samples:,} draws an image; with N",
        "particles the coder can reach the bound of N draws. LZMA packs the raw pixels (black and",
        "white: 8 of them a byte).",
        "",
        "![bits](density_compression.png)",
        "",
        "| model | particles | bits per pixel | by log p(x) | over it | by the bound of 1 draw "
        "| LZMA | seconds: pack, unpack |",
        "|---|---|---|---|---|---|---|---|",
    ]


def line(row: dict) -> str:
    """A line of the table."""
    over = row["bits"] / row["estimate"] - 1
    return (
        f"| {row['model']} | {row['particles']} | {row['bits']:.4f} | {row['estimate']:.4f} "
        f"| {over:+.1%} | {row['bound']:.4f} | {row['lzma']:.4f} "
        f"| {row['seconds'][0]:.0f}, {row['seconds'][1]:.0f} |"
    )


def draw(rows: list[dict], path: Path) -> None:
    """Bits over the estimate against the number of particles."""
    plt = pictures.pyplot()
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        over = [100 * (row["bits"] / row["estimate"] - 1) for row in own]
        axis.plot([row["particles"] for row in own], over, "o-", label=name)
    axis.axhline(5, color="0.5", linestyle=":", label="5 %")
    axis.axhline(0, color="0.2", linewidth=1, label="estimated log p(x)")
    axis.set(
        xscale="log",
        xticks=[1, 8, 64],
        xticklabels=["1", "8", "64"],
        xlabel="particles",
        ylabel="bits over the estimate, %",
        title="size of the packed digits",
    )
    axis.minorticks_off()
    axis.legend(fontsize=9)
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
