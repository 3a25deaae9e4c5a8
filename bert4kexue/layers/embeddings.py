"""Token and position embeddings."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from bert4kexue.ops.positions import hierarchical_positions, sinusoidal_embeddings
from bert4kexue.ops.products import few_rows_pay, few_rows_product

MergeMode = Literal["add", "mul", "zero", "concat"]


@keras.saving.register_keras_serializable(package="bert4kexue")
class Embedding(keras.layers.Embedding):
    """Token embedding whose table also serves as the output projection.

    ``call(ids)``: (b, n) ids of any numeric dtype -> (b, n, d). ``call(x, mode='dense')``: (b, n,
    d) -> the product with the transposed table, (b, n, v), without a bias.

    With ``mask_zero=True`` id 0 is padding, except at the first position, which is always visible:
    so no row is hidden whole, and id 0 may begin a sequence, as it does in T5.
    """

    def call(self, inputs: Any, mode: Literal["embedding", "dense"] = "embedding") -> Any:
        """Look ids up, or project onto the vocabulary."""
        if mode == "embedding":
            return super().call(inputs)
        if mode != "dense":
            raise ValueError(f"mode={mode!r}: an Embedding works in mode 'embedding' or 'dense'")
        table = ops.cast(ops.convert_to_tensor(self.embeddings), self.compute_dtype)
        return ops.matmul(ops.cast(inputs, self.compute_dtype), ops.transpose(table))

    def project_few(self, x: Any) -> Any:
        """``mode='dense'`` for a few rows, as decoding has them: (b, k, d) -> (b, k, v).

        :func:`bert4kexue.ops.products.few_rows_product` is then several times faster.
        """
        if not few_rows_pay(x.shape, self.embeddings.shape):
            return self(x, mode="dense")
        table = ops.cast(ops.convert_to_tensor(self.embeddings), self.compute_dtype)
        rows = ops.reshape(ops.cast(x, self.compute_dtype), (-1, x.shape[2]))
        product = few_rows_product(rows, table)
        return ops.reshape(product, (*x.shape[:2], self.input_dim))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Which ids are not padding; in mode 'dense' the mask given."""
        if len(inputs.shape) != 2:
            return mask
        if not self.mask_zero:
            return None
        real = ops.not_equal(inputs, 0)
        return ops.concatenate([ops.ones_like(real[:, :1]), real[:, 1:]], axis=1)

    def compute_output_spec(self, inputs: Any, mode: str = "embedding") -> keras.KerasTensor:
        """The output without tracing; Keras's own form takes no ``mode``."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(b, n) -> (b, n, d); (b, n, d) -> (b, n, v)."""
        if len(input_shape) == 2:
            return (*input_shape, self.output_dim)
        return (*input_shape[:-1], self.input_dim)


class _Positional(keras.layers.Layer):
    """Produces position vectors and merges them into its input."""

    def __init__(
        self,
        output_dim: int,
        merge_mode: MergeMode = "add",
        custom_position_ids: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if merge_mode not in ("add", "mul", "zero", "concat"):
            raise ValueError(f"merge_mode={merge_mode!r}: choose 'add', 'mul', 'zero' or 'concat'")
        self.output_dim = output_dim
        self.merge_mode = merge_mode
        self.custom_position_ids = custom_position_ids
        self.supports_masking = True
        self.autocast = False  # positions above 256 do not survive bfloat16

    def vectors(self, positions: Any) -> Any:
        """(..., n) integer positions -> (..., n, d)."""
        raise NotImplementedError

    def check_length(self, n: int | None) -> None:
        """Refuse a sequence longer than the positions known."""

    def call(self, inputs: Any) -> Any:
        """Merge position vectors into (b, n, c); with ``custom_position_ids`` give [x, ids]."""
        if self.custom_position_ids:
            return self.merge(*inputs)
        self.check_length(inputs.shape[1])
        return self.merge(inputs, ops.arange(ops.shape(inputs)[1], dtype="int32")[None])  # (1, n)

    def merge(self, x: Any, positions: Any) -> Any:
        """Merge the vectors of given positions (b or 1, n) into x (b, n, c)."""
        x = ops.cast(x, self.compute_dtype)
        e = ops.cast(self.vectors(ops.cast(positions, "int32")), self.compute_dtype)
        if self.merge_mode == "add":
            return x + e
        if self.merge_mode == "mul":
            return x * (e + 1.0)
        if self.merge_mode == "zero":
            return e
        shape = ops.shape(x)
        return ops.concatenate([x, ops.broadcast_to(e, (*shape[:2], self.output_dim))], axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask of x; None for bare position vectors."""
        if self.merge_mode == "zero":
            return None
        return mask[0] if self.custom_position_ids and isinstance(mask, list | tuple) else mask

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """x's shape; with 'zero' (b or 1, n, d); with 'concat' channels added."""
        x = tuple(input_shape[0] if self.custom_position_ids else input_shape)
        if self.merge_mode in ("add", "mul"):
            return x
        if self.merge_mode == "zero":
            return (x[0] if self.custom_position_ids else 1, x[1], self.output_dim)
        return (x[0], x[1], x[2] + self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "merge_mode": self.merge_mode,
            "custom_position_ids": self.custom_position_ids,
        }


@keras.saving.register_keras_serializable(package="bert4kexue")
class PositionEmbedding(_Positional):
    """Learned positions.

    Args:
        input_dim: rows of the table, the longest trained sequence.
        output_dim: d.
        merge_mode: ``'add'``; ``'mul'``, x * (e + 1); ``'zero'``, e alone; ``'concat'``.
        hierarchical: True (0.4) or a number: serve up to input_dim ** 2 positions by
            :func:`bert4kexue.ops.positions.hierarchical_positions`.
        embeddings_initializer: for the table.
        custom_position_ids: inputs are [x (b, n, c), ids (b, n)].
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        merge_mode: MergeMode = "add",
        hierarchical: bool | float | None = None,
        embeddings_initializer: Any = "zeros",
        custom_position_ids: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(output_dim, merge_mode, custom_position_ids, **kwargs)
        self.input_dim = input_dim
        self.hierarchical = hierarchical
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, input_shape: Any) -> None:
        """Make the table."""
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
        )

    def check_length(self, n: int | None) -> None:
        """Refuse more positions than the table, or its square, holds."""
        limit = self.input_dim**2 if self.hierarchical else self.input_dim
        if n is not None and n > limit:
            raise ValueError(
                f"a sequence of {n} tokens is longer than the {limit} positions of {self.name!r}: "
                "shorten it, or build the model with hierarchical_position=True"
            )

    def vectors(self, positions: Any) -> Any:
        """Rows of the table."""
        table = ops.convert_to_tensor(self.embeddings)
        if not self.hierarchical:
            return ops.take(table, positions, axis=0)
        alpha = 0.4 if self.hierarchical is True else self.hierarchical
        return hierarchical_positions(table, positions, alpha)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "hierarchical": self.hierarchical,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable(package="bert4kexue")
class SinusoidalPositionEmbedding(_Positional):
    """Fixed, interleaved sinusoids; with ``merge_mode='zero'`` the table that rotary attention
    takes.

    Args:
        output_dim: d, even.
        merge_mode: as in :class:`PositionEmbedding`.
        custom_position_ids: inputs are [x (b, n, c), ids (b, n)].
        interpolation: positions are divided by it, so that longer sequences than those of training
            lie among its positions (Chen et al., 2023).
    """

    def __init__(
        self,
        output_dim: int,
        merge_mode: MergeMode = "add",
        custom_position_ids: bool = False,
        interpolation: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(output_dim, merge_mode, custom_position_ids, **kwargs)
        if not 0 < interpolation < float("inf"):
            raise ValueError(f"interpolation={interpolation!r} must be above 0")
        self.interpolation = interpolation

    def vectors(self, positions: Any) -> Any:
        """Sinusoids of the positions."""
        if self.interpolation != 1.0:
            positions = ops.cast(positions, "float32") / self.interpolation
        return sinusoidal_embeddings(positions, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "interpolation": self.interpolation}
