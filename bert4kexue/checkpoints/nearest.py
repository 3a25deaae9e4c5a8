"""The names nearest to a name, where digits count for less than words.

`bert/encoder/layer_3/output/dense/kernel` is nearer to the same weight of layer 4 than to
another weight of layer 3: names are compared as templates with their numbers taken out, then by
the distance of the numbers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_NUMBER = re.compile(r"\d+")


def template(name: str) -> str:
    """Return the name with every number replaced by '#'."""
    return _NUMBER.sub("#", name)


def numbers(name: str) -> tuple[int, ...]:
    """Return the numbers of a name, in order."""
    # Names come from files: a run of thousands of digits is no number that anybody counts with.
    return tuple(int(digits[:18]) for digits in _NUMBER.findall(name))


def nearest_names(name: str, candidates: Iterable[str], count: int = 2) -> list[str]:
    """Return at most `count` candidates that look like `name`, best first.

    Args:
        name: The name that was looked for.
        candidates: The names there are.
        count: How many to return at most.

    Returns:
        A list that may be empty: nothing is better than something unlike.
    """
    by_template: dict[str, list[str]] = {}
    for candidate in candidates:
        by_template.setdefault(template(candidate), []).append(candidate)
    wanted = template(name)
    if wanted in by_template:
        templates = [wanted]
    else:
        templates = difflib.get_close_matches(wanted, by_template, n=count, cutoff=0.7)
    here = numbers(name)
    found: list[str] = []
    for one in templates:
        group = sorted(by_template[one], key=lambda other: (_distance(here, numbers(other)), other))
        found += group[: count if len(templates) == 1 else 1]
    return found[:count]


def _distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return sum(abs(x - y) for x, y in zip(a, b, strict=False)) + 1000 * abs(len(a) - len(b))
