"""What a model is served for: from ids to named answers, before any form is chosen.

A file of ``signatures/`` makes a `Task`; `forms.py` gives each task its signatures: ids in, and
strings in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

Forward = Callable[[Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """One thing that a model is asked.

    Args:
        model: takes token ids and, mostly, segment ids, (b, n).
        outputs: names of the answers.
        answer: from the forward function and int32 ``token_ids`` and ``segment_ids`` (b, n) to the
            answers, in order. It calls ``forward(token_ids, segment_ids)`` for what the model
            gives, and nothing else of the model, since its weights may be stored in another type.
        texts: how many texts a question has: 1, or 2 where both stand in one row.
        rows: how many rows of ids a question has: 2 where two texts are compared; ``answer`` then
            takes four tensors.
        offsets: with strings in, ``answer``'s ``(b, s, 2)`` int32 ranges of tokens under this name
            become ranges of characters.
        prepare: rewrites the token ids that the tokenizer made of strings, both (b, n).
        labels: what a row of ``labels.txt`` stands for, in order; empty where there are none.
        generates: ``answer`` runs the model's layers itself, token by token, and not ``forward``;
            its weights stay float32.
    """

    model: keras.Model
    outputs: tuple[str, ...]
    answer: Callable[..., tuple[Any, ...]]
    texts: int = 1
    rows: int = 1
    offsets: str | None = None
    prepare: Callable[[Any, Any], tuple[Any, Any]] | None = None
    labels: tuple[str, ...] = ()
    generates: bool = False


def one_output(model: keras.Model, rank: int, *, what: str, remedy: str) -> int:
    """Index of the model's first output of this rank.

    Raises:
        ValueError: it has none; the message says ``what`` was wanted and the ``remedy``.
    """
    for index, tensor in enumerate(model.outputs):
        if len(tensor.shape) == rank:
            return index
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.outputs)
    raise ValueError(f"{what} needs an output of rank {rank}, the model gives {shapes}: {remedy}")


def pick(outputs: Any, index: int) -> Any:
    """One of a model's outputs, which are a list only where there are several."""
    return outputs[index] if isinstance(outputs, list | tuple) else outputs


def checked_labels(labels: Any, width: int | None, *, what: str) -> tuple[str, ...]:
    """The labels, one for each of the model's scores.

    Raises:
        ValueError: another number than scores, an empty one, one twice, or one with a line break
            or a lone surrogate, which no file of labels can hold.
    """
    labels = tuple(labels)
    if width is not None and len(labels) != width:
        raise ValueError(
            f"{what} has {width} scores and {len(labels)} labels were given: give one for each, in "
            "the order of training"
        )
    bad = [label for label in labels if len(label.splitlines()) != 1 or not in_utf8(label)]
    if bad or len(set(labels)) != len(labels):
        raise ValueError(
            "labels must be different, not empty, on one line each and without lone surrogates, "
            f"got {list(labels)!r}"
        )
    return labels


def in_utf8(text: str) -> bool:
    """Whether UTF-8 can write it; it cannot write half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def tasks_by_name(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """A copy, after a look at the names.

    Raises:
        ValueError: there are none, or a name is no identifier or would be taken twice.
    """
    if not tasks:
        raise ValueError("an export needs at least one task: give {name: task}")
    for name in tasks:
        if not name.isidentifier() or name == "serving_default" or name.endswith("_text"):
            raise ValueError(
                f"{name!r} cannot name a task: take letters, digits and underscores, not "
                "'serving_default' and no ending '_text' (the form with strings has that)"
            )
    return dict(tasks)
