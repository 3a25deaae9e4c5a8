"""Open a checkpoint, whatever its format: `open_checkpoint(source)`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .arrays import DictCheckpoint
from .base import Checkpoint, CheckpointError
from .keras_h5 import KerasH5Checkpoint
from .npz import NpzCheckpoint
from .safetensors import SafetensorsCheckpoint
from .tf_bundle import TFCheckpoint
from .tf_state import latest_in_folder

_FORMATS = (
    "a TensorFlow prefix (bert_model.ckpt, without .index), an .index file, a folder with one "
    "checkpoint, .safetensors, .npz, .weights.h5, or a dict of arrays"
)


def open_checkpoint(
    source: str | os.PathLike[str] | Mapping[str, np.ndarray] | Checkpoint,
) -> Checkpoint:
    """Open a checkpoint of any known format, without TensorFlow.

    Args:
        source: A TensorFlow prefix ('.../bert_model.ckpt') or its .index file; a folder with
            exactly one checkpoint, or with a `checkpoint` file that names the latest; a
            .safetensors, .npz or Keras .weights.h5 file; a dict {name: array}; or an open
            checkpoint, which is returned as it is.

    Returns:
        An open checkpoint: names(), shape(name), dtype(name), read(name), verify(), close().
        Opening reads names, shapes and sizes only and checks that every file is there in full;
        checksums of the values are compared by `verify`.

    Raises:
        CheckpointError: Nothing there, an unknown format, or a damaged file, with the remedy.

    Example:
        >>> with open_checkpoint({"bert/pooler/dense/bias": np.zeros(4)}) as checkpoint:
        ...     checkpoint.shape("bert/pooler/dense/bias")
        (4,)
    """
    if isinstance(source, Mapping):
        return DictCheckpoint(source)
    if not isinstance(source, str | os.PathLike):
        if isinstance(source, Checkpoint):
            return source
        raise CheckpointError(f"a checkpoint is {_FORMATS}; got {type(source).__name__}")
    path = Path(source)
    try:
        return _open_path(path)
    except OSError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be opened: {error}") from error


def _open_path(path: Path) -> Checkpoint:
    if path.is_dir():
        return open_checkpoint(_only_checkpoint(path))
    index = path.with_name(path.name + ".index")
    if index.exists():
        return TFCheckpoint(path)
    if path.suffix == ".index" and path.exists():
        return TFCheckpoint(path.with_suffix(""))
    if ".data-" in path.name and path.exists():
        prefix = path.with_name(path.name.split(".data-")[0])
        return TFCheckpoint(prefix)
    if not path.exists():
        raise CheckpointError(_nothing_there(path))
    readers = {
        ".safetensors": SafetensorsCheckpoint,
        ".npz": NpzCheckpoint,
        ".h5": KerasH5Checkpoint,
    }
    reader = readers.get(path.suffix.lower())
    if reader is not None:
        return reader(path)
    TFCheckpoint.refuse_single_file(path)
    raise CheckpointError(f"{path} is of no known format; a checkpoint is {_FORMATS}")


def _only_checkpoint(folder: Path) -> Path:
    latest = latest_in_folder(folder)
    if latest is not None:
        return latest
    names = sorted(item.name for item in folder.iterdir())
    found = [name[: -len(".index")] for name in names if name.endswith(".index")]
    found += [name for name in names if name.endswith((".safetensors", ".npz", ".weights.h5"))]
    if len(found) == 1:
        return folder / found[0]
    if not found:
        raise CheckpointError(
            f"the folder {folder} holds no checkpoint; it has {', '.join(names[:10]) or 'nothing'}"
        )
    raise CheckpointError(
        f"a folder must hold exactly one checkpoint, {folder} has {len(found)}: "
        f"{', '.join(found[:10])}; give the path of one"
    )


def _nothing_there(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no checkpoint {path}: its folder {folder} does not exist"
    data = sorted(item.name for item in folder.glob(path.name.replace("[", "[[]") + ".data-*"))
    if data:
        return f"{path}.index is missing beside {data[0]}: a TensorFlow checkpoint is both files"
    names = sorted(item.name for item in folder.iterdir())
    found = [name for name in names if name.endswith((".index", ".safetensors", ".npz", ".h5"))]
    there = f"the folder has {', '.join(found[:5])}" if found else "the folder holds no checkpoint"
    return f"there is no checkpoint {path}; {there}"
