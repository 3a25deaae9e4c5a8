"""The Johnson-Lindenstrauss lemma beside what happens (kexue.fm/archives/8679).

    BERT4KEXUE_DATA=... python examples/johnson_lindenstrauss.py --cache /tmp/features
    python examples/johnson_lindenstrauss.py --smoke

Counts failures of random projections beside the exact probability and the post's bound; finds the
dimensions that sentence vectors really need beside the lemma's; measures how many of the ten
nearest sentences survive. Writes johnson_lindenstrauss.md and .png to --output, in about two
minutes once the vectors are cached; docs/results has what it measured.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pictures
from sentence_features import features, table_head, table_row, vectors

from bert4kexue.analysis import (
    agreement,
    exact_dim,
    exact_failure,
    head_size_rule,
    jl_dim,
    jl_failure_bound,
    project,
    randomized_svd,
    recall_at,
    sign_hash,
    smallest_dimension,
)
from bert4kexue.analysis.distortion import Smallest

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("gaussian", "sign", "sparse", "hadamard")
FALSE_ALARM = 1e-6


class Count(NamedTuple):
    """Failures of one norm under many projections."""

    kind: str
    n: int
    eps: float
    trials: int
    failures: int
    most: int


def count_failures(trials: int) -> list[Count]:
    """How often | |v A|^2 / |v|^2 - 1 | >= eps, v of 300 numbers, one seed a trial."""
    from scipy.stats import binom

    vector = np.random.default_rng(0).normal(size=(1, 300))
    found = []
    for kind in KINDS:
        for n, eps in ((64, 0.3), (64, 0.5), (256, 0.3)):
            norms = [float((project(vector, n, kind, s) ** 2).sum()) for s in range(trials)]
            failures = int((np.abs(np.array(norms) / (vector**2).sum() - 1) >= eps).sum())
            bound = jl_failure_bound(1, n, eps, "norms")
            most = int(binom.isf(FALSE_ALARM, trials, bound))
            found.append(Count(kind, n, eps, trials, failures, most))
    return found


class Needed(NamedTuple):
    """Dimensions for N vectors at eps: by the lemma, by exact tails, and as measured."""

    count: int
    eps: float
    existence: int
    theory: int
    exact: int
    real: Smallest
    drawn: Smallest


def dimensions(
    sentences: np.ndarray, sizes: tuple[int, ...], trials: int, level: float = 0.9
) -> list[Needed]:
    """The table N, eps -> theory, empirical; all pairs are looked at."""
    random = np.random.default_rng(0)
    found = []
    for count in sizes:
        rows = sentences[random.permutation(len(sentences))[:count]]
        drawn = random.normal(size=(count, 2000))
        for eps in (0.5, 0.3):
            measured = [
                smallest_dimension(v, eps, trials=trials, level=level, pairs=10**6)
                for v in (rows, drawn)
            ]
            found.append(
                Needed(
                    count,
                    eps,
                    jl_dim(count, eps, 16),
                    jl_dim(count, eps),
                    exact_dim(count, eps, 1 / count),
                    *measured,
                )
            )
    return found


def recalls(sentences: np.ndarray, queries: int, sizes: list[int]) -> dict[str, dict[int, float]]:
    """Recall@10 by dimensions: each kind, principal components, and as many sign bits."""
    asked = sentences[:queries]
    found: dict[str, dict[int, float]] = {kind: {} for kind in KINDS}
    found |= {"principal components": {}, "sign bits, 32 for a number": {}}
    mean = sentences.mean(0)
    _, _, axes = randomized_svd(sentences - mean, max(sizes))
    truth = np.argsort(-(asked @ sentences.T), axis=1)[:, :10]
    for n in sizes:
        for kind in KINDS:
            several = [recall_at(asked, sentences, n, kind=kind, seed=s) for s in range(3)]
            found[kind][n] = float(np.mean(several))
        small = (sentences - mean) @ axes[:n].T
        # <u, v> of the centred vectors, their parts along the mean added exactly.
        scores = small[:queries] @ small.T + (sentences @ mean)[None]
        found["principal components"][n] = overlap(truth, scores)
        bits = sign_hash(sentences, 32 * n)
        found["sign bits, 32 for a number"][n] = overlap(truth, agreement(bits[:queries], bits))
    return found


def overlap(truth: np.ndarray, scores: np.ndarray) -> float:
    """The share of the true ten among the ten best scores."""
    best = np.argsort(-scores, axis=1)[:, :10]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(truth, best, strict=True)]
    return float(np.mean(shared) / 10)


def draw(path: Path, counts: list[Count], needed: Needed, found: dict) -> None:
    """Failure probability, success by dimensions, recall by dimensions."""
    plt = pictures.pyplot()
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8))
    grid = np.unique(np.geomspace(8, 600, 40).astype(int))
    for eps, colour in ((0.3, "tab:blue"), (0.5, "tab:red")):
        bounds = [jl_failure_bound(1, int(n), eps, "norms") for n in grid]
        exact = [exact_failure(int(n), eps) for n in grid]
        left.plot(grid, bounds, "--", color=colour, label=f"bound, eps = {eps}")
        left.plot(grid, exact, color=colour, label=f"exact, eps = {eps}")
        seen = [c for c in counts if c.eps == eps and c.kind == "gaussian" and c.failures]
        left.plot([c.n for c in seen], [c.failures / c.trials for c in seen], "o", color=colour)
    left.set(yscale="log", ylim=(1e-6, 2), xlabel="dimensions", ylabel="P(a norm fails)")
    left.set_title("dots: counted", fontsize=9)
    left.legend(fontsize=7)
    for name, result in (("sentence vectors", needed.real), ("Gaussian vectors", needed.drawn)):
        middle.plot(result.tried, result.success, label=name)
    marks = (
        ("exact tails", needed.exact, ":"),
        ("16 ln N / eps²", needed.existence, "-."),
        ("24 ln N / eps²", needed.theory, "--"),
    )
    for name, n, style in marks:
        middle.axvline(n, color="grey", linestyle=style, label=f"{name} = {n}")
    middle.set(xlabel="dimensions", ylabel="projections that keep every pair")
    middle.set_title(f"N = {needed.count}, eps = {needed.eps}", fontsize=9)
    middle.legend(fontsize=7)
    for name, scores in found.items():
        right.plot(list(scores), list(scores.values()), "o-", markersize=3, label=name)
    right.set(xscale="log", ylim=(0, 1), xlabel="dimensions (of 256)", ylabel="recall@10")
    right.set_title("nearest sentences that survive", fontsize=9)
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def shown(result: Smallest) -> str:
    """The dimension, or that none was enough."""
    return f"above {len(result.tried)}" if result.dimension is None else str(result.dimension)


def report(
    counts: list[Count], table: list[Needed], found: dict, sentences: np.ndarray, trials: int
) -> str:
    """What was measured, as a page."""
    rows, size = sentences.shape
    lines = [
        "# The Johnson-Lindenstrauss lemma, beside what happens",
        "",
        "![failures, success and recall by dimensions](johnson_lindenstrauss.png)",
        "",
        "## One norm: counted failures, exact probability, bound",
        "",
        "A vector of 300 numbers, one projection a seed. The post's bound is 2 exp(-eps² n / 8);",
        "the exact probability of a Gaussian projection is a chi-square tail. `allowed` is the",
        "most failures that the bound permits: more would be a false alarm with a probability of",
        f"{FALSE_ALARM:g} at most in each row.",
        "",
        *table_head(
            "kind", "n", "eps", "failures", "share", "exact (Gaussian)", "bound", "allowed"
        ),
    ]
    for c in counts:
        bound = jl_failure_bound(1, c.n, c.eps, "norms")
        exact = exact_failure(c.n, c.eps)
        seen = f"{c.failures} of {c.trials}"
        share = f"{c.failures / c.trials:.2e}"
        lines.append(
            table_row(c.kind, c.n, c.eps, seen, share, f"{exact:.2e}", f"{bound:.2e}", c.most)
        )
    lines += [
        "",
        "## All distances of N vectors: theory and what is enough",
        "",
        f"Sentence vectors are of ChnSentiCorp by `pretrained/roformer_tiny_zh`, {size} numbers",
        "each, so a larger n reduces nothing; Gaussian vectors have 2,000 numbers. Empirical is",
        f"the smallest n from which on 90 % of {trials} Gaussian projections keep every pair's",
        "squared distance within 1 ± eps. `exact tails` makes the lemma's promise, probability",
        "1 - 1/N, with the chi-square tails themselves.",
        "",
        *table_head(
            "N",
            "eps",
            "24 ln N / eps²",
            "16 ln N / eps² (existence)",
            "exact tails",
            "empirical, sentences",
            "empirical, Gaussian",
        ),
    ]
    lines += [
        table_row(t.count, t.eps, t.theory, t.existence, t.exact, shown(t.real), shown(t.drawn))
        for t in table
    ]
    sizes = list(next(iter(found.values())))
    lines += [
        "",
        f"## Recall@10 of {rows} real sentence vectors",
        "",
        "The first sentences as queries, inner product, mean of three seeds. Principal components",
        "know the vectors, a random projection does not; sign bits take the room of as many",
        "float32 numbers.",
        "",
        *table_head("dimensions", *sizes),
    ]
    lines += [
        table_row(name, *(f"{scores[n]:.3f}" for n in sizes)) for name, scores in found.items()
    ]
    lines += [
        "",
        f"The head-size rule 8.33 ln L gives {head_size_rule(512):.2f} for L = 512.",
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
    start = time.perf_counter()
    if options.smoke:
        digits = "零一二三四五六七八九"
        texts = [f"第{a}{b}号房间的{c}" for a in digits for b in digits for c in ("窗", "门", "床")]
        sentences, sizes, trials, many = vectors(options.model, texts), (10, 30), 4, 40
    else:
        data = Path(os.environ["BERT4KEXUE_DATA"])
        sentences = features(data, options.model, "ChnSentiCorp", options.cache).x[:4000]
        sizes, trials, many = (10, 30, 100, 200), 20, 1000
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*reduces nothing")  # compared on purpose
        counts = count_failures(many)
        table = dimensions(sentences, sizes, trials)
        found = recalls(sentences, 20 if options.smoke else 300, [2, 4, 8, 16, 32, 64, 128, 192])
    page = report(counts, table, found, sentences, trials)
    print(page)
    print(f"{time.perf_counter() - start:.0f} s")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        chosen = next(t for t in table if t.count == min(100, max(sizes)) and t.eps == 0.5)
        draw(output / "johnson_lindenstrauss.png", counts, chosen, found)
        path = output / "johnson_lindenstrauss.md"
        path.write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
