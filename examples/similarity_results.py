"""What each generation of training gives: one page of tables and pictures.

    python examples/similarity_results.py --data runs/similarity --cache runs/vectors \\
        --model "stage 1=runs/stage1/model" --model "FT=runs/ft/model" ... --output docs/results

Spearman with bootstrap intervals on what `similarity_sets.py` reports, beside strings and the
shipped model; generation loss on the held-out pairs; the sentences of kexue.fm/archives/8541; a
calibration fitted to one half of the reported pairs and tried on the other, for the last model.
Vectors are kept in the cache, so that a later call goes on. Pictures need matplotlib.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import pictures
from sentence_features import table_head, table_row

from bert4kexue.methods.calibration import Calibration, reliability
from bert4kexue.methods.post_8541 import PAIRS
from bert4kexue.methods.roformer_sim import build_similarity_trainer
from bert4kexue.methods.sentence_encoder import SentenceEncoder
from bert4kexue.methods.similarity_data import (
    STS_B_THRESHOLD,
    ScoredPair,
    read_alike,
    read_scored,
)
from bert4kexue.methods.similarity_rows import ParaphraseRows, Sentences
from bert4kexue.methods.sts import bootstrap_interval, cosines_of, spearman
from bert4kexue.methods.text_similarity import character_jaccard, tfidf_cosines
from bert4kexue.methods.whitening import Whitening
from bert4kexue.methods.word_corruption import tokens_by_word
from bert4kexue.tokenizers import Tokenizer
from bert4kexue.training.plan import Plan
from bert4kexue.training.special import Special

SHIPPED = Path(__file__).resolve().parents[1] / "pretrained" / "roformer_tiny_zh"
MAXLEN, SEED = 64, 8541
HELD_OUT = 400
"""Pairs whose generation loss is measured."""
Sets = dict[str, list[ScoredPair]]


def cached(cache: Path, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array that is computed once."""
    path = cache / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, make())
    return np.load(path)


def vectors_of(folder: Path, pooling: Any, texts: Sequence[str], cache: Path) -> np.ndarray:
    """A model's vectors of these texts."""
    index = hashlib.sha256((folder / "bert_model.ckpt.index").read_bytes()).hexdigest()
    data = next(folder.glob("bert_model.ckpt.data*"))
    weights = hashlib.sha256(data.read_bytes()).hexdigest()
    name = json.dumps(
        [index, weights, pooling, hashlib.sha256("\n".join(texts).encode()).hexdigest()]
    )

    def make() -> np.ndarray:
        encoder = SentenceEncoder.load(folder, family="roformer", pooling=pooling, maxlen=MAXLEN)
        return encoder.encode(list(texts), show_progress=True, normalize=False)

    return cached(cache, name, make)


def lookup(texts: Sequence[str], vectors: np.ndarray) -> Callable[[list[str]], np.ndarray]:
    """The vectors as an encoder."""
    row = {text: i for i, text in enumerate(texts)}
    return lambda asked: vectors[[row[text] for text in asked]]


def generation_loss(folder: Path, pairs: Sequence[tuple[str, str]]) -> float:
    """Mean cross-entropy, nats a token, of writing each of a pair from the other."""
    config = json.loads((folder / "bert_config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer(folder / "vocab.txt", do_lower_case=True)
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    sentences = Sentences(texts, tokens_by_word(tokenizer, list, texts, MAXLEN - 2))
    special = Special.of(tokenizer)
    rows = ParaphraseRows(pairs, sentences, special, corrupted=0.0)
    trainer, _ = build_similarity_trainer(config, checkpoint=folder / "bert_model.ckpt")
    plan = Plan(rows, 4096, 4 * MAXLEN, [0])
    total = asked = 0.0
    for number in range(plan.steps_per_epoch):
        batch = plan.batch(number, np.random.default_rng(0))
        inputs = [batch["token_ids"], batch["segment_ids"]]
        hidden = trainer.bodies["unilm"].predict_on_batch(inputs)[0]
        taken = keras.ops.take_along_axis(hidden, batch["positions"][..., None], axis=1)
        logits = np.asarray(trainer.token_head(taken), np.float64)
        logits -= logits.max(-1, keepdims=True)
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        picked = np.take_along_axis(logp, batch["labels"][..., None], -1)[..., 0]
        total -= float((picked * batch["weights"]).sum())
        asked += float(batch["weights"].sum())
    return total / asked


def measure(cosines: Mapping[str, np.ndarray], sets: Sets, resamples: int) -> dict[str, Any]:
    """Spearman and its interval, by set."""
    found = {}
    for name, pairs in sets.items():
        scores = [pair.score for pair in pairs]
        value = spearman(cosines[name], scores)
        found[name] = (value, *bootstrap_interval(cosines[name], scores, resamples=resamples))
    return found


def labels_of(sets: Sets) -> np.ndarray:
    """Whether a pair is alike, of all sets after each other."""
    return np.array(
        [
            int(pair.score > (STS_B_THRESHOLD if name == "STS-B" else 0.5))
            for name, pairs in sets.items()
            for pair in pairs
        ]
    )


def calibrated(cosines: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Isotonic and Platt on one half, tried on the other."""
    half = np.random.default_rng(SEED).random(len(labels)) < 0.5
    found: dict[str, Any] = {"pairs": [int(half.sum()), int((~half).sum())]}
    for method in ("isotonic", "platt"):
        fitted = Calibration.fit(cosines[half], labels[half], method)  # type: ignore[arg-type]
        p = fitted.probability(cosines[~half])
        curve = reliability(p, labels[~half])
        error = sum(n * abs(told - true) for told, true, n in curve) / (~half).sum()
        line = None
        for wanted in (0.9, 0.8, 0.7):
            try:
                line = (wanted, fitted.threshold(wanted, least_pairs=30))
                break
            except ValueError:
                continue
        above = None if line is None else cosines[~half] >= line[1].cosine
        found[method] = {
            "curve": curve,
            "error": float(error),
            "line": line,
            "precision": None if above is None else float(labels[~half][above].mean()),
            "recall": None
            if above is None
            else float(labels[~half][above].sum() / labels[~half].sum()),
        }
    return found


def draw(
    plt: Any,
    path: Path,
    before: np.ndarray,
    after: np.ndarray,
    names: Sequence[str],
    labels: np.ndarray,
    calibration: Mapping[str, Any],
) -> None:
    """Cosines of alike and other pairs by two models, and the calibration's reliability."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for axis, cosines, name in zip(axes, (before, after), names, strict=False):
        bins = np.linspace(min(-0.2, cosines.min()), 1, 50)
        for label, colour, told in ((0, "tab:orange", "not alike"), (1, "tab:blue", "alike")):
            axis.hist(
                cosines[labels == label], bins, density=True, alpha=0.6, color=colour, label=told
            )
        axis.set(title=name, xlabel="cosine", ylabel="density")
        axis.legend()
    for method, colour in (("isotonic", "tab:green"), ("platt", "tab:purple")):
        told, true, _ = zip(*calibration[method]["curve"], strict=True)
        axes[2].plot(
            told,
            true,
            "o-",
            color=colour,
            label=f"{method}, error {calibration[method]['error']:.3f}",
        )
    axes[2].plot([0, 1], [0, 1], "k:", linewidth=1)
    axes[2].set(title="calibration, other half", xlabel="probability told", ylabel="share alike")
    axes[2].legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="what similarity_sets.py wrote")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--cache", type=Path, required=True, help="where vectors are kept")
    parser.add_argument("--output", type=Path, help="folder of similarity.md; printed if left out")
    parser.add_argument("--notes", type=Path, help="text that is put behind the first paragraph")
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    plt = pictures.pyplot() if options.output else None
    sets: Sets = {
        name: read_scored(options.data / "reported" / f"{name}.tsv")
        for name in ("ATEC", "BQ", "LCQMC", "PAWSX", "STS-B")
    }
    posts = [text for pair in PAIRS for text in pair[:2]]
    reported = [text for pairs in sets.values() for pair in pairs for text in pair[:2]]
    texts = list(dict.fromkeys([*reported, *posts]))
    train = [r for p in sorted((options.data / "train").glob("*.tsv")) for r in read_scored(p)]
    corpus = list(dict.fromkeys(text for row in train for text in row[:2]))
    fit = [corpus[i] for i in np.random.default_rng(SEED).permutation(len(corpus))[:4000]]

    rows: dict[str, dict[str, np.ndarray]] = {
        "shared characters (Jaccard)": {n: character_jaccard(p) for n, p in sets.items()},
        "TF-IDF of characters and bigrams": {n: tfidf_cosines(p, corpus) for n, p in sets.items()},
    }
    encoders: dict[str, Callable[[list[str]], np.ndarray]] = {}
    mean = vectors_of(SHIPPED, "mean", texts, options.cache)
    encoders["shipped model, mean of the tokens"] = lookup(texts, mean)
    basis = vectors_of(SHIPPED, "mean", fit, options.cache)
    for kept in (None, 128):
        name = "... whitened" + (f" to {kept}" if kept else "")
        encoders[name] = lookup(texts, Whitening.fit(basis, kept).transform(mean))
    models = {"shipped model, pooler": SHIPPED}
    for item in options.model:
        name, _, folder = item.partition("=")
        models[name] = Path(folder)
    for name, folder in models.items():
        encoders[name] = lookup(texts, vectors_of(folder, "pooler", texts, options.cache))
    rows |= {
        name: {n: cosines_of(encode, pairs) for n, pairs in sets.items()}
        for name, encode in encoders.items()
    }
    held_out = read_alike(options.data / "pairs_held_out.tsv")[:HELD_OUT]
    losses = {name: generation_loss(folder, held_out) for name, folder in models.items()}
    found = {name: measure(cosines, sets, options.resamples) for name, cosines in rows.items()}
    last = list(models)[-1]
    first = list(models)[1] if len(models) > 2 else "shipped model, pooler"
    flat = {n: np.concatenate(list(rows[n].values())) for n in (first, last)}
    calibration = calibrated(flat[last], labels_of(sets))

    lines = ["# Sentence similarity: what each generation of training gives", ""]
    lines += [
        f"Made by `examples/similarity_results.py`; {options.resamples} bootstrap resamples.",
        "",
    ]
    if options.notes:
        lines += [options.notes.read_text(encoding="utf-8").strip(), ""]
    lines += ["## Spearman x 100, 95 % interval", ""]
    counts = [f"{name} ({len(pairs)})" for name, pairs in sets.items()]
    lines += table_head("", *counts, "generation loss")
    for name, scores in found.items():
        cells = [f"{100 * v:.2f} ({100 * a:.1f} to {100 * b:.1f})" for v, a, b in scores.values()]
        lines.append(table_row(name, *cells, f"{losses[name]:.3f}" if name in losses else ""))
    lines += [
        "",
        f"Generation loss: nats a token of {len(held_out)} held-out pairs, each written from the "
        "other.",
        "",
    ]
    lines += ["## Near-duplicates and splits", ""]
    told = json.loads((options.data / "counts.json").read_text(encoding="utf-8"))
    lines += table_head(
        "", "trained on", "removed", "reported or held out", "rows with a reported sentence"
    )
    for name in (*sets, "pairs", "nli"):
        part = told[name]
        out = part.get("reported", part.get("held_out", ""))
        lines.append(
            table_row(
                name,
                part["train"],
                part["removed"],
                out,
                part.get("train_rows_with_a_reported_sentence", ""),
            )
        )
    lines += ["", "## The sentences of kexue.fm/archives/8541", ""]
    lines += table_head("", "", "post, base", *models)
    for a, b, post in PAIRS:
        cosines = [cosines_of(encoders[m], [ScoredPair(a, b, 0)])[0] for m in models]
        lines.append(table_row(a, b, f"{post:.4f}", *(f"{c:.4f}" for c in cosines)))
    lines += ["", f"## Calibration of {last}", ""]
    lines.append(
        f"Fitted to {calibration['pairs'][0]} of the reported pairs, tried on the other "
        f"{calibration['pairs'][1]}; STS-B is alike above {STS_B_THRESHOLD}."
    )
    lines.append("")
    lines += table_head(
        "", "calibration error", "wanted precision", "from cosine", "precision", "recall"
    )
    for method in ("isotonic", "platt"):
        part = calibration[method]
        line = part["line"]
        if line is None:
            lines.append(
                table_row(method, f"{part['error']:.3f}", "none of .7, .8, .9 reached", "", "", "")
            )
            continue
        lines.append(
            table_row(
                method,
                f"{part['error']:.3f}",
                line[0],
                f"{line[1].cosine:.4f}",
                f"{part['precision']:.3f}",
                f"{part['recall']:.3f}",
            )
        )
    page = "\n".join(lines) + "\n"
    if options.output is None:
        print(page)
        return
    draw(
        plt,
        options.output / "similarity.png",
        flat[first],
        flat[last],
        (first, last),
        labels_of(sets),
        calibration,
    )
    page += "\n![Cosines of pairs before and after; reliability](similarity.png)\n"
    (options.output / "similarity.md").write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
