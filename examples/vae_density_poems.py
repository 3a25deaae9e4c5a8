"""log p(x) of verse, by a VAE whose decoder writes every character from z (kexue.fm/archives/8791).

    python examples/vae_density_poems.py RUN              # train, estimate, write docs/results
    python examples/vae_density_poems.py RUN --smoke      # a minute, writes into RUN only

A row is a couplet of ten characters, half of a quatrain in five characters a line, from the poems
of BERT4KEXUE_DATA. The page has the held-out log-likelihood with its errors, against two models
that count; what the model says of couplets that are none; couplets that it writes.

All of a poem is trained on or reported, by a fixed hash of it. The poems have no licence: the page
quotes none of them, and what the model writes is compared with all of them before it is shown.
"""

from __future__ import annotations

import argparse
import json
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
NAMES = {"elbo": "VAE"}
LENGTH = 10


def main() -> None:
    """Train if nothing is trained yet, measure, write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the trained model")
    parser.add_argument("--minutes", type=float, default=6, help="of the processor, to train (6)")
    parser.add_argument("--samples", type=int, default=1000, help="draws for log p(x) (1000)")
    parser.add_argument("--rows", type=int, default=500, help="couplets reported (500)")
    parser.add_argument("--only-train", action="store_true", help="stop after the training")
    parser.add_argument("--smoke", action="store_true", help="few couplets, one epoch")
    options = parser.parse_args()
    if not options.only_train:
        pictures.pyplot()  # said now, not after the work, where it is missing
    train, test, dropped = split(read_quatrains(Path(os.environ["BERT4KEXUE_DATA"])))
    if options.smoke:
        train, test, options.samples, options.rows = train[:600], test[:60], 20, 40
    options.run.mkdir(parents=True, exist_ok=True)
    from bert4kexue.methods.density_text import CharacterCodec

    codec = CharacterCodec.of(train, LENGTH, least=1 if options.smoke else 5)
    ids = codec.encode(train)
    model, spent = load_or_train(ids, codec.vocabulary, options)
    if options.only_train:
        return
    x = codec.encode(test[: options.rows])
    estimates, seconds = density_report.timed_estimates(
        {"elbo": model}, {"elbo": x}, options.samples, chunk=512
    )
    counted = {
        "the place's frequencies": by_place(ids, x, codec.vocabulary),
        "frequencies after the character before": by_pair(ids, x, codec.vocabulary),
    }
    lines = page_head(train, test, x, dropped, codec)
    lines += density_report.likelihood_table(
        NAMES, estimates, {"elbo": spent}, seconds, LENGTH, "character"
    )
    lines += counted_table(counted)
    more, scores = strangers_table(model, x, estimates["elbo"], ids, options)
    lines += [*more, *written_table(model, codec, [*train, *test])]
    results = options.run if options.smoke else ROOT / "docs" / "results"
    page = "\n".join(lines) + "\n"
    (results / "density_poems.md").write_text(page, encoding="utf-8", newline="\n")
    draw(estimates["elbo"], counted, scores, results / "density_poems.png")
    print(page)


def read_quatrains(folder: Path) -> list[list[str]]:
    """The poems of four lines in five characters, each once."""
    poems = []
    for name in ("ccpc_test_v1.0.json", "ccpc_valid_v1.0.json"):
        for line in (folder / "ccpc_poems" / name).read_text(encoding="utf-8").splitlines():
            verses = json.loads(line)["content"].split("|")
            if [len(verse) for verse in verses] == [5, 5, 5, 5]:
                poems.append("".join(verses))
    return [[poem[:LENGTH], poem[LENGTH:]] for poem in dict.fromkeys(poems)]


def split(poems: list[list[str]]) -> tuple[list[str], list[str], int]:
    """Training couplets, reported ones, and how many were too like a reported one to train on."""
    train: list[str] = []
    test: list[str] = []
    for poem in poems:
        reported = zlib.crc32("".join(poem).encode()) % 5 == 0
        (test if reported else train).extend(poem)
    most = most_shared(train, test)
    return [row for row, n in zip(train, most, strict=True) if n < 6], test, int((most >= 6).sum())


def most_shared(rows: list[str], others: list[str]) -> np.ndarray:
    """For every row, at how many places it equals the one of the others it equals most."""
    a, b = (np.array([list(map(ord, row)) for row in part], np.int32) for part in (rows, others))
    found = np.zeros(len(a), np.int64)
    for start in range(0, len(a), 256):
        same = np.zeros((len(a[start : start + 256]), len(b)), np.int8)
        for place in range(LENGTH):
            same += a[start : start + 256, place, None] == b[None, :, place]
        found[start : start + 256] = same.max(axis=1)
    return found


def load_or_train(ids: np.ndarray, vocabulary: int, options: argparse.Namespace):
    """The model of RUN, trained first where there is none; and its minutes of training."""
    import keras

    from bert4kexue.methods.density_models import text_vae

    path = options.run / "elbo.keras"
    if path.exists():
        return keras.saving.load_model(path), path.with_suffix(".txt").read_text(encoding="utf-8")
    keras.utils.set_random_seed(7)
    model = text_vae(LENGTH, vocabulary, 16, hidden=256, embedding=64, seed=7)
    model.compile(keras.optimizers.Adam(2e-3))
    shuffled = ids[np.random.default_rng(7).permutation(len(ids))]
    epochs = 1 if options.smoke else 1000
    return model, density_report.fit(model, shuffled, path, options.minutes, epochs, batch=200)


def page_head(train, test, x, dropped: int, codec) -> list[str]:
    """What was measured on what."""
    return [
        "# Densities of verse",
        "",
        "Written by `examples/vae_density_poems.py` (kexue.fm/archives/8791).",
        f"A row is a couplet of {LENGTH} characters. {len(train):,} couplets are trained on (a",
        f"tenth of these says when to stop), {len(test):,} of other poems, chosen by a hash, are",
        f"kept for the report, of which {len(x):,} are used; {dropped} were left out, being equal",
        "to a reported one at 6 places or more.",
        "",
        f"The alphabet has {len(codec.characters):,} characters; rarer ones",
        f"({codec.unknown_share(x):.1%} of the reported) count as one and the same.",
        "`text_vae` of 16 latent numbers, seed 7, one thread: each character is drawn on its own,",
        "given z, so all that characters have to do with each other must be in z.",
        "",
        "## Held-out log-likelihood",
        "",
    ]


def by_place(ids: np.ndarray, x: np.ndarray, vocabulary: int) -> np.ndarray:
    """log p(x) where each place has its own frequencies, all else independent; (rows, places)."""
    counts = np.stack([np.bincount(column, minlength=vocabulary) for column in ids.T]) + 0.0
    # As much of the whole text's frequencies as of a few hundred characters of this place.
    whole = (counts.sum(axis=0) + 0.5) / (counts.sum() + 0.5 * vocabulary)
    smooth = (counts + 300 * whole) / (counts.sum(axis=1, keepdims=True) + 300)
    return np.log(smooth[np.arange(x.shape[1]), x])


def by_pair(ids: np.ndarray, x: np.ndarray, vocabulary: int) -> np.ndarray:
    """log p(x) where a character depends on the one before it; (rows, places).

    How much the place's own frequencies weigh is chosen on the last tenth of the training rows.
    """
    cut = len(ids) * 9 // 10
    chosen = max(
        (10, 30, 100, 300, 1000),
        key=lambda weight: after_one(ids[:cut], ids[cut:], vocabulary, weight).sum(),
    )
    return after_one(ids, x, vocabulary, chosen)


def after_one(ids: np.ndarray, x: np.ndarray, vocabulary: int, weight: float) -> np.ndarray:
    """log p(x) by counted pairs and `weight` characters of the place's frequencies."""
    pairs = np.zeros((vocabulary, vocabulary), np.float32)
    np.add.at(pairs, (ids[:, :-1].ravel(), ids[:, 1:].ravel()), 1)
    alone = by_place(ids, x, vocabulary)
    seen = pairs[x[:, :-1]].sum(axis=-1)
    joint = pairs[x[:, :-1], x[:, 1:]]
    after = np.log((joint + weight * np.exp(alone[:, 1:])) / (seen + weight))
    return np.concatenate([alone[:, :1], after], axis=1)


def counted_table(counted: dict[str, np.ndarray]) -> list[str]:
    """The same couplets by models that count."""
    lines = [
        "",
        "The same couplets by models that only count, smoothed:",
        "",
        "| model | log p(x) | error: rows | bits a character |",
        "|---|---|---|---|",
    ]
    for name, terms in counted.items():
        values = terms.sum(axis=1)
        error = values.std(ddof=1) / len(values) ** 0.5
        bits = -values.mean() / LENGTH / np.log(2)
        lines.append(f"| {name} | {values.mean():.2f} | {error:.2f} | {bits:.4f} |")
    return [*lines, "", "![couplets](density_poems.png)", ""]


def strangers_table(model, x: np.ndarray, known, ids: np.ndarray, options):
    """Rows that are no couplets, and how well their density tells them from held-out ones."""
    random = np.random.default_rng(0)
    half = len(x) // 2
    reference, own, some = known.log_prob[:half], known.log_prob[half:], x[half:]
    strangers = {
        "the two lines exchanged": np.roll(some, LENGTH // 2, axis=1),
        "lines of two poems": np.concatenate([some[:, :5], np.roll(some[:, 5:], 1, axis=0)], 1),
        "characters of each line shuffled": np.concatenate(
            [random.permuted(part, axis=1) for part in np.split(some, 2, axis=1)], axis=1
        ),
        "characters drawn by frequency": random.choice(ids.ravel(), some.shape),
        "one character ten times": np.repeat(some[:, :1], LENGTH, axis=1),
        "characters drawn evenly": random.integers(2, ids.max() + 1, some.shape),
    }
    from bert4kexue.methods.density_estimates import rarity

    lines = [
        "## Rows that are no couplets",
        "",
        "log p(x) by the model, and the chance that rarity (minus the density against other",
        "held-out couplets) puts such a row above a couplet held out (AUROC; 0.5 is a guess).",
        "",
        "| rows | log p(x) | AUROC |",
        "|---|---|---|",
        f"| couplets held out | {own.mean():.1f} | - |",
    ]
    scores = {"couplets held out": own}
    for name, rows in strangers.items():
        draws = min(options.samples, 200)
        found = model.log_prob(rows.astype(np.int32), draws, chunk=512, seed=2).log_prob
        scores[name] = found
        chance = density_report.auroc(rarity(own, reference), rarity(found, reference))
        lines.append(f"| {name} | {found.mean():.1f} | {chance:.3f} |")
    return [*lines, ""], scores


def written_table(model, codec, known: list[str]) -> list[str]:
    """Couplets of the model, after a look whether it has them from the data."""
    drawn = codec.decode(model.sample(200, seed=3))
    whole = [text for text in drawn if len(text) == LENGTH and "□" not in text]
    if not whole:  # as in a run of a single epoch
        return ["## What the model writes", "", "Nothing without gaps yet."]
    verses = {row[k : k + 5] for row in known for k in (0, 5)}
    new = [text for text in whole if text[:5] not in verses and text[5:] not in verses]
    most = most_shared(new, known) if new else np.zeros(1, int)
    return [
        "## What the model writes",
        "",
        f"Of {len(drawn)} couplets drawn {len(whole)} hold no rare character or gap; "
        f"{len(whole) - len(new)} of these",
        f"have a line of the data in them. The others agree with a couplet of the data at "
        f"{most.max()} places of",
        f"{LENGTH} at most, {most.mean():.1f} on average. The first of them:",
        "",
        *(f"- {text[:5]}，{text[5:]}。" for text in new[:12]),
    ]


def draw(found, counted, scores, path: Path) -> None:
    """The bound against the number of draws; densities of couplets and of others."""
    plt = pictures.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    left.plot(found.curve_samples, found.curve.mean(axis=1), "o-", label="VAE")
    for (name, terms), style in zip(counted.items(), (":", "--"), strict=True):
        left.axhline(terms.sum(axis=1).mean(), color="0.4", linestyle=style, label=name)
    left.set(xscale="log", xlabel="draws", title="mean bound on log p(x), nats a couplet")
    left.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    names = ["couplets held out", "characters drawn by frequency", "characters drawn evenly"]
    edges = np.histogram_bin_edges(np.concatenate([scores[name] for name in names]), 40)
    for name in names:
        right.hist(scores[name], edges, alpha=0.55, label=name)
    right.set(xlabel="log p(x), nats", ylabel="rows", title="couplets, and what is none")
    right.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.savefig(path, dpi=90)
    plt.close(figure)


if __name__ == "__main__":
    main()
