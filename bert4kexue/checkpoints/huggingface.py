"""State dicts in Hugging Face's layout, read under the original TensorFlow names.

    bert.encoder.layer.0.attention.self.query.weight (out, in)
 -> bert/encoder/layer_0/attention/self/query/kernel (in, out)

Dense kernels are transposed, lazily; embedding tables are not, nor is the kernel of next-sentence
prediction, which both layouts keep as (2, H). BERT and RoFormer share the names: a RoFormer state
dict's `roformer.` becomes `bert/`, as in the original RoFormer checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from .base import Checkpoint, CheckpointError, ReaderBase

_BODIES = ("bert.", "roformer.")

# Original name and whether the axes are turned, by pattern over the name without its body prefix.
_LAYER = r"encoder\.layer\.(?P<layer>\d+)\.(?P<part>[a-zA-Z_.]+)"
_DENSE = {"weight": ("kernel", True), "bias": ("bias", False)}
_NORM = {
    "weight": ("gamma", False),
    "bias": ("beta", False),
    "gamma": ("gamma", False),
    "beta": ("beta", False),
}
_HEADS = {
    "cls.predictions.bias": ("cls/predictions/output_bias", False),
    # NSP: (2, H) in both layouts.
    "cls.seq_relationship.weight": ("cls/seq_relationship/output_weights", False),
    "cls.seq_relationship.bias": ("cls/seq_relationship/output_bias", False),
}
# Buffers that are computed, and second names of tied weights.
_IGNORED = re.compile(
    r"((bert|roformer)\.)?(embeddings\.position_ids|embeddings\.token_type_ids|"
    r"encoder\.embed_positions\.weight)|cls\.predictions\.decoder\.(weight|bias)"
)


def is_huggingface(checkpoint: Checkpoint) -> bool:
    """Return whether the names are Hugging Face's (dots between parts) of a BERT or RoFormer."""
    names = checkpoint.names()
    return any(
        _without_body(name)[0].startswith(("embeddings.word_embeddings.", "encoder.layer.0."))
        for name in names
    )


def as_original(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint under the original names, axes in the original order.

    A checkpoint whose names are not Hugging Face's is returned as it is. Names that are not
    understood stay as they are, so that the two-way table can list them; buffers that are
    computed (`position_ids`, RoFormer's sinusoid) and tied copies are left out.

    Args:
        checkpoint: What `open_checkpoint` returned.

    Returns:
        A lazy view; closing it closes the source.

    Raises:
        CheckpointError: Two variables would get one name.
    """
    return HuggingFaceCheckpoint(checkpoint) if is_huggingface(checkpoint) else checkpoint


class HuggingFaceCheckpoint(ReaderBase):
    """A view of another checkpoint under the original names."""

    def __init__(self, source: Checkpoint) -> None:
        self.description = f"{source.description} (Hugging Face layout)"
        self._source = source
        self._names: dict[str, tuple[str, bool]] = {}
        for name in source.names():
            if _IGNORED.fullmatch(name):
                continue
            original, turned = _original(name)
            if original in self._names:
                raise CheckpointError(
                    f"{source.description}: {name!r} and {self._names[original][0]!r} are both "
                    f"{original!r}; keep one of them"
                )
            self._names[original] = (name, turned and len(source.shape(name)) == 2)

    def names(self) -> list[str]:
        """Return the original names, sorted."""
        return sorted(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape in the original order of axes."""
        source, turned = self._pair(name)
        shape = tuple(self._source.shape(source))
        return shape[::-1] if turned else shape

    def dtype(self, name: str) -> np.dtype:
        """Return the dtype of one variable."""
        return self._source.dtype(self._pair(name)[0])

    def read(self, name: str) -> np.ndarray:
        """Return one variable; a kernel is a transposed view."""
        source, turned = self._pair(name)
        array = self._source.read(source)
        return array.T if turned else array

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compare checksums where the source's format has them."""
        chosen = self.names() if names is None else names
        self._source.verify([self._pair(name)[0] for name in chosen])

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _pair(self, name: str) -> tuple[str, bool]:
        if name not in self._names:
            raise self._absent(name)
        return self._names[name]


def _without_body(name: str) -> tuple[str, bool]:
    for body in _BODIES:
        if name.startswith(body):
            return name[len(body) :], True
    return name, False


def _original(name: str) -> tuple[str, bool]:
    """Return the original name and whether the axes are turned; an unknown name stays."""
    if name in _HEADS:
        return _HEADS[name]
    # The head's own transform, under cls/ in both layouts.
    if name.startswith("cls.predictions.transform."):
        inner = name.split(".")
        kinds = _NORM if inner[-2] == "LayerNorm" else _DENSE
        if len(inner) == 5 and inner[-2] in ("LayerNorm", "dense") and inner[-1] in kinds:
            leaf, turned = kinds[inner[-1]]
            return "/".join([*inner[:-1], leaf]), turned
        return name, False
    body, _ = _without_body(name)
    parts = body.split(".")
    if parts[0] == "embeddings" and len(parts) == 3:
        if parts[1] == "LayerNorm" and parts[2] in _NORM:
            leaf, _ = _NORM[parts[2]]
            return f"bert/embeddings/LayerNorm/{leaf}", False
        if parts[1].endswith("_embeddings") and parts[2] == "weight":
            return f"bert/embeddings/{parts[1]}", False
    if body in ("pooler.dense.weight", "pooler.dense.bias"):
        leaf, turned = _DENSE[parts[-1]]
        return f"bert/pooler/dense/{leaf}", turned
    found = re.fullmatch(_LAYER, body)
    if found:
        inner = found["part"].split(".")
        kinds = _NORM if "LayerNorm" in inner else _DENSE
        if inner[-1] in kinds and len(inner) > 1:
            leaf, turned = kinds[inner[-1]]
            middle = "/".join(inner[:-1])
            return f"bert/encoder/layer_{found['layer']}/{middle}/{leaf}", turned
    # RoFormer with embeddings narrower than the hidden states.
    if body in ("embeddings_project.weight", "embeddings_project.bias"):
        leaf, turned = _DENSE[parts[-1]]
        return f"bert/encoder/embedding_hidden_mapping_in/{leaf}", turned
    return name, False
