"""A bar on standard error for what takes long; silent where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
WIDTH = 30


def progress(
    iterable: Iterable[Item],
    total: float,
    label: str,
    weight: Callable[[Item], float] = lambda item: 1,
) -> Iterator[Item]:
    """The items of `iterable`, with a bar of how much of `total` is done.

    Args:
        iterable: what is worked on.
        total: the sum of the weights of all items.
        label: stands before the bar.
        weight: how much an item counts; 1 by default.
    """
    visible = sys.stderr.isatty()
    done, begun, shown = 0.0, time.monotonic(), 0.0
    for item in iterable:
        yield item
        done += weight(item)
        now = time.monotonic()
        if visible and (now - shown > 0.2 or done >= total):
            shown = now
            share = min(1.0, done / total) if total else 1.0
            left = (now - begun) * (1 - share) / share if share else 0.0
            bar = "#" * round(share * WIDTH)
            sys.stderr.write(f"\r{label} [{bar:<{WIDTH}}] {share:4.0%}, {left:.0f} s left ")
            sys.stderr.flush()
    if visible:
        sys.stderr.write("\n")


def train_with_bar(run: Any, line: Callable[[int, dict[str, float]], str]) -> None:
    """Train to the end, a line now and then; on a terminal a bar of the steps stands below them.

    Args:
        run: a `training.run.PretrainingRun`.
        line: what is printed of a step, its rate and its losses.
    """
    visible = sys.stderr.isatty()

    def report(step: int, values: dict[str, float]) -> None:
        if visible:
            sys.stderr.write(f"\r{'':79}\r")
            sys.stderr.flush()
        print(line(step, values), flush=True)

    try:
        run.train(report, lambda batches, left: progress(batches, left, "steps"))
    except BaseException:
        if visible:
            sys.stderr.write("\n")
        raise
