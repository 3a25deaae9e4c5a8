"""``build_transformer_model``: an original checkpoint in, a Keras model out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bert4kexue.checkpoints import CheckpointError, as_original, open_checkpoint
from bert4kexue.checkpoints.archives import is_archive
from bert4kexue.checkpoints.families import family_of
from bert4kexue.checkpoints.places import checkpoint_folder
from bert4kexue.models.architectures import find_architecture
from bert4kexue.models.builder import Transformer, builder_class
from bert4kexue.models.config import make_config, read_config
from bert4kexue.models.loading import assign_weights, plan_weights
from bert4kexue.text.vocab import load_vocab

_CONFIG_NAMES = ("bert_config.json", "config.json")
_VOCABULARY = "vocab.txt"
_TWO_PATHS = (
    "put the vocabulary there that the checkpoint was trained with, or give the config and the "
    "checkpoint as two paths"
)
_BUILD_ARGUMENTS = (
    "attention_caches",
    "layer_norm_cond",
    "layer_norm_cond_hidden_size",
    "layer_norm_cond_hidden_act",
    "additional_input_layers",
)


def build_transformer_model(
    config_path: str | Path | Mapping[str, Any] | None = None,
    checkpoint_path: Any = None,
    model: str | type[Transformer] | None = None,
    application: str = "encoder",
    return_keras_model: bool = True,
    *,
    verify: bool = True,
    **kwargs: Any,
) -> Any:
    """Build a transformer from an original config, and load an original checkpoint into it.

    Args:
        config_path: ``bert_config.json`` or a mapping of its keys; or what stands for config and
            checkpoint both: a folder in the original layout (``bert_config.json``, ``vocab.txt``,
            ``bert_model.ckpt.*``), the ``.zip`` or ``.tar.gz`` of one as released, or a name such
            as ``'chinese_L-12_H-768_A-12'``, looked for in ``pretrained/`` and in
            ``.bert4kexue/pretrained`` of the user's home. An archive is unpacked anew each time.
        checkpoint_path: prefix of a TensorFlow checkpoint, or anything else that
            :func:`bert4kexue.checkpoints.open_checkpoint` reads; None leaves the weights random.
        model: ``'bert'`` (also RoBERTa-wwm, RBT3, SimBERT, UER), ``'roformer'`` (also
            RoFormer-Sim), or a subclass of a builder class. None takes the family that the
            variables of a folder, archive or name tell, and BERT for two separate paths.
        application: ``'encoder'``; ``'lm'``, left to right; ``'unilm'``, segment 0 is a prefix that
            sees itself, segment 1 is written left to right. The last two have token probabilities.
        return_keras_model: return the Keras model; False returns the builder, which has it as
            ``.model``.
        verify: compare the checkpoint's checksums; False saves a pass over the file.
        **kwargs: fields of :class:`bert4kexue.models.config.ModelConfig` (they win over the file's
            keys), ``prefix``, ``name``, ``layers``, and the arguments of :meth:`Transformer.build`.

    Returns:
        A model from Input-Token and Input-Segment, both (b, n) of ids, to hidden states (b, n, H);
        or to the head asked for: ``with_pool`` (b, H), ``with_nsp`` (b, 2), ``with_mlm`` (b, n, v);
        or to a list, [pooled or NSP, tokens]. Id 0 is padding: it never changes a real token.

    Raises:
        ValueError: an unknown key, model or application, or values that contradict each other.
        CheckpointError: the checkpoint is damaged, or is not what config and model describe; one
            error lists every missing, unexpected and misshapen variable. Nothing has been built
            then.

    Example::

        model = build_transformer_model("chinese_L-12_H-768_A-12", with_mlm=True)
    """
    with ExitStack() as stack:
        if isinstance(config_path, str | Path) and _stands_for_both(config_path):
            config_path = stack.enter_context(checkpoint_folder(config_path))
        return _build(
            config_path, checkpoint_path, model, application, return_keras_model, verify, kwargs
        )


def _build(
    config_path: Any,
    checkpoint_path: Any,
    model: str | type[Transformer] | None,
    application: str,
    return_keras_model: bool,
    verify: bool,
    kwargs: dict[str, Any],
) -> Any:
    is_folder = isinstance(config_path, str | Path) and Path(config_path).is_dir()
    config_path, checkpoint_path, vocabulary = _expand_folder(config_path, checkpoint_path)
    if model is None:
        model = _family_in(checkpoint_path) if is_folder else "bert"
    options = {key: kwargs.pop(key) for key in ("prefix", "name", "layers") if key in kwargs}
    build = {key: kwargs.pop(key) for key in _BUILD_ARGUMENTS if key in kwargs}
    builder = _builder(model)
    config = make_config(read_config(config_path), {**kwargs, "application": application.lower()})
    if vocabulary is not None:
        check_vocabulary(vocabulary, config.vocab_size, remedy=_TWO_PATHS)
    if checkpoint_path is None:
        transformer = builder(config, **options)
        transformer.build(**build)
    else:
        with plan_weights(builder.architecture, config, checkpoint_path, verify=verify) as plan:
            transformer = builder(config, **options)
            transformer.build(**build)
            for message in plan.warnings:
                warnings.warn(message, stacklevel=3)
            assign_weights(plan, transformer)
    return transformer.model if return_keras_model else transformer


def _builder(model: str | type[Transformer]) -> type[Transformer]:
    if isinstance(model, type) and issubclass(model, Transformer):
        return model
    if not isinstance(model, str):
        raise ValueError(f"model={model!r} must be a name or a subclass of BERT, RoFormer, ...")
    architecture = find_architecture(model)
    return builder_class(architecture, architecture.name)


def _stands_for_both(source: str | Path) -> bool:
    """Whether it is a folder, an archive or a name rather than a config file."""
    path = Path(source)
    return path.is_dir() or is_archive(path) or not (path.exists() or path.suffix == ".json")


def _family_in(checkpoint: Any) -> str:
    """The architecture that the checkpoint's variables tell."""
    with open_checkpoint(checkpoint) as opened:
        family = family_of(as_original(opened).names())
    known = {"BERT": "bert", "RoFormer or NEZHA": "roformer"}
    if family not in known:
        told = f"is of the family {family}" if family else "has names of no known family"
        raise CheckpointError(
            f"{checkpoint} {told}, and what can be built is {', '.join(known.values())}; "
            "`bert4kexue inspect` shows what it holds"
        )
    return known[family]


def _expand_folder(config_path: Any, checkpoint_path: Any) -> tuple[Any, Any, Path | None]:
    """Config, checkpoint, vocabulary of an original folder; other sources as they are."""
    if not isinstance(config_path, str | Path) or not Path(config_path).is_dir():
        return config_path, checkpoint_path, None
    folder = Path(config_path)
    present = [folder / name for name in _CONFIG_NAMES if (folder / name).is_file()]
    if not present:
        present = sorted(folder.glob("*config*.json"))
    if len(present) != 1:
        raise ValueError(
            f"the folder {folder} holds {[p.name for p in present] or 'no config file'}; a "
            "folder in the original layout holds one bert_config.json, vocab.txt and "
            "bert_model.ckpt.*"
        )
    vocabulary = folder / _VOCABULARY
    return (
        present[0],
        folder if checkpoint_path is None else checkpoint_path,
        vocabulary if vocabulary.is_file() else None,
    )


def check_vocabulary(
    path: str | Path,
    vocab_size: int | None,
    config: str = "the config beside it",
    remedy: str = "put the vocabulary there that the checkpoint was trained with",
) -> None:
    """Refuse a vocabulary that is not of the size that a config says.

    Args:
        path: vocab.txt.
        vocab_size: the config's.
        config: its name in the error.
        remedy: what the error advises.

    Raises:
        ValueError: the sizes differ.
    """
    size = len(load_vocab(path))
    if size != vocab_size:
        raise ValueError(f"{path} has {size} tokens and {config} vocab_size={vocab_size}: {remedy}")
