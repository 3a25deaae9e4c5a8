"""``bert4kexue similar``: sentence vectors, trained, searched, written out of and measured."""

from __future__ import annotations

from typing import Any

from bert4kexue.cli import similar_eval, similar_generate, similar_train, similar_vectors


def add(commands: Any) -> None:
    """Add the group."""
    group = commands.add_parser(
        "similar", help="sentence similarity: train, encode, index, search, generate, evaluate"
    )
    actions = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for part in (similar_train, similar_vectors, similar_generate, similar_eval):
        part.add(actions)
