"""``bert4kexue jl``: how many dimensions a random projection needs, and projecting."""

from __future__ import annotations

import argparse
from typing import Any

_EPILOG = """\
Vectors are an .npy file (N, m), or an .npz file that holds them as x.

examples:
  bert4kexue jl dim --vectors 100 --eps 0.5
  bert4kexue jl project --input vectors.npy --output small.npy --dimensions 64 --kind hadamard
  bert4kexue jl report --input vectors.npy --eps 0.5"""


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser(
        "jl",
        help="random projections: dimensions, projecting, what they keep",
        description="The Johnson-Lindenstrauss lemma (kexue.fm/archives/8679), at work.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def action(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(run=run)
        return parser

    dim = action("dim", run_dim, "print the lemma's dimensions and failure probabilities")
    dim.add_argument("--vectors", type=int, required=True, metavar="N", help="how many vectors")
    dim.add_argument("--eps", type=float, required=True, help="distortion, between 0 and 1")
    project = action("project", run_project, "project vectors")
    project.add_argument("--output", required=True, metavar="NPY", help="the file to write")
    project.add_argument("--dimensions", type=int, required=True, help="to project to")
    report = action("report", run_report, "print the dimensions that these vectors really need")
    report.add_argument("--eps", type=float, required=True, help="distortion, between 0 and 1")
    report.add_argument("--trials", type=int, default=20, help="projections of each size (20)")
    report.add_argument("--level", type=float, default=0.9, help="share that must hold (0.9)")
    report.add_argument("--pairs", type=int, default=20_000, help="most pairs looked at (20000)")
    report.add_argument("--dimensions", type=int, help="the most dimensions tried (the lemma's)")
    for parser in (project, report):
        parser.add_argument("--input", required=True, metavar="FILE", help=".npy or .npz")
        parser.add_argument(
            "--kind",
            choices=["gaussian", "sign", "sparse", "hadamard"],
            default="gaussian",
            help="of projection (gaussian)",
        )
        parser.add_argument("--seed", type=int, default=0, help="of the projection (0)")


def run_dim(options: argparse.Namespace) -> int:
    """Print the lemma's numbers beside the exact ones."""
    from bert4kexue.analysis import exact_dim, exact_failure, jl_dim, jl_failure_bound

    count, eps = options.vectors, options.eps
    n = jl_dim(count, eps)
    print(f"{n} dimensions: 24 ln N / eps^2, distances hold with probability 1 - 1/N")
    print(f"{jl_dim(count, eps, 16)} dimensions: 16 ln N / eps^2, such a projection exists")
    exact = exact_dim(count, eps, 1 / count)
    print(f"{exact} dimensions: the same promise by exact chi-square tails")
    print(f"at {n} dimensions, for all pairs:")
    for what in ("distances", "inner products"):
        bound = jl_failure_bound(count, n, eps, what)
        one = exact_failure(n, eps, what)
        union = min(1.0, one * count * (count - 1) / 2)
        print(f"  {what}: failure at most {bound:.3g} by the bound, {union:.3g} by exact tails")
    return 0


def run_project(options: argparse.Namespace) -> int:
    """Write the projections."""
    from bert4kexue._files import write_array
    from bert4kexue.analysis import project

    vectors = _vectors(options.input)
    small = project(vectors, options.dimensions, options.kind, options.seed)
    write_array(options.output, small)
    print(
        f"{options.output}: {vectors.shape} -> {small.shape} {small.dtype}, "
        f"{options.kind}, seed {options.seed}"
    )
    return 0


def run_report(options: argparse.Namespace) -> int:
    """Print what the lemma asks for and what was enough."""
    from bert4kexue.analysis import distortion_report, project, smallest_dimension

    vectors = _vectors(options.input)
    found = smallest_dimension(
        vectors,
        options.eps,
        options.kind,
        options.trials,
        options.level,
        options.dimensions,
        options.pairs,
        options.seed,
    )
    print(f"{len(vectors)} vectors of {vectors.shape[1]} numbers, eps {options.eps}")
    print(f"theory    {found.theory} dimensions")
    if found.dimension is None:
        print(f"empirical above {len(found.tried)}: no size tried holds often enough")
        return 0
    print(
        f"empirical {found.dimension} dimensions: from there on {options.level:.0%} of "
        f"{options.trials} projections keep every pair"
    )
    if found.dimension < vectors.shape[1]:
        small = project(vectors, found.dimension, options.kind, options.seed)
        seen = distortion_report(vectors, small, options.eps, options.pairs)
        print(
            f"one of them: squared distances times {seen.lowest:.3f} to {seen.highest:.3f}, inner "
            f"products off by {seen.inner_product:.3f} ({seen.pairs} pairs, {seen.duplicates} "
            "duplicates)"
        )
    else:
        print(f"that is no reduction from {vectors.shape[1]}")
    return 0


def _vectors(path: str) -> Any:
    import numpy as np

    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded as archive:
        if "x" not in archive:
            raise ValueError(f"{path} holds {archive.files}, not 'x': name the vectors so")
        return archive["x"]
