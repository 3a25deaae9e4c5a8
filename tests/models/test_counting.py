"""The walk over a model against the formulas, against products counted one by one, and refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _tiny import CONFIG

from bert4kexue.analysis.flops import Shape, from_config, parameters, total, transformer_cost
from bert4kexue.layers import LinearAttention
from bert4kexue.models import build_transformer_model
from bert4kexue.models.counting import count


def products(model, shapes):
    """Multiplications of the matrix products that the backend is asked for, by its own counter."""
    inputs = [np.ones(shape, "float32") for shape in shapes]
    backend = keras.backend.backend()
    if backend == "torch":
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(inputs if len(inputs) > 1 else inputs[0])
        return counter.get_total_flops() // 2
    if backend == "jax":
        return _xla(model, inputs)
    import tensorflow as tf

    specs = [tf.TensorSpec(x.shape, "float32") for x in inputs]
    traced = tf.function(lambda *xs: model(list(xs) if len(xs) > 1 else xs[0]), autograph=False)
    graph = traced.get_concrete_function(*specs).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    kinds = {"MatMul", "BatchMatMulV2", "Conv2D", "Einsum"}

    def own(node):  # a node's `total_float_ops` hold those of its children as well
        children = sum(own(child) for child in node.children)
        return children + (node.float_ops if node.name in kinds else 0)

    return own(tf.compat.v1.profiler.profile(graph, cmd="op", options=options)) // 2


def _xla(model, inputs):
    """XLA's cost analysis of each product in the traced program."""
    import jax

    def forward(*xs):
        return model.stateless_call(
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
            list(xs) if len(xs) > 1 else xs[0],
        )[0]

    def of(jaxpr):
        flops = 0.0
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("dot_general", "conv_general_dilated"):
                avals = [v.aval for v in equation.invars]
                alone = jax.jit(lambda *a, e=equation: e.primitive.bind(*a, **e.params))
                flops += alone.lower(*avals).compile().cost_analysis()["flops"]
            for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
                flops += of(inner) if hasattr(inner, "eqns") else 0.0
        return flops

    return round(of(jax.make_jaxpr(forward)(*inputs).jaxpr)) // 2


@pytest.mark.parametrize("options", [{}, {"with_mlm": "linear"}, {"embedding_size": 12}], ids=str)
@pytest.mark.parametrize("family", ["bert", "roformer"])
def test_the_walk_is_the_formula_and_the_backends_own_count(family, options):
    model = build_transformer_model(CONFIG, model=family, **options)
    found = count(model, (3, 7))
    shape = from_config(CONFIG, **({"embedding": 12} if "embedding_size" in options else {}))
    parts = transformer_cost(shape, 7, batch=3)
    if "with_mlm" not in options:
        del parts["head"]
    assert found.total.multiplications == total(parts).multiplications
    assert found.total.multiplications == products(model, [(3, 7), (3, 7)])
    assert found.parameters == model.count_params()
    assert found.parameter_bytes == 4 * model.count_params()
    if not options:
        positions = CONFIG["max_position_embeddings"] if family == "bert" else 0
        assert found.parameters == parameters(shape, positions=positions)


@pytest.mark.parametrize("spec", ["elu1", {"kind": "performer", "features": 5}], ids=str)
def test_linear_attention_is_the_formula_and_the_backends_own_count(spec):
    """The denominators are a further column of the backend's products: n m + n m a head.

    So is, n m more, what performer subtracts of each key's logarithms.
    """
    model = build_transformer_model(CONFIG, model="bert", attention="linear", feature_map=spec)
    b, n = 3, 7
    found = count(model, (b, n))
    layer = next(x for x in model.layers if isinstance(x, LinearAttention))
    m = layer.features
    shape = from_config(CONFIG, features=m, attention="linear" if spec == "elu1" else "performer")
    parts = transformer_cost(shape, n, batch=b)
    del parts["head"]
    assert found.total.multiplications == total(parts).multiplications
    column = CONFIG["num_hidden_layers"] * b * CONFIG["num_attention_heads"] * n * m
    further = (2 if spec == "elu1" else 3) * column
    assert products(model, [(b, n)] * 2) == found.total.multiplications + further


def test_keras_layers_are_counted_as_the_backend_does():
    x = keras.Input((16, 6))
    y = keras.layers.Conv1D(8, 3, strides=2)(x)
    y = keras.layers.Dense(5, activation="relu")(y)
    y = keras.layers.LayerNormalization()(y)
    y = keras.layers.MultiHeadAttention(2, 3, value_dim=4)(y, y)
    model = keras.Model(x, y)
    found = count(model, (2, 16, 6))
    n = 7
    by_hand = {
        "Conv1D": 2 * n * 8 * 3 * 6,
        "Dense": 2 * n * 8 * 5,
        "MultiHeadAttention": 2 * (n * 5 * 6 * 2 + n * 5 * 8 + n * n * 2 * (3 + 4) + n * 8 * 5),
    }
    assert {
        r.kind: r.cost.multiplications for r in found.layers if r.cost.multiplications
    } == by_hand


@pytest.mark.parametrize(
    ("equation", "output", "expected"),
    [("abc,cd->abd", (7, 5), 2 * 7 * 6 * 5), ("abc,cde->abde", (7, 3, 4), 2 * 7 * 6 * 12)],
)
def test_einsum_dense(equation, output, expected):
    model = keras.Sequential([keras.Input((7, 6)), keras.layers.EinsumDense(equation, output)])
    assert count(model, (2, 7, 6)).total.multiplications == expected


def test_a_model_inside_a_model_is_walked_and_the_table_names_both_counts():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="inner")])
    x = keras.Input((4,))
    found = count(keras.Model(x, keras.layers.Dense(2)(inner(x))), (5, 4))
    assert found.total.multiplications == 5 * (12 + 6)
    assert found.total.operations == 2 * found.total.multiplications
    assert "inner" in found.table()
    assert "multiplications" in found.table()
    assert "FLOPs" in found.table()


def small():
    return keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(3)])


@pytest.mark.parametrize(
    ("make", "shapes", "message"),
    [
        (small, (2, None, 4), "must be of whole numbers above 0"),
        (small, (2, 0, 4), "must be of whole numbers above 0"),
        (small, (2, 3, 5), "does not fit"),
        (small, (2, 3), "does not fit"),
        (small, [(2, 3, 4), (2, 3, 4)], "2 shapes for 1 inputs"),
        (small, {"other": (2, 3, 4)}, "shapes has no"),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), (2, 4), "no graph of layers"),
        (
            lambda: keras.Sequential([keras.Input((3, 4)), keras.layers.LSTM(2)]),
            (2, 3, 4),
            "LSTM.*has weights and no rule",
        ),
    ],
)
def test_what_cannot_be_counted_is_told(make, shapes, message):
    with pytest.raises(ValueError, match=message):
        count(make(), shapes)


def test_shared_keys_and_values_are_refused():
    with pytest.raises(ValueError, match="not divided by heads"):
        Shape(layers=1, hidden=10, heads=3)
