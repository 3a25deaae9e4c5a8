"""The post's integers, and the formulas against counting every product by brute force."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4kexue.analysis.flops import (
    Cost,
    Shape,
    activation_numbers,
    backward,
    cache_numbers,
    core_share,
    crossover_lengths,
    decoding_step,
    from_config,
    layer_cost,
    parameters,
    total,
    transformer_cost,
)

BASE = Shape(layers=12, hidden=768, heads=12, feed_forward=3072)
LARGE = Shape(layers=24, hidden=1024, heads=16, feed_forward=4096)


def test_the_posts_crossovers():
    """1536, 4608 and 64 are ties in base; 2048 and 6144 in large; one token more decides."""
    found = crossover_lengths(BASE)
    assert found["attention_over_feed_forward"] == 1536 + 1
    assert found["quadratic_over_rest"] == 4608 + 1
    assert found["linear_cheaper"] == 64 + 1
    found = crossover_lengths(LARGE)
    assert found["attention_over_feed_forward"] == 2048 + 1
    assert found["quadratic_over_rest"] == 6144 + 1


def test_the_posts_widened_heads():
    """Keys and queries four times as wide, 2 n (4d)^2 a head against 2 n^2 d: 16 d = 1024."""
    wide = Shape(layers=1, hidden=768, heads=12, value_size=256, features=256, head_size=256)
    narrow = layer_cost(BASE, 1)["core"].multiplications
    linear = layer_cost(Shape(**{**vars(wide), "attention": "linear"}), 1)["core"].multiplications
    assert linear // narrow == 1024
    four = Shape(layers=1, hidden=768, heads=12, features=256)
    assert crossover_lengths(four, widen="heads")["linear_cheaper"] == 1024 + 1
    # With the values left as they are, m = 256 features pay from 256 tokens on.
    assert crossover_lengths(four)["linear_cheaper"] == 256 + 1
    widened = crossover_lengths(four, widen="projections")["linear_cheaper"]
    extra = 2 * 768 * 12 * (256 - 64) + 2 * 12 * 256 * 64
    assert widened == extra // (12 * 128) + 1


@pytest.mark.parametrize(
    ("length", "share"), [(128, 2.7), (512, 10.0), (1024, 18.2), (1536, 25.0), (4096, 47.1)]
)
def test_the_posts_shares(length, share):
    assert 100 * core_share(BASE, length) == pytest.approx(share, abs=0.06)


def test_a_layer_is_12_n_h2_and_2_n2_h():
    for n in (1, 7, 512):
        parts = layer_cost(BASE, n)
        assert parts["projections"].multiplications == 4 * n * 768**2
        assert parts["core"].multiplications == 2 * n**2 * 768
        assert parts["feed_forward"].multiplications == 8 * n * 768**2
        assert total(parts).multiplications == 12 * n * 768**2 + 2 * n**2 * 768


sizes = st.integers(1, 5)


@given(sizes, sizes, sizes, sizes, sizes, sizes, st.booleans())
@settings(max_examples=60, deadline=None)
def test_formulas_count_what_loops_multiply(n, h, d, d_v, m, f, causal):
    hidden = 3
    count = dict.fromkeys(("projections", "core", "linear", "features", "feed_forward"), 0)
    for i in range(n):
        count["projections"] += hidden * h * d * 2 + hidden * h * d_v + h * d_v * hidden
        count["feed_forward"] += hidden * f * 2
        for _ in range(h):
            for j in range(n):
                if not causal or j <= i:
                    count["core"] += d + d_v
            count["linear"] += m * d_v + m * d_v
            count["features"] += 2 * d * m
    shape = Shape(
        layers=1, hidden=hidden, heads=h, head_size=d, value_size=d_v, features=m, feed_forward=f
    )
    parts = layer_cost(shape, n, causal=causal)
    for name in ("projections", "core", "feed_forward"):
        assert parts[name].multiplications == count[name]
        assert parts[name].operations == 2 * count[name]
    linear = layer_cost(Shape(**{**vars(shape), "attention": "performer"}), n)
    assert linear["core"].multiplications == count["linear"]
    assert linear["features"].multiplications == count["features"]


@given(sizes, sizes, sizes, st.integers(1, 40), st.sampled_from(["none", "heads", "projections"]))
@settings(max_examples=60, deadline=None)
def test_crossovers_are_the_first_lengths(h, d, ratio, m, widen):
    shape = Shape(layers=1, hidden=h * d, heads=h, feed_forward=ratio * h * d, features=m)
    found = crossover_lengths(shape, widen=widen)

    def parts(n, attention="softmax"):
        return layer_cost(Shape(**{**vars(shape), "attention": attention}), n)

    def compare(name, n):
        p = {k: v.multiplications for k, v in parts(n).items()}
        if name == "attention_over_feed_forward":
            return p["projections"] + p["core"] > p["feed_forward"]
        if name == "quadratic_over_rest":
            return p["core"] > p["projections"] + p["feed_forward"]
        more = 2 * n * h * d * h * (m - d) if widen == "projections" else 0
        more += 2 * n * h * m * (m - d) if widen == "heads" else 0
        return p["core"] > parts(n, "linear")["core"].multiplications + more

    for name, length in found.items():
        assert compare(name, length)
        assert length == 1 or not compare(name, length - 1)


@given(st.integers(1, 30))
@settings(deadline=None)
def test_steps_with_a_cache_add_up_to_causal_attention(n):
    shape = Shape(layers=2, hidden=12, heads=3, feed_forward=24)
    whole = transformer_cost(shape, n, causal=True)
    steps = [decoding_step(shape, past) for past in range(n)]
    for name in ("projections", "core", "feed_forward", "element_wise"):
        assert sum((s[name] for s in steps), Cost()) == whole[name]


def test_a_linear_step_costs_the_same_at_any_length():
    shape = Shape(layers=2, hidden=12, heads=3, feed_forward=24, attention="linear")
    assert decoding_step(shape, 0) == decoding_step(shape, 10_000)


def test_backward_is_two_products_for_each():
    parts = layer_cost(BASE, 8)
    assert total(backward(parts)).multiplications == 2 * total(parts).multiplications


def test_parameters_of_bert_base():
    """Google's chinese_L-12_H-768_A-12: 102,267,648 numbers with the pooler's 590,592."""
    shape = Shape(layers=12, hidden=768, heads=12, feed_forward=3072, vocabulary=21128)
    assert parameters(shape, positions=512) == 102_267_648 - 590_592


def test_memory_grows_as_attention_does():
    short, long = (activation_numbers(BASE, n) for n in (512, 1024))
    assert long > 2 * short
    linear = Shape(**{**vars(BASE), "attention": "linear"})
    short, long = (activation_numbers(linear, n) for n in (4096, 8192))
    assert long == pytest.approx(2 * short, rel=0.01)
    assert cache_numbers(BASE, 96, batch=64) * 4 == 12 * 12 * 96 * 128 * 64 * 4
    assert cache_numbers(linear, 96) == cache_numbers(linear, 9600)


def test_config_files_of_either_kind():
    bert = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert |= {"intermediate_size": 16, "vocab_size": 30}
    assert from_config(bert) == Shape(layers=2, hidden=8, heads=2, feed_forward=16, vocabulary=30)
    t5 = {"d_model": 8, "num_layers": 2, "num_heads": 2, "d_kv": 5, "d_ff": 16, "vocab_size": 30}
    t5 |= {"feed_forward_proj": "gated-gelu"}
    shape = from_config(t5, cross_attention=True)
    assert shape.gated_feed_forward
    parts = layer_cost(shape, 3, source=4)
    assert parts["feed_forward"].multiplications == 3 * 3 * 8 * 16
    assert parts["projections"].multiplications == (4 * 3 + 2 * 3 + 2 * 4) * 8 * 10
    assert parts["core"].multiplications == 2 * (9 + 12) * 10


def test_gated_attention_units():
    shape = Shape(layers=1, hidden=6, heads=1, head_size=4, feed_forward=10, gated_unit=True)
    parts = layer_cost(shape, 5)
    assert parts["projections"].multiplications == 5 * 6 * (2 * 10 + 4) + 5 * 10 * 6
    assert parts["core"].multiplications == 25 * (4 + 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Shape(layers=1, hidden=10, heads=3), "not divided by heads=3"),
        (lambda: Shape(layers=0, hidden=8, heads=2), "layers must be a whole number"),
        (lambda: Shape(layers=1, hidden=8, heads=-2), "heads must be a whole number"),
        (lambda: Shape(layers=1, hidden=8, heads=2, features=0), "features must be"),
        (lambda: Shape(layers=1, hidden=8, heads=2, feed_forward=-1), "feed_forward must be"),
        (lambda: Shape(layers=1, hidden=8, heads=2, vocabulary=-1), "vocabulary must be"),
        (lambda: Shape(layers=1, hidden=8.5, heads=2), "hidden must be a whole number"),
        (lambda: Shape(layers=1, hidden=8, heads=2, attention="sparse"), "attention must be"),
        (lambda: layer_cost(BASE, 0), "length must be"),
        (lambda: transformer_cost(BASE, 8, batch=0), "batch must be"),
        (lambda: decoding_step(BASE, -1), "past must be 0 or more"),
        (lambda: crossover_lengths(BASE, widen="twice"), "widen must be"),
        (lambda: from_config({"hidden_size": 8}), "has no num_attention_heads"),
        (
            lambda: from_config({"num_attention_heads": 8, "num_key_value_heads": 2}),
            "shared keys and values are not counted",
        ),
    ],
)
def test_bad_sizes_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
