"""Models that read long inputs: the options of attention through build_transformer_model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _generation import Case
from _tiny import CONFIG

from bert4kexue.models import build_transformer_model

N = 11
RANDOM = np.random.RandomState(0)
IDS = RANDOM.randint(1, CONFIG["vocab_size"], (2, N))
IDS[0, 8:] = 0
SEGMENTS = np.array([[0] * 4 + [1] * 7, [0] * 6 + [1] * 5])


def pair(model, application, **options):
    plain = build_transformer_model(CONFIG, model=model, application=application)
    for weight in plain.weights:
        weight.assign(RANDOM.normal(size=weight.shape, scale=0.3))
    other = build_transformer_model(CONFIG, model=model, application=application, **options)
    other.set_weights(plain.get_weights())
    return plain, other


@pytest.mark.parametrize("application", ["encoder", "lm", "unilm"])
@pytest.mark.parametrize("model", ["bert", "roformer"])
def test_a_model_in_chunks_computes_what_the_plain_one_does(model, application):
    plain, other = pair(model, application, query_chunk=4, fused_attention=True)
    np.testing.assert_allclose(
        other.predict([IDS, SEGMENTS], verbose=0),
        plain.predict([IDS, SEGMENTS], verbose=0),
        atol=5e-6,
    )


@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_a_model_in_chunks_writes_what_the_plain_one_does(application):
    plain = Case("roformer", application).randomize(1)
    chunked = Case("roformer", application, query_chunk=2).randomize(1)
    sources = plain.sources(1)
    options = {"num_beams": 2, "max_new_tokens": 4}
    found = (case.generator.generate(sources, **options) for case in (plain, chunked))
    for a, b in zip(*found, strict=True):
        assert [list(h.ids) for h in a] == [list(h.ids) for h in b]


def test_log_n_scaling_and_interpolation_change_long_inputs_alone():
    plain, scaled = pair("roformer", "encoder", log_n_scaling=6)
    short = [IDS[:, :6], SEGMENTS[:, :6]]
    np.testing.assert_allclose(
        scaled.predict(short, verbose=0), plain.predict(short, verbose=0), atol=5e-6
    )
    long = [IDS, SEGMENTS]
    assert np.abs(scaled.predict(long, verbose=0) - plain.predict(long, verbose=0)).max() > 1e-3


def test_interpolated_positions_are_custom_positions_of_the_half():
    """Every second position of a model without: the same vectors for the same angles."""
    plain, halved = pair("roformer", "encoder", position_interpolation=2.0)
    custom = build_transformer_model(CONFIG, model="roformer", custom_position_ids=True)
    custom.set_weights(plain.get_weights())
    doubled = build_transformer_model(
        CONFIG, model="roformer", custom_position_ids=True, position_interpolation=2.0
    )
    doubled.set_weights(plain.get_weights())
    positions = np.broadcast_to(np.arange(N), IDS.shape)
    expected = plain.predict([IDS, SEGMENTS], verbose=0)
    found = doubled.predict([IDS, SEGMENTS, 2 * positions], verbose=0)
    np.testing.assert_allclose(found, expected, atol=5e-6)
    assert np.abs(halved.predict([IDS, SEGMENTS], verbose=0) - expected).max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query_chunk": 0}, "query_chunk=0"),
        ({"query_chunk": 4, "residual_attention_scores": True}, "never holds all scores"),
        ({"log_n_scaling": 1}, "log_n_scaling=1"),
        ({"attention": "linear", "query_chunk": 4}, "query_chunk belong to softmax attention"),
        ({"position_interpolation": 0.0}, "position_interpolation=0.0 must be above 0"),
        ({"position_interpolation": 2.0, "model": "bert"}, "'bert' has none"),
    ],
)
def test_options_that_cannot_be_are_told_before_the_model_is_built(options, message):
    with pytest.raises(ValueError, match=message):
        build_transformer_model(CONFIG, **{"model": "roformer", **options})


def test_a_file_of_a_model_in_chunks_reads_any_length(tmp_path):
    plain, other = pair("roformer", "unilm", query_chunk=4)
    path = tmp_path / "long.keras"
    other.save(path)
    again = keras.saving.load_model(path)
    for n in (3, 9, N):
        given = [IDS[:, :n], SEGMENTS[:, :n]]
        np.testing.assert_allclose(
            again.predict(given, verbose=0), plain.predict(given, verbose=0), atol=5e-6
        )
