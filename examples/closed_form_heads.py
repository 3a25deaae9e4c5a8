"""A classifier on frozen sentence vectors without training (kexue.fm/archives/8578).

    BERT4KEXUE_DATA=... python examples/closed_form_heads.py --cache /tmp/features
    python examples/closed_form_heads.py --smoke

On vectors of the shipped RoFormer it sets beside each other: the closed form as the post has it,
with its covariance shrunk, and gradient descent on the same vectors, untuned and with the best L2.
Then it takes rows away until the closed form collapses, and it starts fine-tuning from the closed
form and from random numbers. Writes closed_form_heads.md and .png to --output. With the vectors
cached it takes a few minutes on two cores; docs/results has what it measured.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import pictures
from sentence_features import (
    TASKS,
    Features,
    Texts,
    features,
    read_task,
    table_head,
    table_row,
    vectors,
)

from bert4kexue.analysis import ClosedFormSoftmax
from bert4kexue.models import build_transformer_model
from bert4kexue.models.heads import fit_head, with_head
from bert4kexue.tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)  # of scikit-learn's C, small is strong


class Row(NamedTuple):
    """One method on one task."""

    method: str
    train: float
    test: float
    seconds: float
    note: str


def standardized(task: Features) -> Features:
    """Every feature with mean 0 and variance 1 on the training rows."""
    mean, deviation = task.x.mean(0), task.x.std(0) + 1e-12
    return task._replace(x=(task.x - mean) / deviation, test_x=(task.test_x - mean) / deviation)


def closed(shrinkage: float | str) -> Callable:
    """The closed form; where the covariance is singular, its pseudo-inverse."""

    def fit(x: np.ndarray, y: np.ndarray) -> tuple[Callable, str]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the collapse is what is shown here
            model = ClosedFormSoftmax(shrinkage, singular="pinv").fit(x, y)
        if shrinkage:
            return model.predict, f"a = {model.shrinkage_:.3g}"
        singular = len(y) - len(model.classes_) < x.shape[1]
        return model.predict, "pseudo-inverse" if singular else ""

    return fit


def adam(x: np.ndarray, y: np.ndarray) -> tuple[Callable, str]:
    """A Dense layer under Adam at its default rate, 20 epochs, no penalty: nothing is tuned."""
    keras.utils.set_random_seed(0)
    classes, numbers = np.unique(y, return_inverse=True)
    layers = [keras.Input(x.shape[1:]), keras.layers.Dense(len(classes), activation="softmax")]
    model = keras.Sequential(layers)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, numbers, batch_size=32, epochs=20, verbose=0)
    return lambda rows: classes[model.predict(rows, verbose=0).argmax(1)], "20 epochs"


def logistic(x: np.ndarray, y: np.ndarray) -> tuple[Callable, str]:
    """The maximum of the likelihood by L-BFGS, without a penalty."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on separable rows it never converges
        model = LogisticRegression(C=np.inf, max_iter=200).fit(x, y)
    return model.predict, "L-BFGS, 200 steps at most"


def best_l2(x: np.ndarray, y: np.ndarray) -> tuple[Callable, str]:
    """The same with the L2 penalty that three-fold cross-validation on these rows prefers."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = GridSearchCV(LogisticRegression(max_iter=200), {"C": STRENGTHS}, cv=3).fit(x, y)
    return search.predict, f"C = {search.best_params_['C']:g}, search included"


METHODS: dict[str, Callable] = {
    "closed form": closed(0.0),
    "closed form, OAS shrinkage": closed("auto"),
    "closed form, shrinkage by leave-one-out": closed("loo"),
    "gradient descent, untuned (Adam)": adam,
    "gradient descent, untuned (L-BFGS)": logistic,
    "gradient descent, best L2": best_l2,
}


def compare(task: Features) -> list[Row]:
    """Every method on one task."""
    rows = []
    for method, fit in METHODS.items():
        start = time.perf_counter()
        predict, note = fit(task.x, task.y)
        seconds = time.perf_counter() - start
        train, test = (
            float((predict(x) == y).mean())
            for x, y in ((task.x, task.y), (task.test_x, task.test_y))
        )
        rows.append(Row(method, train, test, seconds, note))
    return rows


def collapse(task: Features, repeats: int = 5) -> dict[str, dict[int, float]]:
    """Test accuracy by number of training rows, mean over subsets: the hole is at n = d."""
    d = task.x.shape[1]
    sizes = [n for n in (d // 4, d // 2, d - 56, d, d + 8, d + 44, 2 * d, 4 * d, 16 * d) if n > 20]
    sizes = [n for n in sizes if n < len(task.y)] + [len(task.y)]
    found: dict[str, dict[int, float]] = {}
    for method in ("closed form", "closed form, OAS shrinkage"):
        found[method] = {}
        for n in sizes:
            scores = []
            for seed in range(repeats if n < len(task.y) else 1):
                chosen = np.random.default_rng(seed).permutation(len(task.y))[:n]
                predict, _ = METHODS[method](task.x[chosen], task.y[chosen])
                scores.append((predict(task.test_x) == task.test_y).mean())
            found[method][n] = float(np.mean(scores))
    return found


class Start(NamedTuple):
    """Fine-tuning from one start: accuracy before and after, and the loss of every step."""

    before: float
    after: float
    losses: list[float]


def fine_tune(folder: Path, task: Texts, closed_form: bool, dropout: bool, seed: int) -> Start:
    """One epoch over the whole encoder; the head starts from the closed form or from Glorot."""
    keras.utils.set_random_seed(seed)
    encoder = build_transformer_model(folder, model="roformer", with_pool="linear")
    tokenizer = Tokenizer(str(folder / "vocab.txt"), do_lower_case=True)
    classes, numbers = np.unique(task.train_labels, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(numbers))
    batches = []
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        ids = tokenizer.encode_batch([task.train[i] for i in rows], maxlen=64)
        batches.append(([ids.token_ids, ids.segment_ids], numbers[rows]))
    if closed_form:
        noisy = (lambda ids: encoder(ids, training=True)) if dropout else encoder
        model = with_head(encoder, fit_head(noisy, batches, classes=range(len(classes))))
    else:
        head = keras.layers.Dense(len(classes), activation="softmax")
        model = keras.Model(encoder.inputs, head(encoder.outputs[0]))
    model.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    test = tokenizer.encode_batch(task.test, maxlen=64)
    known = np.searchsorted(classes, task.test_labels)

    def accuracy() -> float:
        ids = [test.token_ids, test.segment_ids]
        return float((model.predict(ids, batch_size=64, verbose=0).argmax(1) == known).mean())

    before, losses = accuracy(), []
    for inputs, labels in batches:
        model.reset_metrics()  # a running mean otherwise
        losses.append(float(model.train_on_batch(inputs, labels)))
    return Start(before, accuracy(), losses)


def smoke_task(folder: Path) -> tuple[Features, Texts]:
    """Praise and blame out of a few words, for a run without any data."""
    things = ["房间", "服务", "早餐", "屏幕", "电池", "物流", "味道", "价格", "音质", "位置"]
    words = {"好": ["很好", "不错", "非常满意"], "坏": ["很差", "太糟了", "让人失望"]}
    rows = [
        (f"{a}和{b}{word}", label)
        for label, several in words.items()
        for word in several
        for a in things
        for b in things
        if a != b
    ]
    order = np.random.default_rng(0).permutation(len(rows))
    texts = [rows[i][0] for i in order]
    labels = np.array([rows[i][1] for i in order])
    x, cut = vectors(folder, texts), 400
    split = Texts(texts[:cut][:64], labels[:64], texts[cut:], labels[cut:])
    return Features(x[:cut], labels[:cut], x[cut:], labels[cut:]), split


def draw(path: Path, task: str, holes: dict, starts: dict[str, list[Start]], d: int) -> None:
    """The collapse on the left, the first epoch on the right."""
    plt = pictures.pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    for method, scores in holes.items():
        left.plot(list(scores), list(scores.values()), "o-", markersize=4, label=method)
    left.axvline(d, color="grey", linestyle=":", label=f"n = d = {d}")
    left.set(xscale="log", xlabel=f"training rows ({task})", ylabel="test accuracy")
    left.legend(fontsize=8)
    colours = ("tab:blue", "tab:green", "tab:red")
    for (name, several), colour in zip(starts.items(), colours, strict=True):
        for number, start in enumerate(several):
            right.plot(start.losses, color=colour, alpha=0.7, label=name if not number else None)
    right.set(xlabel="step of the first epoch", ylabel="loss of the batch (nats)")
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def report(
    tables: dict[str, tuple[Features, list[Row]]],
    hole_task: str,
    holes: dict,
    start_task: str,
    starts: dict[str, list[Start]],
) -> str:
    """What was measured, as a page."""
    lines = [
        "# Closed-form heads on frozen vectors",
        "",
        "Vectors of `pretrained/roformer_tiny_zh` (256 numbers, frozen), standardized on the",
        "training rows. FewCLUE's rows are `train_few_all`, reported on `dev_few_all`;",
        "ChnSentiCorp's are train, reported on dev and test together; reported rows whose text is",
        "also a training row are left out. Seconds are of the fit alone, on two cores with nothing",
        "else running; those of the best L2 hold the search for it.",
        "",
        "![collapse and first epoch](closed_form_heads.png)",
    ]
    for task, (rows, results) in tables.items():
        classes, counts = np.unique(rows.test_y, return_counts=True)
        lines += [
            "",
            f"## {task}: {len(rows.y)} rows, {len(classes)} classes, {len(rows.test_y)} reported",
            "",
            f"Always the commonest label: {counts.max() / counts.sum():.3f}.",
            "",
            *table_head("method", "train", "test", "seconds", ""),
        ]
        lines += [
            table_row(r.method, f"{r.train:.3f}", f"{r.test:.3f}", f"{r.seconds:.3f}", r.note)
            for r in results
        ]
    sizes = list(next(iter(holes.values())))
    lines += [
        "",
        f"## As many rows as features ({hole_task})",
        "",
        "Test accuracy by number of training rows, mean of five subsets. Below n = d the",
        "covariance is singular and its pseudo-inverse is taken.",
        "",
        *table_head("rows", *sizes),
    ]
    lines += [
        table_row(method, *(f"{scores[n]:.3f}" for n in sizes)) for method, scores in holes.items()
    ]
    lines += [
        "",
        f"## The first epoch of fine-tuning ({start_task})",
        "",
        "The whole encoder under Adam at 1e-4, batches of 32, 64 tokens; the head starts from the",
        "closed form or from Glorot's random numbers. One row a seed. `fit_head` reads the rows",
        "once, through the encoder with dropout on, so that the covariance knows the noise that",
        "training makes, or off. The last batch may hold few rows.",
        "",
        *table_head(
            "head starts from", "test before", "test after", "first batch's loss", "mean loss"
        ),
    ]
    lines += [
        table_row(
            name,
            f"{start.before:.3f}",
            f"{start.after:.3f}",
            f"{start.losses[0]:.3f}",
            f"{np.mean(start.losses):.3f}",
        )
        for name, several in starts.items()
        for start in several
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "pretrained" / "roformer_tiny_zh")
    parser.add_argument("--cache", type=Path, help="folder that keeps the vectors")
    parser.add_argument("--output", type=Path, help="docs/results; with --smoke nowhere")
    parser.add_argument("--smoke", action="store_true", help="a minute, and no data needed")
    options = parser.parse_args()
    output = options.output or (None if options.smoke else ROOT / "docs" / "results")
    if output is not None:
        pictures.pyplot()  # said now, not after the work, where it is missing
    if options.smoke:
        rows, texts = smoke_task(options.model)
        names, hole_task, start_task, seeds = ["smoke"], "smoke", "smoke", 1
        found = {"smoke": standardized(rows)}
    else:
        data = Path(os.environ["BERT4KEXUE_DATA"])
        names, hole_task, start_task, seeds = list(TASKS), "ChnSentiCorp", "TNEWS", 2
        found = {
            task: standardized(features(data, options.model, task, options.cache)) for task in names
        }
        texts = read_task(data, start_task)
    tables = {}
    for task in names:
        tables[task] = found[task], compare(found[task])
        for row in tables[task][1]:
            print(f"{task:13s} {row.method:42s} {row.test:.3f} {row.seconds:8.3f} s", flush=True)
    holes = collapse(found[hole_task], 1 if options.smoke else 5)
    starts = {
        name: [fine_tune(options.model, texts, seed=seed, **how) for seed in range(seeds)]
        for name, how in (
            ("closed form, dropout on", {"closed_form": True, "dropout": True}),
            ("closed form, dropout off", {"closed_form": True, "dropout": False}),
            ("random numbers", {"closed_form": False, "dropout": False}),
        )
    }
    page = report(tables, hole_task, holes, start_task, starts)
    if output is None:
        print(page)
        return
    output.mkdir(parents=True, exist_ok=True)
    draw(output / "closed_form_heads.png", hole_task, holes, starts, found[hole_task].x.shape[1])
    (output / "closed_form_heads.md").write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
