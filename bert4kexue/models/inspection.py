"""What a checkpoint is, and what of it would load: told from names and shapes, without a model."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import Any

from bert4kexue.checkpoints import (
    Checkpoint,
    CheckpointMismatch,
    as_original,
    compare,
    is_huggingface,
    open_checkpoint,
)
from bert4kexue.checkpoints.families import family_of
from bert4kexue.models.architecture import Architecture
from bert4kexue.models.architectures import ARCHITECTURES
from bert4kexue.models.config import ModelConfig, make_config, read_config

_HEADS = {
    "with_pool": "bert/pooler/dense/kernel",
    "with_nsp": "cls/seq_relationship/output_weights",
    "with_mlm": "cls/predictions/transform/dense/kernel",
}
_USUAL_HEAD_SIZE = 64
_BUILT_FAMILIES = ("BERT", "RoFormer or NEZHA")


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What :func:`inspect_checkpoint` found.

    Args:
        description: format and place.
        huggingface: whether the names are Hugging Face's and were translated.
        variables: number of variables.
        numbers: number of values in all variables.
        bytes: their size.
        dtypes: number of variables of each dtype.
        family: the family that the names tell, or None.
        model: what ``build_transformer_model(model=...)`` takes for it, or None when it cannot be
            built.
        config: the keys of a config that fits, derived from the shapes and the file beside it.
        guessed: keys of ``config`` that the checkpoint does not tell.
        heads: options whose head the checkpoint holds.
        ignored: variables that loading knowingly leaves out.
        problems: why it would not load, a report a model; empty when it would.
    """

    description: str
    huggingface: bool
    variables: int
    numbers: int
    bytes: int
    dtypes: dict[str, int]
    family: str | None
    model: str | None
    config: dict[str, Any]
    guessed: tuple[str, ...]
    heads: tuple[str, ...]
    ignored: tuple[str, ...]
    problems: tuple[str, ...]


def inspect_checkpoint(path: str | Path) -> Inspection:
    """Look at a checkpoint, or at a folder in the original layout.

    Args:
        path: whatever :func:`bert4kexue.checkpoints.open_checkpoint` takes; a ``bert_config.json``
            beside the files is compared with their shapes.

    Raises:
        CheckpointError: it cannot be opened.
    """
    with open_checkpoint(path) as opened:
        original = as_original(opened)
        names = original.names()
        shapes = {name: original.shape(name) for name in names}
        keys, guessed = _derive(shapes, _config_beside(Path(path)))
        heads = tuple(option for option, name in _HEADS.items() if name in shapes)
        model, ignored, problems = _try(original, keys, heads)
        family = family_of(names)
        if model is None and family not in _BUILT_FAMILIES:
            built = ", ".join(architecture.name for architecture in ARCHITECTURES)
            told = f"it is {family}" if family else "its names are of no known family"
            problems = (f"{told}, and what can be built is: {built}",)
        sizes = {name: _product(shape) for name, shape in shapes.items()}
        return Inspection(
            description=opened.description,
            huggingface=is_huggingface(opened),
            variables=len(names),
            numbers=sum(sizes.values()),
            bytes=sum(sizes[name] * original.dtype(name).itemsize for name in names),
            dtypes=dict(Counter(str(original.dtype(name)) for name in names)),
            family=family,
            model=model,
            config=keys,
            guessed=guessed,
            heads=heads,
            ignored=ignored,
            problems=problems,
        )


def _try(
    checkpoint: Checkpoint, keys: dict[str, Any], heads: tuple[str, ...]
) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    """The first architecture that takes the checkpoint whole; else every one's objections."""
    problems = []
    try:
        config = make_config(keys, dict.fromkeys(heads, True))
    except ValueError as error:
        return None, (), (str(error),)
    for architecture in ARCHITECTURES:
        comparison = _compare(architecture, config, checkpoint)
        if comparison.fits:
            return architecture.name, comparison.plan.ignored, ()
        problems.append(str(CheckpointMismatch(comparison, f"model={architecture.name!r}")))
    return None, (), tuple(problems)


def _compare(architecture: Architecture, config: ModelConfig, checkpoint: Checkpoint) -> Any:
    rows, wanted = architecture.rows(config)
    return compare(rows, checkpoint, wanted=wanted, known=architecture.ignored_variables)


def _derive(
    shapes: dict[str, tuple[int, ...]], beside: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A config's keys: the file's where there is one, else what the shapes tell."""
    if beside:
        return beside, ()
    keys: dict[str, Any] = {}
    guessed = []
    if words := shapes.get("bert/embeddings/word_embeddings"):
        keys["vocab_size"], keys["embedding_size"] = words
    if segments := shapes.get("bert/embeddings/token_type_embeddings"):
        keys["type_vocab_size"] = segments[0]
    if positions := shapes.get("bert/embeddings/position_embeddings"):
        keys["max_position_embeddings"] = positions[0]
    query = shapes.get("bert/encoder/layer_0/attention/self/query/kernel")
    inner = shapes.get("bert/encoder/layer_0/intermediate/dense/kernel")
    if query and inner:
        keys["hidden_size"], keys["intermediate_size"] = query[0], inner[1]
        blocks = {m[1] for name in shapes if (m := re.match(r"bert/encoder/layer_(\d+)/", name))}
        keys["num_hidden_layers"] = len(blocks)
        heads = query[0] // _USUAL_HEAD_SIZE if query[0] % _USUAL_HEAD_SIZE == 0 else 1
        keys |= {"num_attention_heads": heads, "hidden_act": "gelu"}
        guessed = ["num_attention_heads", "hidden_act"]
    return keys, tuple(guessed)


def _config_beside(path: Path) -> dict[str, Any]:
    folder = path if path.is_dir() else path.parent
    present = [p for p in (folder / "bert_config.json", folder / "config.json") if p.is_file()]
    return read_config(present[0]) if present else {}


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for axis in shape:
        size *= axis
    return size
