"""``bert4kexue density``: train a density, ask it for log p(x), draw from it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bert4kexue.text.lines import read_lines

_EPILOG = """\
Data are an .npy array, a row a sample, or a .txt file in UTF-8, a text a line.

likelihoods:
  bernoulli   0 and 1
  gaussian    real numbers; whole ones with --levels, which adds uniform noise to them
  logistic    whole numbers from 0 to --levels - 1, such as bytes
  text        characters; chosen for .txt

examples:
  bert4kexue density train --data digits.npy --likelihood bernoulli --output runs/digits
  bert4kexue density train --data poems.txt --objective iwae --draws 5 --output runs/poems
  bert4kexue density log-prob --model runs/digits --data new.npy --samples 1000 > scores.tsv
  bert4kexue density sample --model runs/poems --count 5

log-prob prints a line a row: log p(x) in nats of the original data, its standard error, the
effective number of draws, bits per element; separated by tabs."""


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser(
        "density",
        help="log p(x) of images, vectors and short texts by a variational autoencoder",
        description="Densities by importance sampling (kexue.fm/archives/8791).",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def action(name: str, run: Callable[..., int], text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
        parser.set_defaults(run=run)
        return parser

    train = action("train", run_train, "train a density and write its folder")
    train.add_argument("--data", required=True, metavar="FILE", help=".npy or .txt")
    train.add_argument("--output", required=True, metavar="DIR", help="the folder to write")
    train.add_argument("--likelihood", choices=["bernoulli", "gaussian", "logistic", "text"])
    train.add_argument("--levels", type=int, help="how many values whole numbers have")
    train.add_argument("--floor", type=float, default=1e-3, help="smallest variance (0.001)")
    train.add_argument("--latent", type=int, default=16, help="size of z (16)")
    train.add_argument("--hidden", type=int, nargs="+", default=[256, 256], help="widths (256 256)")
    train.add_argument("--objective", choices=["elbo", "iwae"], default="elbo")
    train.add_argument("--draws", type=int, default=1, help="of z for each row in training (1)")
    train.add_argument("--epochs", type=int, default=30)
    train.add_argument("--batch-size", type=int, default=100)
    train.add_argument("--rate", type=float, default=1e-3, help="of Adam (0.001)")
    train.add_argument("--overwrite", action="store_true", help="replace an existing folder")
    ask = action("log-prob", run_log_prob, "print log p(x) of every row, with its error")
    ask.add_argument("--model", required=True, metavar="DIR", help="what train wrote")
    ask.add_argument("--data", required=True, metavar="FILE", help=".npy or .txt")
    ask.add_argument("--samples", type=int, default=1000, help="draws of each row (1000)")
    ask.add_argument("--proposal", choices=["encoder", "prior"], default="encoder")
    ask.add_argument("--chunk", type=int, default=4096, help="draws decoded together (4096)")
    draw = action("sample", run_sample, "draw new data")
    draw.add_argument("--model", required=True, metavar="DIR", help="what train wrote")
    draw.add_argument("--count", type=int, default=10, help="how many (10)")
    draw.add_argument("--mean", action="store_true", help="what the decoder expects, no noise")
    draw.add_argument("--output", metavar="FILE", help=".npy; needed for what is no text")


def run_train(options: argparse.Namespace) -> int:
    """Train, and write the model beside what its data need."""
    output = Path(options.output)
    if output.exists() and not options.overwrite:
        raise FileExistsError(f"{output} exists: choose another, or pass --overwrite")
    data = _read(options.data)
    kind = options.likelihood or ("text" if isinstance(data, list) else None)
    if kind is None or (kind == "text") != isinstance(data, list):
        raise ValueError(
            f"--likelihood {kind} does not fit {options.data}: text is for .txt files, one of "
            "bernoulli, gaussian and logistic for .npy"
        )
    import keras

    from bert4kexue._files import atomic_folder

    keras.utils.set_random_seed(options.seed)
    settings: dict[str, Any] = {"kind": kind, "levels": options.levels}
    if kind == "text":
        from bert4kexue.methods.density_text import CharacterCodec

        codec = CharacterCodec.of(data)
        settings |= {"characters": codec.characters, "length": codec.length}
    x = _prepare(settings, data, options.seed)
    vae = _build(settings, x, options)
    vae.compile(keras.optimizers.Adam(options.rate))
    history = vae.fit(
        x,
        epochs=options.epochs,
        batch_size=options.batch_size,
        verbose="auto" if sys.stderr.isatty() else 0,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(output) as folder:
        vae.save(folder / "model.keras")
        text = json.dumps(settings, ensure_ascii=False, indent=1) + "\n"
        (folder / "density.json").write_text(text, encoding="utf-8", newline="\n")
    loss = history.history["loss"][-1]
    print(f"{output}: {len(x)} rows, loss {loss:.4f} nats a row in the last epoch")
    return 0


def run_log_prob(options: argparse.Namespace) -> int:
    """Print a line a row, and the mean on standard error."""
    vae, settings = _load(options.model)
    x = _prepare(settings, _read(options.data), options.seed)
    found = vae.log_prob(
        x, options.samples, proposal=options.proposal, chunk=options.chunk, seed=options.seed
    )
    from bert4kexue.methods.density_estimates import bits_per_dimension

    size = int(x[0].size)
    jacobian = 0.0
    if settings["kind"] == "gaussian" and settings["levels"]:
        jacobian = _preprocessing(settings).log_jacobian(size)
    bits = bits_per_dimension(found.log_prob, size, jacobian)
    print("log_prob\tstandard_error\teffective_samples\tbits_per_element")
    columns = (found.log_prob + jacobian, found.standard_error, found.effective_samples, bits)
    for row in zip(*columns, strict=True):
        print("\t".join(f"{value:.6g}" for value in row))
    mean = found.mean + jacobian
    print(
        f"mean of {len(x)} rows: {mean:.4f} nats, {bits.mean():.4f} bits an element",
        file=sys.stderr,
    )
    return 0


def run_sample(options: argparse.Namespace) -> int:
    """Print texts, or write an array."""
    vae, settings = _load(options.model)
    if settings["kind"] != "text" and not options.output:
        raise ValueError("samples that are no text need --output FILE.npy")
    drawn = vae.sample(options.count, seed=options.seed, mean=options.mean)
    if settings["kind"] == "text":
        for text in _codec(settings).decode(drawn):
            print(text)
        return 0
    if settings["kind"] == "gaussian" and settings["levels"]:
        drawn = _preprocessing(settings).backward(drawn)
    from bert4kexue._files import write_array

    write_array(options.output, drawn)
    print(f"{options.output}: {drawn.shape}")
    return 0


def _read(path: str) -> Any:
    import numpy as np

    if path.endswith(".txt"):
        texts = [line.strip() for line in read_lines(path) if line.strip()]
        if not texts:
            raise ValueError(f"{path} holds no text: it needs one a line")
        return texts
    if not path.endswith(".npy"):
        raise ValueError(f"data are an .npy array or a .txt file, got {path}")
    array = np.load(path, allow_pickle=False)
    if array.ndim < 2 or not len(array):
        raise ValueError(f"{path} must hold rows, (N, ...), got shape {array.shape}")
    return array


def _prepare(settings: dict[str, Any], data: Any, seed: int) -> Any:
    """What the model sees."""
    if isinstance(data, list) != (settings["kind"] == "text"):
        raise ValueError(f"the model is of {settings['kind']} data, the file is not")
    if settings["kind"] == "text":
        return _codec(settings).encode(data)
    if settings["kind"] == "gaussian" and settings["levels"]:
        return _preprocessing(settings).forward(data, seed)
    return data


def _codec(settings: dict[str, Any]) -> Any:
    from bert4kexue.methods.density_text import CharacterCodec

    return CharacterCodec(settings["characters"], settings["length"])


def _preprocessing(settings: dict[str, Any]) -> Any:
    from bert4kexue.methods.density_preprocessing import Preprocessing

    return Preprocessing(settings["levels"])


def _build(settings: dict[str, Any], x: Any, options: argparse.Namespace) -> Any:
    from bert4kexue.methods import density_likelihoods as likelihoods
    from bert4kexue.methods.density_models import mlp_vae, text_vae

    choices = {"objective": options.objective, "samples": options.draws, "seed": options.seed}
    kind, levels = settings["kind"], settings["levels"] or 256
    if kind == "text":
        vocabulary = _codec(settings).vocabulary
        hidden = options.hidden[0]
        return text_vae(x.shape[1], vocabulary, options.latent, hidden=hidden, **choices)
    likelihood: likelihoods.Likelihood
    if kind == "bernoulli":
        likelihood = likelihoods.BernoulliLikelihood()
    elif kind == "gaussian":
        likelihood = likelihoods.GaussianLikelihood(options.floor)
    else:
        likelihood = likelihoods.DiscretizedLogisticLikelihood(levels)
        choices |= {"scale": 2 / (levels - 1), "shift": -1.0}
    return mlp_vae(x.shape[1:], options.latent, likelihood, hidden=options.hidden, **choices)


def _load(path: str) -> tuple[Any, dict[str, Any]]:
    folder = Path(path)
    if not (folder / "density.json").is_file():
        raise FileNotFoundError(f"{folder} is no folder that `bert4kexue density train` wrote")
    import keras

    from bert4kexue.methods.density import VAE

    vae = keras.saving.load_model(folder / "model.keras")
    if not isinstance(vae, VAE):
        raise ValueError(f"{folder}/model.keras holds a {type(vae).__name__}, not a VAE")
    return vae, json.loads((folder / "density.json").read_text(encoding="utf-8"))
