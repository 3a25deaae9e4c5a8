"""What a density refuses, with the rule, the value and the remedy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bert4kexue.methods.density import VAE
from bert4kexue.methods.density_likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiscretizedLogisticLikelihood,
    GaussianLikelihood,
)
from bert4kexue.methods.density_models import mlp_vae, text_vae

RANDOM = np.random.default_rng(0)


def make(likelihood=None, **options):
    vae = mlp_vae((4,), 2, likelihood or BernoulliLikelihood(), hidden=(4,), **options)
    vae.compile("sgd")
    return vae


def test_grey_values_are_no_bernoulli_data():
    grey = RANDOM.random((3, 4))
    for call in (lambda vae: vae.log_prob(grey), lambda vae: vae.fit(grey)):
        with pytest.raises(ValueError, match=r"no density\. Binarize"):
            call(make())


def test_whole_numbers_are_no_gaussian_data():
    whole = RANDOM.integers(0, 256, (9, 4))
    vae = make(GaussianLikelihood())
    for x in (whole, whole.astype("float32"), (whole / 255).astype("float32")):
        with pytest.raises(ValueError, match="Dequantize"):
            vae.fit(x)
    with pytest.raises(ValueError, match="continuous data, got dtype int64"):
        vae.log_prob(whole)
    vae.log_prob(np.zeros((1, 4), "float32"), 1)  # a blank may be scored


def test_dequantized_whole_numbers_are():
    from bert4kexue.methods.density_preprocessing import Preprocessing

    x = Preprocessing().forward(RANDOM.integers(0, 256, (9, 4)))
    make(GaussianLikelihood()).fit(x, verbose=0)


@pytest.mark.parametrize("floor", [0.0, -1.0, float("nan")])
def test_a_variance_without_a_floor_is_refused(floor):
    with pytest.raises(ValueError, match="floor must be positive"):
        GaussianLikelihood(floor)


def test_a_variance_below_the_floor_is_refused():
    with pytest.raises(ValueError, match="at least the floor"):
        GaussianLikelihood(1e-2, variance=1e-3)


def test_the_floor_bounds_the_density():
    vae = make(GaussianLikelihood(1e-2))
    for weight in vae.decoder.weights:
        weight.assign(np.zeros(weight.shape))
    bias = np.zeros(8)
    bias[1::2] = -1e4  # the decoder asks for no variance at all
    vae.decoder.weights[-1].assign(bias)
    found = vae.log_prob(np.zeros((1, 4), "float32"), 10, proposal="prior")
    assert found.log_prob[0] == pytest.approx(-2 * np.log(2 * np.pi * 1e-2), rel=1e-5)


@pytest.mark.parametrize("samples", [0, -3])
def test_draws_below_one_are_refused(samples):
    with pytest.raises(ValueError, match="samples must be 1 or more"):
        make().log_prob(np.zeros((1, 4)), samples)
    with pytest.raises(ValueError, match="samples must be 1 or more"):
        make(samples=samples)


def test_a_chunk_below_one_is_refused():
    with pytest.raises(ValueError, match="chunk must be 1 or more"):
        make().log_prob(np.zeros((1, 4)), chunk=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad):
    x = RANDOM.random((5, 4)).astype("float32")
    x[2, 1] = bad
    for likelihood in (GaussianLikelihood(), BernoulliLikelihood()):
        with pytest.raises(ValueError, match="1 NaN or infinite values of 20"):
            make(likelihood).log_prob(x)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (3, 2, 2), (0,), ()])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"x must be \(rows, 4\)"):
        make().log_prob(np.zeros(shape))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="holds no row"):
        make().log_prob(np.zeros((0, 4)))


def test_text_is_refused():
    with pytest.raises(ValueError, match="turn text into ids"):
        make().log_prob(np.array([["a", "b", "c", "d"]]))


@pytest.mark.parametrize("value", [-1, 16, 0.5])
def test_levels_out_of_range_are_refused(value):
    x = np.full((2, 4), float(value))
    with pytest.raises(ValueError, match="levels are whole numbers from 0 to 15"):
        make(DiscretizedLogisticLikelihood(16)).log_prob(x)


@pytest.mark.parametrize("value", [-1, 9])
def test_ids_out_of_the_vocabulary_are_refused(value):
    with pytest.raises(ValueError, match="token ids are whole numbers from 0 to 8"):
        text_vae(4, 9, 2, 4, 4).log_prob(np.full((1, 4), value))


def test_weights_that_are_nan_are_reported():
    vae = make()
    weight = vae.decoder.weights[-1]
    weight.assign(np.full(weight.shape, np.nan))
    with pytest.raises(ValueError, match="a log weight is NaN"):
        vae.log_prob(np.zeros((2, 4)), 3)


@pytest.mark.parametrize(
    "proposal", ["posterior", (np.zeros((2, 2)), np.zeros((2, 3))), (np.zeros((2, 2)),)]
)
def test_an_unknown_proposal_is_refused(proposal):
    with pytest.raises(ValueError, match="proposal is 'encoder', 'prior' or two"):
        make().log_prob(np.zeros((2, 4)), 3, proposal=proposal)


def test_an_unknown_objective_is_refused():
    with pytest.raises(ValueError, match="'elbo' or 'iwae', got 'vae'"):
        make(objective="vae")


def test_parts_that_do_not_fit_are_refused():
    good = make()
    with pytest.raises(ValueError, match="the last 2 being what GaussianLikelihood asks for"):
        VAE(good.encoder, good.decoder, GaussianLikelihood())
    x = keras.Input((4,))
    single = keras.Model(x, keras.layers.Dense(2)(x))
    with pytest.raises(ValueError, match="two outputs"):
        VAE(single, good.decoder, BernoulliLikelihood())


@pytest.mark.parametrize(
    ("make_one", "match"),
    [
        (lambda: CategoricalLikelihood(1), "vocabulary must be 2"),
        (lambda: DiscretizedLogisticLikelihood(1), "levels must be 2"),
        (lambda: mlp_vae((4,), 0, BernoulliLikelihood()), "latent and the sizes"),
        (lambda: make().sample(0), "count must be 1"),
        (lambda: make().decode(np.zeros((2, 3))), r"z must be \(rows, 2\)"),
    ],
)
def test_sizes_are_checked(make_one, match):
    with pytest.raises(ValueError, match=match):
        make_one()
