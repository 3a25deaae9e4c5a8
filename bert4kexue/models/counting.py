"""What a Keras model costs: every call of every layer counted, from the shapes alone.

The formulas of :mod:`bert4kexue.analysis.flops` say what an architecture costs; this counts what a
model at hand does, and the two agree number for number on matrix products. One multiplication of a
product is two operations (FLOPs), its addition being the other. Softmax, normalization and
activations are operations too, at the formulas' prices; additions of biases and residuals and
look-ups are not counted. Attention is counted as it is defined: all pairs whatever the mask hides,
and without what chunks add.

A kind of layer is a row of RULES. What owns weights and has no row is refused by name, rather than
counted as nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from bert4kexue import layers as own
from bert4kexue.analysis.flops import ACTIVATION, NORM, SOFTMAX, Cost, core_cost, matrix_product
from bert4kexue.analysis.flops import Shape as Sizes
from bert4kexue.models.calls import calls_of

Shape = tuple[int, ...]
Rule = Callable[[Any, list[Shape], Shape, Mapping[str, Any]], Cost]


@dataclasses.dataclass(frozen=True)
class LayerCost:
    """One call of one layer: its name, its class, its output's shape and what it costs."""

    name: str
    kind: str
    output: Shape
    cost: Cost


@dataclasses.dataclass(frozen=True)
class ModelCost:
    """What :func:`count` found.

    Args:
        layers: one row a call, in the order of the calls.
        parameters: numbers in the weights, each once however often its layer is called.
        parameter_bytes: their size in the dtypes that they are kept in.
        output_numbers: numbers in the layers' outputs together; what a layer keeps inside, such as
            attention's weights, is :func:`bert4kexue.analysis.flops.activation_numbers`' matter.
        assumed_free: classes without weights that no rule knows; their cost was taken for nothing.
    """

    layers: tuple[LayerCost, ...]
    parameters: int
    parameter_bytes: int
    output_numbers: int
    assumed_free: tuple[str, ...]

    @property
    def total(self) -> Cost:
        """Of all layers."""
        return sum((row.cost for row in self.layers), Cost())

    def table(self) -> str:
        """A line a call that costs something, and the totals."""
        rows = [row for row in self.layers if row.cost.operations]
        width = max((len(row.name) for row in rows), default=5) + 2
        lines = [f"{'layer':<{width}}{'multiplications':>20}{'FLOPs':>20}"]
        for row in [*rows, LayerCost("all", "", (), self.total)]:
            cost = row.cost
            lines.append(f"{row.name:<{width}}{cost.multiplications:>20,}{cost.operations:>20,}")
        lines.append(f"{self.parameters:,} numbers in weights, {self.parameter_bytes:,} bytes")
        if self.assumed_free:
            lines.append(f"taken for free: {', '.join(self.assumed_free)}")
        return "\n".join(lines)


def count(model: keras.Model, shapes: Any) -> ModelCost:
    """Count a functional or sequential model's forward pass.

    Args:
        model: of layers that RULES knows, and of layers without weights.
        shapes: of the inputs, batch included: one shape for all of them, a list of shapes, or a
            mapping by input name.

    Raises:
        ValueError: a shape that is missing, unknown or not positive; a model that has no graph of
            layers; a layer with weights that no rule knows.

    Example::

        print(count(build_transformer_model("bert_config.json"), (1, 128)).table())
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"{type(model).__name__} has no graph of layers to walk: build it as a functional or "
            "sequential model, and a sequential one with an Input"
        )
    given = _shapes(model, shapes)
    rows: list[LayerCost] = []
    free: set[str] = set()
    _walk(model, given, rows, free)
    sizes = [(math.prod(w.shape), keras.backend.standardize_dtype(w.dtype)) for w in model.weights]
    return ModelCost(
        layers=tuple(rows),
        parameters=sum(n for n, _ in sizes),
        parameter_bytes=sum(n * _itemsize(dtype) for n, dtype in sizes),
        output_numbers=sum(math.prod(row.output) for row in rows),
        assumed_free=tuple(sorted(free)),
    )


def _shapes(model: keras.Model, shapes: Any) -> list[Shape]:
    names = [tensor.name for tensor in model.inputs]
    if isinstance(shapes, Mapping):
        if missing := [name for name in names if name not in shapes]:
            raise ValueError(f"shapes has no {missing}: the model's inputs are {names}")
        found = [tuple(shapes[name]) for name in names]
    elif all(isinstance(axis, int) or axis is None for axis in shapes):
        found = [tuple(shapes)] * len(names)
    else:
        found = [tuple(shape) for shape in shapes]
        if len(found) != len(names):
            raise ValueError(f"{len(found)} shapes for {len(names)} inputs: {names}")
    for name, shape, tensor in zip(names, found, model.inputs, strict=True):
        if not all(isinstance(axis, int) and axis > 0 for axis in shape):
            raise ValueError(f"the shape {shape} of {name!r} must be of whole numbers above 0")
        known = zip(tensor.shape, shape, strict=False)
        if len(shape) != len(tensor.shape) or any(a not in (None, b) for a, b in known):
            raise ValueError(f"the shape {shape} does not fit {name!r} of {tuple(tensor.shape)}")
    return found


def _walk(model: Any, given: Sequence[Shape], rows: list[LayerCost], free: set[str]) -> list[Any]:
    values = {
        id(tensor): keras.KerasTensor(shape, dtype=tensor.dtype)
        for tensor, shape in zip(model.inputs, given, strict=True)
    }
    done: set[tuple[int, ...]] = set()
    for output in model.outputs:
        for call in calls_of(list(model.inputs), output):
            key = tuple(id(t) for t in call.outputs)
            if key in done:
                continue
            done.add(key)
            arguments, options = call.arguments.fill_in(values)
            inputs = [t.shape for t in keras.tree.flatten(arguments) if hasattr(t, "shape")]
            layer = call.operation
            if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
                results = _walk(layer, inputs, rows, free)
            else:
                results = layer.compute_output_spec(*arguments, **options)
                results = keras.tree.flatten(results)
                rows.append(_row(layer, inputs, results[0].shape, options, free))
            for tensor, result in zip(call.outputs, results, strict=True):
                values[id(tensor)] = result
    return [values[id(tensor)] for tensor in model.outputs]


def _row(
    layer: Any, inputs: list[Shape], output: Shape, options: Mapping[str, Any], free: set[str]
) -> LayerCost:
    kind = type(layer).__name__
    rule = next((RULES[base] for base in type(layer).__mro__ if base in RULES), None)
    if rule is None and getattr(layer, "weights", None):
        raise ValueError(
            f"{layer.name!r} ({kind}) has weights and no rule that counts it: add one to "
            "bert4kexue.models.counting.RULES"
        )
    if rule is None:
        free.add(kind)
    cost = Cost() if rule is None else rule(layer, inputs, output, options)
    return LayerCost(layer.name, kind, output, cost)


# --- rules ---------------------------------------------------------------------------------------


def _activated(activation: Any, numbers: int) -> Cost:
    if activation is None or activation is keras.activations.linear:
        return Cost()
    return Cost(0, (SOFTMAX if activation is keras.activations.softmax else ACTIVATION) * numbers)


def _dense(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    product = matrix_product(math.prod(output[:-1]), inputs[0][-1], output[-1])
    return product + _activated(layer.activation, math.prod(output))


def _einsum_dense(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    """Every output number is a sum over the kernel's axes that are not among the output's."""
    _, _, kernel = layer.equation.split("->")[0].partition(",")
    result = layer.equation.split("->")[1]
    summed = (
        n for letter, n in zip(kernel, layer.kernel.shape, strict=True) if letter not in result
    )
    product = matrix_product(math.prod(output), math.prod(summed), 1)
    return product + _activated(layer.activation, math.prod(output))


def _conv(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    """Positions over the edge are counted as the others are."""
    # The kernel is (*sizes, channels of a group, filters).
    product = matrix_product(math.prod(output), math.prod(layer.kernel.shape[:-1]), 1)
    return product + _activated(layer.activation, math.prod(output))


def _embedding(layer: Any, inputs: list[Shape], output: Shape, options: Mapping[str, Any]) -> Cost:
    if options.get("mode") != "dense":
        return Cost()
    return matrix_product(math.prod(inputs[0][:-1]), inputs[0][-1], output[-1])


def _norm(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    return Cost(0, NORM * math.prod(output))


def _own_norm(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    normalizes = isinstance(layer, own.LayerNormalization)
    cost = _norm(layer, inputs, output, options) if normalizes else Cost()
    for name in ("hidden_dense", "beta_dense", "gamma_dense"):
        if (dense := getattr(layer, name, None)) is not None:
            cost += matrix_product(math.prod(inputs[1][:-1]), *dense.kernel.shape)
    return cost


def _core(b: int, n: int, m: int, heads: int, d: int, e: int, **linear: Any) -> Cost:
    shape = Sizes(layers=1, hidden=heads * d, heads=heads, head_size=d, value_size=e, **linear)
    return sum(core_cost(shape, n, m, False), Cost()) * b


def _attention(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    (b, n, _), (_, m, _) = inputs[:2]
    linear: dict[str, Any] = {}
    if isinstance(layer, own.LinearAttention):
        kind = "performer" if layer.feature_map.random else "linear"
        linear = {"attention": kind, "features": layer.features}
    cost = _core(b, n, m, layer.heads, layer.key_size, layer.head_size, **linear)
    for dense, rows in ((layer.q_dense, n), (layer.k_dense, m), (layer.v_dense, m)):
        cost += matrix_product(b * rows, *dense.kernel.shape)
    return cost + matrix_product(b * n, *layer.o_dense.kernel.shape)


def _keras_attention(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    query, value = inputs[0], inputs[1]
    key = inputs[2] if len(inputs) > 2 else value
    if len(query) != 3:
        raise ValueError(f"{layer.name!r}: attention over one axis is counted, not over {query}")
    (b, n, _), m = query, value[1]
    heads, d, e = layer.num_heads, layer.key_dim, layer.value_dim
    return (
        _core(b, n, m, heads, d, e)
        + matrix_product(b * n, query[-1], heads * d)
        + matrix_product(b * m, key[-1], heads * d)
        + matrix_product(b * m, value[-1], heads * e)
        + matrix_product(b * n, heads * e, output[-1])
    )


def _feed_forward(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    rows, width = math.prod(output[:-1]), output[-1]
    cost = matrix_product(rows, width, layer.units, len(layer.activations) + 1)
    return cost + Cost(0, ACTIVATION * rows * layer.units)


def _activation(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    return _activated(layer.activation, math.prod(output))


def _nothing(layer: Any, inputs: list[Shape], output: Shape, options: Any) -> Cost:
    return Cost()


#: By class; a subclass without a row of its own takes its base's.
RULES: dict[type, Rule] = {
    keras.layers.Dense: _dense,
    keras.layers.EinsumDense: _einsum_dense,
    keras.layers.Conv1D: _conv,
    keras.layers.Conv2D: _conv,
    keras.layers.Conv3D: _conv,
    keras.layers.Embedding: _embedding,
    keras.layers.MultiHeadAttention: _keras_attention,
    keras.layers.LayerNormalization: _norm,
    keras.layers.Activation: _activation,
    keras.layers.InputLayer: _nothing,
    keras.layers.Dropout: _nothing,
    own.MultiHeadAttention: _attention,
    own.FeedForward: _feed_forward,
    own.Embedding: _embedding,
    own.PositionEmbedding: _nothing,
    own.SinusoidalPositionEmbedding: _nothing,
    own.ScaleOffset: _own_norm,
    own.Add: _nothing,
    own.Concatenate1D: _nothing,
    own.FirstToken: _nothing,
    own.LanguageModelMask: _nothing,
    own.UnifiedLanguageModelMask: _nothing,
}


def _itemsize(dtype: str) -> int:
    bits = {"bool": 8, "bfloat16": 16}.get(dtype) or int("".join(c for c in dtype if c.isdigit()))
    return bits // 8
