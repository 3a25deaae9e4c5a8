"""One builder for every architecture, with one hook: ``apply``.

The builder makes an open functional graph of layers under bert4keras's names. A script that wants
another model subclasses ``BERT`` (or any other) and overrides ``apply``, through which every layer
passes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import keras

from bert4kexue.layers import LanguageModelMask, UnifiedLanguageModelMask
from bert4kexue.layers.rematerialization import Rematerializable
from bert4kexue.models.architecture import Architecture
from bert4kexue.models.config import ModelConfig
from bert4kexue.models.loading import assign_weights, plan_weights, storage_dtype, write_weights
from bert4kexue.ops.activations import Activation


class Transformer:
    """Builds a model of its class's architecture.

    Args:
        config: what to build.
        prefix: put before every layer's name, so that two transformers fit into one model.
        name: of the Keras model.
        layers: layers to share, by prefixed name.

    Attributes after ``build``: ``model``, ``inputs`` and ``outputs`` (lists), ``input`` and
    ``output`` (a tensor where there is one), ``layers`` (by prefixed name), ``config``.
    """

    architecture: ClassVar[Architecture]

    def __init__(
        self,
        config: ModelConfig,
        *,
        prefix: str | None = None,
        name: str | None = None,
        layers: Mapping[str, keras.layers.Layer] | None = None,
    ) -> None:
        if config.position_interpolation != 1.0 and self.architecture.position_bias is None:
            raise ValueError(
                f"position_interpolation={config.position_interpolation} stretches rotary "
                f"positions, and {self.architecture.name!r} has none: leave it out, or read beyond "
                "a table of positions with hierarchical_position=True"
            )
        self.config = config
        self.prefix = prefix or ""
        self.name = name
        self.layers: dict[str, keras.layers.Layer] = dict(layers or {})
        self.model: keras.Model | None = None
        self.attention_caches: Mapping[str, tuple[Any, Any]] = {}
        self.attention_scores: Any = None
        self.layer_norm_cond: Any = None
        self.layer_norm_cond_hidden_size: int | None = None
        self.layer_norm_cond_hidden_act: Activation = "linear"
        self._attention_bias: Any = None
        self._position_bias: Any = None

    def __getattr__(self, name: str) -> Any:
        # Scripts read hyperparameters off the builder: self.hidden_size, self.num_hidden_layers.
        config = self.__dict__.get("config")
        if config is None or not hasattr(config, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(config, name)

    @property
    def initializer(self) -> keras.initializers.Initializer:
        """A fresh truncated normal of standard deviation 0.02, as BERT was initialized."""
        return keras.initializers.TruncatedNormal(stddev=0.02)

    def build(
        self,
        attention_caches: Mapping[str, tuple[Any, Any]] | None = None,
        layer_norm_cond: Any = None,
        layer_norm_cond_hidden_size: int | None = None,
        layer_norm_cond_hidden_act: Activation = None,
        additional_input_layers: Any = None,
    ) -> None:
        """Make the model; does nothing the second time.

        Args:
            attention_caches: by prefixed name of an attention layer, two tensors (b, m, H) put
                before its keys and values, unprojected.
            layer_norm_cond: (b, c) tensor that every normalization is conditioned on.
            layer_norm_cond_hidden_size: width of a layer on the condition, or None.
            layer_norm_cond_hidden_act: its activation, linear when None.
            additional_input_layers: a tensor or a list, appended to the model's inputs.
        """
        if self.model is not None:
            return
        self.attention_caches = attention_caches or {}
        self.layer_norm_cond = layer_norm_cond
        self.layer_norm_cond_hidden_size = layer_norm_cond_hidden_size
        self.layer_norm_cond_hidden_act = layer_norm_cond_hidden_act or "linear"
        self.inputs = self.get_inputs()
        more = additional_input_layers
        if more is not None:
            self.inputs += list(more) if isinstance(more, list | tuple) else [more]
        outputs = self.call(self.inputs)
        self.outputs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        self.input, self.output = _unwrap(self.inputs), _unwrap(self.outputs)
        self.model = keras.Model(self.input, self.output, name=self.name)

    def get_inputs(self) -> list[Any]:
        """Input-Token, then Input-Segment and Input-Position where used; float32 (b, n)."""
        c = self.config
        names = ["Input-Token"]
        if c.segment_vocab_size:
            names.append("Input-Segment")
        if c.custom_position_ids:
            names.append("Input-Position")
        # float32 whatever the policy: that is what scripts multiply losses with, and it holds ids
        # exactly up to 2 ** 24.
        return [
            keras.Input((c.sequence_length,), dtype="float32", name=self.prefixed(name))
            for name in names
        ]

    def call(self, inputs: list[Any]) -> Any:
        """Embeddings, blocks, heads."""
        x = self.apply_embeddings(inputs)
        for index in range(self.config.num_hidden_layers):
            x = self.apply_main_layers(x, index)
        return self.apply_final_layers(x)

    def apply_embeddings(self, inputs: list[Any]) -> Any:
        """From the inputs to the first block; may be called again, and then shares weights."""
        return self.architecture.embed(self, inputs)

    def apply_main_layers(self, inputs: Any, index: int) -> Any:
        """Block ``index``; may be called again, and then shares weights."""
        return self.architecture.block(self, inputs, index)

    def apply_final_layers(self, inputs: Any) -> Any:
        """The heads; may be called again, on some positions only for instance."""
        return self.architecture.head(self, inputs)

    def compute_attention_bias(self, inputs: Any = None) -> Any:
        """The application's mask, made once: (n, n) for lm, (b, n, n) for unilm, or None.

        With ``query_chunk`` and for linear attention it is the same mask as numbers (b or 1, n),
        since what is computed in bounded memory must not take n^2 booleans.
        """
        if self._attention_bias is None:
            as_order = self.config.attention == "linear" or self.config.query_chunk is not None
            if self.config.application == "lm":
                self._attention_bias = self.apply(
                    self.inputs[0], LanguageModelMask, name="Attention-LM-Mask", as_order=as_order
                )
            elif self.config.application == "unilm":
                self._attention_bias = self.apply(
                    self.inputs[1],
                    UnifiedLanguageModelMask,
                    name="Attention-UniLM-Mask",
                    as_order=as_order,
                )
        return self._attention_bias

    def compute_position_bias(self, inputs: Any = None) -> Any:
        """What the architecture's attention layers take as positions, made once; or None."""
        if self._position_bias is None and self.architecture.position_bias is not None:
            self._position_bias = self.architecture.position_bias(self, self.inputs)
        return self._position_bias

    def position_ids(self, inputs: list[Any]) -> Any:
        """The Input-Position among the inputs."""
        return inputs[2] if self.config.segment_vocab_size else inputs[1]

    def prefixed(self, name: str) -> str:
        """A layer's name in this model."""
        return self.prefix + name

    def apply(
        self,
        inputs: Any = None,
        layer: Callable[..., keras.layers.Layer] | None = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Make a layer, or take the one of that name, and call it.

        Args:
            inputs: what to call it on; None returns the layer itself.
            layer: its class.
            arguments: of the call; of the constructor for a Lambda.
            **kwargs: of the constructor; ``name`` is prefixed.
        """
        if layer is keras.layers.Dropout and not self.config.dropout_rate:
            return inputs
        arguments = dict(arguments or {})
        if layer is keras.layers.Lambda:
            kwargs["arguments"], arguments = arguments, {}
        name = self.prefixed(kwargs["name"])
        if name not in self.layers:
            if layer is None:
                raise ValueError(f"apply() got no layer class, and there is no layer {name!r} yet")
            with self._scope_of(layer):
                self.layers[name] = layer(**{**kwargs, "name": name})
        made = self.layers[name]
        return made if inputs is None else made(inputs, **arguments)

    def _scope_of(self, layer: Callable[..., Any]) -> contextlib.AbstractContextManager[Any]:
        # Of ours alone: Keras's layers would not survive it on TensorFlow and JAX.
        ours = isinstance(layer, type) and issubclass(layer, Rematerializable)
        if self.config.rematerialize and ours:
            return keras.RematScope(mode="full")
        return contextlib.nullcontext()

    def load_weights_from_checkpoint(self, checkpoint: Any) -> None:
        """Load an original checkpoint, checked both ways before anything is assigned.

        Args:
            checkpoint: whatever :func:`bert4kexue.checkpoints.open_checkpoint` takes.

        Raises:
            CheckpointError: it cannot be read, is damaged, or is not of this architecture and
                config.
        """
        with plan_weights(self.architecture, self.config, checkpoint) as plan:
            for message in plan.warnings:
                warnings.warn(message, stacklevel=2)
            assign_weights(plan, self)

    def save_weights_as_checkpoint(
        self, filename: str | Path, dtype: Any = None, *, shards: int = 1
    ) -> None:
        """Write the weights under their original names in TensorFlow's checkpoint format.

        Args:
            filename: prefix of the files, ``.../bert_model.ckpt``.
            dtype: to store in, for instance ``'float16'``; the weights' own when None.
            shards: number of data files.

        Raises:
            ValueError: the vocabulary was cut (``keep_tokens``), so the result would be another
                checkpoint than the config describes; build the model with ``vocab_size`` set to the
                new size instead. Or `dtype` is no type of floating-point numbers.
        """
        write_weights(self, filename, None if dtype is None else storage_dtype(dtype), shards)


def _unwrap(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else items


def builder_class(architecture: Architecture, name: str) -> type[Transformer]:
    """The class that builds an architecture, for scripts that subclass it."""
    return type(name, (Transformer,), {"architecture": architecture, "__doc__": architecture.name})
