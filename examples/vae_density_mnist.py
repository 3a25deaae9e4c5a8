"""log p(x) of handwritten digits (kexue.fm/archives/8791).

    python examples/vae_density_mnist.py RUN              # train, estimate, write docs/results
    python examples/vae_density_mnist.py RUN --smoke      # a minute, writes into RUN only

Three models on the MNIST images of BERT4KEXUE_DATA: black and white digits by the evidence lower
bound and by the importance-weighted bound of 5 draws, grey ones with a discretized logistic. Of
each: the held-out log-likelihood with its errors, bits per dimension, reconstructions and samples;
of the first, what it says of images that are no digits. `vae_compression_mnist.py RUN` packs them.

Only MNIST's 10,000 test images are in the data folder. A fixed hash of the image sends a fifth of
them to the report and the rest to training, less those that differ from a reported one in fewer
than 16 pixels. So no figure here compares with those of models trained on the usual 60,000.
"""

from __future__ import annotations

import argparse
import gzip
import os
import zlib
from pathlib import Path

import density_report
import numpy as np
import pictures

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
NAMES = {
    "elbo": "black and white, ELBO",
    "iwae": "black and white, IWAE of 5",
    "grey": "256 greys, ELBO, discretized logistic",
}


def main() -> None:
    """Train what is not trained yet, measure, write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the trained models")
    parser.add_argument(
        "--minutes", type=float, default=12, help="of the processor, to train each model (12)"
    )
    parser.add_argument("--samples", type=int, default=1000, help="draws for log p(x) (1000)")
    parser.add_argument("--only", choices=NAMES, help="train this model and stop")
    parser.add_argument("--smoke", action="store_true", help="few images, one epoch")
    options = parser.parse_args()
    if not options.only:
        pictures.pyplot()  # said now, not after the work, where it is missing
    train, test, dropped = split(read_images(Path(os.environ["BERT4KEXUE_DATA"]) / "mnist"))
    if options.smoke:
        train, test, options.samples = train[:500], test[:40], 20
    options.run.mkdir(parents=True, exist_ok=True)
    models, spent = {}, {}
    for name in [options.only] if options.only else NAMES:
        models[name], spent[name] = load_or_train(name, train, options)
    if options.only:
        return
    results = options.run if options.smoke else ROOT / "docs" / "results"
    black = (test >= 128).astype(np.uint8)
    data = {"elbo": black, "iwae": black, "grey": test}
    estimates, seconds = density_report.timed_estimates(models, data, options.samples)
    lines = [
        *page_head(train, test, dropped),
        *density_report.likelihood_table(NAMES, estimates, spent, seconds, 784, "pixel"),
        *["", "![digits](density_mnist.png)", ""],
    ]
    lines += strangers_table(models["elbo"], black, estimates["elbo"], options)
    (results / "density_mnist.md").write_text(
        "\n".join(lines) + "\n", encoding="utf-8", newline="\n"
    )
    draw(models, black, estimates, results / "density_mnist.png")
    print("\n".join(lines))


def read_images(folder: Path) -> np.ndarray:
    """(10000, 784) uint8."""
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)


def split(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Training rows, reported rows, and how many were too near to a reported one to train on."""
    reported = np.array([zlib.crc32(row.tobytes()) % 5 == 0 for row in images])
    train, test = images[~reported], images[reported]
    a, b = ((part >= 128).astype(np.float32) for part in (train, test))
    apart = a.sum(1)[:, None] + b.sum(1)[None] - 2 * a @ b.T
    near = apart.min(axis=1) < 16
    return train[~near], test, int(near.sum())


def load_or_train(name: str, train: np.ndarray, options: argparse.Namespace):
    """The model of RUN, trained first where there is none; and its minutes of training."""
    import keras

    from bert4kexue.methods.density_likelihoods import (
        BernoulliLikelihood,
        DiscretizedLogisticLikelihood,
    )
    from bert4kexue.methods.density_models import mlp_vae

    path = options.run / f"{name}.keras"
    if path.exists():
        return keras.saving.load_model(path), path.with_suffix(".txt").read_text(encoding="utf-8")
    keras.utils.set_random_seed(7)
    if name == "grey":
        x, likelihood = train, DiscretizedLogisticLikelihood()
        choices = {"scale": 2 / 255, "shift": -1.0}
    else:
        x, likelihood = (train >= 128).astype(np.uint8), BernoulliLikelihood()
        choices = {"objective": "iwae", "samples": 5} if name == "iwae" else {}
    model = mlp_vae((784,), 16, likelihood, hidden=(256, 256), seed=7, **choices)
    model.compile(keras.optimizers.Adam(1e-3))
    return model, density_report.fit(
        model, x, path, options.minutes, epochs=1 if options.smoke else 1000
    )


def page_head(train: np.ndarray, test: np.ndarray, dropped: int) -> list[str]:
    """What was measured on what."""
    return [
        "# Densities of handwritten digits",
        "",
        "Written by `examples/vae_density_mnist.py` (kexue.fm/archives/8791).",
        f"Of MNIST's 10,000 test images {len(test):,} are reported, chosen by a hash of the image,",
        f"and {len(train):,} are trained on (a tenth of these says when to stop); {dropped} were",
        "left out, being within 15 pixels of a reported one. No figure compares with models that",
        "were trained on 60,000 images. Black and white means: 1 where the grey is 128 or more.",
        "",
        "Perceptrons 784-256-256-16 and back, seed 7, one thread.",
        "",
        "## Held-out log-likelihood",
        "",
    ]


def strangers_table(model, test: np.ndarray, known, options) -> list[str]:
    """Images that are no digits, and how well two scores tell them from held-out digits."""
    from bert4kexue.methods.density_estimates import atypicality, rarity

    random = np.random.default_rng(0)
    half = len(test) // 2
    reference, own = known.log_prob[:half], known.log_prob[half:]
    some = test[half:][:500]
    square = some.reshape(-1, 28, 28)
    strangers = {
        "digits upside down": square[:, ::-1].reshape(-1, 784),
        "digits in the mirror": square[:, :, ::-1].reshape(-1, 784),
        "digits moved by 4 pixels": np.roll(square, 4, axis=2).reshape(-1, 784),
        "white for black": 1 - some,
        "pixels of each digit shuffled": random.permuted(some, axis=1),
        "coin tosses": random.integers(0, 2, some.shape, dtype=np.uint8),
        "blank": np.zeros_like(some[:2]),
    }
    lines = [
        "## Images that are no digits",
        "",
        "The first model's log p(x), and the chance that a score puts such an image above a digit",
        "held out (AUROC; 0.5 is a guess). Rarity is minus the density against other held-out",
        "digits; atypicality counts too likely as strange, too.",
        "",
        "| images | log p(x) | rarity | atypicality |",
        "|---|---|---|---|",
        f"| digits held out | {own.mean():.1f} | - | - |",
    ]
    for name, images in strangers.items():
        found = model.log_prob(images, min(options.samples, 200), seed=2).log_prob
        scores = [
            density_report.auroc(score(own, reference), score(found, reference))
            for score in (rarity, atypicality)
        ]
        lines.append(f"| {name} | {found.mean():.1f} | {scores[0]:.3f} | {scores[1]:.3f} |")
    return [*lines, ""]


def draw(models, test: np.ndarray, estimates, path: Path) -> None:
    """Digits, their reconstructions, samples, and the bound against the number of draws."""
    plt = pictures.pyplot()
    count = 12
    rows = [("held out", test[:count])]
    for name in ("elbo", "iwae"):
        rows.append((f"{name}: reconstructed", models[name].reconstruct(test[:count])))
    for name in ("elbo", "iwae", "grey"):
        drawn = models[name].sample(count, seed=3, mean=True)
        rows.append((f"{name}: sampled", drawn / (255 if name == "grey" else 1)))
    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.2, 1))
    axes = left.subplots(len(rows), 1)
    for axis, (label, images) in zip(axes, rows, strict=True):
        axis.imshow(np.hstack(images.reshape(-1, 28, 28)), cmap="gray_r", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    axis = right.subplots()
    for name in ("elbo", "iwae"):
        found = estimates[name]
        axis.plot(found.curve_samples, found.curve.mean(axis=1), "o-", label=f"trained by {name}")
    axis.set(xscale="log", xlabel="draws", title="mean bound on log p(x), nats")
    axis.legend()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
